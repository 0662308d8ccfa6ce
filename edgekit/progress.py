"""What long work says while it runs; the command line shows it, everything else may ignore it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Told of steps and of how far each is."""

    def step(self, text: str) -> None:
        """A step begins."""

    def update(self, done: int, total: int, text: str = "") -> None:
        """The current step is at ``done`` of ``total``."""

    def note(self, text: str) -> None:
        """Something worth reading happened: a result, or a result kept from before."""


class Silent:
    """Shows nothing."""

    def step(self, text: str) -> None:
        """Ignore it."""

    def update(self, done: int, total: int, text: str = "") -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""
