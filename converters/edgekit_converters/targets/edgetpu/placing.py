"""Where each operator of a model runs: the rules, then the partition, of which only the first piece goes to the Edge TPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..operators import Operator
from .limits import LIMITS, Limits
from .partition import cut
from .rules import Rule, broken_rule
from .statuses import LATER

__all__ = ["LATER_SUBGRAPH", "Placing", "place"]

LATER_SUBGRAPH = "later-subgraph"


@dataclass(frozen=True)
class Placing:
    """Where each operator runs: ``rules`` are those they break, None where they break none; ``pieces`` are the places of those
    on the Edge TPU, one tuple for each piece it runs."""

    operators: tuple[Operator, ...]
    rules: tuple[Rule | None, ...]
    pieces: tuple[tuple[int, ...], ...]

    @cached_property
    def mapped(self) -> tuple[bool, ...]:
        """Whether each operator runs on the Edge TPU."""
        on_target = {place for piece in self.pieces for place in piece}
        return tuple(place in on_target for place in range(len(self.operators)))

    def cause(self, place: int) -> str:
        """The name of what keeps the operator at ``place`` off the Edge TPU; empty where it is on it."""
        rule = self.rules[place]
        return rule.name if rule is not None else "" if self.mapped[place] else LATER_SUBGRAPH

    def reason(self, place: int) -> str:
        """The same in the compiler's words."""
        rule = self.rules[place]
        return rule.reason if rule is not None else "" if self.mapped[place] else LATER

    @cached_property
    def breaks(self) -> tuple[int | None, ...]:
        """For each operator, the place of the first refused one on the way to it that is behind the Edge TPU's part; of the first
        on the way, where none is behind it. An operator that is refused is on its own way. None where nothing is."""
        behind = set(_behind(self.operators, self.mapped))
        refused: dict[int, tuple[bool, int]] = {}  # by tensor; those before the Edge TPU's part rank last
        found: list[int | None] = []
        for place, operator in enumerate(self.operators):
            on_the_way = [refused[tensor.index] for tensor in operator.computed_inputs if tensor.index in refused]
            if self.rules[place] is not None:
                on_the_way.append((place not in behind, place))
            first = min(on_the_way, default=None)
            found.append(None if first is None else first[1])
            if first is not None:
                refused.update((tensor.index, first) for tensor in operator.outputs if tensor is not None)
        return tuple(found)

    def first_break(self) -> int | None:
        """The first operator that breaks the chain: one that is refused, and behind which others are lost; else the first that
        is refused behind the first piece, conversions at its end apart; None where the whole model hangs together."""
        mapped = self.mapped
        if not any(mapped):
            return 0 if self.operators else None
        refused = [place for place in _behind(self.operators, mapped) if self.rules[place] is not None]
        fatal = _lead_to(self.operators, [rule is None for rule in self.rules])
        for place in refused:
            if fatal[place]:
                return place
        return next((place for place in refused if self.operators[place].type != "DEQUANTIZE"), None)


def place(operators: Sequence[Operator], *, multiple_subgraphs: bool = False, limits: Limits = LIMITS) -> Placing:
    """Place the operators of a graph, in their order. Without ``multiple_subgraphs`` the compiler keeps one piece: the first
    that it can map, however small it is, and not the largest (google-coral/edgetpu#342, #433: one operator of 191)."""
    rules = tuple(broken_rule(operator, limits) for operator in operators)
    pieces = [piece.operators for piece in cut(operators, [rule is None for rule in rules]) if piece.supported]
    kept = pieces if multiple_subgraphs else pieces[:1]
    return Placing(tuple(operators), rules, tuple(kept))


def _behind(operators: Sequence[Operator], mapped: Sequence[bool]) -> list[int]:
    """The places of operators off the chip that read, straight or through others, anything those on it make."""
    made: set[int] = set()
    found = []
    for place, operator in enumerate(operators):
        follows = any(tensor.index in made for tensor in operator.computed_inputs)
        if follows and not mapped[place]:
            found.append(place)
        if follows or mapped[place]:
            made.update(tensor.index for tensor in operator.outputs if tensor is not None)
    return found


def _lead_to(operators: Sequence[Operator], wanted: Sequence[bool]) -> list[bool]:
    """Of each operator, whether one of ``wanted`` is behind it."""
    read: set[int] = set()  # tensors that a wanted operator reads, straight or through others
    leads = [False] * len(operators)
    for place in range(len(operators) - 1, -1, -1):
        operator = operators[place]
        leads[place] = any(tensor is not None and tensor.index in read for tensor in operator.outputs)
        if leads[place] or wanted[place]:
            read.update(tensor.index for tensor in operator.computed_inputs)
    return leads
