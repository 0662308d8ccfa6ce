"""A device process on this machine, in an environment of its own that knows nothing of TensorFlow."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ..errors import DeviceError, UsageError
from .transport import OUTPUT_CAP_BYTES, Completed

__all__ = ["PYTHON_VARIABLE", "LocalTransport", "device_python"]

PYTHON_VARIABLE = "EDGEKIT_DEVICE_PYTHON"
VENV = ".venv-device"


class LocalTransport:
    """Starts ``python -m edgekit_device`` from the device environment, in a scratch folder."""

    name = "local"

    def __init__(self, python: str | None = None) -> None:
        self.python = python or device_python()
        self._work = Path(tempfile.mkdtemp(prefix="edgekit-device-"))

    def put(self, local: Path, name: str) -> str:
        """Copy ``local`` into the scratch folder."""
        target = self._work / Path(name).name
        try:
            shutil.copyfile(local, target)
        except OSError as error:
            raise DeviceError(f"cannot copy {local} to the device's work space: {error.strerror or error}") from error
        return str(target)

    def get(self, remote: str, local: Path) -> None:
        """Copy a file of the scratch folder to ``local``."""
        try:
            shutil.copyfile(self._work / Path(remote).name, local)
        except OSError as error:
            raise DeviceError(f"the device did not write {Path(remote).name}: {error.strerror or error}") from error

    def run(self, arguments: Sequence[str], *, deadline_s: float) -> Completed:
        """Run the device command; at the deadline, or when interrupted, its whole process group is ended."""
        command = [self.python, "-m", "edgekit_device", *arguments]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=self._work,
                    env=_clean_environment(),
                    start_new_session=True,
                )
            except OSError as error:
                raise DeviceError(
                    f"cannot start the device process {self.python}: {error.strerror or error}. Build it with "
                    f"scripts/install, or set {PYTHON_VARIABLE} to a Python that has edgekit-device"
                ) from error
            timed_out = False
            try:
                process.wait(timeout=deadline_s)
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:
                _end(process)
            return Completed(process.returncode, _read(out), _read(err), timed_out)

    def close(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self._work, ignore_errors=True)


def device_python() -> str:
    """The Python of the device environment: EDGEKIT_DEVICE_PYTHON, the nearest ``.venv-device``, or this very one."""
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        if shutil.which(named) is None:
            raise UsageError(f"{PYTHON_VARIABLE} names {named!r}, which cannot be run: set it to a Python interpreter")
        return named
    beside_host = Path(sys.prefix).parent
    for folder in (Path.cwd(), *Path.cwd().parents, beside_host):
        candidate = folder / VENV / "bin" / "python"
        if candidate.is_file():
            return str(candidate)
    return sys.executable


def _clean_environment() -> dict[str, str]:
    """The environment without what would show the host's packages to the device."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(OUTPUT_CAP_BYTES).decode("utf-8", "replace")
