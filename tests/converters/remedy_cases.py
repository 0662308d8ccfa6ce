"""Keras 3 models with a problem the Edge TPU has with them, and the same models as edgekit's remedy says.

``same`` carries the weights of the first model over into the second where the remedy claims that both compute the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

Layers = Any
Build = Callable[[Any], Any]
Carry = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class RemedyCase:
    """``before`` and ``after`` build models of keras; an operator ``type`` of the first breaks the rule ``cause``.

    ``says`` is part of the remedy. ``early`` is for what int8 cannot hold: there the float model is read as if it were int8.
    """

    name: str
    cause: str
    type: str
    says: str
    before: Build
    after: Build
    same: Carry | None = None
    early: bool = False
    how: dict[str, Any] = field(default_factory=dict)


def on(shape: tuple[int, ...], body: Callable[[Any, Any], Any]) -> Build:
    """A model of one input of ``shape`` and what ``body`` (of keras and the input) makes of it."""

    def build(keras: Any) -> Any:
        given = keras.Input(shape=shape, name="x")
        return keras.Model(given, body(keras, given))

    return build


MAP, SEQUENCE, ROW = (16, 16, 8), (6, 4), (8,)


def activated(name: str) -> Build:
    """A convolution with an activation."""
    return on(MAP, lambda keras, x: keras.layers.Conv2D(8, 1, activation=name)(x))


def keep(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The weights as they are."""
    return list(weights)


