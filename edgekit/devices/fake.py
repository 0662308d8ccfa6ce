"""A transport without a device, for the tests of whoever builds on edgekit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import DeviceError
from .transport import Completed

__all__ = ["FakeTransport"]

Answer = Callable[[Sequence[str], Path], Completed]


class FakeTransport:
    """Keeps files in a scratch folder and answers every command with ``answer(arguments, folder)``."""

    name = "fake"

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._work = Path(tempfile.mkdtemp(prefix="edgekit-fake-"))
        self.commands: list[tuple[str, ...]] = []

    def put(self, local: Path, name: str) -> str:
        """Copy ``local`` into the scratch folder."""
        target = self._work / Path(name).name
        try:
            shutil.copyfile(local, target)
        except OSError as error:
            raise DeviceError(f"cannot copy {local}: {error.strerror or error}") from error
        return str(target)

    def run(self, arguments: Sequence[str], *, deadline_s: float) -> Completed:
        """Remember the command and return the answer."""
        self.commands.append(tuple(arguments))
        return self._answer(arguments, self._work)

    def get(self, remote: str, local: Path) -> None:
        """Copy a file of the scratch folder to ``local``."""
        try:
            shutil.copyfile(self._work / Path(remote).name, local)
        except OSError as error:
            raise DeviceError(f"the device did not write {Path(remote).name}: {error.strerror or error}") from error

    def close(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self._work, ignore_errors=True)
