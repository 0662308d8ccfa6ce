"""Bias correction: rounding shifts the mean of a layer's outputs, and a bias can shift it back.

The rounding errors of a kernel do not average out over inputs whose mean is not zero (behind a ReLU none is), so each
output channel is off by E[W x] - E[W' x'] in the mean. That is measured on the calibration samples and added to the
int32 biases (Nagel et al., 2019, arXiv 1906.04721, section 4.2; their empirical variant, appendix D).

A layer is linear in its input, so the mean of its outputs before the activation is the layer applied to its mean input,
summed over positions: one pass of the float model serves all layers. Each is corrected for the error of its own kernel
and bias at the float model's inputs, x' = x, all at once: what a layer inherits from those before it is corrected there,
and corrected again here would overshoot. Of the corrected model and the one that came in, the one whose outputs are
nearer to the float model's on the samples is given back: correction improves, or leaves as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .calibrate import feed_batches, input_indices, watch_activations
from .surgery import FlatModel

__all__ = ["Corrected", "correct_biases"]

Array = npt.NDArray[Any]
# Means settle soon.
MOST_SAMPLES = 256
_KINDS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_REAL = (np.float32, np.int8, np.uint8, np.int16)
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Corrected:
    """The int8 model with other biases; ``ops`` are the operators (indices in it) whose bias changed.

    ``error_before`` and ``error`` are the mean squared differences of its outputs from the float model's on the samples.
    """

    tflite: bytes
    ops: tuple[int, ...]
    error_before: float
    error: float


@dataclass(frozen=True)
class _Layer:
    """A layer of the int8 model: its operator, and the float model's name of its input.

    The errors are by how much the float model's kernel and bias are larger than what its own stand for.
    """

    op: int
    input: str
    kernel_error: Array
    bias_error: Array
    bias_scales: Array


def correct_biases(float_model: bytes, int8_model: bytes, samples: Mapping[str, Array]) -> Corrected:
    """``int8_model``, made from ``float_model``, with its biases corrected on ``samples`` (those of calibration).

    Layers are told by the name of their output, which quantizers keep; those kept in float or in int16 are left alone.
    Raises CalibrationError for samples that do not fit.
    """
    flat, original = FlatModel(int8_model), FlatModel(float_model)
    samples = {name: values[:MOST_SAMPLES] for name, values in samples.items()}
    layers = _layers(original, flat)
    means, reference = _observe(original, float_model, samples, {layer.input for layer in layers})
    before = {layer.op: _bias(flat, layer.op) for layer in layers}
    for layer in layers:
        if layer.input in means:
            _correct(flat, layer, means[layer.input])
    corrected = flat.to_bytes()
    errors = [_error(reference, _outputs(tflite, samples)) for tflite in (int8_model, corrected)]
    if errors[1] >= errors[0]:
        return Corrected(int8_model, (), errors[0], errors[0])
    changed = tuple(op for op, bias in before.items() if not np.array_equal(_bias(flat, op), bias))
    return Corrected(corrected, changed, errors[0], errors[1])


def _observe(
    flat: FlatModel, float_model: bytes, samples: Mapping[str, Array], names: set[str]
) -> tuple[dict[str, Array], list[Array]]:
    """The mean of each activation in ``names`` over the runs, and the model's outputs, one array each."""
    sums: dict[str, Array] = {}
    runs: Counter[str] = Counter()
    outputs: dict[str, list[Array]] = {flat.name(int(i)): [] for i in flat.graph.outputs}

    def add(name: str, values: Array) -> None:
        if name in outputs:
            outputs[name].append(values)
        if name in names:
            np.add(sums.setdefault(name, np.zeros(values.shape)), values, out=sums[name])
            runs[name] += 1

    watch_activations(float_model, samples, add, names=names | set(outputs))
    means = {name: np.asarray(total / runs[name]) for name, total in sums.items()}
    return means, [np.stack(values) for values in outputs.values() if values]


def _outputs(int8_model: bytes, samples: Mapping[str, Array]) -> list[Array]:
    """The float outputs of every run of a quantized model, one array each."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=int8_model)
    interpreter.allocate_tensors()
    ends = [raw for raw in interpreter.get_output_details() if raw["dtype"] in _REAL]
    found: list[list[Array]] = [[] for _ in ends]
    for feed in feed_batches(interpreter, _fitted(interpreter, samples)):
        for index, values in feed.items():
            interpreter.set_tensor(index, values)
        interpreter.invoke()
        for seen, raw in zip(found, ends, strict=True):
            seen.append(_real(interpreter.get_tensor(raw["index"]), raw))
    return [np.stack(values) for values in found]


def _real(values: Array, raw: Mapping[str, Any]) -> Array:
    scale, zero_point = raw["quantization"]
    return (values.astype(np.float32) - zero_point) * np.float32(scale) if scale else values


def _fitted(interpreter: Any, samples: Mapping[str, Array]) -> dict[str, Array]:
    """The samples as the model's inputs take them: on their grid where those are integers with a scale."""
    details = {int(raw["index"]): raw for raw in interpreter.get_input_details()}
    inputs = input_indices(interpreter, samples)
    return {name: _quantized(values, details[inputs[name]]) for name, values in samples.items()}


