"""Intervals under noise that is not independent, against series whose truth is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from edgekit_device.bootstrap import (
    median_bounds,
    noise_floor,
    ratio_interval,
)

Array = npt.NDArray[Any]


def ar1(rng: np.random.Generator, count: int, rho: float) -> Array:
    """A stationary AR(1) series of mean 0 and variance 1: each value keeps ``rho`` of the one before."""
    noise = rng.standard_normal(count + 60)
    for at in range(1, len(noise)):
        noise[at] = rho * noise[at - 1] + noise[at] * math.sqrt(1 - rho**2)
    return noise[60:]


def _covered(trials: int, blocks: int, size: int, rho: float) -> float:
    """The share of intervals that hold the true median of durations with AR(1) noise from sample to sample."""
    rng = np.random.default_rng(7)
    held = 0
    for trial in range(trials):
        series = 10 + ar1(rng, blocks * size, rho)
        bounds = median_bounds(list(series.reshape(blocks, size)), seed=trial)
        assert bounds is not None
        held += bounds[0] <= 10 <= bounds[1]
    return held / trials


# The nominal 0.95 less three standard errors of 150 trials (0.053); where a block is not longer than what neighbours have
# in common a percentile interval is known to fall short (Lahiri, Resampling Methods for Dependent Data, ch. 7): 0.88 and 0.83.
@pytest.mark.parametrize(
    ("blocks", "size", "rho", "least"),
    [(13, 10, 0.0, 0.897), (20, 20, 0.9, 0.88), (40, 20, 0.9, 0.897), (40, 1, 0.0, 0.897), (100, 1, 0.6, 0.83)],
)
def test_the_interval_of_the_median_holds_it(blocks: int, size: int, rho: float, least: float) -> None:
    """As often as it says, with independent noise and with noise that lasts for tens of samples."""
    assert _covered(150, blocks, size, rho) >= least


def test_independence_would_promise_too_much() -> None:
    """The same noise from sample to sample: the rank interval, made for independent samples, misses half of the time."""
    from edgekit_device.stats import median_interval

    rng = np.random.default_rng(7)
    held = 0
    for _ in range(150):
        bounds = median_interval(10 + ar1(rng, 400, 0.9))
        assert bounds is not None
        held += bounds[0] <= 10 <= bounds[1]

    assert held / 150 < 0.6


@pytest.mark.parametrize(("rounds", "rho", "least"), [(20, 0.0, 0.897), (20, 0.5, 0.84), (60, 0.5, 0.86)])
def test_a_ratio_in_turns_holds_the_true_one(rounds: int, rho: float, least: float) -> None:
    """Two series in turns, slowed together by up to a half from round to round, with noise of 2 % of their own."""
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(150):
        common = 1 + 0.25 * np.abs(ar1(rng, rounds, 0.9))
        a, b = (scale * common * np.exp(0.02 * ar1(rng, rounds, rho)) for scale in (5.0, 5.5))
        bounds = ratio_interval(a.tolist(), b.tolist(), seed=trial)
        assert bounds is not None
        assert bounds[1] / bounds[0] < 1.12  # what slows both is not in it
        held += bounds[0] <= 1.1 <= bounds[1]

    assert held / 150 >= least


def test_a_series_against_itself_is_exactly_one() -> None:
    """No pair differs; and swapping two series gives the reciprocal bounds."""
    series = (1 + np.random.default_rng(0).random(30)).tolist()
    other = (1 + np.random.default_rng(1).random(30)).tolist()
    there, back = ratio_interval(series, other), ratio_interval(other, series)
    assert there is not None
    assert back is not None

    assert ratio_interval(series, series) == (1.0, 1.0)
    assert (1 / back[1], 1 / back[0]) == pytest.approx(there)


def test_the_noise_floor_is_the_noise() -> None:
    """None for a board without noise, and of the order of the noise where there is some: 2 % over the root of 20 pairs."""
    floors = []
    for seed in range(40):
        noise = 5 * np.exp(0.02 * np.random.default_rng(seed).standard_normal(40))
        floor = noise_floor(noise.tolist())
        assert floor is not None
        floors.append(floor)

    assert noise_floor([5.0] * 12) == 0.0
    # Of a ratio of two: √2 of 2 %; its median over 20 pairs has 1.25/√20 of that as standard error, and 2 of those are 95 %.
    expected = 2 * 1.25 * 0.02 * math.sqrt(2) / math.sqrt(20)
    assert expected < float(np.median(floors)) < 3 * expected


def test_too_few_blocks_have_no_interval() -> None:
    """Below six, and where a duration is 0, nothing is said; the longer of two aligned series is cut."""
    assert median_bounds([[1.0]] * 5) is None
    assert median_bounds([[1.0]] * 6) == (1.0, 1.0)
    assert ratio_interval([1.0] * 5, [1.0] * 9) is None
    assert ratio_interval([1.0] * 6, [2.0] * 9) == (2.0, 2.0)
    assert ratio_interval([0.0] * 6, [1.0] * 6) is None
    assert noise_floor([1.0] * 11) is None


def test_the_same_seed_gives_the_same_interval() -> None:
    """With blocks of unequal size as well."""
    rng = np.random.default_rng(0)
    blocks = [rng.random(size).tolist() for size in (3, 50, 8, 9, 10, 200, 7)]

    assert median_bounds(blocks, seed=4) == median_bounds(blocks, seed=4)
    assert median_bounds(blocks, seed=4) != median_bounds(blocks, seed=5)
