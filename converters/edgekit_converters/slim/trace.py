"""From a model to its channels: the graph walked with symbolic tensors and ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._tf import import_keras
from ..errors import TechniqueError
from ..graph import functional, walk
from .channels import Call, Channels, Flow, Tracer, check_globs, width
from .rules import follow

__all__ = ["Shapes", "trace_channels"]

Shapes = Mapping[str, Sequence[int]]


def trace_channels(model: Any, *, protect: Sequence[str] = (), shapes: Shapes | None = None) -> Channels:
    """The channels of a built functional or sequential Keras 3 model.

    ``shapes`` gives sample shapes (without the batch) for dimensions that inputs leave open, by input name; a single one
    may have any name. ``protect`` holds globs of layer names whose channels stay.

    Raises UnsupportedModelError for a model without a graph, TechniqueError for channels_first and unknown names.
    """
    tree, tracer = import_keras().tree, Tracer(protect)

    def apply(operation: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = "/".join(path)
        if getattr(operation, "data_format", None) == "channels_first":
            raise TechniqueError(
                f"{name} works on channels_first, which slimming and TFLite do not: rebuild the model with "
                'data_format="channels_last"'
            )
        tracer.begin(name)
        leaves = tree.flatten((args, kwargs))
        flows = [leaf for leaf in leaves if isinstance(leaf, Flow)]
        args, kwargs = tree.map_structure(lambda leaf: leaf.spec if isinstance(leaf, Flow) else leaf, (args, kwargs))
        spec = operation.compute_output_spec(*args, **kwargs)
        constants = [leaf for leaf in leaves if not isinstance(leaf, Flow)]
        result = follow(tracer, Call(operation, name, flows, constants, spec))
        if tracer.protected(name):
            for flow in tree.flatten(result):
                tracer.freeze(flow.ids, f"{name} is protected")
        return result

    graph = functional(model)
    inputs = (
        [] if graph is None else [_input(tracer, tensor, shapes or {}, len(graph.inputs)) for tensor in graph.inputs]
    )
    for number, flow in enumerate(walk(model, inputs, apply)):
        tracer.freeze(flow.ids, f"output {graph.output_names[number]!r} of the model")
    check_globs(protect, tracer.names)
    return tracer.finish()


def _input(tracer: Tracer, tensor: Any, shapes: Shapes, count: int) -> Flow:
    """The channels of an input stay; its open dimensions are those of the samples where there are any."""
    shape = shapes.get(tensor.name, next(iter(shapes.values())) if count == len(shapes) == 1 else None)
    spec = tensor
    if shape is not None and len(shape) == len(tensor.shape) - 1:
        sizes = (given if size is None else size for size, given in zip(tensor.shape[1:], shape, strict=True))
        spec = import_keras().KerasTensor((None, *sizes), dtype=tensor.dtype, name=tensor.name)
    ids = tracer.fresh(width(spec))
    tracer.freeze(ids, f"input {tensor.name!r} of the model")
    return Flow(spec, ids)
