"""An emulated device as the host uses it: the transport's contract, the command line's verbs, and no times anywhere."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from edgekit_device import BenchmarkReport, Model
from edgekit_device.report import LatencyFacts, MemoryFacts

from edgekit import convert
from edgekit.devices import BenchRequest, Device
from edgekit.devices.emulated import EmulatedTransport
from edgekit.errors import DeviceError, UsageError
from edgekit.store import file_sha256
from tests.arm.conftest import Side, run_there
from tests.conftest import Cli
from tests.edgekit import test_devices
from tests.tflite_builder import DENSE_INPUTS, dense_model

pytestmark = pytest.mark.arm


@pytest.fixture(scope="session")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 .tflite of one dense layer with 32 classes."""
    path = tmp_path_factory.mktemp("models") / "dense.tflite"
    path.write_bytes(dense_model())
    return path


@pytest.fixture(scope="session")
def data(float_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples with the float model's own answers as labels, but for every tenth: accuracy 0.9 by construction."""
    x = np.random.default_rng(3).uniform(-1, 1, (300, DENSE_INPUTS)).astype(np.float32)
    with Model(float_model) as model:
        labels = model.predict(x).argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % 32
    path = tmp_path_factory.mktemp("data") / "samples.npz"
    np.savez(path, x_train=x[:200], y_train=labels[:200], x_test=x[200:], y_test=labels[200:])
    return path


class TestEmulatedTransport(test_devices.TestTransportContract):
    """What a Device may expect of any transport, of this one; measuring excepted, which an emulator cannot."""

    def test_a_model_is_measured(self, transport: EmulatedTransport, float_model: Path) -> None:  # type: ignore[override]
        """Through Device, the report is of this very file, and has no latency."""
        report = Device(transport).bench(float_model, BenchRequest(runs=9))

        assert report.model.sha256 == file_sha256(float_model)
        assert report.latency == LatencyFacts()


def test_a_report_has_facts_and_no_times(side: Side, transport: EmulatedTransport, float_model: Path) -> None:
    """The board is the emulated one, the runtime its own; nothing tells a time or a memory, and a note says why."""
    report = Device(transport).bench(float_model, BenchRequest(runtime=side.runtime))

    assert report.board.architecture == side.machine
    assert report.board.emulator == transport.emulator
    assert report.board.cpu.endswith("(qemu)")
    assert (report.runtime.name, report.runtime.version) == (side.runtime, side.version)
    assert report.runtime.delegate == side.delegates.split(",")[0]
    assert report.latency == LatencyFacts()
    assert report.memory == MemoryFacts()
    assert any(note.startswith(f"emulated by {transport.emulator}: no latency") for note in report.notes)


def test_emulation_is_found_without_being_told(
    side: Side, transport: EmulatedTransport, float_model: Path, tmp_path: Path
) -> None:
    """Whoever runs edgekit-device by qemu's user mode by hand, as in a chroot, gets no latency either; nor a forked child."""
    environment = {name: value for name, value in transport.environment([]).items() if name != "EDGEKIT_EMULATOR"}
    command = transport.command(["bench", str(float_model), "--runs", "3", "--json"])
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=True, cwd=tmp_path
    )
    report = BenchmarkReport.from_json(done.stdout)

    assert report.board.emulator == transport.emulator
    assert report.latency == LatencyFacts()


def test_accuracy_and_outputs_are_those_of_the_host(
    side: Side, transport: EmulatedTransport, float_model: Path, data: Path, tmp_path: Path
) -> None:
    """Over samples sent along: the labels are the float model's own but for every tenth, so that accuracy is 0.9 exactly."""
    with np.load(data) as arrays:
        x, labels = arrays["x_test"], arrays["y_test"]
        np.savez(tmp_path / "samples.npz", x=x, y=labels)
    with Model(float_model) as model:
        expected = model.predict(x)
    request = BenchRequest(runtime=side.runtime)
    report = Device(transport).bench(float_model, request, data=tmp_path / "samples.npz", outputs=tmp_path / "out.npz")

    assert report.accuracy.accuracy == 0.9
    assert report.accuracy.count == 100
    with np.load(tmp_path / "out.npz") as outputs:
        assert np.abs(outputs["output_0"] - expected).max() < 1e-4


