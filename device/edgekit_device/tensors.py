"""What an input or output tensor is, and how an array becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError
from .quant import quantize
from .text import clean_text

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["TensorSpec", "random_input", "read_spec", "to_array", "to_tensor"]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output as the runtime declares it; ``scale`` is 0.0 where the tensor is not quantized."""

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero_point: int = 0

    @property
    def quantized(self) -> bool:
        """Whether integers of this tensor stand for real values."""
        return self.scale != 0.0 and self.dtype.kind in "iu"


def read_spec(raw: Mapping[str, Any]) -> TensorSpec:
    """A TensorSpec from what the runtime's ``get_input_details`` says of one tensor."""
    scale, zero_point = raw["quantization"]
    return TensorSpec(
        name=clean_text(raw["name"]),
        index=int(raw["index"]),
        shape=tuple(int(size) for size in raw["shape"]),
        dtype=np.dtype(raw["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )


def random_input(spec: TensorSpec) -> Array:
    """A seeded input of the tensor's shape and dtype; zeros where an integer is an index or a token."""
    rng = np.random.default_rng(0)
    if spec.dtype.kind == "f":
        return rng.uniform(-1, 1, spec.shape).astype(spec.dtype)
    if spec.dtype.kind == "b":
        return rng.integers(0, 2, spec.shape).astype(spec.dtype)
    if spec.quantized:
        limits = np.iinfo(spec.dtype)
        return rng.integers(limits.min, limits.max, spec.shape, dtype=spec.dtype, endpoint=True)
    return np.zeros(spec.shape, spec.dtype)  # token ids and indices: zero is the one value always in range


def to_array(spec: TensorSpec, value: object) -> Array:
    """``value`` as an array; raises InputError for what numpy cannot make one of, such as rows of unequal length."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"expected an array for {spec.name}, got {type(value).__name__}: {error}") from error


def to_tensor(spec: TensorSpec, array: Array) -> Array:
    """``array`` in the tensor's dtype; raises InputError where that would change its meaning."""
    if array.dtype == spec.dtype:
        return array
    kind, wanted = array.dtype.kind, spec.dtype.kind
    if spec.quantized and kind == "f":
        return quantize(array, spec.scale, spec.zero_point, spec.dtype)
    if not spec.quantized and wanted == "f" and kind in "fiub":
        return array.astype(spec.dtype)
    if not spec.quantized and wanted in "iu" and kind in "iu":
        return _narrowed(spec, array)
    takes = f"floats (real-world values) or {spec.dtype} (native steps)" if spec.quantized else f"{spec.dtype}"
    raise InputError(f"expected {spec.name} as {takes}, got {array.dtype}: convert it with .astype(...)")


def _narrowed(spec: TensorSpec, array: Array) -> Array:
    limits = np.iinfo(spec.dtype)
    if array.min() < limits.min or array.max() > limits.max:
        raise InputError(
            f"expected {spec.name} within {spec.dtype} ({limits.min} to {limits.max}), "
            f"got values from {array.min()} to {array.max()}"
        )
    return array.astype(spec.dtype)
