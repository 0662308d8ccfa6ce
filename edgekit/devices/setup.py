"""Put edgekit-device and a runtime into a private environment on a board, see what is there, and take it away again.

Nothing on the board but a Python is needed, and no internet there: the wheels come from this host. The environment in use is
replaced in one step by one that has been tried, so that whatever interrupts a setup leaves the old one working.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import secrets
import socket
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DeviceError, EdgekitError
from ..progress import Progress, Silent
from ..store import file_sha256, now
from .connection import Connection
from .device_wheel import device_version, write_device_wheel
from .pythons import BoardPython, choose_python, find_pythons
from .setup_board import QUICK_S, SLOW_S, Refusal, SetupBoard
from .setup_record import MARKER, SetupRecord, read_record
from .wheel_sets import WheelSet
from .wheel_tags import Target, normalized, parse_wheel_name
from .wheels import NUMPY_FROM_BOARD, fetch_wheels, own_numpy, release_of, wheel_cache

__all__ = ["SetupRecord", "set_up", "setup_status", "uninstall"]

MARGIN_BYTES = 24 << 20
TOUCH_EVERY_S = 300.0
CLEAN_AFTER = ("disk", "damaged", "broken", "venv", "files")  # nothing that running it again could go on with
STATUS = '[ -x "$1/env/bin/python" ] && head -c 1048576 "$1/env/$2"'


@dataclass(frozen=True)
class _Plan:
    """What is to be on the board: ``record`` of it, and where the wheels it names are on this host, as far as they are."""

    record: SetupRecord
    runtimes: tuple[str, ...]
    files: Mapping[str, Path]


def set_up(
    connection: Connection,
    home: str,
    *,
    wheels: Path | None = None,
    runtime: str = "auto",
    python: str | None = None,
    progress: Progress | None = None,
) -> SetupRecord:
    """Make ``home`` on the board hold this host's edgekit-device and ``runtime`` (one of SETUP_RUNTIMES).

    Done already, nothing is done. ``wheels`` is a folder to take wheels from instead of the internet; ``python`` names the
    board's Python. Raises UsageError for a foreign ``home``, which is left untouched, and for a folder that lacks wheels;
    DeviceError where the board cannot be set up, which is then as it was before.
    """
    shown = progress or Silent()
    shown.step(f"looking at {connection.name}")
    chosen, wheel_set = choose_python(find_pythons(connection, python), runtime)
    _check_own_numpy(connection.name, chosen, wheel_set, wheels)
    board = SetupBoard(connection, chosen.executable, home)
    try:
        seen = board.ask("look")
        if seen.get("state") == "foreign":
            raise Refusal({**seen, "error": "foreign"})
        with tempfile.TemporaryDirectory(prefix="edgekit-wheel-") as folder:
            own = write_device_wheel(Path(folder))
            done = _bring_about(board, read_record(seen.get("record")), chosen, wheel_set, own, wheels, shown)
        if done.change == "unchanged" and seen.get("untidy"):
            _tidy(board, done)
        return done
    except Refusal as refusal:
        raise _final_error(board, refusal, chosen.target, wheels) from refusal


def setup_status(connection: Connection, home: str) -> SetupRecord | None:
    """The record of the environment in use on the board; None when there is none."""
    named = home.removeprefix("~/")
    done = connection.execute(["sh", "-c", STATUS, "sh", named, MARKER], deadline_s=QUICK_S)
    with contextlib.suppress(ValueError, RecursionError):
        return read_record(json.loads(done.stdout))
    return None


def uninstall(connection: Connection, home: str, *, force: bool = False) -> bool:
    """Remove ``home`` from the board; whether there was one.

    Raises UsageError for a folder that is not edgekit's, and, without ``force``, for one that holds reports nobody has
    fetched; DeviceError while somebody sets the board up or measures on it.
    """
    pythons = [item for item in find_pythons(connection).pythons if item.version >= (3, 9)]
    if not pythons:
        raise DeviceError(
            f"{connection.name} has no Python 3.9 or newer to remove {home} with. Remove it by hand: rm -r {home}"
        )
    board = SetupBoard(connection, pythons[0].executable, home)
    try:
        return bool(_ask_locking(board, "uninstall", force=force, token=_new_token()).get("removed"))
    except Refusal as refusal:
        raise board.error(refusal) from refusal


def _bring_about(
    board: SetupBoard,
    current: SetupRecord | None,
    chosen: BoardPython,
    wheel_set: WheelSet,
    own: Path,
    folder: Path | None,
    shown: Progress,
) -> SetupRecord:
    """The environment that is asked for, by doing nothing where it is there and runs."""
    plan = _plan(current if folder is None else None, chosen, wheel_set, own, folder, shown)
    if current is not None and current.key == plan.record.key:
        with contextlib.suppress(Refusal):
            board.ask("verify", deadline_s=SLOW_S, runtimes=plan.runtimes)
            return replace(current, change="unchanged")
        shown.note(f"the environment on {board.connection.name} does not run any more: it is made anew")
    done = _install(board, plan, shown)
    if done is None:  # what the board has of an earlier setup is damaged there: all wheels are needed here
        done = _install(board, _plan(None, chosen, wheel_set, own, folder, shown), shown)
    if done is None:
        raise DeviceError(f"{board.connection.name} says that it has wheels which nobody sent: run this again")
    return replace(done, change="installed" if current is None else "upgraded")


def _tidy(board: SetupBoard, done: SetupRecord) -> None:
    """Remove what a setup that died at its very end has left; whoever is at work there is left alone."""
    token = _new_token()
    with contextlib.suppress(Refusal):
        _ask_locking(board, "begin", wheels=dict(done.wheels), token=token)
        board.ask("abandon", token=token, clean=True)


def _plan(
    current: SetupRecord | None,
    chosen: BoardPython,
    wheel_set: WheelSet,
    own: Path,
    folder: Path | None,
    shown: Progress,
) -> _Plan:
    """What to install; wheels that ``current`` was made of are not fetched again."""
    there = _wheels_of(current, wheel_set, chosen.target)
    lacking = [item for item in wheel_set.pinned(chosen.target) if item not in there]
    if lacking:
        shown.step(f"getting {len(lacking)} wheels for {chosen.target}")
    files = [own, *fetch_wheels(wheel_set, chosen.target, folder, lacking)]
    hashes = dict(there.values()) | {path.name: file_sha256(path) for path in files}
    own_numpy = any(name.startswith("numpy-") for name in hashes)
    version = ".".join(str(part) for part in chosen.version)
    record = SetupRecord(
        home="",
        edgekit_device=device_version(),
        python=chosen.executable,
        python_version=version,
        architecture=chosen.architecture,
        libc=f"glibc {chosen.target.glibc[0]}.{chosen.target.glibc[1]}",
        wheels=hashes,
        system_packages=not own_numpy,
        key=SetupRecord.key_of(chosen.executable, version, hashes, not own_numpy),
        created=now(),
        created_by=_who(),
    )
    return _Plan(record, wheel_set.runtimes, {path.name: path for path in files})


def _wheels_of(current: SetupRecord | None, wheel_set: WheelSet, target: Target) -> dict[str, tuple[str, str]]:
    """Pinned requirements with the wheel (name, SHA-256) the board's environment was made of."""
    found = {}
    for requirement in wheel_set.pinned(target) if current else ():
        project, _, version = requirement.partition("==")
        for name, sha256 in (current.wheels if current else {}).items():
            parsed = parse_wheel_name(name)
            if parsed and (parsed.project, parsed.version) == (normalized(project), version) and parsed.fits(target):
                found[requirement] = (name, sha256)
    return found


