"""Which variant to ship: limits, ranks, the Pareto front and the reason. Records in, records out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit_device import BenchmarkReport
from edgekit_device.stats import median_interval

from .errors import UsageError, suggest
from .records import ComparedVariant, Comparison, Evaluation, Failure, Gate, Parity, Variant
from .render import figures
from .store import RunStore, now

__all__ = ["DEFAULT_DROP", "Limits", "compare", "compare_variants"]

# Without --max-drop the choice still may not lose more than this: one point.
DEFAULT_DROP = 0.01
# Medians nearer than this are called equal even when their intervals are narrower: repeated runs of the same file on
# a quiet machine differ by as much.
EQUAL_LATENCY = 0.03
EPSILON = 1e-9


@dataclass(frozen=True)
class Limits:
    """What a variant must keep: accuracy lost against the baseline (a fraction), median milliseconds, size in KB = 1024 bytes."""

    max_drop: float | None = None
    max_latency_ms: float | None = None
    max_size_kb: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits nobody can mean."""
        if self.max_drop is not None and not -1 <= self.max_drop <= 1:
            raise UsageError(f"expected --max-drop as a fraction such as 0.01 for one point, got {self.max_drop}")
        for name, value in (("--max-latency-ms", self.max_latency_ms), ("--max-size-kb", self.max_size_kb)):
            if value is not None and not value > 0:
                raise UsageError(f"expected {name} above 0, got {value}")

    def to_dict(self) -> dict[str, float]:
        """The limits that were set."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class _Candidate:
    """A variant with everything known of it."""

    variant: Variant
    evaluation: Evaluation | None
    report: BenchmarkReport | None

    @property
    def accuracy(self) -> float | None:
        """Measured on the device where that happened, else on the host."""
        if self.report is not None and self.report.accuracy.accuracy is not None:
            return self.report.accuracy.accuracy
        return None if self.evaluation is None else self.evaluation.accuracy

    @property
    def median_ms(self) -> float | None:
        return None if self.report is None else self.report.latency.median_ms


def compare(
    run: str | os.PathLike[str] | RunStore,
    *,
    baseline: str | None = None,
    limits: Limits | None = None,
    title: str | None = None,
) -> Comparison:
    """Compare the variants of a run folder by what was measured of them.

    Raises UsageError when there are none, or for a baseline that is not among them.
    """
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    variants = store.variants()
    if not variants:
        raise UsageError(
            f"{store.folder} has no variants to compare. Make some: edgekit convert MODEL --out {store.folder}"
        )
    candidates = [_Candidate(variant, store.evaluation(variant), store.report(variant)) for variant in variants]
    parities = [store.parity(variant.name) for variant in variants]
    named = title or Path(store.folder).resolve().name
    return compare_variants(candidates, baseline=baseline, limits=limits or Limits(), title=named, parities=parities)


def compare_variants(
    candidates: Sequence[_Candidate],
    *,
    baseline: str | None,
    limits: Limits,
    title: str,
    parities: Sequence[Parity | None] = (),
) -> Comparison:
    """The comparison of ``candidates``, best first."""
    base = _baseline(candidates, baseline)
    failures = tuple(failure for item in candidates for failure in _failures(item, base, limits))
    missing = {failure.variant for failure in failures}
    front = _pareto_front(candidates)
    choice = _choose([item for item in candidates if item.variant.name not in missing], base, limits)
    ordered = _ordered(candidates, choice, missing)
    lines = tuple(
        _line(item, rank, base, item.variant.name in front, failures) for rank, item in enumerate(ordered, start=1)
    )
    gate = Gate(passed=choice is not None, limits=limits.to_dict(), failures=failures)
    return Comparison(
        title=title,
        variants=lines,
        front=front,
        choice=None if choice is None else choice.variant.name,
        reason=_reason(choice, base, candidates, limits),
        gate=gate,
        baseline=base.variant.name,
        measured_on=_measured_on(candidates),
        caveats=_caveats(candidates, base),
        evaluations=tuple(item.evaluation for item in ordered if item.evaluation is not None),
        reports=tuple((item.variant.name, item.report) for item in ordered if item.report is not None),
        parities=tuple(parity for parity in parities if parity is not None),
        created=now(),
    )


def candidate(
    variant: Variant, evaluation: Evaluation | None = None, report: BenchmarkReport | None = None
) -> _Candidate:
    """A variant with what is known of it, for ``compare_variants``."""
    return _Candidate(variant, evaluation, report)


def _baseline(candidates: Sequence[_Candidate], wanted: str | None) -> _Candidate:
    names = [item.variant.name for item in candidates]
    if wanted is not None and wanted not in names:
        raise UsageError(f"unknown baseline {wanted!r}{suggest(wanted, names)}")
    name = wanted or ("float32" if "float32" in names else names[0])
    return candidates[names.index(name)]


def _drop(item: _Candidate, base: _Candidate) -> float | None:
    if item.accuracy is None or base.accuracy is None or not _same_data(item, base):
        return None
    return base.accuracy - item.accuracy


def _same_data(item: _Candidate, base: _Candidate) -> bool:
    ours, theirs = item.evaluation, base.evaluation
    return ours is None or theirs is None or ours.data_sha256 == theirs.data_sha256


def _failures(item: _Candidate, base: _Candidate, limits: Limits) -> list[Failure]:
    size_kb = item.variant.size_bytes / 1024
    checks = (
        ("max_drop", limits.max_drop, _drop(item, base), "fraction", "accuracy"),
        ("max_latency_ms", limits.max_latency_ms, item.median_ms, "ms", "latency"),
        ("max_size_kb", limits.max_size_kb, size_kb, "KB", "size"),
    )
    found = []
    for name, limit, value, unit, what in checks:
        if limit is None or (value is not None and value <= limit + EPSILON):
            continue
        shown = f"{what} was not measured" if value is None else f"{figures.limit(name, value, unit)} is over the limit"
        message = f"{item.variant.name}: {shown} ({name.replace('_', '-')} {figures.limit(name, limit, unit)})"
        found.append(Failure(item.variant.name, name, limit, value, unit, message))
    return found


def _pareto_front(candidates: Sequence[_Candidate]) -> tuple[str, ...]:
    """Names that no other beats: nowhere worse, somewhere better, in accuracy, latency and size. A figure that is not
    measured counts as the worst."""

    def costs(item: _Candidate) -> tuple[float, float, float]:
        worst = float("inf")
        accuracy = worst if item.accuracy is None else -item.accuracy
        return accuracy, worst if item.median_ms is None else item.median_ms, item.variant.size_bytes

    def beaten(mine: tuple[float, ...]) -> bool:
        return any(
            all(a <= b for a, b in zip(costs(other), mine, strict=True)) and costs(other) != mine
            for other in candidates
        )

    return tuple(item.variant.name for item in candidates if not beaten(costs(item)))


def _choose(meeting: Sequence[_Candidate], base: _Candidate, limits: Limits) -> _Candidate | None:
    """The fastest that keeps its accuracy; among those no slower than can be told, the smallest."""
    allowed = limits.max_drop if limits.max_drop is not None else DEFAULT_DROP
    kept = [item for item in meeting if (_drop(item, base) or 0.0) <= allowed + EPSILON]
    pool = kept or list(meeting)
    if not pool:
        return None
    measured = [item for item in pool if item.median_ms is not None]
    if not measured:
        return min(pool, key=lambda item: (item.variant.size_bytes, -(item.accuracy or 0.0)))
    fastest = min(measured, key=lambda item: item.median_ms or 0.0)
    equal = [item for item in measured if _no_slower(item, fastest)]
    return min(equal, key=lambda item: (item.variant.size_bytes, item.median_ms or 0.0, -(item.accuracy or 0.0)))


def _no_slower(item: _Candidate, fastest: _Candidate) -> bool:
    """Whether the difference is within EQUAL_LATENCY, or the medians' confidence intervals overlap."""
    if item.median_ms is None or fastest.median_ms is None or item.report is None or fastest.report is None:
        return False
    if item.median_ms <= fastest.median_ms * (1 + EQUAL_LATENCY):
        return True
    mine, best = (median_interval(r.latency.samples_ms, r.latency.count) for r in (item.report, fastest.report))
    return mine is not None and best is not None and mine[0] <= best[1]


