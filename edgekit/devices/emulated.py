"""An ARM board that is not there: the device package in an ARM userland of this machine, its processor emulated by qemu.

Outputs, accuracy and messages are those of the architecture; times are not, and are never reported (``emulation``). Userlands
are built by ``scripts/arm-userland``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import edgekit_device
from edgekit_device.emulation import EMULATOR_VARIABLE
from edgekit_device.report import clean_text

from ..errors import DeviceError, UsageError, suggest
from .local import ProcessTransport

__all__ = ["MARKER", "EmulatedTransport", "Userland", "read_userland"]

MARKER = "edgekit-userland.json"
FORMAT = 1
EMULATORS = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}
BUILD = "scripts/arm-userland"
CPU = re.compile(r"[a-z0-9][a-z0-9,=.+-]*", re.ASCII)
OPTIONS = ("cpu", "runtime")
# What this machine's own programs are told, and an ARM program must not be: its libraries, the emulator's defaults.
FOREIGN = ("LD_", "QEMU_")


@dataclass(frozen=True)
class Userland:
    """An ARM system in a folder: what runs its programs, and the packages of each TFLite runtime, the preferred one first."""

    folder: Path
    architecture: str
    cpu: str
    root: Path
    python: Path
    sites: Mapping[str, Path]

    @property
    def emulator(self) -> str:
        """The emulator of its architecture, as reports name it."""
        return EMULATORS[self.architecture]


class EmulatedTransport(ProcessTransport):
    """Starts ``python -m edgekit_device`` of a userland through qemu, with the host's own copy of the device package.

    ``place`` is the userland's folder; behind it, ``?runtime=tflite`` names the runtime that ``auto`` means there, and
    ``?cpu=cortex-a76`` another processor than the userland's. Raises UsageError for a folder that is no userland, or an
    option it does not have; DeviceError when this machine has no qemu.
    """

    advice = "Install it: sudo apt-get install qemu-user-static"

    def __init__(self, place: str | os.PathLike[str], *, name: str = "emulated") -> None:
        folder, _, query = os.fspath(place).partition("?")
        self.name = name
        self.userland = read_userland(folder)
        options = _read_options(query)
        self.cpu = options.get("cpu", self.userland.cpu)
        self.runtime = options.get("runtime", next(iter(self.userland.sites)))
        if self.runtime not in self.userland.sites:
            raise UsageError(
                f"the userland {folder} has no runtime {self.runtime!r}{suggest(self.runtime, tuple(self.userland.sites))}"
            )
        if not CPU.fullmatch(self.cpu):
            raise UsageError(
                f"expected a processor of qemu's as cpu, such as cortex-a72, got {clean_text(self.cpu, 40)!r}"
            )
        self._qemu = _find_emulator(self.emulator)
        super().__init__()
        # A folder with this one package in it: the one that it is in would lend the ARM process the host's packages too.
        self._package = self.folder / ".package"
        self._package.mkdir()
        (self._package / "edgekit_device").symlink_to(Path(edgekit_device.__file__).parent)

    @property
    def emulator(self) -> str:
        """What emulates the processor: its times are thrown away."""
        return self.userland.emulator

    def command(self, arguments: Sequence[str]) -> list[str]:
        """qemu, running the userland's Python, running the device's package."""
        system = ["-cpu", self.cpu, "-L", str(self.userland.root), str(self.userland.python)]
        return [self._qemu, *system, "-m", "edgekit_device", *arguments]

    def environment(self, arguments: Sequence[str]) -> Mapping[str, str]:
        """That of a local device, with the packages of the runtime that ``arguments`` ask for."""
        kept = {name: value for name, value in super().environment(arguments).items() if not name.startswith(FOREIGN)}
        site = self.userland.sites.get(_asked_runtime(arguments), self.userland.sites[self.runtime])
        return {
            **kept,
            "PYTHONPATH": f"{self._package}{os.pathsep}{site}",
            "PYTHONNOUSERSITE": "1",
            EMULATOR_VARIABLE: self.emulator,
        }


def read_userland(folder: str | os.PathLike[str]) -> Userland:
    """The userland in ``folder``, as its marker describes it; raises UsageError when it is none."""
    place = Path(folder).absolute()
    try:
        raw = json.loads((place / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _no_userland(place) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {place / MARKER}: {clean_text(str(error))}. Build it again: {BUILD}") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise UsageError(
            f"{place} was made by another edgekit (expected format {FORMAT} in {MARKER}). Build it again: {BUILD}"
        )
    found = _userland(place, raw)
    if found is None or not all(path.exists() for path in (found.root, found.python, *found.sites.values())):
        raise UsageError(f"the userland in {place} is damaged. Remove it and build it again: {BUILD}")
    return found


def _userland(place: Path, raw: Mapping[str, Any]) -> Userland | None:
    """None for a marker that lacks something, or that points out of its folder."""
    given = raw.get("sites")
    sites: Mapping[str, Any] = given if isinstance(given, dict) else {}
    texts = [raw.get(key) for key in ("arch", "cpu", "root", "python")]
    paths = [*texts[2:], *sites.values()]
    if not sites or not all(isinstance(text, str) and text for text in [*texts, *paths]) or texts[0] not in EMULATORS:
        return None
    if any(Path(text).is_absolute() or ".." in Path(text).parts for text in paths):
        return None
    arch, cpu, root, python = (str(text) for text in texts)
    runtimes = {str(name): place / path for name, path in sites.items()}
    return Userland(place, arch, cpu, place / root, place / python, runtimes)


def _no_userland(place: Path) -> UsageError:
    below = sorted(marker.parent.name for marker in place.glob(f"*/{MARKER}"))
    if below:
        return UsageError(f"{place} holds userlands but is none itself: expected one of {', '.join(below)} in it")
    what = "is no userland of edgekit's" if place.exists() else "is not there"
    return UsageError(f"{place} {what}. Build one: {BUILD} arm64, and name its folder")


def _read_options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in OPTIONS:
            raise UsageError(f"unknown option {clean_text(name, 40)!r} of an emulated device{suggest(name, OPTIONS)}")
    return options


def _find_emulator(emulator: str) -> str:
    found = shutil.which(f"{emulator}-static") or shutil.which(emulator)
    if found is None:
        raise DeviceError(
            f"this machine has no {emulator} to run the userland with. Install it: sudo apt-get install qemu-user-static"
        )
    return found


def _asked_runtime(arguments: Sequence[str]) -> str:
    """What ``--runtime`` names among ``arguments``, or nothing."""
    for number, argument in enumerate(arguments):
        if argument == "--runtime" and number + 1 < len(arguments):
            return arguments[number + 1]
        if argument.startswith("--runtime="):
            return argument.partition("=")[2]
    return ""
