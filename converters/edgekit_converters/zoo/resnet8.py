"""The small residual network of MLPerf Tiny's image classification."""

from __future__ import annotations

from typing import Any

from .._tf import import_keras
from .shapes import ensure_image

__all__ = ["resnet8"]


def resnet8(input_shape: tuple[int, ...], classes: int) -> Any:
    """Conv16 – three residual blocks of 16, 32 and 64 channels – mean – softmax; images (H, W, C), H and W at least 8.

    78,000 weights and 12.5 million multiplications for 32 × 32 × 3; after Banbury et al., "MLPerf Tiny Benchmark" (2021).
    """
    ensure_image("resnet8", input_shape, 8)
    keras = import_keras()
    image = keras.Input(input_shape, name="image")
    flow = _convolution(keras, image, 16, 3, 1, "stem", relu=True)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        flow = _block(keras, flow, channels, stride, f"block{channels}")
    flow = keras.layers.GlobalAveragePooling2D(name="mean")(flow)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax", name="scores")(flow), name="resnet8")


def _block(keras: Any, flow: Any, channels: int, stride: int, name: str) -> Any:
    skip = flow
    if stride != 1:
        skip = keras.layers.Conv2D(channels, 1, strides=stride, padding="same", name=f"{name}_skip")(flow)
    inner = _convolution(keras, flow, channels, 3, stride, f"{name}_a", relu=True)
    inner = _convolution(keras, inner, channels, 3, 1, f"{name}_b", relu=False)
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([skip, inner]))


def _convolution(keras: Any, flow: Any, channels: int, size: int, stride: int, name: str, *, relu: bool) -> Any:
    flow = keras.layers.Conv2D(
        channels, size, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(flow)
    flow = keras.layers.BatchNormalization(name=f"{name}_norm")(flow)
    return keras.layers.ReLU(name=f"{name}_relu")(flow) if relu else flow
