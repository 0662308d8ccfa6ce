"""Which variant to ship: limits, ranks, the Pareto front and the choice. Records in, records out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit_device import BenchmarkReport
from edgekit_device.stats import median_interval

from .across import across
from .candidate import EPSILON, Candidate, drop_against, is_as_fast, latency_difference
from .errors import UsageError, suggest
from .gains import counterpart, gains
from .plausible import without_nonsense
from .records import ComparedVariant, Comparison, Failure, Gate
from .render import figures
from .runnable import is_compiled
from .store import RunStore, now
from .target_reports import read_target_reports
from .verdict import caveats, left_out, measured_on, outdated, reason

__all__ = ["DEFAULT_DROP", "Limits", "compare", "compare_candidates", "fastest_smallest"]

# Without --max-drop the choice still may not lose more than this: one point.
DEFAULT_DROP = 0.01


@dataclass(frozen=True)
class Limits:
    """What a variant must keep: accuracy lost against the baseline (a fraction), median milliseconds, size in KB of 1024
    bytes. Raises UsageError for limits nobody can mean."""

    max_drop: float | None = None
    max_latency_ms: float | None = None
    max_size_kb: float | None = None

    def __post_init__(self) -> None:
        """Refuse what can only be a slip."""
        if self.max_drop is not None and not -1 <= self.max_drop <= 1:
            raise UsageError(f"expected --max-drop as a fraction such as 0.01 for one point, got {self.max_drop}")
        for name, value in (("--max-latency-ms", self.max_latency_ms), ("--max-size-kb", self.max_size_kb)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"expected {name} as a number above 0, got {value}")

    @property
    def allowed_drop(self) -> float:
        """What the choice may lose, whether or not a limit was set."""
        return DEFAULT_DROP if self.max_drop is None else self.max_drop

    def to_dict(self) -> dict[str, float]:
        """The limits that were set."""
        return {name: value for name, value in vars(self).items() if value is not None}


def compare(
    run: str | os.PathLike[str] | RunStore,
    *,
    variants: Sequence[str] = (),
    baseline: str | None = None,
    limits: Limits | None = None,
    title: str | None = None,
) -> Comparison:
    """Compare the variants of a run folder (or those in ``variants``) by what was measured of them.

    ``baseline`` is float32 where there is one, else the largest. A variant that was compiled for an accelerator takes part once a
    board has measured it, or where it is named; what targets make of the variants stands beside it (``Comparison.across``).
    Raises UsageError when there are no variants, or for a name that is not among them.
    """
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    candidates = [
        Candidate(variant, store.evaluation(variant), store.report(variant), store.parity(variant))
        for variant in store.variants(variants)
    ]
    told = [it for it in candidates if it.name in variants or not is_compiled(it.variant) or it.report is not None]
    found = compare_candidates(
        told or candidates, baseline=baseline, limits=limits, title=title or Path(store.folder).resolve().name
    )
    said = read_target_reports(store)
    ranks = {line.name: line.rank for line in found.variants}
    return replace(
        found,
        caveats=(
            *found.caveats,
            *(() if variants else left_out(store.damaged(), said.stale)),
            *outdated(candidates, told or candidates),
        ),
        across=across(store, sorted(candidates, key=lambda it: ranks.get(it.name, len(ranks) + 1)), said.current),
        target_reports=tuple((name, report) for name, report in said.current if name in {it.name for it in candidates}),
    )


def compare_candidates(
    candidates: Sequence[Candidate],
    *,
    baseline: str | None = None,
    limits: Limits | None = None,
    title: str = "",
) -> Comparison:
    """The comparison of ``candidates``, of which there is at least one: the choice first, then by limits and latency."""
    bounds = limits or Limits()
    candidates = [it if it.report is None else replace(it, report=without_nonsense(it.report)) for it in candidates]
    base = _baseline(candidates, baseline)
    failures = tuple(failure for item in candidates for failure in _failures(item, base, bounds))
    failing = {failure.variant for failure in failures}
    front = _pareto_front(candidates)
    choice = _choose([item for item in candidates if item.name not in failing], base, bounds.allowed_drop)
    ordered = _ordered(candidates, choice, failing)
    others = {item.name: counterpart(item, candidates, base) for item in ordered}
    return Comparison(
        title=title,
        variants=tuple(
            _line(item, rank, base, others[item.name], item.name in front, failures)
            for rank, item in enumerate(ordered, start=1)
        ),
        front=front,
        choice=None if choice is None else choice.name,
        reason=reason(choice, base, candidates, failing, bounds.allowed_drop),
        gate=Gate(passed=choice is not None, limits=bounds.to_dict(), failures=failures),
        baseline=base.name,
        measured_on=measured_on(candidates),
        caveats=caveats(candidates, base, choice),
        evaluations=tuple(item.evaluation for item in ordered if item.evaluation is not None),
        reports=tuple((item.name, item.report) for item in ordered if item.report is not None),
        parities=tuple(item.parity for item in ordered if item.parity is not None),
        created=now(),
    )


def _baseline(candidates: Sequence[Candidate], wanted: str | None) -> Candidate:
    by_name = {item.name: item for item in candidates}
    if wanted is not None and wanted not in by_name:
        raise UsageError(f"unknown baseline {wanted!r}{suggest(wanted, by_name)}")
    largest = max(candidates, key=lambda item: (not is_compiled(item.variant), item.variant.size_bytes))
    return by_name[wanted] if wanted is not None else by_name.get("float32", largest)


def _failures(item: Candidate, base: Candidate, limits: Limits) -> list[Failure]:
    size_kb = item.variant.size_bytes / 1024
    checks = (
        ("max_drop", limits.max_drop, drop_against(base, item), "fraction", "accuracy lost", "accuracy"),
        ("max_latency_ms", limits.max_latency_ms, item.median_ms, "ms", "median latency", "latency"),
        ("max_size_kb", limits.max_size_kb, size_kb, "KB", "size", "size"),
    )
    found = []
    for name, limit, value, unit, title, what in checks:
        if limit is None or (value is not None and value <= limit + EPSILON):
            continue
        allowed = figures.limit(name, limit, unit)
        if value is None:
            message = f"{item.name}: {what} was not measured, and the limit is {allowed}"
        else:
            message = f"{item.name}: {title} {figures.limit(name, value, unit)}, over the limit of {allowed}"
        found.append(Failure(item.name, name, limit, value, unit, message))
    return found


def _pareto_front(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Names that no other beats: nowhere worse, somewhere better, in accuracy, latency and size. A figure that is not
    measured counts as the worst."""

    def costs(item: Candidate) -> tuple[float, float, float]:
        accuracy = math.inf if item.accuracy is None else -item.accuracy
        return accuracy, math.inf if item.median_ms is None else item.median_ms, item.variant.size_bytes

    def is_beaten(mine: tuple[float, ...]) -> bool:
        others = (costs(other) for other in candidates)
        return any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in others)

    return tuple(item.name for item in candidates if not is_beaten(costs(item)))


