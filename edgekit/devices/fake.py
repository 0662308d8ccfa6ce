"""A transport without a device, for the tests of whoever builds on edgekit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .scratch import ScratchFolder
from .transport import Completed

__all__ = ["FakeTransport"]

Answer = Callable[[Sequence[str], Path], Completed]


class FakeTransport(ScratchFolder):
    """Keeps files in a scratch folder and answers every command with ``answer(arguments, folder)``."""

    name = "fake"

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer
        self.commands: list[tuple[str, ...]] = []

    def run(self, arguments: Sequence[str], *, deadline_s: float) -> Completed:
        """Remember the command and return the answer."""
        self.commands.append(tuple(arguments))
        return self._answer(arguments, self.folder)
