"""Vela in a process of its own: found, given a deadline, its output capped, and ended with its children."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from ...errors import MissingPackageError, TargetError
from ...reason import short

__all__ = ["Finished", "Vela", "configurations", "find_vela", "run_vela", "unreadable"]

PACKAGE = "ethos-u-vela"
INSTALL = "vela, Arm's compiler for Ethos-U, is not installed: pip install 'edgekit[ethos-u]'"
SHIPPED = "Arm/vela.ini"
LOG_CAP = 2 * 2**20
LISTING_DEADLINE_S = 60.0
_ERROR = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception)): (.*)$", re.M)
# Vela's own names for input it does not take, and what its C++ core throws on a model that it cannot compile.
_REFUSALS = frozenset(
    {"CliOptionError", "ConfigOptionError", "InputFileError", "RuntimeError", "UnsupportedFeatureError"}
)


@dataclass(frozen=True)
class Vela:
    """How to start vela, and its version as it states it."""

    command: tuple[str, ...]
    version: str

    @property
    def title(self) -> str:
        """What reports call it."""
        return f"{PACKAGE} {self.version}"


@dataclass(frozen=True)
class Finished:
    """A run that ended well: what was printed (capped) and how long it took."""

    log: str
    seconds: float


def find_vela() -> Vela:
    """The vela of this Python, or else the one on PATH. Raises MissingPackageError when there is neither."""
    with contextlib.suppress(metadata.PackageNotFoundError, ImportError):
        version = metadata.version(PACKAGE)
        if importlib.util.find_spec("ethosu.vela") is not None:
            return Vela((sys.executable, "-m", "ethosu.vela"), version)
    found = shutil.which("vela")
    if found is None:
        raise MissingPackageError(INSTALL)
    printed = run_vela(Vela((found,), "of unknown version"), ["--version"], deadline_s=LISTING_DEADLINE_S).log
    return Vela((found,), short(printed) or "of unknown version")


def configurations(vela: Vela, config: str | None, kind: str) -> tuple[str, ...]:
    """The sections of one kind (System_Config, Memory_Mode) of a configuration file; None is the one vela ships."""
    listed = run_vela(vela, ["--list-configs", config or SHIPPED], deadline_s=LISTING_DEADLINE_S)
    return tuple(re.findall(rf"^ +{kind}\.(\S+)$", listed.log, re.M))


def run_vela(vela: Vela, arguments: Sequence[str], *, deadline_s: float, folder: Path | None = None) -> Finished:
    """Run vela in ``folder`` until it ends.

    Raises TargetError, with the end of the log, when it refuses what it is given (``refused``), dies, cannot be started,
    or is not done after ``deadline_s``; the processes it started end with it.
    """
    started = time.perf_counter_ns()
    try:
        child = subprocess.Popen(
            [*vela.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder or tempfile.gettempdir(),
            start_new_session=True,
        )
    except OSError as error:
        raise TargetError(f"{vela.command[0]} cannot be started: {error.strerror}") from error
    log, code = _ended(child, deadline_s)
    if code is None:
        raise TargetError(
            f"expected {vela.title} to be done within {deadline_s:g} s, it was not and was ended: the model may be "
            "damaged, or too large for this machine; give it longer (--deadline-s)",
            log=log,
        )
    if code != 0:
        raise _failure(vela, code, log)
    return Finished(log, (time.perf_counter_ns() - started) / 1e9)


def _ended(child: subprocess.Popen[bytes], deadline_s: float) -> tuple[str, int | None]:
    """The child's output and exit code, None where the deadline ended it."""
    assert child.stdout is not None
    log = _Log(child.stdout)
    code: int | None = None
    try:
        code = child.wait(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Whatever it started goes too, and lets go of the pipe.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        text = log.finish()
        child.stdout.close()
    return text, code


class _Log:
    """Reads a pipe to its end in a thread and keeps the first and the last half of LOG_CAP."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._head, self._tail = bytearray(), bytearray()
        self._pipe: Any = pipe
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def finish(self) -> str:
        self._thread.join(timeout=10)
        middle = b"\n...\n" if len(self._tail) > LOG_CAP // 2 else b""
        raw = bytes(self._head) + middle + bytes(self._tail[-LOG_CAP // 2 :])
        return raw.decode("utf-8", "replace")

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := self._pipe.read1(65536):
                room = max(0, LOG_CAP // 2 - len(self._head))
                self._head += chunk[:room]
                self._tail += chunk[room:]
                if len(self._tail) > LOG_CAP:
                    del self._tail[: -LOG_CAP // 2 - 1]


def unreadable(what: str) -> TargetError:
    """The error for an answer of vela's that is not as expected."""
    return TargetError(f"vela's answer cannot be read: {what}. Is it version 5.0 or newer?")


def _failure(vela: Vela, code: int, log: str) -> TargetError:
    """Why vela ended with a code other than 0: its last exception, or the signal that killed it."""
    if code < 0:
        name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
        return TargetError(
            f"{vela.title} died of {name}: the model may be damaged, or beyond what vela can read", log=log
        )
    raised = _ERROR.findall(log)
    if not raised:
        return TargetError(f"{vela.title} ended with exit code {code}: {short(log[-300:])}", log=log)
    kind, text = raised[-1]
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    what = short((text[1:-1] if quoted else text).removeprefix("Error: "))
    if kind in _REFUSALS:
        return TargetError(f"{vela.title} refuses: {what}", refused=True, log=log)
    return TargetError(f"{vela.title} failed with {kind}: {what}", log=log)