def _ordered(candidates: Sequence[_Candidate], choice: _Candidate | None, missing: set[str]) -> list[_Candidate]:
    def place(item: _Candidate) -> tuple[bool, bool, float, float]:
        latency = float("inf") if item.median_ms is None else item.median_ms
        return item is not choice, item.variant.name in missing, latency, item.variant.size_bytes

    return sorted(candidates, key=place)


def _line(
    item: _Candidate, rank: int, base: _Candidate, on_front: bool, failures: Sequence[Failure]
) -> ComparedVariant:
    variant, evaluation, report = item.variant, item.evaluation, item.report
    line = ComparedVariant(
        name=variant.name,
        rank=rank,
        size_bytes=variant.size_bytes,
        zipped_bytes=variant.zipped_bytes,
        accuracy=item.accuracy,
        drop=_drop(item, base),
        on_front=on_front,
        failures=tuple(failure.message for failure in failures if failure.variant == variant.name),
    )
    if evaluation is not None:
        line = replace(line, agreement=evaluation.agreement, top5=evaluation.top5)
    if report is not None:
        latency = report.latency
        speedup = base.median_ms / item.median_ms if base.median_ms and item.median_ms else None
        line = replace(
            line,
            median_ms=latency.median_ms,
            p95_ms=latency.p95_ms,
            first_ms=latency.first_ms,
            peak_rss_mb=report.memory.peak_rss_mb,
            speedup=speedup,
            runtime=f"{report.runtime.name} {report.runtime.version}".strip(),
        )
    return line


