"""What the models of Google's latency table cost by our counting, from their architectures: cycles, layers, bytes over the link.

Seven are keras.applications' (without weights, at the published input size); Inception v1 is table 1 of arXiv:1409.4842,
SqueezeNet v1.0 table 1 of arXiv:1602.07360. Printed beside what ``published.py`` holds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

from edgekit_converters.model_card import TensorCard
from edgekit_converters.targets.edgetpu.cycles import count_cycles
from edgekit_converters.targets.edgetpu.memory import predict_memory
from edgekit_converters.targets.edgetpu.published import PUBLISHED
from edgekit_converters.targets.operators import Operator
from measuring import heading, row

KERAS = {
    "MobileNet v1": ("MobileNet", 224),
    "MobileNet v2": ("MobileNetV2", 224),
    "ResNet-50 V1": ("ResNet50", 299),
    "ResNet-50 V2": ("ResNet50V2", 299),
    "ResNet-152 V2": ("ResNet152V2", 299),
    "VGG16": ("VGG16", 224),
    "VGG19": ("VGG19", 224),
}
# Side, channels in, then 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5 (TensorFlow's: 3x3), pool projected.
INCEPTION = (
    (28, 192, 64, 96, 128, 16, 32, 32),
    (28, 256, 128, 128, 192, 32, 96, 64),
    (14, 480, 192, 96, 208, 16, 48, 64),
    (14, 512, 160, 112, 224, 24, 64, 64),
    (14, 512, 128, 128, 256, 24, 64, 64),
    (14, 512, 112, 144, 288, 32, 64, 64),
    (14, 528, 256, 160, 320, 32, 128, 128),
    (7, 832, 256, 160, 320, 32, 128, 128),
    (7, 832, 384, 192, 384, 48, 128, 128),
)
# Side, channels in, squeezed, expanded (1x1 and 3x3 each).
FIRE = (
    (55, 96, 16, 64),
    (55, 128, 16, 64),
    (55, 128, 32, 128),
    (27, 256, 32, 128),
    (27, 256, 48, 192),
    (27, 384, 48, 192),
    (27, 384, 64, 256),
    (13, 512, 64, 256),
)


def main() -> None:
    """Count and print."""
    heading("Architectures of Google's Edge TPU table, counted (no figure of a device)")
    known = {one.name: one for one in PUBLISHED}
    for name, layers, sent in architectures():
        streamed = predict_memory(layers).streamed_bytes or 0
        counted = (sum(map(count_cycles, layers)), sum(count_cycles(op) > 0 for op in layers), sent + streamed)
        held = known[name]
        same = counted == (held.cycles, held.layers, held.moved_bytes)
        row(name, "{:,} cycles, {} layers, {:,} bytes over the link".format(*counted), "as in published.py", same)


def architectures() -> Iterator[tuple[str, list[Operator], int]]:
    """Each model's name, its layers with weights, and the bytes of its input and output."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras import applications

    for name, (function, side) in KERAS.items():
        model = getattr(applications, function)(weights=None, input_shape=(side, side, 3))
        yield name, [op for layer in model.layers for op in _keras_layer(layer)], side * side * 3 + 1000
    yield "Inception v1", list(_inception()), 224 * 224 * 3 + 1001
    yield "SqueezeNet", list(_squeezenet()), 224 * 224 * 3 + 1000


def _keras_layer(layer: Any) -> Iterator[Operator]:
    kind = type(layer).__name__
    if kind not in ("Conv2D", "DepthwiseConv2D", "Dense"):
        return
    made, channels = (1, *layer.output.shape[1:]), layer.input.shape[-1]
    if kind == "Conv2D":
        yield _layer("CONV_2D", (layer.filters, *layer.kernel_size, channels), made)
    elif kind == "DepthwiseConv2D":
        yield _layer("DEPTHWISE_CONV_2D", (1, *layer.kernel_size, channels), made)
    else:
        yield _layer("FULLY_CONNECTED", (layer.units, channels), made)


def _inception() -> Iterator[Operator]:
    yield _conv(112, 3, 64, 7)
    yield _conv(56, 64, 64, 1)
    yield _conv(56, 64, 192, 3)
    for side, given, one, reduced, three, reduced_again, five, pooled in INCEPTION:
        yield _conv(side, given, one, 1)
        yield _conv(side, given, reduced, 1)
        yield _conv(side, reduced, three, 3)
        yield _conv(side, given, reduced_again, 1)
        yield _conv(side, reduced_again, five, 3)
        yield _conv(side, given, pooled, 1)
    yield _conv(1, 1024, 1001, 1)


def _squeezenet() -> Iterator[Operator]:
    yield _conv(111, 3, 96, 7)
    for side, given, squeezed, expanded in FIRE:
        yield _conv(side, given, squeezed, 1)
        yield _conv(side, squeezed, expanded, 1)
        yield _conv(side, squeezed, expanded, 3)
    yield _conv(13, 512, 1000, 1)


def _conv(side: int, given: int, made: int, kernel: int) -> Operator:
    return _layer("CONV_2D", (made, kernel, kernel, given), (1, side, side, made))


def _layer(kind: str, kernel: Sequence[int], made: Sequence[int]) -> Operator:
    """A layer of int8 with scales per channel, and a bias; a dense one has a single scale."""
    channels = made[-1]
    weights = _tensor(kernel, constant=True, scales=1 if kind == "FULLY_CONNECTED" else channels)
    bias = _tensor((channels,), constant=True)
    return Operator(0, kind, 3, False, (_tensor((1, channels)), weights, bias), (_tensor(made),))


def _tensor(shape: Sequence[int], *, constant: bool = False, scales: int = 1) -> TensorCard:
    marks = (1.0,) * scales, (0,) * scales
    return TensorCard(-1, "", "int8", tuple(shape), None, *marks, 0, constant, math.prod(shape))


if __name__ == "__main__":
    main()
