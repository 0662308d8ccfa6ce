"""Devices: one contract over the transports, and every way a device may misbehave."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import LatencyFacts, ModelFacts

from edgekit.devices import (
    BenchRequest,
    Completed,
    Device,
    FakeTransport,
    LocalTransport,
    RemoteTransport,
    SSHConnection,
    Transport,
    open_device,
)
from edgekit.devices import local as local_module
from edgekit.devices.address import SSHAddress, parse_address
from edgekit.devices.local import PYTHON_VARIABLE, device_python
from edgekit.devices.transport import OUTPUT_CAP_BYTES
from edgekit.errors import DeviceError, UsageError
from edgekit.store import file_sha256

FakePython = Callable[[str], str]


def answer_like_a_device(arguments: Sequence[str], folder: Path) -> Completed:
    """What ``edgekit-device bench`` would say."""
    if arguments[0] == "info":
        return Completed(0, "{}")
    if arguments[0] != "bench":
        return Completed(2, "", "edgekit-device: error: unknown verb\n")
    report = BenchmarkReport(
        model=ModelFacts(file_sha256(Path(arguments[1])), 1, "m"), latency=LatencyFacts(count=9, median_ms=1.0)
    )
    (folder / "outputs.npz").write_bytes(b"outputs")
    return Completed(0, report.to_json() + "\n")


def over_ssh(request: pytest.FixtureRequest) -> Transport:
    """To a real sshd, with a home folder as edgekit device setup leaves it."""
    request.getfixturevalue("monkeypatch").setenv("EDGEKIT_SSH_CONFIG", str(request.getfixturevalue("sshd").config))
    address = parse_address(request.getfixturevalue("board").address)
    assert isinstance(address, SSHAddress)
    return RemoteTransport(SSHConnection(address, "board"))


# How to make each transport there is; a machine that cannot have one says why.
TRANSPORTS: dict[str, Callable[[pytest.FixtureRequest], Transport]] = {
    "local": lambda request: LocalTransport(str(request.getfixturevalue("device_python"))),
    "fake": lambda _: FakeTransport(answer_like_a_device),
    "ssh": over_ssh,
}


@pytest.fixture(params=[*TRANSPORTS])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """Every transport there is."""
    made = TRANSPORTS[request.param](request)
    yield made
    made.close()


class TestTransportContract:
    """What a Device may expect of any transport."""

    def test_a_file_goes_there_and_comes_back(self, transport: Transport, tmp_path: Path) -> None:
        """To the byte, under its name alone: a path cannot leave the work space."""
        (tmp_path / "a").write_bytes(b"\0content")
        there = transport.put(tmp_path / "a", "../../b.bin")
        transport.get("../b.bin", tmp_path / "c")

        assert Path(there).name == "b.bin"
        assert (tmp_path / "c").read_bytes() == b"\0content"

    def test_a_file_that_is_not_there_is_a_device_error(self, transport: Transport, tmp_path: Path) -> None:
        """On either side."""
        with pytest.raises(DeviceError, match=r"did not write none\.npz"):
            transport.get("none.npz", tmp_path / "x")
        with pytest.raises(DeviceError, match="cannot copy"):
            transport.put(tmp_path / "none", "none")

    def test_a_command_that_fails_is_an_answer(self, transport: Transport) -> None:
        """Its exit code and its words come back; no exception."""
        done = transport.run(["no-such-verb"], deadline_s=60)

        assert done.exit_code == 2
        assert "error" in done.stderr
        assert not done.timed_out

    def test_a_command_that_works_prints_json(self, transport: Transport) -> None:
        """``info --json`` is what doctor asks."""
        done = transport.run(["info", "--json"], deadline_s=60)

        assert done.exit_code == 0
        assert isinstance(json.loads(done.stdout), dict)

    def test_closing_twice_is_fine_and_leaves_nothing(self, transport: Transport, tmp_path: Path) -> None:
        """The work space is gone."""
        (tmp_path / "a").write_bytes(b"x")
        there = Path(transport.put(tmp_path / "a", "a"))
        transport.close()
        transport.close()

        assert not there.parent.exists()

    def test_a_model_is_measured(self, transport: Transport, float_model: Path) -> None:
        """Through Device, the report is of this very file."""
        report = Device(transport).bench(float_model, BenchRequest(runs=9))

        assert report.model.sha256 == file_sha256(float_model)
        assert report.latency.count == 9
        assert report.latency.median_ms is not None


def test_threads_runtime_and_counts_reach_the_device(float_model: Path) -> None:
    """As options of edgekit-device bench; what is None is left to the device."""
    transport = FakeTransport(answer_like_a_device)
    with Device(transport) as device:
        device.bench(float_model, BenchRequest(threads=2, runtime="tflite", runs=3, warmup=0))
        device.bench(float_model, BenchRequest())

    given, default = (command[2:] for command in transport.commands)
    assert given == ("--json", "--threads", "2", "--runtime", "tflite", "--runs", "3", "--warmup", "0")
    assert default == ("--json", "--threads", "1", "--runtime", "auto")


@pytest.mark.parametrize(
    "facts",
    [
        {"threads": 0},
        {"threads": 257},
        {"threads": True},
        {"runs": 0},
        {"warmup": -1},
        {"runtime": "liteRT"},
        {"deadline_s": 0.0},
        {"deadline_s": float("nan")},
        {"deadline_s": float("inf")},
        {"precision": 0.0},
        {"precision": 2.0},
        {"budget_s": 0.0},
        {"sustained_s": -1.0},
        {"delegate": ""},
    ],
)
def test_what_no_device_can_do_is_refused_first(facts: dict[str, object]) -> None:
    """Before a model is sent anywhere."""
    with pytest.raises(UsageError):
        BenchRequest(**facts)  # type: ignore[arg-type]


def test_an_unknown_device_is_an_error_with_the_known_ones() -> None:
    """No default steps in."""
    with pytest.raises(UsageError, match="unknown device 'locla'; did you mean 'local'"):
        open_device("locla")


def rubbish(change: Callable[[BenchmarkReport], object]) -> Callable[[Sequence[str], Path], Completed]:
    """A device whose report is changed on the way."""

    def answer(arguments: Sequence[str], folder: Path) -> Completed:
        report = BenchmarkReport.from_json(answer_like_a_device(arguments, folder).stdout)
        changed = change(report)
        return Completed(0, changed if isinstance(changed, str) else changed.to_json())  # type: ignore[attr-defined]

    return answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (rubbish(lambda _: ""), "answered rubbish"),
        (rubbish(lambda _: "hello"), "answered rubbish"),
        (rubbish(lambda _: "{}"), "answered rubbish"),
        (rubbish(lambda _: "[" * 100_000), "answered rubbish"),
        (rubbish(lambda _: '{"schema": 1}'), r"another file .*not said"),
        (rubbish(lambda r: r.to_json() * 2), "answered rubbish"),
        (rubbish(lambda _: "\x1b[31m\x00\u202e"), "answered rubbish"),
        (rubbish(lambda r: dataclasses.replace(r, model=ModelFacts("ab" * 32))), "another file than dense.tflite"),
        (rubbish(lambda r: dataclasses.replace(r, latency=LatencyFacts())), "without a latency"),
        (rubbish(lambda r: dataclasses.replace(r, latency=LatencyFacts(1, median_ms=-1.0))), "without a latency"),
        (lambda *_: Completed(3, "", "edgekit-device: error: no runtime\n"), r"failed \(exit 3\) .*: no runtime"),
        (lambda *_: Completed(-11), r"was killed \(SIGSEGV\) .*it said nothing"),
        (lambda *_: Completed(-99), r"was killed \(signal 99\)"),
        (lambda *_: Completed(-9, timed_out=True), "did not finish dense.tflite within 900 s"),
        (lambda *_: Completed(-9, flooded=True), "printed more than"),
        (lambda *_: Completed(1, "", "INFO: x\nerror: \x1b[2J\x07bad\n"), r"error:  ?\[2J bad$"),
    ],
)
def test_a_misbehaving_device_is_one_message(
    answer: Callable[[Sequence[str], Path], Completed], message: str, float_model: Path
) -> None:
    """Whatever it answers, in printable characters."""
    with Device(FakeTransport(answer)) as device, pytest.raises(DeviceError, match=message) as caught:
        device.bench(float_model, BenchRequest())

    assert caught.value.exit_code == 3
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_a_refused_input_is_the_user_s_to_change(float_model: Path) -> None:
    """The device's exit code 2 is edgekit's."""
    device = Device(FakeTransport(lambda *_: Completed(2, "", "edgekit-device: error: it has no such input\n")))
    with device, pytest.raises(UsageError, match=r"fake refuses dense.tflite: it has no such input"):
        device.bench(float_model, BenchRequest())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.abort()", r"was killed \(SIGABRT\)"),
        ("print('{' * 3_000_000)", "answered rubbish"),
        ("import sys; sys.stderr.write('edgekit-device: error: \\x1b[31mno\\n'); sys.exit(3)", "failed .exit 3."),
        ("import sys; sys.exit('No module named edgekit_device')", r"Install it there: pip install"),
    ],
)
def test_a_device_process_that_misbehaves_is_one_message(
    fake_python: FakePython, float_model: Path, code: str, message: str
) -> None:
    """Real processes, through the real transport."""
    with Device(LocalTransport(fake_python(code))) as device, pytest.raises(DeviceError, match=message) as caught:
        device.bench(float_model, BenchRequest())

    assert str(caught.value).isprintable()


HANG = """
    import subprocess, sys, time
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    time.sleep(300)
"""


def running_from(folder: Path) -> list[psutil.Process]:
    """Processes whose work space is ``folder``, but for those that are dead already."""
    found = []
    for process in psutil.process_iter(["cwd", "status"]):
        if process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def all_ended(folder: Path) -> bool:
    """Whether no process of that work space is left, once the system has buried those that were killed."""
    until = time.monotonic() + 5
    while running_from(folder) and time.monotonic() < until:
        time.sleep(0.02)
    return running_from(folder) == []


def test_a_device_that_hangs_is_ended_with_its_children(fake_python: FakePython, float_model: Path) -> None:
    """At the deadline, the whole process group."""
    transport = LocalTransport(fake_python(HANG))
    started = time.monotonic()
    with Device(transport) as device, pytest.raises(DeviceError, match=r"within 0.7 s and was ended.*--deadline"):
        device.bench(float_model, BenchRequest(deadline_s=0.7))

    assert time.monotonic() - started < 5
    assert all_ended(transport.folder)


def test_what_a_dead_device_leaves_running_is_ended(fake_python: FakePython) -> None:
    """A leader that crashes does not leave its children behind."""
    code = (
        'import subprocess, sys; subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]); sys.exit(1)'
    )
    transport = LocalTransport(fake_python(code))
    assert transport.run([], deadline_s=20).exit_code == 1
    assert all_ended(transport.folder)
    transport.close()


def test_a_device_that_never_stops_printing_is_ended(
    fake_python: FakePython, float_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before it has filled the disk."""
    monkeypatch.setattr(local_module, "OUTPUT_CAP_BYTES", 1_000_000)
    monkeypatch.setattr(local_module, "LOOK_EVERY_S", 0.05)
    forever = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    with Device(LocalTransport(fake_python(forever))) as device, pytest.raises(DeviceError, match="printed more than"):
        device.bench(float_model, BenchRequest(deadline_s=30))

    assert OUTPUT_CAP_BYTES >= 1_000_000


