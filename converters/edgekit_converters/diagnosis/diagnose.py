"""Which layers of an int8 model cost accuracy: the error of each one's output, and what leaving it at a higher precision
would win, measured.

The error of a layer's output includes what its inputs bring along; a wide range or skewed channels hurt the layers that
read them. So no figure of one tensor tells who is guilty. What does are models made anew: one with that layer alone in
int8, whose outputs are wrong by what it does (its blame; several guilty layers cannot hide behind each other), and one with
all but that layer in int8, whose outputs are nearer to the float model's (its win).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CalibrationError, ConverterError
from ..int8.observations import Observations
from ..int8.options import QuantizeOptions
from ..layers import name_layers
from ..model_card import ModelCard, OpCard
from ..op_costs import count_elements
from ..quantize import ensure_quantizable, quantize
from .fidelity import answers, compare_tensors, right_answers, sqnr_db
from .records import NO_TIME, Diagnosis, LayerDiagnosis, Win, finite, rank_layers

__all__ = ["Diagnosis", "LayerDiagnosis", "Win", "diagnose", "rank_layers"]

Array = npt.NDArray[Any]
Progress = Callable[[int, int, str], None]
Make = Callable[[Sequence[int], Sequence[int]], bytes]
PLAIN = QuantizeOptions()
# What a layer's values pass through without being computed with: its neighbours are behind.
_PASSED = frozenset(
    {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "GATHER", "PAD", "PADV2"}
    | {"MAX_POOL_2D", "AVERAGE_POOL_2D", "CONCATENATION", "SPLIT"}
)
# Tensors are compared on all samples, or on so few that this many elements are read: large ones need fewer samples.
COMPARED_ELEMENTS, LEAST_COMPARED = 200_000_000, 32
KEPT_ALREADY = "not measured: the recipe keeps it at a higher precision already"
NOT_ASKED = "not measured: it was not asked for"
NO_FLOATS = "not measured: it computes with integers in the float model too"


def diagnose(
    float_model: bytes,
    samples: Mapping[str, Array],
    *,
    layers: Sequence[str | None] = (),
    options: QuantizeOptions = PLAIN,
    precision: str = "int8",
    measured_on: Mapping[str, Array] | None = None,
    labels: Array | None = None,
    wins: bool = True,
    budget_s: float | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Compare ``float_model`` with the model that ``quantize`` makes of it, layer by layer.

    ``samples`` calibrate; errors and wins are measured on ``measured_on`` (by default the same), whose integer ``labels``
    of shape (N,) give accuracies. ``layers`` names the layer of every operator, as the export does; without it the
    scopes in the file do. Blame is measured from the layer that adds most error on, for half of ``budget_s`` seconds, and
    then wins, from the guiltiest on; None measures all. Without ``wins`` all the time is for blame, which ranks.

    Raises CalibrationError for samples that do not fit, PromiseError when the model cannot be quantized, and
    UnsupportedModelError when it is none to quantize.
    """
    started = time.perf_counter()
    bench = _Bench.of(float_model, samples, options, precision, measured_on or samples, labels)
    names = tuple(layers) or name_layers(float_model)
    if len(names) != len(bench.card.ops):
        raise CalibrationError(
            f"expected the layer of each of the {len(bench.card.ops)} operators, got {len(names)} names: leave layers out"
        )
    clock = _Clock(started, budget_s, progress)
    compared = _compared(bench, list(_groups(bench.card, names)))
    found, blamed = _each(
        compared, clock.until(0.5 if wins else 1.0), lambda layer: replace(layer, alone=bench.alone(layer.op_indices))
    )
    found, measured = _ranked(bench.card, found), 0
    if wins:
        found, measured = _each(found, clock.until(1.0), lambda layer: _with_wins(bench, layer))
    found = [layer if layer.win.asked else _unmeasured(layer, NO_TIME if wins else NOT_ASKED) for layer in found]
    base = bench.base
    return Diagnosis(
        layers=tuple(_ranked(bench.card, found)),
        samples=bench.count,
        output_sqnr_db=finite(base.sqnr_db),
        float_accuracy=bench.reference_accuracy,
        int8_accuracy=base.accuracy,
        agreement=bench.agreement,
        blamed=blamed,
        measured=measured,
        seconds=time.perf_counter() - started,
        precision=precision,
        options=options.to_dict(),
    )


