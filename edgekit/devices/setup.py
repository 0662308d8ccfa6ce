"""Put edgekit-device and a runtime into a private environment on a board, see what is there, and take it away again.

Nothing on the board but a Python is needed, and no internet there: the wheels come from this host. The environment in use is
replaced in one step by one that has been tried, so that whatever interrupts a setup leaves the old one working.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import DeviceError, EdgekitError
from ..progress import Progress, Silent
from ..store import now
from .connection import Connection
from .device_wheel import write_device_wheel
from .pythons import choose_python, find_pythons
from .remote import holder
from .setup_board import QUICK_S, SLOW_S, Refusal, SetupBoard
from .setup_plan import Plan, Wanted, check_own_numpy, make_plan
from .setup_record import MARKER, SetupRecord, read_record
from .wheel_tags import Target
from .wheels import wheel_cache

__all__ = ["SetupRecord", "set_up", "setup_status", "uninstall"]

MARGIN_BYTES = 24 << 20
TOUCH_EVERY_S = 300.0
LETTING_GO_S = 30.0
CLEAN_AFTER = ("disk", "damaged", "broken", "venv", "files")  # nothing that running it again could go on with
STATUS = 'head -c 1048576 "$1/env/$2"; [ -x "$1/env/bin/python" ]'


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
    board's Python. What was named at an earlier setup holds until something else is. Raises UsageError for a foreign
    ``home``, which is left untouched, and for a folder that lacks wheels; DeviceError where the board cannot be set up,
    which is then as it was before.
    """
    shown = progress or Silent()
    shown.step(f"looking at {connection.name}")
    runtime, python = _as_before(_read_record(connection, home)[0], runtime, python, shown)
    chosen, wheel_set = choose_python(find_pythons(connection, python), runtime)
    board = SetupBoard(connection, chosen.executable, home)
    try:
        seen = board.ask("look")
        if seen.get("state") == "foreign":
            raise Refusal({**seen, "error": "foreign"})
        check_own_numpy(connection.name, chosen, wheel_set, wheels)
        with tempfile.TemporaryDirectory(prefix="edgekit-wheel-") as folder:
            own = write_device_wheel(Path(folder))
            wanted = Wanted(chosen, wheel_set, own, wheels, "" if runtime == "auto" else runtime, python or "")
            done = _bring_about(board, wanted, read_record(seen.get("record")), shown)
        if done.change == "unchanged" and seen.get("untidy"):
            _tidy(board, done)
        return done
    except Refusal as refusal:
        raise _final_error(board, refusal, chosen.target, wheels) from refusal


def setup_status(connection: Connection, home: str) -> SetupRecord | None:
    """The record of the environment in use on the board; None when there is none."""
    record, runs = _read_record(connection, home)
    return record if runs else None


def uninstall(connection: Connection, home: str, *, force: bool = False) -> bool:
    """Remove ``home`` from the board; whether there was one. A folder that is not edgekit's is left as it is.

    Raises UsageError, without ``force``, when it holds reports nobody has fetched; DeviceError while somebody sets the board
    up or measures on it.
    """
    pythons = [item for item in find_pythons(connection).pythons if item.version >= (3, 9)]
    if not pythons:
        raise DeviceError(
            f"{connection.name} has no Python 3.9 or newer to remove {home} with. Remove it by hand: rm -r {home}"
        )
    board = SetupBoard(connection, pythons[0].executable, home)
    try:
        return _ask_locking(board, "uninstall", force=force, token=_new_token()).get("removed") is True
    except Refusal as refusal:
        if refusal.kind == "foreign":
            return False
        raise board.error(refusal) from refusal


def _read_record(connection: Connection, home: str) -> tuple[SetupRecord | None, bool]:
    """The record there, and whether its Python still is."""
    command = ["sh", "-c", STATUS, "sh", home.removeprefix("~/"), MARKER]
    done = connection.execute(command, deadline_s=QUICK_S)
    with contextlib.suppress(ValueError, RecursionError):
        return read_record(json.loads(done.stdout)), done.exit_code == 0
    return None, False


def _as_before(
    current: SetupRecord | None, runtime: str, python: str | None, shown: Progress
) -> tuple[str, str | None]:
    """The runtime and Python that are named, else those that were."""
    kept_runtime = current.asked_runtime if current and runtime == "auto" else ""
    kept_python = current.asked_python if current and not python else ""
    for option, kept in (("--runtime", kept_runtime), ("--python", kept_python)):
        if kept:
            shown.note(f"{option} {kept}, as before")
    return kept_runtime or runtime, kept_python or python


