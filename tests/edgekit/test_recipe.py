"""Recipes as data: names that can be read back, files that are checked, a user's own beside the built-in ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.recipe import Step, find_recipe, find_recipes, recipes
from edgekit.recipe_name import decode, encode
from tests.conftest import Cli


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An EDGEKIT_HOME with an empty folder of recipes."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path))
    (tmp_path / "recipes").mkdir()
    return tmp_path / "recipes"


NAMES = {
    "int8": ("int8", [], {}),
    "dynamic-int8": ("dynamic-int8", [], {}),
    "slim50-int8": ("int8", [("slim", {"to": 0.5})], {}),
    "slim40parameters-float16": ("float16", [("slim", {"to": 0.4, "of": "parameters"})], {}),
    "slim50branches-int8": ("int8", [("slim", {"to": 0.5, "branches": True, "of": "macs+bytes"})], {}),
    "slim50latency-int8": ("int8", [("slim", {"to_latency": 0.5})], {}),
    "slim2.5ms-int8": ("int8", [("slim", {"latency_ms": 2.5})], {}),
    "prune75-int8": ("int8", [("prune", {"sparsity": 0.75})], {}),
    "prune2of4-int8": ("int8", [("prune", {"pattern": "2:4"})], {}),
    "prune50block1x4-int8": ("int8", [("prune", {"pattern": "block:1x4", "sparsity": 0.5})], {}),
    "cluster16-qat-int8": ("int8", [("cluster", {"clusters": 16}), ("qat", {})], {}),
    "distill-int8-mse": ("int8", [("distill", {})], {"calibration": "mse"}),
    "int8-equalized-corrected": ("int8", [], {"equalize": True, "correct_bias": True}),
    "int8-tflite": ("int8", [], {"quantizer": "tflite-converter"}),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_what_the_recipe_does_and_is_made_from_it_again(name: str) -> None:
    """Decoding gives precision, steps and quantization; encoding them gives the name."""
    precision, steps, quantize = NAMES[name]

    found = decode(name)

    assert found is not None
    assert (found.precision, [(s.technique, dict(s.options)) for s in found.steps], dict(found.quantize)) == (
        precision,
        steps,
        quantize,
    )
    assert encode(precision, found.steps, quantize) == name


@pytest.mark.parametrize("name", ["", "int9", "prune-int8", "prune75", "int8-wrong", "mine", "int8-int8-x", "qat_int8"])
def test_what_does_not_follow_the_grammar_says_nothing(name: str) -> None:
    """A free name decodes to nothing, and is no error by itself."""
    assert decode(name) is None


def test_every_built_in_recipe_is_called_what_it_does() -> None:
    """The names of the files are the decodable names of their contents."""
    assert {name: recipe.spec for name, recipe in recipes().items()} == {name: name for name in recipes()}
    assert {"float32", "int8", "slim50-int8", "prune75-qat-int8", "cluster16-qat-int8", "qat-int8"} <= set(recipes())


def test_a_recipe_can_be_spelt_without_a_file() -> None:
    """Techniques join to a name."""
    recipe = find_recipe("slim60-prune50-qat-int8-entropy")

    assert recipe.steps == (Step("slim", {"to": 0.6}), Step("prune", {"sparsity": 0.5}), Step("qat", {}))
    assert (recipe.precision, dict(recipe.quantize)) == ("int8", {"calibration": "entropy"})


def test_a_user_s_own_recipe_stands_beside_the_built_in_ones(home: Path) -> None:
    """A file in EDGEKIT_HOME/recipes is found by name, with its base's steps first and its own settings on top."""
    (home / "mine.toml").write_text(
        'base = "slim50-int8"\nsummary = "for the door"\n[[steps]]\ntechnique = "prune"\nsparsity = 0.6\n'
        '[finetune]\nepochs = 7\n[quantize]\ncalibration = "mse"\nkeep_float = ["conv1"]\n'
    )

    recipe = find_recipe("mine")

    assert [step.technique for step in recipe.steps] == ["slim", "prune"]
    assert recipe.finetune == {"teacher": "original", "epochs": 7}
    assert recipe.spec == "slim50-prune60-int8-mse-keep1"
    assert (recipe.origin, recipe.summary) == (str(home / "mine.toml"), "for the door")
    assert "mine" in recipes()


def test_a_recipe_is_found_by_the_path_of_its_file(tmp_path: Path) -> None:
    """Anything that ends in .toml is read as a file."""
    path = tmp_path / "door.toml"
    path.write_text('precision = "float16"\n')

    assert (find_recipe(str(path)).name, find_recipe(str(path)).precision) == ("door", "float16")


