"""Cross-layer equalization: the channels of an activation are scaled so that none is lost in the steps of another.

int8 has one scale for a whole activation. Where its channels differ by orders of magnitude, the small ones get a few
levels, or none. Between two layers the scale of a channel is free, for ReLU(s x) = s ReLU(x): the layer before makes
channel c ``s[c]`` times larger and the layer after takes it ``s[c]`` times smaller (Nagel et al., 2019, arXiv
1906.04721, section 4.1). The paper balances two kernels; with one scale per output channel, as TFLite has them, the
kernel before needs no balance, and what counts is the range of the activation, as seen on samples:

- before a depthwise convolution, whose kernel has a scale per channel too, every channel gets the same range;
- before a convolution or a fully connected layer, the range ``a`` of a channel is balanced with the largest weight
  ``w`` that takes it: s = sqrt(w / a) (Xiao et al., 2023, arXiv 2211.10438, equation 4, with its alpha of one half).

The largest channel gets no larger. Scales are powers of two: products and sums scale exactly, and the float model's
answers stay the same to the bit.

A fused ReLU6 stops at 6 whatever the channel: channels that reach it keep their scale, and the others grow to 6 at
most, so that on the samples nothing changes. Beyond them such a channel stops where its range on the samples ended
(up to the power of two), as int8 itself would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .calibrate import watch_activations
from .surgery import FlatModel

__all__ = ["Equalized", "Pair", "equalize", "find_pairs"]

Array = npt.NDArray[Any]
# Where the kernel of each has its input channels and its output channels.
_KERNEL_AXES = {"CONV_2D": (3, 0), "DEPTHWISE_CONV_2D": (3, 3), "FULLY_CONNECTED": (1, 0)}
_OPTIONS = {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D", "FULLY_CONNECTED": "FullyConnected"}
# Operators between the two layers that a positive scale of a channel passes through unchanged.
_PASSING = frozenset({"RELU", "RELU6", "LEAKY_RELU", "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "MEAN"})
_CAPPED = 6.0
# A channel this near to 6 counts as one that reaches it.
_REACHES = 0.999
# More than this no channel grows or shrinks relative to another: dead channels would grow for ever.
LARGEST_SCALE = 2.0**12
NONE, RELU, RELU6 = 0, 1, 3


@dataclass(frozen=True)
class Pair:
    """Two layers (operator indices) with an activation between them that nobody else reads.

    ``tensors`` are the activations on the way, the first that of the layer before; ``capped`` says a ReLU6 is on it.
    """

    before: int
    after: int
    tensors: tuple[int, ...]
    capped: bool


@dataclass(frozen=True)
class Equalized:
    """The model with its channels balanced, and the pairs of operators (before, after) between which some changed."""

    tflite: bytes
    pairs: tuple[tuple[int, int], ...]


def equalize(float_model: bytes, samples: Mapping[str, Array]) -> Equalized:
    """``float_model`` with balanced channels, the same function of its input; unchanged where there is nothing to do.

    ``samples`` are those of ``collect_ranges``. Raises CalibrationError when they do not fit, TechniqueError for a model
    that holds its weights outside its flatbuffer.
    """
    flat = FlatModel(float_model)
    pairs = list(find_pairs(flat))
    found = _channel_ranges(flat, float_model, pairs, samples)
    changed = []
    for pair in pairs:
        scales = _scales(flat, pair, found)
        if scales is not None and np.any(scales != 1.0):
            _apply(flat, pair, scales)
            changed.append((pair.before, pair.after))
    return Equalized(flat.to_bytes() if changed else float_model, tuple(changed))


def find_pairs(flat: FlatModel) -> Iterator[Pair]:
    """Every two layers whose channels between them can be scaled, front to back."""
    for op in range(len(flat.graph.operators)):
        if flat.type(op) in _KERNEL_AXES and _activation(flat, op) in (NONE, RELU, RELU6) and _has_kernel(flat, op):
            pair = _follow(flat, op)
            if pair is not None:
                yield pair


def _follow(flat: FlatModel, before: int) -> Pair | None:
    """From a layer along single readers to the next one."""
    tensors, capped = [flat.outputs(before)[0]], _activation(flat, before) == RELU6
    while True:
        readers = flat.consumers.get(tensors[-1], [])
        if len(readers) != 1 or tensors[-1] in flat.ends or flat.dtype(tensors[-1]) != "float32":
            return None
        reader = readers[0]
        kind = flat.type(reader)
        if kind in _KERNEL_AXES:
            taken = flat.inputs(reader)[0] == tensors[-1] and _has_kernel(flat, reader)
            same = taken and _channels(flat, reader) == int(flat.graph.tensors[tensors[0]].shape[-1])
            return Pair(before, reader, tuple(tensors), capped) if same else None
        if kind not in _PASSING or not _keeps_channels(flat, reader):
            return None
        capped = capped or kind == "RELU6" or _activation(flat, reader) == RELU6
        tensors.append(flat.outputs(reader)[0])


def _keeps_channels(flat: FlatModel, op: int) -> bool:
    """Whether an operator between two layers works on each channel by itself, and is linear for positive scales."""
    kind, tensor = flat.type(op), flat.graph.tensors[flat.inputs(op)[0]]
    rank = len(tensor.shape) if tensor.shape is not None else 0
    if kind == "MEAN":
        axes = flat.constant(flat.inputs(op)[1])
        return axes is not None and all(int(axis) % max(rank, 1) != rank - 1 for axis in np.ravel(axes))
    if kind == "PAD":
        padding = flat.constant(flat.inputs(op)[1])
        return padding is not None and not np.any(padding[-1])
    return _activation(flat, op) in (NONE, RELU, RELU6)


def _has_kernel(flat: FlatModel, op: int) -> bool:
    """Whether kernel and bias are float constants, and every input channel has its own output channels."""
    operands = flat.inputs(op)
    kernel = flat.constant(operands[1])
    bias = operands[2] if len(operands) > 2 else -1
    if kernel is None or kernel.dtype != np.float32 or (bias >= 0 and flat.constant(bias) is None):
        return False
    if flat.type(op) == "DEPTHWISE_CONV_2D":
        return int(flat.graph.operators[op].builtinOptions.depthMultiplier) == 1
    # A convolution in groups has fewer input channels in its kernel than there are.
    shape = flat.graph.tensors[operands[0]].shape
    return shape is not None and len(shape) >= 2 and int(shape[-1]) == kernel.shape[_KERNEL_AXES[flat.type(op)][0]]


def _channels(flat: FlatModel, op: int) -> int:
    return int(flat.graph.tensors[flat.inputs(op)[1]].shape[_KERNEL_AXES[flat.type(op)][0]])


def _activation(flat: FlatModel, op: int) -> int:
    """The activation fused into ``op``, as the schema numbers it."""
    return int(getattr(flat.graph.operators[op].builtinOptions, "fusedActivationFunction", NONE) or NONE)


def _channel_ranges(
    flat: FlatModel, float_model: bytes, pairs: list[Pair], samples: Mapping[str, Array]
) -> dict[str, Array]:
    """The largest magnitude of every channel of the activations between pairs, by tensor name."""
    names = {flat.name(tensor) for pair in pairs for tensor in pair.tensors}
    found: dict[str, Array] = {}

    def widen(name: str, values: Array) -> None:
        largest = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
        found[name] = np.maximum(found[name], largest) if name in found else largest

    if names:
        watch_activations(float_model, samples, widen, names=names)
    return found


def _scales(flat: FlatModel, pair: Pair, found: Mapping[str, Array]) -> Array | None:
    """A power of two for every channel between the pair; None where its activation was never computed."""
    ranges = [found[flat.name(tensor)] for tensor in pair.tensors if flat.name(tensor) in found]
    if not ranges:
        return None
    # What is quantized on the way is each of the tensors; pooling only shrinks the first, and a ReLU cuts half of it.
    spans = np.maximum.reduce(ranges)
    weights = _largest_weights(flat, pair.after)
    live = (spans > 0) & (weights > 0)
    if not live.any():
        return None
    spans = np.where(live, spans, 1.0)
    balanced = 1.0 if flat.type(pair.after) == "DEPTHWISE_CONV_2D" else np.sqrt(np.where(live, weights, 1.0) * spans)
    targets = balanced / spans
    reaching = live & (spans >= _CAPPED * _REACHES) if pair.capped else np.zeros_like(live)
    if reaching.any():
        relative = np.maximum(targets / targets[reaching].min(), 1.0 / LARGEST_SCALE)
        scales = _powers(np.minimum(relative, _CAPPED / spans))
        return np.where(live & ~reaching, scales, 1.0)
    scales = _powers(np.minimum(targets / targets[live].min(), LARGEST_SCALE))
    growth = (scales * spans)[live].max() / spans[live].max()
    return np.where(live, scales * 2.0 ** -np.ceil(np.log2(growth)), 1.0)


def _powers(scales: Array) -> Array:
    """The powers of two at or below."""
    return np.asarray(2.0 ** np.floor(np.log2(scales)))


def _largest_weights(flat: FlatModel, op: int) -> Array:
    """The largest weight that takes each input channel, relative to the largest of its output channel.

    Relative, for the kernel has one scale per output channel; so it does not matter which pair is balanced first.
    """
    kernel = flat.constant(flat.inputs(op)[1])
    assert kernel is not None
    taken, given = _KERNEL_AXES[flat.type(op)]
    if taken == given:
        return np.asarray(np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))))
    by_channel = np.abs(np.moveaxis(kernel, (given, taken), (0, -1))).reshape(
        kernel.shape[given], -1, kernel.shape[taken]
    )
    largest = by_channel.max(axis=(1, 2), keepdims=True)
    return np.asarray((by_channel / np.where(largest > 0, largest, 1.0)).max(axis=(0, 1)))


def _apply(flat: FlatModel, pair: Pair, scales: Array) -> None:
    """Channels ``scales`` times larger out of the layer before, and taken as much smaller by the layer after."""
    _multiply(flat, pair.before, 1, scales, _KERNEL_AXES[flat.type(pair.before)][1])
    if len(flat.inputs(pair.before)) > 2 and flat.inputs(pair.before)[2] >= 0:
        _multiply(flat, pair.before, 2, scales, 0)
    _multiply(flat, pair.after, 1, 1.0 / scales, _KERNEL_AXES[flat.type(pair.after)][0])


def _multiply(flat: FlatModel, op: int, position: int, scales: Array, axis: int) -> None:
    values = flat.constant(flat.inputs(op)[position])
    assert values is not None
    shape = [1] * values.ndim
    shape[axis] = -1
    flat.set_operand(op, position, values * scales.astype(np.float32).reshape(shape))
