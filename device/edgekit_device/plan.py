"""How to measure: what a benchmark was asked for, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

from .errors import InputError
from .loading import check_threads

__all__ = ["Plan"]

MOST_ASKED = 1_000_000
MOST_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Plan:
    """``runs`` is the exact number of timed inferences; None runs until the 95 % interval of the median is narrower than
    ``precision`` (a fraction of the median) or ``budget_s`` seconds of inference are spent.

    ``warmup`` inferences at least come before (0: none). ``sustained_s`` seconds of inference without a pause follow;
    with ``profile`` the time of every operator is measured as well, apart. ``deadline_s`` is how long one model may
    take in all before it counts as hanging; it holds for models measured in turns. Raises InputError for counts and
    times out of range.
    """

    threads: int = 1
    runtime: str = "auto"
    delegate: str = "auto"
    runs: Optional[int] = None
    warmup: int = 5
    precision: float = 0.02
    budget_s: float = 10.0
    sustained_s: float = 0.0
    deadline_s: float = 900.0
    profile: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured before a model is loaded."""
        check_threads(self.threads)
        if self.runs is not None and not 1 <= self.runs <= MOST_ASKED:
            raise InputError(f"expected runs (--runs) from 1 to {MOST_ASKED}, got {self.runs}")
        if not 0 <= self.warmup <= MOST_ASKED:
            raise InputError(f"expected warm-up runs (--warmup) from 0 to {MOST_ASKED}, got {self.warmup}")
        if not 0 < self.precision <= 1:  # NaN is not between anything
            raise InputError(
                f"expected a precision (--precision) above 0 and at most 1, 0.02 being 2 %, got {self.precision}"
            )
        for name, least in (("budget", 0.0), ("sustained", -1.0), ("deadline", 0.0)):
            value = getattr(self, f"{name}_s")
            if not (math.isfinite(value) and least < value <= MOST_SECONDS) or value < 0:
                raise InputError(f"expected seconds (--{name}) {_range(least)}, got {value}")


def _range(least: float) -> str:
    return f"{'above 0' if least == 0 else 'from 0'} to {MOST_SECONDS:g}"
