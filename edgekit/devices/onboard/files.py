"""Files on the board: written whole, hashed, removed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import Any

__all__ = ["CHUNK", "SetupFailed", "Task", "file_digest", "read_json", "remove", "write_json", "write_text"]

CHUNK = 1 << 20
Task = dict[str, Any]


class SetupFailed(Exception):
    """Ends an action with an answer: ``kind`` and facts for the host to make a message of."""

    def __init__(self, kind: str, **facts: Any) -> None:
        super().__init__(kind)
        self.answer = {"error": kind, **facts}


def file_digest(path: str) -> bytes:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            digest.update(chunk)
    return digest.digest()


def read_json(path: str) -> dict[str, Any]:
    """The object in a JSON file; an empty one when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.loads(file.read(CHUNK))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: str, value: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n", 0o644)


def write_text(path: str, text: str, mode: int) -> None:
    """Write a file aside, flush it to the disk, and name it."""
    aside = path + ".part"
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(aside, mode)
    os.replace(aside, path)


def remove(path: str) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if os.path.islink(path) or os.path.isfile(path):
        os.remove(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)
