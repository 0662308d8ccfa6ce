"""Ranges from histograms: where to clip an activation so that the steps of int8 are spent on what is in it.

One pass over the samples keeps every activation's histogram; each method is arithmetic on it, so trying another one
costs no second pass. ``percentile`` cuts the rarest values on either side. ``mse`` searches the range of least mean
squared quantization error (Banner et al., 2019, arXiv 1810.05723, which derives it; here it is measured). ``entropy``
searches the range whose 256 levels lose least information, the Kullback-Leibler divergence of S. Migacz, "8-bit
inference with TensorRT" (GTC 2017), with a range that has two ends and a zero-point instead of one and none.

What leaves the model, and what a softmax or an argmax compares, is never clipped: there the largest value is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .calibrate import Ranges, ensure_finite, watch_activations
from .surgery import FlatModel

__all__ = ["Histogram", "clip", "collect_histograms", "histogram_of", "ranges_of"]

Array = npt.NDArray[Any]
BINS = 4096
# More of one tensor in one run than this is sampled evenly: its extremes are exact all the same.
SAMPLED = 1 << 16
LEVELS = 256
# Candidates for an end are the extreme times these: an eighth of a power of two apart, down to 1/256 of it.
FRACTIONS = 2.0 ** (-np.arange(65) / 8)
ROUNDS = 2
_TINY = 1e-30
_COMPARED = frozenset({"SOFTMAX", "LOG_SOFTMAX", "ARG_MAX", "ARG_MIN", "TOPK_V2"})
# Their output has the scale of their input, so that clipping the one clips the other.
_SAME_SCALE = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "GATHER"})


@dataclass(frozen=True)
class Histogram:
    """The values of one activation: extremes, how many are exactly 0, and the others in bins of equal width.

    Bin ``i`` of ``counts`` holds values from ``(first + i) * width`` up to the next; ``width`` is a power of two, and the
    bins reach from the lowest value to the highest, and to 0, which every range of int8 includes.
    """

    low: float
    high: float
    zeros: int
    width: float
    first: int
    counts: npt.NDArray[np.int64]


def collect_histograms(float_model: bytes, samples: Mapping[str, Array], *, threads: int = 2) -> dict[str, Histogram]:
    """The histogram of every float activation of subgraph 0, by tensor name; errors are those of ``collect_ranges``."""
    growing: dict[str, _Growing] = {}

    def add(name: str, values: Array) -> None:
        growing.setdefault(name, _Growing()).add(values)

    watch_activations(float_model, samples, add, threads=threads)
    ensure_finite({name: (one.low, one.high) for name, one in growing.items()})
    return {name: one.frozen() for name, one in growing.items()}


def histogram_of(batches: Iterable[Array]) -> Histogram:
    """The histogram of one activation given as its values in each run, of the same shape; all finite."""
    growing = _Growing()
    for values in batches:
        growing.add(values)
    return growing.frozen()


def ranges_of(
    float_model: bytes, histograms: Mapping[str, Histogram], calibration: str, *, percentile: float = 99.99
) -> Ranges:
    """The range of every activation by ``calibration`` (minmax, percentile, mse or entropy), by tensor name."""
    whole = _never_clipped(FlatModel(float_model))
    return {
        name: (found.low, found.high) if name in whole else clip(found, calibration, percentile=percentile)
        for name, found in histograms.items()
    }


def clip(histogram: Histogram, calibration: str, *, percentile: float = 99.99) -> tuple[float, float]:
    """The range of one activation: within its extremes, around 0 where they are."""
    if calibration == "minmax" or not histogram.counts.any():
        return histogram.low, histogram.high
    if calibration == "percentile":
        return _percentile(histogram, percentile)
    return _search(histogram, _squared_errors if calibration == "mse" else _divergences)


class _Growing:
    """A histogram while values come in: bins are merged in pairs when they no longer cover the range.

    The width of the end depends on the extremes alone, not on the order of the runs.
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.zeros = self.runs = self.first = 0
        self.width = 0.0
        self.counts = np.zeros(0, np.int64)

    def add(self, values: Array) -> None:
        self.low = float(np.minimum(self.low, values.min()))  # unlike min(), it keeps a NaN
        self.high = float(np.maximum(self.high, values.max()))
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return
        flat = _sampled(values, self.runs)
        self.runs += 1
        self._cover()
        other = flat[flat != 0]
        self.zeros += flat.size - other.size
        if other.size:
            bins = np.floor(other * (1.0 / self.width)).astype(np.int64) - self.first
            self.counts += np.bincount(bins, minlength=self.counts.size)

    def frozen(self) -> Histogram:
        """What was counted so far."""
        return Histogram(self.low, self.high, self.zeros, self.width, self.first, self.counts)

    def _cover(self) -> None:
        """Make the bins cover the extremes and 0, each as narrow as BINS of them allow."""
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if not self.width:
            self.width = 2.0 ** math.ceil(math.log2(max(high - low, _TINY) / BINS))
            self.first = math.floor(low / self.width)
        while math.floor(high / self.width) - math.floor(low / self.width) >= BINS:
            self.counts = np.concatenate([np.zeros(self.first % 2, np.int64), self.counts])
            self.counts = np.pad(self.counts, (0, self.counts.size % 2)).reshape(-1, 2).sum(axis=1)
            self.first //= 2
            self.width *= 2
        first, last = math.floor(low / self.width), math.floor(high / self.width)
        after = max(0, last + 1 - (self.first + self.counts.size))
        self.counts = np.pad(self.counts, (max(0, self.first - first), after))
        self.first = min(self.first, first)


