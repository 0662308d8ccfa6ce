"""libedgetpu: where it is, which version, and whether it can be loaded at all."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..errors import ModelCrashError, ModelError
from ..probe import CAN_FORK, probe
from ..text import clean_text
from .compiled import edgetpu_library
from .edgetpu import Root

__all__ = ["EdgeTpuLibrary", "find_library"]

FOLDERS = ("usr/local/lib", "usr/lib", "lib", "usr/lib64", "lib64")
PACKAGES = ("libedgetpu1-std", "libedgetpu1-max")
LOAD_DEADLINE_S = 20.0
ANSWER_BYTES = 400


@dataclass(frozen=True)
class EdgeTpuLibrary:
    """``path`` is empty when there is none; ``package`` is the Debian package and its version where dpkg knows it;
    ``version`` what the library says of itself; ``error`` why it cannot be loaded."""

    path: str = ""
    package: str = ""
    version: str = ""
    error: str = ""


def find_library(root: Root = "/", library: Optional[str] = None) -> EdgeTpuLibrary:
    """libedgetpu below ``root`` (or the file ``library``), tried in a child process: asking a broken one may crash."""
    base, wanted = Path(root), library or edgetpu_library()
    path = next((str(place) for place in _places(base, wanted) if place.is_file()), "")
    if not path:
        return EdgeTpuLibrary()
    version, error = _ask(path)
    return EdgeTpuLibrary(path, _package(base), version, error)


def _places(base: Path, wanted: str) -> Iterator[Path]:
    if os.sep in wanted:
        yield Path(wanted)
        return
    if base == Path("/"):
        yield from (Path(folder) / wanted for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder)
    for folder in FOLDERS:
        yield base / folder / wanted
        yield from sorted((base / folder).glob(f"*-linux-*/{wanted}"))


def _package(base: Path) -> str:
    """Name and version of the package that brings it, from dpkg's own records."""
    try:
        text = (base / "var/lib/dpkg/status").read_text("utf-8", "replace")
    except OSError:
        return ""
    for stanza in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Package") in PACKAGES and " installed" in fields.get("Status", ""):
            return clean_text(f"{fields['Package']} {fields.get('Version', '')}")
    return ""


def _ask(path: str) -> tuple[str, str]:
    """Version (``edgetpu_version`` of edgetpu_c.h) and error, of which one is empty; both where nothing can be forked."""
    if not CAN_FORK:
        return "", ""
    answer = mmap.mmap(-1, ANSWER_BYTES)  # shared with the child

    def ask() -> None:
        loaded = ctypes.CDLL(path)
        if not hasattr(loaded, "tflite_plugin_create_delegate"):
            raise OSError("it has no tflite_plugin_create_delegate: it is no TFLite delegate")
        if hasattr(loaded, "edgetpu_version"):
            loaded.edgetpu_version.restype = ctypes.c_char_p
            answer.write((loaded.edgetpu_version() or b"")[:ANSWER_BYTES])

    try:
        probe(ask, "loading", deadline_s=LOAD_DEADLINE_S)
    except ModelCrashError as error:
        return "", f"it crashes when it is loaded ({error.signal_name})"
    except ModelError as error:
        return "", clean_text(str(error).split("loading: ", 1)[-1])
    return clean_text(answer[:].split(b"\0", 1)[0].decode("utf-8", "replace")), ""