def split_kernel(groups: int, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Kernel and bias of a grouped convolution as those of one convolution for each group."""
    kernels, biases = np.split(weights[0], groups, axis=-1), np.split(weights[1], groups)
    return [part for pair in zip(kernels, biases, strict=True) for part in pair]


def as_depthwise(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Kernel and bias of a convolution of groups of one as those of a depthwise one."""
    return [np.swapaxes(weights[0], 2, 3), weights[1]]


def with_slopes(value: float, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Weights, and a slope for each of 8 channels."""
    return [*weights, np.full((1, 1, 8), value, np.float32)]


def _conv(keras: Any, x: Any, **how: Any) -> Any:
    return keras.layers.Conv2D(8, 1, **how)(x)


def _leaky(keras: Any, x: Any) -> Any:
    return keras.layers.LeakyReLU(negative_slope=0.25)(_conv(keras, x))


def _parametric(keras: Any, x: Any) -> Any:
    slope = keras.initializers.Constant(0.25)
    return keras.layers.PReLU(alpha_initializer=slope, shared_axes=[1, 2])(_conv(keras, x))


def _groups(keras: Any, x: Any) -> Any:
    parts = [keras.layers.Conv2D(2, 3, padding="same")(part) for part in keras.ops.split(x, 4, axis=-1)]
    return keras.layers.Concatenate()(parts)


def _stepped(cell: str, states: int, keras: Any, x: Any) -> Any:
    step, made, state = getattr(keras.layers, cell)(8), None, [keras.ops.zeros((1, 8))] * states
    for t in range(x.shape[1]):
        made, state = step(x[:, t], state)
    return made


def _unrolled(layer: str, keras: Any, x: Any) -> Any:
    return getattr(keras.layers, layer)(8, unroll=True)(x)


def _pixel_shuffle(keras: Any, x: Any) -> Any:
    x = keras.ops.transpose(keras.ops.reshape(x, (-1, 16, 16, 2, 2, 2)), (0, 1, 3, 2, 4, 5))
    return keras.ops.reshape(x, (-1, 32, 32, 2))


def _channel_shuffle(keras: Any, x: Any) -> Any:
    layers = keras.layers
    return layers.Reshape((16, 16, 8))(layers.Permute((1, 2, 4, 3))(layers.Reshape((16, 16, 2, 4))(x)))


def _folded_shuffle(keras: Any, x: Any) -> Any:
    layers = keras.layers
    return layers.Reshape((16, 16, 8))(layers.Permute((1, 3, 2))(layers.Reshape((256, 2, 4))(x)))


def _pooled_branch(keras: Any, x: Any) -> Any:
    return _conv(keras, keras.layers.GlobalAveragePooling2D(keepdims=True)(x))


def _spread(keras: Any, x: Any) -> Any:
    branch = keras.layers.Resizing(16, 16)(_pooled_branch(keras, x))
    return _conv(keras, keras.layers.Concatenate()([_conv(keras, x), branch]))


def _embedded(keras: Any) -> Any:
    words = keras.Input(shape=(10,), dtype="int32", name="x")
    vectors = keras.layers.Embedding(50, 8)(words)
    return keras.Model(words, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling1D()(vectors)))


def _upsampled_row(keras: Any, x: Any) -> Any:
    layers = keras.layers
    return layers.Reshape((12, 4))(layers.Resizing(12, 1, interpolation="nearest")(layers.Reshape((6, 1, 4))(x)))


def _tiled(keras: Any, x: Any) -> Any:
    x = keras.layers.Concatenate(axis=1)([x, x])
    return keras.layers.Concatenate(axis=2)([x, x])


def _mean(keras: Any, x: Any) -> Any:
    return keras.layers.GlobalAveragePooling2D()(x)


def _relu(keras: Any, x: Any) -> Any:
    return keras.layers.ReLU()(x)


CASES: tuple[RemedyCase, ...] = (
    RemedyCase("hard_silu", "operator", "HARD_SWISH", "'silu'", activated("hard_silu"), activated("silu")),
    RemedyCase("hard_silu-relu6", "operator", "HARD_SWISH", "'relu6'", activated("hard_silu"), activated("relu6")),
    RemedyCase("gelu", "operator", "GELU", "instead of 'gelu'", activated("gelu"), activated("relu6")),
    RemedyCase(
        "gelu-sigmoid",
        "operator",
        "GELU",
        "x * sigmoid(1.702 * x)",
        activated("gelu"),
        on(MAP, lambda keras, x: (lambda y: y * keras.ops.sigmoid(1.702 * y))(_conv(keras, x))),
    ),
    RemedyCase("selu", "operator", "EXP", "'relu6'", activated("selu"), activated("relu6")),
    RemedyCase("softplus", "operator", "EXP", "softplus", activated("softplus"), activated("silu")),
    RemedyCase("mish", "operator", "LOG", "mish", activated("mish"), activated("silu")),
    RemedyCase("elu", "operator", "ELU", "'elu'", activated("elu"), activated("relu6"), early=True),
    RemedyCase(
        "leaky_relu",
        "operator",
        "LEAKY_RELU",
        "layers.PReLU(alpha_initializer=keras.initializers.Constant(0.25), shared_axes=[1, 2])",
        on(MAP, _leaky),
        on(MAP, _parametric),
        partial(with_slopes, 0.25),
    ),
    RemedyCase(
        "prelu",
        "alpha",
        "PRELU",
        "layers.PReLU(shared_axes=[1, 2])",
        on(MAP, lambda keras, x: keras.layers.PReLU()(_conv(keras, x))),
        on(MAP, lambda keras, x: keras.layers.PReLU(shared_axes=[1, 2])(_conv(keras, x))),
    ),
    RemedyCase(
        "upsampling",
        "operator",
        "TILE",
        "layers.Resizing(32, 48, interpolation='nearest')",
        on(MAP, lambda keras, x: keras.layers.UpSampling2D((2, 3))(x)),
        on(MAP, lambda keras, x: keras.layers.Resizing(32, 48, interpolation="nearest")(x)),
        keep,
    ),
    RemedyCase(
        "upsampling1d",
        "operator",
        "TILE",
        "layers.Resizing(12, 1, interpolation='nearest')",
        on(SEQUENCE, lambda keras, x: keras.layers.UpSampling1D(2)(x)),
        on(SEQUENCE, _upsampled_row),
        keep,
    ),
    RemedyCase(
        "repeat-vector",
        "operator",
        "TILE",
        "layers.Concatenate(axis=1)([layers.Reshape((1, 8))(x)] * 5)",
        on(ROW, lambda keras, x: keras.layers.RepeatVector(5)(x)),
        on(ROW, lambda keras, x: keras.layers.Concatenate(axis=1)([keras.layers.Reshape((1, 8))(x)] * 5)),
        keep,
    ),
    RemedyCase(
        "tile",
        "operator",
        "TILE",
        "layers.Concatenate of the tensor with itself",
        on(MAP, lambda keras, x: keras.ops.tile(x, (1, 2, 2, 1))),
        on(MAP, _tiled),
        keep,
    ),
    RemedyCase(
        "groups",
        "grouped-conv",
        "CONV_2D",
        "keras.ops.split(x, 4, axis=-1), a layers.Conv2D(2, …)",
        on(MAP, lambda keras, x: keras.layers.Conv2D(8, 3, padding="same", groups=4)(x)),
        on(MAP, _groups),
        partial(split_kernel, 4),
    ),
    RemedyCase(
        "groups-of-one",
        "grouped-conv",
        "CONV_2D",
        "layers.DepthwiseConv2D((5, 3)) instead of layers.Conv2D(8, (5, 3), groups=8)",
        on(MAP, lambda keras, x: keras.layers.Conv2D(8, (5, 3), groups=8)(x)),
        on(MAP, lambda keras, x: keras.layers.DepthwiseConv2D((5, 3))(x)),
        as_depthwise,
    ),
    RemedyCase(
        "max-pool-relu",
        "activation",
        "MAX_POOL_2D",
        "before layers.MaxPooling2D",
        on(MAP, lambda keras, x: _relu(keras, keras.layers.MaxPooling2D()(_conv(keras, x)))),
        on(MAP, lambda keras, x: keras.layers.MaxPooling2D()(_relu(keras, _conv(keras, x)))),
        keep,
    ),
    RemedyCase(
        "average-pool-relu",
        "activation",
        "AVERAGE_POOL_2D",
        "before layers.AveragePooling2D",
        on(MAP, lambda keras, x: _relu(keras, keras.layers.AveragePooling2D(2)(_conv(keras, x)))),
        on(MAP, lambda keras, x: keras.layers.AveragePooling2D(2)(_relu(keras, _conv(keras, x)))),
    ),
    RemedyCase(
        "dilation",
        "dilation",
        "CONV_2D",
        "dilation_rate=(2, 2) instead of (2, 1)",
        on(MAP, lambda keras, x: keras.layers.Conv2D(8, 3, dilation_rate=(2, 1))(x)),
        on(MAP, lambda keras, x: keras.layers.Conv2D(8, 3, dilation_rate=(2, 2))(x)),
    ),
    RemedyCase(
        "mean",
        "mean-axes",
        "MEAN",
        "layers.AveragePooling2D((2, 2)) before layers.GlobalAveragePooling2D()",
        on((256, 128, 3), _mean),
        on((256, 128, 3), lambda keras, x: _mean(keras, keras.layers.AveragePooling2D((2, 2))(x))),
        keep,
    ),
    RemedyCase(
        "spread",
        "resize-size",
        "RESIZE_BILINEAR",
        "layers.Add broadcast the 1×1 branch",
        on(MAP, _spread),
        on(MAP, lambda keras, x: keras.layers.Add()([_conv(keras, x), _conv(keras, _pooled_branch(keras, x))])),
    ),
    RemedyCase(
        "embedding",
        "operator",
        "GATHER",
        "vectors of 8",
        _embedded,
        on((10, 8), lambda keras, x: keras.layers.Dense(4)(keras.layers.GlobalAveragePooling1D()(x))),
    ),
    RemedyCase(
        "adaptive",
        "operator",
        "GATHER",
        "layers.AveragePooling2D of a fixed window",
        on(MAP, lambda keras, x: keras.layers.AdaptiveAveragePooling2D(4)(x)),
        on(MAP, lambda keras, x: keras.layers.AveragePooling2D(4)(x)),
        keep,
    ),
    RemedyCase(
        "reflection",
        "operator",
        "MIRROR_PAD",
        "layers.ZeroPadding2D(((1, 2), (3, 0)))",
        on(MAP, lambda keras, x: keras.ops.pad(x, ((0, 0), (1, 2), (3, 0), (0, 0)), mode="reflect")),
        on(MAP, lambda keras, x: keras.layers.ZeroPadding2D(((1, 2), (3, 0)))(x)),
    ),
    RemedyCase(
        "pixel-shuffle",
        "rank",
        "TRANSPOSE",
        "layers.Conv2DTranspose",
        on(MAP, _pixel_shuffle),
        on(MAP, lambda keras, x: keras.layers.Conv2DTranspose(2, 2, strides=2)(x)),
    ),
    RemedyCase(
        "channel-shuffle",
        "rank",
        "TRANSPOSE",
        "layers.Reshape((256, 2, 4)), layers.Permute((1, 3, 2))",
        on(MAP, _channel_shuffle),
        on(MAP, _folded_shuffle),
        keep,
    ),
    RemedyCase(
        "lstm",
        "operator",
        "UNPACK",
        "layers.LSTMCell",
        on(SEQUENCE, partial(_unrolled, "LSTM")),
        on(SEQUENCE, partial(_stepped, "LSTMCell", 2)),
        keep,
    ),
    RemedyCase(
        "gru",
        "operator",
        "UNPACK",
        "layers.GRUCell",
        on(SEQUENCE, partial(_unrolled, "GRU")),
        on(SEQUENCE, partial(_stepped, "GRUCell", 1)),
        keep,
    ),
    RemedyCase(
        "simple-rnn",
        "operator",
        "UNPACK",
        "x[:, t] for t in range(6)",
        on(SEQUENCE, partial(_unrolled, "SimpleRNN")),
        on(SEQUENCE, partial(_stepped, "SimpleRNNCell", 1)),
        keep,
    ),
    RemedyCase(
        "log-softmax",
        "operator",
        "LOG_SOFTMAX",
        "layers.Softmax()",
        on(ROW, lambda keras, x: keras.layers.Dense(4, activation="log_softmax")(x)),
        on(ROW, lambda keras, x: keras.layers.Softmax()(keras.layers.Dense(4)(x))),
    ),
    RemedyCase(
        "softmax",
        "softmax-size",
        "SOFTMAX",
        "before the softmax over 20000",
        on(ROW, lambda keras, x: keras.layers.Dense(20000, activation="softmax")(x)),
        on(ROW, lambda keras, x: keras.layers.Dense(20000)(x)),
    ),
    RemedyCase(
        "absolute",
        "operator",
        "ABS",
        "layers.Maximum()([x, -1.0 * x])",
        on(MAP, lambda keras, x: keras.ops.abs(_conv(keras, x))),
        on(MAP, lambda keras, x: (lambda y: keras.layers.Maximum()([y, -1.0 * y]))(_conv(keras, x))),
        keep,
    ),
    RemedyCase("softsign", "operator", "ABS", "'tanh'", activated("softsign"), activated("tanh")),
    RemedyCase(
        "group-normalization",
        "rank",
        "SUB",
        "layers.LayerNormalization() or layers.BatchNormalization()",
        on(MAP, lambda keras, x: keras.layers.GroupNormalization(4)(_conv(keras, x))),
        on(MAP, lambda keras, x: keras.layers.LayerNormalization()(_conv(keras, x))),
    ),
    RemedyCase(
        "loop",
        "operator",
        "WHILE",
        "x[:, t] in a Python loop",
        on(SEQUENCE, lambda keras, x: keras.layers.GRU(8)(x)),
        on(SEQUENCE, partial(_stepped, "GRUCell", 1)),
        keep,
        early=True,
    ),
    RemedyCase(
        "time-distributed",
        "batch",
        "STRIDED_SLICE",
        "keras.Input((8, 8, 3)), and run the model on each of the 4",
        on((4, 8, 8, 3), lambda keras, x: keras.layers.TimeDistributed(keras.layers.Conv2D(4, 3))(x)),
        on((8, 8, 3), lambda keras, x: keras.layers.Conv2D(4, 3)(x)),
    ),
    RemedyCase(
        "every-other-channel",
        "slice-strides",
        "STRIDED_SLICE",
        "layers.Conv2D(4, 1)",
        on(MAP, lambda keras, x: x[..., ::2]),
        on(MAP, lambda keras, x: keras.layers.Conv2D(4, 1)(x)),
    ),
    RemedyCase(
        "large-permute",
        "transpose-size",
        "TRANSPOSE",
        "smaller than 32×64×64",
        on((64, 64, 32), lambda keras, x: keras.layers.MaxPooling2D(2)(keras.layers.Permute((3, 1, 2))(x))),
        on((64, 64, 32), lambda keras, x: keras.layers.Permute((3, 1, 2))(keras.layers.MaxPooling2D(4)(x))),
    ),
    RemedyCase(
        "large-resizing",
        "resize-size",
        "RESIZE_BILINEAR",
        "fewer than 640×640 pixels",
        on((80, 80, 3), lambda keras, x: keras.layers.Resizing(640, 640)(x)),
        on((80, 80, 3), lambda keras, x: keras.layers.Resizing(320, 320)(x)),
    ),
    RemedyCase(
        "unstack",
        "operator",
        "UNPACK",
        "slice it (x[:, t] for t in range(6))",
        on(SEQUENCE, lambda keras, x: keras.layers.Add()(keras.ops.unstack(x, axis=1))),
        on(SEQUENCE, lambda keras, x: keras.layers.Add()([x[:, t] for t in range(6)])),
        keep,
    ),
    RemedyCase(
        "float",
        "float",
        "CONV_2D",
        "--target coral",
        activated("relu"),
        activated("relu"),
        how={"precision": "float32"},
    ),
    RemedyCase(
        "float-ends",
        "float",
        "QUANTIZE",
        "--input-type int8",
        activated("relu"),
        activated("relu"),
        how={"input_type": "float32", "output_type": "float32"},
    ),
    RemedyCase(
        "float-output",
        "dtype",
        "DEQUANTIZE",
        "--output-type int8",
        activated("relu"),
        activated("relu"),
        how={"output_type": "float32"},
    ),
    RemedyCase(
        "int16", "dtype", "CONV_2D", "--recipe int8", activated("relu"), activated("relu"), how={"precision": "int16x8"}
    ),
    RemedyCase("rows", "batch", "CONV_2D", "--target coral", activated("relu"), activated("relu"), how={"batch": 4}),
    RemedyCase(
        "open-rows",
        "dtype",
        "RESHAPE",
        "keras.Input(shape=(16, 16, 8), batch_size=1), or edgekit convert MODEL --batch 1",
        on(MAP, lambda keras, x: keras.layers.Dense(4)(keras.layers.Flatten()(x))),
        on(MAP, lambda keras, x: keras.layers.Dense(4)(keras.layers.Flatten()(x))),
        how={"batch": -1},
    ),
)
