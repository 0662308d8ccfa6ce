"""Histograms and the ranges that follow from them, against plain numpy on the values themselves."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters.errors import CalibrationError
from edgekit_converters.int8.calibrate import collect_ranges
from edgekit_converters.int8.thresholds import BINS, SAMPLED, clip, collect_histograms, histogram_of, ranges_of

from tests.tflite_builder import Graph, Op, Tensor, build

COUNT = 20_000


def _values(kind: str) -> np.ndarray:
    """Activations as networks have them: with outliers, behind a ReLU, or with neither."""
    random = np.random.default_rng(5)
    values = random.normal(size=COUNT)
    if kind == "outliers":
        values[:20] *= 30
    elif kind == "relu":
        values = np.maximum(np.exp(values) - 1, 0) * random.choice([1, 1, 1, 6], COUNT)
    elif kind == "skew":
        values = values * 0.1 + random.exponential(2, COUNT) * random.choice([-1, 0.02], COUNT)
    elif kind == "uniform":
        values = random.uniform(-1, 3, COUNT)
    return values.astype(np.float32)


KINDS = ("normal", "outliers", "relu", "skew", "uniform")


def _int8(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """What int8 makes of ``values`` on the grid of a range, as the specification has it."""
    scale = (high - low) / 255
    zero_point = round(-128 - low / scale)
    return (np.clip(np.round(values / scale) + zero_point, -128, 127) - zero_point) * scale


def _chain(*kinds: str, count: int = 8) -> bytes:
    """Operators of one operand, one after the other, on 1 x count."""
    tensors = [Tensor(f"t{i}", "float32", (1, count)) for i in range(len(kinds) + 1)]
    if "RESHAPE" in kinds:
        tensors.append(Tensor("shape", "int32", (2,), np.array([1, count], np.int32)))
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    ops = [
        Op(kind, (i, len(kinds) + 1) if kind == "RESHAPE" else (i,), (i + 1,), softmax if kind == "SOFTMAX" else None)
        for i, kind in enumerate(kinds)
    ]
    return build(Graph(tensors, ops, (0,), (len(kinds),), signature_key="serving_default"))


@pytest.mark.parametrize("kind", KINDS)
def test_histogram_holds_every_value_in_its_bin(kind) -> None:
    """Counts are those of numpy over the same edges; extremes and zeros are exact."""
    values = _values(kind)
    found = histogram_of(np.split(values, 10))

    edges = (found.first + np.arange(found.counts.size + 1)) * found.width
    expected = np.array(
        [np.count_nonzero((values >= a) & (values < b) & (values != 0)) for a, b in itertools.pairwise(edges)]
    )
    assert (found.low, found.high) == (values.min(), values.max())
    assert found.zeros == np.count_nonzero(values == 0)
    assert BINS / 2 < found.counts.size <= BINS
    # A float32 quotient may fall on the other side of an edge: a value in a million may be one bin off.
    assert np.abs(found.counts - expected).sum() <= 2
    assert found.counts.sum() + found.zeros == values.size


def test_histogram_does_not_depend_on_the_order_of_the_runs() -> None:
    """Bins merged while the range grows are those of the whole range."""
    parts = np.split(_values("outliers"), 10)
    parts.sort(key=lambda part: np.abs(part).max())
    grown, at_once = histogram_of(parts), histogram_of(reversed(parts))

    assert (grown.width, grown.first, grown.zeros) == (at_once.width, at_once.first, at_once.zeros)
    np.testing.assert_array_equal(grown.counts, at_once.counts)


def test_large_activations_are_sampled_but_their_extremes_are_exact() -> None:
    """At most SAMPLED values of a run are counted, of every channel alike."""
    values = np.zeros((1, 64, 64, 48), np.float32) + np.arange(1, 49, dtype=np.float32)
    values[0, 3, 5, 7] = 100.0
    found = histogram_of([values, values])

    per_channel = found.counts[found.counts > 0]
    assert found.high == 100.0
    assert 0.5 * 2 * SAMPLED < found.counts.sum() <= 2 * SAMPLED
    assert per_channel.size in (48, 49)
    assert per_channel.max() - np.sort(per_channel)[1] <= 4


@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99])
@pytest.mark.parametrize("kind", KINDS)
def test_percentiles_are_those_of_the_values(kind, percentile) -> None:
    """Either end is numpy's quantile, to the width of a bin where values lie close."""
    values = _values(kind)
    found = histogram_of([values])
    low, high = clip(found, "percentile", percentile=percentile)

    around = [
        np.quantile(values, q, method=m)
        for q in ((100 - percentile) / 100, percentile / 100)
        for m in ("lower", "higher")
    ]
    assert around[0] - 2 * found.width <= low <= around[1] + 2 * found.width
    assert around[2] - 2 * found.width <= high <= around[3] + 2 * found.width