def test_run_answers_in_the_model_s_own_words(side: Side, transport: EmulatedTransport, float_model: Path) -> None:
    """``run`` and ``info`` print JSON there as anywhere."""
    shown = json.loads(transport.run(["run", str(float_model), "--json"], deadline_s=120).stdout)
    facts = json.loads(transport.run(["info", str(float_model), "--json"], deadline_s=120).stdout)

    assert shown["outputs"][0]["shape"] == [1, 32]
    assert facts["board"]["architecture"] == side.machine
    assert facts["board"]["emulator"] == transport.emulator
    assert facts["runtimes"] == {side.runtime: side.version}
    assert facts["model"]["sha256"] == file_sha256(float_model)


def test_text_output_says_why_there_is_no_latency(transport: EmulatedTransport, float_model: Path) -> None:
    """No empty table, and no traceback."""
    done = transport.run(["bench", str(float_model)], deadline_s=120)

    assert done.exit_code == 0, done.stderr
    assert "emulated by qemu-" in done.stdout
    assert " ms" not in done.stdout


def test_a_file_that_is_no_model_is_refused(transport: EmulatedTransport, tmp_path: Path) -> None:
    """By the device's own message; the board lives on."""
    (tmp_path / "bad.tflite").write_bytes(b"not a model, nor ever was one")
    with pytest.raises(UsageError, match=r"refuses bad\.tflite: .*TFL3"):
        Device(transport).bench(tmp_path / "bad.tflite", BenchRequest())


def test_the_other_runtime_of_a_userland_is_a_matter_of_asking(side: Side, float_model: Path) -> None:
    """--runtime chooses the packages too, since the two want different versions of numpy; a missing one is said to be missing."""
    other = {"litert": "tflite", "tflite": "litert"}[side.runtime]
    with Device(EmulatedTransport(side.place)) as device:
        if side.architecture == "arm64":
            assert device.bench(float_model, BenchRequest(runtime=other)).runtime.name == other
        else:
            with pytest.raises(DeviceError, match="litert runtime is not installed"):
                device.bench(float_model, BenchRequest(runtime=other))


def test_a_processor_qemu_does_not_know_is_one_message(side: Side, float_model: Path) -> None:
    """qemu's own words."""
    place = side.place.replace(side.cpu, "cortex-x99")
    with Device(EmulatedTransport(place)) as device, pytest.raises(DeviceError, match="unable to find CPU model"):
        device.bench(float_model, BenchRequest())


def test_the_host_s_packages_stay_with_the_host(side: Side) -> None:
    """What Python looks through there is the userland and one package."""
    code = "import json, os, sys\nprint(json.dumps([os.path.realpath(p) for p in sys.path[1:]]))\n"
    printed = run_there(side, "-c", code)
    userland = str(Path(side.place.partition("?")[0]).resolve())

    assert len([path for path in json.loads(printed) if not path.startswith(userland)]) == 1


def test_a_named_device_measures_a_run(
    side: Side, edgekit_cli: Cli, float_model: Path, data: Path, tmp_path: Path
) -> None:
    """device add, bench with data, compare, report: accuracy and outputs of the board, and a word in place of each latency."""
    run, home = tmp_path / "run", {"EDGEKIT_HOME": str(tmp_path / "home")}
    assert not convert(float_model, data=data, recipes=("float32", "int8"), out=run).failures
    added = edgekit_cli("device", "add", "pi-emulated", f"emulated://{side.place}", env=home)
    assert added.returncode == 0, added.stderr
    done = edgekit_cli("bench", run, "--device", "pi-emulated", "--data", data, env=home)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("float32", "int8"))]
    assert len(lines) == 2
    assert all("no latency" in line and "accuracy" in line for line in lines)
    assert " ms" not in done.stdout
    assert "90.0" in done.stdout
    compared = edgekit_cli("compare", run, env=home)
    assert compared.returncode == 0, compared.stderr
    assert "no latency" in compared.stdout
    reported = edgekit_cli("report", run, env=home)
    assert reported.returncode == 0, reported.stderr
    assert "no latency" in (run / "report.html").read_text()
