"""Edge TPUs as the kernel shows them: on USB under either of their two ids, on PCIe with temperature and trip points.

Read from sysfs below a root, so that any tree can stand for a board. Written from documents and field reports; never run
beside real hardware (docs/coral.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from ..text import clean_text

__all__ = [
    "DFU_ID",
    "READY_ID",
    "EdgeTpu",
    "EdgeTpuConditions",
    "Root",
    "edgetpu_conditions",
    "find_edgetpus",
    "read_text",
]

Root = Union[str, Path]

DFU_ID, READY_ID = "1a6e:089a", "18d1:9302"  # before and after the first use loads its firmware
USB3_MBPS = 5000.0
# A chip that no longer answers reads all ones, which the driver's conversion makes −87.9 to −89.7 °C (edgetpu#843).
DEAD_C = (-89.8, -87.8)
# What each trip point that is reached leaves of 500 MHz (edgetpu#197).
CLOCKS_MHZ = (500.0, 250.0, 125.0, 62.5)


@dataclass(frozen=True)
class EdgeTpu:
    """One Edge TPU. ``kind`` is ``usb`` or ``pci`` and ``index`` its number among its kind, as ``edgetpu:usb:0`` counts.

    ``node`` is the device file it is opened by; ``name`` what the kernel calls it. USB: ``usb_id`` and ``speed_mbps``. PCIe:
    ``temperature_c`` with ``trip_points_c``, ``clock_mhz`` the fastest clock that this temperature leaves, ``dead`` when it
    reads what chips read that no longer answer.
    """

    kind: str
    index: int
    name: str
    node: str
    usb_id: str = ""
    speed_mbps: Optional[float] = None
    temperature_c: Optional[float] = None
    trip_points_c: tuple[float, ...] = ()
    clock_mhz: Optional[float] = None
    dead: bool = False

    @property
    def throttling(self) -> str:
        """What heat does to its clock now; empty where it does not tell."""
        if self.clock_mhz is None:
            return ""
        return "none" if self.clock_mhz == CLOCKS_MHZ[0] else f"clock at most {self.clock_mhz:g} MHz"


@dataclass(frozen=True)
class EdgeTpuConditions:
    """The state of the hottest Edge TPU at one moment, and sentences for a report; None and empty where none tells."""

    temperature_c: Optional[float] = None
    throttling: str = ""
    notes: tuple[str, ...] = ()


def find_edgetpus(root: Root = "/") -> tuple[EdgeTpu, ...]:
    """Every Edge TPU of the machine whose file system is at ``root``: PCIe first, each kind in the kernel's order."""
    base = Path(root)
    return (*_on_pci(base), *_on_usb(base))


def edgetpu_conditions(root: Root = "/") -> EdgeTpuConditions:
    """Temperature, throttling and connection of the Edge TPUs now; empty on a machine without."""
    found = find_edgetpus(root)
    living = [tpu for tpu in found if tpu.temperature_c is not None and not tpu.dead]
    hottest = max(living, key=lambda tpu: tpu.temperature_c or 0.0, default=None)
    notes = tuple(_note(tpu) for tpu in found)
    if hottest is None:
        return EdgeTpuConditions(notes=notes)
    return EdgeTpuConditions(hottest.temperature_c, hottest.throttling, notes)


def read_text(path: Path) -> str:
    """The first line's worth of a small file, cleaned; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return clean_text(file.read(200).decode("utf-8", "replace").replace("\0", ""))
    except OSError:
        return ""


def _note(tpu: EdgeTpu) -> str:
    if tpu.kind == "usb":
        slow = tpu.speed_mbps is not None and tpu.speed_mbps < USB3_MBPS
        speed = "" if tpu.speed_mbps is None else f" at {tpu.speed_mbps:g} Mbit/s"
        return f"Edge TPU usb:{tpu.index}{speed}{', no USB 3: transfers are slower' if slow else ''}"
    if tpu.dead:
        return f"Edge TPU pci:{tpu.index} reads {tpu.temperature_c:g} °C: it no longer answers"
    if tpu.temperature_c is None:
        return f"Edge TPU pci:{tpu.index}, temperature not told"
    return f"Edge TPU pci:{tpu.index} at {tpu.temperature_c:.1f} °C, throttling: {tpu.throttling or 'not told'}"


def _on_pci(base: Path) -> Iterator[EdgeTpu]:
    folder = base / "sys/class/apex"
    for index, entry in enumerate(sorted(_entries(folder, "apex_*"), key=lambda path: (len(path.name), path.name))):
        temperature = _celsius(entry / "temp")
        trips = tuple(
            value
            for number in range(3)
            for value in [
                _celsius(entry / f"trip_point{number}_temp")
                or _celsius(base / f"sys/module/apex/parameters/trip_point{number}_temp")
            ]
            if value is not None
        )
        dead = temperature is not None and DEAD_C[0] <= temperature <= DEAD_C[1]
        clock = None if temperature is None or dead or not trips else CLOCKS_MHZ[sum(temperature >= t for t in trips)]
        node = f"/dev/{entry.name}"
        yield EdgeTpu("pci", index, entry.name, node, "", None, temperature, trips, clock, dead)


def _on_usb(base: Path) -> Iterator[EdgeTpu]:
    index = 0
    for entry in sorted(_entries(base / "sys/bus/usb/devices", "*"), key=lambda path: (len(path.name), path.name)):
        usb_id = f"{read_text(entry / 'idVendor')}:{read_text(entry / 'idProduct')}"
        if usb_id in (DFU_ID, READY_ID):
            bus, device = _number(entry / "busnum"), _number(entry / "devnum")
            node = "" if bus is None or device is None else f"/dev/bus/usb/{int(bus):03d}/{int(device):03d}"
            yield EdgeTpu("usb", index, entry.name, node, usb_id, _number(entry / "speed"))
            index += 1


def _entries(folder: Path, pattern: str) -> list[Path]:
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


def _celsius(path: Path) -> Optional[float]:
    thousandths = _number(path)
    return None if thousandths is None else thousandths / 1e3


def _number(path: Path) -> Optional[float]:
    try:
        number = float(read_text(path))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