def test_a_percentile_of_few_values_is_their_extremes() -> None:
    """Less than one value beyond the percentile is none."""
    assert clip(histogram_of([_values("normal")[:1000]]), "percentile", percentile=99.99) == (
        _values("normal")[:1000].min(),
        _values("normal")[:1000].max(),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_mse_is_about_the_least_that_any_range_has(kind) -> None:
    """No range of a fine grid over both ends has a squared error 3 % below that of the range found."""
    values = _values(kind).astype(np.float64)
    low, high = clip(histogram_of([values]), "mse")

    ends = np.exp(np.linspace(0, -3, 60))
    lows = values.min() * ends if values.min() < 0 else np.zeros(1)
    best = min(np.mean((_int8(values, a, b) - values) ** 2) for a in lows for b in values.max() * ends)
    # Candidates are an eighth of a power of two apart (9 %), and the error is flat around its least.
    assert np.mean((_int8(values, min(low, 0), high) - values) ** 2) <= 1.03 * best


def _divergence(values: np.ndarray, edges: np.ndarray, low: float, high: float) -> float:
    """The divergence by the book: bin by bin, over the values themselves."""
    counts = np.histogram(values[values != 0], edges)[0]
    centers = (edges[:-1] + edges[1:]) / 2
    scale = (high - low) / 255
    zero_point = round(-128 - low / scale)
    level = np.clip(np.round(centers / scale) + zero_point, -128, 127)
    used = [i for i in range(counts.size) if counts[i]]
    inside = [i for i in used if -128.5 <= centers[i] / scale + zero_point < 127.5]
    if not inside:
        return math.inf
    clipped = {inside[0]: sum(counts[i] for i in used if i < inside[0])}
    clipped[inside[-1]] = clipped.get(inside[-1], 0) + sum(counts[i] for i in used if i > inside[-1])
    by_level: dict[float, list[int]] = {}
    for i in inside:
        by_level.setdefault(level[i], []).append(counts[i])
    total, result = counts.sum(), 0.0
    for i in inside:
        mates = by_level[level[i]]
        p, q = counts[i] + clipped.get(i, 0), sum(mates) / len(mates)
        result += p / total * math.log(p / q)
    return result


@pytest.mark.parametrize("kind", ["outliers", "relu"])
def test_entropy_diverges_least_by_the_book(kind) -> None:
    """The range found diverges less than wider and narrower ones, computed bin by bin."""
    values = _values(kind)[:4000]
    found = histogram_of([values])
    edges = (found.first + np.arange(found.counts.size + 1)) * found.width
    low, high = clip(found, "entropy")

    low = min(low, 0.0)
    least = _divergence(values, edges, low, high)
    for factor in (0.25, 0.7, 1.4, 4.0):
        assert least <= _divergence(values, edges, low, min(high * factor, found.high)) + 1e-9


@pytest.mark.parametrize("calibration", ["percentile", "mse", "entropy"])
def test_outliers_are_clipped_and_even_values_are_not(calibration) -> None:
    """A few values far out do not get the steps of all others; a uniform activation keeps nearly all of its range."""
    outliers, even = _values("outliers"), _values("uniform")
    low, high = clip(histogram_of([outliers]), calibration, percentile=99.9)
    if calibration != "mse":  # one value far out costs mean squares more than 255 steps between all
        assert high < 0.75 * outliers.max()
        assert low > 0.75 * outliers.min()

    low, high = clip(histogram_of([even]), calibration, percentile=99.9)
    assert high > 0.9 * even.max()
    assert low < 0.9 * even.min()


@pytest.mark.parametrize("calibration", ["percentile", "mse", "entropy"])
@pytest.mark.parametrize("values", [np.zeros((3, 4)), np.full((3, 4), 2.5), np.full((3, 4), -1e-20)])
def test_constant_activations_have_a_range(calibration, values) -> None:
    """All zero, all the same, all next to nothing: the range holds the value."""
    low, high = clip(histogram_of([values.astype(np.float32)]), calibration)

    assert low <= np.float32(values[0, 0]) <= high
    assert math.isfinite(low)
    assert math.isfinite(high)


def test_what_is_compared_is_never_clipped() -> None:
    """The scores before a softmax, also behind a reshape, and what leaves the model keep their extremes."""
    samples = {"x": np.random.default_rng(0).standard_t(1.5, (2000, 8)).astype(np.float32)}
    model = _chain("ABS", "RESHAPE", "SOFTMAX")
    found = ranges_of(model, collect_histograms(model, samples), "percentile", percentile=99.0)
    extremes = collect_ranges(model, samples)

    assert found["t0"][1] < extremes["t0"][1]
    assert {name: found[name] for name in ("t1", "t2", "t3")} == {name: extremes[name] for name in ("t1", "t2", "t3")}


@pytest.mark.parametrize("when", [0, 1, 2])
def test_activations_that_are_no_numbers_are_refused_whenever_they_come(when) -> None:
    """NaN in the first, a middle or the last run: the message names the tensor, in either kind of pass."""
    model = _chain("SQRT", "ABS")
    samples = np.ones((3, 8), np.float32)
    samples[when] = -1.0

    for collect in (collect_histograms, collect_ranges):
        with pytest.raises(CalibrationError, match="expected finite activations, got NaN or infinity in 't1'"):
            collect(model, {"x": samples})
