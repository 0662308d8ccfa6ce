"""Heat, frequency and throttling, as /sys and the Raspberry Pi's firmware tell them."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from .text import clean_text

__all__ = [
    "ask_firmware",
    "cpu_temperature",
    "frequencies",
    "governor",
    "read_number",
    "read_text",
    "throttle_names",
    "throttling",
]

# Bits of the Raspberry Pi firmware's get_throttled word, now; 16 higher, since boot
# (raspberrypi.com/documentation/computers/os.html#get_throttled).
THROTTLE_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
SINCE_BOOT = 16
FIRMWARE_WORDS = ("soc/soc:firmware/get_throttled", "soc*/*firmware/get_throttled", "axi/*firmware/get_throttled")
# How kernels name the zone of the processor, the surest first.
CPU_ZONES = ("x86_pkg_temp", "cpu", "soc", "pkg", "core", "bigcore", "acpitz")
PLAUSIBLE_C = (-50.0, 200.0)  # a zone that is switched off reports -274
ANSWER_WITHIN_S = 2.0


def cpu_temperature(base: Path) -> Optional[float]:
    """Degrees Celsius of the processor: the hottest thermal zone named like one, else the first zone there is."""
    zones = [(read_text(zone / "type").lower(), zone) for zone in _numbered(base / "sys/class/thermal", "thermal_zone")]
    for name in CPU_ZONES:
        found = [value for kind, zone in zones if name in kind for value in _degrees(zone)]
        if found:
            return max(found)
    return next((value for _, zone in zones for value in _degrees(zone)), None)


def frequencies(base: Path) -> tuple[Optional[float], Optional[float]]:
    """The mean over the cores now, and the highest they may run at, in MHz."""
    policies = [core / "cpufreq" for core in _numbered(base / "sys/devices/system/cpu", "cpu")]
    now = [value / 1e3 for policy in policies for value in _positive(policy / "scaling_cur_freq")]
    most = [
        max(values) / 1e3
        for policy in policies
        for values in [[*_positive(policy / "scaling_max_freq"), *_positive(policy / "cpuinfo_max_freq")][:1]]
        if values
    ]
    return (sum(now) / len(now) if now else None), max(most, default=None)


def governor(base: Path) -> str:
    """The cores' frequency governor; several where they differ."""
    cores = _numbered(base / "sys/devices/system/cpu", "cpu")
    names = {read_text(core / "cpufreq/scaling_governor") for core in cores} - {""}
    return ", ".join(sorted(names))


def throttling(base: Path) -> tuple[str, str]:
    """What slows the processor now, and what did since boot; ``none`` for nothing, empty where nobody tells.

    A Raspberry Pi's firmware is asked through sysfs, else with ``vcgencmd``; on a PC the kernel counts thermal throttling.
    """
    bits = _firmware_bits(base)
    if bits is not None:
        return throttle_names(bits)
    cores = _numbered(base / "sys/devices/system/cpu", "cpu")
    counts = [read_number(core / "thermal_throttle/core_throttle_count") for core in cores]
    told = [int(count) for count in counts if count is not None]
    return "", "" if not told else f"throttled by heat {sum(told)} times" if sum(told) else "none"


def throttle_names(bits: int) -> tuple[str, str]:
    """What a firmware's get_throttled word says of now and of the time since boot; ``none`` for nothing."""
    return _names(bits), _names(bits >> SINCE_BOOT)


def ask_firmware(base: Path, *question: str) -> str:
    """The answer of ``vcgencmd`` on a Raspberry Pi; empty where it is missing or silent.

    It is asked only of the board this process runs on, never of a made-up tree.
    """
    command = shutil.which("vcgencmd") if base == Path("/") else None
    if command is None:
        return ""
    try:
        done = subprocess.run(
            [command, *question], capture_output=True, text=True, errors="replace", timeout=ANSWER_WITHIN_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def read_text(path: Path, cap: int = 200, lines: bool = False) -> str:
    """The first ``cap`` bytes of a file: cleaned, or with its ``lines``; empty where there is none."""
    try:
        with path.open("rb") as file:
            text = file.read(cap).decode("utf-8", "replace").replace("\0", "")
    except (OSError, ValueError):
        return ""
    return text if lines else clean_text(text)


def read_number(path: Path) -> Optional[float]:
    """The finite number that a file holds, or None."""
    try:
        number = float(read_text(path))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _firmware_bits(base: Path) -> Optional[int]:
    platform = base / "sys/devices/platform"
    nodes = (node for pattern in FIRMWARE_WORDS for node in sorted(platform.glob(pattern)))
    words = (read_text(node) for node in nodes)
    told = next((word for word in words if word), "") or ask_firmware(base, "get_throttled").strip()
    name, _, word = told.rpartition("=")
    try:
        return int(word, 16) if name in ("", "throttled") else None
    except ValueError:
        return None


def _names(bits: int) -> str:
    return ", ".join(name for bit, name in THROTTLE_BITS.items() if bits >> bit & 1) or "none"


def _numbered(folder: Path, prefix: str) -> list[Path]:
    """``prefix0``, ``prefix1``, … of a folder, in the order of their numbers."""
    try:
        found = [path for path in folder.iterdir() if path.name.startswith(prefix)]
    except OSError:
        return []
    numbered = [(path.name[len(prefix) :], path) for path in found]
    return [path for number, path in sorted(numbered, key=lambda item: item[0].zfill(6)) if number.isdecimal()]


def _degrees(zone: Path) -> Iterator[float]:
    value = read_number(zone / "temp")
    if value is not None and PLAUSIBLE_C[0] < value / 1e3 < PLAUSIBLE_C[1]:
        yield value / 1e3


def _positive(path: Path) -> Iterator[float]:
    value = read_number(path)
    if value is not None and value > 0:
        yield value
