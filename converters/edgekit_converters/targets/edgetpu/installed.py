"""The edgetpu_compiler a user has installed: found, asked for its version, and where to get it when there is none."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ...errors import TargetError
from ..child_process import Outcome, run_tool
from .log import clean_text, find_version

__all__ = ["ENVIRONMENT", "HOW_TO_GET", "Compiler", "find_compiler"]

ENVIRONMENT = "EDGEKIT_EDGETPU_COMPILER"
PROGRAM = "edgetpu_compiler"
KNOWN_VERSIONS = (
    "1.0.249710469",
    "2.0.267685300",
    "2.0.291256449",
    "2.1.302470888",
    "14.1.317412892",
    "15.0.340273435",
    "16.0.384591198",
)
RULES_MAJOR = 16
VERSION_DEADLINE_S = 60.0  # under qemu the first start takes seconds
HOW_TO_GET = (
    "On Debian or Ubuntu (x86-64), from Coral's own repository:\n"
    "  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo gpg --dearmor -o /usr/share/keyrings/coral.gpg\n"
    '  echo "deb [signed-by=/usr/share/keyrings/coral.gpg] https://packages.cloud.google.com/apt coral-edgetpu-stable main" '
    "| sudo tee /etc/apt/sources.list.d/coral-edgetpu.list\n"
    "  sudo apt-get update && sudo apt-get install edgetpu-compiler\n"
    f"It may also stand anywhere else: --compiler PATH, or {ENVIRONMENT}=PATH. More: docs/edgetpu-compile.md, "
    "coral.ai/docs/edgetpu/compiler"
)


@dataclass(frozen=True)
class Compiler:
    """An edgetpu_compiler that answered: where it is, and its version as ``16.0.384591198``."""

    path: Path
    version: str

    @property
    def major(self) -> int:
        """The first number of the version."""
        return int(self.version.split(".")[0])

    @property
    def warning(self) -> str:
        """What to bear in mind with this version; empty for the one that edgekit's rules were made from."""
        if self.version == KNOWN_VERSIONS[-1]:
            return ""
        if self.major < RULES_MAJOR:
            return (
                f"edgetpu_compiler {self.version} is older than 16, which edgekit's predictions are of: it maps fewer operators "
                "and refuses models that are float in part"
            )
        return f"edgetpu_compiler {self.version} is unknown to edgekit, whose predictions are of {KNOWN_VERSIONS[-1]}"


def find_compiler(path: str | os.PathLike[str] | None = None) -> Compiler:
    """The compiler at ``path``, else where EDGEKIT_EDGETPU_COMPILER says, else on the PATH; it is run for its version.

    Raises TargetError: ``refused`` where a path was given that is none, not where there is no compiler or it does not answer.
    """
    found = _located(path)
    outcome = _asked(found)
    version = find_version(outcome.text)
    if not version:
        raise TargetError(_no_version(found, outcome), log=outcome.text)
    return Compiler(found, version)


def _located(path: str | os.PathLike[str] | None) -> Path:
    """The program's absolute path."""
    if platform.system() == "Windows":  # processes are run in groups of their own, which only POSIX has
        raise TargetError(_elsewhere())
    said = os.fspath(path) if path is not None else os.environ.get(ENVIRONMENT, "")
    if not said:
        on_path = shutil.which(PROGRAM)
        if on_path is None:
            raise TargetError(f"no {PROGRAM} is installed here, and edgekit may not bring it along.\n{_elsewhere()}")
        return Path(on_path).absolute()
    where = "--compiler" if path is not None else ENVIRONMENT
    if "\0" in said:
        raise TargetError(f"expected {where} to be a path, got {said!r:.80}", refused=True)
    found = Path(said).expanduser().absolute()
    if found.is_dir():
        raise TargetError(f"{where} is the folder {found}: name the program in it, as {found / PROGRAM}", refused=True)
    if not found.is_file():
        raise TargetError(f"{where} says {found}, where there is no file.\n{HOW_TO_GET}", refused=True)
    if not os.access(found, os.X_OK):
        raise TargetError(f"{where} says {found}, which may not be run. Type: chmod +x {found}", refused=True)
    return found


def _asked(found: Path) -> Outcome:
    try:
        with tempfile.TemporaryDirectory(prefix="edgekit-edgetpu-") as folder:
            return run_tool([str(found), "--version"], folder=Path(folder), deadline_s=VERSION_DEADLINE_S)
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            raise TargetError(f"{found} is no program of this machine ({_machine()}).\n{_elsewhere()}") from error
        raise TargetError(f"{found} cannot be run: {error.strerror or error}") from error


def _no_version(found: Path, outcome: Outcome) -> str:
    if outcome.timed_out:
        return f"{found} --version did not answer within {VERSION_DEADLINE_S:g} s: is it Coral's {PROGRAM}?"
    how = f"was ended by {outcome.signal_name}" if outcome.signal_name else f"ended with exit code {outcome.returncode}"
    said = clean_text(outcome.text, 200)
    return (
        f'expected {found} --version to say "Edge TPU Compiler version …", it {how} and said '
        f"{said!r}: it is not Coral's {PROGRAM}, or not whole.\n{HOW_TO_GET}"
    )


def _machine() -> str:
    return f"{platform.system() or sys.platform} on {platform.machine() or 'an unknown processor'}"


def _elsewhere() -> str:
    """How to get it, and where it cannot run by itself what to do instead."""
    if platform.system() == "Linux" and platform.machine() in ("x86_64", "AMD64"):
        return HOW_TO_GET
    return (
        f"Coral's compiler exists for Linux on x86-64 alone, and this is {_machine()}: compile on such a machine, in a container "
        "(docker run --platform linux/amd64 …), or under qemu-user (apt install qemu-user-static binfmt-support).\n"
        f"{HOW_TO_GET}"
    )
