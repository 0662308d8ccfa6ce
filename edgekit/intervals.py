"""Intervals for the ratio of two latencies from the medians of blocks, in pairs or of two sessions; no random draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["CONFIDENCE", "LEAST_BLOCKS", "LEAST_ROUNDS", "Interval", "paired_ratio", "unpaired_ratio", "wander"]

CONFIDENCE = 0.99
# Below these no ranks reach the confidence asked for: 2/2^n of the signed ranks, split over three shares, and of the signs.
LEAST_ROUNDS = 10
LEAST_BLOCKS = 8
# Rounds that are looked at: all, and the least disturbed half and quarter.
SHARES = (1.0, 0.5, 0.25)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A ratio with its interval, and how many blocks of each side it rests on."""

    ratio: float
    low: float
    high: float
    blocks: int


def paired_ratio(before: Sequence[float], after: Sequence[float]) -> Interval:
    """after / before of two variants measured in turns, entry i of one right beside entry i of the other (ms, above 0).

    The Hodges-Lehmann estimate of the log ratios and its interval from Wilcoxon's signed ranks (Hollander, Wolfe and
    Chicken, Nonparametric Statistical Methods, 3.2-3.3), which needs no more than that a round whose two entries are
    swapped is as likely. Other processes only ever slow a round down; so the same is done with the half and with the
    quarter of the rounds that took least in sum, a choice that does not see which entry is whose, and the narrowest of
    the three is taken. Each has a third of the allowed error (Bonferroni), so that all three hold together.

    Needs LEAST_ROUNDS rounds; entries beyond the shorter list are left out.
    """
    rounds = min(len(before), len(after))
    first, second = (np.log(np.asarray(side[:rounds], np.float64)) for side in (before, after))
    calmest = np.argsort(first + second, kind="stable")
    kept = {max(LEAST_ROUNDS, round(share * rounds)) for share in SHARES}
    found = [_signed_ranks((second - first)[calmest[:count]], (1 - CONFIDENCE) / len(SHARES)) for count in sorted(kept)]
    narrowest = min(found, key=lambda item: item[2] - item[1])
    return _interval(*narrowest, rounds)


def unpaired_ratio(before: Sequence[float], after: Sequence[float]) -> Interval:
    """after / before of two sessions, from the medians of the blocks of each (ms, above 0); at least LEAST_BLOCKS each.

    The interval of each median comes from ranks, with as many blocks as they are worth where each resembles the one
    before it; the two are joined by the method of variance estimates recovery (Zou and Donner, Statistics in Medicine
    27, 2008). It covers what varied within the sessions, not what differs between them.
    """
    first, second = (np.log(np.asarray(side, np.float64)) for side in (before, after))
    (a, a_low, a_high), (b, b_low, b_high) = _median(first), _median(second)
    middle = b - a
    low, high = middle - math.hypot(b - b_low, a_high - a), middle + math.hypot(b_high - b, a - a_low)
    return _interval(middle, low, high, min(len(first), len(second)))


def wander(blocks: Sequence[float]) -> float:
    """How far apart the medians of a session's three thirds lie, as a fraction: what another session may well differ by."""
    thirds = [float(np.median(part)) for part in np.array_split(np.asarray(blocks, np.float64), 3)]
    return max(thirds) / min(thirds) - 1


def _signed_ranks(differences: Array, error: float) -> tuple[float, float, float]:
    """Estimate and interval of the centre of ``differences``, wrong with probability ``error`` at most."""
    n = len(differences)
    i, j = np.triu_indices(n)
    means = np.sort((differences[i] + differences[j]) / 2)
    spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    left_out = max(0, math.floor(n * (n + 1) / 4 - _z(error) * spread - 0.5))
    return float(np.median(means)), float(means[left_out]), float(means[-1 - left_out])


def _median(values: Array) -> tuple[float, float, float]:
    ordered = np.sort(values)
    n = len(ordered)
    worth = n * _independence(values)
    half = (_z(1 - CONFIDENCE) * math.sqrt(worth) / 2 + 0.5) / worth
    low, high = (int(np.clip(math.floor(share * n), 0, n - 1)) for share in (0.5 - half, 0.5 + half))
    return float(np.median(ordered)), float(ordered[low]), float(ordered[high])


def _independence(values: Array) -> float:
    """What share of as many independent values these are worth: (1-r)/(1+r), r the correlation of each one's rank with the
    one before's, where that is positive (an autoregressive process of the first order)."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable") - (len(values) - 1) / 2
    if np.ptp(values) == 0:
        return 1.0
    r = float((ranks[1:] * ranks[:-1]).sum() / (ranks * ranks).sum())
    return (1 - r) / (1 + r) if r > 0 else 1.0


def _z(error: float) -> float:
    return NormalDist().inv_cdf(1 - error / 2)


def _interval(middle: float, low: float, high: float, blocks: int) -> Interval:
    return Interval(math.exp(middle), math.exp(low), math.exp(high), blocks)
