"""How close the tensors of a quantized .tflite are to those of the float one: both run on the same samples, in step.

The signal-to-quantization-noise ratio is 10 log10(sum x² / sum (x - q)²), in dB, over all elements of all samples; every
6 dB are one bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..int8.calibrate import open_interpreter, run_samples
from ..model_card import read_model_card

__all__ = [
    "Grid",
    "TensorFidelity",
    "answers",
    "compare_tensors",
    "percentile_of_tail",
    "right_answers",
    "sqnr_db",
    "tails",
]

Array = npt.NDArray[Any]
# Percentiles leave out this share of the values on either side.
TAIL = 1e-4


@dataclass(frozen=True)
class Grid:
    """The values that a quantized tensor can hold: ``low`` to ``high`` in steps of ``scale``."""

    scale: float
    zero_point: int
    low: float
    high: float
    dtype: str

    def rounded(self, values: Array) -> Array:
        """``values`` (float32) at the nearest step, those outside at the ends."""
        steps = np.rint(values * np.float32(1 / self.scale))
        np.clip(steps, round(self.low / self.scale), round(self.high / self.scale), out=steps)
        steps *= np.float32(self.scale)
        return np.asarray(steps)


@dataclass(frozen=True)
class TensorFidelity:
    """A tensor of the float model, and how the quantized one renders it; errors are None where it does not hold it.

    ``noise`` is the mean over channels (the last axis) of noise / signal, each at most 1: the error that small channels
    suffer too, which the SQNR of the whole tensor hides behind the large ones. ``grid_noise`` is that of rounding the float
    values to the tensor's own grid, without any error from before. ``clipped`` is the share of float values outside the
    grid by more than half a step.
    """

    low: float
    high: float
    low_tail: float
    high_tail: float
    sqnr_db: float | None = None
    cosine: float | None = None
    noise: float | None = None
    grid_noise: float | None = None
    clipped: float | None = None
    grid: Grid | None = None


def sqnr_db(signal: float, noise: float) -> float | None:
    """In dB from sums of squares; None when it is infinite, or there is no signal."""
    return None if signal <= 0 or noise <= 0 else 10 * math.log10(signal / noise)


def compare_tensors(
    float_model: bytes, quantized: bytes, samples: Mapping[str, Array], tensors: Iterable[int]
) -> dict[int, TensorFidelity]:
    """What became of float tensors (indices in subgraph 0 of ``float_model``) in ``quantized``, by index.

    Tensors are matched by name. What neither model computes on its own, or is no float, is left out. Raises
    CalibrationError for samples that do not fit.
    """
    ours, theirs = open_interpreter(float_model), open_interpreter(quantized)
    details = {int(raw["index"]): raw for raw in ours.get_tensor_details()}
    wanted = {index: str(details[index]["name"]) for index in tensors if details[index]["dtype"] is np.float32}
    partners = _partners(quantized, theirs, set(wanted.values()))
    runs = len(next(iter(samples.values())))
    meters = {index: _Meter(partners.get(name, (None, None))[1], runs) for index, name in wanted.items()}
    steps = zip(run_samples(ours, samples), run_samples(theirs, samples), strict=True)
    for _ in steps:
        for index, name in wanted.items():
            values, partner = _tensor(ours, index), partners.get(name)
            if values is not None and values.size:
                meters[index].add(values, None if partner is None else _tensor(theirs, partner[0]))
    return {index: meter.result() for index, meter in meters.items() if meter.count}


def answers(model: bytes, samples: Mapping[str, Array]) -> list[Array]:
    """The outputs for all samples, in order, each of shape (N, …), as the runtime computes them with its delegates."""
    interpreter = open_interpreter(model, watched=False)
    outputs = [int(raw["index"]) for raw in interpreter.get_output_details()]
    rows = [[interpreter.get_tensor(index) for index in outputs] for _ in run_samples(interpreter, samples)]
    count = len(next(iter(samples.values())))
    whole = [np.concatenate([np.atleast_1d(row[place]) for row in rows]) for place in range(len(outputs))]
    return [values[:count] for values in whole]


def right_answers(outputs: list[Array], labels: Array | None) -> Array | None:
    """Which samples the first output has right, by integer labels of shape (N,); None where that is no question."""
    scores = outputs[0]
    if (
        labels is None
        or labels.ndim != 1
        or labels.dtype.kind not in "iu"
        or scores.ndim != 2
        or len(labels) != len(scores)
    ):
        return None
    if scores.shape[1] == 1:
        return np.asarray((scores[:, 0] > 0.5) == (labels == 1))
    return np.asarray(scores.argmax(axis=1) == labels)


def tails(values: Array, kept: Array, count: int, pick: Callable[[Array], Array]) -> Array:
    """The most extreme of ``values`` and ``kept``: as many as a percentile of TAIL of ``count`` values, in all, needs.

    ``pick`` is np.positive for the largest, np.negative for the smallest; both are given and returned in its sign.
    """
    room = int((count - 1) * TAIL) + 2
    flat = pick(values.reshape(-1))
    if kept.size >= room:  # what is less extreme than all that is kept already need not be sorted
        flat = flat[flat > kept.min()]
    joined = np.concatenate([kept, flat])
    return joined if joined.size <= room else np.partition(joined, joined.size - room)[-room:]


def percentile_of_tail(extremes: Array, count: int) -> float:
    """The value that a share of TAIL of ``count`` values lies beyond, by numpy.percentile's interpolation.

    ``extremes`` are the largest of them, as ``tails`` keeps them.
    """
    place = (count - 1) * TAIL
    beyond = np.sort(extremes)[::-1]
    first = min(int(place), beyond.size - 1)
    second = min(first + 1, beyond.size - 1)
    return float(beyond[first] + (place - int(place)) * (float(beyond[second]) - float(beyond[first])))


@dataclass
class _Meter:
    """Sums over one tensor of every sample; ``runs`` is how often it will be added to."""

    grid: Grid | None
    runs: int
    count: int = 0
    compared: int = 0
    outside: int = 0
    highest: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    lowest: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    sums: dict[str, Array] = field(default_factory=dict)

    def add(self, values: Array, other: Array | None) -> None:
        """Take in one run's tensor, and the quantized model's own where it has one of the same shape."""
        self.count += values.size
        self.highest = tails(values, self.highest, values.size * self.runs, np.positive)
        self.lowest = tails(values, self.lowest, values.size * self.runs, np.negative)
        if other is None or other.shape != values.shape:
            return
        self.compared += 1
        x = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
        q = other.reshape(x.shape).astype(np.float32)
        if self.grid is not None:
            q -= np.float32(self.grid.zero_point)
            q *= np.float32(self.grid.scale)
            off = x - self.grid.rounded(x)
            self._sum("grid", off, off)
            half = self.grid.scale / 2
            if values.min() < self.grid.low - half or values.max() > self.grid.high + half:
                self.outside += int(np.count_nonzero((x < self.grid.low - half) | (x > self.grid.high + half)))
        for name, one, two in (("xx", x, x), ("qq", q, q), ("xq", x, q)):
            self._sum(name, one, two)
        q -= x
        self._sum("noise", q, q)

    def result(self) -> TensorFidelity:
        """The figures of all that was added."""
        low_tail, high_tail = -percentile_of_tail(self.lowest, self.count), percentile_of_tail(self.highest, self.count)
        ends = (0.0 - float(self.lowest.max()), float(self.highest.max()), 0.0 + low_tail, high_tail)  # never -0
        if not self.compared:
            return TensorFidelity(*ends, grid=self.grid)
        total = {name: float(sums.sum()) for name, sums in self.sums.items()}
        norm = math.sqrt(total["xx"] * total["qq"])
        return TensorFidelity(
            *ends,
            sqnr_db=sqnr_db(total["xx"], total["noise"]),
            cosine=min(1.0, total["xq"] / norm) if norm > 0 else None,
            noise=self._channel_noise("noise"),
            grid_noise=self._channel_noise("grid") if self.grid is not None else 0.0,
            clipped=self.outside / self.count,
            grid=self.grid,
        )

    def _sum(self, name: str, one: Array, two: Array) -> None:
        """Add the products by channel: in float32 within a run, in float64 over the runs."""
        self.sums[name] = self.sums.get(name, 0.0) + np.einsum("ic,ic->c", one, two).astype(np.float64)

    def _channel_noise(self, name: str) -> float:
        signal, noise = self.sums["xx"], self.sums[name]
        live = signal > 0
        return float(np.minimum(1.0, noise[live] / signal[live]).mean()) if live.any() else 0.0


def _partners(quantized: bytes, interpreter: Any, names: set[str]) -> dict[str, tuple[int, Grid | None]]:
    """The quantized model's tensor of each name, with its grid; one that was only dequantized is what it was before."""
    card = read_model_card(quantized)
    before = {op.outputs[0]: op.inputs[0] for op in card.ops if op.type == "DEQUANTIZE"}
    details = {int(raw["index"]): raw for raw in interpreter.get_tensor_details()}
    found: dict[str, tuple[int, Grid | None]] = {}
    for index, raw in details.items():
        if str(raw["name"]) in names:
            source = before.get(index, index)
            grid = _grid(details[source])
            if grid is not None or raw["dtype"] is np.float32:
                found[str(raw["name"])] = (source if grid is not None else index, grid)
    return found


def _grid(raw: Mapping[str, Any]) -> Grid | None:
    """None for a float tensor, or one with a scale per channel."""
    scale, zero_point = raw["quantization"]
    dtype = np.dtype(raw["dtype"])
    if not scale or dtype.kind not in "iu":
        return None
    limits, step = np.iinfo(dtype), float(scale)
    return Grid(step, int(zero_point), (limits.min - zero_point) * step, (limits.max - zero_point) * step, dtype.name)


def _tensor(interpreter: Any, index: int) -> Array | None:
    try:
        return np.asarray(interpreter.get_tensor(index))
    except ValueError:  # tensors inside a fused operator are never materialised
        return None
