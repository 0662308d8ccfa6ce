"""Clusters that stay clusters in int8.

A clustered layer has a few values in its Keras kernel, but its file has many: folding batch normalization scales each
output channel by its own factor, and int8 scales each channel by its own largest weight. So the same few values become up
to 255 different codes, and the file zips as badly as ever. Here the factors are found again in the folded float kernel, and
each channel's int8 scale is set to its factor: then all channels use the codes of one small codebook. The price is a
coarser step in channels that do not use the largest value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model_card import ModelCard, OpCard, TensorCard, read_model_card
from ..tensor_facts import stored_values

__all__ = ["Codebook", "find_codebook", "share_codes"]

Array = npt.NDArray[Any]
# Where the weights and the bias of an operator are.
OPERANDS = {"CONV_2D": (1, 2), "DEPTHWISE_CONV_2D": (1, 2), "FULLY_CONNECTED": (1, 2), "TRANSPOSE_CONV": (1, 3)}
MOST_VALUES = 64
LARGEST_CODE = 127
CODE_CANDIDATES = 2001
# How many of a channel's values are tried as any of the codebook's.
ANCHORS = 8
CODES_PER_VALUE = 4
SCALE_BITS = 12
# Folding multiplies two float32 numbers: each value is within a few units in the last place of value * factor.
TOLERANCE = 8 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class Codebook:
    """The few ``values`` of a kernel, the largest of magnitude 1, and each channel's ``factors``: weight = value * factor.

    ``indices`` has the kernel's shape with channels first.
    """

    values: Array
    factors: Array
    indices: Array


def share_codes(float_model: bytes, quantized: bytes) -> bytes:
    """``quantized`` with per-channel scales under which the channels of a clustered kernel share their codes.

    ``float_model`` is the file it was quantized from. Weights, their scales and biases change in place, each weight by at
    most half a step of its new scale (and a fiftieth, for scales are shortened); nothing else does, and zeros stay zeros.
    Kernels that are not clustered, or that would have no fewer codes, stay as they are: the same bytes come back when all
    do.
    """
    source, target = read_model_card(float_model), read_model_card(quantized)
    data = bytearray(quantized)
    floats = {tensor.name: tensor for tensor in source.tensors if tensor.constant}
    changed = False
    for place in _places(target, data):
        origin = floats.get(place.weights.name)
        weights = stored_values(float_model, origin) if origin else None
        if weights is not None and weights.shape == place.weights.shape and _stands_for(place, weights):
            changed |= _rewrite(place, weights)
    return bytes(data) if changed else quantized


def find_codebook(channels: Array) -> Codebook | None:
    """The codebook of a float kernel of shape (channels, …) whose channels are multiples of a few shared values.

    None when there are more than MOST_VALUES.
    """
    uniques = [np.unique(channel[channel != 0]).astype(np.float64) for channel in channels.reshape(len(channels), -1)]
    if not len(uniques) or not 0 < max(map(len, uniques)) <= MOST_VALUES:
        return None
    values = np.zeros(0)
    multiples = np.ones(len(uniques))
    for channel in sorted(range(len(uniques)), key=lambda i: -len(uniques[i])):
        found = uniques[channel]
        if not len(found):
            continue
        multiples[channel] = _multiple(found, values) if len(values) else 1 / np.abs(found).max()
        scaled = found * multiples[channel]
        values = np.sort(np.concatenate([values, scaled[~_member(scaled, values)]]))
        if len(values) > MOST_VALUES:
            return None
    values = np.sort(np.append(values, 0.0))
    largest = np.abs(values).max()
    scaled = channels * multiples.reshape(-1, *[1] * (channels.ndim - 1))
    return Codebook(values / largest, largest / multiples, _nearest(scaled, values))


def _multiple(found: Array, values: Array) -> float:
    """The number that takes most of ``found`` to members of ``values``; of several the largest, whose step is finest."""
    candidates = np.unique(values[:, None] / found[:: max(1, len(found) // ANCHORS)])
    hits = _member(candidates[:, None] * found, values).sum(axis=1)
    if hits.max() < min(len(found), 3):
        return float(np.abs(values).max() / np.abs(found).max())
    best = candidates[hits == hits.max()]
    return float(best[np.argmax(np.abs(best))])


def _nearest(scaled: Array, values: Array) -> Array:
    right = (
        np.clip(np.searchsorted(values, scaled), 1, len(values) - 1) if len(values) > 1 else np.zeros(scaled.shape, int)
    )
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(scaled - values[left]) <= np.abs(scaled - values[right]), left, right)


def _member(scaled: Array, values: Array) -> Array:
    """Which numbers are in ``values``, to float32 rounding."""
    if not len(values):
        return np.zeros(scaled.shape, bool)
    member: Array = np.abs(scaled - values[_nearest(scaled, values)]) <= TOLERANCE * np.abs(scaled)
    return member


def _best_code(book: Codebook) -> float:
    """What the largest value is coded as: of many candidates, the one that rounds the weights of the channels best.

    A few codes for each value are fine enough, and kernels with codes in the same narrow range zip better together.
    Rounding is the same wherever a value is used, so that errors of a channel add up instead of averaging out: their sum
    counts as well as their squares.
    """
    channels = book.indices.reshape(len(book.indices), -1)
    counts = np.stack([np.bincount(channel, minlength=len(book.values)) for channel in channels]).astype(np.float64)
    least = min(CODES_PER_VALUE * len(book.values), LARGEST_CODE) / 2
    candidates = np.linspace(least, min(2 * least, LARGEST_CODE), CODE_CANDIDATES)
    scaled = candidates[:, None] * book.values
    errors = (np.rint(scaled) - scaled) / candidates[:, None]
    costs = ((errors @ counts.T) ** 2).sum(axis=1) + errors**2 @ counts.sum(axis=0)
    return float(candidates[np.argmin(costs)])


def _shortened(scales: Array) -> Array:
    """Scales of SCALE_BITS significant bits, which zip to half: off by an eight-thousandth, a hundredth of a step."""
    mantissas, exponents = np.frexp(scales)
    short: Array = np.ldexp(np.rint(mantissas * 2**SCALE_BITS) / 2**SCALE_BITS, exponents).astype(np.float32)
    return short


@dataclass(frozen=True, eq=False)
class _Place:
    """One kernel in the file to be changed: arrays that are views into its bytes."""

    weights: TensorCard
    codes: Array
    scales: Array
    bias: Array | None
    bias_scales: Array | None
    input_scale: float


def _places(card: ModelCard, data: bytearray) -> Iterator[_Place]:
    """The per-channel int8 kernels that only one operator of the first subgraph uses, and whose bytes are its own."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    buffers = Counter(graph.Tensors(i).Buffer() for graph in graphs for i in range(graph.TensorsLength()))
    uses = Counter(index for op in card.ops for index in op.inputs)
    for op in card.ops:
        operands = _operands(op, card)
        if operands and all(
            uses[item.index] == 1 and buffers[graphs[0].Tensors(item.index).Buffer()] == 1 for item in operands
        ):
            yield _place(op, card, operands, model)