def _bring_about(board: SetupBoard, wanted: Wanted, current: SetupRecord | None, shown: Progress) -> SetupRecord:
    """The environment that is asked for, by doing nothing where it is there and runs."""
    plan = make_plan(wanted, current, shown)
    if current is not None and plan.is_done(current):
        with contextlib.suppress(Refusal):
            board.ask("verify", deadline_s=SLOW_S, runtimes=plan.runtimes)
            return replace(current, change="unchanged")
        shown.note(f"the environment on {board.connection.name} does not run any more: it is made anew")
    done = _install(board, plan, shown)
    if done is None:  # what the board has of an earlier setup is damaged there: all wheels are needed here
        done = _install(board, make_plan(wanted, None, shown), shown)
    assert done is not None  # that plan has every wheel on this host
    return replace(done, change="installed" if current is None else "upgraded")


def _tidy(board: SetupBoard, done: SetupRecord) -> None:
    """Remove what a setup that died at its very end has left; whoever is at work there is left alone."""
    token = _new_token()
    with contextlib.suppress(Refusal):
        _ask_locking(board, "begin", wheels=dict(done.wheels), token=token)
        board.ask("abandon", token=token, clean=True)


def _install(board: SetupBoard, plan: Plan, shown: Progress) -> SetupRecord | None:
    """Send what is missing and install; None when a wheel is needed that is not on this host."""
    token = _new_token()
    begun = _ask_locking(board, "begin", wheels=dict(plan.record.wheels), token=token)
    here, kept = _names(begun.get("here")), _names(begun.get("kept"))
    missing = set(plan.record.wheels) - here - kept
    with _abandoned_on_failure(board, token):
        if not missing <= set(plan.files):
            board.ask("abandon", token=token, clean=False)
            return None
        needed = MARGIN_BYTES + plan.sent_bytes(missing) + plan.unpacked_bytes(missing | here)
        _check_room(needed, begun.get("free_bytes"))
        home = str(begun.get("home"))
        _send(board, token, home, {name: path for name, path in plan.files.items() if name in missing}, shown)
        shown.step(f"installing on {board.connection.name}")
        record = {**plan.record.to_json_value(), "home": home}
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
            board.ask("abandon", deadline_s=LETTING_GO_S, token=token, clean=clean)
        raise


def _check_room(needed: int, free_bytes: object) -> None:
    if isinstance(free_bytes, int) and free_bytes < needed:
        raise Refusal({"error": "disk", "said": f"{needed >> 20} MB are needed, {free_bytes >> 20} MB are free"})


def _send(board: SetupBoard, token: str, home: str, files: Mapping[str, Path], shown: Progress) -> None:
    """Send wheels, largest last, and keep the lock meanwhile."""
    if not files:
        return
    total = sum(path.stat().st_size for path in files.values())
    sent, touched = 0, time.monotonic()
    what = "1 wheel" if len(files) == 1 else f"{len(files)} wheels"
    shown.step(f"sending {what} ({total / 1e6:.1f} MB) to {board.connection.name}")
    for name, path in sorted(files.items(), key=lambda item: item[1].stat().st_size):
        shown.update(sent, total, name)
        board.connection.send(path, f"{home}/incoming/{name}")
        sent += path.stat().st_size
        if time.monotonic() - touched > TOUCH_EVERY_S:
            board.ask("touch", token=token)
            touched = time.monotonic()
    shown.update(total, total)


def _ask_locking(board: SetupBoard, action: str, **task: Any) -> dict[str, Any]:
    """Run an action that takes the setup lock, over a lock that a dead process of this very host has left."""
    task["owner"] = {"holder": holder(), "pid": os.getpid(), "since": now()}
    try:
        return board.ask(action, **task)
    except Refusal as refusal:
        owner = refusal.answer.get("owner")
        if refusal.kind != "locked" or not isinstance(owner, dict) or not _is_ours_and_dead(owner):
            raise
        return board.ask(action, **task, dead_token=owner.get("token"))


def _is_ours_and_dead(owner: Mapping[str, Any]) -> bool:
    pid = owner.get("pid")
    if owner.get("holder") != holder() or not isinstance(pid, int) or not 1 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _final_error(board: SetupBoard, refusal: Refusal, target: Target, folder: Path | None) -> EdgekitError:
    error = board.error(refusal)
    if refusal.kind == "damaged" and folder is None:
        name = Path(refusal.say("wheel")).name
        if name.endswith(".whl"):
            (wheel_cache(target) / name).unlink(missing_ok=True)
        return DeviceError(f"{error}. The copy here was removed: run this again, and it is fetched anew")
    return error


def _names(value: object) -> set[str]:
    return {item for item in value if isinstance(item, str)} if isinstance(value, list) else set()


def _new_token() -> str:
    return secrets.token_hex(8)
