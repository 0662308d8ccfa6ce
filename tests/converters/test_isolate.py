"""What interrupts a call: Ctrl-C, a progress callback that fails, a file that is read for ever, a job that is nonsense."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from edgekit_converters import ConverterCrashError, ConverterError, PromiseError, Worker, read_model_card
from edgekit_converters import worker as child
from edgekit_converters.isolate import _translated

from tests.converters.conftest import Zoo
from tests.converters.test_load import mutate
from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model

LOADS = 180


def request(folder: Path, content: bytes, precision: str = "float16") -> dict[str, str]:
    """The arguments of a quantize job for ``content``, with samples of 64 columns."""
    (folder / "model.tflite").write_bytes(content)
    if not (folder / "samples.npz").exists():
        np.savez(folder / "samples.npz", x=np.ones((4, 64), np.float32))
    names = {"model": "model.tflite", "out": "out.tflite", "samples": "samples.npz"}
    paths = {name: str(folder / file) for name, file in names.items()}
    return {**paths, "precision": precision, "input_type": "float32", "output_type": "float32"}


def looping_h5(path: Path) -> Path:
    """A small .h5 whose attributes the HDF5 library reads for ever: the first piece of its heap has no size."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = "{}"
    content = bytearray(path.read_bytes())
    heap = content.find(b"GCOL")
    content[heap + 16 : heap + 32] = bytes(16)
    path.write_bytes(content)
    return path


def test_file_that_is_read_for_ever_ends_at_the_reading_deadline(tmp_path):
    """A damaged .h5 on which the HDF5 library loops ends as an error that says so; the next call works."""
    path = looping_h5(tmp_path / "loop.h5")
    with Worker() as worker:
        with pytest.raises(ConverterCrashError, match=r"expected the converter to read .*loop\.h5 within 2 s.*damaged"):
            worker.call("export", model=str(path), out="nowhere", read_deadline_s=2)
        assert worker.call("quantize", **request(tmp_path, dense_model()))["quantizer"] == "ai-edge-quantizer"


def test_interrupted_call_leaves_no_answer_for_the_next_one(tmp_path, monkeypatch):
    """Ctrl-C in the middle of a call ends the child, so that the next call gets its own answer."""
    with Worker() as worker:
        pid = worker._started().pid
        monkeypatch.setattr(worker, "_next", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.call("quantize", **request(tmp_path, dense_model()))
        assert not psutil.pid_exists(pid)
        monkeypatch.undo()
        assert worker.call("quantize", **request(tmp_path, conv_model(), "float32"))["quantizer"] == "none"


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_reaches_the_parent_alone(tmp_path):
    """SIGINT to the parent's process group ends the parent's call; the child is ended by the parent, not by the signal."""
    program = (
        "import sys\nfrom edgekit_converters import Worker\n"
        "try:\n"
        "    with Worker() as w:\n"
        "        print(w._started().pid, flush=True)\n"
        "        w._lines.get()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    package = str(Path(child.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": package}
    command = [sys.executable, "-c", program]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    with parent:
        pid = int(parent.stdout.readline())
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdout.read() == "interrupted\n"
    assert (parent.returncode, psutil.pid_exists(pid)) == (0, False)


def test_child_ignores_sigint(tmp_path):
    """A SIGINT to the child itself changes nothing: Ctrl-C is the parent's to answer."""
    with Worker() as worker:
        worker.call("quantize", **request(tmp_path, dense_model()))
        os.kill(worker._process.pid, signal.SIGINT)
        time.sleep(0.1)
        assert worker._process.poll() is None
        assert worker.call("quantize", **request(tmp_path, dense_model()))["quantizer"] == "ai-edge-quantizer"


def test_closing_twice_or_unused_is_harmless():
    """A worker that never started, or is closed already, closes."""
    worker = Worker()
    worker.close()
    with worker:
        pid = worker._started().pid
    worker.close()
    assert not psutil.pid_exists(pid)


def test_child_that_died_between_calls_is_replaced(tmp_path):
    """A child killed while idle is started anew by the next call."""
    with Worker() as worker:
        first = worker._started()
        first.kill()
        first.wait()
        assert worker.call("quantize", **request(tmp_path, dense_model(), "float32"))["quantizer"] == "none"


@pytest.mark.keras
def test_progress_that_fails_is_the_callers_error(tmp_path):
    """An error in the progress callback arrives as it is, and the worker serves the next call."""
    rows = tmp_path / "data.npz"
    np.savez(rows, x=np.zeros((4, 8, 8, 1), np.float32), y=np.array([0, 1, 0, 1]))
    settings = {"epochs": 3, "batch_size": 2, "validation_fraction": 0.0}
    job = {"data": str(rows), "scale": 1.0, "offset": 0.0, "settings": settings, "out": str(tmp_path / "m.keras")}

    def fail(done: int, total: int, text: str) -> None:
        raise ZeroDivisionError(f"{done} of {total}")

    with Worker() as worker, pytest.raises(ZeroDivisionError, match="1 of 3"):
        worker.call("train", progress=fail, **job)
    seen: list[int] = []
    with Worker() as worker:
        worker.call("train", progress=lambda done, total, text: seen.append(done), **job)
    assert (seen, (tmp_path / "m.keras").is_file()) == ([1, 2, 3], True)


def test_broken_promise_keeps_its_problems():
    """The problems of a PromiseError cross the process; an unknown kind becomes the base error."""
    error = PromiseError("not int8", problems=["a", "b"])
    event = json.loads(json.dumps(child._described(error, "quantize")))
    assert (type(_translated(event)), _translated(event).problems) == (PromiseError, ("a", "b"))
    for kind in ("OSError", "nothing", "annotations"):
        assert type(_translated({"kind": kind, "message": "m"})) is ConverterError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory to export this model: use a machine with more, or a smaller model"),
        (FileNotFoundError(2, "No such file", "m.h5"), "cannot export: No such file: m.h5"),
        (OSError("short read"), "cannot export: short read: no file named"),
        (KeyError("x"), "'export' failed unexpectedly: KeyError: 'x'"),
    ],
)
def test_every_error_of_a_job_is_one_line(error, message, capsys):
    """Whatever a job raises is described in one line; only the unexpected leaves its traceback in the child's output."""
    assert child._described(error, "export") == {"kind": "ConverterError", "message": message}
    assert ("KeyError" in capsys.readouterr().err) == isinstance(error, KeyError)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"], ids=["empty", "cut", "text"])
