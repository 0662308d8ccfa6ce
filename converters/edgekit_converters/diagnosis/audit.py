"""The calibration audit: what the samples cover, which of them stretch a range, whether they are prepared as in training,
and what more or fewer of them would change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConverterError
from ..int8.options import QuantizeOptions
from ..layers import name_layers
from ..model_card import ModelCard
from ..quantize import ensure_quantizable, quantize
from .extremes import Extremes, Outliers, collect_extremes, find_outliers, shares_inside
from .fidelity import answers, sqnr_db
from .findings import Finding, findings_of
from .hypotheses import Trial, try_hypotheses

__all__ = ["Amount", "Audit", "TensorAudit", "audit"]

Array = npt.NDArray[Any]
Progress = Callable[[int, int, str], None]
PLAIN = QuantizeOptions()
# Every hypothesis runs the float model on so many samples, on fewer of them where it is large.
TRIED_SAMPLES, LEAST_TRIED, TRIED_MACS = 256, 64, 3 * 10**10
FRACTIONS = (4, 2, 1)


@dataclass(frozen=True)
class TensorAudit:
    """The range of one input, or of one layer's output, and what made it.

    ``stretch`` is the whole range over that between the percentiles 0.01 and 99.99: 2 is one bit of int8 spent on 0.02 %
    of the values. ``growth`` is by what share of the whole range the second half of the samples widened it. ``covered`` is
    the share of the other samples' values inside; None without others.
    """

    name: str
    low: float
    high: float
    stretch: float | None
    channels: int
    dead_channels: int
    growth: float
    outliers: Outliers | None = None
    covered: float | None = None


@dataclass(frozen=True)
class Amount:
    """An int8 model made of the first ``samples``: its SQNR in dB at the outputs, and how often it answers as float."""

    samples: int
    sqnr_db: float | None
    agreement: float | None


@dataclass(frozen=True)
class Audit:
    """Everything that was looked at, and what it comes to: ``findings``, the gravest first.

    Samples are named by their row numbers, as given. ``classes_seen`` of ``classes`` are among the labels; both are 0
    without labels or classes.
    """

    samples: int
    inputs: tuple[TensorAudit, ...]
    layers: tuple[TensorAudit, ...]
    constant_samples: tuple[int, ...]
    repeated_samples: tuple[int, ...]
    classes_seen: int
    classes: int
    preprocessing: tuple[Trial, ...]
    amounts: tuple[Amount, ...]
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def audit(
    float_model: bytes,
    samples: Mapping[str, Array],
    *,
    labels: Array | None = None,
    others: Mapping[str, Array] | None = None,
    measured_on: Mapping[str, Array] | None = None,
    layers: Sequence[str | None] = (),
    options: QuantizeOptions = PLAIN,
    precision: str = "int8",
    classes: int | None = None,
    rows: Sequence[int] | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    progress: Progress | None = None,
) -> Audit:
    """Audit the calibration ``samples`` (preprocessed, in the order they were drawn) of a float .tflite.

    ``labels`` of shape (N,) are the samples' classes, of which there are ``classes`` (None: as many as the model tells
    apart); ``others`` the inputs of another split that the ranges should cover. Int8 models of a quarter, a half and all
    of the samples are compared on ``measured_on`` (by default ``samples``). ``rows`` are the numbers to call the samples by,
    and ``scale`` and ``offset`` those they were prepared with: advice is in their terms.

    Raises CalibrationError for samples that do not fit, UnsupportedModelError for a model that cannot be quantized.
    """
    say = progress or (lambda done, total, text: None)
    card = ensure_quantizable(float_model)
    names = tuple(layers) or name_layers(float_model)
    watched = _watched(card, names)
    say(0, 4, "ranges")
    extremes = collect_extremes(float_model, samples, sorted(watched))
    covered = {}
    if others is not None:
        say(1, 4, "coverage")
        ranges = {index: item.range_of(slice(None)) for index, item in extremes.items()}
        covered = shares_inside(float_model, others, ranges)
    audits = {index: _tensor(watched[index], extremes[index], covered.get(index)) for index in sorted(extremes)}
    inputs = {tensor.index for tensor in card.inputs}
    known = (
        (classes or _outputs(card)) if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu" else None
    )
    say(2, 4, "preprocessing")
    tried = min(TRIED_SAMPLES, max(LEAST_TRIED, TRIED_MACS // max(1, card.macs)))
    few = {name: np.asarray(values)[:tried] for name, values in samples.items()}
    trials = try_hypotheses(float_model, few, None if labels is None else labels[:tried])
    say(3, 4, "amounts")
    found = Audit(
        samples=len(next(iter(samples.values()))),
        inputs=tuple(item for index, item in audits.items() if index in inputs),
        layers=tuple(item for index, item in audits.items() if index not in inputs),
        constant_samples=_constant(samples),
        repeated_samples=_repeated(samples),
        classes_seen=0 if labels is None or known is None else len(np.unique(labels)),
        classes=0 if labels is None or known is None else known,
        preprocessing=tuple(_in_terms_of(trial, scale, offset) for trial in trials),
        amounts=_amounts(float_model, samples, measured_on or samples, options, precision),
    )
    if rows is not None:
        found = _renumbered(found, rows)
    return replace(found, findings=findings_of(found))


def _renumbered(found: Audit, rows: Sequence[int]) -> Audit:
    """With samples called by ``rows`` instead of their place."""

    def called(places: Sequence[int]) -> tuple[int, ...]:
        return tuple(int(rows[place]) for place in places)

    def tensor(item: TensorAudit) -> TensorAudit:
        if item.outliers is None:
            return item
        ends = Outliers(called(item.outliers.low_samples), called(item.outliers.high_samples), item.outliers.shrink)
        return replace(item, outliers=ends)

    return replace(
        found,
        inputs=tuple(map(tensor, found.inputs)),
        layers=tuple(map(tensor, found.layers)),
        constant_samples=called(found.constant_samples),
        repeated_samples=called(found.repeated_samples),
    )


def _watched(card: ModelCard, names: Sequence[str | None]) -> dict[int, str]:
    """The inputs and every layer's last float output, with what to call them."""
    floats = {tensor.index: tensor.name for tensor in card.tensors if tensor.dtype == "float32" and not tensor.constant}
    found = {tensor.index: f"input {tensor.name}" for tensor in card.inputs if tensor.index in floats}
    last: dict[str, int] = {}
    for op, name in zip(card.ops, names, strict=False):
        if name is not None and op.outputs and op.outputs[0] in floats:
            last[name] = op.outputs[0]
    return {**{index: name for name, index in last.items()}, **found}


