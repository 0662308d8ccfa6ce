"""Pictures from a folder, a glob or one file."""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import DataError, SourceError
from ..text import clean_text
from .frames import Frame, Source
from .pictures import INSTALL_PILLOW, decode, pillow

if TYPE_CHECKING:
    from .frames import Array

__all__ = ["SUFFIXES", "FolderSource"]

NATIVE = (".bmp", ".npy", ".pgm", ".ppm")
SUFFIXES = (*NATIVE, ".gif", ".jpeg", ".jpg", ".png", ".webp")
CAP_BYTES = 256 << 20


class FolderSource(Source):
    """The pictures of a folder (those with a known suffix, hidden ones left out), a glob or a file, sorted by name.

    ``loop`` begins anew at the end. Raises SourceError where there is none, or Pillow is missing for one of them.
    """

    live = False

    def __init__(self, path: str, *, loop: bool = False) -> None:
        self._paths = _list(path)
        self._loop = loop
        self._open = True
        foreign = [item for item in self._paths if not item.lower().endswith(NATIVE)]
        if foreign and pillow() is None:
            raise SourceError(
                f"reading {clean_text(foreign[0])} needs Pillow, which is not installed: {INSTALL_PILLOW}"
            )

    def frames(self) -> Iterator[Frame]:
        """A frame for each file; a file that has gone or is damaged is a frame that does not load."""
        while self._open:
            for path in self._paths:
                if not self._open:
                    return
                yield Frame(functools.partial(_read, path), {"file": os.path.basename(path)})
            if not self._loop:
                return

    def close(self) -> None:
        """End."""
        self._open = False


def _list(path: str) -> list[str]:
    if os.path.isdir(path):
        names = (name for name in os.listdir(path) if not name.startswith(".") and name.lower().endswith(SUFFIXES))
        found = [os.path.join(path, name) for name in names]
    else:
        found = [path] if os.path.isfile(path) else [item for item in glob.glob(path) if os.path.isfile(item)]
    if not found:
        raise SourceError(f"expected pictures ({', '.join(SUFFIXES)}) at {clean_text(path)}, got none: check the path")
    return sorted(found)


def _read(path: str) -> Array:
    try:
        if not 0 < os.path.getsize(path) <= CAP_BYTES:
            raise DataError(f"{clean_text(path)}: expected 1 to {CAP_BYTES} bytes, got {os.path.getsize(path)}")
        with open(path, "rb") as file:
            return decode(file.read(), clean_text(path))
    except OSError as error:
        raise DataError(f"cannot read {clean_text(path)}: {error.strerror or error}") from error
