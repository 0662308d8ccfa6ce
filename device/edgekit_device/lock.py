"""One measurement at a time on a board: a second one is told who holds it.

The lock is flock(2) on ``lock`` in the board's home: the kernel lets go of it however its holder ends. The file says who
that is, for people; it is removed with the lock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional

from .errors import BoardBusyError
from .home import device_home
from .text import clean_text

try:
    import fcntl
except ImportError:  # Windows is no board
    fcntl = None  # type: ignore[assignment]

__all__ = ["HOLDER_VARIABLE", "board_held"]

HOLDER_VARIABLE = "EDGEKIT_HOLDER"
NAME = "lock"
HOLDER_CAP = 4000


@contextmanager
def board_held(verb: str, home: Optional[Path] = None) -> Iterator[None]:
    """Hold the board whose home is ``home`` (device_home() by default) for ``verb``; on a machine that is no board, nothing.

    Raises BoardBusyError with who holds it and since when.
    """
    folder = device_home() if home is None else home
    if folder is None or fcntl is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    descriptor = _acquire(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(_self(verb)).encode())
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        held = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = _is_there(path, descriptor)  # else its holder removed it after we opened it: there is a new one
        except BlockingIOError:
            raise BoardBusyError(_message(os.pread(descriptor, HOLDER_CAP, 0))) from None
        finally:
            if not held:
                os.close(descriptor)
        if held:
            return descriptor


def _is_there(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False


def _self(verb: str) -> dict[str, Any]:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"holder": os.environ.get(HOLDER_VARIABLE, ""), "verb": verb, "pid": os.getpid(), "since": since}


def _message(raw: bytes) -> str:
    """Who holds it. What the file says is somebody else's word."""
    try:
        facts = json.loads(raw)
    except (ValueError, RecursionError):
        facts = {}
    facts = facts if isinstance(facts, dict) else {}
    holder = clean_text(facts.get("holder"), 100) or "somebody"
    verb, since = clean_text(facts.get("verb"), 20) or "a command", clean_text(facts.get("since"), 30) or "a while"
    process = facts.get("pid")
    number = f", process {process}" if isinstance(process, int) else ""
    return (
        f"this board is held by {holder} ({verb}{number}) since {since}: two measurements at once would spoil each other. "
        "Try again when it is done"
    )
