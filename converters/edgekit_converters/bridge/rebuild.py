"""A model rebuilt in the other Keras: its graph walked with the other Keras' symbolic tensors flowing along the edges."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from .._tf import import_tensorflow
from ..errors import UnsupportedModelError
from ..reason import first_line
from .into_functions import into_tf_keras
from .into_operations import into_keras
from .layers import counterpart, other
from .names import Names, input_names, safe
from .proof import prove
from .sides import KERAS, TF_KERAS, Side
from .weights import copy_weights

__all__ = ["rebuilt", "to_keras", "to_tf_keras"]

# Recorded by Keras 3 where a mask travels with a tensor; tf_keras carries the same mask by itself.
CARRIED_MASKS = ("query_mask", "value_mask", "key_mask")


def to_tf_keras(model: Any) -> Any:
    """A Keras 3 functional or sequential model as a flat functional ``tf_keras.Model`` with the same weights.

    Names of layers, inputs and outputs, their order and structure, trainable flags and shared layers are kept; nested
    models dissolve (``flat_names``). It computes in float32. Proven on random samples: outputs differ by at most 1e-5,
    absolute up to values of 1, beyond that relative to the largest value of a row. Raises UnsupportedModelError naming the
    layer that has no counterpart, or the first one whose outputs differ.
    """
    return _bridged(model, KERAS)


def to_keras(model: Any) -> Any:
    """A tf_keras functional or sequential model as a flat functional ``keras.Model``; as ``to_tf_keras``, the other way."""
    return _bridged(model, TF_KERAS)


def _bridged(model: Any, side: Side) -> Any:
    side.require_model(model)
    names = Names()
    made = rebuilt(model, side, names)
    prove(model, made, side, names)
    return made


def rebuilt(model: Any, side: Side, names: Names) -> Any:
    """``model`` of the Keras ``side`` in the other one, unproven; ``names`` learns what its steps are called there."""
    if not side.functional(model):
        side.walk(model, [], lambda *_: None)  # says why, and what to do
    target = other(side)
    layers: dict[int, Any] = {}
    made_by: dict[int, Any] = {}
    frozen = _frozen(model, side) if side is TF_KERAS else set()
    cross = into_tf_keras if side is KERAS else into_keras

    def apply(item: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not side.is_layer(item):
            again = id(item) in layers
            layers[id(item)] = item
            result = cross(item, names.free(path) if again else names.of(item, path), args, kwargs)
            made_by.update(_makers(target.flatten(result)[:1]))
            return result
        name = names.of(item, path)
        args, kwargs = _arguments(item, args, kwargs, side)
        if id(item) in layers:
            return _called(layers[id(item)], item, args, kwargs)
        made = layers[id(item)] = counterpart(item, side, name, lambda inner: rebuilt(inner, side, Names()))
        result = _called(made, item, args, kwargs)
        copy_weights(item, made, side)
        if id(item) in frozen:
            made.trainable = False
        return result

    for name in input_names(side, model):
        names.free((name,))
    inputs = [_input(tensor, name, target) for tensor, name in zip(model.inputs, input_names(side, model), strict=True)]
    outputs = side.walk(model, inputs, apply)
    if any(not hasattr(value, "_keras_history") for value in outputs):
        raise UnsupportedModelError(
            f"an output of the model {model.name!r} is a shape or a constant: give tensors only"
        )
    if target is KERAS:
        _tell_apart(outputs, {*made_by, *(id(layer) for layer in layers.values())}, names)
    given, returned = side.ends(model)
    with warnings.catch_warnings():
        # Where the keys of a dict are not the names of the inputs, they were not before either.
        warnings.filterwarnings("ignore", message=".*keys in the dict must match the names")
        return target.module.Model(side.pack(given, inputs), side.pack(returned, outputs), name=safe(str(model.name)))


def _makers(tensors: Sequence[Any]) -> dict[int, Any]:
    """The steps that made symbolic tensors, by their identity."""
    histories = [tensor._keras_history for tensor in tensors if hasattr(tensor, "_keras_history")]
    made = [history.operation if hasattr(history, "operation") else history.layer for history in histories]
    return {id(step): step for step in made}


def _tell_apart(outputs: Sequence[Any], named: set[int], names: Names) -> None:
    """Give operations that Keras 3 made by itself, for a mask or within another one, names that are not taken."""
    todo, seen = list(outputs), set()
    while todo:
        step = todo.pop()._keras_history.operation
        if id(step) in seen:
            continue
        seen.add(id(step))
        todo.extend(tensor for node in step._inbound_nodes for tensor in node.input_tensors)
        if id(step) not in named and not isinstance(step, KERAS.module.layers.InputLayer):
            step.name = names.free((str(step.name),))


def _input(tensor: Any, name: str, target: Side) -> Any:
    dtype = import_tensorflow().dtypes.as_dtype(tensor.dtype)
    if getattr(tensor, "sparse", False) or type(tensor).__name__ in ("SparseKerasTensor", "RaggedKerasTensor"):
        raise UnsupportedModelError(f"the input {name!r} is sparse or ragged: give the model dense inputs")
    kind = "float32" if dtype.is_floating else dtype.name
    return target.module.Input(batch_shape=tuple(tensor.shape), dtype=kind, name=name)


def _arguments(
    item: Any, args: tuple[Any, ...], kwargs: dict[str, Any], side: Side
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a layer's call, as the other Keras takes them."""
    if side is TF_KERAS and kwargs.get("training") is True:
        raise UnsupportedModelError(
            f"the layer {item.name!r} ({type(item).__name__}) is called with training=True, so it stays random at inference: "
            "call it without, for another Keras cannot draw the same numbers"
        )
    dropped = ("training", *CARRIED_MASKS)
    kept = {key: value for key, value in kwargs.items() if value is not None and key not in dropped}
    if not args and kept and type(item).__name__ != "MultiHeadAttention":
        first = next(iter(kept))  # the tensors' parameter has another name: sequences, inputs, x
        args = (kept.pop(first),)
    if side is KERAS and args and getattr(args[0], "_keras_mask", None) is not None:
        kept.pop("mask", None)
    if side is TF_KERAS and hasattr(item, "return_sequences") and args and isinstance(args[0], (list, tuple)):
        kept["initial_state"] = list(args[0][1:])
        args = (args[0][0], *args[1:])
    return args, kept


def _called(made: Any, item: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return made(*args, **kwargs)
    except Exception as error:  # whatever a layer raises that is called in a way its Keras does not know
        raise UnsupportedModelError(
            f"the layer {item.name!r} ({type(item).__name__}) cannot be called like this in the other Keras: "
            f"{first_line(error)}. Replace it by others, or leave this technique out for this model"
        ) from error


def _frozen(model: Any, side: Side, above: bool = False) -> set[int]:
    """The layers that a nested model of Keras 2 keeps from training, whatever their own flag says."""
    found: set[int] = set()
    off = above or not model.trainable
    for layer in model.layers:
        if side.functional(layer):
            found |= _frozen(layer, side, off)
        elif off:
            found.add(id(layer))
    return found