def _quantized(values: Array, raw: Mapping[str, Any]) -> Array:
    scale, zero_point = raw["quantization"]
    if not scale:
        return values
    limits = np.iinfo(raw["dtype"])
    levels = np.round(values / np.float32(scale)) + zero_point
    return np.asarray(np.clip(levels, limits.min, limits.max).astype(raw["dtype"]))


def _error(reference: list[Array], outputs: list[Array]) -> float:
    return float(np.mean([np.mean((a - b) ** 2, dtype=np.float64) for a, b in zip(reference, outputs, strict=True)]))


def _layers(original: FlatModel, flat: FlatModel) -> list[_Layer]:
    """The layers of both models with an int8 kernel and an int32 bias in one of them."""
    by_name = {original.name(original.outputs(op)[0]): op for op in original.producers.values()}
    found = []
    for op in range(len(flat.graph.operators)):
        other = by_name.get(flat.name(flat.outputs(op)[0]), -1) if flat.outputs(op) else -1
        if other >= 0 and flat.type(op) in _KINDS and original.type(other) == flat.type(op):
            layer = _layer(original, other, flat, op)
            if layer is not None:
                found.append(layer)
    return found


def _layer(original: FlatModel, other: int, flat: FlatModel, op: int) -> _Layer | None:
    operands, float_operands = flat.inputs(op), original.inputs(other)
    if len(operands) < 3 or operands[2] < 0 or flat.dtype(operands[0]) != "int8":
        return None
    kernel, bias = flat.constant(operands[1]), flat.constant(operands[2])
    float_kernel = original.constant(float_operands[1])
    if kernel is None or kernel.dtype != np.int8 or bias is None or bias.dtype != np.int32 or float_kernel is None:
        return None
    given = original.constant(float_operands[2]) if len(float_operands) > 2 else None
    raw = flat.graph.tensors[operands[1]].quantization
    shape = [1] * kernel.ndim
    shape[int(raw.quantizedDimension)] = -1
    scales = np.asarray(raw.scale, np.float64).reshape(shape)
    bias_scales = np.asarray(flat.graph.tensors[operands[2]].quantization.scale, np.float64)
    return _Layer(
        op,
        original.name(float_operands[0]),
        float_kernel.astype(np.float64) - kernel * scales,
        (0.0 if given is None else given.astype(np.float64)) - bias * bias_scales,
        bias_scales,
    )


def _bias(flat: FlatModel, op: int) -> Array:
    values = flat.constant(flat.inputs(op)[2])
    assert values is not None
    return values


def _correct(flat: FlatModel, layer: _Layer, mean: Array) -> None:
    """Shift the bias by what the layer's outputs are off in the mean."""
    error = _mean_output(flat, layer.op, layer.kernel_error, mean) + layer.bias_error
    shifted = np.rint(_bias(flat, layer.op) + error / layer.bias_scales)
    flat.set_operand(layer.op, 2, np.clip(shifted, _INT32.min, _INT32.max).astype(np.int32))


def _mean_output(flat: FlatModel, op: int, kernel: Array, mean: Array) -> Array:
    """The mean over positions of a layer's outputs, before bias and activation, for its mean input: one per channel."""
    kind = flat.type(op)
    if kind == "FULLY_CONNECTED":
        return np.asarray(kernel @ mean.reshape(-1, kernel.shape[1]).mean(axis=0))
    taps = _mean_taps(flat, op, kernel.shape[1:3], mean)
    if kind == "CONV_2D":
        groups = taps.shape[-1] // kernel.shape[-1]
        per_group = taps.reshape(*taps.shape[:2], groups, -1)
        split = kernel.reshape(groups, -1, *kernel.shape[1:])
        return np.asarray(np.einsum("gohwc,hwgc->go", split, per_group)).reshape(-1)
    return np.asarray((kernel[0] * np.repeat(taps, kernel.shape[-1] // taps.shape[-1], axis=-1)).sum(axis=(0, 1)))


def _mean_taps(flat: FlatModel, op: int, size: tuple[int, ...], mean: Array) -> Array:
    """What each position of a kernel sees in the mean over all output positions: (height, width, channels)."""
    options, output = flat.graph.operators[op].builtinOptions, flat.graph.tensors[flat.outputs(op)[0]].shape
    steps = (int(options.strideH), int(options.strideW))
    gaps = (int(options.dilationHFactor), int(options.dilationWFactor))
    outs = (int(output[1]), int(output[2]))
    padding = [(0, 0), *(_padding(*one) for one in zip(mean.shape[1:3], outs, size, steps, gaps, strict=True)), (0, 0)]
    padded = np.pad(mean, padding)
    taps = np.empty((*size, mean.shape[-1]))
    for row in range(size[0]):
        for column in range(size[1]):
            top, left = row * gaps[0], column * gaps[1]
            seen = padded[:, top : top + (outs[0] - 1) * steps[0] + 1 : steps[0]]
            seen = seen[:, :, left : left + (outs[1] - 1) * steps[1] + 1 : steps[1]]
            taps[row, column] = seen.mean(axis=(0, 1, 2))
    return taps


def _padding(length: int, output: int, kernel: int, step: int, gap: int) -> tuple[int, int]:
    """TFLite's SAME padding; none for VALID, whose outputs need none."""
    missing = max((output - 1) * step + (kernel - 1) * gap + 1 - length, 0)
    return missing // 2, missing - missing // 2
