"""Device processes on this machine: in an environment of their own that knows nothing of TensorFlow."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from edgekit_device.home import HOME_VARIABLE

from ..errors import DeviceError, UsageError
from .scratch import ScratchFolder
from .transport import OUTPUT_CAP_BYTES, Completed

__all__ = ["PYTHON_VARIABLE", "LocalTransport", "ProcessTransport", "device_python"]

PYTHON_VARIABLE = "EDGEKIT_DEVICE_PYTHON"
VENV = ".venv-device"
LOOK_EVERY_S = 0.5
HIDDEN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # what would show the host's packages to the device


class ProcessTransport(ScratchFolder):
    """Runs the device command as a process of this machine, in a scratch folder.

    ``command`` is what the arguments of ``edgekit-device`` are put behind; a process that cannot be started is a DeviceError
    that ends with ``advice``.
    """

    name: str
    advice: str

    def command(self, arguments: Sequence[str]) -> list[str]:
        """What to start for ``arguments`` of ``edgekit-device``."""
        raise NotImplementedError

    def environment(self, arguments: Sequence[str]) -> Mapping[str, str]:
        """The process's environment: without the host's packages, and keeping no state, for this machine is no board."""
        kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
        return {**kept, HOME_VARIABLE: ""}

    def run(self, arguments: Sequence[str], *, deadline_s: float) -> Completed:
        """Run the device command; at the deadline, or when interrupted, its whole process group is ended."""
        command = self.command(arguments)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=self.folder,
                    env=self.environment(arguments),
                    start_new_session=True,
                )
            except OSError as error:
                raise DeviceError(
                    f"cannot start the device process {command[0]}: {error.strerror or error}. {self.advice}"
                ) from error
            try:
                why = _wait(process, (out, err), deadline_s)
            finally:
                _end(process)
            return Completed(
                process.returncode, _read(out), _read(err), timed_out=why == "deadline", flooded=why == "flood"
            )


class LocalTransport(ProcessTransport):
    """Starts ``python -m edgekit_device`` from the device environment."""

    name = "local"
    advice = f"Build it with scripts/install, or set {PYTHON_VARIABLE} to a Python that has edgekit-device"

    def __init__(self, python: str | None = None) -> None:
        self.python = python or device_python()
        super().__init__()

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The device's Python, running the device's package."""
        return [self.python, "-m", "edgekit_device", *arguments]


def device_python() -> str:
    """The Python of the device environment: EDGEKIT_DEVICE_PYTHON, a ``.venv-device`` beside the host's or here, or
    the host's own. Raises UsageError when the one that is named cannot be run."""
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise UsageError(f"{PYTHON_VARIABLE} names {named!r}, which cannot be run: set it to a Python interpreter")
        return os.path.abspath(found)
    # No folder further up: a .venv-device in a place others can write to would be run.
    for folder in (Path(sys.prefix).parent, Path.cwd()):
        candidate = folder / VENV / "bin" / "python"
        if candidate.is_file():
            return str(candidate)
    return sys.executable


def _wait(process: subprocess.Popen[bytes], outputs: Sequence[IO[bytes]], deadline_s: float) -> str:
    """Empty when the process ended by itself; else why it must be ended: ``deadline`` or ``flood``."""
    until = time.monotonic() + deadline_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.0, min(LOOK_EVERY_S, until - time.monotonic())))
            return ""
        if any(os.fstat(file.fileno()).st_size > OUTPUT_CAP_BYTES for file in outputs):
            return "flood"
        if time.monotonic() >= until:
            return "deadline"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group, also what a leader that died has left behind in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(OUTPUT_CAP_BYTES).decode("utf-8", "replace")
