"""Whatever comes in: one clear message, the right exit code, no traceback, and nothing half-written."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli.main import main
from edgekit.devices.local import PYTHON_VARIABLE
from tests.conftest import Cli
from tests.tflite_builder import Graph, Op, Tensor, build, dense_model

Arrays = dict[str, np.ndarray]
Said = Callable[..., tuple[int, str]]


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Said:
    """said(verb, …): the exit code and the one error line of a command; checks that there is only one, and no output."""

    def run(*arguments: object) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        shown = capfd.readouterr()
        errors = [line for line in shown.err.splitlines() if line.startswith("edgekit: error: ")]
        assert "Traceback" not in shown.err + shown.out
        assert len(errors) == 1, shown.err
        return code, errors[0]

    return run


def written(folder: Path) -> list[str]:
    """What lies in a run folder, leftovers and all."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def save(path: Path, **arrays: object) -> Path:
    """An .npz of these arrays."""
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_an_unknown_recipe_makes_nothing(said: Said, float_model: Path, tmp_path: Path) -> None:
    """It is suggested, and no folder is made."""
    code, message = said("convert", float_model, "--recipe", "itn8", "--out", tmp_path / "run")

    assert (code, written(tmp_path)) == (2, [])
    assert "unknown recipe 'itn8'; did you mean 'int8'" in message


MODELS = {
    "empty": b"",
    "text": b"hello, this is no model",
    "random": random.Random(0).randbytes(5000),
    "named": b"\x1c\0\0\0TFL3" + random.Random(1).randbytes(5000),
    "cut": dense_model()[:2000],
    "short": dense_model()[:12],
    "custom": build(
        Graph([Tensor(n, "float32", (1, 64)) for n in "ab"], [Op("MyOp", (0,), (1,), custom=True)], (0,), (1,))
    ),
}


@pytest.mark.parametrize("kind", [*MODELS, "missing", "folder"])
@pytest.mark.parametrize("verb", ["convert", "evaluate", "bench", "inspect"])
def test_a_file_that_is_no_model_is_2(said: Said, data: Path, tmp_path: Path, verb: str, kind: str) -> None:
    """Whatever is done with it; a custom operator alone is nothing that inspect minds."""
    model = tmp_path / f"{kind}.tflite"
    if kind == "folder":
        model.mkdir()
    elif kind != "missing":
        model.write_bytes(MODELS[kind])
    more = {"convert": ["--out", tmp_path / "run"], "evaluate": ["--data", data], "bench": ["--runs", 5], "inspect": []}
    if (verb, kind) == ("inspect", "custom"):
        assert main(["inspect", str(model)]) == 0
        return
    code, message = said(verb, model, *more[verb])

    assert code == 2, message
    assert kind in message or "MyOp" in message or "model" in message
    assert not [
        name for name in written(tmp_path / "run") if name.startswith(("int8", "float32")) or name.endswith("part")
    ]


