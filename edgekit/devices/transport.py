"""The seam between host and device: files over, a command run, files back. One implementation per file beside this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["OUTPUT_CAP_BYTES", "USAGE_EXIT", "Completed", "Transport"]

OUTPUT_CAP_BYTES = 32 * 1024 * 1024
USAGE_EXIT = 2  # edgekit-device refuses what it was given


@dataclass(frozen=True)
class Completed:
    """How a device command ended: ``exit_code`` is negative for a signal.

    ``timed_out`` when it was ended at the deadline, ``flooded`` when it was ended for printing more than
    OUTPUT_CAP_BYTES. ``stdout`` and ``stderr`` are decoded text of at most that many bytes each.
    """

    exit_code: int
    stdout: str = ""
    stderr: str = ""
    timed_out: bool = False
    flooded: bool = False


class Transport(Protocol):
    """A way to reach one device. Raises DeviceError when it cannot be reached; never for a command that fails."""

    name: str

    def put(self, local: Path, name: str) -> str:
        """Copy a file to the device under ``name``; returns the path there."""

    def run(self, arguments: Sequence[str], *, deadline_s: float) -> Completed:
        """Run ``edgekit-device`` with ``arguments`` there, and wait for at most ``deadline_s`` seconds."""

    def get(self, remote: str, local: Path) -> None:
        """Copy a file of the device's work space to ``local``."""

    def close(self) -> None:
        """Leave nothing behind on the device; harmless when called twice."""