@dataclass(frozen=True)
class _Clock:
    """When which part of the time is spent; tells ``progress`` of what is done of it."""

    started: float
    budget_s: float | None
    progress: Progress | None

    def until(self, share: float) -> Callable[[int, int, str], bool]:
        """Whether there is time for one more of what takes as long as those before, within ``share`` of the time."""
        began = time.perf_counter()

        def enough(done: int, total: int, text: str) -> bool:
            now = time.perf_counter()
            each = (now - began) / done if done else 0.0
            if self.budget_s is not None and now - self.started + each > share * self.budget_s:
                return False
            if self.progress is not None:
                self.progress(done, total, text)
            return True

        return enough


@dataclass(frozen=True)
class _Score:
    """How near a model's answers are to the float model's, in dB and as noise / signal, and how right they are."""

    sqnr_db: float | None
    noise: float | None
    accuracy: float | None


@dataclass(frozen=True)
class _Bench:
    """The float model, what makes quantized ones of it, and the samples they are judged on."""

    float_model: bytes
    card: ModelCard
    make: Make
    quantized: bytes
    inputs: Mapping[str, Array]
    labels: Array | None
    reference: list[Array]
    base: _Score
    agreement: float | None
    kept: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls,
        float_model: bytes,
        samples: Mapping[str, Array],
        options: QuantizeOptions,
        precision: str,
        inputs: Mapping[str, Array],
        labels: Array | None,
    ) -> _Bench:
        ensure_quantizable(float_model)
        seen = Observations(float_model, samples)
        if options.equalize:  # another float model with the same answers: its layers are what int8 renders
            seen, options = seen.equalized()[1], replace(options, equalize=False)
            float_model = seen.float_model
        make = _maker(seen, options, precision)
        quantized = make((), ())
        reference, ours = answers(float_model, inputs), answers(quantized, inputs)
        card = ensure_quantizable(float_model)
        base, kept = _score(reference, ours, labels), frozenset({*options.keep_float, *options.keep_int16})
        agreement = _agreement(reference, ours)
        return cls(float_model, card, make, quantized, inputs, labels, reference, base, agreement, kept)

    @property
    def count(self) -> int:
        """How many samples models are judged on."""
        return len(next(iter(self.inputs.values())))

    @cached_property
    def computing(self) -> set[int]:
        """The operators that compute with floats in the float model."""
        floats = _floats(self.card)
        return {op.index for op in self.card.ops if {*op.inputs, *op.outputs} & floats}

    @property
    def reference_accuracy(self) -> float | None:
        """Of the float model."""
        return _accuracy(self.reference, self.labels)

    def alone(self, ops: Sequence[int]) -> float | None:
        """Noise / signal at the outputs with only these operators in int8; None where that cannot be made."""
        if not ops:
            return None
        if self.kept.issuperset(ops):
            return 0.0
        others = sorted(self.computing - set(ops))
        try:
            return _score(self.reference, answers(self.make(others, ()), self.inputs), None).noise
        except ConverterError:
            return None

    def win(self, keep_float: Sequence[int] = (), keep_int16: Sequence[int] = ()) -> Win:
        """What keeping these operators wins; a model that cannot be made is the reason."""
        kept = tuple(sorted({*keep_float, *keep_int16}))
        if self.computing <= set(kept):
            return Win(kept, reason="that is the whole model")
        try:
            score = _score(self.reference, answers(self.make(keep_float, keep_int16), self.inputs), self.labels)
        except ConverterError as error:
            return Win(kept, reason=f"cannot be made: {error}")
        if self.base.sqnr_db is None or score.sqnr_db is None:
            return Win(kept, reason="the model has no float output to measure the error of")
        gained = 0.0 if score.sqnr_db == self.base.sqnr_db else score.sqnr_db - self.base.sqnr_db
        known = self.base.accuracy is not None and score.accuracy is not None
        reason = "the outputs become exact" if math.isinf(gained) else ""
        return Win(kept, gained, score.accuracy - self.base.accuracy if known else None, reason)  # type: ignore[operator]


