"""What a setup is to put on a board: worked out on the host, from what the board is and what it has."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import DeviceError
from ..progress import Progress
from ..store import file_sha256, now
from .device_wheel import device_version
from .pythons import BoardPython
from .remote import holder
from .setup_record import SetupRecord
from .wheel_sets import WheelSet
from .wheel_tags import Target, normalized, parse_wheel_name
from .wheels import NUMPY_FROM_BOARD, fetch_wheels, own_numpy, release_of

__all__ = ["Plan", "Wanted", "check_own_numpy", "make_plan"]


@dataclass(frozen=True)
class Wanted:
    """What is asked for: ``wheel_set`` and the host's ``own`` wheel under ``python``, wheels from ``folder`` if it is named.

    ``asked_runtime`` and ``asked_python`` are what the user named, empty where nothing was.
    """

    python: BoardPython
    wheel_set: WheelSet
    own: Path
    folder: Path | None = None
    asked_runtime: str = ""
    asked_python: str = ""

    @property
    def target(self) -> Target:
        """What the wheels are for."""
        return self.python.target


@dataclass(frozen=True)
class Plan:
    """What is to be on the board: ``record`` of it, and where the wheels it names are on this host, as far as they are."""

    record: SetupRecord
    runtimes: tuple[str, ...]
    files: Mapping[str, Path]

    def is_done(self, current: SetupRecord | None) -> bool:
        """Whether ``current`` is what is planned."""
        if current is None or current.key != self.record.key:
            return False
        asked = current.asked_runtime, current.asked_python
        return asked == (self.record.asked_runtime, self.record.asked_python)

    def sent_bytes(self, names: set[str]) -> int:
        """How large the wheels ``names`` are."""
        return sum(path.stat().st_size for name, path in self.files.items() if name in names)

    def unpacked_bytes(self, names: set[str]) -> int:
        """How large what is in the wheels ``names`` is."""
        total = 0
        for path in (path for name, path in self.files.items() if name in names):
            with zipfile.ZipFile(path) as archive:
                total += sum(entry.file_size for entry in archive.infolist())
        return total


def make_plan(wanted: Wanted, current: SetupRecord | None, shown: Progress) -> Plan:
    """What to install; wheels that the board's ``current`` environment was made of are not fetched again, unless a folder
    of wheels is named."""
    target = wanted.target
    there = {} if wanted.folder else _wheels_of(current, wanted.wheel_set, target)
    lacking = [item for item in wanted.wheel_set.pinned(target) if item not in there]
    if lacking:
        shown.step(f"getting {len(lacking)} wheels for {target}")
    files = [wanted.own, *fetch_wheels(wanted.wheel_set, target, wanted.folder, lacking)]
    hashes = dict(there.values()) | {path.name: file_sha256(path) for path in files}
    return Plan(_record(wanted, hashes), wanted.wheel_set.runtimes, {path.name: path for path in files})


def check_own_numpy(name: str, python: BoardPython, wheel_set: WheelSet, folder: Path | None) -> None:
    """Raises DeviceError where PyPI has no numpy for the board, ``folder`` holds none, and its own is not there or of the
    wrong age."""
    if not wheel_set.from_board(python.target) or own_numpy(folder, python.target):
        return
    low, high = NUMPY_FROM_BOARD
    if not python.numpy or not low <= release_of(python.numpy) < high:
        has = f"has numpy {python.numpy}" if python.numpy else "has no numpy"
        raise DeviceError(
            f"{python.executable} on {name} {has}, expected {low[0]}.{low[1]} or newer and below {high[0]}: PyPI has no wheels "
            f"of it for {python.architecture}. Install the board's own: sudo apt-get install python3-numpy; or put a wheel of "
            "numpy (piwheels has some) into a folder and name it with --wheels"
        )


def _record(wanted: Wanted, hashes: Mapping[str, str]) -> SetupRecord:
    python = wanted.python
    version = ".".join(str(part) for part in python.version)
    system_packages = not any(name.startswith("numpy-") for name in hashes)
    return SetupRecord(
        home="",
        edgekit_device=device_version(),
        python=python.executable,
        python_version=version,
        architecture=python.architecture,
        libc=f"glibc {wanted.target.glibc[0]}.{wanted.target.glibc[1]}",
        wheels=hashes,
        system_packages=system_packages,
        key=SetupRecord.key_of(python.executable, version, hashes, system_packages),
        created=now(),
        created_by=holder(),
        asked_runtime=wanted.asked_runtime,
        asked_python=wanted.asked_python,
    )


def _wheels_of(current: SetupRecord | None, wheel_set: WheelSet, target: Target) -> dict[str, tuple[str, str]]:
    """Pinned requirements with the wheel (name, SHA-256) the board's environment was made of."""
    found = {}
    for requirement in wheel_set.pinned(target) if current else ():
        project, _, version = requirement.partition("==")
        for name, sha256 in (current.wheels if current else {}).items():
            parsed = parse_wheel_name(name)
            if parsed and (parsed.project, parsed.version) == (normalized(project), version) and parsed.fits(target):
                found[requirement] = (name, sha256)
    return found
