"""``diagnose`` from the outside: faults planted in a model and in its data, found through the worker, shown and refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_converters.diagnosis.diagnose import rank_layers
from rich.console import Console

import edgekit
from edgekit import DiagnosisReport, Preprocessing
from edgekit.cli.main import main
from edgekit.data import Dataset, Split, draw_calibration
from edgekit.errors import DataError, ModelInputError, UsageError
from edgekit.render.diagnosis import render_diagnosis_markdown, render_diagnosis_text
from tests.converters.layered import images, network

SKEWED = network().with_skewed_channel(1, 1000.0)
TRAIN, OUTLIER = 150, 33
LAYER_KEYS = {
    "layer",
    "op_indices",
    "sqnr_db",
    "cosine",
    "range",
    "int8_range",
    "win",
    "win_int16",
    "accuracy_win",
    "blame",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float .tflite whose second layer has a skewed channel."""
    path = tmp_path_factory.mktemp("skewed") / "skewed.tflite"
    path.write_bytes(SKEWED.tflite())
    return path


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Pixels in 0..255, while the model wants 0..1, and one sample far brighter than all others."""
    x_train, x_test = images(TRAIN), images(40, seed=4)
    arrays = {"x_train": x_train * 255, "y_train": SKEWED.labels(x_train)}
    arrays["x_train"][OUTLIER] *= 40
    return {**arrays, "x_test": x_test * 255, "y_test": SKEWED.labels(x_test)}


@pytest.fixture(scope="module")
def data(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples as an .npz."""
    path = tmp_path_factory.mktemp("skewed-data") / "samples.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def wrong(model: Path, data: Path) -> DiagnosisReport:
    """Diagnosed with all training samples for calibration and the wrong scale."""
    return edgekit.diagnose(model, data=data, calibration_count=TRAIN, max_s=0)


@pytest.fixture(scope="module")
def right(model: Path, data: Path, arrays: dict[str, np.ndarray]) -> DiagnosisReport:
    """Diagnosed as the model wants its samples, without the outlier, on samples that do not calibrate."""
    clean = {
        **arrays,
        "x_train": np.delete(arrays["x_train"], OUTLIER, 0),
        "y_train": np.delete(arrays["y_train"], OUTLIER),
    }
    return edgekit.diagnose(model, data=clean, preprocessing=Preprocessing(1 / 255), calibration_count=50, samples=60)


def findings(report: DiagnosisReport, topic: str) -> list[dict[str, Any]]:
    """What was found on one topic."""
    return [item for item in report.calibration["findings"] if item["topic"] == topic]


def test_a_wrong_scale_is_found_with_what_to_type(wrong: DiagnosisReport) -> None:
    """The labels say so, through the float model."""
    (found,) = findings(wrong, "preprocessing")
    assert found["severity"] == "problem"
    assert "divided by 255" in found["text"]
    assert "--scale 0.00392157" in found["text"]


def test_the_outlier_is_named_by_its_row_in_the_training_data(wrong: DiagnosisReport) -> None:
    """Not by its place in the draw."""
    first = findings(wrong, "outliers")[0]
    assert first["severity"] == "problem"
    assert f"({OUTLIER} in " in first["text"]
    assert list(wrong.calibration["inputs"][0]["outliers"]["high_samples"]) == [OUTLIER]


def test_the_skewed_layer_is_the_guiltiest(right: DiagnosisReport) -> None:
    """With the right scale and without the outlier nothing but the model's own fault is left."""
    worst = right.worst_first()[0]
    assert (worst["layer"], worst["keep_layers"]) == ("second", ["second", "third"])
    assert worst["win_joint"] > 10
    assert rank_layers(right.to_dict())[0] == (2, 3)
    assert [layer["layer"] for layer in right.layers] == ["flat", "first", "second", "third", "scores"]
    assert set(right.layers[0]) >= LAYER_KEYS
    assert not [item for item in right.calibration["findings"] if item["severity"] == "problem"]
    assert right.summary["float_accuracy"] == 1.0
    assert right.summary["samples"] == 60
    assert right.calibration["samples"] == 50


