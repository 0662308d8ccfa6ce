"""Figures of a list of durations, against the standard library, numpy and the binomial distribution."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from edgekit_device.report import LatencyFacts
from edgekit_device.stats import median_interval, summarize


def test_summary_equals_statistics_and_numpy() -> None:
    """Mean, median, population deviation and the ends from the standard library; percentiles from numpy."""
    samples = np.random.default_rng(2).lognormal(14, 0.5, 321).astype(int).tolist()
    latency = summarize(samples, init_ns=7_000_000, first_ns=8_000_000, warmup_ns=[1_000_000, 2_000_000])
    ms = [sample / 1e6 for sample in samples]

    assert latency.count == 321
    assert latency.mean_ms == pytest.approx(statistics.fmean(ms))
    assert latency.median_ms == pytest.approx(statistics.median(ms))
    assert latency.std_ms == pytest.approx(statistics.pstdev(ms))
    assert (latency.min_ms, latency.max_ms) == (min(ms), max(ms))
    for percent in (5, 90, 95, 99):
        assert getattr(latency, f"p{percent}_ms") == pytest.approx(np.percentile(ms, percent))
    assert (latency.init_ms, latency.first_ms, latency.warmup_count, latency.warmup_mean_ms) == (7, 8, 2, 1.5)


def test_one_sample_is_every_figure_and_none_is_none() -> None:
    """A single sample has no spread; no sample has no figures."""
    one = summarize([2_000_000])

    assert (one.mean_ms, one.median_ms, one.std_ms, one.min_ms, one.max_ms, one.p5_ms, one.p99_ms) == (
        2,
        2,
        0,
        2,
        2,
        2,
        2,
    )
    assert one.init_ms is one.first_ms is one.warmup_mean_ms is None
    assert summarize([]) == LatencyFacts()


def _coverage(n: int) -> float:
    """The probability that the interval of n independent samples holds the median, from the binomial distribution."""
    interval = median_interval(list(range(n)))
    assert interval is not None
    low, high = (int(rank) for rank in interval)
    return sum(math.comb(n, k) for k in range(low + 1, high + 1)) / 2**n


def test_the_interval_of_the_median_covers_it() -> None:
    """At least 95 % for every number of samples, exactly computed, and never wastefully more once there are many."""
    exact = {n: _coverage(n) for n in range(6, 600)}

    assert min(exact.values()) >= 0.95
    assert max(value for n, value in exact.items() if n > 100) < 0.975


def test_the_interval_covers_in_a_simulation() -> None:
    """2,000 draws of 25 skewed samples: the share that covers is within four standard errors of the exact one."""
    rng = np.random.default_rng(0)
    trials, n = 2000, 25
    covered = 0
    for _ in range(trials):
        interval = median_interval(rng.exponential(size=n))
        assert interval is not None
        covered += interval[0] <= math.log(2) <= interval[1]
    exact = _coverage(n)

    assert abs(covered / trials - exact) < 4 * math.sqrt(exact * (1 - exact) / trials)


def test_a_sketch_gives_the_interval_of_all_its_samples() -> None:
    """2,000 quantiles of 20,000 samples give their interval, to the rank that a quantile stands for."""
    samples = np.random.default_rng(1).normal(10, 1, 20_000)
    latency = summarize((samples * 1e6).astype(int).tolist())
    from_sketch, from_all = median_interval(latency.samples_ms, latency.count), median_interval(samples)
    assert from_sketch is not None
    assert from_all is not None

    for end, rank in zip(from_sketch, from_all, strict=True):
        below, beside = (np.searchsorted(np.sort(samples), value) for value in (end, rank))
        assert abs(int(below) - int(beside)) <= 2 * 20_000 / 1999


def test_too_few_samples_have_no_interval() -> None:
    """Five samples reach 93.75 % at most."""
    assert median_interval([1.0] * 5) is None
    assert median_interval([1.0] * 6) == (1.0, 1.0)
