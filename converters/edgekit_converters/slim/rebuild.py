"""The same model with fewer channels: layers made anew from changed configs, with the slices of the weights that stay."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_keras
from ..errors import UnsupportedModelError
from ..graph import functional
from .channels import Channels, Ids, Member

__all__ = ["kept_channels", "rebuild"]

Kept = npt.NDArray[np.bool_]
Weights = Mapping[int, Sequence[npt.NDArray[Any]]]


def rebuild(
    model: Any,
    channels: Channels,
    kept: Kept,
    weights: Weights | None = None,
    *,
    shortcuts: Mapping[int, int] | None = None,
) -> Any:
    """A new model with the same names, inputs and outputs, not compiled; ``kept`` has one entry per class.

    ``weights``, in the shapes of the original's, are cut instead of those of the layers whose ``id`` they are under.
    ``shortcuts`` says, by ``id`` of an operation, which of its inputs is given in place of what it makes.

    A sequential model becomes a sequential one, any other a plain functional one; nested models do likewise.
    """
    copy, keras = _Copy(channels, kept, weights or {}, shortcuts or {}), import_keras()
    with keras.src.saving.serialization_lib.SafeModeScope(False):  # the Lambdas of a model in memory may run already
        slimmed = copy.model(model, functional(model).inputs)
    copy.set_weights()
    return slimmed


def kept_channels(channels: Channels, kept: Kept) -> dict[str, Ids]:
    """Which channels of its output each layer with a weight for each of them keeps, by path."""
    found: dict[str, Ids] = {}
    for member in channels.members:
        ids = member.made
        if ids is None and member.slots and member.slots[0].role != "reads":  # scaled one by one
            ids = member.slots[0].ids
        if ids is not None:
            found[member.path] = np.flatnonzero(kept[ids])
    return found


class _Copy:
    """Copies of layers and nested models, each made once: what is shared stays shared."""

    def __init__(self, channels: Channels, kept: Kept, weights: Weights, shortcuts: Mapping[int, int]) -> None:
        self._kept, self._given, self._shortcuts = kept, weights, shortcuts
        self._members = {id(member.layer): member for member in channels.members}
        self._made: dict[int, tuple[Any, Any]] = {}

    def model(self, model: Any, inputs: list[Any]) -> Any:
        """A copy of a model that is called with tensors of these shapes."""
        keras, graph = import_keras(), functional(model)
        own = [
            keras.Input(batch_shape=given.shape, dtype=tensor.dtype, name=tensor.name, optional=_optional(tensor))
            for tensor, given in zip(graph.inputs, inputs, strict=True)
        ]
        if isinstance(model, keras.Sequential):
            return self._sequential(model, own[0])
        outputs = graph._run_through_graph(own, operation_fn=self._caller)
        with warnings.catch_warnings():  # said when the original was made
            warnings.filterwarnings("ignore", message="When providing `inputs` as a dict")
            return keras.Model(keras.tree.pack_sequence_as(graph._inputs_struct, own), outputs, name=model.name)

    def set_weights(self) -> None:
        """Give every copy what it keeps of its original's weights."""
        for original, copy in reversed(
            self._made.values()
        ):  # a nested model before its layers, which may differ from it
            if functional(original) is None and getattr(original, "weights", None):
                copy.set_weights(self._weights(original))
            if getattr(original, "trainable", None) != getattr(copy, "trainable", None):
                copy.trainable = original.trainable

    def _sequential(self, model: Any, tensor: Any) -> Any:
        flow, layers = tensor, []
        for layer in model.layers:
            layers.append(self._operation(layer, [flow]))
            flow = layers[-1].compute_output_spec(flow)
        return import_keras().Sequential([tensor, *layers], name=model.name)

    def _caller(self, operation: Any) -> Any:
        """A function in place of ``operation``; nested models cannot be copied before it is known what flows in."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if id(operation) in self._shortcuts:
                return import_keras().tree.flatten((args, kwargs))[self._shortcuts[id(operation)]]
            given = import_keras().tree.flatten((args, kwargs.get("inputs")))
            return self._operation(operation, [value for value in given if value is not None])(*args, **kwargs)

        return call

    def _operation(self, operation: Any, inputs: list[Any]) -> Any:
        if id(operation) not in self._made:
            nested = functional(operation) is not None
            copy = self.model(operation, inputs) if nested else self._layer(operation)
            self._made[id(operation)] = operation, copy
        return self._made[id(operation)][1]

    def _layer(self, operation: Any) -> Any:
        member = self._members.get(id(operation))
        try:
            config = operation.get_config()
        except NotImplementedError:
            if isinstance(operation, import_keras().Layer):
                raise UnsupportedModelError(
                    f"the layer {operation.name!r} ({type(operation).__name__}) has no get_config: add one, so that the "
                    "model can be made anew"
                ) from None
            return operation  # of keras.ops, with nothing of its own
        if member is not None:
            config.update(self._settings(member, config))
        return operation.__class__.from_config(config)

    def _settings(self, member: Member, config: dict[str, Any]) -> dict[str, Any]:
        """The values of the config that count channels."""
        changed: dict[str, Any] = {}
        for key, ids in member.settings.items():
            count = int(self._kept[ids].sum())
            if key != "target_shape":
                changed[key] = count
            elif config[key][-1] != -1:
                changed[key] = (*config[key][:-1], count)
        return changed

    def _weights(self, layer: Any) -> list[npt.NDArray[Any]]:
        weights = list(self._given.get(id(layer)) or [weight.numpy() for weight in layer.weights])
        member = self._members.get(id(layer))
        for slot in member.slots if member is not None else ():
            weights[slot.weight] = np.compress(self._kept[slot.ids], weights[slot.weight], axis=slot.axis)
        return weights


def _optional(tensor: Any) -> bool:
    return bool(getattr(tensor._keras_history.operation, "optional", False))
