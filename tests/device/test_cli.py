"""The ``edgekit-device`` command as its user meets it: the built wheel, in an environment of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.cli import main

from tests.conftest import Cli
from tests.device.model_contract import KERNEL, floats

FAILING_RUNTIME = """
import os, time
class Interpreter:
    def __init__(self, model_content, num_threads):
        os.write(2, b"INFO: chatter\\nERROR: the kernel gave up\\n")
        {action}
"""


def _stub_runtime(folder: Path, action: str) -> dict[str, str]:
    """An environment whose ai_edge_litert does ``action`` when a model is loaded."""
    package = folder / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '0.0.1'\n")
    (package / "interpreter.py").write_text(FAILING_RUNTIME.format(action=action))
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def device(device_python: Path, clean_environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Start ``edgekit-device`` with extra environment variables; its process, or with ``wait`` how it completed."""

    def start(*arguments: object, env: dict[str, str] | None = None, wait: bool = True, **options: Any) -> Any:
        command = [str(device_python), "-m", "edgekit_device", *(str(argument) for argument in arguments)]
        options = {"cwd": tmp_path, "env": {**clean_environment, **(env or {})}, "text": True, **options}
        if wait:
            return subprocess.run(command, capture_output=True, timeout=60, check=False, **options)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    return start


