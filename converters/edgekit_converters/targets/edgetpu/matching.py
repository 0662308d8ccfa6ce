"""Which operators of a model the Edge TPU compiler absorbed: those its compiled file no longer has.

The compiler keeps the names of the tensors that stay. An operator that stays has its type and the names of what it writes; where
several share both, what it reads tells them apart, and then their order.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...model_card import TensorCard
from ..operators import EDGETPU_OPERATOR, Operator, OperatorGraph

__all__ = ["placed_by_compiler"]

_Key = tuple[str, tuple[str, ...]]


def placed_by_compiler(original: OperatorGraph, compiled: OperatorGraph) -> tuple[bool, ...]:
    """For each operator of ``original``, whether ``compiled``, made of it, runs it on the Edge TPU."""
    if not any(op.type == EDGETPU_OPERATOR for op in compiled.operators):
        return (False,) * len(original.operators)
    waiting: dict[_Key, list[Operator]] = {}
    for op in original.operators:
        waiting.setdefault(_writes(op), []).append(op)
    left, strangers = set(), []
    for op in compiled.operators:
        if op.type == EDGETPU_OPERATOR:
            continue
        same = waiting.get(_writes(op), [])
        if not same:
            strangers.append(op)
            continue
        found = next((one for one in same if _names(one.inputs) == _names(op.inputs)), same[0])
        same.remove(found)
        left.add(found.index)
    left |= _renamed(original.operators, strangers, left)
    return tuple(op.index not in left for op in original.operators)


def _renamed(originals: Sequence[Operator], strangers: Sequence[Operator], left: set[int]) -> set[int]:
    """Those of ``originals`` that are left with what they write renamed, as where the output of the model moved: the last of
    the same type that write the same shapes."""
    found: set[int] = set()
    for op in reversed(strangers):
        same = [
            one.index
            for one in originals
            if one.type == op.type and one.index not in left | found and _shapes(one) == _shapes(op)
        ]
        if same:
            found.add(same[-1])
    return found


def _writes(op: Operator) -> _Key:
    return op.type, _names(op.outputs)


def _names(tensors: Sequence[TensorCard | None]) -> tuple[str, ...]:
    return tuple("" if tensor is None else tensor.name for tensor in tensors)


def _shapes(op: Operator) -> list[tuple[int, ...]]:
    return [tensor.shape for tensor in op.outputs if tensor is not None]