def _install(board: SetupBoard, plan: _Plan, shown: Progress) -> SetupRecord | None:
    """Send what is missing and install; None when a wheel is needed that is not on this host."""
    token = _new_token()
    begun = _ask_locking(board, "begin", wheels=dict(plan.record.wheels), token=token)
    with _abandoned_on_failure(board, token):
        has = {name for key in ("here", "kept") for name in begun.get(key, ()) if isinstance(name, str)}
        wanted = [name for name in plan.record.wheels if name not in has]
        if not set(wanted) <= set(plan.files):
            board.ask("abandon", token=token, clean=False)
            return None
        _check_room(board, plan, wanted, set(begun.get("kept", ())), begun.get("free_bytes"))
        _send(board, token, str(begun.get("home")), {name: plan.files[name] for name in wanted}, shown)
        shown.step(f"installing on {board.connection.name}")
        record = {**plan.record.to_json_value(), "home": str(begun.get("home"))}
        done = board.ask("install", deadline_s=SLOW_S, token=token, record=record, runtimes=plan.runtimes)
    installed = read_record(done.get("record"))
    if installed is None:
        raise DeviceError(f"{board.connection.name} does not say what it has installed: run this again")
    return installed


@contextlib.contextmanager
def _abandoned_on_failure(board: SetupBoard, token: str) -> Iterator[None]:
    """Let go of the board when the setup fails or is interrupted; a board that is lost keeps what it has received."""
    try:
        yield
    except BaseException as error:
        clean = isinstance(error, Refusal) and error.kind in CLEAN_AFTER
        with contextlib.suppress(EdgekitError, Refusal):
            board.ask("abandon", token=token, clean=clean)
        raise


