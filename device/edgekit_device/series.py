"""The blocks of durations that one model has collected, and whether they are enough."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Optional

from .bootstrap import Interval, median_bounds
from .plan import Plan

__all__ = ["BLOCK_NS", "MOST_RUNS", "Series"]

LEAST_RUNS = 50
LEAST_NS = 1_000_000_000
ENOUGH_RUNS = 10  # … where fifty would take longer than the budget
MOST_RUNS = 100_000
BLOCK_NS = 20_000_000  # short: many rounds a second are what tells small differences beside bursts of other processes
LEAST_BLOCKS = 10
MOST_BLOCKS = 500
ROUNDS = 20  # also where the budget is small
LOOK_AGAIN = 1.25  # the interval is worked out each time there is so much more


class Series:
    """Durations in nanoseconds, block after block; a block was measured without a pause."""

    def __init__(self, plan: Plan, typical_ns: float) -> None:
        self.plan = plan
        self.typical_ns = typical_ns
        self.blocks: list[Sequence[int]] = []
        self.medians_ns: list[float] = []
        self.count = 0
        self.elapsed_ns = 0
        self._look_ns = 0.0
        self._narrow = False

    def add(self, block: Sequence[int]) -> None:
        """Take a block in."""
        self.blocks.append(block)
        self.medians_ns.append(float(statistics.median(block)))
        self.count += len(block)
        self.elapsed_ns += sum(block)
        self.typical_ns = self.medians_ns[-1]

    @property
    def next_block(self) -> int:
        """How many inferences the next block has: 20 ms of them, or as many as share ten blocks of the runs asked for."""
        budget_ns = self.plan.budget_s * 1e9
        length_ns = max(min(BLOCK_NS, budget_ns / ROUNDS), budget_ns / MOST_BLOCKS)
        fitting = int(length_ns / max(self.typical_ns, 1.0))
        if self.plan.runs is None:
            return max(1, min(fitting, MOST_RUNS // 20))
        share, least = -(-self.plan.runs // LEAST_BLOCKS), -(-self.plan.runs // MOST_BLOCKS)
        return min(self.plan.runs - self.count, max(1, least, min(fitting, share)))

    @property
    def spent(self) -> bool:
        """Whether nothing more may be run."""
        if self.plan.runs is not None:
            return self.count >= self.plan.runs
        over = self.elapsed_ns >= self.plan.budget_s * 1e9 or self.count >= MOST_RUNS
        return over and self.count >= ENOUGH_RUNS

    @property
    def satisfied(self) -> bool:
        """Whether there is as much as was asked for: the count, or a narrow interval of the median."""
        if self.plan.runs is not None:
            return self.spent
        least_ns = min(LEAST_NS, self.plan.budget_s * 1e9)
        if self.count < LEAST_RUNS or self.elapsed_ns < least_ns or self._narrow:
            return self._narrow
        if self.elapsed_ns >= self._look_ns:
            self._look_ns = self.elapsed_ns * LOOK_AGAIN
            self._narrow = self._is_narrow(self.bounds_ns())
        return self._narrow

    def bounds_ns(self) -> Optional[Interval]:
        """A 95 % interval of the median; None below six blocks."""
        return median_bounds(self.blocks)

    def stop(self, bounds: Optional[Interval]) -> str:
        """Why it ended, given its interval: ``count``, ``narrow`` or ``budget``."""
        if self.plan.runs is not None:
            return "count"
        return "narrow" if self._is_narrow(bounds) else "budget"

    def _is_narrow(self, bounds: Optional[Interval]) -> bool:
        return bounds is not None and bounds[1] - bounds[0] <= self.plan.precision * (bounds[0] + bounds[1]) / 2
