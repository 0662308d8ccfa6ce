"""Intervals of ratios: ranks against their exact distribution, coverage against noise that is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from edgekit.intervals import CONFIDENCE, LEAST_BLOCKS, LEAST_ROUNDS, paired_ratio, unpaired_ratio, wander
from tests.edgekit.session_noise import NOISE, session


def test_the_estimate_is_the_median_of_the_means_of_all_pairs() -> None:
    """Hodges and Lehmann's, by brute force over every pair of rounds; ten rounds are too few to choose among."""
    draw = np.random.default_rng(1)
    before, after = draw.uniform(1, 2, LEAST_ROUNDS), draw.uniform(2, 3, LEAST_ROUNDS)
    logs = np.log(after / before)
    means = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(logs, 2))

    found = paired_ratio(before, after)

    assert found.ratio == pytest.approx(math.exp(np.median(means)))
    assert (found.low, found.high) == pytest.approx((math.exp(means[0]), math.exp(means[-1])))
    assert found.blocks == LEAST_ROUNDS


@pytest.mark.parametrize("rounds", [10, 17, 40, 120])
def test_as_many_ranks_are_left_out_as_the_exact_distribution_allows(rounds: int) -> None:
    """Of the 2^n ways the signs can fall, no more than a third of one per cent leave the centre out."""
    ways = np.ones(1)
    for rank in range(1, rounds + 1):
        ways = np.convolve(ways, [0.5, *[0.0] * (rank - 1), 0.5])
    # All rounds take the same in sum, so that no choice of the calmest can narrow the interval by chance.
    logs = np.linspace(-1, 1, rounds)
    means = np.sort([(a + b) / 2 for a, b in itertools.combinations_with_replacement(logs, 2)])
    found = paired_ratio(np.exp(-logs / 2), np.exp(logs / 2))
    outside = int((means < math.log(found.low) - 1e-9).sum())

    assert 2 * ways[: outside + 1].sum() <= (1 - CONFIDENCE) / 3


@pytest.mark.parametrize("noise", NOISE)
def test_a_paired_interval_holds_the_true_ratio(noise: str) -> None:
    """In 98 % of sessions at least (it is built for 99), whatever disturbs them; a drift alone shifts one entry of every
    round against the other, by a hundredth of it here, which the floor of the verdict is there for."""
    draw = np.random.default_rng(7)
    tries = 300
    kept = 0
    for _ in range(tries):
        found = paired_ratio(*session(noise, 30, 1.07, draw))
        kept += found.low / 1.01 <= 1.07 <= found.high * 1.01

    assert kept >= 0.98 * tries


def test_rounds_that_others_disturb_do_not_widen_the_interval() -> None:
    """With a fifth of the blocks at twice their time, it stays within a point of the quiet one's."""
    draw = np.random.default_rng(3)
    before, after = session("quiet", 60, 1.1, draw)
    hit = np.where(draw.random((2, 60)) < 0.2, 2.0, 1.0)
    quiet = paired_ratio(before, after)
    disturbed = paired_ratio(np.asarray(before) * hit[0], np.asarray(after) * hit[1])

    assert disturbed.low == pytest.approx(quiet.low, abs=0.01)
    assert disturbed.high == pytest.approx(quiet.high, abs=0.01)


def test_swapping_the_sides_turns_the_ratio_over() -> None:
    """In pairs and of two sessions."""
    before, after = session("bursts", 25, 1.2, np.random.default_rng(5))
    for ratio in (paired_ratio, unpaired_ratio):
        there, back = ratio(before, after), ratio(after, before)

        assert (1 / back.ratio, 1 / back.high, 1 / back.low) == pytest.approx((there.ratio, there.low, there.high))


@pytest.mark.parametrize("noise", ["quiet", "heavy tails", "spikes", "bursts"])
def test_an_unpaired_interval_holds_the_true_ratio(noise: str) -> None:
    """Of two sessions disturbed alike but not at the same moments."""
    draw = np.random.default_rng(11)
    tries = 300
    kept = 0
    for _ in range(tries):
        found = unpaired_ratio(session(noise, 30, 1.0, draw)[0], session(noise, 30, 1.07, draw)[1])
        kept += found.low <= 1.07 <= found.high

    assert kept >= 0.98 * tries


def test_blocks_that_resemble_their_neighbours_are_worth_fewer() -> None:
    """The same values in another order: a wider interval where they come in runs."""
    values = np.exp(np.random.default_rng(2).normal(0, 0.05, 40))
    still = np.full(40, 1.0)

    shuffled, sorted_ = unpaired_ratio(still, values), unpaired_ratio(still, np.sort(values))

    assert sorted_.ratio == shuffled.ratio
    assert sorted_.low < shuffled.low
    assert sorted_.high > shuffled.high


def test_equal_blocks_have_an_interval_without_width() -> None:
    """As from a clock that stands still between ticks."""
    found = unpaired_ratio([2.0] * LEAST_BLOCKS, [3.0] * LEAST_BLOCKS)

    assert (found.low, found.ratio, found.high) == pytest.approx((1.5, 1.5, 1.5))


def test_a_session_wanders_as_far_as_its_thirds_lie_apart() -> None:
    """By hand: medians 1.0, 1.2 and 1.1."""
    assert wander([1.0] * 3 + [1.2] * 3 + [1.1] * 3) == pytest.approx(0.2)
