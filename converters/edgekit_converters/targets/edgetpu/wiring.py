"""What stands before and behind an operator in its graph."""

from __future__ import annotations

from collections.abc import Collection

from ...model_card import TensorCard
from ..operators import Operator, OperatorGraph

__all__ = ["consumers", "producer", "run_end", "run_start"]


def producer(tensor: TensorCard | None, graph: OperatorGraph) -> Operator | None:
    """The operator that makes ``tensor``; None for an input of the model and for a constant."""
    if tensor is None:
        return None
    made = (op for op in graph.operators if any(out is not None and out.index == tensor.index for out in op.outputs))
    return next(made, None)


def consumers(tensor: TensorCard | None, graph: OperatorGraph) -> tuple[Operator, ...]:
    """The operators that read ``tensor``, in order."""
    if tensor is None:
        return ()
    return tuple(op for op in graph.operators if any(item.index == tensor.index for item in op.computed_inputs))


def run_start(operator: Operator, graph: OperatorGraph, types: Collection[str]) -> Operator:
    """The first of the operators of ``types`` in a row that ends with ``operator``."""
    for _ in graph.operators:
        before = producer(next(iter(operator.computed_inputs), None), graph)
        if before is None or before.type not in types:
            break
        operator = before
    return operator


def run_end(operator: Operator, graph: OperatorGraph, types: Collection[str]) -> Operator:
    """The last of the operators of ``types`` in a row that begins with ``operator``."""
    for _ in graph.operators:
        behind = consumers(next(iter(operator.outputs), None), graph)
        if len(behind) != 1 or behind[0].type not in types:
            break
        operator = behind[0]
    return operator