def _maker(seen: Observations, options: QuantizeOptions, precision: str) -> Make:
    def make(keep_float: Sequence[int], keep_int16: Sequence[int]) -> bytes:
        floats = tuple(sorted({*options.keep_float, *keep_float}))
        wide = tuple(sorted({*options.keep_int16, *keep_int16} - set(floats)))
        wanted = replace(options, keep_float=floats, keep_int16=wide)
        made = quantize(seen.float_model, precision=precision, samples=seen.samples, options=wanted, observations=seen)
        return made.tflite

    return make


def _groups(card: ModelCard, names: Sequence[str | None]) -> Iterator[tuple[str, list[OpCard]]]:
    """Consecutive operators of one layer; one the converter inserted is a group of its own."""
    group: list[OpCard] = []
    for place, (op, name) in enumerate(zip(card.ops, names, strict=True)):
        group.append(op)
        following = names[place + 1] if place + 1 < len(names) else None
        if name is None or following != name:
            yield (name or f"{op.type.lower()} {op.index}"), group
            group = []


def _compared(bench: _Bench, groups: Sequence[tuple[str, list[OpCard]]]) -> list[LayerDiagnosis]:
    """Every layer with the error of its output, and what of it came in."""
    variable = _floats(bench.card)
    touched = {index for op in bench.card.ops for index in (*op.inputs, *op.outputs)} & variable
    elements = sum(count_elements(bench.card.tensors[index].shape) for index in touched)
    rows = max(LEAST_COMPARED, COMPARED_ELEMENTS // max(1, elements))
    few = {name: values[:rows] for name, values in bench.inputs.items()}
    seen = compare_tensors(bench.float_model, bench.quantized, few, sorted(touched))
    found = []
    for name, ops in groups:
        inside = {index for op in ops for index in op.outputs}
        read = {index for op in ops for index in op.inputs} - inside
        output = next((seen[index] for index in ops[-1].outputs if index in seen), None)
        inherited = max((seen[index].noise or 0.0 for index in read if index in seen), default=0.0)
        noise = (output.noise if output is not None else None) or 0.0
        kept = tuple(op.index for op in ops if op.index in bench.computing)
        types, readers = tuple(op.type for op in ops), tuple(sorted(_readers(bench.card, kept)))
        found.append(LayerDiagnosis(name, types, kept, output, inherited, max(0.0, noise - inherited), readers))
    return found


def _floats(card: ModelCard) -> set[int]:
    """The float tensors that are computed."""
    return {tensor.index for tensor in card.tensors if not tensor.constant and tensor.dtype == "float32"}


def _each(
    layers: Sequence[LayerDiagnosis],
    enough: Callable[[int, int, str], bool],
    measure: Callable[[LayerDiagnosis], LayerDiagnosis],
) -> tuple[list[LayerDiagnosis], int]:
    """The layers, measured from the guiltiest on as long as there is time, and how many were."""
    found = list(layers)
    order = sorted(range(len(found)), key=lambda i: _by_guilt(found[i], i))
    for place, number in enumerate(order):
        if not enough(place, len(order), found[number].layer):
            return found, place
        found[number] = measure(found[number])
    return found, len(found)


def _with_wins(bench: _Bench, layer: LayerDiagnosis) -> LayerDiagnosis:
    if not layer.op_indices:
        return _unmeasured(layer, NO_FLOATS)
    if bench.kept.issuperset(layer.op_indices):
        return _unmeasured(layer, KEPT_ALREADY)
    joint = tuple(sorted({*layer.op_indices, *layer.readers}))
    alone = bench.win(keep_float=layer.op_indices)
    both = bench.win(keep_float=joint) if joint != layer.op_indices else alone
    return replace(layer, win=alone, win_joint=both, win_int16=bench.win(keep_int16=joint))


def _unmeasured(layer: LayerDiagnosis, reason: str) -> LayerDiagnosis:
    nothing = Win(reason=reason)
    return replace(layer, win=nothing, win_joint=nothing, win_int16=nothing)


def _readers(card: ModelCard, ops: Sequence[int]) -> set[int]:
    """The operators that compute with what ``ops`` give, and those their values pass through on the way."""
    variable = _floats(card)
    found: set[int] = set()
    fresh = list(ops)
    while fresh:
        given = {index for op in fresh for index in card.ops[op].outputs} & variable
        readers = [op.index for op in card.ops if set(op.inputs) & given and op.index not in found]
        found.update(readers)
        fresh = [index for index in readers if card.ops[index].type in _PASSED]
    return found - set(ops)


def _ranked(card: ModelCard, layers: Sequence[LayerDiagnosis]) -> list[LayerDiagnosis]:
    """With guilt and ranks: by guilt where it was measured, then by the error added."""
    maker = {index: layer for layer in layers for op in layer.op_indices for index in card.ops[op].outputs}
    judged = [replace(layer, guilt=_guilt(card, layer, maker)) for layer in layers]
    order = sorted(range(len(judged)), key=lambda i: _by_guilt(judged[i], i))
    ranks = {number: place + 1 for place, number in enumerate(order)}
    return [replace(layer, rank=ranks[number]) for number, layer in enumerate(judged)]


def _by_guilt(layer: LayerDiagnosis, place: int) -> tuple[bool, float, float, int]:
    return layer.guilt is None, -(layer.guilt or 0.0), -layer.added, place


def _guilt(card: ModelCard, layer: LayerDiagnosis, maker: Mapping[int, LayerDiagnosis]) -> float | None:
    """What the layer does alone, less what is the doing of a tensor it reads: that of rounding it, at most."""
    if layer.alone is None:
        return None
    read = {index for op in layer.op_indices for index in card.ops[op].inputs}
    before = [maker[index] for index in read if index in maker and maker[index] is not layer]
    theirs = max((item.grid_share * min(item.alone or 0.0, layer.alone) for item in before), default=0.0)
    return max(0.0, layer.alone - theirs)


def _score(reference: Sequence[Array], outputs: Sequence[Array], labels: Array | None) -> _Score:
    sums = [
        (float(np.square(x, dtype=np.float64).sum()), float(np.square(x - q, dtype=np.float64).sum()))
        for x, q in zip(reference, outputs, strict=True)
        if x.dtype.kind == "f" and np.any(x)
    ]
    if not sums:
        return _Score(None, None, _accuracy(outputs, labels))
    ratios = [sqnr_db(*pair) for pair in sums]
    mean = float(np.mean([math.inf if ratio is None else ratio for ratio in ratios]))
    return _Score(mean, float(np.mean([noise / signal for signal, noise in sums])), _accuracy(outputs, labels))


def _accuracy(outputs: Sequence[Array], labels: Array | None) -> float | None:
    right = right_answers(list(outputs), labels)
    return None if right is None else float(right.mean())


def _agreement(reference: Sequence[Array], outputs: Sequence[Array]) -> float | None:
    scores = reference[0]
    if scores.ndim != 2 or scores.shape[1] < 2 or scores.dtype.kind != "f":
        return None
    return float(np.mean(scores.argmax(axis=1) == outputs[0].argmax(axis=1)))
