"""Emulated processors: how one is found, and that no time of one is told."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from edgekit_device import BenchmarkReport, emulation
from edgekit_device.board import read_board
from edgekit_device.emulation import EMULATOR_VARIABLE, find_emulator, strip_times
from edgekit_device.home import device_home
from edgekit_device.report import (
    AccuracyFacts,
    BoardFacts,
    ConditionsFacts,
    EnergyFacts,
    LatencyFacts,
    MemoryFacts,
    ModelFacts,
    OperatorTime,
    ProfileFacts,
    RuntimeFacts,
    SessionFacts,
    SustainedFacts,
    TuningFacts,
    TuningTrial,
)
from edgekit_device.stream.output import Lines
from edgekit_device.stream.pipeline import STAGES, Work

X86, AARCH64 = 62, 183  # e_machine, in the ELF specification's supplements


def elf(path: Path, machine: int) -> Path:
    """A file with the first bytes of an executable for ``machine``."""
    path.write_bytes(b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + bytes(44))
    return path


@pytest.fixture
def exes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for links in place of /proc/…/exe: ``own``, what the process believes, and ``kernel``, what the kernel says."""
    monkeypatch.delenv(EMULATOR_VARIABLE, raising=False)
    monkeypatch.setattr(emulation, "OWN_EXE", str(tmp_path / "own"))
    monkeypatch.setattr(emulation, "KERNELS_EXE", (str(tmp_path / "absent-{pid}"), str(tmp_path / "kernel")))
    return tmp_path


@pytest.mark.parametrize(
    ("own", "kernel", "machine", "expected"),
    [
        ("python3.11", "python3.11", AARCH64, ""),
        ("python3.11", "qemu-aarch64-static", X86, "qemu-aarch64"),
        ("python3.11", "qemu-arm", X86, "qemu-arm"),
        ("python3.11", "FEXInterpreter", X86, "FEXInterpreter"),
        ("python3.11", "odd\x1b[2J\n", X86, "odd [2J"),
        ("python3.11", "ld-linux-aarch64.so.1", AARCH64, ""),  # started through the loader: another file, no emulator
    ],
)
def test_the_kernel_s_word_is_held_against_the_process_s_own(
    own: str, kernel: str, machine: int, expected: str, exes: Path
) -> None:
    """qemu by its name, others by an executable that is for another architecture."""
    (exes / "own").symlink_to(elf(exes / own, AARCH64))
    (exes / "kernel").symlink_to(elf(exes / kernel, machine))

    assert find_emulator() == expected


def test_where_nothing_can_be_read_nothing_is_claimed(exes: Path) -> None:
    """No /proc, or files that are no executables."""
    assert find_emulator() == ""
    for name in ("own", "kernel"):
        (exes / f"{name}-text").write_text(f"#!/bin/sh\n# {name}, a text of more than twenty bytes")
        (exes / name).symlink_to(exes / f"{name}-text")
    assert find_emulator() == ""


def test_this_machine_is_no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real links of a real process; a name in the environment comes before them, cleaned."""
    monkeypatch.delenv(EMULATOR_VARIABLE, raising=False)
    assert find_emulator() == ""
    monkeypatch.setenv(EMULATOR_VARIABLE, "qemu-arm\x1b[31m" + "x" * 100)
    assert find_emulator() == "qemu-arm [31m" + "x" * 27
    assert read_board().emulator == find_emulator()


FULL = BenchmarkReport(
    id="ab",
    created="2026-01-01T00:00:00Z",
    model=ModelFacts("cd", 5, "m"),
    runtime=RuntimeFacts("litert", "2.3.0"),
    latency=LatencyFacts(9, 1.0, median_ms=1.0, samples_ms=(1.0,)),
    memory=MemoryFacts(50.0),
    board=BoardFacts(cpu="Cortex", cores=4, governor="ondemand", frequency_mhz=1.0, temperature_c=50.0, memory_mb=24e3),
    accuracy=AccuracyFacts(0.5, 1, 2),
    before=ConditionsFacts(governor="x"),
    after=ConditionsFacts(temperature_c=1.0),
    session=SessionFacts("s", 1, 2, (1.0,), 0.1),
    sustained=SustainedFacts(1.0, (1.0,), (1.0,)),
    energy=EnergyFacts("meter", 1.0),
    profile=ProfileFacts("p", 1.0, (OperatorTime(mean_ms=1.0),)),
    tuning=TuningFacts((TuningTrial(median_ms=1.0),)),
    notes=("kept",),
)


def test_what_tells_a_time_is_stripped_and_what_does_not_is_kept() -> None:
    """Whatever field a report gets later must be put on one side or the other here."""
    stripped = strip_times(FULL, "qemu-arm")
    defaults = BenchmarkReport()
    kept = {"schema", "id", "created", "model", "runtime", "accuracy", "run", "variant"}

    for name in {field.name for field in dataclasses.fields(BenchmarkReport)} - {"board", "notes"}:
        expected = FULL if name in kept else defaults
        assert getattr(stripped, name) == getattr(expected, name), name
    assert stripped.board == BoardFacts(cpu="Cortex", cores=4, emulator="qemu-arm")
    assert stripped.notes[0] == "kept"
    assert stripped.notes[1].startswith("emulated by qemu-arm: no latency")
    assert strip_times(stripped, "qemu-arm") == stripped
    assert strip_times(FULL, "") is FULL


def test_a_measured_report_of_an_emulated_processor_has_no_times(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    """Through measure(), however many runs are asked for."""
    from edgekit_device import measure

    monkeypatch.setenv(EMULATOR_VARIABLE, "qemu-arm")
    report = measure(models / "dense.tflite", runs=1000, warmup=100, probe=False)

    assert report.latency == LatencyFacts()
    assert report.memory == MemoryFacts()
    assert report.board.emulator == "qemu-arm"


def test_a_stream_of_an_emulated_processor_tells_no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither frame by frame, nor as a rate or a percentile."""
    monkeypatch.setenv(EMULATOR_VARIABLE, "qemu-arm")
    file = io.BytesIO()
    lines = Lines(file)
    for number in range(3):
        lines(Work(number, {}, number * 1000, {"value": number}, (10,) * len(STAGES)))

    assert all(json.loads(line)["ms"] == {} for line in file.getvalue().splitlines())
    assert lines.fps is None
    assert lines.status(1) == "3 frames, 1 dropped; emulated by qemu-arm: no latency"
    assert all(durations.percentile_ms(50) is None for durations in lines.durations.values())


def test_a_chroot_without_proc_is_told_by_the_process_s_name(exes: Path) -> None:
    """The kernel calls the process by what runs it: qemu-aarch64-static, cut to fifteen characters."""
    code = (
        "import ctypes, sys; from edgekit_device import emulation as e; "
        "e.KERNELS_EXE = ('/none',); ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0); print(e.find_emulator())"
    )
    for name, expected in (("qemu-aarch64-st", "qemu-aarch64"), ("qemu-arm-static", "qemu-arm"), ("python3", "")):
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_a_user_without_a_home_keeps_no_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a bare chroot: no HOME, and no entry in passwd to take its place."""
    monkeypatch.delenv("EDGEKIT_DEVICE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~" / ".edgekit-device").mkdir(parents=True)
    assert device_home() is None
