"""edgekit.toml: what is not understood is said, with the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.config import CAP_BYTES, RunConfig, load_config
from edgekit.errors import UsageError

LEAST = '[data]\nsource = "digits"\n[model]\narchitecture = "classic-cnn"\n'


def load(folder: Path, text: str) -> RunConfig:
    """The configuration that ``text`` is."""
    path = folder / "edgekit.toml"
    path.write_text(text)
    return load_config(path)


@pytest.mark.parametrize("name", ["coral", "digits", "fashion-mnist"])
def test_the_examples_are_understood(root: Path, name: str) -> None:
    """Every key in them."""
    config = load_config(root / "examples" / name / "edgekit.toml")

    assert config.name in (name, f"{name}-digits")
    assert config.conversion.preprocessing == config.preprocessing
    assert config.compare.limits.max_drop == 0.01


def test_the_least_there_can_be(tmp_path: Path) -> None:
    """Data and a model; everything else has a default, the name that of the folder."""
    config = load(tmp_path, LEAST)

    assert config.name == tmp_path.name
    assert [recipe.name for recipe in config.conversion.recipes] == [
        "float32",
        "float16",
        "dynamic-int8",
        "int8",
        "int16x8",
    ]
    assert (config.bench.request.runs, config.compare.limits.to_dict()) == (None, {})


def test_paths_are_looked_for_beside_the_file(tmp_path: Path) -> None:
    """Where there is such a file; else they are taken as they are."""
    (tmp_path / "data.npz").touch()
    config = load(tmp_path, LEAST)

    assert config.beside("data.npz") == str(tmp_path / "data.npz")
    assert config.beside("digits") == "digits"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae = 'x'\n" + LEAST, "unknown key 'nmae'; did you mean 'name'"),
        (LEAST + "[bensh]\n", "unknown key 'bensh'; did you mean 'bench'"),
        (LEAST + "[bench]\nthread = 2", r"unknown key 'thread' in \[bench\]; did you mean 'threads'"),
        (LEAST + "epoch = 3", r"unknown key 'epoch' in \[model\]; did you mean 'epochs'"),
        (LEAST + "[convert]\nrecipe = []", r"unknown key 'recipe' in \[convert\]; did you mean 'recipes'"),
        (LEAST + "[compare]\nmaxdrop = 1", r"unknown key 'maxdrop' in \[compare\]; did you mean 'max_drop'"),
        ("seed = -1\n" + LEAST, "expected a whole number of at least 0 for seed, got -1"),
        ("seed = 1.5\n" + LEAST, "expected a whole number of at least 0 for seed, got 1.5"),
        ("seed = true\n" + LEAST, "expected a whole number of at least 0 for seed, got True"),
        ("name = 3\n" + LEAST, "expected text for name, got 3"),
        ("name = '../up'\n" + LEAST, "expected a name of letters"),
        ("name = ''\n" + LEAST, "expected a name of letters"),
        ("data = 3\n", r"expected \[data\] as a table, got int"),
        (LEAST + "trust = 1", "expected true or false for model.trust, got 1"),
        (LEAST + "epochs = 0", "expected model.epochs of at least 1, got 0"),
        (LEAST + "learning_rate = 0", "expected a model.learning_rate above 0"),
        (LEAST + "learning_rate = nan", "expected a finite number for model.learning_rate, got nan"),
        (LEAST + "[compare]\nmax_drop = inf", "expected a finite number for compare.max_drop"),
        (LEAST + "[compare]\nmax_drop = 'x'", "expected a number for compare.max_drop, got 'x'"),
        (LEAST + "[compare]\nmax_drop = 1.5", "expected --max-drop as a fraction"),
        (LEAST + "[convert]\nrecipes = 'int8'", "expected a list of names for convert.recipes, got 'int8'"),
        (LEAST + "[convert]\nrecipes = ['itn8']", "unknown recipe 'itn8'; did you mean 'int8'"),
        (LEAST + "[convert]\nrecipes = []", "expected at least one recipe"),
        (LEAST + "[convert]\nsearch = true", "expected compare.max_drop for convert.search to keep"),
        (LEAST + "[convert]\nsearch = 1", "expected true or false for convert.search"),
        (LEAST + "[finetune]\nepoch = 3", r"unknown key 'epoch' in \[finetune\]; did you mean 'epochs'"),
        (LEAST + "[convert]\ninput_type = 'int4'", "expected an input or output type"),
        (LEAST + "[bench]\nthreads = 0", "expected threads as a whole number from 1"),
        (LEAST + "[bench]\nruntime = 'liter'", "unknown runtime 'liter'; did you mean 'litert'"),
        (LEAST + "[bench]\ndevice = 'rpi'", "unknown device 'rpi'"),
        (LEAST + "[bench]\ndeadline_s = 0", "expected a deadline"),
        (LEAST.replace('"digits"', '"digits"\nscale = 0'), "scale: expected a number other than 0"),
        (LEAST.replace('"digits"', '"digits"\nsize = "big"'), "expected HEIGHTxWIDTH"),
        (LEAST.replace("classic-cnn", "clasic-cnn"), "unknown architecture 'clasic-cnn'; did you mean 'classic-cnn'"),
        (LEAST + 'path = "m.keras"', "either a path or an architecture, got both"),
        ('[data]\nsource = "digits"', "either a path or an architecture, got neither"),
        ('[model]\npath = "m"', r"expected \[data\] source"),
        ("[data\n", "is not valid TOML"),
        ("\x00", "is not valid TOML"),
        ("# " + "x" * CAP_BYTES, "expected a configuration under"),
    ],
)
def test_what_is_not_understood_is_said(tmp_path: Path, text: str, message: str) -> None:
    """One UsageError that names the file; nothing is guessed."""
    with pytest.raises(UsageError, match=message) as caught:
        load(tmp_path, text)

    assert str(tmp_path / "edgekit.toml") in str(caught.value)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Missing, a folder, or no text."""
    with pytest.raises(UsageError, match=r"cannot read .*none.toml: No such file.* See examples/digits"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot read"):
        load_config(tmp_path)
    (tmp_path / "edgekit.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_config(tmp_path / "edgekit.toml")


def test_training_and_the_device_reach_the_conversion(tmp_path: Path) -> None:
    """What [finetune] says overrides the recipes; what it leaves out does not."""
    config = load(tmp_path, LEAST + "[finetune]\nepochs = 2\nloss = 'huber'\n[bench]\nthreads = 2")

    assert config.conversion.finetune == {"epochs": 2, "loss": "huber"}
    assert (config.conversion.device, config.conversion.threads) == ("local", 2)
