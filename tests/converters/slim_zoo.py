"""Small networks of every kind that slimming must cut through, with weights that hide nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from edgekit_converters._tf import import_keras

Array = np.ndarray
IMAGE = (12, 12, 3)


def randomized(model: Any, seed: int = 3) -> Any:
    """Biases, scales and statistics that are not what they are initialized to."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        if hasattr(layer, "layers"):
            continue
        kinds = [str(weight.path).split("/")[-1] for weight in layer.weights]
        layer.set_weights([_random(rng, kind, w.numpy()) for kind, w in zip(kinds, layer.weights, strict=True)])
    return model


def _random(rng: np.random.Generator, kind: str, weight: Array) -> Array:
    if kind in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, weight.shape)
    if weight.ndim < 2 or kind in ("alpha",):
        return rng.uniform(-0.3, 0.3, weight.shape)
    return np.asarray(weight * rng.uniform(0.5, 1.5, weight.shape))


def _norm(flow: Any, activation: str | None = "relu") -> Any:
    layers = import_keras().layers
    flow = layers.BatchNormalization()(flow)
    return layers.Activation(activation)(flow) if activation else flow


def sequential() -> Any:
    keras = import_keras()
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input(IMAGE, name="image"),
            layers.Rescaling(2.0, offset=-1.0),
            layers.Conv2D(8, 3, activation="sigmoid", name="first"),
            layers.PReLU(shared_axes=[1, 2]),
            layers.MaxPooling2D(),
            layers.ZeroPadding2D(1),
            layers.SeparableConv2D(10, 3, depth_multiplier=2, activation="relu", name="separable"),
            layers.Dropout(0.2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax", name="scores"),
        ]
    )


def vgg() -> Any:
    keras = import_keras()
    layers = keras.layers
    flow = image = layers.Input(IMAGE, name="image")
    for width in (6, 8):
        flow = _norm(layers.Conv2D(width, 3, use_bias=False, name=f"conv{width}")(flow))
        flow = layers.AveragePooling2D(2)(flow)
    flow = layers.PReLU()(flow)
    flow = layers.Dense(12, activation=layers.LeakyReLU(), name="hidden")(layers.Flatten()(flow))
    return keras.Model(image, layers.Dense(4, name="logits")(flow))


def resnet() -> Any:
    keras = import_keras()
    layers = keras.layers
    image = layers.Input(IMAGE, name="image")
    flow = _norm(layers.Conv2D(8, 3, padding="same", name="stem")(image))
    for width, stride in ((8, 1), (12, 2)):
        inner = _norm(layers.Conv2D(width, 3, strides=stride, padding="same", name=f"a{width}")(flow))
        inner = _norm(layers.Conv2D(width, 3, padding="same", name=f"b{width}")(inner), None)
        if stride != 1:
            flow = layers.Conv2D(width, 1, strides=stride, name=f"skip{width}")(flow)
        flow = layers.ReLU()(layers.Add()([flow, inner]))
    return keras.Model(image, layers.Dense(5, name="logits")(layers.GlobalAveragePooling2D()(flow)))


def mobilenet() -> Any:
    """Inverted residuals; a depthwise convolution with a multiplier; operators in place of layers."""
    keras = import_keras()
    layers = keras.layers
    image = layers.Input(IMAGE, name="image")
    flow = layers.ReLU(6.0)(_norm(layers.Conv2D(6, 3, strides=2, name="stem")(image), None))
    for number in range(2):
        inner = layers.ReLU(6.0)(_norm(layers.Conv2D(14, 1, use_bias=False, name=f"expand{number}")(flow), None))
        inner = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1 + number, name=f"deep{number}")(inner)
        inner = _norm(inner, None)
        inner = inner * (keras.ops.relu6(inner + 3.0) * (1 / 6))
        flow = flow + _norm(layers.Conv2D(6, 1, name=f"project{number}")(inner), None)
    return keras.Model(image, layers.Dense(3, name="logits")(keras.ops.mean(flow, axis=(1, 2))))


def densenet() -> Any:
    keras = import_keras()
    layers = keras.layers
    image = layers.Input(IMAGE, name="image")
    flow = layers.Conv2D(6, 3, strides=2, name="stem")(image)
    for number in range(3):
        grown = layers.Conv2D(4, 3, padding="same", name=f"grow{number}")(_norm(flow))
        flow = layers.Concatenate()([flow, grown])
    flow = layers.Conv2D(7, 1, name="transition")(_norm(flow))
    twice = layers.Concatenate()([flow, flow])
    return keras.Model(image, layers.Dense(3, name="logits")(layers.GlobalMaxPooling2D()(twice)))


def squeeze_excite() -> Any:
    keras = import_keras()
    layers = keras.layers
    image = layers.Input(IMAGE, name="image")
    flow = layers.Conv2D(8, 3, activation="silu", name="conv")(image)
    gate = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(flow))
    gate = layers.Conv2D(4, 1, activation="relu", name="squeeze")(gate)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(gate)
    flow = layers.Multiply()([flow, gate])
    spot = layers.Conv2D(1, 1, activation="sigmoid", name="spot")(flow)  # one channel, spread over all
    flow = layers.Reshape((-1, 8))(layers.Multiply()([spot, flow]))
    return keras.Model(image, layers.Dense(3, name="logits")(layers.GlobalAveragePooling1D()(flow)))


