"""Where each operator of a model runs: the rules, then the partition, of which only the first piece goes to the Edge TPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..operators import Operator
from .limits import LIMITS, Limits
from .partition import cut
from .rules import Rule, broken_rule
from .statuses import STATUSES

__all__ = ["LATER_SUBGRAPH", "Placing", "place"]

LATER_SUBGRAPH = "later-subgraph"
_LATER = next(status.text for status in STATUSES if status.name == LATER_SUBGRAPH)


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
        return rule.reason if rule is not None else "" if self.mapped[place] else _LATER

    def first_break(self) -> int | None:
        """The first operator that breaks the chain: one that is refused, and behind which others are lost; else the first that
        is refused behind the first piece, conversions at its end apart; None where the whole model hangs together."""
        mapped = self.mapped
        if not any(mapped):
            return 0 if self.operators else None
        behind = _descendants(self.operators, {place for place, on in enumerate(mapped) if on})
        refused = [place for place in sorted(behind) if self.rules[place] is not None]
        for place in refused:
            if any(self.rules[later] is None for later in _descendants(self.operators, {place})):
                return place
        return next((place for place in refused if self.operators[place].type != "DEQUANTIZE"), None)


def place(operators: Sequence[Operator], *, multiple_subgraphs: bool = False, limits: Limits = LIMITS) -> Placing:
    """Place the operators of a graph, in their order. Without ``multiple_subgraphs`` the compiler keeps one piece: the first
    that it can map, however small it is, and not the largest."""
    rules = tuple(broken_rule(operator, limits) for operator in operators)
    pieces = [piece.operators for piece in cut(operators, [rule is None for rule in rules]) if piece.supported]
    kept = pieces if multiple_subgraphs else pieces[:1]
    return Placing(tuple(operators), rules, tuple(kept))


def _descendants(operators: Sequence[Operator], places: set[int]) -> set[int]:
    """The places behind ``places``: what reads, straight or through others, anything these make."""
    made = {tensor.index for place in places for tensor in operators[place].outputs if tensor is not None}
    found: set[int] = set()
    for place, operator in enumerate(operators):
        if place not in places and any(tensor.index in made for tensor in operator.computed_inputs):
            found.add(place)
            made.update(tensor.index for tensor in operator.outputs if tensor is not None)
    return found
