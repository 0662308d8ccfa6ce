"""Recipes that change the Keras model, through the command a user types: what is made, what is recorded, what is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_converters import read_model_card

from edgekit import Preprocessing, convert, latency_target
from edgekit.conversion import ConversionJob, ConversionRequest
from edgekit.data import load_data
from edgekit.float_models import FloatModel, FloatModels
from edgekit.progress import Silent
from edgekit.recipe import Recipe, find_recipe
from edgekit.source import Source
from tests.conftest import ROOT, Cli

pytestmark = pytest.mark.keras

RECIPES = ("float32", "int8", "slim50-int8", "prune75-int8", "cluster16-qat-int8", "slim50-prune50-float16")
PREPARE = """
import sys
import numpy as np
from edgekit_converters._tf import import_keras
keras = import_keras()
layers = keras.layers
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((8, 8, 1), name="image"),
    layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv"),
    layers.BatchNormalization(name="norm"),
    layers.ReLU(name="relu"),
    layers.Conv2D(32, 3, strides=2, activation="relu", name="wide"),
    layers.Flatten(name="flat"),
    layers.Dense(4, activation="softmax", name="scores"),
])
model.save(sys.argv[1] + "/model.keras")
class Walk(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)
    def call(self, inputs):
        return self.dense(layers.Flatten()(inputs))
student = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3)])
student.save(sys.argv[1] + "/student.keras")
"""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.keras, untrained, and data.npz, four classes told by where a bright bar is."""
    folder = tmp_path_factory.mktemp("compression")
    subprocess.run([sys.executable, "-c", PREPARE, str(folder)], check=True, capture_output=True)
    draw = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 600), ("test", 200)):
        labels = draw.integers(0, 4, count)
        images = draw.integers(0, 100, (count, 8, 8, 1)).astype(np.uint8)
        images[np.arange(count), 2 * labels] = 255
        arrays |= {f"x_{split}": images, f"y_{split}": labels}
    np.savez(folder / "data.npz", **arrays)
    return folder


def _convert(place: Path, out: Path, *recipes: str) -> list[object]:
    wanted = [part for name in recipes for part in ("--recipe", name)]
    return ["convert", place / "model.keras", "--data", place / "data.npz", "--scale", 1 / 255, *wanted, "--out", out]


@pytest.fixture(scope="session")
def compressed(edgekit_cli: Cli, place: Path) -> dict[str, Any]:
    """The answer of one conversion by several recipes, and its folder."""
    out = place / "run"
    done = edgekit_cli(*_convert(place, out, *RECIPES), "--epochs", "2", "--json", timeout=280)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return {"folder": out, **{item["name"]: item for item in answer["variants"]}}


def test_slimmed_variants_really_have_less_to_compute(compressed: dict[str, Any]) -> None:
    """The MACs are those of the file, half of the unslimmed ones within a channel of the widest layer."""
    plain, slim = (compressed[name]["achieved"]["macs"] for name in ("int8", "slim50-int8"))
    card = read_model_card(Path(compressed["slim50-int8"]["path"]).read_bytes())

    assert card.macs == slim
    assert 0.4 * plain < slim <= 0.5 * plain
    assert compressed["slim50-int8"]["size_bytes"] < compressed["int8"]["size_bytes"]


def test_pruned_variants_have_the_zeros_they_claim(compressed: dict[str, Any]) -> None:
    """Counted in the file: three quarters of the kernels' weights, and a smaller ZIP of the same size."""
    item = compressed["prune75-int8"]

    assert item["achieved"]["sparsity"] == pytest.approx(0.75, abs=0.02)
    assert item["size_bytes"] == pytest.approx(compressed["int8"]["size_bytes"], rel=0.1)  # but for tensors' names
    assert item["zipped_bytes"] < 0.75 * compressed["int8"]["zipped_bytes"]