def _tensor(name: str, extremes: Extremes, covered: float | None) -> TensorAudit:
    low, high = extremes.range_of(slice(None))
    half_low, half_high = extremes.range_of(slice(0, max(1, len(extremes.lows) // 2)))
    core = extremes.high_tail - extremes.low_tail
    return TensorAudit(
        name=name,
        low=low,
        high=high,
        stretch=(high - low) / core if core > 0 else None,
        channels=extremes.channels,
        dead_channels=extremes.dead,
        growth=1 - (half_high - half_low) / (high - low) if high > low else 0.0,
        outliers=find_outliers(extremes),
        covered=covered,
    )


def _constant(samples: Mapping[str, Array]) -> tuple[int, ...]:
    """Samples that hold one single value in an input of more than one."""
    flat = [np.asarray(values).reshape(len(values), -1) for values in samples.values()]
    same = [rows.min(axis=1) == rows.max(axis=1) for rows in flat if rows.shape[1] > 1]
    return tuple(int(i) for i in np.flatnonzero(np.any(same, axis=0))) if same else ()


def _repeated(samples: Mapping[str, Array]) -> tuple[int, ...]:
    """Samples that are equal to an earlier one in every input."""
    arrays = [np.asarray(values) for values in samples.values()]
    seen: set[bytes] = set()
    found = []
    for row in range(len(arrays[0])):
        content = b"".join(values[row].tobytes() for values in arrays)
        if content in seen:
            found.append(row)
        seen.add(content)
    return tuple(found)


def _outputs(card: ModelCard) -> int | None:
    """How many classes the model tells apart."""
    shape = card.outputs[0].shape
    return shape[1] if len(shape) == 2 and shape[1] > 1 else None


def _in_terms_of(trial: Trial, scale: float, offset: float) -> Trial:
    """With the scale and offset to apply to raw samples, where the change is one of those."""
    if trial.scale is None or trial.offset is None:
        return trial
    return replace(trial, scale=trial.scale * scale, offset=trial.scale * offset + trial.offset)


def _amounts(
    float_model: bytes,
    samples: Mapping[str, Array],
    measured_on: Mapping[str, Array],
    options: QuantizeOptions,
    precision: str,
) -> tuple[Amount, ...]:
    """The int8 models of a quarter, a half and all of the samples; none where the model cannot be quantized."""
    count = len(next(iter(samples.values())))
    reference = answers(float_model, measured_on)
    found = []
    for number in sorted({max(1, count // fraction) for fraction in FRACTIONS}):
        part = {name: values[:number] for name, values in samples.items()}
        try:
            made = quantize(float_model, precision=precision, samples=part, options=options)
        except ConverterError:
            return ()
        found.append(_amount(number, reference, answers(made.tflite, measured_on)))
    return tuple(found)


def _amount(number: int, reference: Sequence[Array], outputs: Sequence[Array]) -> Amount:
    ratios = [
        sqnr_db(float(np.square(x, dtype=np.float64).sum()), float(np.square(x - q, dtype=np.float64).sum()))
        for x, q in zip(reference, outputs, strict=True)
        if x.dtype.kind == "f"
    ]
    known = [ratio for ratio in ratios if ratio is not None]
    scores, ours = reference[0], outputs[0]
    classes = scores.ndim == 2 and scores.shape[1] > 1 and scores.dtype.kind == "f"
    agreement = float(np.mean(scores.argmax(axis=1) == ours.argmax(axis=1))) if classes else None
    return Amount(number, float(np.mean(known)) if known else None, agreement)
