"""The Pythons of a board: found in one round trip, judged here, and one chosen that wheels are to be had for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from edgekit_device.text import clean_text

from ..errors import DeviceError
from .connection import Connection
from .wheel_sets import WheelSet, choose_wheels
from .wheel_tags import Target

__all__ = ["CPU_TOO_OLD", "BoardPython", "Machine", "choose_python", "find_pythons", "parse_pythons"]

CANDIDATES = ("python3", *(f"python3.{minor}" for minor in range(14, 8, -1)))
DEADLINE_S = 60.0
LINES_CAP = 200
LINE_CAP = 4000
INSTALL_PYTHON = "Install it there: sudo apt-get install python3"
CPU_TOO_OLD = "Its processor lacks instructions the wheels were built with"
SAME_MACHINE = {"arm64": "aarch64", "amd64": "x86_64", "armv8l": "armv7l"}


@dataclass(frozen=True)
class BoardPython:
    """One Python of a board as it describes itself. ``bits`` are those of the process, which may be 32 on a 64-bit kernel;
    ``musl`` and ``soft_float`` come from how it was built; ``numpy`` is the version it can import, or empty."""

    executable: str
    version: tuple[int, int, int] = (0, 0, 0)
    implementation: str = ""
    machine: str = ""
    bits: int = 0
    glibc: tuple[int, int] | None = None
    musl: bool = False
    soft_float: bool = False
    free_threaded: bool = False
    venv: bool = False
    numpy: str = ""

    @property
    def architecture(self) -> str:
        """The architecture of its userland as wheels call it."""
        machine = SAME_MACHINE.get(self.machine, self.machine)
        if machine == "aarch64" and self.bits == 32:
            return "armv7l"
        if machine == "x86_64" and self.bits == 32:
            return "i686"
        return machine

    @property
    def target(self) -> Target:
        """What wheels it needs."""
        return Target(self.version[:2], self.architecture, self.glibc or (0, 0))

    def check(self) -> None:
        """Raises DeviceError naming why no wheels are to be had for it, whatever the runtime."""
        version = ".".join(str(part) for part in self.version)
        if self.version < (3, 9):
            raise DeviceError(f"{self.executable} is Python {version}, expected 3.9 or newer. {_other_python()}")
        if self.implementation != "cpython" or self.free_threaded:
            kind = "a free-threaded build" if self.free_threaded else self.implementation or "not CPython"
            raise DeviceError(
                f"{self.executable} is {kind}, and the runtimes have wheels for plain CPython. {_other_python()}"
            )
        if self.musl:
            raise DeviceError(
                f"{self.executable} uses musl (Alpine Linux), and the TFLite runtimes have wheels for glibc alone. Use a "
                "Debian, Ubuntu or Raspberry Pi OS userland, a container of one for instance"
            )
        _check_architecture(self)
        if self.glibc is None:
            raise DeviceError(
                f"{self.executable} does not say which glibc it uses: expected one, as on Debian or Ubuntu"
            )
        if not self.venv:
            raise DeviceError(
                f"{self.executable} has no venv module. Install it there: "
                f"sudo apt-get install python{self.version[0]}.{self.version[1]}-venv"
            )


@dataclass(frozen=True)
class Machine:
    """What a board answered: its Pythons in order of preference, and its system (``Linux armv7l``)."""

    pythons: tuple[BoardPython, ...]
    system: str = ""


def find_pythons(connection: Connection, python: str | None = None) -> Machine:
    """Ask the board, in one round trip, for every Python it has, or for ``python`` alone.

    Raises DeviceError when there is none, or the board is no Linux.
    """
    script = resources.files(__package__).joinpath("find_pythons.sh").read_text(encoding="utf-8")
    names = (python,) if python else CANDIDATES
    done = connection.execute(["sh", "-c", script, "sh", *names], deadline_s=DEADLINE_S)
    machine = parse_pythons(done.stdout)
    if done.timed_out:
        raise DeviceError(f"{connection.name} did not say which Python it has within {DEADLINE_S:g} s: look after it")
    if machine.system and not machine.system.startswith("Linux"):
        raise DeviceError(f"{connection.name} runs {machine.system}, expected Linux")
    if machine.pythons:
        return machine
    if not machine.system:
        said = clean_text(done.stderr or done.stdout) or "nothing"
        raise DeviceError(
            f"{connection.name} does not run POSIX shell commands; it answered: {said}", output=done.stderr
        )
    if python:
        raise DeviceError(f"{connection.name} has no Python at {clean_text(python)}: name another one with --python")
    raise DeviceError(f"{connection.name} has no Python: looked for {', '.join(CANDIDATES)}. {INSTALL_PYTHON}")


def parse_pythons(text: str) -> Machine:
    """What the board printed, as hostile text: lines without our mark, doubles and rubbish are passed over."""
    pythons: dict[str, BoardPython] = {}
    system = ""
    for line in text.splitlines()[:LINES_CAP]:
        mark, _, rest = line.partition(" ")
        if mark == "edgekit-board":
            system = clean_text(rest, 80)
        elif mark == "edgekit-python" and len(rest) <= LINE_CAP:
            python = _parse(rest)
            if python is not None:
                pythons.setdefault(python.executable, python)
    return Machine(tuple(pythons.values()), system)


def choose_python(machine: Machine, runtime: str = "auto") -> tuple[BoardPython, WheelSet]:
    """The first Python that wheels of ``runtime`` are to be had for, and these. Raises the error of the first Python."""
    first: DeviceError | None = None
    for python in machine.pythons:
        try:
            python.check()
            return python, choose_wheels(python.target, runtime)
        except DeviceError as error:
            first = first or error
    raise first or DeviceError(f"no Python was found. {INSTALL_PYTHON}")


def _check_architecture(python: BoardPython) -> None:
    architecture = python.architecture
    if architecture == "armv6l":
        raise DeviceError(
            "this is an armv6l (Raspberry Pi 1 or Zero), and the TFLite runtimes need armv7 with NEON. Use a Raspberry Pi "
            "Zero 2 W, or 2 and newer"
        )
    if python.soft_float:
        raise DeviceError(
            "this is a soft-float ARM userland (armel), and wheels need hard float. Use an armhf or arm64 system"
        )
    if architecture not in ("aarch64", "armv7l", "x86_64"):
        raise DeviceError(
            f"unknown architecture {architecture or 'not said'} ({python.bits} bits): the TFLite runtimes have wheels for "
            "aarch64, armv7l and x86_64"
        )


def _parse(text: str) -> BoardPython | None:
    """One line's JSON as a BoardPython; None when it is not what the script prints."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict):
        return None
    executable = clean_text(facts.get("executable"), 1000)
    if not executable.startswith("/") or executable != facts.get("executable"):
        return None
    said = facts.get("build")
    build: Mapping[str, Any] = said if isinstance(said, dict) else {}
    triplets = " ".join(clean_text(build.get(name)) for name in ("SOABI", "HOST_GNU_TYPE", "MULTIARCH"))
    return BoardPython(
        executable=executable,
        version=_version(facts.get("version")),
        implementation=clean_text(facts.get("implementation"), 40),
        machine=clean_text(facts.get("machine"), 40),
        bits=_number(facts, "bits"),
        glibc=_glibc(clean_text(facts.get("libc"), 40)),
        musl="musl" in triplets,
        soft_float=triplets.endswith("gnueabi") or "gnueabi " in triplets,
        free_threaded=build.get("Py_GIL_DISABLED") == "1",
        venv=facts.get("venv") is True,
        numpy=clean_text(facts.get("numpy"), 40),
    )


def _number(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1024 else 0


def _version(value: object) -> tuple[int, int, int]:
    parts = value if isinstance(value, list) and len(value) == 3 else [0, 0, 0]
    if not all(isinstance(part, int) and not isinstance(part, bool) and 0 <= part < 1000 for part in parts):
        return (0, 0, 0)
    return (parts[0], parts[1], parts[2])


def _glibc(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"glibc (\d{1,3})\.(\d{1,3})(\.\d+)?", text)
    return (int(match[1]), int(match[2])) if match else None


def _other_python() -> str:
    return "Install a newer system, or name another Python of the board with --python"
