"""Walk the graph of a Keras 3 functional or sequential model with values of any kind in place of tensors.

What rebuilds a model (the bridge) and what reasons about it (slimming) differ only in what flows along the edges: tensors
of another Keras, or sets of channels. Nested models are walked as if their layers were the outer model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ._tf import import_keras
from .errors import UnsupportedModelError

__all__ = ["Apply", "functional", "walk"]

# The operation (a layer, or an operation of keras.ops), its path from the outermost model, its arguments with every symbolic
# tensor replaced by the value that flows there; returns one value, or a structure like the operation's own output.
Apply = Callable[[Any, tuple[str, ...], tuple[Any, ...], dict[str, Any]], Any]


def functional(model: Any) -> Any:
    """The functional model behind ``model``: itself, or what a built sequential model holds; None for anything else."""
    keras = import_keras()
    if isinstance(model, keras.Sequential):
        return model._functional
    return model if isinstance(model, keras.src.models.functional.Functional) else None


def walk(model: Any, inputs: Sequence[Any], apply: Apply, path: tuple[str, ...] = ()) -> list[Any]:
    """Call ``apply`` for every operation of ``model`` in the order of the data; returns the values of its outputs.

    ``inputs`` holds one value for each of the model's inputs, in its own order. A layer that is shared is met once for
    each of its calls. Raises UnsupportedModelError for a model that has no graph: a subclassed one, or one not built yet.
    """
    graph = functional(model)
    if graph is None:
        raise UnsupportedModelError(
            f"expected a functional or sequential model that is built, got {type(model).__name__} {model.name!r}, whose "
            "layers cannot be walked: rebuild it with keras.Model(inputs, outputs), or give a sequential one an Input"
        )

    def operation(item: Any) -> Callable[..., Any]:
        here = (*path, str(item.name))

        def call(*args: Any, **kwargs: Any) -> Any:
            if functional(item) is None:
                return apply(item, here, args, kwargs)
            given = import_keras().tree.flatten((args, kwargs.get("inputs")))
            found = walk(item, [value for value in given if value is not None], apply, here)
            return found[0] if len(found) == 1 else found

        return call

    results = graph._run_through_graph(list(inputs), operation_fn=operation)
    return list(import_keras().tree.flatten(results))
