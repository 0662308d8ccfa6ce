"""A checkpoint of a training run: one file of arrays, whole or absent, and only for the run that wrote it."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Checkpoint", "digest", "read_checkpoint", "write_checkpoint", "write_whole"]

Array = npt.NDArray[Any]
FILE = "training.npz"
FACTS = "facts"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """``facts`` is plain JSON data; ``arrays`` are lists of arrays by a name of their own (weights, slots, …)."""

    facts: Mapping[str, Any]
    arrays: Mapping[str, Sequence[Array]]


def digest(*parts: object) -> str:
    """A name for what decides a run: JSON data, strings, and arrays (their shape, type and content), in this order."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype.str}{part.shape}".encode())
            found.update(np.ascontiguousarray(part).view(np.uint8).data if part.size and part.ndim else part.tobytes())
        else:
            found.update(json.dumps(part, sort_keys=True, default=str).encode())
        found.update(b"\0")
    return found.hexdigest()


def write_checkpoint(folder: Path, key: str, checkpoint: Checkpoint) -> None:
    """Put the checkpoint of the run called ``key`` in place of the last one, which a kill at any moment leaves whole."""
    flat = {f"{name}/{at}": value for name, values in checkpoint.arrays.items() for at, value in enumerate(values)}
    counts = {name: len(values) for name, values in checkpoint.arrays.items()}
    text = json.dumps({"key": key, "counts": counts, "facts": checkpoint.facts})
    flat[FACTS] = np.frombuffer(text.encode(), np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / FILE, lambda path: _save(path, flat))


def read_checkpoint(folder: Path, key: str, like: Mapping[str, Sequence[Array]]) -> Checkpoint | None:
    """The checkpoint that the run called ``key`` left; None where there is none, it is damaged, or another run's.

    ``like`` holds arrays of the shapes and types that are needed; a name whose list is shorter in it is taken as stored.
    """
    try:
        with (folder / FILE).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            written = json.loads(archive[FACTS].tobytes())
            if written["key"] != key:
                return None
            arrays = {
                name: [archive[f"{name}/{at}"] for at in range(count)] for name, count in written["counts"].items()
            }
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    if any(not _alike(arrays.get(name, []), values) for name, values in like.items()):
        return None
    return Checkpoint(written["facts"], arrays)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write(a path beside it)`` make a file, then put it at ``path`` in one step, flushed to the disk."""
    aside = path.with_name(f".aside-{path.name}")  # one writer for each folder: what a killed one left is overwritten
    try:
        write(aside)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    with path.open("wb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]


def _alike(found: Sequence[Array], wanted: Iterable[Array]) -> bool:
    return [(value.shape, value.dtype) for value in found] == [(value.shape, value.dtype) for value in wanted]
