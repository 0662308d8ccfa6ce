"""Figures of a list of durations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np

from .bootstrap import median_bounds, noise_floor, ratio_interval
from .report import SAMPLES_CAP, LatencyFacts

__all__ = [
    "median_bounds",
    "median_interval",
    "noise_floor",
    "ratio_interval",
    "summarize",
]


def summarize(
    samples_ns: Sequence[int],
    *,
    import_ns: Optional[float] = None,
    init_ns: Optional[float] = None,
    first_ns: Optional[float] = None,
    warmup_ns: Sequence[int] = (),
    bounds_ns: Optional[tuple[float, float]] = None,
) -> LatencyFacts:
    """Durations in nanoseconds as LatencyFacts in milliseconds; percentiles interpolate linearly between samples.

    ``bounds_ns`` is the interval of the median, from whoever knows which samples were neighbours.
    """
    ms = np.asarray(samples_ns, np.float64) / 1e6
    if not ms.size:
        return LatencyFacts()
    p5, median, p90, p95, p99 = (float(value) for value in np.percentile(ms, [5, 50, 90, 95, 99]))
    sketched = ms.size > SAMPLES_CAP
    kept = np.quantile(ms, np.linspace(0, 1, SAMPLES_CAP)) if sketched else ms
    return LatencyFacts(
        count=int(ms.size),
        import_ms=_ms(import_ns),
        init_ms=_ms(init_ns),
        first_ms=_ms(first_ns),
        warmup_count=len(warmup_ns),
        warmup_mean_ms=float(np.mean(warmup_ns)) / 1e6 if len(warmup_ns) else None,
        mean_ms=float(ms.mean()),
        median_ms=median,
        median_low_ms=None if bounds_ns is None else min(median, bounds_ns[0] / 1e6),
        median_high_ms=None if bounds_ns is None else max(median, bounds_ns[1] / 1e6),
        std_ms=float(ms.std()),
        min_ms=float(ms.min()),
        max_ms=float(ms.max()),
        p5_ms=p5,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        samples_kind="sketch" if sketched else "all",
        samples_ms=tuple(round(float(value), 6) for value in kept),
    )


def median_interval(samples: Sequence[float], count: Optional[int] = None) -> Optional[tuple[float, float]]:
    """A 95 % confidence interval of the median from order statistics (Conover, Practical Nonparametric Statistics, 3.2).

    The bounds are the samples of rank n/2 ± (1.96·√n/2 + 1/2), with n = ``count`` where ``samples`` is a sketch of
    more; the half corrects the normal approximation for continuity: the binomial then gives at least 95 % for every n.
    None below 6 samples, where no pair of ranks reaches 95 %.
    """
    ordered = np.sort(np.asarray(samples, np.float64))
    n = count or len(ordered)
    if len(ordered) < 6:
        return None
    half = (1.96 * np.sqrt(n) / 2 + 0.5) / n
    low, high = (int(np.clip(np.floor(q * len(ordered)), 0, len(ordered) - 1)) for q in (0.5 - half, 0.5 + half))
    return float(ordered[low]), float(ordered[high])


def _ms(duration_ns: Optional[float]) -> Optional[float]:
    return None if duration_ns is None else duration_ns / 1e6
