"""The timed region: the runtime's invoke between two looks at the clock, and nothing else."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Clock", "Durations", "Invoke", "no_collection", "time_once", "time_runs"]

Clock = Callable[[], int]
Invoke = Callable[[], object]
Durations = Any  # array("q"): Python 3.9 has no generic array


def time_once(invoke: Invoke, clock: Clock) -> int:
    """How long one call takes, in nanoseconds."""
    started = clock()
    invoke()
    return clock() - started


def time_runs(invoke: Invoke, clock: Clock, count: int) -> Durations:
    """``count`` calls one after the other, each timed by itself, as an array of 64-bit nanoseconds."""
    return array("q", (time_once(invoke, clock) for _ in range(count)))


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python's cycle collector out of the timed runs."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
