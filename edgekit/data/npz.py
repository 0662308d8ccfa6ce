"""Data in a numpy ``.npz`` file.

Files come from colleagues and from the web. Nothing is ever unpickled, and what a header claims is compared with
what the archive holds before memory is reserved.
"""

from __future__ import annotations

import io
import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .arrays import dataset_from_arrays, select_keys
from .dataset import Dataset

__all__ = ["MAX_BYTES", "load_npz"]

MAX_BYTES = 16 << 30
_MAX_HEADER_BYTES = 16_384
_MAX_DEFLATE_RATIO = 1032  # zlib.net/zlib_tech.html: deflate cannot do better
_CHUNK_BYTES = 16 << 20
# What zipfile, zlib and numpy's header parser raise over damaged bytes.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    size_bytes: int


def load_npz(path: str | os.PathLike[str]) -> Dataset:
    """Read ``x_train``, ``y_train``, ``x_test``, ``y_test`` and ``labels``, as many as there are.

    A model with several inputs uses ``x_train.NAME`` and ``x_test.NAME``. Raises DataError for anything that is not
    such a file; pickled objects are always refused, and so are arrays of more than MAX_BYTES in all.
    """
    file = Path(path)
    if file.suffix.lower() == ".npy":
        raise DataError(
            f"expected an .npz file with x_train, y_train, x_test, y_test, got the single array {file}; "
            f"type: np.savez({file.stem + '.npz'!r}, x_test=np.load({file.name!r}), y_test=...)"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            arrays = _read_archive(archive, file)
    except FileNotFoundError as error:
        raise DataError(f"expected an .npz file, got {file}, which does not exist; check the path") from error
    except _BROKEN as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            f"expected a readable .npz file, got {file} ({reason}); save or copy it again: "
            "np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
        ) from error
    return dataset_from_arrays(arrays, file.name)


def _read_archive(archive: zipfile.ZipFile, file: Path) -> dict[str, npt.NDArray[Any]]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    keys = select_keys(members, file.name)
    total_bytes = sum(members[key].file_size for key in keys)
    if total_bytes > MAX_BYTES:
        raise DataError(
            f"{file}: expected at most {MAX_BYTES} bytes of arrays, got {total_bytes}; keep uint8 where you can, "
            "or give fewer samples"
        )
    file_bytes = file.stat().st_size
    return {key: _read_member(archive, members[key], f"{key} in {file}", file_bytes) for key in keys}


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str, file_bytes: int) -> npt.NDArray[Any]:
    _check_plausible(info, what, file_bytes)
    with archive.open(info) as stream:
        header = _read_header(stream.read(_MAX_HEADER_BYTES), what)
    claimed = math.prod(header.shape) * header.dtype.itemsize
    if claimed != info.file_size - header.size_bytes:
        raise DataError(
            f"{what}: expected {claimed} bytes for {header.dtype} of shape {header.shape}, got "
            f"{info.file_size - header.size_bytes}; the file is damaged, save it again"
        )
    flat = np.empty(math.prod(header.shape), header.dtype)
    if claimed:
        with archive.open(info) as stream:
            stream.read(header.size_bytes)
            _fill(stream, flat.view(np.uint8))
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


def _check_plausible(info: zipfile.ZipInfo, what: str, file_bytes: int) -> None:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{what}: expected no or deflate compression, got method {info.compress_type}; use np.savez")
    possible = min(info.compress_size, file_bytes) * _MAX_DEFLATE_RATIO
    if info.file_size > possible:
        raise DataError(
            f"{what}: expected at most {possible} bytes from {info.compress_size} compressed ones, got a claim of "
            f"{info.file_size}; the file is damaged, save it again"
        )


def _read_header(head: bytes, what: str) -> _Header:
    stream = io.BytesIO(head)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns about headers of Python 2 and then reads them well
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"{what} is of the unknown .npy version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read(stream)
    if dtype.hasobject:
        raise DataError(
            f"{what}: expected an array of numbers, got pickled Python objects, which can run code and are never "
            'loaded; save a plain array: np.stack(rows).astype("float32")'
        )
    if dtype.kind not in "biufU" or any(size < 0 for size in shape):
        raise DataError(f"{what}: expected an array of numbers, got dtype {dtype} of shape {shape}; convert it")
    return _Header(shape, fortran_order, dtype, stream.tell())


def _fill(stream: IO[bytes], target: npt.NDArray[np.uint8]) -> None:
    start = 0
    while start < target.size:
        piece = stream.read(min(_CHUNK_BYTES, target.size - start))
        if not piece:
            raise EOFError(f"{target.size - start} bytes are missing at the end")
        target[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        start += len(piece)
