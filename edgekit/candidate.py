"""A variant with everything known of it, and how two are held against each other."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit_device import BenchmarkReport

from .difference import SLOWER, UNPAIRED_FLOOR, Difference, difference
from .records import Evaluation, Parity, Variant

__all__ = ["EPSILON", "Candidate", "drop_against", "is_as_fast", "is_slower", "latency_difference"]

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


def latency_difference(base: Candidate, item: Candidate) -> Difference | None:
    """How the latency of ``item`` stands to ``base``'s; None unless both have one."""
    if base.report is None or item.report is None or base.median_ms is None or item.median_ms is None:
        return None
    return difference(base.report, item.report, names=(base.name, item.name))


def is_as_fast(item: Candidate, fastest: Candidate) -> bool:
    """Whether ``item`` is no slower as far as can be told.

    Where the two do not compare, their medians have to stand in: the verdict's caveats say so.
    """
    found = latency_difference(fastest, item)
    if found is None or item.median_ms is None or fastest.median_ms is None:
        return False
    if not found.comparable:
        return item.median_ms <= fastest.median_ms * (1 + UNPAIRED_FLOOR)
    return found.verdict != SLOWER


def is_slower(item: Candidate, base: Candidate) -> bool:
    """Whether both were measured, compare, and ``item`` took longer by more than can be noise."""
    found = latency_difference(base, item)
    return found is not None and found.verdict == SLOWER
