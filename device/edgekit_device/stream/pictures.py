"""Pictures from bytes: PPM, PGM, BMP and NPY by ourselves, the rest by Pillow where it is installed."""

from __future__ import annotations

import functools
import importlib
import io
import struct
from typing import IO, TYPE_CHECKING, Any, Optional

import numpy as np

from ..errors import DataError
from ..text import first_line
from .frames import check_pixels

if TYPE_CHECKING:
    from .frames import Array

__all__ = ["INSTALL_PILLOW", "decode", "pillow", "read_netpbm", "read_npy"]

INSTALL_PILLOW = 'pip install "edgekit-device[images]"'
CAP_BYTES = 1 << 30
_PILLOW_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")


@functools.lru_cache(maxsize=1)
def pillow() -> Optional[Any]:
    """``PIL.Image``, or None where Pillow is not installed or does not import."""
    try:
        return importlib.import_module("PIL.Image")
    except ImportError:
        return None


def decode(content: bytes, name: str) -> Array:
    """The picture in ``content``: uint8 (H, W) or (H, W, 3), or an .npy's array. Raises DataError, naming ``name``."""
    try:
        file = io.BytesIO(content)
        if content[:2] in (b"P5", b"P6"):
            picture = read_netpbm(file)
        elif content[:6] == b"\x93NUMPY":
            picture = read_npy(file)
        else:
            picture = _bmp(content) if content[:2] == b"BM" else _by_pillow(file)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    return picture if picture is not None else np.empty(0, np.uint8)


def read_netpbm(file: IO[bytes]) -> Optional[Array]:
    """The next binary PGM or PPM of 8 bits in ``file``, which may hold many; None at its end. Raises DataError."""
    magic = file.read(2)
    if not magic:
        return None
    fields = [_netpbm_number(file) for _ in range(3)] if magic in (b"P5", b"P6") else [0, 0, 0]
    width, height, largest = fields
    if not 0 < largest < 256:
        raise DataError(f"expected a binary PGM or PPM of 8 bits (P5 or P6), got {magic!r} up to {largest}")
    check_pixels(width, height, "a PGM or PPM")
    pixels = read_exactly(file, np.empty((height, width, 3) if magic == b"P6" else (height, width), np.uint8))
    return pixels if largest == 255 else (pixels.astype(np.uint16) * 255 // largest).astype(np.uint8)


def read_npy(file: IO[bytes]) -> Optional[Array]:
    """The next array of ``file``, which may hold many (``numpy.save`` into a pipe); None at its end. Raises DataError."""
    try:
        magic = file.read(8)
        if not magic:
            return None
        version = np.lib.format.read_magic(io.BytesIO(magic))
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[version](file)
        size_bytes = dtype.itemsize * int(np.prod(shape, dtype=np.float64))
        if dtype.kind not in "fiub" or size_bytes > CAP_BYTES:
            raise DataError(f"expected an array of numbers of at most {CAP_BYTES} bytes, got {dtype} {shape}")
        flat = read_exactly(file, np.empty(shape[::-1] if fortran else shape, dtype))
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged header raises what Python's own parser raises
        raise DataError(f"expected numpy's .npy, got a damaged one: {first_line(error)}") from error
    return flat.T if fortran else flat


def read_exactly(file: IO[bytes], into: Array) -> Array:
    """Fill ``into`` from ``file``; raises DataError when it ends before."""
    flat: Any = into.reshape(-1).view(np.uint8)
    view = memoryview(flat)
    got = 0
    while got < len(view):
        more = file.readinto(view[got:])  # type: ignore[attr-defined]
        if not more:
            raise DataError(f"expected {len(view)} bytes of a frame, got {got} before the end")
        got += more
    return into


def _netpbm_number(file: IO[bytes]) -> int:
    """The next number of a header, over white space and comments; the one white space behind it is taken too."""
    digits = b""
    while len(digits) < 10:
        byte = file.read(1)
        if byte == b"#":
            while byte not in (b"\n", b""):
                byte = file.read(1)
        elif byte.isdigit():
            digits += byte
        elif not byte.isspace() or digits:
            break
    if not digits:
        raise DataError("expected a number in the header of a PGM or PPM, got none")
    return int(digits)


def _bmp(content: bytes) -> Array:
    """An uncompressed BMP of 8 (with a palette), 24 or 32 bits."""
    try:
        start, header, width, height, _, bits, compression = struct.unpack_from("<10xIIiiHHI", content)
        check_pixels(width, abs(height), "a BMP")
        if compression not in (0, 3) or bits not in (8, 24, 32):
            raise DataError(f"expected an uncompressed BMP of 8, 24 or 32 bits, got {bits} (compression {compression})")
        stride = (width * bits + 31) // 32 * 4
        rows = np.frombuffer(content, np.uint8, stride * abs(height), start).reshape(abs(height), stride)
        rows = rows[::-1] if height > 0 else rows
        pixels = rows[:, : width * bits // 8].reshape(abs(height), width, bits // 8)
        if bits > 8:
            return np.ascontiguousarray(pixels[..., 2::-1])
        palette = np.frombuffer(content, np.uint8, min(start - 14 - header, 1024) // 4 * 4, 14 + header).reshape(-1, 4)
        return palette[pixels[..., 0], 2::-1]
    except (struct.error, ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"expected a whole BMP, got a damaged one: {first_line(error)}") from error


def _by_pillow(file: IO[bytes]) -> Array:
    library = pillow()
    if library is None:
        raise DataError(f"expected PPM, PGM, BMP or NPY; other pictures need Pillow: {INSTALL_PILLOW}")
    try:
        with library.open(file, formats=_PILLOW_FORMATS) as picture:
            check_pixels(picture.width, picture.height, "a picture")
            opaque = picture.convert("RGBA") if "transparency" in picture.info else picture
            return np.asarray(opaque.convert("L" if picture.mode in ("1", "L") else "RGB"))
    except DataError:
        raise
    except Exception as error:  # damaged pictures raise a dozen kinds
        raise DataError(f"expected a picture, got a damaged one or none: {first_line(error)}") from error
