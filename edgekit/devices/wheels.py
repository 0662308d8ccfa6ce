"""The wheels for a board as files on this host: from its cache, from a folder, or fetched by this Python's own pip."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from edgekit_device.text import clean_text

from ..errors import DeviceError, UsageError
from ..recipe import edgekit_home
from .wheel_sets import WheelSet
from .wheel_tags import Target, normalized, parse_wheel_name

__all__ = [
    "NUMPY_FROM_BOARD",
    "download_command",
    "fetch_wheels",
    "find_wheel",
    "own_numpy",
    "release_of",
    "wheel_cache",
]

DEADLINE_S = 1800.0
ASIDE = ".incoming-"
GLIBC_LEVELS = (17, 27, 28, 34)  # the manylinux levels the wheels of wheel_sets are tagged with
NUMPY_FROM_BOARD = ((1, 23), (2, 0))  # what edgekit-device needs, and what tflite-runtime cannot be loaded with


def fetch_wheels(
    wheel_set: WheelSet, target: Target, folder: Path | None = None, requirements: Sequence[str] | None = None
) -> list[Path]:
    """The wheel of every pinned requirement of ``wheel_set`` for ``target``, or of those in ``requirements`` alone.

    They are taken from ``folder``, and from nowhere else, when it is given; else from the cache, into which pip downloads
    what is missing. A numpy that the board must have itself is taken from ``folder`` where one is there.

    Raises UsageError for a folder that lacks some, naming them and the line that fetches them; DeviceError when the
    download fails.
    """
    pinned = wheel_set.pinned(target) if requirements is None else requirements
    place = wheel_cache(target) if folder is None else folder
    if folder is not None and not folder.is_dir():
        raise UsageError(f"expected --wheels as a folder of wheels, got {folder}")
    missing = [item for item in pinned if find_wheel(place, item, target) is None]
    if missing and folder is not None:
        fetch = shlex.join(["python3", *download_command(missing, target, folder)[1:]])
        raise UsageError(
            f"the folder {folder} lacks {len(missing)} of the {len(pinned)} wheels for {target}: {', '.join(missing)}. On a "
            f"machine with internet: {fetch}"
        )
    if missing:
        _download(missing, target, place)
    found = [_checked(item, find_wheel(place, item, target), target) for item in pinned]
    return found + [path for path in [own_numpy(folder, target)] if path and wheel_set.from_board(target)]


def wheel_cache(target: Target) -> Path:
    """Where this host keeps wheels for boards like ``target``."""
    return edgekit_home() / "wheels" / f"{target.tag}-{target.architecture}"


def find_wheel(folder: Path, requirement: str, target: Target) -> Path | None:
    """A wheel of ``NAME==VERSION`` in ``folder`` that ``target`` can use; None when there is none."""
    project, _, version = requirement.partition("==")
    for path in sorted(folder.glob("*.whl")):
        name = parse_wheel_name(path.name)
        if name and (name.project, name.version) == (normalized(project), version) and name.fits(target):
            return path
    return None


def download_command(requirements: Sequence[str], target: Target, folder: Path) -> list[str]:
    """What fetches wheels for a board on any machine with internet; pip checks them against the index's hashes."""
    levels = [level for level in GLIBC_LEVELS if (2, level) <= target.glibc]
    platforms = [f"manylinux_2_{level}_{target.architecture}" for level in reversed(levels)]
    platforms.append(f"manylinux2014_{target.architecture}")
    return [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--implementation", "cp"),
        *("--python-version", f"{target.python[0]}.{target.python[1]}"),
        *(text for platform in platforms for text in ("--platform", platform)),
        *("-d", str(folder)),
        *requirements,
    ]


def _download(requirements: Sequence[str], target: Target, cache: Path) -> None:
    """Into the cache, each wheel whole or not at all, whoever else fills it."""
    by_hand = shlex.join(["python3", *download_command(requirements, target, Path("WHEELS"))[1:]])
    offline = f"Without internet here, fetch them elsewhere and name the folder with --wheels: {by_hand}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for left in cache.glob(f"{ASIDE}*"):
            if time.time() - left.stat().st_mtime > DEADLINE_S:  # of a download that was killed
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=ASIDE) as aside:
            command = download_command(requirements, target, Path(aside))
            _run_pip(command, offline)
            for path in Path(aside).glob("*.whl"):
                os.replace(path, cache / path.name)
    except OSError as error:
        raise DeviceError(
            f"cannot keep wheels in {cache}: {error.strerror or error}. Name another place: EDGEKIT_HOME"
        ) from error


def _run_pip(command: Sequence[str], offline: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    try:
        done = subprocess.run(
            [*command, "-q"], capture_output=True, text=True, timeout=DEADLINE_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"pip did not fetch the board's wheels within {DEADLINE_S:g} s. {offline}") from error
    if "No module named pip" in done.stderr:
        raise DeviceError(
            f"{sys.executable} has no pip to fetch the board's wheels with: {sys.executable} -m ensurepip. {offline}"
        )
    if done.returncode != 0:
        raise DeviceError(f"pip cannot fetch the board's wheels: {_cause(done.stderr)}. {offline}", output=done.stderr)


def _cause(complaints: str) -> str:
    """What pip says, by its first error; it finds no version at all where no index answers."""
    if "(from versions: none)" in complaints:
        return "no package index answers"
    lines = [line for line in complaints.splitlines() if line.strip()]
    telling = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")] or lines[-1:]
    return clean_text(telling[0], 300) if telling else "it said nothing"


def _checked(requirement: str, path: Path | None, target: Target) -> Path:
    """The wheel, once it is known to be one: a copy that was cut off is found here and not on the board."""
    if path is None:
        raise DeviceError(f"pip fetched no wheel of {requirement} for {target}")
    try:
        with zipfile.ZipFile(path) as archive:
            whole = any(name.endswith(".dist-info/RECORD") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        whole = False
    if not whole:
        raise DeviceError(f"{path} is no whole wheel: remove it, and run this again")
    return path


def own_numpy(folder: Path | None, target: Target) -> Path | None:
    """Any numpy wheel in ``folder`` that serves, where PyPI has none: one from piwheels, or built on such a board."""
    low, high = NUMPY_FROM_BOARD
    for path in sorted(folder.glob("numpy-*.whl"), reverse=True) if folder else []:
        name = parse_wheel_name(path.name)
        if name and name.fits(target) and low <= release_of(name.version) < high:
            return path
    return None


def release_of(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