def test_mutated_models_never_bring_a_verb_down(capfd: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    """Forty damaged files through inspect and evaluate, in this very process: an exit code each, and no traceback."""
    draw = random.Random(2)
    original = dense_model()
    path = tmp_path / "m.tflite"
    for _ in range(40):
        content = bytearray(original)
        for _ in range(draw.randint(1, 20)):
            content[draw.randrange(8, 400)] = draw.randrange(256)
        path.write_bytes(content)
        assert main(["inspect", str(path)]) in (0, 2)
        assert main(["evaluate", str(path), "--data", str(data)]) in (0, 2, 3)
    assert "Traceback" not in capfd.readouterr().err


def test_a_model_quantized_already_is_2(said: Said, run_folder: Path, data: Path, tmp_path: Path) -> None:
    """Start from the float model."""
    model = run_folder / "variants" / "int8.tflite"
    code, message = said("convert", model, "--data", data, "--recipe", "int8", "--out", tmp_path / "other")

    assert code == 2
    assert "start from the float model" in message


def spoil(arrays: Arrays, kind: str) -> dict[str, object]:
    """The data with one thing wrong."""
    x, y = arrays["x_train"], arrays["y_train"]
    nan = x.copy()
    nan[3, 5] = np.nan
    changes: dict[str, dict[str, object]] = {
        "nan": {"x_train": nan},
        "inf": {"x_train": np.where(np.isnan(nan), np.inf, nan)},
        "shape": {"x_train": x[:, :10], "x_test": arrays["x_test"][:, :10]},
        "strings": {"x_train": x.astype(str)},
        "objects": {"x_train": np.array([{}] * 200, dtype=object)},
        "few": {"x_train": x[:5], "y_train": y[:5]},
        "test": {"x_train": arrays["x_test"], "y_train": arrays["y_test"]},
        "empty": {"x_train": x[:0], "y_train": y[:0]},
        "misspelt": {"x_trian": x},
    }
    spoilt: dict[str, object] = {**arrays, **changes[kind]}
    if kind == "misspelt":
        del spoilt["x_train"], spoilt["y_train"]
    return spoilt


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "expected finite values, got 1 NaN"),
        ("inf", "1 infinite"),
        ("shape", "shape"),
        ("strings", "expected bool, integer or float values"),
        ("objects", "pickled Python objects"),
        ("few", "too few samples for calibration: expected at least 10"),
        ("test", "x_train holds the same samples as x_test"),
        ("empty", "expected at least one sample"),
        ("misspelt", "did you mean 'x_train'"),
    ],
)
def test_data_that_cannot_calibrate_is_2(
    said: Said, float_model: Path, arrays: Arrays, tmp_path: Path, kind: str, message: str
) -> None:
    """And no int8 is made from it."""
    data = save(tmp_path / "d.npz", **spoil(arrays, kind))
    code, shown = said("convert", float_model, "--data", data, "--recipe", "int8", "--out", tmp_path / "run")

    assert (code, [name for name in written(tmp_path / "run") if "int8" in name]) == (2, [])
    assert message in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_test": np.zeros((0, 64), "float32"), "y_test": np.zeros(0, int)}, "expected at least one sample"),
        ({"x_test": np.zeros((3, 10), "float32"), "y_test": np.zeros(3, int)}, "does not fit"),
        ({"x_test": np.full((3, 64), np.nan, "float32"), "y_test": np.zeros(3, int)}, "NaN"),
        ({"x_test": np.zeros((3, 64), "float32"), "y_test": np.array([0, 1, 32])}, "expected labels from 0 to 31"),
        ({"x_test": np.zeros((3, 64), "float32"), "y_test": np.zeros(2, int)}, "one for each sample"),
        ({"x_train": np.zeros((3, 64), "float32")}, "no test samples"),
    ],
)
@pytest.mark.parametrize("whole_run", [False, True])
def test_data_that_cannot_evaluate_is_2(
    said: Said, run_folder: Path, tmp_path: Path, change: dict[str, np.ndarray], message: str, whole_run: bool
) -> None:
    """For one model and for a run alike; nothing is kept of it."""
    data = save(tmp_path / "d.npz", **change)
    target = run_folder if whole_run else run_folder / "variants" / "float32.tflite"
    code, shown = said("evaluate", target, "--data", data)

    assert code == 2
    assert message in shown
    assert written(run_folder / "evaluations") == []


def test_missing_labels_leave_the_accuracy_out(
    edgekit_cli: Cli, run_folder: Path, arrays: Arrays, tmp_path: Path
) -> None:
    """No error: agreement is measured, and the comparison says what is missing."""
    data = save(tmp_path / "d.npz", x_test=arrays["x_test"])
    done = edgekit_cli("evaluate", run_folder, "--data", data)
    assert done.returncode == 0
    assert "accuracy       –" in done.stdout
    assert "no class labels" in edgekit_cli("compare", run_folder).stdout.replace("\n", " ")


