"""A comparison as words and cells: what the terminal, Markdown and HTML all say, each in its own dress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edgekit_device.report import clean_text

from ..records import ComparedVariant, Comparison, Failure
from . import figures

__all__ = [
    "CHOICE_MARK",
    "FRONT_MARK",
    "Column",
    "columns",
    "failure_line",
    "headline",
    "legend",
    "limit_title",
    "limits_line",
    "mark",
    "plain",
]

CHOICE_MARK = "★"
FRONT_MARK = "◆"
NAME_CAP = 120


@dataclass(frozen=True)
class Column:
    """One figure of every variant: ``value`` to sort by, ``text`` to show; ``secondary`` ones may stand apart.

    ``words`` says it where a figure alone would not, ``why`` how it came about; ``aside`` is set small beside it where
    there is room.
    """

    title: str
    value: Callable[[ComparedVariant], float | None]
    format: Callable[[float | None], str]
    hint: str = ""
    secondary: bool = False
    words: Callable[[ComparedVariant], str] | None = None
    why: Callable[[ComparedVariant], str] | None = None
    aside: Callable[[ComparedVariant], str] | None = None

    def text(self, variant: ComparedVariant) -> str:
        """The figure of ``variant`` as text."""
        return self.format(self.value(variant)) if self.words is None else self.words(variant)


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """The figures shown of each variant, left to right, after its name."""
    metric = plain(comparison.metric).replace("_", " ") or "accuracy"
    against = plain(comparison.baseline) or "the baseline"
    techniques = any(it.against not in (None, comparison.baseline) for it in comparison.variants)
    return (
        Column("size", lambda it: it.size_bytes or None, figures.size, f"size of the .tflite; {figures.SIZE_NOTE}"),
        Column("zipped", lambda it: it.zipped_bytes or None, figures.size, "size once compressed, as it is sent", True),
        Column(metric, lambda it: it.accuracy, figures.percent, "on held-out data"),
        Column("Δ", lambda it: None if it.drop is None else -it.drop, figures.points, f"{metric} against {against}"),
        Column("agreement", lambda it: it.agreement, figures.percent, "samples answered as the float model does", True),
        Column(
            "median",
            lambda it: it.median_ms,
            figures.milliseconds,
            "median latency of one inference, with its 95 % interval",
            aside=_interval,
        ),
        Column("p95", lambda it: it.p95_ms, figures.milliseconds, "95 % of inferences took no longer"),
        Column(
            f"{figures.TIMES} faster", lambda it: it.speedup, figures.ratio, f"median latency of {against} over its own"
        ),
        *(_JUDGED if any(it.verdict for it in comparison.variants) else ()),
        *(_BRINGS if techniques else ()),
        Column("peak RSS", lambda it: it.peak_rss_mb, figures.mebibytes, "peak memory of the measuring process", True),
        *(_COUNTED if techniques else ()),
    )


def _brings(variant: ComparedVariant) -> str:
    if variant.against is None:
        return figures.MISSING
    return ", ".join(plain(gain) for gain in variant.gains) or "nothing"


def _interval(variant: ComparedVariant) -> str:
    if variant.median_low_ms is None or variant.median_high_ms is None:
        return ""
    text = figures.milliseconds_between(variant.median_low_ms, variant.median_high_ms)
    return text if text != figures.milliseconds(variant.median_ms) else ""


# What there is where a baseline was measured too.
_JUDGED = (
    Column(
        "verdict",
        lambda it: it.ratio,
        figures.slowdown,
        "latency against the baseline: called other only where that is more than noise",
        words=lambda it: plain(it.verdict) or figures.MISSING,
        why=lambda it: plain(it.verdict_reason, 400),
        aside=lambda it: "" if it.ratio is None else figures.slowdown(it.ratio),
    ),
)
# What differs only where recipes change the model itself.
_BRINGS = (
    Column(
        "brings",
        lambda it: len(it.gains),
        figures.count,
        "what it is better in than the same precision without its techniques",
        True,
        _brings,
    ),
)
_COUNTED = (
    Column("MACs", lambda it: it.macs, figures.count, "multiply-accumulates of one inference", True),
    Column("zeros", lambda it: it.sparsity, figures.percent, "share of weights that are zero", True),
)


def headline(comparison: Comparison) -> str:
    """The verdict in a few words."""
    if comparison.choice is not None:
        return f"Ship {plain(comparison.choice)}"
    if not comparison.variants:
        return "Nothing was compared"
    return "Nothing meets the limits" if not comparison.gate.passed else "No variant was chosen"


def mark(comparison: Comparison, variant: ComparedVariant) -> str:
    """The sign before a variant's name: the choice, on the front, or nothing."""
    if variant.name == comparison.choice:
        return CHOICE_MARK
    return FRONT_MARK if variant.on_front or variant.name in comparison.front else ""


def legend(comparison: Comparison) -> str:
    """What the signs and the delta mean."""
    against = f"; Δ against {plain(comparison.baseline)}" if comparison.baseline else ""
    return f"{CHOICE_MARK} ship this; {FRONT_MARK} on the Pareto front: no other beats it in everything{against}"


def limit_title(name: str) -> str:
    """A limit as a person says it: ``max_size_kb`` is "max size"."""
    words = plain(name).split("_")
    return " ".join(words[:-1] if len(words) > 1 and words[-1] in {"ms", "kb", "mb", "bytes", "pt"} else words)


def limits_line(comparison: Comparison) -> str:
    """The limits asked for, in one line; says so when none was."""
    return ", ".join(_limits(comparison)) or "no limits were set"


def _limits(comparison: Comparison) -> Iterator[str]:
    units = {failure.limit_name: failure.unit for failure in comparison.gate.failures}
    for name, value in comparison.gate.limits.items():
        yield f"{limit_title(name)} {figures.limit(name, value, units.get(name, ''))}"


def failure_line(failure: Failure) -> str:
    """One missed limit in one line."""
    name, message = plain(failure.variant), plain(failure.message, 400)
    if not message:
        value = figures.limit(failure.limit_name, failure.value, failure.unit)
        allowed = figures.limit(failure.limit_name, failure.limit, failure.unit)
        message = f"{limit_title(failure.limit_name)} is {value}, allowed {allowed}"
    return message if message.startswith(name) else f"{name}: {message}"


def plain(value: Any, cap: int = NAME_CAP) -> str:
    """Foreign text without control characters, cut with an ellipsis at ``cap`` characters."""
    text = clean_text(value, cap + 1)
    return text if len(text) <= cap else f"{text[: cap - 1]}…"
