"""Raw camera frames as pixels: RGB, BGR, grey, and the YUV layouts cameras have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError, InputError

if TYPE_CHECKING:
    from .frames import Array

__all__ = ["FORMATS", "frame_bytes", "to_pixels"]

# Bytes of a row of the first plane, and of the whole frame, for each pixel.
FORMATS = {"rgb24": (3, 3.0), "bgr24": (3, 3.0), "gray": (1, 1.0), "yuyv": (2, 2.0), "nv12": (1, 1.5), "i420": (1, 1.5)}


def frame_bytes(name: str, width: int, height: int, stride: int = 0) -> int:
    """Bytes of a frame whose rows are ``stride`` bytes apart (0: packed); raises InputError for odd YUV sizes."""
    if name in ("yuyv", "nv12", "i420") and (width % 2 or (height % 2 and name != "yuyv")):
        raise InputError(f"expected an even size for {name}, got {width}x{height}")
    per_row, per_pixel = FORMATS[name]
    return int((stride or width * per_row) * height * per_pixel / per_row)


def to_pixels(name: str, content: Array, width: int, height: int, stride: int = 0) -> Array:
    """uint8 ``content`` (bytes,) as (H, W, 3) RGB, or (H, W) for ``gray``; raises DataError when it is too short.

    YUV is BT.601 of video range, as cameras send it, in fixed point of 8 bits (the usual 298, 409, 208, 100, 516).
    """
    per_row = FORMATS[name][0]
    stride = stride or width * per_row
    if len(content) < frame_bytes(name, width, height, stride):
        raise DataError(f"expected {frame_bytes(name, width, height, stride)} bytes of a frame, got {len(content)}")
    rows = content[: stride * height].reshape(height, stride)[:, : width * per_row]
    if name == "gray":
        return rows
    if name in ("rgb24", "bgr24"):
        pixels = rows.reshape(height, width, 3)
        return pixels if name == "rgb24" else pixels[..., ::-1]
    if name == "yuyv":
        pairs = rows.reshape(height, width // 2, 4)
        return _rgb(pairs[..., 0::2], pairs[..., 1:2], pairs[..., 3:4]).reshape(height, width, 3)
    blocks = rows.reshape(height // 2, 2, width // 2, 2)
    chroma = content[stride * height : stride * height * 3 // 2]
    if name == "nv12":
        halves = chroma.reshape(height // 2, stride)[:, :width].reshape(height // 2, 1, width // 2, 2)
        u, v = halves[..., 0:1], halves[..., 1:2]
    else:
        planes = chroma.reshape(2, height // 2, 1, stride // 2, 1)[:, :, :, : width // 2]
        u, v = planes
    return _rgb(blocks, u, v).reshape(height, width, 3)


def _rgb(y: Array, u: Array, v: Array) -> Array:
    """RGB (..., 3) of luma (...) and of chroma that is broadcast to it."""
    light = y.astype(np.int32) * 298 + (128 - 298 * 16)
    u, v = u.astype(np.int32) - 128, v.astype(np.int32) - 128
    out = np.empty((*y.shape, 3), np.uint8)
    for place, chroma in enumerate((409 * v, -100 * u - 208 * v, 516 * u)):
        value = light + chroma
        value >>= 8
        out[..., place] = np.clip(value, 0, 255, out=value)
    return out
