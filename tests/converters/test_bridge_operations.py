"""Operations on symbolic tensors across the bridge, with the other Keras as the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from edgekit_converters import bridge
from edgekit_converters._tf import import_keras, import_tensorflow, import_tf_keras
from edgekit_converters.errors import UnsupportedModelError

from tests.converters.test_bridge_layers import assert_same

pytestmark = pytest.mark.keras
Made = Callable[[Any, Any, Any], list[Any]]
UNARY = """
exp expm1 tanh sin cos tan floor ceil round sign square abs erf sinh cosh arctan negative relu relu6 sigmoid softplus softsign
silu selu elu gelu leaky_relu hard_sigmoid hard_silu log_sigmoid tanh_shrink hard_tanh softmax log_softmax isnan isfinite isinf
ones_like zeros_like stop_gradient
""".split()  # noqa: SIM905 - a line for twenty names
CHANNELS = np.arange(1, 4, dtype=np.float32)
# Of keras.ops, on two tensors of shape (N, 4, 4, 3).
OPERATIONS: dict[str, Made] = {
    "python": lambda ops, x, y: [x + 1, 1 - x, x * y, x / 2, -x, x**2, x / (ops.abs(y) + 1), x - y, x // 2, x % 2],
    "comparison": lambda ops, x, y: [
        ops.where(x > 0, x, y),
        ops.cast(ops.logical_or(x >= y, ops.logical_not(x <= 0)), "float32"),
        ops.where(ops.logical_xor(x < 0.5, y != 0), ops.maximum(x, 0.1), ops.minimum(x, y)),
    ],
    "unary": lambda ops, x, y: [ops.cast(getattr(ops, name)(x), "float32") for name in UNARY],
    "positive": lambda ops, x, y: [
        getattr(ops, name)(ops.abs(x) + 1) for name in ("sqrt", "log", "log1p", "rsqrt", "reciprocal")
    ],
    "options": lambda ops, x, y: [
        ops.gelu(x, approximate=False),
        ops.leaky_relu(x, 0.3),
        ops.elu(x, 0.7),
        ops.softmax(x, axis=1),
        ops.clip(x, -0.5, 0.5),
        ops.divide_no_nan(x, y),
        ops.arctan2(x, y),
    ],
    "reduction": lambda ops, x, y: [
        ops.mean(x, axis=[1, 2]),
        ops.sum(x, axis=-1, keepdims=True),
        ops.max(x, axis=2),
        ops.amin(x, axis=(1, 2)),
        ops.prod(x, axis=-1),
        ops.std(x, axis=1),
        ops.var(x, axis=1),
        ops.logsumexp(x, axis=-1),
        ops.argmax(x, axis=-1),
        ops.argmin(x, axis=1),
        ops.cumsum(x, axis=1),
        ops.cast(ops.any(x > 0, axis=1), "float32"),
        ops.cast(ops.all(x > 0, axis=1), "float32"),
    ],
    "shape": lambda ops, x, y: [
        ops.reshape(x, (-1, 48)),
        ops.transpose(x, (0, 2, 1, 3)),
        ops.squeeze(ops.expand_dims(x, 1), 1),
        ops.concatenate([x, y], -1),
        ops.stack([x, y], 1),
        *ops.split(x, 3, -1),
        *ops.split(x, [1], -1),
        *ops.unstack(x, axis=1),
        ops.tile(x, (1, 1, 1, 2)),
        ops.repeat(x, 2, axis=1),
        ops.flip(x, axis=1),
        ops.roll(x, 1, axis=1),
        ops.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="reflect"),
        ops.swapaxes(x, 1, 2),
        ops.moveaxis(x, 1, -1),
        ops.take(x, [0, 2], axis=1),
    ],
    "items": lambda ops, x, y: [x[:, 1], x[:, 1:3], x[..., None], x[:, None, ..., 0], x[:, ::2, ::-1], x[..., -1]],
    "algebra": lambda ops, x, y: [
        ops.matmul(x, ops.swapaxes(y, -1, -2)),
        ops.einsum("bijc,bikc->bijk", x, y),
        ops.tensordot(x, np.ones((3, 2), np.float32), axes=1),
        ops.dot(x, np.ones((3, 2), np.float32)),
        ops.normalize(x, axis=-1),
    ],
    "image": lambda ops, x, y: [
        ops.image.resize(x, (8, 8)),
        ops.max_pool(x, 2),
        ops.average_pool(x, 2, 1, "same"),
        ops.depth_to_space(ops.concatenate([x] * 4, -1), 2),
        ops.space_to_depth(x, 2),
    ],
    "constants": lambda ops, x, y: [
        x * CHANNELS,
        ops.add(x, ops.convert_to_tensor(CHANNELS)),
        x * import_keras().Variable(CHANNELS),
        ops.multiply(2.0, x),
    ],
}


def two_inputs(keras: Any) -> tuple[Any, Any]:
    return tuple(keras.layers.Input((4, 4, 3), name=name) for name in ("x", "y"))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", OPERATIONS)
def test_operations_cross_both_ways(kind: str) -> None:
    """Operations of keras.ops, as TensorFlow functions and back, compute what they did and have the names they had."""
    keras = import_keras()
    x, y = two_inputs(keras)
    model = keras.Model([x, y], OPERATIONS[kind](keras.ops, x, y))

    there = bridge.to_tf_keras(model)
    back = bridge.to_keras(there)

    assert_same(model, there, back)
    names = sorted(bridge.flat_names(model).values())
    assert sorted(bridge.flat_names(there).values()) == names
    assert sorted(bridge.flat_names(back).values()) == names


def test_integers_are_promoted_as_keras_does() -> None:
    """keras.ops mixes integers and floats; TensorFlow gets the cast it needs."""
    keras = import_keras()
    ops = keras.ops
    x, y = two_inputs(keras)
    whole = ops.cast(x * 10, "int32")
    model = keras.Model([x, y], [whole * 2, whole * 0.5, whole + y, ops.one_hot(ops.abs(whole), 4)])

    there = bridge.to_tf_keras(model)

    assert_same(model, there, bridge.to_keras(there))


# Of TensorFlow, on two tensors of shape (N, 4, 4, 3).
FUNCTIONS: dict[str, Made] = {
    "operators": lambda tf, x, y: [x + 1.0, 1.0 - x, x * y, x / 2.0, -x, x // 2.0, x % 2.0, abs(x), x**2],
    "linear": lambda tf, x, y: [
        tf.matmul(x, y, transpose_b=True),
        tf.einsum("bijc,bikc->bijk", x, y),
        tf.nn.bias_add(x, CHANNELS),
        tf.math.add_n([x, y, x]),
    ],
    "activation": lambda tf, x, y: [
        tf.nn.relu6(x),
        tf.nn.swish(x),
        tf.nn.sigmoid(x),
        tf.nn.softmax(x, axis=1),
        tf.nn.leaky_relu(x, 0.3),
        tf.nn.elu(x),
        tf.clip_by_value(x, 0.0, 1.0),
        tf.nn.l2_normalize(x, -1),
    ],
    "shape": lambda tf, x, y: [
        tf.transpose(x, [0, 2, 1, 3]),
        tf.concat([x, y], -1),
        *tf.split(x, 3, -1),
        *tf.split(x, [1, 2], -1),
        tf.pad(x, [[0, 0], [1, 1], [0, 0], [0, 0]]),
        tf.squeeze(tf.expand_dims(x, 1), 1),
        tf.gather(x, [0, 1], axis=1),
        tf.stack([x, y]),
        x[:, 1:, ..., None],
        tf.identity(x),
    ],
    "reduction": lambda tf, x, y: [
        tf.reduce_mean(x, [1, 2]),
        tf.math.argmax(x, -1),
        tf.one_hot(tf.cast(tf.nn.relu(x), "int32"), 4),
    ],
    "image": lambda tf, x, y: [
        tf.nn.max_pool2d(x, 2, 2, "SAME"),
        tf.nn.avg_pool2d(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID"),
        tf.image.resize(x, [8, 8]),
        tf.nn.space_to_depth(x, 2),
    ],
    "sizes of the batch": lambda tf, x, y: [
        tf.reshape(x, [tf.shape(x)[0], -1]),
        tf.reshape(x, (-1, tf.shape(x)[1] * 4, 3)),
        tf.reshape(x, tf.shape(y)),
    ],
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_tensorflow_functions_cross(kind: str) -> None:
    """TensorFlow functions in a tf_keras model become operations of keras.ops that compute the same."""
    tf_keras = import_tf_keras()
    x, y = two_inputs(tf_keras)
    model = tf_keras.Model([x, y], FUNCTIONS[kind](import_tensorflow(), x, y))

    assert_same(bridge.to_keras(model), model)


def test_an_operation_without_a_counterpart() -> None:
    """The error names the operation and says what to write."""
    keras, tf_keras, tf = import_keras(), import_tf_keras(), import_tensorflow()
    x, _ = two_inputs(keras)
    with pytest.raises(UnsupportedModelError, match=r"'sort\w*' \(keras.ops, Sort\) has no counterpart.*Write it with"):
        bridge.to_tf_keras(keras.Model(x, keras.ops.sort(x)))

    old, _ = two_inputs(tf_keras)
    with pytest.raises(UnsupportedModelError, match=r"'tf.sort\w*' \(tf.sort\) has no counterpart.*Write it with"):
        bridge.to_keras(tf_keras.Model(old, tf.sort(old)))
    with pytest.raises(
        UnsupportedModelError, match=r"tf.math.cumsum\) has no counterpart in keras.ops with reverse=True"
    ):
        bridge.to_keras(tf_keras.Model(old, tf.math.cumsum(old, 1, reverse=True)))
    with pytest.raises(UnsupportedModelError, match="its shape is computed in the graph"):
        bridge.to_keras(tf_keras.Model(old, tf.reshape(old, [tf.cast(tf.math.reduce_max(old), "int32"), 3])))
    with pytest.raises(UnsupportedModelError, match=r"an output of the model .* is a shape"):
        bridge.to_keras(tf_keras.Model(old, tf.shape(old)))
