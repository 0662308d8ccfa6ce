"""What board is this? Read from /proc and /sys; a fact that is not there stays absent."""

from __future__ import annotations

import hashlib
import hmac
import os
import platform
import sys
from pathlib import Path
from typing import Optional, Union

from .emulation import find_emulator
from .report import BoardFacts
from .sensors import cpu_temperature, read_number, read_text, throttling
from .text import clean_text

__all__ = ["board_id", "peak_rss_mb", "read_board"]

MACHINE_IDS = ("etc/machine-id", "var/lib/dbus/machine-id")
ID_PURPOSE = b"edgekit-device board"
ID_DIGITS = 32


def read_board(root: Union[str, Path] = "/") -> BoardFacts:
    """Facts of the board whose file system is at ``root``."""
    base = Path(root)
    cpufreq = base / "sys/devices/system/cpu/cpu0/cpufreq"
    frequency_khz = read_number(cpufreq / "scaling_cur_freq")
    return BoardFacts(
        model=read_text(base / "proc/device-tree/model") or read_text(base / "sys/class/dmi/id/product_name"),
        cpu=_cpu_name(base),
        architecture=platform.machine(),
        cores=os.cpu_count() or 0,
        governor=read_text(cpufreq / "scaling_governor"),
        frequency_mhz=None if frequency_khz is None else frequency_khz / 1e3,
        temperature_c=cpu_temperature(base),
        throttling=throttling(base)[0],
        memory_mb=_memory_mb(base),
        system=clean_text(f"{platform.system()} {platform.release()}"),
        python=platform.python_version(),
        numpy=_numpy_version(),
        id=board_id(base),
        emulator=find_emulator(),
    )


def board_id(root: Union[str, Path] = "/") -> str:
    """A number that is this system's own, and no other's; empty where the system has none.

    It is a keyed hash of the machine id, which is confidential and must not leave the board as it is (man 5 machine-id).
    """
    told = (read_text(Path(root) / name).lower() for name in MACHINE_IDS)
    for text in told:
        if len(text) == ID_DIGITS and all(digit in "0123456789abcdef" for digit in text):
            return hmac.new(bytes.fromhex(text), ID_PURPOSE, hashlib.sha256).hexdigest()[:ID_DIGITS]
    return ""


def peak_rss_mb(status: str = "/proc/self/status") -> Optional[float]:
    """The largest resident set of this process so far, in mebibytes; None where the system does not tell.

    Linux carries ``ru_maxrss`` over fork and exec, so that a small process started by a large one would report the
    large one's peak: ``VmHWM`` belongs to this process alone, and is asked first.
    """
    for line in read_text(Path(status), cap=10_000, lines=True).splitlines():
        key, _, value = line.partition(":")
        if key == "VmHWM" and value.split()[:1] and value.split()[0].isdecimal():
            return int(value.split()[0]) / 1024
    if sys.platform.startswith("linux"):
        return None
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _cpu_name(base: Path) -> str:
    wanted = ("model name", "Model", "Hardware")
    found: dict[str, str] = {}
    for line in read_text(base / "proc/cpuinfo", cap=100_000, lines=True).splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), clean_text(value))
    return next((found[key] for key in wanted if found.get(key)), "")


def _memory_mb(base: Path) -> Optional[float]:
    for line in read_text(base / "proc/meminfo", cap=10_000, lines=True).splitlines():
        if line.startswith("MemTotal:"):
            digits = "".join(character for character in line if character.isdecimal())
            return int(digits) / 1024 if digits else None
    return None


def _numpy_version() -> str:
    import numpy

    return str(numpy.__version__)
