"""Arrays on disk: ``.npy`` and ``.npz`` in, and out again so that nothing half-written is ever visible."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, Union

import numpy as np
import numpy.typing as npt

from .errors import DataError

__all__ = ["read_arrays", "read_npz", "write_npy", "write_npz"]

Array = npt.NDArray[Any]


def read_arrays(path: str) -> Union[Array, dict[str, Array]]:
    """The array of an ``.npy``, or the arrays of an ``.npz`` by name; raises DataError. Pickled objects are refused."""
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            return {str(name): loaded[name] for name in loaded.files}
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except MemoryError:
        raise
    except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged files
        raise DataError(
            f"expected {path} as numpy's .npy or .npz of plain numbers, got a file unlike it: {error}"
        ) from error


def read_npz(path: str) -> dict[str, Array]:
    """The arrays of an ``.npz`` by name; raises DataError."""
    arrays = read_arrays(path)
    if not isinstance(arrays, dict):
        raise DataError(f"expected {path} as .npz (numpy.savez), got the one array of an .npy")
    return arrays


def write_npy(path: str, array: Array) -> None:
    """Write one array; raises OSError."""
    with _aside(path) as file:
        np.save(file, array)


def write_npz(path: str, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name; raises OSError."""
    with _aside(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


@contextmanager
def _aside(path: str) -> Iterator[IO[bytes]]:
    """A file beside ``path`` that takes its place once it is whole, and is gone where it is not."""
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise
