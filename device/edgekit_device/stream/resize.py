"""Pillow's bilinear resize in numpy, equal to it bit for bit: what the host did to the training images.

Method: Pillow's src/libImaging/Resample.c. Two passes, across and then down, each a weighted sum of the few inputs
below a triangle as wide as the shrinking; 8-bit pixels in fixed point of 22 bits, floats in double precision. Where the
height shrinks by more than twice what the width does, down comes first, as in Pillow 13 (before, the result was up to
a step another).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from .pictures import pillow

if TYPE_CHECKING:
    from .frames import Array

__all__ = ["resize"]

PRECISION_BITS = 22


def resize(image: Array, height: int, width: int) -> Array:
    """``image`` (H, W, C), uint8 or float32, at the new size in the same dtype; itself where it has it already.

    Pillow does it where it is installed, for it is four times as fast; the result is the same.
    """
    if image.shape[:2] == (height, width):
        return image
    library = pillow()
    if library is not None and image.dtype == np.uint8 and image.shape[2] in (1, 3):
        picture = library.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image))
        resized = picture.resize((width, height), library.Resampling.BILINEAR)
        return np.asarray(resized).reshape(height, width, image.shape[2])
    return resize_in_numpy(image, height, width)


def resize_in_numpy(image: Array, height: int, width: int) -> Array:
    """The same, by numpy alone."""
    rows, columns, _ = image.shape
    if rows - height > max(0, 2 * (columns - width)):
        return _across(_down(image, height), width)
    return _down(_across(image, width), height)


def _down(image: Array, height: int) -> Array:
    rows, columns, channels = image.shape
    return image if rows == height else _shrink(image.reshape(rows, -1), height).reshape(height, columns, channels)


def _across(image: Array, width: int) -> Array:
    if image.shape[1] == width:
        return image
    return np.ascontiguousarray(_down(np.ascontiguousarray(image.transpose(1, 0, 2)), width).transpose(1, 0, 2))


def _shrink(lines: Array, count: int) -> Array:
    """``count`` weighted sums of the lines (axis 0)."""
    indices, weights = _taps(len(lines), count)
    fixed = lines.dtype == np.uint8
    kind: Any = np.int32 if fixed else np.float64
    total = np.full((count, lines.shape[1]), 1 << (PRECISION_BITS - 1) if fixed else 0, kind)
    picked, term = np.empty(total.shape, lines.dtype), np.empty_like(total)
    for index, weight in zip(indices, (weights * (1 << PRECISION_BITS) + 0.5).astype(kind) if fixed else weights):
        np.take(lines, index, axis=0, out=picked, mode="clip")
        np.multiply(picked, weight[:, None], out=term, dtype=kind)
        total += term
    return (total >> PRECISION_BITS).astype(np.uint8) if fixed else total.astype(np.float32)


@functools.lru_cache(maxsize=16)
def _taps(inside: int, outside: int) -> tuple[Array, Array]:
    """For each tap the line it takes and its weight, both (taps, outside): Pillow's precompute_coeffs."""
    scale = inside / outside
    support = max(scale, 1.0)
    centre = (np.arange(outside) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(int), 0)
    last = np.minimum((centre + support + 0.5).astype(int), inside)
    taps = np.arange(int((last - first).max()))[:, None]
    weights = np.maximum(1.0 - np.abs((taps + first - centre + 0.5) * (1.0 / support)), 0.0)
    weights[first + taps >= last] = 0.0
    # cumsum adds in C's order, which numpy's sum does not.
    return np.minimum(first + taps, inside - 1), weights / np.cumsum(weights, axis=0)[-1]
