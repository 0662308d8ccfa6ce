"""Operations on symbolic tensors across the bridge."""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedModelError

__all__ = ["into_keras", "into_tf_keras"]


def into_tf_keras(operation: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A Keras 3 operation as TensorFlow functions on tf_keras tensors."""
    raise UnsupportedModelError(f"the operation {operation.name!r} ({type(operation).__name__}) has no counterpart")


def into_keras(layer: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A TensorFlow function in a tf_keras model as operations of keras.ops on Keras 3 tensors."""
    raise UnsupportedModelError(f"the operation {layer.name!r} ({type(layer).__name__}) has no counterpart")
