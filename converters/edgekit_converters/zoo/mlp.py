"""A network of dense layers."""

from __future__ import annotations

import math
from typing import Any

from .._tf import import_keras
from ..errors import TrainingError

__all__ = ["mlp"]


def mlp(input_shape: tuple[int, ...], classes: int) -> Any:
    """Flatten – Dense64 – Dense64 – softmax, for vectors (F,) or anything else of a fixed shape."""
    if not input_shape or math.prod(input_shape) < 1:
        raise TrainingError(f"expected vectors of shape (F,) for mlp, got samples of shape {input_shape}")
    keras = import_keras()
    return keras.Sequential(
        [
            keras.Input(input_shape, name="features"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(64, activation="relu", name="dense1"),
            keras.layers.Dense(64, activation="relu", name="dense2"),
            keras.layers.Dense(classes, activation="softmax", name="scores"),
        ],
        name="mlp",
    )
