"""Activation functions across the bridge: same names with other definitions, and definitions only one Keras has."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from .._tf import import_keras, import_tensorflow, import_tf_keras
from ..errors import UnsupportedModelError

__all__ = ["cross", "register"]

PACKAGE = "edgekit"
# Defined alike in both.
SAME = (
    "relu",
    "sigmoid",
    "tanh",
    "softmax",
    "softplus",
    "softsign",
    "elu",
    "selu",
    "exponential",
    "gelu",
    "linear",
    "mish",
)
# What TensorFlow calls its own, by the name Keras 3 has for it.
TENSORFLOW_NAMES = {
    "softmax_v2": "softmax",
    "log_softmax_v2": "log_softmax",
    "swish": "silu",
    "hard_swish": "hard_silu",
}
# Keras 2 calls clip(0.2 x + 0.5, 0, 1) hard_sigmoid, Keras 3 relu6(x + 3) / 6.
KERAS2_HARD_SIGMOID = "hard_sigmoid_of_keras2"
ORIGINS = ("keras", "tf_keras", "tensorflow", "edgekit_converters")


def cross(function: Any, to: str, where: str) -> Any:
    """What to give a layer of the Keras ``to`` (``keras`` or ``tf_keras``) as its activation; None stays None.

    ``function`` is the activation a layer of the other Keras holds, ``where`` names that layer in the error. Raises
    UnsupportedModelError for a function of the user's own.
    """
    if function is None:
        return None
    name = getattr(function, "__name__", type(function).__name__)
    if str(getattr(function, "__module__", "")).split(".")[0] not in ORIGINS:
        raise UnsupportedModelError(_unknown(where, name))
    known = _into_tf_keras(name) if to == "tf_keras" else _into_keras(name, _is_keras2(function))
    if known is None:
        raise UnsupportedModelError(_unknown(where, name))
    return known


def register() -> None:
    """Make known to both Kerases what the bridge has written for them: a model that was saved with it can be loaded then."""
    _hard_sigmoid_of_keras2()
    _written_for_tf_keras()


def _unknown(where: str, name: str) -> str:
    return (
        f"{where} has the activation {name!r}, which the other Keras does not have. Use one of {', '.join(sorted(SAME))}, "
        "silu, hard_silu, hard_sigmoid, relu6, leaky_relu, or write it with keras.ops on the layer's output"
    )


def _is_keras2(function: Any) -> bool:
    return str(function.__module__).startswith("tf_keras")


def _into_tf_keras(name: str) -> Any:
    plain = TENSORFLOW_NAMES.get(name, name)
    if plain in SAME:
        return plain
    if plain == "silu":
        return "swish"
    if plain == KERAS2_HARD_SIGMOID:
        return "hard_sigmoid"
    return _written_for_tf_keras().get(plain)


def _into_keras(name: str, keras2: bool) -> Any:
    plain = TENSORFLOW_NAMES.get(name, name)
    if plain == "hard_sigmoid" and keras2:
        return _hard_sigmoid_of_keras2()
    known = plain in SAME or plain == "silu" or plain in _written_for_tf_keras()
    return plain if known else None


@cache
def _hard_sigmoid_of_keras2() -> Callable[[Any], Any]:
    keras = import_keras()

    def hard_sigmoid_of_keras2(x: Any) -> Any:
        """clip(0.2 x + 0.5, 0, 1)."""
        return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)

    register = keras.saving.register_keras_serializable(PACKAGE, KERAS2_HARD_SIGMOID)
    return register(hard_sigmoid_of_keras2)  # type: ignore[no-any-return]


@cache
def _written_for_tf_keras() -> dict[str, Callable[[Any], Any]]:
    """Keras 3 activations that tf_keras lacks, by their names, registered so that a model with them can be saved."""
    tf = import_tensorflow()

    def relu6(x: Any) -> Any:
        return tf.nn.relu6(x)

    def leaky_relu(x: Any) -> Any:
        return tf.nn.leaky_relu(x, alpha=0.2)

    def hard_sigmoid(x: Any) -> Any:
        return tf.nn.relu6(x + 3.0) / 6.0

    def hard_silu(x: Any) -> Any:
        return x * tf.nn.relu6(x + 3.0) / 6.0

    def log_softmax(x: Any) -> Any:
        return tf.nn.log_softmax(x)

    def log_sigmoid(x: Any) -> Any:
        return tf.math.log_sigmoid(x)

    def celu(x: Any) -> Any:
        return tf.nn.relu(x) + tf.math.expm1(tf.minimum(x, 0.0))

    def tanh_shrink(x: Any) -> Any:
        return x - tf.math.tanh(x)

    def hard_tanh(x: Any) -> Any:
        return tf.clip_by_value(x, -1.0, 1.0)

    written = (
        relu6, leaky_relu, hard_sigmoid, hard_silu, log_softmax, log_sigmoid, celu, tanh_shrink, hard_tanh,
    )  # fmt: skip
    register = import_tf_keras().utils.register_keras_serializable
    return {function.__name__: register(PACKAGE, function.__name__)(function) for function in written}
