"""The geometry of the pictures, held against plain arithmetic."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from edgekit.render.chart import (
    Box,
    Circle,
    Scale,
    decimate,
    fit,
    leader,
    place_labels,
    radius,
    skyline,
    text_width,
    ticks,
)

RANGES = [
    (0.953, 0.954),
    (1.0, 2.0),
    (3.2, 8.3),
    (0.0, 1.0),
    (12.0, 12.0),
    (0.004, 0.39),
    (1.0, 30.0),
    (0.5, 9000.0),
    (1e-3, 1e6),
    (95.0, 95.0),
]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_a_scale_rises_with_its_values_and_keeps_the_margin(low: float, high: float) -> None:
    """A larger value lies further along, and every value stays a margin away from both ends."""
    scale = fit([low, high], 50, 550, margin=30)
    values = [low + (high - low) * step / 20 for step in range(21)]
    pixels = [scale.at(value) for value in values]
    assert pixels == sorted(pixels)
    assert len(set(pixels)) == (1 if low == high else 21)
    assert min(pixels) >= 80 - 1e-6
    assert max(pixels) <= 520 + 1e-6


@pytest.mark.parametrize(("low", "high"), RANGES)
@pytest.mark.parametrize("wanted", [2, 4, 6, 10])
def test_ticks_lie_inside_of_the_range_and_ascend(low: float, high: float, wanted: int) -> None:
    """There are at least two ticks, ascending, none outside of the plot, and never a crowd."""
    scale = fit([low, high], 50, 550, margin=30)
    found = ticks(scale, wanted)
    assert 2 <= len(found) <= wanted + 6
    assert list(found) == sorted(set(found))
    assert all(50 - 1e-6 <= scale.at(tick) <= 550 + 1e-6 for tick in found)


def test_linear_ticks_are_round_numbers() -> None:
    """Ticks step by 1, 2, 2.5 or 5 times a power of ten."""
    assert ticks(Scale(0, 10, 0, 500), 5) == (0, 2, 4, 6, 8, 10)
    assert ticks(Scale(3.1, 5.2, 0, 500), 4) == (3.5, 4, 4.5, 5)


def test_logarithmic_ticks_are_one_two_five() -> None:
    """On a logarithmic axis of one or two decades the ticks are 1, 2 and 5."""
    found = ticks(Scale(0.9, 60, 0, 500, logarithmic=True), 6)
    assert found == pytest.approx((1, 2, 5, 10, 20, 50))


@pytest.mark.parametrize(("values", "logarithmic"), [((1, 10), False), ((1, 10.1), True), ((0, 50), False)])
def test_a_scale_is_logarithmic_above_ten_to_one(values: tuple[float, float], logarithmic: bool) -> None:
    """Over ten to one, and only with positive values, the scale turns logarithmic."""
    assert fit(values, 0, 100).logarithmic is logarithmic


def test_a_logarithmic_scale_gives_every_decade_the_same_room() -> None:
    """One to ten takes as many pixels as ten to a hundred."""
    scale = Scale(1, 100, 0, 200, logarithmic=True)
    assert (scale.at(1), scale.at(10), scale.at(100)) == pytest.approx((0, 100, 200))


def test_the_smallest_range_keeps_equal_values_from_becoming_a_cliff() -> None:
    """Two accuracies 0.01 apart are not torn over the whole axis when the least range is 1."""
    scale = fit([95.0, 95.01], 0, 100, least=1.0, log=False)
    assert scale.at(95.01) - scale.at(95.0) == pytest.approx(1.0)


def test_area_is_proportional_to_the_value() -> None:
    """A quarter of the size is half the radius; nothing is too small to see."""
    assert radius(100, 100, 26) == 26
    assert radius(25, 100, 26) == 13
    assert radius(0, 100, 26) == radius(5, 0, 26) == 4


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("many", [1, 5, 30])
def test_labels_overlap_nothing(seed: int, many: int) -> None:
    """However the bubbles fall, no label touches another, a bubble, or the edge of the plot."""
    draw = random.Random(seed)
    bounds = Box(50, 10, 400, 300)
    circles = [Circle(draw.uniform(60, 440), draw.uniform(20, 300), draw.uniform(4, 26)) for _ in range(many)]
    boxes = place_labels(circles, [(draw.uniform(30, 150), 17) for _ in circles], bounds)
    placed = [box for box in boxes if box is not None]
    assert len(boxes) == many
    assert not any(one.overlaps(other) for one, other in itertools.combinations(placed, 2))
    assert not any(circle.overlaps(box) for circle in circles for box in placed)
    assert all(bounds.contains(box) for box in placed)


def test_every_label_of_few_bubbles_finds_room() -> None:
    """Five bubbles, three of them in a heap, all get their names."""
    circles = [
        Circle(60, 200, 12),
        Circle(300, 180, 12),
        Circle(550, 100, 12),
        Circle(570, 96, 26),
        Circle(590, 96, 18),
    ]
    assert None not in place_labels(circles, [(60, 17)] * 5, Box(50, 10, 650, 300))


def test_the_first_in_order_is_served_first() -> None:
    """Of two names with room for one, the one first in order is kept."""
    circles, bounds = [Circle(50, 50, 5), Circle(50, 50, 5)], Box(44, 40, 70, 20)
    kept = [box is not None for box in place_labels(circles, [(50, 17)] * 2, bounds, order=[1, 0])]
    assert kept == [False, True]


def test_a_far_label_has_a_leader_and_a_near_one_has_none() -> None:
    """The line begins at the circle's edge and ends at the label's."""
    assert leader(Circle(0, 0, 5), Box(9, -8, 40, 16)) is None
    assert leader(Circle(0, 0, 5), Box(30, -8, 40, 16)) == (5, 0, 30, 0)


@pytest.mark.parametrize("seed", range(5))
def test_the_skyline_is_what_nothing_beats(seed: int) -> None:
    """The skyline equals the brute-force set of points that no other beats in both."""
    draw = random.Random(seed)
    points = [(draw.randrange(12), draw.randrange(12)) for _ in range(30)]
    unbeaten = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}
    assert skyline(points) == tuple(sorted(unbeaten))


def test_decimation_keeps_the_ends_and_the_median() -> None:
    """Of 2,001 samples 401 stay: the smallest, the middle and the largest among them."""
    samples = list(range(2001))
    random.Random(1).shuffle(samples)
    kept = decimate(samples, 401)
    assert (len(kept), kept[0], kept[200], kept[-1]) == (401, 0, 1000, 2000)
    assert decimate([3, 1, 2], 400) == (1, 2, 3)


def test_wide_characters_take_more_room() -> None:
    """An ideograph counts for a whole em, a letter for less."""
    assert text_width("漢字", 10) == 20
    assert text_width("ab", 10) == pytest.approx(12)
    assert math.isclose(text_width("", 10), 0)
