"""Files that are whole or absent, and on the disk when a call returns, whoever pulls the plug."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = [
    "ASIDE_SUFFIX",
    "append_durably",
    "flush_folder",
    "is_torn",
    "make_folder",
    "move_durably",
    "write_durably",
]

ASIDE_SUFFIX = ".part"
OWNER_ONLY = 0o600


def write_durably(path: Path, content: bytes) -> Path:
    """Write aside (``.NAME.part``), flush it to disk, rename, flush the folder. Nothing is left aside when that fails.

    One writer at a time: whoever calls holds a lock. Raises OSError; FileExistsError when a killed one left its file aside.
    """
    aside = path.parent / f".{path.name}{ASIDE_SUFFIX}"
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    flush_folder(path.parent)
    return path


def append_durably(path: Path, content: bytes) -> None:
    """Append, and flush to disk; a power cut may leave part of ``content``. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, OWNER_ONLY), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def is_torn(path: Path) -> bool:
    """Whether the last line of a file has no end: a power cut came while it was appended."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # it is not there, or empty
        return False


def move_durably(path: Path, folder: Path) -> None:
    """Move a file into another folder of the same disk; after a power cut it is in one of them. Raises OSError."""
    os.replace(path, folder / path.name)
    flush_folder(folder)
    flush_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, for this user alone. Raises OSError."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flush_folder(folder.parent)


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to disk: a file that was renamed is found there after a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