def test_samples_to_measure_on_neither_calibrate_nor_test() -> None:
    """The rest of the training split, without what the test split holds too."""
    x = np.arange(40, dtype=np.float32).reshape(-1, 1)
    dataset = Dataset("mine", Split({"x": x}), Split({"x": x[5:10]}))
    drawn = draw_calibration(dataset, count=12, seed=3)
    others = drawn.draw_others(dataset, 100)
    assert others is not None
    taken = {int(value) for value in drawn.split.inputs["x"][:, 0]}
    assert taken == {int(row) for row in drawn.rows}
    assert sorted(int(value) for value in others.inputs["x"][:, 0]) == sorted(
        set(range(40)) - taken - set(range(5, 10))
    )
    few = drawn.draw_others(dataset, 7)
    assert few is not None
    assert few.count == 7
    everything = draw_calibration(dataset, count=35)
    assert everything.draw_others(dataset, 7) is None


def test_a_run_folder_is_diagnosed_as_it_was_converted(
    model: Path, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """Its float model, its preprocessing and its layers are used."""
    pixels = {name: values for name, values in arrays.items() if name.endswith("train")}
    run = tmp_path / "run"
    edgekit.convert(model, data=pixels, recipes=["float32"], out=run, preprocessing=Preprocessing(1 / 255))
    found = edgekit.diagnose(run, data=pixels, max_s=0, calibration_count=20, samples=20)
    assert [layer["layer"] for layer in found.layers] == ["flat", "first", "second", "third", "scores"]
    assert found.calibration["preprocessing"][0]["scale"] == pytest.approx(1 / 255)
    assert found.calibration["preprocessing"][0]["accuracy"] == 1.0
    (run / "float.tflite").unlink()
    with pytest.raises(UsageError, match=r"expected a run with float\.tflite"):
        edgekit.diagnose(run, data=pixels)


def test_json_on_the_command_line(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object: layers in graph order, calibration, model and recipe; every number is finite or null."""
    assert main(["diagnose", str(model), "--data", str(data), "--max-s", "0", "--samples", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["model"] == str(model)
    assert found["recipe"] == "int8"
    assert [layer["layer"] for layer in found["layers"]] == ["flat", "first", "second", "third", "scores"]
    assert {"inputs", "layers", "preprocessing", "amounts", "findings"} <= set(found["calibration"])


@pytest.mark.parametrize("width", [80, 140])
def test_people_get_the_worst_layer_first(right: DiagnosisReport, width: int) -> None:
    """In a terminal of any width, and in one without Unicode."""
    for encoding in ("utf-8", "ascii"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        render_diagnosis_text(right, Console(file=stream, width=width))
        stream.seek(0)
        lines = stream.read().splitlines()
        rows = [
            line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in ("flat", "second", "first")
        ]
        assert rows[0] == "second"
        assert max(map(len, lines)) <= width
        assert 'keep_float = ["second", "third"]' in " ".join(" ".join(lines).split())


def test_markdown_has_a_row_for_every_layer(wrong: DiagnosisReport) -> None:
    """And the findings, with what was not measured as a dash."""
    text = render_diagnosis_markdown(wrong)
    assert sum(line.startswith("| ") for line in text.splitlines()) == 2 + len(wrong.layers)
    assert "- **problem** (preprocessing)" in text
    assert "0 of 5 layers" in text.replace("wins for ", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "float16"], "expected a recipe with int8 or int16 activations to diagnose, got 'float16'"),
        (["--recipe", "itn8"], "unknown recipe 'itn8'; did you mean 'int8'?"),
        (["--json", "--markdown"], "expected one of --json and --markdown, got both"),
        (["--max-s", "-1"], "--max-s"),
        (["--samples", "0"], "--samples"),
    ],
)
def test_what_cannot_be_asked_is_2(
    model: Path, data: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a message that says why, and nothing on standard output."""
    assert main(["diagnose", str(model), "--data", str(data), *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert not said.out


def test_data_and_models_that_do_not_fit_are_refused(
    model: Path, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """No data, no training split, another shape, another file."""
    with pytest.raises(UsageError, match="diagnosing needs data with a training split"):
        edgekit.diagnose(model, data=None)
    with pytest.raises(DataError, match="calibration is drawn from x_train"):
        edgekit.diagnose(model, data={"x_test": arrays["x_test"]})
    with pytest.raises(DataError, match=r"expected calibration samples of shape"):
        edgekit.diagnose(model, data={"x_train": arrays["x_train"][:, :3]})
    with pytest.raises(ModelInputError):
        edgekit.diagnose(tmp_path / "nothing.keras", data=arrays)
    with pytest.raises(UsageError, match="expected at least 1 sample"):
        edgekit.diagnose(model, data=arrays, samples=0)
    with pytest.raises(UsageError, match="expected 0 seconds or more"):
        edgekit.diagnose(model, data=arrays, max_s=-1.0)
