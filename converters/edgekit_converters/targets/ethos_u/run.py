"""Vela in a process of its own: found, given a deadline, its output capped, and ended with its children."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ...errors import MissingPackageError, TargetError
from ...reason import short
from ..child_process import Outcome, run_tool

__all__ = ["Finished", "Vela", "configurations", "find_vela", "run_vela", "unreadable"]

PACKAGE = "ethos-u-vela"
INSTALL = "vela, Arm's compiler for Ethos-U, is not installed: pip install 'edgekit[ethos-u]'"
SHIPPED = "Arm/vela.ini"
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
    try:
        done = run_tool(
            [*vela.command, *arguments], folder=folder or Path(tempfile.gettempdir()), deadline_s=deadline_s
        )
    except OSError as error:
        raise TargetError(f"{vela.command[0]} cannot be started: {error.strerror}") from error
    if done.timed_out:
        raise TargetError(
            f"expected {vela.title} to be done within {deadline_s:g} s, it was not and was ended: the model may be "
            "damaged, or too large for this machine; give it longer (--deadline-s)",
            log=done.text,
        )
    if done.returncode != 0:
        raise _failure(vela, done)
    return Finished(done.text, done.seconds)


def unreadable(what: str) -> TargetError:
    """The error for an answer of vela's that is not as expected."""
    return TargetError(f"vela's answer cannot be read: {what}. Is it version 5.0 or newer?")


def _failure(vela: Vela, done: Outcome) -> TargetError:
    """Why vela ended with a code other than 0: its last exception, or the signal that killed it."""
    log = done.text
    if done.signal_name:
        return TargetError(
            f"{vela.title} died of {done.signal_name}: the model may be damaged, or beyond what vela can read", log=log
        )
    raised = _ERROR.findall(log)
    if not raised:
        return TargetError(f"{vela.title} ended with exit code {done.returncode}: {short(log[-300:])}", log=log)
    kind, text = raised[-1]
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    what = short((text[1:-1] if quoted else text).removeprefix("Error: "))
    if kind in _REFUSALS:
        return TargetError(f"{vela.title} refuses: {what}", refused=True, log=log)
    return TargetError(f"{vela.title} failed with {kind}: {what}", log=log)