def _check_room(board: SetupBoard, plan: _Plan, wanted: list[str], kept: set[str], free_bytes: object) -> None:
    """Raises Refusal unless the wheels that are sent, and those unpacked, fit onto the board's disk."""
    unpacked = sum(_unpacked_bytes(path) for name, path in plan.files.items() if name not in kept)
    needed = MARGIN_BYTES + unpacked + sum(plan.files[name].stat().st_size for name in wanted)
    if isinstance(free_bytes, int) and free_bytes < needed:
        raise Refusal({"error": "disk", "said": f"{needed >> 20} MB are needed, {free_bytes >> 20} MB are free"})


def _send(board: SetupBoard, token: str, home: str, files: Mapping[str, Path], shown: Progress) -> None:
    if not files:
        return
    total = sum(path.stat().st_size for path in files.values())
    sent, touched = 0, time.monotonic()
    shown.step(f"sending {len(files)} wheels ({total / 1e6:.1f} MB) to {board.connection.name}")
    for name, path in files.items():
        shown.update(sent, total, name)
        board.connection.send(path, f"{home}/incoming/{name}")
        sent += path.stat().st_size
        if time.monotonic() - touched > TOUCH_EVERY_S:
            board.ask("touch", token=token)
            touched = time.monotonic()
    shown.update(total, total)


def _ask_locking(board: SetupBoard, action: str, **task: Any) -> dict[str, Any]:
    """Run an action that takes the setup lock, over a lock that a dead process of this very host has left."""
    task["owner"] = {"holder": _who(), "pid": os.getpid(), "since": now()}
    try:
        return board.ask(action, **task)
    except Refusal as refusal:
        owner = refusal.answer.get("owner")
        if refusal.kind != "locked" or not isinstance(owner, dict) or not _is_ours_and_dead(owner):
            raise
        return board.ask(action, **task, dead_token=owner.get("token"))


def _is_ours_and_dead(owner: Mapping[str, Any]) -> bool:
    pid = owner.get("pid")
    if owner.get("holder") != _who() or not isinstance(pid, int) or pid <= 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _check_own_numpy(name: str, chosen: BoardPython, wheel_set: WheelSet, folder: Path | None) -> None:
    """Where PyPI has no numpy for the board: a wheel in ``folder``, or its own of the right age."""
    if not wheel_set.from_board(chosen.target) or own_numpy(folder, chosen.target):
        return
    low, high = NUMPY_FROM_BOARD
    if not chosen.numpy or not low <= release_of(chosen.numpy) < high:
        has = f"has numpy {chosen.numpy}" if chosen.numpy else "has no numpy"
        raise DeviceError(
            f"{chosen.executable} on {name} {has}, expected {low[0]}.{low[1]} or newer and below {high[0]}: PyPI has no wheels "
            f"of it for {chosen.architecture}. Install the board's own: sudo apt-get install python3-numpy; or put a wheel of "
            "numpy (piwheels has some) into a folder and name it with --wheels"
        )


def _final_error(board: SetupBoard, refusal: Refusal, target: Target, folder: Path | None) -> EdgekitError:
    error = board.error(refusal)
    if refusal.kind == "damaged" and folder is None:
        path = wheel_cache(target) / Path(refusal.say("wheel")).name
        path.unlink(missing_ok=True)
        return DeviceError(f"{error}. The copy here was removed: run this again, and it is fetched anew")
    return error


def _unpacked_bytes(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _new_token() -> str:
    return secrets.token_hex(8)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
