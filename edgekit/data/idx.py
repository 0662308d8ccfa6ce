"""IDX, the format of MNIST and its heirs: two zero bytes, a type, the number of dimensions, big-endian sizes, values.

Described at the end of http://yann.lecun.com/exdb/mnist/; edgekit reads unsigned bytes, plain or gzipped.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from ..errors import DataError

__all__ = ["MAX_BYTES", "read_idx"]

MAX_BYTES = 1 << 30
_UNSIGNED_BYTE = 0x08
_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}


def read_idx(path: str | os.PathLike[str], *, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array of a file of unsigned bytes with so many dimensions, at most MAX_BYTES large; raises DataError."""
    file = Path(path)
    try:
        with _opened(file) as stream:
            shape = _read_shape(stream, file, dimensions)
            count = math.prod(shape)
            values = stream.read(count + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"expected a readable IDX file, got {file} ({type(error).__name__}: {error}); download it again"
        ) from error
    if len(values) != count:
        got = f"only {len(values)}" if len(values) < count else "more"
        raise DataError(f"{file}: expected {count} values for shape {shape}, got {got}; download it again")
    return np.frombuffer(bytearray(values), np.uint8).reshape(shape)


def _opened(file: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def _read_shape(stream: IO[bytes], file: Path, dimensions: int) -> tuple[int, ...]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{file}: expected an IDX file, with two zero bytes first, got {magic!r}; download it again")
    if magic[2] != _UNSIGNED_BYTE:
        kind = _TYPES.get(magic[2], f"unknown type 0x{magic[2]:02x}")
        raise DataError(f"{file}: expected unsigned bytes (type 0x08), got {kind}; convert it and use an .npz file")
    if magic[3] != dimensions:
        raise DataError(f"{file}: expected {dimensions} dimensions, got {magic[3]}; images and labels may be swapped")
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(f"{file}: expected {dimensions} sizes, got {len(sizes)} bytes of them; download it again")
    shape = struct.unpack(f">{dimensions}I", sizes)
    if math.prod(shape) > MAX_BYTES:
        raise DataError(f"{file}: expected at most {MAX_BYTES} values, got shape {shape}; download it again")
    return shape