def test_clusters_survive_quantization_aware_training_and_int8(compressed: dict[str, Any]) -> None:
    """At most sixteen values a kernel, or twice that where folded BatchNorm flips a channel's sign."""
    assert compressed["cluster16-qat-int8"]["achieved"]["clusters"] <= 32
    assert compressed["int8"]["achieved"]["clusters"] > 64
    steps = compressed["cluster16-qat-int8"]["achieved"]["steps"]
    assert [step["technique"] for step in steps] == ["cluster", "qat"]
    assert all(len(step["history"]["losses"]) == 2 for step in steps)


def test_techniques_join(compressed: dict[str, Any]) -> None:
    """Slimmed and pruned and float16: each leaves its mark."""
    item = compressed["slim50-prune50-float16"]

    assert item["achieved"]["macs"] <= 0.5 * compressed["int8"]["achieved"]["macs"]
    assert item["achieved"]["sparsity"] == pytest.approx(0.5, abs=0.03)
    assert item["precision"] == "float16"


def test_every_variant_leaves_the_recipe_that_makes_it_again(compressed: dict[str, Any]) -> None:
    """A file that reads back to what was asked for, whatever it was spelt by."""
    for name in RECIPES:
        left = find_recipe(str(compressed["folder"] / "recipes" / f"{name}.toml"))

        assert left.to_dict() == find_recipe(name).to_dict()


def test_a_slimmed_model_is_left_as_a_plain_keras_file(compressed: dict[str, Any]) -> None:
    """It lies in the run, beside its float export."""
    kept = sorted(path.name for path in (compressed["folder"] / "models").glob("slim50-*.keras"))

    assert len(kept) == 2
    assert not (compressed["folder"] / "checkpoints").exists()


def test_the_comparison_says_what_each_recipe_brings(compressed: dict[str, Any], edgekit_cli: Cli) -> None:
    """Without a measured latency that is the sizes."""
    done = edgekit_cli("compare", compressed["folder"], "--json")
    lines = {item["name"]: item for item in json.loads(done.stdout)["variants"]}

    assert lines["prune75-int8"]["against"] == "int8"
    assert lines["prune75-int8"]["gains"] == ["zip"]
    assert lines["slim50-int8"]["gains"] == ["size", "zip"]


def test_the_same_command_again_keeps_everything(compressed: dict[str, Any], edgekit_cli: Cli, place: Path) -> None:
    """Nothing is trained twice."""
    started = time.monotonic()
    again = edgekit_cli(*_convert(place, compressed["folder"], *RECIPES), "--epochs", "2", "--json")

    assert all(item["reused"] for item in json.loads(again.stdout)["variants"])
    assert time.monotonic() - started < 30


