"""Affine quantization, real = scale * (q - zero_point) (Jacob et al., 2018, arXiv 1712.05877, equation 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["dequantize", "quantize"]


def quantize(real: Array, scale: float, zero_point: int, dtype: np.dtype[Any]) -> Array:
    """Real values as integers of ``dtype``: divided by ``scale`` in float32, rounded half to even, saturated.

    Raises InputError when a value is NaN, which has no integer.
    """
    with np.errstate(over="ignore"):  # beyond float32 is beyond every integer: it saturates
        steps = np.rint(np.asarray(real, np.float32) / np.float32(scale)) + np.float32(zero_point)
    if np.isnan(steps).any():
        raise InputError("expected numbers, got NaN: clean the input before predict()")
    limits = np.iinfo(dtype)
    # In float64, which holds the ends of int32 exactly; float32 would round 2147483647 up and out of range.
    steps_in_range: Array = np.clip(steps.astype(np.float64), limits.min, limits.max).astype(dtype)
    return steps_in_range


def dequantize(steps: Array, scale: float, zero_point: int) -> Array:
    """Integers as float32 real values."""
    return (steps.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
