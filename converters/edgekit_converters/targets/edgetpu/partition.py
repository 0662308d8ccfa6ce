"""Which operators go to a delegate together: TensorFlow Lite's own way of cutting a graph into pieces.

Method: ``PartitionGraphIntoIndependentNodeSubsets`` (tensorflow, ``lite/graph_info.cc``), which the Edge TPU compiler, a
TFLite delegate itself, cuts by. The operators are taken in their order, again and again. An operator is *ready* when
everything it reads is computed. The first ready one says of which kind the piece is, and every ready operator of that kind
joins, until no more does; then the next piece begins. So a piece is not a run of neighbours: operators of another branch come
into it as well, and one that is not supported stops only what depends on it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..operators import Operator

__all__ = ["Piece", "cut"]


@dataclass(frozen=True)
class Piece:
    """One piece of a graph: the places of its ``operators`` in the list they were given in, rising, all of one kind."""

    supported: bool
    operators: tuple[int, ...]


def cut(operators: Sequence[Operator], supported: Sequence[bool]) -> tuple[Piece, ...]:
    """The pieces of a graph, in the order they run in; ``supported`` says of each operator whether the delegate takes it.

    A tensor that no operator of the graph makes is there from the beginning. Operators that wait for each other in a circle,
    which no whole model has, come last, in a piece that is not supported.
    """
    unmade = {tensor.index for op in operators for tensor in op.outputs if tensor is not None}
    waiting = list(range(len(operators)))
    pieces: list[Piece] = []
    while waiting:
        piece = _next_piece(operators, supported, waiting, unmade)
        if not piece.operators:
            return (*pieces, Piece(False, tuple(waiting)))
        pieces.append(piece)
        taken = set(piece.operators)
        waiting = [place for place in waiting if place not in taken]
    return tuple(pieces)


def _next_piece(
    operators: Sequence[Operator], supported: Sequence[bool], waiting: Sequence[int], unmade: set[int]
) -> Piece:
    """Take one piece out of ``waiting``; what it makes is taken out of ``unmade``."""
    taken: list[int] = []
    left = list(waiting)
    joined = True
    while joined:
        joined, rest = False, []
        for place in left:
            if (not taken or supported[place] == supported[taken[0]]) and _is_ready(operators[place], unmade):
                taken.append(place)
                unmade.difference_update(tensor.index for tensor in operators[place].outputs if tensor is not None)
                joined = True
            else:
                rest.append(place)
        left = rest
    return Piece(bool(taken) and supported[taken[0]], tuple(sorted(taken)))


def _is_ready(operator: Operator, unmade: Collection[int]) -> bool:
    return all(tensor is None or tensor.index not in unmade for tensor in operator.inputs)
