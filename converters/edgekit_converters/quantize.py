"""A float .tflite in, the same model at another precision out.

The public post-training quantizer works on the flatbuffer (no TensorFlow, no second export); where it leaves operators
of a full-integer model in float, TFLite's own quantizer takes over.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .calibrate import Ranges, collect_ranges
from .errors import CalibrationError, ConverterError, MissingPackageError, PromiseError, UnsupportedModelError
from .model_card import ModelCard, read_model_card
from .op_costs import count_elements
from .reason import first_line
from .verify import MIN_KERNEL_ELEMENTS, PRECISIONS, verify

__all__ = ["Quantized", "ensure_quantizable", "needs_calibration", "quantize"]

Array = npt.NDArray[Any]
IO_TYPES = ("float32", "int8", "uint8")
# No scale below this: 6 / scale must fit int32, or the runtimes refuse a fused ReLU6 (kernel_util.cc,
# no_integer_overflow_from_quantization). Only dead tensors of untrained networks come near it.
SMALLEST_SCALE = 1e-8
LEVELS = {"int8": 255, "int16x8": 32767}


@dataclass(frozen=True)
class Quantized:
    """The bytes, which quantizer made them, and the types of their inputs and outputs."""

    tflite: bytes
    quantizer: str
    input_type: str
    output_type: str


def needs_calibration(precision: str) -> bool:
    """Whether ``precision`` quantizes activations ahead of time."""
    return precision in LEVELS


def quantize(
    float_model: bytes,
    *,
    precision: str,
    input_type: str = "float32",
    output_type: str = "float32",
    samples: Mapping[str, Array] | None = None,
    ranges: Ranges | None = None,
) -> Quantized:
    """Quantize and verify.

    ``samples`` (arrays of shape (N, …), preprocessed) are needed for int8 and int16x8; ``ranges`` from an earlier pass
    over the same samples spare another one. ``input_type`` and ``output_type`` are float32, int8 or uint8 and apply to
    int8; every other precision keeps float32 there.

    Raises CalibrationError without samples, PromiseError when the result is not what ``precision`` promises,
    UnsupportedModelError when ``float_model`` is not float32 or a name is unknown.
    """
    _check_choice("precision", precision, PRECISIONS)
    _check_choice("input type", input_type, IO_TYPES)
    _check_choice("output type", output_type, IO_TYPES)
    card = ensure_quantizable(float_model)
    if precision != "int8":
        input_type = output_type = "float32"
    if precision == "float32":
        return _verified(float_model, precision, "none", input_type, output_type)
    if not needs_calibration(precision):
        recipe = _float16_recipe() if precision == "float16" else _dynamic_recipe(card)
        made = _run_quantizer(float_model, recipe, None)
        _ensure_changed(made, precision)
        return _verified(made, precision, "ai-edge-quantizer", input_type, output_type)
    if samples is None:
        raise CalibrationError(f"{precision} needs calibration samples: give data with training samples (--data)")
    try:
        found = collect_ranges(float_model, samples) if ranges is None else ranges
        statistics = _statistics(card, _widened(found, LEVELS[precision]))
        made = _run_quantizer(float_model, _static_recipe(precision, input_type, output_type), statistics)
        return _verified(made, precision, "ai-edge-quantizer", input_type, output_type)
    except (PromiseError, _QuantizerGap) as gap:
        return _fall_back(float_model, precision, input_type, output_type, samples, gap)


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


class _QuantizerGap(ConverterError):
    """The flatbuffer quantizer cannot take this model; another one may."""


def _fall_back(
    float_model: bytes,
    precision: str,
    input_type: str,
    output_type: str,
    samples: Mapping[str, Array],
    gap: ConverterError,
) -> Quantized:
    from .quantize_mlir import quantize_mlir

    if read_model_card(float_model).subgraphs > 1:
        # TFLite's own quantizer ends the process on such a model (LSTM and GRU, TensorFlow 2.21).
        raise PromiseError(
            f"{gap}. The model has a loop, whose body no quantizer converts: build its recurrent layers with unroll=True",
            problems=gap.problems if isinstance(gap, PromiseError) else (),
        ) from gap
    reason: ConverterError = gap
    try:
        for made in quantize_mlir(
            float_model, precision=precision, input_type=input_type, output_type=output_type, samples=samples
        ):
            try:
                return _verified(made, precision, "tflite-converter", input_type, output_type)
            except PromiseError as error:
                reason = error
    except (PromiseError, MissingPackageError) as error:
        problems = gap.problems if isinstance(gap, PromiseError) else ()
        raise PromiseError(f"{gap}. TFLite's own quantizer was tried too: {error}", problems=problems) from error
    raise reason


def _verified(tflite: bytes, precision: str, quantizer: str, input_type: str, output_type: str) -> Quantized:
    card = read_model_card(tflite)
    verify(card, precision=precision, input_type=input_type, output_type=output_type)
    _try_out(tflite, precision)
    return Quantized(tflite, quantizer, card.inputs[0].dtype, card.outputs[0].dtype)


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


def _run_quantizer(float_model: bytes, recipe: list[dict[str, Any]], statistics: Any) -> bytes:
    try:
        from ai_edge_quantizer import quantizer
    except ImportError as error:
        raise MissingPackageError('this needs ai-edge-quantizer. Install it: pip install "edgekit[keras]"') from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of its own use of the runtime, which is no concern of the caller
            result = quantizer.Quantizer(float_model, recipe).quantize(
                statistics, enable_progress_bar=False, enable_progress_report=False
            )
    except Exception as error:  # it raises ValueError, KeyError, AssertionError … for operators it does not know
        raise _QuantizerGap(f"the quantizer cannot take this model: {first_line(error)}") from error
    return bytes(result.quantized_model)


def _float16_recipe() -> list[dict[str, Any]]:
    weights = {"num_bits": 16, "dtype": "FLOAT"}
    config = {"weight_tensor_config": weights, "compute_precision": "FLOAT", "explicit_dequantize": True}
    return [{"regex": ".*", "operation": "*", "algorithm_key": "float_casting", "op_config": config}]


def _dynamic_recipe(card: ModelCard) -> list[dict[str, Any]]:
    """Kernels of MIN_KERNEL_ELEMENTS and more become int8; every one where all are smaller."""
    constants = (item for item in (*card.tensors, *card.other_tensors) if item.constant)
    largest = max((count_elements(item.shape) for item in constants), default=0)
    weights = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
    config = {
        "weight_tensor_config": weights,
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
        "min_weight_elements": MIN_KERNEL_ELEMENTS if largest >= MIN_KERNEL_ELEMENTS else 0,
    }
    return [{"regex": ".*", "operation": "*", "algorithm_key": "min_max_uniform_quantize", "op_config": config}]


def _static_recipe(precision: str, input_type: str, output_type: str) -> list[dict[str, Any]]:
    weights = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
    bits = 8 if precision == "int8" else 16
    activations = {"num_bits": bits, "symmetric": bits == 16, "granularity": "TENSORWISE", "dtype": "INT"}
    config = {
        "activation_tensor_config": activations,
        "weight_tensor_config": weights,
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
    }
    recipe: list[dict[str, Any]] = [
        {"regex": ".*", "operation": "*", "algorithm_key": "min_max_uniform_quantize", "op_config": config}
    ]
    for operation, kind in (("INPUT", input_type), ("OUTPUT", output_type)):
        boundary: dict[str, Any] = {"regex": ".*", "operation": operation}
        if kind == "float32":
            recipe.append({**boundary, "algorithm_key": "no_quantize", "op_config": {}})
        elif kind == "uint8":
            unsigned = {**config, "activation_tensor_config": {**activations, "dtype": "UINT"}}
            recipe.append({**boundary, "algorithm_key": "min_max_uniform_quantize", "op_config": unsigned})
    return recipe


def _widened(ranges: Ranges, levels: int) -> Ranges:
    """Ranges whose scale is at least SMALLEST_SCALE."""
    least = SMALLEST_SCALE * levels
    return {name: (min(low, 0.0), max(high, low + least, least)) for name, (low, high) in ranges.items()}


def _statistics(card: ModelCard, ranges: Ranges) -> dict[str, dict[str, Array]]:
    """Ranges in the quantizer's form: arrays of the tensor's rank with one element."""
    ranks = {tensor.name: len(tensor.shape) for tensor in card.tensors}
    return {
        name: {
            "min": np.full((1,) * ranks.get(name, 1), low, np.float32),
            "max": np.full((1,) * ranks.get(name, 1), high, np.float32),
        }
        for name, (low, high) in ranges.items()
    }
