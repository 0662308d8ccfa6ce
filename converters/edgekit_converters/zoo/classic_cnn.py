"""The classic small convolutional network of the Keras introduction to MNIST."""

from __future__ import annotations

from typing import Any

from .._tf import import_keras
from ..errors import TrainingError

__all__ = ["classic_cnn"]


def classic_cnn(input_shape: tuple[int, ...], classes: int) -> Any:
    """Conv32 – pool – Conv64 – flatten – Dense128 – softmax, for images of shape (H, W, C) with H and W of at least 4."""
    if len(input_shape) != 3 or min(input_shape[:2]) < 4:
        raise TrainingError(f"expected images of shape (H, W, C), at least 4 by 4, got samples of shape {input_shape}")
    keras = import_keras()
    return keras.Sequential(
        [
            keras.Input(input_shape, name="image"),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
            keras.layers.MaxPooling2D(2, name="pool1"),
            keras.layers.Conv2D(64, 3, padding="same", activation="relu", name="conv2"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(128, activation="relu", name="dense1"),
            keras.layers.Dense(classes, activation="softmax", name="scores"),
        ],
        name="classic_cnn",
    )