def test_samples_that_are_no_npz_are_named(tmp_path, worker, content):
    """Samples in a file of another kind, or a damaged one, are an error about the samples."""
    arguments = request(tmp_path, dense_model(), "int8")
    Path(arguments["samples"]).write_bytes(content)
    with pytest.raises(ConverterError, match=r"expected arrays in an \.npz file, got .*samples\.npz"):
        worker.call("quantize", **arguments)


def test_arrays_of_pickles_or_alone_are_refused(tmp_path):
    """Pickled objects are never loaded, and a lone .npy is no .npz."""
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    np.save(tmp_path / "alone.npy", np.ones(3))
    for name in ("objects.npz", "alone.npy"):
        with pytest.raises(ConverterError, match=r"expected arrays in an \.npz"):
            child._arrays(str(tmp_path / name))


def test_ranges_are_collected_again_for_other_content(tmp_path, worker):
    """A second model or other samples under the same paths get ranges of their own."""
    first = request(tmp_path, dense_model(), "int8")
    scales = []
    for factor in (1.0, 10.0):
        np.savez(first["samples"], x=np.full((4, 64), factor, np.float32))
        worker.call("quantize", **first)
        scales.append(_input_scale(Path(first["out"]).read_bytes()))
    # The quantizer's range is [0, factor] in 255 steps.
    np.testing.assert_allclose(scales, [1 / 255, 10 / 255], rtol=1e-5)


def _input_scale(tflite: bytes) -> float:
    card = read_model_card(tflite)
    assert card.ops[0].type == "QUANTIZE"
    return card.tensors[card.ops[0].outputs[0]].scales[0]


def test_main_answers_line_by_line():
    """The protocol as another process sees it: one JSON line in, one JSON line out, nothing else on standard output."""
    jobs = json.dumps({"job": "quantise"}) + "\n" + json.dumps({"job": "quantize", "colour": "blue"}) + "\n"
    command = [sys.executable, "-m", "edgekit_converters.worker"]
    environment = {**os.environ, "PYTHONPATH": str(Path(child.__file__).parents[1])}
    done = subprocess.run(command, input=jobs, capture_output=True, text=True, env=environment, timeout=60, check=True)
    first, second = (json.loads(line) for line in io.StringIO(done.stdout))
    assert first["message"] == "expected a job of train, compress, export, quantize, diagnose, got 'quantise'"
    assert "failed unexpectedly: TypeError: " in second["message"]


@pytest.mark.keras
def test_damaged_models_of_every_kind_are_errors(zoo: Zoo, tmp_path):
    """Full loads of damaged files of all kinds through one worker: only ConverterError comes out, and it serves on."""
    rng = random.Random(11)
    sources = {
        name: (zoo.folder / name).read_bytes() for name in ("keras3.keras", "keras2.h5", "keras3.h5", "keras2.keras")
    }
    proto = (zoo.folder / "exported" / "saved_model.pb").read_bytes()
    outcomes: dict[str, int] = {}
    with Worker() as worker:
        for turn in range(LOADS):
            name = [*sources, "saved", "tflite"][turn % 6]
            try:
                if name == "tflite":
                    worker.call(
                        "quantize", **request(tmp_path, b"\0\0\0\0TFL3" + mutate(dense_model(), rng)[8:], "int8")
                    )
                else:
                    path = tmp_path / name
                    if name == "saved":
                        path.mkdir(exist_ok=True)
                        (path / "saved_model.pb").write_bytes(mutate(proto, rng))
                    else:
                        path.write_bytes(mutate(sources[name], rng))
                    worker.call("export", model=str(path), out=str(tmp_path / "o"), read_deadline_s=8, deadline_s=20)
                outcome = "made"
            except ConverterError as error:
                outcome = "several lines" if "\n" in str(error) else type(error).__name__
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert worker.call("quantize", **request(tmp_path, dense_model()))["quantizer"] == "ai-edge-quantizer"
    assert "several lines" not in outcomes
    assert {"made", "ModelFileError"} <= set(outcomes)


def test_unknown_operator_of_a_custom_model_is_refused_by_the_job(tmp_path, worker):
    """A .tflite with an operator of somebody's own is refused by name, before anything is run."""
    tensors = [Tensor("x", "float32", (1, 64)), Tensor("y", "float32", (1, 64))]
    content = build(Graph(tensors, [Op("Mine", (0,), (1,), custom=True)], (0,), (1,)))
    with pytest.raises(ConverterError, match="own operators only, got the custom operator 'Mine'"):
        worker.call("quantize", **request(tmp_path, content, "int8"))
