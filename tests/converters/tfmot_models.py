"""A small tf_keras model, data it can learn, and a short training: what the tests of TFMOT's techniques share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from edgekit_converters._tf import import_tf_keras

Array = np.ndarray
STEPS = 12
BATCH = 16


def samples(seed: int = 0) -> tuple[Array, Array]:
    """Images of 8x8x3 in [0, 1) whose brightest third of rows is their label."""
    rng = np.random.default_rng(seed)
    images, labels = rng.random((STEPS * BATCH, 8, 8, 3), np.float32), rng.integers(0, 3, STEPS * BATCH)
    for image, label in zip(images, labels, strict=True):
        image[3 * label : 3 * label + 2] += 1
    return images, labels


def small_model() -> Any:
    """Convolution, batch normalization, ReLU, a depthwise and a separable convolution, and a classifier named ``scores``."""
    tf_keras = import_tf_keras()
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.SeparableConv2D(12, 3, activation="relu", name="separable")(x)
    x = layers.Flatten(name="flat")(x)
    return tf_keras.Model(image, layers.Dense(3, activation="softmax", name="scores")(x), name="small")


def training(seen: list[Any] | None = None, *, epochs: int = 1, rate: float = 1e-2) -> Callable[..., Any]:
    """A training of STEPS steps an epoch; ``seen`` gets the model it was given."""

    def train(model: Any, callbacks: Sequence[Any]) -> Any:
        tf_keras = import_tf_keras()
        tf_keras.utils.set_random_seed(1)
        if seen is not None:
            seen.append(model)
        images, labels = samples()
        model.compile(tf_keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        return model.fit(images, labels, BATCH, epochs=epochs, callbacks=list(callbacks), verbose=0)

    return train


def kernels(model: Any) -> dict[str, Array]:
    """Every kernel's values by the name of its variable."""
    return {item.name: item.numpy() for item in model.weights if "kernel" in item.name or "embeddings" in item.name}
