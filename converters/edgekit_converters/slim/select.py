"""Which classes of channels go: the least important first, until the model costs what it may."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from .channels import Channels, Family, Ids
from .costs import Ledger
from .importance import Scores
from .settings import SlimSettings

__all__ = ["least_reachable", "remove_least"]


def remove_least(
    channels: Channels, scores: Scores, settings: SlimSettings, *, targets: Mapping[str, float], last: bool
) -> Ledger:
    """Remove classes until each cost is at most what ``targets`` has under its name, and no more than that takes.

    Not ``last``: stop above it.

    A step takes the least important classes of one family, as many as lead to the next width that is allowed. "uniform":
    the step that leaves its family the widest, as a fraction, is next. "global": the step with the least mean score is
    next; Taylor scores, which are changes of the loss, are weighed against what the step saves. Steps may be large, so
    those that turn out not to be needed are taken back, the last ones first.
    """
    ledger, queue = Ledger(channels), list[tuple[float, float, int]]()
    pending = [_steps(family, scores, settings)[::-1] for family in channels.families]

    def push(number: int) -> None:
        if pending[number]:
            step, family = pending[number][-1], channels.families[number].classes
            importance = float(scores[step].mean())
            if settings.importance == "taylor":
                saved = sum(ledger.saving(step, kind) / target for kind, target in targets.items())
                importance = float(scores[step].sum()) / max(np.finfo(np.float64).tiny, saved)
            left = float(ledger.kept[family].sum() - len(step)) / len(family)
            key = (-left, importance) if settings.scope == "uniform" else (importance, 0.0)
            heapq.heappush(queue, (*key, number))

    for number in range(len(pending)):
        push(number)
    taken: list[tuple[int, Ids]] = []
    while queue and _most(ledger, targets) > 1:
        number = heapq.heappop(queue)[-1]
        taken.append((number, pending[number].pop()))
        ledger.remove(taken[-1][1])
        push(number)
    if last:
        _take_back(ledger, taken, targets)
    elif taken and _most(ledger, targets) < 1:  # rounds that each go too far would add up
        ledger.restore(taken[-1][1])
    return ledger


def _most(ledger: Ledger, targets: Mapping[str, float]) -> float:
    """The cost that is the furthest above its target, as a multiple of it."""
    costs = ledger.costs()
    return max(float(getattr(costs, kind) / target) for kind, target in targets.items())


def _take_back(ledger: Ledger, taken: list[tuple[int, Ids]], targets: Mapping[str, float]) -> None:
    """Restore steps that the target does not need; of a family only its latest ones, so that the least important stay out."""
    needed: set[int] = set()
    for number, step in reversed(taken):
        if number in needed:
            continue
        ledger.restore(step)
        if _most(ledger, targets) > 1:
            ledger.remove(step)
            needed.add(number)


def least_reachable(channels: Channels, settings: SlimSettings) -> Ledger:
    """The ledger with everything removed that may be."""
    ledger = Ledger(channels)
    for family in channels.families:
        for step in _steps(family, np.zeros(channels.count), settings):
            ledger.remove(step)
    return ledger


def _steps(family: Family, scores: Scores, settings: SlimSettings) -> list[Ids]:
    """The classes that go with each step, the least important first; ties go to the last channel."""
    order = family.classes[np.lexsort((-family.classes, scores[family.classes]))]
    divisor = settings.divisor
    while divisor > 1 and len(order) < 2 * divisor:  # or a narrow layer could not be slimmed at all
        divisor //= 2
    widths = [
        count for count in range(len(order), settings.least - 1, -1) if count % divisor == 0 or count == len(order)
    ]
    cuts = [len(order) - count for count in widths]
    return [order[start:stop] for start, stop in pairwise(cuts)]