def _reason(choice: _Candidate | None, base: _Candidate, candidates: Sequence[_Candidate], limits: Limits) -> str:
    if choice is None:
        return f"none of the {len(candidates)} variants meets every limit"
    if choice is base:
        return f"{base.variant.name} itself: {_why_not_smaller(base, candidates, limits)}"
    parts = []
    if choice.median_ms and base.median_ms:
        parts.append(
            f"{figures.change(base.median_ms / choice.median_ms)} ({figures.milliseconds(choice.median_ms)} against "
            f"{figures.milliseconds(base.median_ms)})"
        )
    parts.append(f"{figures.ratio(base.variant.size_bytes / choice.variant.size_bytes)} smaller")
    drop = _drop(choice, base)
    if drop is not None:
        parts.append(
            f"accuracy {figures.points(-drop)} ({figures.percent(choice.accuracy)} against {figures.percent(base.accuracy)})"
        )
    return f"against {base.variant.name}: " + ", ".join(parts)


def _why_not_smaller(base: _Candidate, candidates: Sequence[_Candidate], limits: Limits) -> str:
    if len(candidates) == 1:
        return "there is no other variant"
    allowed = limits.max_drop if limits.max_drop is not None else DEFAULT_DROP
    lossy = [item.variant.name for item in candidates if (_drop(item, base) or 0.0) > allowed + EPSILON]
    lost = f"; {', '.join(lossy)} lose more than {figures.points(allowed).lstrip('+')}" if lossy else ""
    return f"no other variant is both faster here and within the limits{lost}"


def _measured_on(candidates: Sequence[_Candidate]) -> Mapping[str, str]:
    report = next((item.report for item in candidates if item.report is not None), None)
    if report is None:
        return {}
    board, runtime = report.board, report.runtime
    facts = {
        "board": board.model or board.cpu,
        "cpu": board.cpu,
        "cores": str(board.cores or ""),
        "governor": board.governor,
        "temperature": figures.celsius(board.temperature_c) if board.temperature_c is not None else "",
        "throttling": board.throttling,
        "runtime": f"{runtime.name} {runtime.version}".strip(),
        "delegate": runtime.delegate,
        "threads": str(runtime.threads),
        "system": board.system,
    }
    return {name: value for name, value in facts.items() if value}


def _caveats(candidates: Sequence[_Candidate], base: _Candidate) -> tuple[str, ...]:
    found = []
    reports = [item.report for item in candidates if item.report is not None]
    for what, values in (
        ("runtimes", {f"{r.runtime.name} {r.runtime.version}" for r in reports}),
        ("thread counts", {r.runtime.threads for r in reports}),
        ("boards", {(r.board.model, r.board.cpu) for r in reports}),
        ("governors", {r.board.governor for r in reports}),
    ):
        if len(values) > 1:
            found.append(
                f"latencies were measured on different {what}: they are not comparable. Measure again together"
            )
    unmeasured = [item.variant.name for item in candidates if item.report is None]
    if unmeasured:
        found.append(f"latency was not measured for {', '.join(unmeasured)}: edgekit bench RUN")
    blind = [item.variant.name for item in candidates if item.accuracy is None]
    if blind:
        found.append(f"accuracy was not measured for {', '.join(blind)}: edgekit evaluate RUN --data D")
    if any(not _same_data(item, base) for item in candidates):
        found.append("accuracies were measured on different data: evaluate every variant on the same")
    slower = [
        item.variant.name
        for item in candidates
        if item is not base
        and item.median_ms
        and base.median_ms
        and item.median_ms > base.median_ms * (1 + EQUAL_LATENCY)
    ]
    if slower:
        found.append(f"slower here than {base.variant.name}: {', '.join(slower)}")
    counts = {item.evaluation.count for item in candidates if item.evaluation is not None}
    if counts and min(counts) < 1000:
        found.append(
            f"accuracy is measured on {min(counts)} samples: one sample is {figures.points(1 / min(counts)).lstrip('+')}"
        )
    return tuple(found)