def test_ctrl_c_ends_the_device(fake_python: FakePython, tmp_path: Path) -> None:
    """No orphan is left after an interruption."""
    code = (
        "import sys\nfrom edgekit.devices import LocalTransport\nt = LocalTransport(sys.argv[1])\n"
        "print(t.folder, flush=True)\n"
        "try:\n    t.run([], deadline_s=100)\nfinally:\n    t.close()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, fake_python(HANG)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        until = time.monotonic() + 20
        while len(running_from(folder)) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        assert len(running_from(folder)) == 2
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=20)

    assert all_ended(folder)
    assert not folder.exists()


def test_a_python_that_cannot_be_run_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Named wrongly, it is the user's to change; a file that is no program is the world's failure."""
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UsageError, match="which cannot be run: set it to a Python interpreter"):
        device_python()
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF rubbish")
    program.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(program))
    with open_device() as device, pytest.raises(DeviceError, match="cannot start the device process"):
        device.transport.run([], deadline_s=1)


def test_the_device_s_python_is_looked_for_near_by(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Beside the host's environment, in the current folder, never in one further up; else the host's own."""
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "host" / ".venv"))
    inner = tmp_path / "here" / "deeper"
    inner.mkdir(parents=True)
    python = tmp_path / "here" / ".venv-device" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.chdir(inner)
    assert device_python() == sys.executable
    monkeypatch.chdir(tmp_path / "here")
    assert device_python() == str(python)


def test_a_relative_python_is_found_from_the_work_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The device starts in another folder than the one the name was given in."""
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PYTHON_VARIABLE, "./python")

    assert device_python() == str(tmp_path / "python")
