"""A machine that commands can be run on: what setup, and the transports of distant devices, stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from .transport import Completed

__all__ = ["Connection"]


class Connection(Protocol):
    """One reachable machine. Relative remote paths start at the user's home there.

    Raises DeviceError when the machine cannot be reached, or is lost on the way; never for a command that fails.
    """

    name: str

    def execute(
        self,
        command: Sequence[str],
        *,
        deadline_s: float,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        folder: str = "",
    ) -> Completed:
        """Run ``command`` (no shell reads it) in ``folder``, for at most ``deadline_s`` seconds; it is ended with all its
        children when the time is over, or when the caller is interrupted."""

    def send(self, local: Path, remote: str) -> None:
        """Copy a file there; at ``remote`` it is whole or absent, and an interrupted copy goes on where it stopped."""

    def fetch(self, remote: str, local: Path) -> None:
        """Copy a file from there; at ``local`` it is whole or absent."""

    def close(self) -> None:
        """Let go of the machine; harmless when called twice."""
