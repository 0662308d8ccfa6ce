"""A float .tflite in, the same model at another precision out.

The public post-training quantizer works on the flatbuffer (no TensorFlow, no second export); where it leaves operators
of a full-integer model in float, TFLite's own quantizer takes over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .calibrate import Ranges, collect_ranges
from .errors import CalibrationError, ConverterError, MissingPackageError, PromiseError, UnsupportedModelError
from .model_card import ModelCard, read_model_card
from .verify import verify

__all__ = ["PRECISIONS", "Quantized", "needs_calibration", "quantize"]

Array = npt.NDArray[Any]
PRECISIONS = ("float32", "float16", "dynamic-int8", "int8", "int16x8")
# No scale below this: 6 / scale must fit int32, or the runtimes refuse a fused ReLU6 (kernel_util.cc,
# no_integer_overflow_from_quantization). Only dead tensors of untrained networks come near it.
SMALLEST_SCALE = 1e-8
LEVELS = {"int8": 255, "int16x8": 32767}
# The converter's own rule: quantizing a smaller kernel saves less than its scales cost.
LEAST_WEIGHTS = 1024


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
    UnsupportedModelError when ``float_model`` is quantized already.
    """
    if precision not in PRECISIONS:
        raise UnsupportedModelError(f"expected a precision of {', '.join(PRECISIONS)}, got {precision!r}")
    card = read_model_card(float_model)
    _ensure_float(card)
    if precision != "int8":
        input_type = output_type = "float32"
    if precision == "float32":
        return _verified(float_model, precision, "none", input_type, output_type)
    if precision in ("float16", "dynamic-int8"):
        recipe = _float16_recipe() if precision == "float16" else _dynamic_recipe()
        return _verified(
            _run_quantizer(float_model, recipe, None), precision, "ai-edge-quantizer", input_type, output_type
        )
    if samples is None:
        raise CalibrationError(f"{precision} needs calibration samples: give data with training samples (--data)")
    try:
        widened = _widened(ranges or collect_ranges(float_model, samples), LEVELS[precision])
        made = _run_quantizer(
            float_model, _static_recipe(precision, input_type, output_type), _statistics(card, widened)
        )
        return _verified(made, precision, "ai-edge-quantizer", input_type, output_type)
    except (PromiseError, _QuantizerGap) as gap:
        return _fall_back(float_model, precision, input_type, output_type, samples, gap)


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

    try:
        made = quantize_mlir(
            float_model, precision=precision, input_type=input_type, output_type=output_type, samples=samples
        )
    except MissingPackageError as error:
        raise PromiseError(f"{gap}. TFLite's own quantizer might do better: {error}") from gap
    return _verified(made, precision, "tflite-converter", input_type, output_type)


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
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines()
        raise PromiseError(
            f"the {precision} model was made but does not run: {lines[0][:300] if lines else error}"
        ) from error


def _ensure_float(card: ModelCard) -> None:
    quantized = [tensor.name for tensor in card.tensors if tensor.scales]
    if quantized:
        raise UnsupportedModelError(
            f"expected a float .tflite to quantize, got one with {len(quantized)} quantized tensors "
            f"(the first is {quantized[0]!r}): start from the float model"
        )


def _run_quantizer(float_model: bytes, recipe: list[dict[str, Any]], statistics: Any) -> bytes:
    try:
        from ai_edge_quantizer import quantizer
    except ImportError as error:
        raise MissingPackageError('this needs ai-edge-quantizer. Install it: pip install "edgekit[keras]"') from error
    try:
        result = quantizer.Quantizer(float_model, recipe).quantize(
            statistics, enable_progress_bar=False, enable_progress_report=False
        )
    except Exception as error:  # it raises ValueError, KeyError, AssertionError … for operators it does not know
        lines = str(error).strip().splitlines()
        raise _QuantizerGap(f"the quantizer cannot take this model: {lines[0][:300] if lines else error!r}") from error
    return bytes(result.quantized_model)


def _float16_recipe() -> list[dict[str, Any]]:
    weights = {"num_bits": 16, "dtype": "FLOAT"}
    config = {"weight_tensor_config": weights, "compute_precision": "FLOAT", "explicit_dequantize": True}
    return [{"regex": ".*", "operation": "*", "algorithm_key": "float_casting", "op_config": config}]


def _dynamic_recipe() -> list[dict[str, Any]]:
    weights = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
    config = {
        "weight_tensor_config": weights,
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
        "min_weight_elements": LEAST_WEIGHTS,
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
