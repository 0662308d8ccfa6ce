"""The actions of a setup: called as ``python -I - ACTION TASK``, TASK being JSON, with this text as standard input.

Answers one line, ``edgekit-setup {JSON}``: what was asked for, or ``{"error": kind, …}`` with the facts of it.
"""

from __future__ import annotations

import errno
import json
import os
import sys

from .environment import check, install_wheel, is_reusable, make_environment, point_at, remove_others, site_packages
from .files import SetupFailed, Task, file_digest, read_json, remove, write_json, write_text
from .home import (
    KIND,
    MARKER,
    check_lock,
    count_reports,
    free_bytes,
    home_of,
    idle,
    named_home,
    remove_home,
    state_of,
    take_lock,
)

__all__ = ["main"]

LEAST_FREE_BYTES = 16 << 20
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LAUNCHER = '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/python" -m edgekit_device "$@"\n'


def look(task: Task) -> Task:
    """What the home is: ``vacant``, ``foreign``, or ``ours`` with its record; ``untidy`` where a setup died in it."""
    home = home_of(task)
    state, entries = state_of(home)
    if state != "ours":
        return {"state": state, "home": home, "entries": entries[:5]}
    record = read_json(os.path.join(home, "env", MARKER))
    several = len(os.listdir(os.path.join(home, "environments"))) > 1 if "environments" in entries else False
    stale = bool(record) and read_json(os.path.join(home, MARKER)) != record
    untidy = several or stale or not {"incoming", "setup.lock"}.isdisjoint(entries)
    return {"state": state, "home": home, "record": record, "untidy": untidy}


def begin(task: Task) -> Task:
    """Take the setup lock and say which of the ``wheels`` (name to SHA-256) are ``here`` already, whole, and which are
    ``kept`` from the environment in use; all others have to be sent into ``incoming``."""
    home = home_of(task)
    state, entries = state_of(home)
    if state == "foreign":
        raise SetupFailed("foreign", home=home, entries=entries[:5])
    os.makedirs(home, mode=0o700, exist_ok=True)
    if state == "vacant":
        write_json(os.path.join(home, MARKER), {"kind": KIND})
    take_lock(home, task)
    incoming, wheels = os.path.join(home, "incoming"), task["wheels"]
    try:
        os.makedirs(incoming, exist_ok=True)
        remove_others(home, os.path.join(home, "env"))  # what a setup that died left half-made
        for name in os.listdir(incoming):
            if not any(wheel[:60] in name for wheel in wheels):  # the name of a part has the wheel's in it
                remove(os.path.join(incoming, name))
        here = [name for name in wheels if os.path.isfile(os.path.join(incoming, name))]
        here = [name for name in here if file_digest(os.path.join(incoming, name)).hex() == wheels[name]]
        kept = [name for name in wheels if name not in here and is_reusable(home, name, wheels[name])]
    except BaseException:
        remove(os.path.join(home, "setup.lock"))
        raise
    return {"home": home, "here": here, "kept": kept, "free_bytes": free_bytes(home)}


def install(task: Task) -> Task:
    """Make the environment beside the one in use, check it, put it in its place, and clean up."""
    home = home_of(task)
    check_lock(home, task["token"])
    folder = os.path.join(home, "environments", f"{task['record']['key'][:12]}-{task['token'][:8]}")
    try:
        make_environment(folder, task["record"]["system_packages"])
        for name, sha256 in task["record"]["wheels"].items():
            check_lock(home, task["token"])
            install_wheel(home, site_packages(folder), name, sha256)
        write_text(os.path.join(folder, "bin", "edgekit-device"), LAUNCHER, 0o755)
        record = {**task["record"], "home": home, **check(folder, task["runtimes"])}
        write_json(os.path.join(folder, MARKER), record)
        os.sync()  # after a power cut the link must not point to files that never reached the disk
        with idle(home):
            check_lock(home, task["token"])
            point_at(home, folder)
    except BaseException:
        remove(folder)
        raise
    write_json(os.path.join(home, MARKER), record)
    remove_others(home, folder)
    remove(os.path.join(home, "incoming"))
    remove(os.path.join(home, "setup.lock"))
    return {"record": record}


def touch(task: Task) -> Task:
    """Say that the setup is still at work."""
    check_lock(home_of(task), task["token"])
    return {}


def verify(task: Task) -> Task:
    """Run the environment in use once: what it says of itself."""
    return check(os.path.join(home_of(task), "env"), task["runtimes"])


def abandon(task: Task) -> Task:
    """Let go of the lock. With ``clean``, or where the disk is full, leave the home as it was before the setup: gone if it
    was not there; else the wheels that arrived stay, for the next setup to go on with."""
    home = home_of(task)
    check_lock(home, task["token"])
    remove_others(home, os.path.join(home, "env"))
    record = read_json(os.path.join(home, "env", MARKER))
    if record:
        write_json(os.path.join(home, MARKER), record)
    if task["clean"] or free_bytes(home) < LEAST_FREE_BYTES:
        remove(os.path.join(home, "incoming"))
        if not set(os.listdir(home)) - {MARKER, MARKER + ".part", "setup.lock", "environments"}:
            remove_home(home)
    remove(os.path.join(home, "setup.lock"))
    return {"home": home}


def uninstall(task: Task) -> Task:
    """Remove the home if it is ours; refused while it is in use, and with reports nobody has fetched yet."""
    home = home_of(task)
    if state_of(home)[0] != "ours":
        return {"removed": False}
    reports = count_reports(home)
    if reports and not task["force"]:
        raise SetupFailed("undelivered", home=home, count="1 report" if reports == 1 else f"{reports} reports")
    take_lock(home, task)
    try:
        with idle(home):
            remove_home(home)
    except BaseException:
        remove(os.path.join(home, "setup.lock"))
        raise
    if os.path.islink(named_home(task)):
        os.remove(named_home(task))
    return {"removed": True}


ACTIONS = {action.__name__: action for action in (look, begin, touch, install, verify, abandon, uninstall)}


def main(arguments: list[str]) -> int:
    """Do what is asked and answer; what the board's disk refuses is an answer too."""
    try:
        answer = ACTIONS[arguments[0]](json.loads(arguments[1]))
    except SetupFailed as failed:
        answer = failed.answer
    except OSError as error:
        kind = "disk" if error.errno in NO_SPACE else "files"
        answer = {"error": kind, "said": f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")}
    sys.stdout.write(f"\nedgekit-setup {json.dumps(answer)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
