"""Keras 3's layers and activations, each as a model of its own: what a converter has to get through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["LAYERS"]

Body = Callable[[Any, Any], Any]
MAP, SEQUENCE, ROW = (16, 16, 8), (6, 4), (16,)
ACTIVATIONS = (
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid log_softmax mish relu "
    "relu6 selu sigmoid silu soft_shrink softmax softplus softsign squareplus tanh tanh_shrink"
)
MERGES = "Add Average Concatenate Maximum Minimum Multiply Subtract"


def _two(keras: Any, x: Any) -> list[Any]:
    return [keras.layers.Conv2D(8, 1)(x), keras.layers.Conv2D(8, 3, padding="same")(x)]


def _behind_conv(name: str, **how: Any) -> Body:
    return lambda keras, x: getattr(keras.layers, name)(**how)(keras.layers.Conv2D(8, 1)(x))


def _alone(name: str, *values: Any, **how: Any) -> Body:
    return lambda keras, x: getattr(keras.layers, name)(*values, **how)(x)


def _merge(name: str) -> Body:
    return lambda keras, x: getattr(keras.layers, name)()(_two(keras, x))


def _squeezed(keras: Any, x: Any) -> Any:
    weight = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    weight = keras.layers.Conv2D(8, 1, activation="sigmoid")(keras.layers.Conv2D(4, 1, activation="relu")(weight))
    return keras.layers.Multiply()([x, weight])


def _block(keras: Any, x: Any, layer: str = "Conv2D", **how: Any) -> Any:
    made = getattr(keras.layers, layer)(8, 3, padding="same", use_bias=False, **how)(x)
    return keras.layers.ReLU()(keras.layers.BatchNormalization()(made))


def _scaled(keras: Any, x: Any) -> Any:
    x = keras.layers.Normalization(mean=[0.5] * 8, variance=[0.25] * 8)(keras.layers.Rescaling(1 / 127.5, offset=-1)(x))
    return keras.layers.Conv2D(4, 3)(x)


# Name → sample shape and body.
LAYERS: dict[str, tuple[tuple[int, ...], Body]] = {
    "Conv1D": (SEQUENCE, _alone("Conv1D", 8, 3, padding="same")),
    "Conv1D causal, dilated": (SEQUENCE, _alone("Conv1D", 8, 3, padding="causal", dilation_rate=2)),
    "Conv2D": (MAP, _alone("Conv2D", 8, 3, padding="same", activation="relu")),
    "Conv2D, BatchNormalization, ReLU": (MAP, _block),
    "Conv2D strides=2": (MAP, _alone("Conv2D", 8, 3, strides=2)),
    "Conv2D dilation_rate=2": (MAP, _alone("Conv2D", 8, 3, dilation_rate=2, padding="same")),
    "Conv2D dilation_rate=(2, 1)": (MAP, _alone("Conv2D", 8, 3, dilation_rate=(2, 1))),
    "Conv2D groups=4": (MAP, _alone("Conv2D", 8, 3, groups=4)),
    "Conv3D": ((8, 8, 8, 4), _alone("Conv3D", 4, 3)),
    "DepthwiseConv2D": (MAP, _alone("DepthwiseConv2D", 3, padding="same")),
    "DepthwiseConv2D depth_multiplier=2": (MAP, _alone("DepthwiseConv2D", 3, depth_multiplier=2)),
    "SeparableConv1D": (SEQUENCE, _alone("SeparableConv1D", 8, 3)),
    "SeparableConv2D": (MAP, _alone("SeparableConv2D", 8, 3, padding="same")),
    "Conv1DTranspose": (SEQUENCE, _alone("Conv1DTranspose", 8, 3, strides=2)),
    "Conv2DTranspose": (MAP, _alone("Conv2DTranspose", 8, 3, strides=2, padding="same")),
    "Conv2DTranspose activation=relu": (MAP, _alone("Conv2DTranspose", 8, 3, strides=2, activation="relu")),
    "Conv2DTranspose, BatchNormalization, ReLU": (MAP, lambda keras, x: _block(keras, x, "Conv2DTranspose", strides=2)),
    "MaxPooling1D": (SEQUENCE, _alone("MaxPooling1D")),
    "MaxPooling2D": (MAP, _alone("MaxPooling2D")),
    "MaxPooling2D, ReLU": (MAP, lambda keras, x: keras.layers.ReLU()(keras.layers.MaxPooling2D()(x))),
    "AveragePooling2D": (MAP, _alone("AveragePooling2D", 2)),
    "AdaptiveAveragePooling2D": (MAP, _alone("AdaptiveAveragePooling2D", 4)),
    "GlobalAveragePooling1D": (SEQUENCE, _alone("GlobalAveragePooling1D")),
    "GlobalAveragePooling2D": (MAP, _alone("GlobalAveragePooling2D")),
    "GlobalAveragePooling2D keepdims": (MAP, _alone("GlobalAveragePooling2D", keepdims=True)),
    "GlobalMaxPooling2D": (MAP, _alone("GlobalMaxPooling2D")),
    "BatchNormalization": (MAP, _alone("BatchNormalization")),
    "GroupNormalization": (MAP, _alone("GroupNormalization", 4)),
    "LayerNormalization": (MAP, _alone("LayerNormalization")),
    "RMSNormalization": (MAP, _alone("RMSNormalization")),
    "UnitNormalization": (ROW, _alone("UnitNormalization")),
    "Rescaling, Normalization": (MAP, _scaled),
    "ReLU max_value=6": (MAP, _behind_conv("ReLU", max_value=6)),
    "ReLU max_value=1": (MAP, _behind_conv("ReLU", max_value=1)),
    "ReLU negative_slope=0.1": (MAP, _behind_conv("ReLU", negative_slope=0.1)),
    "LeakyReLU": (MAP, _behind_conv("LeakyReLU")),
    "PReLU": (MAP, _behind_conv("PReLU")),
    "PReLU shared_axes=[1, 2]": (MAP, _behind_conv("PReLU", shared_axes=[1, 2])),
    "Softmax": (MAP, _behind_conv("Softmax")),
    **{f"activation {name}": (MAP, _behind_conv("Activation", activation=name)) for name in ACTIVATIONS.split()},
    **{name: (MAP, _merge(name)) for name in MERGES.split()},
    "Dot": (SEQUENCE, lambda keras, x: keras.layers.Dot(-1)([keras.layers.Dense(4)(x), keras.layers.Dense(4)(x)])),
    "squeeze and excite": (MAP, _squeezed),
    "UpSampling1D": (SEQUENCE, _alone("UpSampling1D")),
    "UpSampling2D": (MAP, _alone("UpSampling2D")),
    "UpSampling2D bilinear": (MAP, _alone("UpSampling2D", interpolation="bilinear")),
    "Resizing": (MAP, _alone("Resizing", 32, 32)),
    "Resizing nearest": (MAP, _alone("Resizing", 32, 32, interpolation="nearest")),
    "ZeroPadding2D": (MAP, _alone("ZeroPadding2D")),
    "Cropping2D": (MAP, _alone("Cropping2D")),
    "Reshape": (MAP, _alone("Reshape", (256, 8))),
    "Permute": (MAP, _alone("Permute", (3, 1, 2))),
    "RepeatVector": (ROW, _alone("RepeatVector", 4)),
    "Flatten, Dense": (MAP, lambda keras, x: keras.layers.Dense(4)(keras.layers.Flatten()(x))),
    "Dense": (ROW, _alone("Dense", 4, activation="relu")),
    "Dense use_bias=False": (ROW, _alone("Dense", 4, use_bias=False)),
    "Dense softmax": (ROW, _alone("Dense", 4, activation="softmax")),
    "Dense of a sequence": (SEQUENCE, _alone("Dense", 8)),
    "EinsumDense": (SEQUENCE, _alone("EinsumDense", "abc,cd->abd", output_shape=(None, 6), bias_axes="d")),
    "Embedding": ((10,), lambda keras, x: keras.layers.Flatten()(keras.layers.Embedding(50, 8)(x))),
    "LSTM": (SEQUENCE, _alone("LSTM", 8)),
    "LSTM unroll": (SEQUENCE, _alone("LSTM", 8, unroll=True)),
    "GRU unroll": (SEQUENCE, _alone("GRU", 8, unroll=True)),
    "SimpleRNN unroll": (SEQUENCE, _alone("SimpleRNN", 8, unroll=True)),
    "TimeDistributed": ((4, 8, 8, 3), lambda keras, x: keras.layers.TimeDistributed(keras.layers.Conv2D(4, 3))(x)),
    "Attention": (SEQUENCE, lambda keras, x: keras.layers.Attention()([x, x])),
    "MultiHeadAttention": (SEQUENCE, lambda keras, x: keras.layers.MultiHeadAttention(2, 4)(x, x)),
}
