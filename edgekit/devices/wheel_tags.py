"""Names of wheels: which project, which version, and whether a board can use it (the binary distribution format, PEP 427,
425 and 600)."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Target", "WheelName", "normalized", "parse_wheel_name"]

LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
PLATFORM = re.compile(r"(manylinux1|manylinux2010|manylinux2014|manylinux_(\d{1,3})_(\d{1,3})|linux)_(\w+)")


@dataclass(frozen=True)
class Target:
    """What wheels are wanted for: CPython ``python`` (3, minor) on ``architecture`` with glibc ``glibc``."""

    python: tuple[int, int]
    architecture: str
    glibc: tuple[int, int]

    @property
    def tag(self) -> str:
        """As wheels call it: ``cp311``."""
        return f"cp{self.python[0]}{self.python[1]}"

    def __str__(self) -> str:
        return f"Python {self.python[0]}.{self.python[1]} on {self.architecture} with glibc {self.glibc[0]}.{self.glibc[1]}"


@dataclass(frozen=True)
class WheelName:
    """The parts of a wheel's file name; ``project`` normalized, tags as they are written (``cp310.cp311``)."""

    project: str
    version: str
    python_tag: str
    abi_tag: str
    platform_tag: str

    def fits(self, target: Target) -> bool:
        """Whether a board like ``target`` can use it."""
        platforms = any(_platform_fits(platform, target) for platform in self.platform_tag.split("."))
        return platforms and any(
            _python_fits(python, abi, target)
            for python in self.python_tag.split(".")
            for abi in self.abi_tag.split(".")
        )


def parse_wheel_name(name: str) -> WheelName | None:
    """The parts of ``name``, or None when it is no wheel's file name."""
    parts = name.removesuffix(".whl").split("-")
    if not name.endswith(".whl") or len(parts) not in (5, 6) or not all(parts):
        return None
    return WheelName(normalized(parts[0]), parts[1], *parts[-3:])


def normalized(project: str) -> str:
    """A project's name as indexes compare it: ``ai-edge-litert`` for ``AI_Edge.LiteRT`` (PEP 503)."""
    return re.sub(r"[-_.]+", "-", project).lower()


def _python_fits(python: str, abi: str, target: Target) -> bool:
    if abi == "none":
        return python in ("py3", f"py3{target.python[1]}", target.tag)
    if abi == "abi3":
        version = re.fullmatch(r"cp3(\d{1,2})", python)
        return version is not None and int(version[1]) <= target.python[1]
    return python == target.tag and abi == target.tag


def _platform_fits(platform: str, target: Target) -> bool:
    if platform == "any":
        return True
    match = PLATFORM.fullmatch(platform)
    if match is None or match[4] != target.architecture:
        return False
    if match[1] == "linux":  # built on such a board, piwheels for one: what it needs is not said
        return True
    needed = LEGACY.get(match[1]) or (int(match[2]), int(match[3]))
    return needed <= target.glibc
