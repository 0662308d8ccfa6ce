"""The converter process: what it answers, how it dies, and that its caller lives on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from edgekit_converters import (
    CalibrationError,
    ConverterCrashError,
    ConverterError,
    ModelFileError,
    Worker,
    read_model_card,
)

from tests.tflite_builder import dense_model


@pytest.fixture
def files(tmp_path):
    """A float model and samples for it, as the jobs take them."""
    model, samples = tmp_path / "float.tflite", tmp_path / "samples.npz"
    model.write_bytes(dense_model())
    width = read_model_card(model.read_bytes()).inputs[0].shape[1]
    np.savez(samples, x=np.random.default_rng(0).uniform(-1, 1, (32, width)).astype(np.float32))
    return {
        "model": str(model),
        "samples": str(samples),
        "out": str(tmp_path / "out.tflite"),
        "input_type": "float32",
        "output_type": "float32",
    }


def _kill_soon(worker: Worker, number: int) -> None:
    """Send a signal to the child as soon as it works."""

    def kill() -> None:
        while worker._process is None:
            time.sleep(0.001)
        time.sleep(0.05)
        os.kill(worker._process.pid, number)

    threading.Thread(target=kill, daemon=True).start()


def test_a_job_answers_and_leaves_its_file(worker: Worker, files) -> None:
    """A quantized model is on disk, and the answer says who made it and how long it took."""
    answer = worker.call("quantize", precision="int8", **files)

    assert answer["quantizer"] == "ai-edge-quantizer"
    assert answer["seconds"] > 0
    with open(files["out"], "rb") as file:
        assert any(tensor.dtype == "int8" for tensor in read_model_card(file.read()).tensors)


def test_an_error_of_a_job_arrives_as_itself(worker: Worker, files) -> None:
    """Its kind and its words cross the process, and the process serves on."""
    with pytest.raises(CalibrationError, match="needs calibration samples"):
        worker.call("quantize", precision="int8", **{**files, "samples": None})
    with pytest.raises(ConverterError, match="expected a job of"):
        worker.call("quantise")
    with pytest.raises(ConverterError, match=r"failed unexpectedly: TypeError"):
        worker.call("quantize", colour="blue")

    assert worker.call("quantize", precision="float16", **files)["quantizer"]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_death_is_an_error_with_its_signal_and_the_next_call_works(files, number) -> None:
    """The child dies under a job; the caller learns how, and a new child takes the next job."""
    with Worker() as worker:
        _kill_soon(worker, number)
        with pytest.raises(ConverterCrashError, match=signal.Signals(number).name) as caught:
            worker.call("quantize", precision="int8", **files)
        assert caught.value.signal_name == signal.Signals(number).name

        assert worker.call("quantize", precision="float16", **files)["quantizer"]


def test_a_deadline_ends_the_child(files) -> None:
    """What is not done in time is ended, and nothing of it is left."""
    with Worker() as worker:
        process = worker._started()
        with pytest.raises(ConverterCrashError, match=r"within 0\.05 s"):
            worker.call("quantize", precision="int8", deadline_s=0.05, **files)

        assert worker._process is None
        assert not psutil.pid_exists(process.pid)


def test_the_child_leaves_with_its_parent(tmp_path) -> None:
    """A parent that is killed leaves no converter behind."""
    code = (
        "import sys, time\nfrom edgekit_converters import Worker\nw = Worker()\nw._started()\n"
        "print(w._process.pid, flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()

    child.wait(timeout=15)  # raises TimeoutExpired if it stays


@pytest.mark.keras
def test_damaged_models_never_take_the_caller_down(zoo, tmp_path) -> None:
    """Full loads of files with damaged bytes: an error of ours, a crash told as one, or a model; and the worker goes on."""
    rng = random.Random(0)
    sources = [path for path, _ in zoo.files.values() if path.is_file()]
    errors: list[ConverterError] = []
    with Worker() as worker:
        for number in range(60):
            source = sources[number % len(sources)]
            content = bytearray(source.read_bytes())
            for _ in range(rng.choice((1, 4, 32))):
                content[rng.randrange(len(content))] = rng.randrange(256)
            if number % 5 == 0:
                del content[rng.randrange(len(content)) :]
            damaged = tmp_path / f"damaged{source.suffix}"
            damaged.write_bytes(content)
            try:
                worker.call("export", model=str(damaged), out=str(tmp_path / "out.tflite"), deadline_s=60)
            except ConverterError as error:
                errors.append(error)

    assert any(isinstance(error, ModelFileError) for error in errors)
    assert not [str(error) for error in errors if "Traceback" in str(error) or len(str(error)) > 2000]
