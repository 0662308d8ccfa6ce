"""What each sample contributes to the range of each activation, and which samples stretch it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..int8.calibrate import open_interpreter, run_samples
from .fidelity import percentile_of_tail, tails

__all__ = ["Extremes", "Outliers", "collect_extremes", "find_outliers", "shares_inside"]

Array = npt.NDArray[Any]
Range = tuple[float, float]
# A gap between neighbours in the order of the samples' extremes that is this share of the whole range.
NOTABLE_GAP = 0.2
MOST_OUTLIERS = 0.02


@dataclass(frozen=True, eq=False)
class Extremes:
    """Of one tensor: ``lows`` and ``highs`` of shape (N,), one per sample; the tails over all; channels that never vary.

    ``channels`` is the size of the last axis, of which ``dead`` held one single value in all samples.
    """

    lows: Array
    highs: Array
    low_tail: float
    high_tail: float
    channels: int
    dead: int

    def range_of(self, rows: slice | Array) -> Range:
        """Of these samples."""
        return float(self.lows[rows].min()), float(self.highs[rows].max())


@dataclass(frozen=True)
class Outliers:
    """The few samples beyond a gap at either end of a tensor's range, and by what share it shrinks without them."""

    low_samples: tuple[int, ...]
    high_samples: tuple[int, ...]
    shrink: float


def collect_extremes(model: bytes, samples: Mapping[str, Array], tensors: Sequence[int]) -> dict[int, Extremes]:
    """Of the float tensors with these indices in subgraph 0; raises CalibrationError for samples that do not fit."""
    interpreter = open_interpreter(model)
    details = {int(raw["index"]): raw for raw in interpreter.get_tensor_details()}
    count = len(next(iter(samples.values())))
    meters = {index: _Meter(count) for index in tensors if details[index]["dtype"] is np.float32}
    for _ in run_samples(interpreter, samples):
        for index, meter in meters.items():
            meter.add(np.asarray(interpreter.get_tensor(index)), _rows(interpreter))
    return {index: meter.result(count) for index, meter in meters.items() if meter.count}


def find_outliers(extremes: Extremes) -> Outliers | None:
    """The samples beyond the largest gap among the most extreme few; None where no gap is notable."""
    low, high = extremes.range_of(slice(None))
    whole = high - low
    if whole <= 0 or len(extremes.highs) < 3:
        return None
    highest, high_end = _beyond_gap(extremes.highs, whole)
    lowest, negative_end = _beyond_gap(-extremes.lows, whole)
    if not highest and not lowest:
        return None
    return Outliers(lowest, highest, 1 - (high_end + negative_end) / whole)


def shares_inside(
    model: bytes, samples: Mapping[str, Array], ranges: Mapping[int, Range], slack: float = 1 / 255
) -> dict[int, float]:
    """The share of each tensor's values that lies in its range, ``slack`` of its width wider at both ends."""
    interpreter = open_interpreter(model)
    inside, seen = dict.fromkeys(ranges, 0), dict.fromkeys(ranges, 0)
    for _ in run_samples(interpreter, samples):
        for index, (low, high) in ranges.items():
            values = np.asarray(interpreter.get_tensor(index))
            room = slack * (high - low) + 1e-12
            inside[index] += int(np.count_nonzero((values >= low - room) & (values <= high + room)))
            seen[index] += values.size
    return {index: inside[index] / seen[index] for index in ranges if seen[index]}


@dataclass
class _Meter:
    """``runs`` is how often it will be added to, at most."""

    runs: int
    count: int = 0
    lows: list[Array] = field(default_factory=list)
    highs: list[Array] = field(default_factory=list)
    highest: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    lowest: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    channel_low: Array | None = None
    channel_high: Array | None = None

    def add(self, values: Array, rows: int) -> None:
        """Take in the tensor of one run of ``rows`` samples; one without a row for each counts for them all."""
        if not values.size:
            return
        by_row = values.reshape(rows, -1) if values.ndim and values.shape[0] == rows else values.reshape(1, -1)
        self.lows.append(np.broadcast_to(by_row.min(axis=1), (rows,)))
        self.highs.append(np.broadcast_to(by_row.max(axis=1), (rows,)))
        self.count += values.size
        self.highest = tails(values, self.highest, values.size * self.runs, np.positive)
        self.lowest = tails(values, self.lowest, values.size * self.runs, np.negative)
        by_channel = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
        low, high = by_channel.min(axis=0), by_channel.max(axis=0)
        self.channel_low = low if self.channel_low is None else np.minimum(low, self.channel_low)
        self.channel_high = high if self.channel_high is None else np.maximum(high, self.channel_high)

    def result(self, count: int) -> Extremes:
        """Everything, for the first ``count`` samples: the last run may have been filled up."""
        assert self.channel_low is not None
        assert self.channel_high is not None
        return Extremes(
            np.concatenate(self.lows)[:count],
            np.concatenate(self.highs)[:count],
            -percentile_of_tail(self.lowest, self.count),
            percentile_of_tail(self.highest, self.count),
            channels=len(self.channel_low),
            dead=int(np.count_nonzero(self.channel_low == self.channel_high)),
        )


def _rows(interpreter: Any) -> int:
    shapes = [raw["shape"] for raw in interpreter.get_input_details()]
    return next((int(shape[0]) for shape in shapes if len(shape)), 1)


def _beyond_gap(values: Array, whole: float) -> tuple[tuple[int, ...], float]:
    """The samples beyond the largest notable gap at the upper end, most extreme first, and where the rest ends."""
    order = np.argsort(-values, kind="stable")
    few = max(1, int(MOST_OUTLIERS * len(values)))
    sorted_values = values[order[: few + 1]]
    gaps = (sorted_values[:-1] - sorted_values[1:]) / whole
    widest = int(gaps.argmax())
    if gaps[widest] < NOTABLE_GAP:
        return (), float(sorted_values[0])
    return tuple(int(i) for i in order[: widest + 1]), float(sorted_values[widest + 1])
