"""Samples as TFLM's and LiteRT's inputs take them, and how far their outputs are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import TargetError
from ...model_card import ModelCard, TensorCard

__all__ = ["Parity", "Sample", "compare", "prepare"]

Array = npt.NDArray[Any]
Sample = Mapping[str, Any] | Array
Parity = tuple[float, float]


def prepare(samples: Sequence[Sample], card: ModelCard) -> list[dict[int, Array]]:
    """Each sample as arrays of the inputs' own type and shape, by the input's number.

    A sample is an array for a model of one input, or arrays by the inputs' names (the tensor's, or that of the signature).
    Where an input is quantized, floats are real values and become steps (rounded half to even, saturated); integers of
    the input's own type are steps already. A first dimension of one row may be left out.

    Raises TargetError (refused) for a sample that does not fit.
    """
    return [
        {index: _fit(_pick(sample, card, index), card.inputs[index]) for index in range(len(card.inputs))}
        for sample in samples
    ]


def _pick(sample: Sample, card: ModelCard, index: int) -> Array:
    tensor = card.inputs[index]
    if not isinstance(sample, Mapping):
        if len(card.inputs) != 1:
            raise TargetError(
                f"expected each sample as arrays by name for {len(card.inputs)} inputs "
                f"({', '.join(item.name for item in card.inputs)}), got one array",
                refused=True,
            )
        return np.asarray(sample)
    names = [
        tensor.name,
        *(name for one in card.signatures for name, i in one.inputs.items() if i == tensor.index and one.subgraph == 0),
    ]
    for name in names:
        if name in sample:
            return np.asarray(sample[name])
    raise TargetError(
        f"expected a sample with the input {' or '.join(names)}, got {', '.join(map(str, sample))}", refused=True
    )


def _fit(values: Array, tensor: TensorCard) -> Array:
    dtype = np.dtype(tensor.dtype)
    shape = tensor.shape
    if values.shape != shape and (1, *values.shape) == shape:
        values = values[None]
    if values.shape != shape:
        raise TargetError(
            f"expected samples of shape {list(shape)} for the input {tensor.name}, got {list(values.shape)}",
            refused=True,
        )
    if values.dtype == dtype:
        return values
    if tensor.scales and dtype.kind in "iu" and len(tensor.scales) == 1:
        return _quantize(values, tensor.scales[0], tensor.zero_points[0] if tensor.zero_points else 0, dtype)
    if not np.can_cast(values.dtype, dtype, "same_kind") and values.dtype.kind not in "iub":
        raise TargetError(f"expected samples of {dtype} for the input {tensor.name}, got {values.dtype}", refused=True)
    return values.astype(dtype)


def _quantize(real: Array, scale: float, zero_point: int, dtype: np.dtype[Any]) -> Array:
    """As the device package does: divided in float32, half to even, saturated (arXiv 1712.05877, equation 1)."""
    steps = np.rint(np.asarray(real, np.float32) / np.float32(scale)) + np.float32(zero_point)
    if np.isnan(steps).any():
        raise TargetError("expected numbers in the samples, got NaN: clean the data first", refused=True)
    limits = np.iinfo(dtype)
    in_range: Array = np.clip(steps.astype(np.float64), limits.min, limits.max).astype(dtype)
    return in_range


def compare(ours: Mapping[int, Array], theirs: Mapping[int, Array], outputs: Sequence[TensorCard]) -> Parity:
    """The share of output values that are equal to the bit, and the largest difference in real-world units.

    What is no number in both is equal, whatever its bits; where only one is none, the difference is infinite.
    """
    equal = total = 0
    largest = 0.0
    for index, tensor in enumerate(outputs):
        a, b = ours[index], theirs[index].reshape(ours[index].shape)
        same = _same(a, b)
        equal += int(np.count_nonzero(same))
        total += a.size
        scale = tensor.scales[0] if len(tensor.scales) == 1 else 1.0
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(a.astype(np.float64) - b.astype(np.float64)) * scale
        apart = np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
        largest = max(largest, float(apart.max(initial=0.0)))
    return (equal / total if total else 1.0), largest


def _same(a: Array, b: Array) -> Array:
    """Where the bits are the same, -0.0 being another than 0.0."""
    if a.dtype.kind != "f":
        return np.asarray(a == b)
    bits = f"u{a.dtype.itemsize}"
    equal = np.ascontiguousarray(a).view(bits) == np.ascontiguousarray(b).view(bits)
    return np.asarray(equal | (np.isnan(a) & np.isnan(b)))
