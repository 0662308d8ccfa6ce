"""Layers as operators by their shapes alone, and two published networks made of them: what memory and latency are asked of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import prod

import numpy as np
from edgekit_converters.model_card import TensorCard
from edgekit_converters.targets.operators import Operator

_NUMBERS = itertools.count()
LOWEST = {"int8": -128, "uint8": 0}


def tensor(
    shape: Sequence[int],
    dtype: str = "int8",
    *,
    constant: bool = False,
    scales: int = 1,
    zero: int = 3,
    index: int | None = None,
) -> TensorCard:
    """A quantized tensor; each is another one unless ``index`` says which."""
    size = prod(shape) * (4 if dtype in ("int32", "float32") else 1)
    number = next(_NUMBERS) if index is None else index
    marks = (0.5,) * scales, (zero,) * scales
    return TensorCard(number, f"t{number}", dtype, tuple(shape), None, *marks, 0, constant, size)


def layer(
    kind: str,
    given: TensorCard,
    kernel: Sequence[int],
    made: Sequence[int],
    *,
    per_channel: bool = False,
    bias: Sequence[int] | None = None,
    no_bias: bool = False,
) -> Operator:
    """A layer with weights; ``bias`` gives the values of its bias, which are else as good as random."""
    channels = kernel[-1] if kind == "DEPTHWISE_CONV_2D" else kernel[0]
    weights = tensor(kernel, given.dtype, constant=True, scales=channels if per_channel else 1)
    added = None if no_bias else tensor((channels,), "int32", constant=True)
    values = range(1, channels + 1) if bias is None else bias
    constants = {} if no_bias else {2: np.asarray(values, np.int32)}
    return Operator(0, kind, 1, False, (given, weights, added), (tensor(made, given.dtype),), constants=constants)


def dense(inputs: int, units: int, dtype: str = "int8", *, zero: int = 3, **settings: bool) -> Operator:
    """A fully connected layer."""
    return layer("FULLY_CONNECTED", tensor((1, inputs), dtype, zero=zero), (units, inputs), (1, units), **settings)


def plain(kind: str, given: Sequence[TensorCard], made: TensorCard) -> Operator:
    """An operator without weights."""
    return Operator(0, kind, 1, False, tuple(given), (made,))


def mobilenet_v1(dtype: str = "uint8", *, per_channel: bool = False) -> list[Operator]:
    """MobileNetV1 1.0 at 224 x 224 without its last layer (arXiv:1704.04861, table 1)."""
    found = _Network(dtype, per_channel, 224, 3)
    found.conv(32, 3, 2)
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    outputs = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for stride, channels in zip(strides, outputs, strict=True):
        found.depthwise(stride)
        found.conv(channels)
    return found.layers


def mobilenet_v2(dtype: str = "uint8", *, per_channel: bool = False, classes: int = 1001) -> list[Operator]:
    """MobileNetV2 1.0 at 224 x 224 with its classes (arXiv:1801.04381, table 2)."""
    found = _Network(dtype, per_channel, 224, 3)
    found.conv(32, 3, 2)
    blocks = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for widening, channels, repeats, stride in blocks:
        for i in range(repeats):
            if widening > 1:
                found.conv(widening * found.channels)
            found.depthwise(stride if i == 0 else 1)
            found.conv(channels)
    found.conv(1280)
    found.side = 1
    found.given = tensor((1, 1, 1, 1280), dtype)
    found.conv(classes)
    return found.layers


class _Network:
    """Layers one behind the other, each reading what the one before made."""

    def __init__(self, dtype: str, per_channel: bool, side: int, channels: int) -> None:
        self.layers: list[Operator] = []
        self.side, self.channels, self.per_channel = side, channels, per_channel
        self.given = tensor((1, side, side, channels), dtype)

    def conv(self, filters: int, kernel: int = 1, stride: int = 1) -> None:
        self._add("CONV_2D", (filters, kernel, kernel, self.channels), filters, stride)

    def depthwise(self, stride: int) -> None:
        self._add("DEPTHWISE_CONV_2D", (1, 3, 3, self.channels), self.channels, stride)

    def _add(self, kind: str, kernel: Sequence[int], channels: int, stride: int) -> None:
        self.side, self.channels = -(-self.side // stride), channels
        made = (1, self.side, self.side, channels)
        self.layers.append(layer(kind, self.given, kernel, made, per_channel=self.per_channel))
        (output,) = self.layers[-1].outputs
        assert output is not None
        self.given = output
