"""Weights across the bridge, by name and shape, never by position alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import UnsupportedModelError
from .sides import KERAS, Side

__all__ = ["copy_weights"]

# What a layer holds of other layers, where both Kerases hold it alike.
PARTS = ("cell", "forward_layer", "backward_layer", "_query_dense", "_key_dense", "_value_dense", "_output_dense")
# Keras 3 name → tf_keras name.
RENAMED = {"DepthwiseConv1D": {"kernel": "depthwise_kernel"}, "DepthwiseConv2D": {"kernel": "depthwise_kernel"}}


def copy_weights(source: Any, made: Any, side: Side) -> None:
    """Give ``made`` (built) the weights of ``source``, a layer of the Keras ``side``.

    Raises UnsupportedModelError where the two do not have the same weights by name and shape.
    """
    if type(source).__name__ == "Normalization" or side.functional(source):
        return  # its statistics are options; a model copies its own
    theirs = {name: variable for name, variable in _own(made)}
    ours = {_renamed(source, name, side): (name, variable) for name, variable in _own(source)}
    if len(ours) == len(theirs) == 1:  # a weight without a name of its own: ConvNeXt's LayerScale
        ours = {name: value for name, value in zip(theirs, ours.values(), strict=True)}
    shapes = {name: tuple(variable.shape) for name, (_, variable) in ours.items()}
    expected = {name: tuple(variable.shape) for name, variable in theirs.items()}
    if shapes != expected:
        raise UnsupportedModelError(
            f"the layer {source.name!r} ({type(source).__name__}) has the weights {shapes}, its counterpart {expected}: the two "
            "cannot be matched. Leave this technique out for this model"
        )
    for name, (own, variable) in ours.items():
        theirs[name].assign(_numbers(source, own, variable))
    for left, right in _parts(source, made):
        copy_weights(left, right, side)


def _parts(source: Any, made: Any) -> Iterator[tuple[Any, Any]]:
    for part in PARTS:
        if hasattr(source, part) and hasattr(made, part):
            yield getattr(source, part), getattr(made, part)
    if not hasattr(source, "forward_layer") and hasattr(source, "layer"):
        yield source.layer, made.layer
    if hasattr(source, "cells"):
        yield from zip(source.cells, made.cells, strict=True)


def _own(layer: Any) -> list[tuple[str, Any]]:
    """The weights a layer holds itself, without those of its parts; states and seeds are no weights."""
    if hasattr(layer, "_trainable_variables"):
        found = [*layer._trainable_variables, *layer._non_trainable_variables]
        return [
            (str(item.name), item) for item in found if "lora_kernel" not in item.name and "lora_emb" not in item.name
        ]
    found = [*layer._trainable_weights, *layer._non_trainable_weights]
    return [(str(item.name).rsplit("/", 1)[-1].split(":")[0], item) for item in found]


def _renamed(layer: Any, name: str, side: Side) -> str:
    names = RENAMED.get(type(layer).__name__, {})
    if side is not KERAS:
        names = {new: old for old, new in names.items()}
    return names.get(name, name)


def _numbers(layer: Any, name: str, variable: Any) -> Any:
    if getattr(layer, "lora_enabled", False) and name in ("kernel", "embeddings"):
        variable = getattr(layer, name)  # the property adds the low-rank update
    return np.asarray(variable, dtype=np.float32) if "float" in str(variable.dtype) else np.asarray(variable)
