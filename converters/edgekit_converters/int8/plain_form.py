"""An int8 model in the plainest form that says the same: what other programs than the interpreter read best.

ai-edge-quantizer keeps the operator versions of the float model (CONV_2D 1 where TFLite writes 3). TensorFlow since 2.13 fuses a
ReLU into TRANSPOSE_CONV, which makes it version 4 and the Edge TPU compiler refuse the whole model; in int8 that ReLU most
often does nothing, because the output's range begins at zero already. And a dilated Conv1D comes out as a CONV_2D that is dilated
one way only, which the Edge TPU does not have; the other way its kernel has a single row, and any dilation is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .surgery import FlatModel

__all__ = ["int8_version", "plain_form"]

LOWEST, HIGHEST = -128, 127
NO_ACTIVATION = 0
# What a fused activation lets through, by its number in the schema: ReLU, ReLU −1 to 1, ReLU6.
_BOUNDS: dict[int, tuple[float, float | None]] = {1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
# Source: GetBuiltinOperatorVersion (tensorflow, lite/tools/versioning/op_version.cc), for int8. What depends on options and is
# not in ``_EXACT`` below is in the float model's version already.
# fmt: off
_SECOND = (
    "ABS", "ADD", "ARG_MAX", "ARG_MIN", "AVERAGE_POOL_2D", "BATCH_MATMUL", "BATCH_TO_SPACE_ND", "CONCATENATION",
    "DEPTH_TO_SPACE", "DEQUANTIZE", "EQUAL", "EXP", "GATHER", "GELU", "GREATER", "GREATER_EQUAL", "L2_NORMALIZATION",
    "LESS", "LESS_EQUAL", "LOG", "LOGISTIC", "LOG_SOFTMAX", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD",
    "MUL", "NOT_EQUAL", "PACK", "PAD", "PADV2", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "RELU", "RELU6",
    "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SLICE", "SOFTMAX", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH",
    "SPLIT", "SPLIT_V", "SQRT", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TOPK_V2", "TRANSPOSE",
    "TRANSPOSE_CONV", "UNPACK",
)
# fmt: on
_INT8_VERSIONS: dict[str, int] = {
    **dict.fromkeys(_SECOND, 2),
    **dict.fromkeys(("BROADCAST_TO", "CONV_2D", "DEPTHWISE_CONV_2D", "REVERSE_V2", "TILE"), 3),
    "FULLY_CONNECTED": 4,
}
# The input whose type decides, where it is not the first.
_DECIDING = {"SPLIT": 1, "TRANSPOSE_CONV": 1}


def plain_form(tflite: bytes) -> bytes:
    """``tflite`` with the same answers, to the bit, in plainer words (in subgraph 0, of its int8 operators).

    Versions are those TFLite writes, each operator's own (TFLite keeps one for all CONV_2D, say). A fused activation of
    TRANSPOSE_CONV that clamps no int8 value is taken out, and its version 4 becomes 3. Where a kernel has one row or column,
    the dilation along it is that of the other way. The bytes come back as they were where there is nothing to change. What
    is appended to them, a note say, is lost.

    Raises ModelFileError for bytes that are no .tflite.
    """
    flat = FlatModel(tflite)
    operators = range(len(flat.graph.operators))
    dilated = [op for op in operators if _even_dilation(flat, op)]
    wanted = {op: _version(flat, op) for op in operators}
    changed = {op: version for op, version in wanted.items() if version != _code(flat, op).version}
    if not changed and not dilated:
        return tflite
    for op, version in changed.items():
        if flat.type(op) == "TRANSPOSE_CONV":
            flat.graph.operators[op].builtinOptions.fusedActivationFunction = NO_ACTIVATION
        flat.graph.operators[op].opcodeIndex = flat.add_code(flat.code(op), version=version)
    flat.drop_unused_codes()
    return flat.to_bytes()


def int8_version(type_: str, version: int, shapes: Sequence[Sequence[int]] = ()) -> int:
    """The version that a float operator ``type_`` of ``version``, with inputs of ``shapes``, most often has once it is int8."""
    if type_ == "TRANSPOSE_CONV":
        return min(version, 3) if version > 1 else 2
    if type_ in _EXACT and shapes:
        return _EXACT[type_](shapes)
    return max(version, _INT8_VERSIONS.get(type_, 1))


def _even_dilation(flat: FlatModel, op: int) -> bool:
    """Dilate both ways alike where one of them has nothing to dilate; whether that changed ``op``."""
    operands = flat.inputs(op)
    if flat.type(op) not in ("CONV_2D", "DEPTHWISE_CONV_2D") or len(operands) < 2 or flat.dtype(operands[0]) != "int8":
        return False
    options, kernel = flat.graph.operators[op].builtinOptions, _shape(flat, operands[1])
    height, width = int(options.dilationHFactor), int(options.dilationWFactor)
    if height == width or len(kernel) != 4 or 1 not in kernel[1:3]:
        return False
    both = width if kernel[1] == 1 else height
    options.dilationHFactor = options.dilationWFactor = both
    return True


def _version(flat: FlatModel, op: int) -> int:
    """The version ``op`` is to have."""
    now, kind, operands = int(_code(flat, op).version), flat.type(op), flat.inputs(op)
    place = _DECIDING.get(kind, 0)
    if place >= len(operands) or operands[place] < 0 or flat.dtype(operands[place]) != "int8":
        return now
    if kind == "TRANSPOSE_CONV":
        biased = len(operands) == 4 and operands[3] >= 0
        return 4 if not _is_idle(flat, op) else 3 if biased else 2
    return int8_version(kind, now, [_shape(flat, tensor) for tensor in operands if tensor >= 0])


def _conv_version(shapes: Sequence[Sequence[int]]) -> int:
    """6 where the kernel reads only some of the channels."""
    return 6 if len(shapes) > 1 and shapes[0][-1:] != shapes[1][-1:] else 3


def _transpose_version(shapes: Sequence[Sequence[int]]) -> int:
    """By rank."""
    rank = len(shapes[0])
    return 8 if rank > 6 else 6 if rank > 5 else 4 if rank > 4 else 2


_EXACT: dict[str, Callable[[Sequence[Sequence[int]]], int]] = {
    "CONV_2D": _conv_version,
    "TRANSPOSE": _transpose_version,
}


def _shape(flat: FlatModel, tensor: int) -> list[int]:
    shape = flat.graph.tensors[tensor].shape
    return [] if shape is None else [int(size) for size in shape]


def _is_idle(flat: FlatModel, op: int) -> bool:
    """Whether there is no fused activation, or one that lets every int8 value of the output through.

    The kernels clamp to zero point + round(bound / scale) (tensorflow, lite/kernels/kernel_util.cc,
    CalculateActivationRangeQuantized).
    """
    options, quantized = flat.graph.operators[op].builtinOptions, flat.graph.tensors[flat.outputs(op)[0]].quantization
    activation = int(options.fusedActivationFunction)
    if activation == NO_ACTIVATION:
        return True
    bounds = _BOUNDS.get(activation)
    if bounds is None or quantized is None or quantized.scale is None or len(quantized.scale) != 1:
        return False
    scale, zero_point = float(quantized.scale[0]), int(quantized.zeroPoint[0])
    low, high = bounds
    reaches_low = zero_point + round(low / scale) <= LOWEST
    return reaches_low and (high is None or zero_point + round(high / scale) >= HIGHEST)


def _code(flat: FlatModel, op: int) -> Any:
    return flat.model.operatorCodes[flat.graph.operators[op].opcodeIndex]
