"""Bias correction: rounding shifts the mean of a layer's outputs, and a bias can shift it back.

The rounding errors of a kernel do not average out over inputs whose mean is not zero (behind a ReLU none is), so each
output channel is off by E[W x] - E[W' x'] in the mean. That is measured on the calibration samples and added to the
int32 biases (Nagel et al., 2019, arXiv 1906.04721, section 4.2; their empirical variant, appendix D).

A layer is linear in its input, so the mean of its outputs before the activation is the layer applied to its mean input,
summed over positions: one pass over the samples of the float and of the int8 model serves all layers. First all are
corrected at once for their own kernel's error, with the float model's inputs; then, for a few rounds, for what is left
with the inputs that int8 gives them. Of these models, and the one that came in, the one whose outputs are nearest to
the float model's on the samples is given back: correction improves, or leaves as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .calibrate import watch_activations
from .surgery import FlatModel

__all__ = ["Corrected", "correct_biases"]

Array = npt.NDArray[Any]
Means = dict[str, Array]
ROUNDS = 2
_KINDS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
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
    """A layer in both models: its operator there, its input's name, kernel and bias as float64."""

    op: int
    float_input: str
    int8_input: str
    float_kernel: Array
    int8_kernel: Array
    float_bias: Array
    bias_scales: Array


def correct_biases(float_model: bytes, int8_model: bytes, samples: Mapping[str, Array]) -> Corrected:
    """``int8_model``, made from ``float_model``, with its biases corrected on ``samples`` (those of calibration).

    Layers are told by the name of their output, which quantizers keep; those kept in float or in int16 are left alone.
    Raises CalibrationError for samples that do not fit.
    """
    flat, original = FlatModel(int8_model), FlatModel(float_model)
    layers = _layers(original, flat)
    reference = _observe(float_model, samples, np.float32, {layer.float_input for layer in layers}, original)
    plain = _observe(int8_model, samples, np.int8, {layer.int8_input for layer in layers}, flat)
    before = {layer.op: _bias(flat, layer) for layer in layers}
    best = int8_model, _distance(reference.outputs, plain.outputs)
    error_before = best[1]
    seen = reference.means
    for number in range(1 + ROUNDS):
        for layer in layers:
            own = layer.float_input if number == 0 else layer.int8_input
            if layer.float_input in reference.means and own in seen:
                _correct(original, flat, layer, reference.means[layer.float_input], seen[own])
        made = flat.to_bytes()
        found = _observe(made, samples, np.int8, {layer.int8_input for layer in layers}, flat)
        seen, error = found.means, _distance(reference.outputs, found.outputs)
        if error < best[1]:
            best = made, error
    after = FlatModel(best[0])
    changed = tuple(layer.op for layer in layers if not np.array_equal(_bias(after, layer), before[layer.op]))
    return Corrected(best[0], changed, error_before, best[1])


@dataclass(frozen=True)
class _Observed:
    """The mean of each watched activation over the samples, and the model's outputs, one array each."""

    means: Means
    outputs: list[Array]


def _observe(
    model: bytes, samples: Mapping[str, Array], dtype: type[np.generic], names: set[str], flat: FlatModel
) -> _Observed:
    sums: Means = {}
    counts: dict[str, int] = {}
    outputs: dict[str, list[Array]] = {flat.name(int(i)): [] for i in flat.graph.outputs}
    grids = {flat.name(i): _grid(flat, i) for i in range(len(flat.graph.tensors))}

    def add(name: str, values: Array) -> None:
        real = values.astype(np.float64)
        grid = grids[name]
        if grid is not None:
            real = (real - grid[1]) * grid[0]
        if name in names:
            sums[name] = sums[name] + real if name in sums else real
            counts[name] = counts.get(name, 0) + 1
        if name in outputs:
            outputs[name].append(real)

    fitted = _fitted(model, samples)
    for kind in {dtype, *(np.dtype(flat.dtype(int(i))).type for i in flat.graph.outputs)}:
        watch_activations(model, fitted, add, names=names | set(outputs), dtype=kind)
    # A model that takes several samples in one run has them in its first dimension.
    means = {name: total / counts[name] for name, total in sums.items()}
    return _Observed(means, [np.stack(values) for values in outputs.values() if values])


def _grid(flat: FlatModel, tensor: int) -> tuple[float, int] | None:
    quantization = flat.graph.tensors[tensor].quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        return None
    zero_points = quantization.zeroPoint
    return float(quantization.scale[0]), int(zero_points[0]) if zero_points is not None and len(zero_points) else 0


def _fitted(model: bytes, samples: Mapping[str, Array]) -> dict[str, Array]:
    """The samples as the model's inputs take them: on their grid where those are integers with a scale."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    keys = list(interpreter.get_signature_list())
    details = interpreter.get_signature_runner(keys[0]).get_input_details() if len(keys) == 1 else {}
    by_name = details or {str(raw["name"]): raw for raw in interpreter.get_input_details()}
    if len(samples) == len(by_name) == 1:
        by_name = dict.fromkeys(samples, next(iter(by_name.values())))
    return {name: _quantized(values, by_name[name]) if name in by_name else values for name, values in samples.items()}


def _quantized(values: Array, raw: Mapping[str, Any]) -> Array:
    scale, zero_point = raw["quantization"]
    if not scale:
        return values
    limits = np.iinfo(raw["dtype"])
    levels = np.round(values / np.float32(scale)) + zero_point
    return np.asarray(np.clip(levels, limits.min, limits.max).astype(raw["dtype"]))


def _distance(reference: list[Array], outputs: list[Array]) -> float:
    return float(np.mean([np.mean((a - b) ** 2) for a, b in zip(reference, outputs, strict=True)]))


def _layers(original: FlatModel, flat: FlatModel) -> list[_Layer]:
    """The layers of both models with an int8 kernel and an int32 bias of their own in one of them."""
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
    return _Layer(
        op,
        original.name(float_operands[0]),
        flat.name(operands[0]),
        float_kernel.astype(np.float64),
        kernel * np.asarray(raw.scale, np.float64).reshape(shape),
        np.zeros(bias.size) if given is None else given.astype(np.float64),
        np.asarray(flat.graph.tensors[operands[2]].quantization.scale, np.float64),
    )


def _bias(flat: FlatModel, layer: _Layer) -> Array:
    values = flat.constant(flat.inputs(layer.op)[2])
    assert values is not None
    return values


def _correct(original: FlatModel, flat: FlatModel, layer: _Layer, mean: Array, int8_mean: Array) -> None:
    """Shift the bias by what the layer's outputs are off in the mean."""
    bias = _bias(flat, layer)
    wanted = _mean_output(flat, layer.op, layer.float_kernel, mean) + layer.float_bias
    given = _mean_output(flat, layer.op, layer.int8_kernel, int8_mean) + bias * layer.bias_scales
    shifted = np.rint(bias + (wanted - given) / layer.bias_scales)
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
