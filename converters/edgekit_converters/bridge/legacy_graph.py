"""The mirror of ``graph.walk`` for tf_keras: its graph walked with values of any kind in place of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._tf import import_tensorflow, import_tf_keras
from ..errors import UnsupportedModelError
from ..graph import Apply

__all__ = ["functional", "is_function", "outputs", "walk"]


def functional(model: Any) -> Any:
    """``model`` where it is a functional or a built sequential model; None for anything else."""
    kind = import_tf_keras().src.engine.functional.Functional
    return model if isinstance(model, kind) and getattr(model, "_is_graph_network", False) else None


def is_function(layer: Any) -> bool:
    """Whether a layer stands for a TensorFlow function called on symbolic tensors."""
    return type(layer).__name__ in (
        "TFOpLambda",
        "SlicingOpLambda",
        "ClassMethod",
        "InstanceMethod",
        "InstanceProperty",
    )


def outputs(layer: Any) -> int:
    """How many tensors one call of ``layer`` returns."""
    return len(import_tensorflow().nest.flatten(layer._inbound_nodes[0].outputs))


def walk(model: Any, inputs: Sequence[Any], apply: Apply, path: tuple[str, ...] = ()) -> list[Any]:
    """Call ``apply`` for every layer of ``model`` in the order of the data; returns the values of its outputs.

    As ``graph.walk``: one value for each input, nested models walked as if their layers were the outer model's own.
    Raises UnsupportedModelError for a subclassed model, or one not built yet.
    """
    if functional(model) is None:
        raise UnsupportedModelError(
            f"expected a functional or sequential model that is built, got {type(model).__name__} {model.name!r}, whose "
            "layers cannot be walked: rebuild it with tf_keras.Model(inputs, outputs), or give a sequential one an Input"
        )
    nest = import_tensorflow().nest
    values = {id(symbolic): value for symbolic, value in zip(model.inputs, inputs, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            needed = [] if node.is_input else node.keras_inputs
            if node.is_input or any(id(tensor) not in values for tensor in needed):
                continue
            args, kwargs = _filled(node, values)
            found = _call(node.layer, args, kwargs, apply, path)
            values.update(zip(map(id, nest.flatten(node.outputs)), nest.flatten(found), strict=True))
    return [values[id(symbolic)] for symbolic in model.outputs]


def _call(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], apply: Apply, path: tuple[str, ...]) -> Any:
    here = (*path, str(layer.name))
    if functional(layer) is None:
        return apply(layer, here, args, kwargs)
    given = args[0] if args else kwargs["inputs"]
    return walk(layer, layer._flatten_to_reference_inputs(given), apply, here)


def _filled(node: Any, values: dict[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a node with every symbolic tensor replaced by its value."""

    def fill(item: Any) -> Any:
        return values.get(id(item), item)

    args, kwargs = import_tensorflow().nest.map_structure(fill, (node.call_args, node.call_kwargs))
    return tuple(args), dict(kwargs)