# -- what it says of itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "mentioned"),
    [
        ([], ["info", "run", "bench", "--version", "edgekit-device bench int8.tflite"]),
        (["info"], ["--json", "--runtime", "--threads", "model"]),
        (["run"], ["--input", "--output", ".npz", "--json", "--runtime", "--threads", "auto,litert,tflite,tf"]),
        (
            ["bench"],
            [
                "--runs",
                "--warmup",
                "--precision",
                "--budget",
                "--sustained",
                "--profile",
                "--deadline",
                "--data",
                "--outputs",
                "--json",
                "--runtime",
                "--threads",
            ],
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_help_mentions_every_option(device_cli: Cli, verb: list[str], mentioned: list[str]) -> None:
    """Each verb's help names its options and ends with 0."""
    done = device_cli(*verb, "--help")

    assert done.returncode == 0
    assert [word for word in mentioned if word not in done.stdout] == []
    assert done.stderr == ""


def test_version(device_cli: Cli) -> None:
    """--version gives the one version of the package."""
    assert device_cli("--version").stdout == "edgekit-device 0.1.0\n"


def test_main_returns_its_exit_code(capfd: pytest.CaptureFixture[str], models: Path) -> None:
    """In this process as well: 0 for help and a verb, 2 for wrong usage, and the signal handlers are as they were."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    assert main(["--help"]) == 0
    assert main(["bend"]) == 2
    assert main(["info", str(models / "dense.tflite")]) == 0
    assert main(["info", "absent.tflite"]) == 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert "Traceback" not in capfd.readouterr().err


# -- info -------------------------------------------------------------------------------------------------------


def test_info(device_cli: Cli) -> None:
    """The board and the runtimes, for people and as JSON."""
    facts = json.loads(device_cli("info", "--json").stdout)
    text = device_cli("info")

    assert facts["board"]["cores"] == os.cpu_count()
    assert list(facts["runtimes"]) == ["litert"]
    assert text.returncode == 0
    assert f"litert {facts['runtimes']['litert']}" in text.stdout


def test_info_of_a_model(device_cli: Cli, models: Path) -> None:
    """Its tensors with scale and zero point, its hash, runtime and note."""
    facts = json.loads(device_cli("info", models / "dense_int8.tflite", "--json").stdout)["model"]
    text = device_cli("info", models / "dense_int8.tflite").stdout
    noted = json.loads(device_cli("info", models / "noted.tflite", "--json").stdout)["model"]

    assert facts["inputs"] == [{"name": "input", "dtype": "int8", "shape": [1, 64], "scale": 0.5, "zero_point": 3}]
    assert facts["runtime"]["name"] == "litert"
    assert noted["note"]["recipe"] == "int8"
    assert "input int8[1, 64] scale 0.5 zero point 3" in text
    assert facts["sha256"] in text


# -- run --------------------------------------------------------------------------------------------------------


def test_run_writes_what_numpy_computes(device_cli: Cli, models: Path, tmp_path: Path) -> None:
    """An .npy in, an .npy out, the first values shown."""
    x = floats(3, 64)
    np.save(tmp_path / "x.npy", x)
    done = device_cli("run", models / "dense.tflite", "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")

    assert done.returncode == 0, done.stderr
    assert np.allclose(np.load(tmp_path / "y.npy"), x @ KERNEL.T + 1, atol=1e-4)
    assert done.stdout.startswith("output float32[3, 32]: ")


def test_run_with_several_inputs_and_outputs(device_cli: Cli, models: Path, tmp_path: Path) -> None:
    """An .npz by signature name in, an .npz out; an .npy for two outputs is refused."""
    a, b = floats(2, 4), floats(2, 4, seed=2)
    np.savez(tmp_path / "x.npz", input_0=b, input_1=a)
    model = models / "difference_and_product.tflite"
    done = device_cli("run", model, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz", "--json")
    outputs = {each["name"]: each for each in json.loads(done.stdout)["outputs"]}
    kept = np.load(tmp_path / "y.npz")

    assert np.allclose(outputs["output_0"]["first"], (a * b).reshape(-1))
    assert outputs["output_1"]["shape"] == [2, 4]
    assert np.array_equal(kept["output_0"], a * b)
    refused = device_cli("run", model, "--output", tmp_path / "y.npy")
    assert refused.returncode == 2
    assert "--output F.npz for this model's 2 outputs" in refused.stderr


def test_run_without_input_is_the_same_every_time(device_cli: Cli, models: Path) -> None:
    """Random input is seeded."""
    first, second = (device_cli("run", models / "conv_int8.tflite", "--json").stdout for _ in range(2))

    assert json.loads(first)["outputs"][0]["dtype"] == "int8"
    assert first == second


def test_json_has_no_nan(device_cli: Cli, models: Path, tmp_path: Path) -> None:
    """NaN outputs are null: every JSON reader can read them."""
    np.save(tmp_path / "x.npy", np.full((1, 64), np.nan, np.float32))
    done = device_cli("run", models / "dense.tflite", "--input", tmp_path / "x.npy", "--json")

    assert json.loads(done.stdout, parse_constant=pytest.fail)["outputs"][0]["first"] == [None] * 10


# -- bench ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", ["device_python", "tflite_python"])
def test_bench_prints_exactly_one_report(
    device_cli: Cli, models: Path, environment: str, request: pytest.FixtureRequest
) -> None:
    """--json puts one JSON object on standard output and nothing anywhere else, with every figure in it."""
    python = request.getfixturevalue(environment)
    done = device_cli("bench", models / "conv_int8.tflite", "--runs", 20, "--threads", 2, "--json", python=python)
    report = BenchmarkReport.from_json(done.stdout)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert report.runtime.name == {"device_python": "litert", "tflite_python": "tflite"}[environment]
    assert report.runtime.delegate == {"device_python": "xnnpack", "tflite_python": "none"}[environment]
    assert (report.latency.count, len(report.latency.samples_ms), report.runtime.threads) == (20, 20, 2)
    assert report.model.name == "conv_int8.tflite"
    assert None not in vars(report.latency).values()
    latency = report.latency
    assert latency.min_ms <= latency.p5_ms <= latency.median_ms <= latency.p90_ms <= latency.p99_ms <= latency.max_ms  # type: ignore[operator]
    assert report.memory.peak_rss_mb is not None
    assert 10 < report.memory.peak_rss_mb < 500
    assert report.board.system.startswith("Linux")


def test_bench_for_people(device_cli: Cli, models: Path, tmp_path: Path) -> None:
    """Runtime, figures with units, peak memory and the accuracy of the data given."""
    x = floats(10, 64)
    np.savez(tmp_path / "d.npz", x=x, y=(x @ KERNEL.T + 1).argmax(axis=1))
    done = device_cli(
        "bench", models / "dense.tflite", "--runs", 5, "--data", tmp_path / "d.npz", "--outputs", tmp_path / "o.npz"
    )

    assert done.returncode == 0, done.stderr
    assert "litert" in done.stdout
    assert "delegate xnnpack, 1 thread(s)" in done.stdout
    for word in ("init", "first", "median", "p99", " ms", "MiB resident", "accuracy 1.0000 on 10 samples"):
        assert word in done.stdout
    assert np.load(tmp_path / "o.npz")["output_0"].shape == (10, 32)


# -- what goes wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "absent.tflite"], "cannot read absent.tflite: No such file"),
        (["bench", "random.tflite"], "expected a .tflite model"),
        (["bench", "cut.tflite"], "damaged"),
        (["bench", "empty.tflite"], "0 bytes starting nothing"),
        (["bench", "."], "cannot read .: Is a directory"),
        (["bench", "dense.tflite", "--runs", "0"], "(--runs) from 1"),
        (["bench", "dense.tflite", "--warmup", "-1"], "(--warmup) from 0"),
        (["bench", "dense.tflite", "--threads", "0"], "(--threads) as a whole number from 1 to 256, got 0"),
        (["bench", "dense.tflite", "--outputs", "o.npz"], "give both"),
        (["bench", "dense.tflite", "--data", "absent.npz"], "cannot read absent.npz"),
        (["bench", "dense.tflite", "--data", "wrong.npy"], "expected wrong.npy as .npz"),
        (["run", "dense.tflite", "--input", "wrong.npy"], "expected input of shape (N, 64), got (2, 3)"),
        (["run", "dense.tflite", "--input", "random.tflite"], "expected random.tflite as numpy's"),
        (["info", "random.tflite"], "expected a .tflite model"),
        (["bend", "dense.tflite"], "invalid choice: 'bend'"),
        (["bench", "dense.tflite", "--runs", "many"], "invalid int value: 'many'"),
        (["bench", "dense.tflite", "--runtime", "lite"], "invalid choice: 'lite'"),
        (["bench"], "required: model"),
        ([], "required: VERB"),
    ],
    ids=" ".join,
)
def test_wrong_input_is_a_message_and_exit_2(
    device: Callable[..., Any], models: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """What was expected and what came, in one breath, without a traceback, and nothing on standard output."""
    dense = (models / "dense.tflite").read_bytes()
    (tmp_path / "dense.tflite").write_bytes(dense)
    (tmp_path / "cut.tflite").write_bytes(dense[: len(dense) // 2])
    (tmp_path / "random.tflite").write_bytes(np.random.default_rng(0).bytes(2000))
    (tmp_path / "empty.tflite").write_bytes(b"")
    np.save(tmp_path / "wrong.npy", np.ones((2, 3), np.float32))
    done = device(*arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_missing_runtime_is_exit_3(device_cli: Cli, models: Path) -> None:
    """With the line that installs it."""
    done = device_cli("bench", models / "dense.tflite", "--runtime", "tflite")

    assert done.returncode == 3
    assert 'not installed. Install it: pip install "edgekit-device[tflite]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_runtime_is_exit_3(device: Callable[..., Any], models: Path, tmp_path: Path) -> None:
    """A runtime that is there and cannot be imported is not called missing, and ``auto`` says so too."""
    (tmp_path / "tflite_runtime").mkdir()
    (tmp_path / "tflite_runtime" / "__init__.py").write_text("")
    (tmp_path / "tflite_runtime" / "interpreter.py").write_text("raise ImportError('numpy.core.multiarray failed')")
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").write_text("raise OSError('libLiteRt.so: no such file')")
    for runtime, expected in (("tflite", "tflite-runtime needs numpy < 2"), ("auto", "libLiteRt.so")):
        done = device("info", models / "dense.tflite", "--runtime", runtime, env={"PYTHONPATH": str(tmp_path)})

        assert done.returncode == 3
        assert "is installed but cannot be imported" in done.stderr
        assert expected in done.stderr
        assert "Traceback" not in done.stderr


def test_no_runtime_at_all_is_exit_3(device: Callable[..., Any], models: Path, tmp_path: Path) -> None:
    """``auto`` with nothing installed names two ways to install one."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ai_edge_litert'] = None\n")
    done = device("bench", models / "dense.tflite", env={"PYTHONPATH": str(tmp_path)})

    assert done.returncode == 3
    assert "edgekit-device[litert]" in done.stderr
    assert "edgekit-device[tflite]" in done.stderr


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("os.abort()", ["the runtime crashed (SIGABRT)", "ERROR: the kernel gave up", "edgekit inspect"]),
        ("import ctypes; ctypes.string_at(0)", ["the runtime crashed (SIGSEGV)", "--runtime"]),
        ("os.kill(os.getpid(), 9)", ["SIGKILL", "ran out of memory"]),
    ],
)
def test_a_crash_is_a_message_and_exit_3(
    device: Callable[..., Any], models: Path, tmp_path: Path, action: str, said: list[str]
) -> None:
    """The signal, the file, the runtime's last words and what to try next; its other chatter is held back."""
    done = device("bench", models / "dense.tflite", "--json", env=_stub_runtime(tmp_path, action))

    assert done.returncode == 3
    assert done.stdout == ""
    assert [words for words in [*said, "dense.tflite"] if words not in done.stderr] == []
    assert "INFO" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_shows_its_traceback(device: Callable[..., Any], models: Path, tmp_path: Path) -> None:
    """What nobody foresaw is not hidden: exit 3, with the traceback that a report of the bug needs."""
    done = device("bench", models / "dense.tflite", env=_stub_runtime(tmp_path, "raise LookupError('a bug')"))

    assert done.returncode == 3
    assert "LookupError: a bug" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_exit_130(device: Callable[..., Any], models: Path, number: int) -> None:
    """A signal to the process alone, in the middle of a long bench: no traceback, no report, no child left."""
    process = device("bench", models / "conv.tflite", "--runs", 1_000_000, "--json", wait=False)
    time.sleep(1.5)
    children = _children(process.pid)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)

    assert process.returncode == 130
    assert (stdout, stderr) == ("", "")
    assert len(children) == 1
    assert not Path(f"/proc/{children[0]}").exists()


