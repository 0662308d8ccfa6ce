"""Arrays on disk: ``.npy`` and ``.npz`` in, and out again so that nothing half-written is ever visible.

A data file may be larger than the board's memory: what lies uncompressed in it is mapped, not read, and what is written
row by row is never held as a whole.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any, Optional, Union

import numpy as np
import numpy.typing as npt

from .errors import DataError

__all__ = ["RowsFile", "map_npz", "read_arrays", "read_npz", "write_npy", "write_npz"]

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


def map_npz(path: str) -> dict[str, Array]:
    """The arrays of an ``.npz`` by name, mapped from the disk where ``numpy.savez`` left them uncompressed; raises DataError.

    Compressed ones are read into memory. The file must not change while they are in use.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            mapped = {info.filename[:-4]: _map_member(archive, path, info) for info in members}
    except Exception:  # a dozen kinds for damaged files: the reader that is not in a hurry says what is wrong
        return read_npz(path)
    whole = {name: value for name, value in mapped.items() if value is not None}
    return whole if len(whole) == len(mapped) else read_npz(path)


def _map_member(archive: zipfile.ZipFile, path: str, info: zipfile.ZipInfo) -> Optional[Array]:
    """The member's data as an array on the disk; None where it has to be read."""
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(member)
        header_bytes = member.tell()
    if (
        dtype.hasobject
        or fortran
        or 0 in shape
        or header_bytes + dtype.itemsize * int(np.prod(shape)) != info.file_size
    ):
        return None
    with open(path, "rb") as file:  # the local header's own lengths: they may differ from the directory's
        file.seek(info.header_offset)
        name_bytes, extra_bytes = struct.unpack("<26xHH", file.read(30))
    start = info.header_offset + 30 + name_bytes + extra_bytes + header_bytes
    return np.memmap(path, dtype, mode="r", offset=start, shape=shape)


class RowsFile:
    """An ``.npz`` (``output_0``, …) that is written batch by batch, and takes its place at ``path`` when it is whole.

    A context manager; the batches wait in files beside ``path``, so that the memory holds one at a time. Raises OSError.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._stack = ExitStack()
        self._parts: list[IO[bytes]] = []
        self._kinds: list[tuple[np.dtype[Any], tuple[int, ...]]] = []
        self._rows = 0

    def __enter__(self) -> RowsFile:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            if kind is None:
                self._assemble()

    def append(self, outputs: Sequence[Array]) -> None:
        """One batch: an array of shape (rows, …) for each output."""
        if not self._parts:
            folder = os.path.dirname(os.path.abspath(self._path))
            parts = (tempfile.TemporaryFile(dir=folder) for _ in outputs)  # noqa: SIM115 - the stack closes them
            self._parts = [self._stack.enter_context(part) for part in parts]
            self._kinds = [(value.dtype, value.shape[1:]) for value in outputs]
        for part, value in zip(self._parts, outputs):
            part.write(np.ascontiguousarray(value).tobytes())
        self._rows += len(outputs[0])

    def _assemble(self) -> None:
        with _aside(self._path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for index, (part, (dtype, shape)) in enumerate(zip(self._parts, self._kinds)):
                part.seek(0)
                with archive.open(f"output_{index}.npy", "w", force_zip64=True) as member:
                    facts = {"descr": dtype.str, "fortran_order": False, "shape": (self._rows, *shape)}
                    np.lib.format.write_array_header_1_0(member, facts)
                    shutil.copyfileobj(part, member, 1 << 20)


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
