"""A float .tflite in, the same model at another precision out.

The public post-training quantizer works on the flatbuffer (no TensorFlow, no second export); where it leaves operators
of a full-integer model in float, TFLite's own quantizer takes over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import (
    CalibrationError,
    ConverterError,
    MissingPackageError,
    PromiseError,
    TechniqueError,
    UnsupportedModelError,
)
from .int8.calibrate import Ranges
from .int8.observations import Observations
from .int8.options import QuantizeOptions
from .int8.plain_form import plain_form
from .int8.quantize_flat import (
    SMALLEST_SCALE,
    QuantizerGap,
    dynamic_recipe,
    float16_recipe,
    kept_operators,
    run_quantizer,
    static_recipe,
    statistics,
    widened,
)
from .int8.surgery import FlatModel
from .model_card import ModelCard, read_model_card
from .reason import first_line
from .verify import PRECISIONS, verify

__all__ = ["SMALLEST_SCALE", "QuantizeOptions", "Quantized", "ensure_quantizable", "needs_calibration", "quantize"]

Array = npt.NDArray[Any]
IO_TYPES = ("float32", "int8", "uint8")
LEVELS = {"int8": 255, "int16x8": 32767}
MIXED = "mixed-int8"
PLAIN = QuantizeOptions()
_LOOP = "The model has a loop, whose body no quantizer converts: build its recurrent layers with unroll=True"


@dataclass(frozen=True)
class Quantized:
    """The bytes, who made them, the types of their inputs and outputs, and what was done to get them.

    ``precision`` is the promise they keep. ``kept`` counts, by precision (float32, int16) and type, the operators left
    out of int8; ``equalized`` are the pairs of operators (indices in the float model) whose channels were balanced;
    ``corrected`` the operators (indices in the result) whose biases were.
    """

    tflite: bytes
    quantizer: str
    input_type: str
    output_type: str
    precision: str = ""
    calibration: str = "none"
    kept: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    equalized: tuple[tuple[int, int], ...] = ()
    corrected: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Wanted:
    """What a static quantization is to give: its promise, its ends, the options, and what is kept by precision and type."""

    precision: str
    input_type: str
    output_type: str
    options: QuantizeOptions
    kept: Mapping[str, Mapping[str, int]]

    @property
    def base(self) -> str:
        """The precision of all that is not kept."""
        return "int8" if self.precision == MIXED else self.precision


def needs_calibration(precision: str) -> bool:
    """Whether ``precision`` quantizes activations ahead of time."""
    return precision in LEVELS or precision == MIXED


def quantize(
    float_model: bytes,
    *,
    precision: str,
    input_type: str = "float32",
    output_type: str = "float32",
    samples: Mapping[str, Array] | None = None,
    ranges: Ranges | None = None,
    options: QuantizeOptions = PLAIN,
    observations: Observations | None = None,
) -> Quantized:
    """Quantize and verify.

    ``samples`` (arrays of shape (N, …), preprocessed) are needed for int8, mixed-int8 and int16x8; ``ranges`` of
    ``float_model`` found before over the same samples spare another pass, and are used as they are. ``input_type`` and
    ``output_type`` are float32, int8 or uint8 and apply to int8 and mixed-int8; every other precision keeps float32
    there. ``options`` are for int8, which they turn into mixed-int8 where they keep operators at a higher precision.
    ``observations`` of ``float_model`` on the samples spare passes over them from one quantization to the next.

    Raises CalibrationError without samples, PromiseError when the result is not what its precision promises,
    TechniqueError for options that do not fit, UnsupportedModelError when ``float_model`` is not float32 or a name is
    unknown.
    """
    _check_choice("precision", precision, PRECISIONS)
    _check_choice("input type", input_type, IO_TYPES)
    _check_choice("output type", output_type, IO_TYPES)
    card = ensure_quantizable(float_model)
    precision = _promised(precision, options, ranges)
    if precision not in ("int8", MIXED):
        input_type = output_type = "float32"
    if precision == "float32":
        return _verified(float_model, "none", _Wanted(precision, input_type, output_type, options, {}))
    if not needs_calibration(precision):
        recipe = float16_recipe() if precision == "float16" else dynamic_recipe(card)
        made = run_quantizer(float_model, recipe, None)
        _ensure_changed(made, precision)
        return _verified(made, "ai-edge-quantizer", _Wanted(precision, input_type, output_type, options, {}))
    if samples is None:
        raise CalibrationError(f"{precision} needs calibration samples: give data with training samples (--data)")
    kept = {"float32": _count(card, options.keep_float), "int16": _count(card, options.keep_int16)}
    wanted = _Wanted(precision, input_type, output_type, options, kept if options.mixed else {})
    seen = observations or Observations(float_model, samples)
    if seen.float_model != float_model:
        raise TechniqueError("expected observations of the model to quantize, got those of another: observe this one")
    return _quantize_static(seen, wanted, samples, ranges)


def _promised(precision: str, options: QuantizeOptions, ranges: Ranges | None) -> str:
    """The precision of the result; raises TechniqueError for options that do not fit it."""
    if precision == MIXED and not options.mixed:
        raise TechniqueError(
            "expected operators to keep (keep_float, keep_int16) for mixed-int8, got none: name some, or choose int8"
        )
    if precision not in ("int8", MIXED) and options != PLAIN:
        raise TechniqueError(
            f"expected quantization options with int8 only, got them with {precision}: choose int8, or leave them out"
        )
    if ranges is not None and options.equalize:
        raise TechniqueError("expected no ranges beside equalize, which changes them: leave out one of the two")
    return MIXED if options.mixed else precision


def _count(card: ModelCard, indices: Sequence[int]) -> dict[str, int]:
    """How many operators of each type are to be kept; raises TechniqueError for what is no operator with floats."""
    for index in indices:
        if index >= len(card.ops):
            raise TechniqueError(
                f"expected operators to keep among 0 to {len(card.ops) - 1}, got {index}: see the model's operators in "
                "its model card"
            )
        op = card.ops[index]
        operands = [card.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
        if not any(tensor.dtype == "float32" and not tensor.constant for tensor in operands):
            raise TechniqueError(
                f"expected operators that compute with floats to keep, got {op.type} {index}, which never is quantized: "
                "leave it out"
            )
    return dict(Counter(card.ops[index].type for index in indices))


def _quantize_static(
    seen: Observations, wanted: _Wanted, samples: Mapping[str, Array], ranges: Ranges | None
) -> Quantized:
    """The steps around the quantizer: balance, calibrate, quantize, share codes, correct."""
    options = wanted.options
    pairs: tuple[tuple[int, int], ...] = ()
    if options.equalize:
        balanced, seen = seen.equalized()
        pairs = balanced.pairs
    found = seen.ranges(options.calibration, options.percentile) if ranges is None else ranges
    made = _by_either(seen.float_model, wanted, samples, found)
    if options.share_codes:
        made = _shared(seen.float_model, made, wanted)
    if options.correct_bias:
        made = _corrected(seen.float_model, made, wanted, samples)
    return replace(made, calibration=options.calibration, equalized=pairs)


def _by_either(float_model: bytes, wanted: _Wanted, samples: Mapping[str, Array], ranges: Ranges) -> Quantized:
    if wanted.options.quantizer == "tflite-converter":
        return _by_mlir(float_model, wanted, samples, ranges)
    try:
        flat = FlatModel(float_model) if wanted.options.mixed else None
        keep_float = [] if flat is None else kept_operators(flat, wanted.options.keep_float)
        keep_int16 = [] if flat is None else kept_operators(flat, wanted.options.keep_int16)
        recipe = static_recipe(
            wanted.base, wanted.input_type, wanted.output_type, keep_float=keep_float, keep_int16=keep_int16
        )
        card = read_model_card(float_model)
        made = run_quantizer(float_model, recipe, statistics(card, widened(ranges, LEVELS[wanted.base])))
        return _verified(made, "ai-edge-quantizer", wanted)
    except (PromiseError, QuantizerGap) as gap:
        if wanted.options.quantizer == "ai-edge-quantizer" or wanted.options.keep_int16:
            raise PromiseError(str(gap), problems=_problems(gap)) from gap
        return _fall_back(float_model, wanted, samples, ranges, gap)


def _shared(float_model: bytes, made: Quantized, wanted: _Wanted) -> Quantized:
    from .int8.shared_codes import share_codes

    shared = share_codes(float_model, made.tflite)
    return made if shared == made.tflite else _verified(shared, made.quantizer, wanted)


def _corrected(float_model: bytes, made: Quantized, wanted: _Wanted, samples: Mapping[str, Array]) -> Quantized:
    from .int8.correct import correct_biases

    better = correct_biases(float_model, made.tflite, samples)
    return replace(_verified(better.tflite, made.quantizer, wanted), corrected=better.ops)


def ensure_quantizable(float_model: bytes) -> ModelCard:
    """The card of a float32 model; raises ModelFileError for bytes that are none, UnsupportedModelError for another."""
    card = read_model_card(float_model)
    custom = [op.type for op in (*card.ops, *card.other_ops) if op.custom]
    if custom:
        raise UnsupportedModelError(
            f"expected TFLite's own operators only, got the custom operator {custom[0]!r}: no plain runtime knows it; "
            "replace the layer it comes from"
        )
    tensors = (*card.tensors, *card.other_tensors)
    other = [item for item in tensors if item.scales or (item.constant and item.dtype in ("float16", "bfloat16"))]
    if other:
        raise UnsupportedModelError(
            f"expected a float32 .tflite to quantize, got one with {len(other)} tensors at another precision "
            f"(the first is {other[0].name!r}, {other[0].dtype}): start from the float model"
        )
    if not card.inputs or not card.outputs:
        raise UnsupportedModelError(
            f"expected a model with inputs and outputs, got {len(card.inputs)} and {len(card.outputs)}: convert it again"
        )
    return card


def _ensure_changed(made: bytes, precision: str) -> None:
    """Raises PromiseError where a weight-only precision found no weight to change."""
    wanted = "float16" if precision == "float16" else "int8"
    card = read_model_card(made)
    if not any(item.constant and item.dtype == wanted for item in (*card.tensors, *card.other_tensors)):
        raise PromiseError(
            f"expected weights that {precision} can make smaller, got a model without any: choose float32"
        )


def _problems(gap: ConverterError) -> tuple[str, ...]:
    return gap.problems if isinstance(gap, PromiseError) else ()


def _fall_back(
    float_model: bytes, wanted: _Wanted, samples: Mapping[str, Array], ranges: Ranges, gap: ConverterError
) -> Quantized:
    """What the second quantizer makes of it; when it cannot either, PromiseError with both reasons."""
    if read_model_card(float_model).subgraphs > 1:
        # TFLite's own quantizer ends the process on such a model (LSTM and GRU, TensorFlow 2.21).
        raise PromiseError(f"{gap}. {_LOOP}", problems=_problems(gap)) from gap
    try:
        return _by_mlir(float_model, wanted, samples, ranges, gap)
    except MissingPackageError as error:
        raise PromiseError(f"{gap}. TFLite's own quantizer was tried too: {error}", problems=_problems(gap)) from error


def _by_mlir(
    float_model: bytes,
    wanted: _Wanted,
    samples: Mapping[str, Array],
    ranges: Ranges,
    gap: ConverterError | None = None,
) -> Quantized:
    """The first attempt of TFLite's own quantizer that keeps the promise; ``gap`` is why it is tried at all."""
    from .int8.quantize_mlir import quantize_mlir

    if read_model_card(float_model).subgraphs > 1:
        raise PromiseError(_LOOP)
    reason = gap
    try:
        for made in quantize_mlir(
            float_model,
            precision=wanted.base,
            input_type=wanted.input_type,
            output_type=wanted.output_type,
            samples=samples,
            ranges=None if wanted.options.calibration == "minmax" else ranges,
            keep_float=wanted.options.keep_float,
        ):
            try:
                return _verified(made, "tflite-converter", wanted)
            except PromiseError as error:
                reason = error
    except PromiseError as error:
        if gap is None:
            raise
        raise PromiseError(f"{gap}. TFLite's own quantizer was tried too: {error}", problems=_problems(gap)) from error
    assert reason is not None
    raise reason


def _verified(tflite: bytes, quantizer: str, wanted: _Wanted) -> Quantized:
    if wanted.base == "int8":
        tflite = plain_form(tflite)
    card = read_model_card(tflite)
    verify(
        card,
        precision=wanted.precision,
        input_type=wanted.input_type,
        output_type=wanted.output_type,
        kept=wanted.kept if wanted.precision == MIXED else None,
    )
    _try_out(tflite, wanted.precision)
    return Quantized(
        tflite, quantizer, card.inputs[0].dtype, card.outputs[0].dtype, precision=wanted.precision, kept=wanted.kept
    )


def _try_out(tflite: bytes, precision: str) -> None:
    """Load it and run it once: a file that no runtime takes is not worth a name. Raises PromiseError."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=tflite)
        interpreter.allocate_tensors()
        for raw in interpreter.get_input_details():  # what is in them else may be no token id
            interpreter.set_tensor(raw["index"], np.zeros(raw["shape"], raw["dtype"]))
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise PromiseError(f"the {precision} model was made but does not run: {first_line(error)}") from error


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UnsupportedModelError(f"expected {what} to be one of {', '.join(choices)}, got {value!r}")
