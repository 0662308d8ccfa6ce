"""Which classes of channels go: the least important first, until the model costs what it may."""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np

from .channels import Channels, Family, Ids
from .costs import Ledger
from .importance import Scores

__all__ = ["least_reachable", "remove_least"]


def remove_least(
    channels: Channels, scores: Scores, *, target: float, of: str, scope: str, divisor: int, least: int
) -> Ledger:
    """Remove classes until ``of`` is at most ``target``; the last step is the one that gets there.

    A step takes the least important classes of one family, as many as lead to the next multiple of ``divisor``.
    "global": the step with the least mean score for what it saves is next. "uniform": the step that leaves its family
    the widest, as a fraction, is next.
    """
    ledger, queue = Ledger(channels), list[tuple[float, float, int]]()
    pending = [_steps(family, scores, divisor, least)[::-1] for family in channels.families]

    def push(number: int) -> None:
        if pending[number]:
            step = pending[number][-1]
            family = channels.families[number].classes
            importance = float(scores[step].mean())
            left = float(ledger.kept[family].sum() - len(step)) / len(family)
            key = (-left, importance) if scope == "uniform" else (importance, 0.0)
            heapq.heappush(queue, (*key, number))

    for number in range(len(pending)):
        push(number)
    while queue and getattr(ledger.costs(), of) > target:
        number = heapq.heappop(queue)[-1]
        ledger.remove(pending[number].pop())
        push(number)
    return ledger


def least_reachable(channels: Channels, *, divisor: int, least: int) -> Ledger:
    """The ledger with everything removed that may be."""
    ledger = Ledger(channels)
    for family in channels.families:
        for step in _steps(family, np.zeros(channels.count), divisor, least):
            ledger.remove(step)
    return ledger


def _steps(family: Family, scores: Scores, divisor: int, least: int) -> list[Ids]:
    """The classes that go with each step, the least important first; ties go to the last channel."""
    order = family.classes[np.lexsort((-family.classes, scores[family.classes]))]
    widths = [count for count in range(len(order), least - 1, -1) if count % divisor == 0 or count == len(order)]
    cuts = [len(order) - count for count in widths]
    return [order[start:stop] for start, stop in pairwise(cuts)]
