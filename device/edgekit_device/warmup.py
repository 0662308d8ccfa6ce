"""Warm-up: inferences that are not counted, until they have settled.

Georges, Buytaert and Eeckhout (Statistically Rigorous Java Performance Evaluation, OOPSLA 2007, 4.2) call a process
steady when the coefficient of variation of its last iterations is below a threshold, 0.02 at most. Here an iteration is
a block of 40 ms (one inference where that takes longer, 2,000 where they are over sooner), and its time the block's
median, which a single interruption does not move; the last five blocks, 0.2 s of them at least, must agree.
"""

from __future__ import annotations

import statistics
from array import array
from dataclasses import dataclass
from typing import Optional

from .timing import Clock, Invoke, time_once

__all__ = ["MOST_WARMUPS", "WarmUp", "settled", "warm_up"]

LEAST_NS = 200_000_000
LONGEST_NS = 2_000_000_000  # a board that is busy with other things never settles
MOST_WARMUPS = 20_000
BLOCK_NS = LEAST_NS // 5
MOST_OF_A_BLOCK = MOST_WARMUPS // 10
WINDOW = 5
THRESHOLD = 0.02


@dataclass(frozen=True)
class WarmUp:
    """How many inferences, their mean and their last block's median in nanoseconds; ``stable`` is whether they had settled,
    None where too few were asked for to tell."""

    count: int = 0
    mean_ns: Optional[float] = None
    typical_ns: Optional[float] = None
    stable: Optional[bool] = None


def warm_up(invoke: Invoke, least: int, clock: Clock) -> WarmUp:
    """Run at least ``least`` inferences and 0.2 s, until they settle; at most 2 s or 20,000, unless more were asked for.

    ``least`` 0 is no warm-up at all.
    """
    if least == 0:
        return WarmUp()
    durations = array("q")
    medians: list[float] = []
    started = block_started = clock()
    begin = 0
    while True:
        durations.append(time_once(invoke, clock))
        now = clock()
        if now - block_started >= BLOCK_NS or len(durations) - begin >= MOST_OF_A_BLOCK:
            medians.append(statistics.median(durations[begin:]))
            begin, block_started = len(durations), now
        spent = now - started >= LONGEST_NS or len(durations) >= MOST_WARMUPS
        enough = len(durations) >= least and now - started >= LEAST_NS
        if (enough and settled(medians)) or (spent and len(durations) >= least):
            break
    typical = medians[-1] if medians else statistics.median(durations)
    stable = settled(medians) if len(medians) >= WINDOW else None
    return WarmUp(len(durations), statistics.fmean(durations), typical, stable)


def settled(medians: list[float]) -> bool:
    """Whether the last five vary by at most 2 %: their standard deviation over their mean."""
    last = medians[-WINDOW:]
    mean = statistics.fmean(last) if last else 0.0
    return len(last) == WINDOW and statistics.pstdev(last) <= THRESHOLD * mean
