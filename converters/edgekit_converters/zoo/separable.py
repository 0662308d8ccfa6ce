"""Networks of depthwise separable convolutions: few weights, and fast where memory is slow."""

from __future__ import annotations

from typing import Any

from .._tf import import_keras
from .shapes import ensure_image

__all__ = ["ds_cnn", "mobilenet_tiny"]

# Channels and stride of each block: MobileNetV1 at a quarter of its width, less the last blocks of its 224-pixel form.
MOBILENET = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1), (256, 1))


def ds_cnn(input_shape: tuple[int, ...], classes: int) -> Any:
    """Conv64 with stride 2 – four separable blocks of 64 – mean – softmax; spectrograms or images (H, W, C) from 4 by 4.

    22,000 weights for twelve words. After Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers" (2017), with
    square kernels.
    """
    ensure_image("ds-cnn", input_shape, 4)
    return _separable("ds_cnn", input_shape, classes, 64, 2, ((64, 1),) * 4)


def mobilenet_tiny(input_shape: tuple[int, ...], classes: int) -> Any:
    """MobileNetV1 at a quarter of its width, with nine blocks; images (H, W, C), H and W at least 16.

    The stem halves images of 64 pixels and more. 95,000 weights. After Howard et al., "MobileNets" (2017).
    """
    ensure_image("mobilenet-tiny", input_shape, 16)
    stride = 2 if min(input_shape[:2]) >= 64 else 1
    return _separable("mobilenet_tiny", input_shape, classes, 8, stride, MOBILENET)


def _separable(
    name: str, input_shape: tuple[int, ...], classes: int, stem: int, stride: int, blocks: tuple[tuple[int, int], ...]
) -> Any:
    keras = import_keras()
    image = keras.Input(input_shape, name="image")
    flow = keras.layers.Conv2D(
        stem, 3, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal", name="stem"
    )(image)
    flow = _normalized(keras, flow, "stem")
    for number, (channels, step) in enumerate(blocks, start=1):
        depthwise = keras.layers.DepthwiseConv2D(
            3, strides=step, padding="same", use_bias=False, name=f"depthwise{number}"
        )
        flow = _normalized(keras, depthwise(flow), f"depthwise{number}")
        pointwise = keras.layers.Conv2D(
            channels, 1, use_bias=False, kernel_initializer="he_normal", name=f"pointwise{number}"
        )
        flow = _normalized(keras, pointwise(flow), f"pointwise{number}")
    flow = keras.layers.GlobalAveragePooling2D(name="mean")(flow)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax", name="scores")(flow), name=name)


def _normalized(keras: Any, flow: Any, name: str) -> Any:
    flow = keras.layers.BatchNormalization(name=f"{name}_norm")(flow)
    return keras.layers.ReLU(max_value=6.0, name=f"{name}_relu")(flow)
