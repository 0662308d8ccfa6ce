"""The figure a budget is about: which one, whether more of it is better, and what a variant lost of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .errors import DataError, UsageError, suggest
from .records import Evaluation

__all__ = ["METRICS", "Metric", "find_metric"]


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation; ``sign`` is 1 where more is better, −1 where less is."""

    name: str
    sign: int
    read: Callable[[Evaluation], float | None]

    def value(self, evaluation: Evaluation) -> float:
        """The figure; raises DataError where this data does not give it."""
        found = self.read(evaluation)
        if found is None:
            raise DataError(
                f"expected data that gives {self.name}, got {evaluation.count} samples without it: accuracy, macro-f1 and top5 "
                "(of more than five classes) need class labels, mean-absolute-error float targets"
            )
        return found

    def drop(self, baseline: float, value: float) -> float:
        """What is lost against the baseline, in the figure's own unit; negative where something was won."""
        return self.sign * (baseline - value)


def _macro_f1(evaluation: Evaluation) -> float | None:
    scores = [item.f1 for item in evaluation.per_class if item.support]
    return sum(scores) / len(scores) if scores else None


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", 1, lambda it: it.accuracy),
        Metric("top5", 1, lambda it: it.top5),
        Metric("macro-f1", 1, _macro_f1),
        Metric("agreement", 1, lambda it: it.agreement),
        Metric("mean-absolute-error", -1, lambda it: it.mean_absolute_error),
    )
}


def find_metric(name: str | None, evaluation: Evaluation) -> Metric:
    """The metric called ``name``; without a name the first of accuracy, mean absolute error and agreement there is.

    Raises UsageError for an unknown name.
    """
    if name is not None:
        if name not in METRICS:
            raise UsageError(f"unknown metric {name!r}{suggest(name, METRICS)}")
        return METRICS[name]
    order = ("accuracy", "mean-absolute-error", "agreement")
    return next((METRICS[each] for each in order if METRICS[each].read(evaluation) is not None), METRICS["accuracy"])
