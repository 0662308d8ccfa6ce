"""Device files: who may open them, and who has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .edgetpu import read_text

__all__ = ["User", "holders", "may_open", "who_am_i"]


@dataclass(frozen=True)
class User:
    """Who opens a file: user id and the ids of every group."""

    uid: int
    groups: frozenset[int]


def who_am_i() -> User:
    """The user this process runs as; 0, who may everything, where the system knows no users."""
    if not hasattr(os, "geteuid"):
        return User(0, frozenset())
    return User(os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))


def may_open(node: Path, user: User) -> bool:
    """Whether ``user`` may read and write the file, by its mode bits."""
    if user.uid == 0:
        return True
    facts = node.stat()
    if facts.st_uid == user.uid:
        needed = stat.S_IRUSR | stat.S_IWUSR
    elif facts.st_gid in user.groups:
        needed = stat.S_IRGRP | stat.S_IWGRP
    else:
        needed = stat.S_IROTH | stat.S_IWOTH
    return facts.st_mode & needed == needed


def holders(base: Path, node: str) -> Iterator[tuple[int, str]]:
    """Process id and name of whoever has ``node`` open; of other users' processes only root sees the files."""
    for folder in sorted((base / "proc").glob("[0-9]*/fd")):
        try:
            held = any(os.readlink(link) == node for link in folder.iterdir())
        except OSError:  # it has just ended, or belongs to somebody else
            continue
        if held:
            yield int(folder.parent.name), read_text(folder.parent / "comm") or "unnamed"