def test_ctrl_c_at_a_terminal_is_exit_130(device: Callable[..., Any], models: Path) -> None:
    """A terminal interrupts parent and child at once; so does this."""
    process = device("bench", models / "conv.tflite", "--runs", 1_000_000, wait=False, start_new_session=True)
    time.sleep(1.5)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)

    assert (process.returncode, stdout, stderr) == (130, "", "")


def test_a_second_interrupt_ends_a_runtime_that_hangs(device: Callable[..., Any], models: Path, tmp_path: Path) -> None:
    """A kernel that never returns hears no interrupt: the second one kills it."""
    hang = "import ctypes; print('hanging', flush=True); libc = ctypes.PyDLL(None); [libc.sleep(60) for _ in range(60)]"
    process = device("bench", models / "dense.tflite", env=_stub_runtime(tmp_path, hang), wait=False)
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)

    assert process.returncode == 130
    assert "Traceback" not in stderr


def test_output_that_cannot_be_written_is_exit_3(
    device: Callable[..., Any], device_python: Path, models: Path, clean_environment: dict[str, str]
) -> None:
    """A full disk, and a folder that is not there: never exit 0 with the result lost."""
    buffered = {name: value for name, value in clean_environment.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        command = [device_python, "-m", "edgekit_device", "bench", models / "dense.tflite", "--runs", "1", "--json"]
        full_disk = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered, check=False)
    absent = device("run", models / "dense.tflite", "--output", "absent/y.npy")

    assert full_disk.returncode == 3
    assert "cannot write the result: No space left on device" in full_disk.stderr
    assert absent.returncode == 3
    assert "No such file or directory" in absent.stderr
    assert "Traceback" not in full_disk.stderr + absent.stderr


def test_nothing_is_left_on_disk(device: Callable[..., Any], models: Path, tmp_path: Path) -> None:
    """A crash leaves no core file and no part in the working folder."""
    before = {path.name for path in tmp_path.iterdir()}
    device("bench", models / "dense.tflite", "--runs", 1)
    crashing = _stub_runtime(tmp_path, "os.abort()")
    device("bench", models / "dense.tflite", env=crashing)

    assert {path.name for path in tmp_path.iterdir()} - before == {"ai_edge_litert"}


def _children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def test_the_command_is_installed(device_python: Path) -> None:
    """``edgekit-device`` itself, not only ``python -m``."""
    done = subprocess.run(
        [device_python.with_name("edgekit-device"), "info"], capture_output=True, text=True, check=True
    )

    assert "runtimes" in done.stdout