def several() -> Any:
    """Two inputs, two outputs as a dict, words beside an image."""
    keras = import_keras()
    layers = keras.layers
    image, words = layers.Input(IMAGE, name="image"), layers.Input((5,), dtype="int32", name="words")
    left = layers.GlobalAveragePooling2D()(layers.Conv2D(9, 3, activation="relu", name="conv")(image))
    right = layers.Dense(6, activation="tanh", name="word")(layers.Embedding(11, 7, name="table")(words))
    right = layers.GRU(4, name="recurrent")(right)
    both = layers.Dense(8, activation="relu", name="both")(layers.Concatenate()([left, right]))
    outputs = {"kind": layers.Dense(3, name="kind")(both), "place": layers.Dense(2, name="place")(left)}
    return keras.Model([image, words], outputs)


def shared() -> Any:
    """One convolution and its normalization on two branches of one width, joined and subtracted."""
    keras = import_keras()
    layers = keras.layers
    image = layers.Input(IMAGE, name="image")
    convolution, norm = layers.Conv2D(6, 3, padding="same", name="shared"), layers.BatchNormalization(name="norm")
    one, other = (layers.Conv2D(5, 3, name=name, activation="relu")(image) for name in ("one", "other"))
    flows = [norm(convolution(flow)) for flow in (one, other)]
    flow = layers.Concatenate()([layers.Subtract()(flows), layers.Maximum()(flows)])
    return keras.Model(image, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(flow)))


def nested() -> Any:
    """A sequential and a functional model inside; layers of one name in two of them."""
    keras = import_keras()
    layers = keras.layers
    inner = keras.Sequential([layers.Input((10, 10, 6)), layers.Conv2D(8, 3, name="conv"), layers.ReLU()], name="inner")
    source = layers.Input((10, 10, 6), name="source")
    flow = layers.Conv2D(8, 3, activation="relu", name="conv")(source)
    middle = keras.Model(source, layers.Add()([inner(source), flow]), name="middle")
    image = layers.Input(IMAGE, name="image")
    flow = middle(layers.Conv2D(6, 3, activation="relu", name="conv")(image))
    return keras.Model(image, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(flow)))


def series() -> Any:
    keras = import_keras()
    layers = keras.layers
    flow = signal = layers.Input((16, 3), name="signal")
    flow = layers.ZeroPadding1D(1)(layers.Conv1D(8, 3, dilation_rate=2, activation="relu", name="conv")(flow))
    flow = layers.DepthwiseConv1D(3, activation="relu", name="deep")(flow)
    flow = layers.MaxPooling1D(2)(
        layers.SeparableConv1D(9, 3, padding="same", activation="relu", name="separable")(flow)
    )
    flow = layers.Permute((1, 2))(layers.Conv1DTranspose(6, 3, strides=2, activation="relu", name="up")(flow))
    return keras.Model(signal, layers.Dense(4, name="logits")(layers.Flatten()(flow)))


def unet() -> Any:
    keras = import_keras()
    layers = keras.layers
    image = layers.Input((8, 8, 3), name="image")
    high = layers.Conv2D(6, 3, padding="same", activation="relu", name="high")(image)
    low = layers.Conv2D(8, 3, padding="same", activation="relu", name="low")(layers.MaxPooling2D()(high))
    lowest = layers.Conv2D(8, 3, padding="same", activation="relu", name="lowest")(layers.MaxPooling2D()(low))
    flow = layers.Conv2DTranspose(7, 2, strides=2, activation="relu", name="up")(lowest)
    flow = layers.UpSampling2D()(layers.Concatenate()([low, flow]))
    flow = layers.Concatenate()([high, layers.Cropping2D(0)(flow)])
    return keras.Model(image, layers.Conv2D(2, 1, activation="softmax", name="mask")(flow))


def video() -> Any:
    keras = import_keras()
    layers = keras.layers
    clip = layers.Input((5, 6, 6, 2), name="clip")
    flow = _norm(layers.Conv3D(6, 3, padding="same", name="conv")(clip))
    flow = layers.MaxPooling3D((1, 2, 2))(flow)
    flow = layers.Conv3DTranspose(5, 2, activation="relu", name="up")(flow)
    return keras.Model(clip, layers.Dense(3, name="logits")(layers.GlobalAveragePooling3D()(flow)))


def mixed() -> Any:
    """Operations without a rule, or that mix channels, between layers that can be slimmed."""
    keras = import_keras()
    layers = keras.layers
    image = layers.Input(IMAGE, name="image")
    flow = layers.Conv2D(8, 3, activation="relu", name="first")(image)
    flow = layers.Conv2D(8, 3, groups=2, name="grouped")(layers.Conv2D(6, 3, activation="relu", name="second")(flow))
    flow = layers.LayerNormalization()(layers.Conv2D(6, 1, name="normed")(flow))
    attention = layers.Conv2D(6, 1, activation="softmax", name="attention")(layers.Conv2D(7, 1, name="before")(flow))
    flow = layers.Multiply()([layers.Conv2D(6, 1, name="value")(flow), attention])
    flow = layers.Lambda(lambda value: value[..., ::-1])(layers.Conv2D(5, 1, name="turned")(flow))
    flow = layers.Reshape((-1, 1))(layers.Conv2D(4, 3, name="split")(flow))
    return keras.Model(image, layers.Dense(3, name="logits")(layers.Dense(9, name="wide")(layers.Flatten()(flow))))


ARCHITECTURES: dict[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (
        *(sequential, vgg, resnet, mobilenet, densenet, squeeze_excite, several, shared, nested, series, unet, video),
        mixed,
    )
}


def rows(model: Any, count: int = 3, seed: int = 0) -> list[Array]:
    """Random samples for each input of a model."""
    rng = np.random.default_rng(seed)
    tensors = getattr(model, "_functional", model).inputs
    return [
        rng.integers(0, 11, (count, *tensor.shape[1:])).astype("int32")
        if str(tensor.dtype) == "int32"
        else rng.uniform(-1, 1, (count, *tensor.shape[1:])).astype("float32")
        for tensor in tensors
    ]