@pytest.mark.parametrize("place", ["file", "below a file", "foreign", "proc"])
def test_a_folder_that_cannot_be_used(said: Said, float_model: Path, tmp_path: Path, place: str) -> None:
    """A file or a foreign folder is the user's to change, 2; what the system refuses is 3."""
    (tmp_path / "file").write_text("mine")
    out = {
        "file": tmp_path / "file",
        "below a file": tmp_path / "file" / "run",
        "foreign": tmp_path,
        "proc": "/proc/run",
    }
    code, message = said("convert", float_model, "--recipe", "float32", "--out", out[place])

    assert code == (2 if place in ("file", "foreign") else 3)
    assert "hoose another" in message
    assert written(tmp_path) == ["file"]


@pytest.mark.parametrize("verb", ["evaluate", "bench", "compare", "report"])
def test_a_folder_that_is_no_run_is_2(said: Said, data: Path, tmp_path: Path, verb: str) -> None:
    """With how to make one; an empty run says so too."""
    more = ["--data", data] if verb == "evaluate" else []
    code, message = said(verb, tmp_path, *more)
    assert code == 2
    assert "expected a run folder" in message


def test_misspelt_names_are_2(said: Said, run_folder: Path, data: Path) -> None:
    """Variants, baselines, devices, data."""
    for arguments, hint in (
        (("bench", run_folder, "--variant", "itn8"), "did you mean 'int8'"),
        (("evaluate", run_folder, "--data", data, "--variant", "itn8"), "did you mean 'int8'"),
        (("compare", run_folder, "--baseline", "flaot32"), "did you mean 'float32'"),
        (("bench", run_folder, "--device", "locla"), "did you mean 'local'"),
        (("evaluate", run_folder, "--data", "digist"), "did you mean 'digits'"),
        (("evaluate", run_folder), "--data digits.npz"),
        (("evaluate", run_folder, "--data", data, "--scale", "0.5"), "leave --scale"),
        (("compare", run_folder, "--max-drop", "5"), "as a fraction"),
        (("compare", run_folder, "--max-latency-ms", "nan"), "above 0"),
        (("bench", run_folder, "--deadline", "inf"), "above 0"),
        (("run", run_folder / "none.toml"), "cannot read"),
    ):
        code, message = said(*arguments)
        assert code == 2
        assert hint in message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.abort()", "was killed (SIGABRT)"),
        ("import time; time.sleep(60)", "did not finish"),
        ("print('rubbish')", "answered rubbish"),
        ("import sys; sys.exit('edgekit-device: error: no runtime')", "failed (exit 1) on int8.tflite: no runtime"),
    ],
)
def test_a_device_that_fails_is_3(
    said: Said,
    fake_python: Callable[[str], str],
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    message: str,
) -> None:
    """It crashes, hangs, answers rubbish or complains; what was known of the run is kept, nothing is added."""
    monkeypatch.setenv(PYTHON_VARIABLE, fake_python(code))
    before = written(run_folder)
    ended, shown = said("bench", run_folder, "--variant", "int8", "--deadline", "1")

    assert ended == 3
    assert message in shown
    assert [name for name in written(run_folder) if name != ".lock"] == [name for name in before if name != ".lock"]


def test_a_device_python_that_is_none_is_2(said: Said, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, with the variable that names it."""
    monkeypatch.setenv(PYTHON_VARIABLE, "/nowhere/python")
    code, message = said("bench", run_folder)

    assert code == 2
    assert "EDGEKIT_DEVICE_PYTHON names '/nowhere/python'" in message


def test_a_full_temporary_folder_is_3(edgekit_cli: Cli, float_model: Path, data: Path, tmp_path: Path) -> None:
    """Where the scratch files go; it says which variable moves them."""
    import subprocess

    small = tmp_path / "tmp"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs rights")
    try:
        arguments = ("convert", float_model, "--data", data, "--recipe", "int8", "--out", tmp_path / "run")
        done = edgekit_cli(*arguments, env={"TMPDIR": str(small)})
    finally:
        with contextlib.suppress(OSError):
            os.sync()
        subprocess.run(["umount", str(small)], check=True)

    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert [name for name in written(tmp_path / "run") if name.startswith("int8")] == []
