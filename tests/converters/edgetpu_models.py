"""Small models for the Edge TPU's rules: single operators by their shapes, and chains of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters.targets.operators import Operator, OperatorGraph, read_operators

from tests.tflite_builder import Graph, Op, Tensor, build

QUANTIZED = {"int8": (0.5, 3), "uint8": (0.5, 131), "int16": (0.5, 0)}
SEED = 11


def value(name: str, shape: Sequence[int], dtype: str = "int8", signature: tuple[int, ...] | None = None) -> Tensor:
    """A tensor that is computed."""
    scale, zero = QUANTIZED.get(dtype, (None, None))
    marks = () if scale is None else ((scale,), (zero,))
    return Tensor(name, dtype, tuple(shape), None, *marks, signature=signature)


def constant(name: str, values: Any, dtype: str = "int32") -> Tensor:
    """A tensor whose values are in the file; one of 8 bits is quantized, with a zero point of 0."""
    array = np.asarray(values, dtype)
    marks = ((0.25,), (0,)) if dtype in QUANTIZED else ()
    return Tensor(name, dtype, array.shape, array, *marks)


def weights(name: str, shape: Sequence[int], dtype: str = "int8") -> Tensor:
    """Quantized weights of random values."""
    return constant(name, np.random.default_rng(SEED).integers(-9, 9, size=shape), dtype)


def options(kind: str, **fields: Any) -> Any:
    """Builtin options: ``options("Softmax", beta=1.0)``."""
    made = getattr(schema, f"{kind}OptionsT")()
    for field, setting in fields.items():
        setattr(made, field, setting)
    return made


def one(
    kind: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], settings: Any = None, **fields: Any
) -> Operator:
    """The operator of a model that has one."""
    return graph_of(kind, inputs, outputs, settings, **fields).operators[0]


def graph_of(
    kind: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], settings: Any = None, **fields: Any
) -> OperatorGraph:
    """The graph of a model that has one operator."""
    tensors = (*inputs, *outputs)
    given = tuple(i for i, tensor in enumerate(inputs) if tensor.values is None)
    made = tuple(range(len(inputs), len(tensors)))
    op = Op(kind, tuple(range(len(inputs))), made, settings, **fields)
    return read_operators(build(Graph(tensors, (op,), given, made)))


def chain(*kinds: str, dtype: str = "int8", shape: Sequence[int] = (1, 4, 4, 8)) -> bytes:
    """A model of operators with one input and one output each, one behind the other; all tensors are alike.

    QUANTIZE as the first reads floats, DEQUANTIZE as the last writes them. CONV is a 1 x 1 convolution.
    """
    tensors: list[Tensor] = [value("model/input", shape, "float32" if kinds[0] == "QUANTIZE" else dtype)]
    ops: list[Op] = []
    at = 0
    for i, kind in enumerate(kinds):
        last = i == len(kinds) - 1
        tensors.append(value(f"model/layer_{i}/{kind}", shape, "float32" if last and kind == "DEQUANTIZE" else dtype))
        made = len(tensors) - 1
        if kind == "CONV":
            kernel = weights(f"kernel_{i}", (shape[-1], 1, 1, shape[-1]), "float32" if dtype == "float32" else "int8")
            tensors.append(kernel)
            settings = options("Conv2D", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
            ops.append(Op("CONV_2D", (at, made + 1, -1), (made,), settings, version=3))
        else:
            ops.append(Op(kind, (at,), (made,)))
        at = made
    return build(Graph(tensors, ops, (0,), (at,)))