def _operands(op: OpCard, card: ModelCard) -> list[TensorCard]:
    """The kernel and, where it is an integer one, the bias of an operator; empty where there is nothing to share."""
    where = [op.inputs[i] for i in OPERANDS.get(op.type, ()) if i < len(op.inputs) and op.inputs[i] >= 0]
    tensors = [card.tensors[index] for index in where]
    if not tensors or tensors[0].dtype != "int8" or not tensors[0].constant or len(tensors[0].scales) < 2:
        return []
    if any(tensors[0].zero_points):
        return []
    biases = [item for item in tensors[1:] if item.dtype in ("int32", "int64")]
    fitting = all(item.constant and len(item.scales) == len(tensors[0].scales) for item in biases)
    return [tensors[0], *biases] if fitting else []


def _place(op: OpCard, card: ModelCard, operands: list[TensorCard], model: Any) -> _Place:
    def raw(tensor: TensorCard) -> Any:
        return model.Subgraphs(0).Tensors(tensor.index)

    def stored(tensor: TensorCard) -> Array:
        values: Array = model.Buffers(raw(tensor).Buffer()).DataAsNumpy().view(tensor.dtype)
        return values

    kernel, bias = operands[0], operands[1] if len(operands) > 1 else None
    source = card.tensors[op.inputs[2 if op.type == "TRANSPOSE_CONV" else 0]]
    return _Place(
        kernel,
        stored(kernel).reshape(kernel.shape),
        raw(kernel).Quantization().ScaleAsNumpy(),
        stored(bias) if bias else None,
        raw(bias).Quantization().ScaleAsNumpy() if bias else None,
        source.scales[0] if source.scales else 1.0,
    )


def _stands_for(place: _Place, weights: Array) -> bool:
    """Whether the codes are the rounded float weights: what has another meaning is left alone."""
    shape = [1] * weights.ndim
    shape[place.weights.quantized_dimension] = -1
    scales = place.scales.reshape(shape)
    return bool((np.abs(place.codes * scales - weights) <= 0.51 * scales).all())


def _rewrite(place: _Place, weights: Array) -> bool:
    """Codes, scales and bias in terms of the kernel's codebook, if it has one and that means fewer codes."""
    axis = place.weights.quantized_dimension
    book = find_codebook(np.moveaxis(weights, axis, 0))
    if book is None:
        return False
    largest = _best_code(book)
    signs = np.sign(book.factors).reshape(-1, *[1] * (weights.ndim - 1))
    codes = (np.rint(book.values * largest)[book.indices] * signs).astype(np.int8)
    if len(np.unique(codes)) >= len(np.unique(place.codes)):
        return False
    used = np.any(codes != 0, axis=tuple(range(1, codes.ndim)))
    scales = _shortened(np.where(used, np.abs(book.factors) / largest, place.scales).astype(np.float32))
    if place.bias is not None and place.bias_scales is not None:
        limits = np.iinfo(place.bias.dtype)
        wanted = np.rint(place.bias * place.bias_scales.astype(np.float64) / (place.input_scale * scales))
        place.bias[:] = np.clip(wanted, limits.min, limits.max)
        place.bias_scales[:] = place.input_scale * scales
    place.codes[...] = np.moveaxis(codes, 0, axis)
    place.scales[:] = scales
    return True