def _sampled(values: Array, run: int) -> Array:
    """At most SAMPLED of the values, evenly spaced, of every channel alike, beginning elsewhere in each run."""
    flat = values.reshape(-1)
    stride = -(-flat.size // SAMPLED)
    while stride > 1 and math.gcd(stride, values.shape[-1]) > 1:
        stride += 1
    return flat[run % stride :: stride]


def _never_clipped(flat: FlatModel) -> set[str]:
    """Names of tensors that leave the model or are compared, and of those they are another view of."""
    tensors = {int(i) for i in flat.graph.outputs}
    for op in reversed(range(len(flat.graph.operators))):
        viewed = flat.type(op) in _SAME_SCALE and tensors & set(flat.outputs(op))
        if flat.type(op) in _COMPARED or viewed:
            tensors.add(flat.inputs(op)[0])
    return {flat.name(i) for i in tensors if i >= 0}


def _percentile(histogram: Histogram, percentile: float) -> tuple[float, float]:
    edges, counts = _with_zeros(histogram)
    total = counts.sum()
    tail = (1.0 - percentile / 100.0) * total
    reached = np.concatenate([[0], np.cumsum(counts)])
    low = float(np.interp(tail, reached, edges)) if tail >= 1 else histogram.low
    high = float(np.interp(total - tail, reached, edges)) if tail >= 1 else histogram.high
    return max(low, histogram.low), min(high, histogram.high)


def _with_zeros(histogram: Histogram) -> tuple[Array, Array]:
    """Edges and counts of the bins, with what is exactly 0 in the bin that begins there."""
    counts = histogram.counts.copy()
    counts[-histogram.first] += histogram.zeros
    return (histogram.first + np.arange(counts.size + 1)) * histogram.width, counts


def _search(histogram: Histogram, losses: Any) -> tuple[float, float]:
    """The range of least loss: both ends drawn in alike, then each alone, the other held."""
    used = np.flatnonzero(histogram.counts)
    values = (histogram.first + used + 0.5) * histogram.width
    counts = histogram.counts[used].astype(np.float64)
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)

    def best(lows: Array, highs: Array) -> tuple[float, float]:
        found = int(np.argmin(losses(values, counts, lows, highs)))
        return float(lows[found]), float(highs[found])

    same = np.ones_like(FRACTIONS)
    ends = best(low * FRACTIONS, high * FRACTIONS)
    for _ in range(ROUNDS if low < 0 < high else 0):
        ends = best(ends[0] * same, high * FRACTIONS)
        ends = best(low * FRACTIONS, ends[1] * same)
    return max(ends[0], histogram.low), min(ends[1], histogram.high)


def _grid(lows: Array, highs: Array) -> tuple[Array, Array]:
    """Scale and zero-point of int8 for these ranges, as the quantizers take them: 0 is a level."""
    scales = np.maximum(highs - lows, _TINY) / (LEVELS - 1)
    return scales, np.rint(-128 - lows / scales)


def _levels(values: Array, scales: Array, zero_points: Array) -> Array:
    """The int8 level of each value (columns) on each grid (rows)."""
    levels = np.rint(values / scales[:, None])
    levels += zero_points[:, None]
    return np.asarray(np.clip(levels, -128, 127, out=levels))


def _squared_errors(values: Array, counts: Array, lows: Array, highs: Array) -> Array:
    """The summed squared error of the values on the int8 grid of each range."""
    scales, zero_points = _grid(lows, highs)
    errors = (_levels(values, scales, zero_points) - zero_points[:, None]) * scales[:, None] - values
    return np.asarray(np.square(errors, out=errors) @ counts)


def _divergences(values: Array, counts: Array, lows: Array, highs: Array) -> Array:
    """KL divergence of what the levels of each range tell of the values from what was there.

    The reference is the histogram with what is outside put into its outermost bins inside, as clipping does; the other
    spreads each level's own count, without what was clipped, evenly over the bins of that level. It is not scaled up
    for what was clipped: with all but a few bins gone, what is left would resemble itself.
    """
    scales, zero_points = _grid(lows, highs)
    return np.array(
        [_divergence(values, counts, scale, zero_point) for scale, zero_point in zip(scales, zero_points, strict=True)]
    )


def _divergence(values: Array, counts: Array, scale: float, zero_point: float) -> float:
    lowest, highest = (-128 - zero_point - 0.5) * scale, (127 - zero_point + 0.5) * scale
    begin, end = np.searchsorted(values, lowest), np.searchsorted(values, highest)
    if end <= begin:
        return math.inf
    inside, kept = values[begin:end], counts[begin:end]
    reference = kept.copy()
    reference[0] += counts[:begin].sum()
    reference[-1] += counts[end:].sum()
    levels = (np.clip(np.rint(inside / scale) + zero_point, -128, 127) + 128).astype(np.int64)
    spread = (np.bincount(levels, kept, LEVELS) / np.maximum(np.bincount(levels, minlength=LEVELS), 1))[levels]
    return float(np.sum(reference * np.log(reference / spread)) / counts.sum())