def test_an_interrupted_training_goes_on_to_the_same_weights(
    compressed: dict[str, Any], edgekit_cli: Cli, place: Path, tmp_path: Path
) -> None:
    """Ctrl-C after the first checkpoint: exit 130, nothing lost, and the file of a run that was never interrupted."""
    recipe, out = "prune75-int8", tmp_path / "run"
    arguments = [*map(str, _convert(place, out, recipe)), "--epochs", "15", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not list(out.glob("checkpoints/*/training.npz")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "run the same command again" in said

    resumed = json.loads(edgekit_cli(*arguments).stdout)["variants"][0]
    whole = json.loads(edgekit_cli(*[*arguments[:-5], "--out", str(tmp_path / "whole"), *arguments[-3:]]).stdout)

    assert resumed["achieved"]["steps"][0]["history"]["resumed_from"] >= 1
    assert whole["variants"][0]["achieved"]["steps"][0]["history"]["resumed_from"] == 0
    assert resumed["sha256"] == whole["variants"][0]["sha256"]


def test_slimming_to_a_latency_measures_at_every_try(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device whose latency is its MACs the ratio found is that of the latency, within what three tries leave."""

    def as_macs(job: ConversionJob, float_model: FloatModel, recipe: Recipe) -> float:
        return read_model_card(float_model.path.read_bytes()).macs / 1000

    monkeypatch.setattr(ConversionJob, "_median_ms", as_macs)
    monkeypatch.setattr(latency_target, "TRIES", 3)

    made = convert(
        place / "model.keras",
        data=place / "data.npz",
        recipes=["slim60latency-float32"],
        preprocessing=Preprocessing(scale=1 / 255),
        finetune={"epochs": 1},
    )[0].variant

    latency = made.achieved["latency"]
    assert len(latency["tried"]) == 1 + 3
    assert made.achieved["macs"] / 1000 == latency["reached_ms"] <= latency["target_ms"]
    assert latency["target_ms"] == pytest.approx(0.6 * latency["unslimmed_ms"])


def test_another_teacher_makes_another_model(place: Path, tmp_path: Path) -> None:
    """What a teacher's file holds decides the weights, not what it is called."""
    teacher = tmp_path / "teacher.keras"
    request = ConversionRequest((find_recipe("finetune-int8"),), finetune={"teacher": str(teacher)})
    dataset = load_data(place / "data.npz")
    floats = FloatModels(
        Source(place / "model.keras"),
        request,
        dataset,
        Silent(),
        store=None,
        scratch=tmp_path,
        median_ms=lambda *_: 1.0,
    )
    keys = set()
    for content in (b"one", b"two", b"one"):
        teacher.write_bytes(content)
        keys.add(floats.key(request.recipes[0]))

    assert len(keys) == 2


BAD: dict[str, tuple[list[str], str]] = {
    "loss typo": (["--recipe", "prune75-int8", "--loss", "hubr"], "huber"),
    "a rate that explodes": (["--recipe", "finetune-int8", "--learning-rate", "1e30"], "lower the learning_rate"),
    "sparsity of one": (["--recipe", "prune100-int8"], "sparsity"),
    "wrong order": (["--recipe", "prune75-slim50-int8"], "slim"),
    "student of another shape": (["--recipe", "STUDENT"], "shape"),
    "no such teacher": (["--recipe", "finetune-int8", "--teacher", "nowhere.keras"], "nowhere.keras"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_trained_is_said(case: str, edgekit_cli: Cli, place: Path, tmp_path: Path) -> None:
    """Exit 2, a message, no traceback."""
    arguments, message = BAD[case]
    if "STUDENT" in arguments:
        recipe = tmp_path / "mine.toml"
        student = place / "student.keras"
        recipe.write_text(f'precision = "int8"\n[[steps]]\ntechnique = "distill"\nstudent = "{student}"\n')
        arguments = ["--recipe", str(recipe)]
    base = _convert(place, tmp_path / "run")

    done = edgekit_cli(*base, *arguments, "--epochs", "1")

    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert message in done.stderr


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "wrong shape": (
        {"x_train": np.zeros((50, 9, 9, 1), np.uint8), "x_test": np.zeros((20, 9, 9, 1), np.uint8)},
        "9, 9, 1",
    ),
    "labels beyond the classes": ({"y_train": np.full(50, 7)}, "labels from 0 to 3"),
    "no labels": ({"y_train": None, "y_test": None}, "label"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_training_data_that_does_not_fit_is_refused(case: str, edgekit_cli: Cli, place: Path, tmp_path: Path) -> None:
    """Before the first epoch, with what was expected."""
    changes, message = MISFITS[case]
    draw = np.random.default_rng(0)
    arrays = {
        "x_train": draw.integers(0, 255, (50, 8, 8, 1)).astype(np.uint8),
        "y_train": draw.integers(0, 4, 50),
        "x_test": draw.integers(0, 255, (20, 8, 8, 1)).astype(np.uint8),
        "y_test": draw.integers(0, 4, 20),
    }
    data = tmp_path / "data.npz"
    np.savez(data, **{name: value for name, value in {**arrays, **changes}.items() if value is not None})

    done = edgekit_cli(
        *("convert", place / "model.keras", "--data", data, "--recipe", "prune75-float32", "--out", tmp_path / "run")
    )

    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert message in done.stderr
