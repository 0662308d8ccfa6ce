"""An emulated processor gives true outputs and meaningless times: what emulates this process, and a report without times."""

from __future__ import annotations

import dataclasses
import os
from typing import Optional

from .report import (
    BenchmarkReport,
    ConditionsFacts,
    EnergyFacts,
    LatencyFacts,
    MemoryFacts,
    ProfileFacts,
    SessionFacts,
    SustainedFacts,
    TuningFacts,
)
from .text import clean_text

__all__ = ["EMULATOR_VARIABLE", "find_emulator", "strip_times"]

EMULATOR_VARIABLE = "EDGEKIT_EMULATOR"
# The program the kernel runs for this process. qemu answers /proc/self/exe with the program it emulates, and passes the
# other names of the same link on to the kernel (seen with 7.2; which ones has changed before, so all are asked).
OWN_EXE = "/proc/self/exe"
KERNELS_EXE = ("/proc/thread-self/exe", "/proc//self/exe", "/proc/self/task/{pid}/exe")
MACHINE_BYTES = slice(18, 20)  # e_machine of an ELF header
ELF = b"\x7fELF"
QEMU = "qemu-"
PR_GET_NAME = 16  # linux/prctl.h


def find_emulator() -> str:
    """What emulates this process's processor, such as ``qemu-aarch64``; empty where nothing does, or nothing tells.

    EDGEKIT_EMULATOR where it is set, else the kernel's word: the program it runs for this process is another than the
    one the process believes to be. That shows qemu's user mode, also in a chroot, and its like. A whole emulated machine
    (``qemu-system-…``) cannot be told from a virtual one.
    """
    named = clean_text(os.environ.get(EMULATOR_VARIABLE, ""), 40)
    return named or _behind(OWN_EXE, [path.format(pid=os.getpid()) for path in KERNELS_EXE])


def strip_times(report: BenchmarkReport, emulator: str) -> BenchmarkReport:
    """``report`` without whatever tells a time, a temperature, an energy or a memory, and a note that says why."""
    if not emulator:
        return report
    board = dataclasses.replace(
        report.board,
        emulator=emulator,
        governor="",
        frequency_mhz=None,
        temperature_c=None,
        throttling="",
        memory_mb=None,
    )
    note = f"emulated by {emulator}: no latency, for an emulator's times say nothing of a board's"
    return dataclasses.replace(
        report,
        board=board,
        latency=LatencyFacts(),
        memory=MemoryFacts(),
        before=ConditionsFacts(),
        after=ConditionsFacts(),
        session=SessionFacts(),
        sustained=SustainedFacts(),
        energy=EnergyFacts(),
        profile=ProfileFacts(),
        tuning=TuningFacts(),
        notes=report.notes if note in report.notes else (*report.notes, note),
    )


def _behind(own: str, kernels: list[str]) -> str:
    believed = _machine(own)
    for path in kernels:
        try:
            program = os.path.basename(os.readlink(path))
        except OSError:
            continue
        machine = _machine(path)
        if program.startswith(QEMU) or (believed and machine and machine != believed):
            return clean_text(program.split("-st")[0], 40) or "unknown"
    return _named_by_prctl()


def _named_by_prctl() -> str:
    """The emulator by the name the kernel gives this process, for a chroot where nobody has mounted /proc."""
    try:
        import ctypes

        name = ctypes.create_string_buffer(16)  # TASK_COMM_LEN; "qemu-aarch64-static" is cut to fit
        ctypes.CDLL(None).prctl(PR_GET_NAME, name, 0, 0, 0)
    except (ImportError, OSError, AttributeError):  # a Python without ctypes, a system without prctl
        return ""
    found = name.value.decode("utf-8", "replace")
    return clean_text(found.split("-st")[0]) if found.startswith(QEMU) else ""


def _machine(path: str) -> Optional[bytes]:
    """The architecture that an executable is for; None for what is no ELF file, or cannot be read."""
    try:
        with open(path, "rb") as file:
            header = file.read(MACHINE_BYTES.stop)
    except OSError:
        return None
    return header[MACHINE_BYTES] if header.startswith(ELF) else None
