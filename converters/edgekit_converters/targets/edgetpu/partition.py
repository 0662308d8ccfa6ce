"""Which operators go to a delegate together: TensorFlow Lite's own way of cutting a graph into pieces.

Method: ``PartitionGraphIntoIndependentNodeSubsets`` (tensorflow, ``lite/graph_info.cc``), which the Edge TPU compiler, a
TFLite delegate itself, cuts by. The operators are taken in their order, again and again. An operator is *ready* when
everything it reads is computed. The first ready one says of which kind the piece is, and every ready operator of that kind
joins, until no more does; then the next piece begins. So a piece is not a run of neighbours: operators of another branch come
into it as well, and one that is not supported stops only what depends on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
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
    which no whole model has, come last, in a piece that is not supported. Takes time in proportion to the operands: which ready
    operator comes first decides nothing but the kind of the first piece.
    """
    waits = _Waits(operators)
    ready: dict[bool, list[int]] = {True: [], False: []}
    first = waits.ready()
    for place in first:
        ready[supported[place]].append(place)
    kind = supported[first[0]] if first else False
    pieces: list[Piece] = []
    while ready[kind]:
        taken = []
        while ready[kind]:
            place = ready[kind].pop()
            taken.append(place)
            for freed in waits.made_by(place):
                ready[supported[freed]].append(freed)
        pieces.append(Piece(kind, tuple(sorted(taken))))
        kind = not kind
    left = set(range(len(operators))).difference(*(piece.operators for piece in pieces))
    return (*pieces, Piece(False, tuple(sorted(left)))) if left else tuple(pieces)


class _Waits:
    """What each operator of a graph still waits for."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        self._operators = operators
        self._unmade = {tensor.index for op in operators for tensor in op.outputs if tensor is not None}
        self._readers: dict[int, list[int]] = defaultdict(list)
        self._missing = [0] * len(operators)
        for place, operator in enumerate(operators):
            for index in {tensor.index for tensor in operator.inputs if tensor is not None} & self._unmade:
                self._readers[index].append(place)
                self._missing[place] += 1

    def ready(self) -> list[int]:
        """The places of operators that wait for nothing, in order."""
        return [place for place, missing in enumerate(self._missing) if not missing]

    def made_by(self, place: int) -> list[int]:
        """Take the outputs of the operator at ``place`` as made; the places that waited for nothing else."""
        freed = []
        for tensor in self._operators[place].outputs:
            if tensor is None or tensor.index not in self._unmade:
                continue
            self._unmade.remove(tensor.index)
            for reader in self._readers[tensor.index]:
                self._missing[reader] -= 1
                if not self._missing[reader]:
                    freed.append(reader)
        return freed
