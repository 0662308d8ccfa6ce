"""Rounds: every model runs one block in each, in an order that changes, until all have what they were asked for.

What drifts (heat, frequency, other processes) then touches all models alike, and entry i of their block medians was
measured side by side. The order is drawn anew for every other round, and reversed in the round after: a linear drift
cancels over the two (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013, on why order must vary).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Optional

from .errors import DeviceRuntimeError
from .series import Series
from .timing import Durations

__all__ = ["Player", "play"]


class Player:
    """A model's place in the rounds: ``run_block(count, rouse_ns)`` gives durations; ``failure`` is why it left."""

    def __init__(self, series: Series, run_block: Callable[[int, float], Durations]) -> None:
        self.series = series
        self.failure: Optional[DeviceRuntimeError] = None
        self._run_block = run_block

    def block(self, others: bool) -> None:
        """Run one block; ``others`` ran in between."""
        series = self.series
        try:
            series.add(self._run_block(series.next_block, series.typical_ns if others else 0.0))
        except DeviceRuntimeError as error:
            self.failure = error

    @property
    def plays(self) -> bool:
        """Whether it takes part in another round."""
        return self.failure is None and not self.series.spent


def play(players: Sequence[Player], seed: int = 0) -> None:
    """Play rounds until every player is satisfied, spent or gone; those that are satisfied play on with the others."""
    for order in _orders(len(players), seed):
        active = [players[at] for at in order if players[at].plays]
        if all(player.series.satisfied for player in active):
            return
        for player in active:
            player.block(others=len(players) > 1)


def _orders(count: int, seed: int) -> Iterator[list[int]]:
    draw = random.Random(seed)  # noqa: S311 - no secret
    while True:
        order = draw.sample(range(count), count)
        yield order
        yield order[::-1]