WRONG = {
    "unknown key": ('precision = "int8"\nstep = []\n', r"unknown key 'step'; did you mean 'steps'\?"),
    "unknown technique": ('precision = "int8"\n[[steps]]\ntechnique = "prun"\n', r"'prun'; did you mean 'prune'\?"),
    "unknown option": (
        'precision = "int8"\n[[steps]]\ntechnique = "prune"\nsparcity = 0.5\n',
        r"'sparcity' of prune; did you mean 'sparsity'\?",
    ),
    "sparsity of one": ('precision = "int8"\n[[steps]]\ntechnique = "prune"\nsparsity = 1.0\n', "sparsity"),
    "text for a number": ('precision = "int8"\n[[steps]]\ntechnique = "prune"\nsparsity = "much"\n', "a number"),
    "unknown calibration": ('precision = "int8"\n[quantize]\ncalibration = "mes"\n', "did you mean 'mse'"),
    "unknown training": ('precision = "int8"\n[finetune]\nepoch = 3\n', "did you mean 'epochs'"),
    "negative epochs": ('precision = "int8"\n[finetune]\nepochs = -1\n', "epochs"),
    "layers as text": ('precision = "int8"\n[quantize]\nkeep_float = "conv1"\n', "a list of Keras layer names"),
    "neither precision nor base": ('summary = "x"\n', "a base, got neither"),
    "unknown precision": ('precision = "int4"\n', "unknown precision 'int4'"),
    "unknown base": ('base = "slim5O-int8"\n', r"unknown base 'slim5O-int8'; did you mean 'slim50-int8'\?"),
    "two latencies": (
        'precision = "int8"\n[[steps]]\ntechnique = "slim"\nto = 0.5\nlatency_ms = 2\n',
        "one of to, to_latency and latency_ms",
    ),
    "no TOML": ("precision = int8\n", "is not valid TOML"),
    "a path for a name": ('name = "../x"\nprecision = "int8"\n', "expected a name of letters"),
    "a list for a table": ('precision = "int8"\nquantize = []\n', "as a table"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_answered_with_what_was_expected(case: str, tmp_path: Path) -> None:
    """The file, the key, what came and what was meant."""
    text, message = WRONG[case]
    path = tmp_path / "wrong.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=message) as caught:
        find_recipe(str(path))

    assert "wrong.toml" in str(caught.value)


def test_a_name_that_says_something_else_than_the_file_does_is_refused(tmp_path: Path) -> None:
    """A misnamed recipe must not become another model."""
    path = tmp_path / "prune75-int8+mine.toml"
    path.write_text('precision = "int8"\n[[steps]]\ntechnique = "prune"\nsparsity = 0.5\n')

    with pytest.raises(UsageError, match=r"does 'prune50-int8': call it prune50-int8"):
        find_recipe(str(path))


def test_a_user_s_recipe_may_not_take_a_built_in_name(home: Path) -> None:
    """The same command must mean the same model on every machine."""
    (home / "int8.toml").write_text('precision = "int8"\n')

    with pytest.raises(UsageError, match=r"the name 'int8' is taken: call it int8\+mine"):
        recipes()


def test_a_misspelt_recipe_is_an_error_with_a_suggestion() -> None:
    """Never a silent default."""
    with pytest.raises(UsageError, match=r"unknown recipe 'prune75-int'; did you mean 'prune75-int8'\?"):
        find_recipe("prune75-int")
    with pytest.raises(UsageError, match="only a recipe file can say"):
        find_recipe("int8-keep4")


def test_two_recipes_of_one_name_cannot_be_converted_together(tmp_path: Path) -> None:
    """Their variants would overwrite each other."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.toml").write_text('precision = "float16"\n')

    with pytest.raises(UsageError, match="two called 'x'"):
        find_recipes([str(tmp_path / "a" / "x.toml"), str(tmp_path / "b" / "x.toml")])


def test_the_verb_lists_and_shows_recipes(edgekit_cli: Cli, home: Path) -> None:
    """What is shown of one recipe is a file that makes it again."""
    (home / "mine.toml").write_text('base = "prune75-int8"\nsummary = "for the door"\nfinetune.epochs = 2\n')

    listed = edgekit_cli("recipes", "--json")
    shown = edgekit_cli("recipes", "mine")
    text = edgekit_cli("recipes")

    names = {item["name"]: item for item in json.loads(listed.stdout)["recipes"]}
    assert names["mine"]["steps"] == [{"technique": "prune", "sparsity": 0.75}]
    assert "for the door" in text.stdout
    path = home.parent / "mine.toml"
    path.write_text(shown.stdout)
    assert find_recipe(str(path)).to_dict() == find_recipe("mine").to_dict()


def test_the_verb_answers_a_typo(edgekit_cli: Cli) -> None:
    """Exit 2 and a suggestion, no traceback."""
    done = edgekit_cli("recipes", "slim5-prun75-int8")

    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "unknown recipe 'slim5-prun75-int8'" in done.stderr
