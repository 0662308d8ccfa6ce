"""A board's home: whose it is, who is at work in it.

edgekit-device.json     the marker: this folder is ours; the record of the environment in use
env                     link to the environment in use, replaced in one step: there is always a whole one, or none
environments/KEY-…/     the environments: made where they stay, removed when they are replaced
incoming/               wheels on their way in
setup.lock/             there while a setup runs, with who runs it
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator

from .files import SetupFailed, Task, read_json, remove, write_json

__all__ = [
    "KIND",
    "MARKER",
    "check_lock",
    "count_reports",
    "free_bytes",
    "home_of",
    "idle",
    "named_home",
    "remove_home",
    "state_of",
    "take_lock",
]

MARKER = "edgekit-device.json"
KIND = "edgekit-device"
STALE_LOCK_S = 1800.0


def named_home(task: Task) -> str:
    """The path of the home as it was named, below the user's own folder."""
    return os.path.join(os.path.expanduser("~"), os.path.expanduser(task["home"]))


def home_of(task: Task) -> str:
    """The real path of the home; the user's own folder, or one above it, is nobody's to set up or to remove."""
    users = os.path.realpath(os.path.expanduser("~"))
    home = os.path.realpath(named_home(task))
    if not task["home"] or home == "/" or (users + "/").startswith(home + "/"):
        raise SetupFailed("foreign", home=home, entries=[])
    return home


def state_of(home: str) -> tuple[str, list[str]]:
    """``vacant``, ``ours`` or ``foreign``, and what is in it."""
    if not os.path.lexists(home):
        return "vacant", []
    if not os.path.isdir(home):
        return "foreign", [os.path.basename(home)]
    entries = sorted(os.listdir(home))
    if read_json(os.path.join(home, MARKER)).get("kind") == KIND:
        return "ours", entries
    begun = [MARKER + ".part"]  # all that a setup had written when the power was cut
    return ("vacant" if entries in ([], begun) else "foreign"), entries


def remove_home(home: str) -> None:
    """Remove everything, the marker last: what is left after an interruption is still known as ours."""
    for name in os.listdir(home):
        if name != MARKER:
            remove(os.path.join(home, name))
    remove(os.path.join(home, MARKER))
    os.rmdir(home)


def count_reports(home: str) -> int:
    """How many reports wait in the outbox (``edgekit_device.outbox``), those a hub refused among them."""
    folders = [os.path.join(home, "outbox"), os.path.join(home, "outbox", "rejected")]
    names = [name for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)]
    return len([name for name in names if name.endswith(".json")])


def free_bytes(home: str) -> int:
    """What the user can still write where the home is, or will be."""
    folder = home
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


def take_lock(home: str, task: Task) -> None:
    """Make ``setup.lock``; one that was left by a setup that is dead (``dead_token``, a reboot, half an hour of silence)
    is taken over."""
    lock = os.path.join(home, "setup.lock")
    for _ in range(2):
        try:
            os.mkdir(lock)
        except FileExistsError:
            _check_dead(lock, task)
            remove(lock)
            continue
        write_json(os.path.join(lock, "owner.json"), dict(task["owner"], token=task["token"], boot=_boot_id()))
        return
    raise SetupFailed("locked", owner={}, lock=lock, age_s=0.0)


def check_lock(home: str, token: str) -> None:
    """Raises SetupFailed when somebody else has taken the lock; else says that we are still at work."""
    lock = os.path.join(home, "setup.lock")
    owner = read_json(os.path.join(lock, "owner.json"))
    if owner.get("token") != token:
        raise SetupFailed("lost-lock", owner=owner)
    os.utime(lock)


@contextlib.contextmanager
def idle(home: str) -> Iterator[None]:
    """Hold the board's lock as a benchmark does (``edgekit_device.lock``): none runs while its environment is replaced."""
    path = os.path.join(home, "lock")
    descriptor = _hold(path)
    try:
        holder = read_json(os.path.join(home, "setup.lock", "owner.json")).get("holder", "")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"holder": holder, "verb": "setup", "pid": os.getpid()}).encode())
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        os.close(descriptor)


def _hold(path: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise SetupFailed("busy", holder=read_json(path)) from None
        os.close(descriptor)  # its holder removed it after it was opened: there is a new one


def _check_dead(lock: str, task: Task) -> None:
    owner = read_json(os.path.join(lock, "owner.json"))
    try:
        age_s = abs(time.time() - os.stat(lock).st_mtime)
    except FileNotFoundError:
        return
    dead = bool(owner) and (owner.get("token") == task.get("dead_token") or owner.get("boot") != _boot_id())
    if not dead and age_s <= STALE_LOCK_S:
        raise SetupFailed("locked", owner=owner, lock=lock, age_s=age_s)


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
