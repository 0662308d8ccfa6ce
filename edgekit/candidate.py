"""A variant with everything known of it, and how two are held against each other."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit_device import BenchmarkReport
from edgekit_device.stats import median_interval

from .records import Evaluation, Parity, Variant

__all__ = ["EPSILON", "Candidate", "drop_against", "is_as_fast", "is_slower"]

# Medians nearer than this are called equal even when their intervals are narrower: repeated runs of the same file on
# a quiet machine differ by as much.
EQUAL_LATENCY = 0.03
# Accuracies are counts over counts: their differences are exact but for the last bits.
EPSILON = 1e-9


@dataclass(frozen=True)
class Candidate:
    """A variant, and its evaluation, report and parity check as far as there are any."""

    variant: Variant
    evaluation: Evaluation | None = None
    report: BenchmarkReport | None = None
    parity: Parity | None = None

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.variant.name

    @property
    def accuracy(self) -> float | None:
        """Measured on the device where that happened, else on the host."""
        on_device = None if self.report is None else self.report.accuracy.accuracy
        return on_device if on_device is not None else None if self.evaluation is None else self.evaluation.accuracy

    @property
    def median_ms(self) -> float | None:
        """Median latency, where it was measured."""
        return None if self.report is None else self.report.latency.median_ms


def drop_against(base: Candidate, item: Candidate) -> float | None:
    """Accuracy ``item`` loses against ``base``, as a fraction; None unless both were measured on the same data."""
    if base.report is not None and item.report is not None:
        theirs, ours = base.report.accuracy, item.report.accuracy
        if theirs.accuracy is not None and ours.accuracy is not None and theirs.data_sha256 == ours.data_sha256:
            return theirs.accuracy - ours.accuracy
    if base.evaluation is not None and item.evaluation is not None:
        before, after = base.evaluation, item.evaluation
        if before.accuracy is not None and after.accuracy is not None and before.data_sha256 == after.data_sha256:
            return before.accuracy - after.accuracy
    return None


def is_as_fast(item: Candidate, fastest: Candidate) -> bool:
    """Whether ``item`` is no slower as far as can be told.

    That is within EQUAL_LATENCY, or with 95 % confidence intervals of the two medians that overlap.
    """
    if item.median_ms is None or fastest.median_ms is None or item.report is None or fastest.report is None:
        return False
    if item.median_ms <= fastest.median_ms * (1 + EQUAL_LATENCY):
        return True
    mine, best = (median_interval(r.latency.samples_ms, r.latency.count) for r in (item.report, fastest.report))
    return mine is not None and best is not None and mine[0] <= best[1]


def is_slower(item: Candidate, base: Candidate) -> bool:
    """Whether both were measured and ``item`` took longer by more than can be noise."""
    measured = item.median_ms is not None and base.median_ms is not None
    return measured and not is_as_fast(item, base)
