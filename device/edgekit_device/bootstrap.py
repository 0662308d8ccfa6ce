"""Confidence intervals that know that durations measured one after the other are not independent.

The stationary bootstrap (Politis and Romano, The Stationary Bootstrap, JASA 1994) draws runs of neighbouring blocks, of
random length, in place of single samples: what noise has in common from one block to the next stays in the resample. A
series of n blocks is drawn in runs of 1.5·∛n blocks on average. The percentile interval is then too narrow for few blocks;
it is widened by √(1 / (1 - run/n)), the bootstrap's known bias, and by Student's t over the normal quantile, with as many
degrees of freedom as there are independent runs. tests/device/test_bootstrap.py holds the coverage against AR(1) noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_BLOCKS", "Interval", "median_bounds", "noise_floor", "ratio_interval"]

Array = npt.NDArray[Any]
Interval = tuple[float, float]

LEAST_BLOCKS = 6  # fewer tell nothing of how much blocks differ
DRAWS = 1000
DRAWS_AT_ONCE = 50  # bounds the memory: a board may have little
VALUES_OF_A_BLOCK = 32
MOST_VALUES = 2000  # of all blocks together: a slow board shall not spend its time here
RUN = 1.5


def median_bounds(blocks: Sequence[Sequence[float]], *, confidence: float = 0.95, seed: int = 0) -> Optional[Interval]:
    """An interval of the median of all samples, of which each block was measured without a pause.

    Every block counts the same, by at most 32 evenly spaced quantiles. None below 6 blocks.
    """
    if len(blocks) < LEAST_BLOCKS:
        return None
    most = min(VALUES_OF_A_BLOCK, max(1, MOST_VALUES // len(blocks)))
    kept = min(most, max(1, sorted(len(block) for block in blocks)[len(blocks) // 2]))
    at = (np.arange(kept) + 0.5) / kept
    values = np.array([np.quantile(np.asarray(block, np.float64), at) for block in blocks])
    drawn = _drawn_medians(values, np.random.default_rng(seed))
    return _widened(float(np.median(values)), drawn, len(blocks), confidence)


def ratio_interval(
    a: Sequence[float], b: Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> Optional[Interval]:
    """An interval of how many times as long ``b`` takes as ``a``: block medians measured in turns, entry beside entry.

    The statistic is the median over the pairs of log(b/a): what slowed both in a round is not counted. Series of
    different length are cut to the shorter. None below 6 pairs, and where a duration is not above 0.
    """
    pairs = min(len(a), len(b))
    first, second = (np.asarray(series[:pairs], np.float64) for series in (a, b))
    if pairs < LEAST_BLOCKS or min(first.min(), second.min()) <= 0:
        return None
    logs = np.log(second / first)
    drawn = _drawn_medians(logs[:, None], np.random.default_rng(seed))
    return _exponents(_widened(float(np.median(logs)), drawn, pairs, confidence))


def noise_floor(block_medians: Sequence[float], *, seed: int = 0) -> Optional[float]:
    """The largest difference, as a fraction, between a model's even rounds and its odd ones that 95 % confidence allows.

    They are the same model: what differs is noise. None below 12 rounds.
    """
    bounds = ratio_interval(block_medians[0::2], block_medians[1::2], seed=seed)
    return None if bounds is None else max(1 - bounds[0], bounds[1] - 1)


def _resamples(count: int, rng: np.random.Generator) -> Array:
    """Indices of shape (DRAWS_AT_ONCE, count): runs of neighbours, of geometric length, that wrap around at the end."""
    shape = (DRAWS_AT_ONCE, count)
    fresh = rng.random(shape) < 1 / _run(count)
    fresh[:, 0] = True
    position = np.arange(count)
    since = np.maximum.accumulate(np.where(fresh, position, 0), axis=1)
    starts = np.take_along_axis(rng.integers(0, count, shape), since, axis=1)
    return np.asarray((starts + position - since) % count)


def _run(count: int) -> float:
    return float(RUN * count ** (1 / 3))


def _drawn_medians(values: Array, rng: np.random.Generator) -> Array:
    """The medians of DRAWS resamples of the rows of ``values``: as weights over the values sorted once."""
    blocks, kept = values.shape
    order = np.argsort(values, axis=None)
    block_of, ascending = order // kept, values.reshape(-1)[order]
    found = []
    for _ in range(DRAWS // DRAWS_AT_ONCE):
        chosen = [np.bincount(draw, minlength=blocks) for draw in _resamples(blocks, rng)]
        twice = 2 * np.cumsum(np.stack(chosen)[:, block_of], axis=1)
        lower, upper = (twice < blocks * kept).sum(axis=1), (twice <= blocks * kept).sum(axis=1)
        found.append((ascending[lower] + ascending[upper]) / 2)
    return np.concatenate(found)


def _widened(centre: float, drawn: Array, count: int, confidence: float) -> Interval:
    low, high = (float(value) for value in np.percentile(drawn, [50 - 50 * confidence, 50 + 50 * confidence]))
    run = _run(count)
    factor = _student_over_normal(max(2.0, count / run - 1), confidence) / math.sqrt(1 - run / count)
    return centre - factor * max(0.0, centre - low), centre + factor * max(0.0, high - centre)


def _student_over_normal(freedom: float, confidence: float) -> float:
    """Student's t quantile over the normal one, by the expansion of Abramowitz and Stegun, 26.7.5."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    terms = (
        (z**2 + 1) / 4,
        (5 * z**4 + 16 * z**2 + 3) / 96,
        (3 * z**6 + 19 * z**4 + 17 * z**2 - 15) / 384,
    )
    return 1 + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))


def _exponents(bounds: Interval) -> Interval:
    return math.exp(bounds[0]), math.exp(bounds[1])