def _choose(meeting: Sequence[Candidate], base: Candidate, allowed_drop: float) -> Candidate | None:
    """Of those that keep their accuracy the fastest; of those no slower as far as can be told, the smallest.

    Where none is known to keep it, those that lose least stand in; what was not measured comes last in everything.
    """
    drops = {item.name: drop_against(base, item) for item in meeting}
    known = [drop for drop in drops.values() if drop is not None]
    bound = max(allowed_drop, min(known)) if known else math.inf
    pool = [item for item in meeting if _known(drops[item.name], math.inf) <= bound + EPSILON]
    return fastest_smallest(pool)


def fastest_smallest(candidates: Sequence[Candidate]) -> Candidate | None:
    """The fastest of ``candidates``; of those no slower as far as can be told, the smallest. None of none."""
    if not candidates:
        return None
    pool = list(candidates)
    timed = [item for item in pool if item.median_ms is not None]
    if timed:
        fastest = min(timed, key=lambda item: _known(item.median_ms, math.inf))
        pool = [item for item in timed if is_as_fast(item, fastest)]
    return min(
        pool,
        key=lambda item: (
            item.variant.size_bytes,
            _known(item.median_ms, math.inf),
            -_known(item.accuracy, 0.0),
            item.name,
        ),
    )


def _known(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _fraction(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _ordered(candidates: Sequence[Candidate], choice: Candidate | None, failing: set[str]) -> list[Candidate]:
    def place(item: Candidate) -> tuple[bool, bool, float, float, str]:
        latency = _known(item.median_ms, math.inf)
        return item is not choice, item.name in failing, latency, item.variant.size_bytes, item.name

    return sorted(candidates, key=place)


def _line(
    item: Candidate,
    rank: int,
    base: Candidate,
    against: Candidate | None,
    on_front: bool,
    failures: Sequence[Failure],
) -> ComparedVariant:
    variant, evaluation, report = item.variant, item.evaluation, item.report
    line = ComparedVariant(
        name=variant.name,
        rank=rank,
        size_bytes=variant.size_bytes,
        zipped_bytes=variant.zipped_bytes,
        macs=_count(variant.achieved.get("macs")),
        sparsity=_fraction(variant.achieved.get("sparsity")),
        against=None if against is None else against.name,
        gains=gains(item, against),
        run_with=variant.run_with,
        accuracy=item.accuracy,
        drop=drop_against(base, item),
        on_front=on_front,
        failures=tuple(failure.message for failure in failures if failure.variant == variant.name),
    )
    if evaluation is not None:
        line = replace(line, agreement=evaluation.agreement, top5=evaluation.top5)
    if report is not None:
        line = replace(line, **_measured(report), **_held_against(base, item))
    return line


def _measured(report: BenchmarkReport) -> dict[str, Any]:
    latency = report.latency
    low, high = latency.median_low_ms, latency.median_high_ms
    if low is None or high is None:
        low, high = median_interval(latency.samples_ms, latency.count) or (None, None)
    return {
        "median_ms": latency.median_ms,
        "median_low_ms": low,
        "median_high_ms": high,
        "p95_ms": latency.p95_ms,
        "first_ms": latency.first_ms,
        "peak_rss_mb": report.memory.peak_rss_mb,
        "runtime": f"{report.runtime.name} {report.runtime.version}".strip(),
    }


def _held_against(base: Candidate, item: Candidate) -> dict[str, Any]:
    speedup = base.median_ms / item.median_ms if base.median_ms and item.median_ms else None
    found = None if item is base else latency_difference(base, item)
    if found is None:
        return {"speedup": speedup}
    return {
        "speedup": speedup if found.comparable else None,
        "verdict": found.verdict,
        "verdict_reason": found.reason,
        "ratio": found.ratio,
        "ratio_low": found.low,
        "ratio_high": found.high,
    }
