"""A float .tflite without NEG and SQUARE: neither quantizer has them in int8, and every normalization over channels has one."""

from __future__ import annotations

import numpy as np

from .int8.surgery import FlatModel
from .model_card import load_schema, read_model_card

__all__ = ["write_products"]

_REPLACED = ("NEG", "SQUARE")


def write_products(tflite: bytes) -> bytes:
    """``tflite`` with each float32 NEG x of subgraph 0 as the product x * -1 and SQUARE x as x * x: the same values.

    The bytes come back as they were where there is none. Raises ModelFileError for bytes that are no .tflite.
    """
    if not any(op.type in _REPLACED for op in read_model_card(tflite).ops):
        return tflite
    flat = FlatModel(tflite)
    operators = range(len(flat.graph.operators))
    replaced = [op for op in operators if flat.type(op) in _REPLACED and flat.dtype(flat.inputs(op)[0]) == "float32"]
    if not replaced:
        return tflite
    schema = load_schema()
    minus_one = _add_minus_one(flat) if any(flat.type(op) == "NEG" for op in replaced) else -1
    factors = {op: minus_one if flat.type(op) == "NEG" else flat.inputs(op)[0] for op in replaced}
    code = flat.add_code(schema.BuiltinOperator.MUL, version=1)
    for op, factor in factors.items():
        raw = flat.graph.operators[op]
        raw.opcodeIndex, raw.inputs = code, [*flat.inputs(op), factor]
        raw.builtinOptionsType, raw.builtinOptions = schema.BuiltinOptions.MulOptions, schema.MulOptionsT()
    flat.drop_unused_codes()
    return flat.to_bytes()


def _add_minus_one(flat: FlatModel) -> int:
    """The index of a new constant -1."""
    schema = load_schema()
    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(np.array([-1.0], "<f4").tobytes(), np.uint8)
    flat.model.buffers.append(buffer)
    tensor.name, tensor.shape, tensor.hasRank = b"minus_one", [1], True
    tensor.type, tensor.buffer = schema.TensorType.FLOAT32, len(flat.model.buffers) - 1
    flat.graph.tensors.append(tensor)
    return len(flat.graph.tensors) - 1
