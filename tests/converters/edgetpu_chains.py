"""Models for the Edge TPU compiler's stub: chains whose operators are told apart by their tensors' names."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_builder import Graph, Op, Tensor, build

CHANNELS, SIDE = 4, 6


def chain(*types: str, dtype: str = "int8") -> bytes:
    """Operators one behind the other, all of ``1 x 6 x 6 x 4``: CONV_2D, ADD (of a tensor to itself), or any without
    options; a name with small letters is a custom operator's."""
    shape = (1, SIDE, SIDE, CHANNELS)
    tensors = [_activation("input", dtype, shape)]
    ops: list[Op] = []
    for place, type_ in enumerate(types):
        before = ops[-1].outputs[0] if ops else 0
        inputs: tuple[int, ...] = (before,)
        if type_ == "CONV_2D":
            inputs = (before, len(tensors), len(tensors) + 1)
            tensors += _weights(place, dtype)
        elif type_ == "ADD":
            inputs = (before, before)
        tensors.append(_activation(f"made/{place}", dtype, shape))
        version = 3 if type_ == "CONV_2D" and dtype == "int8" else 1
        custom = not type_.isupper()
        ops.append(Op(type_, inputs, (len(tensors) - 1,), _options(type_), custom=custom, version=version))
    return build(Graph(tensors, ops, (0,), (len(tensors) - 1,)))


def _activation(name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor(name, dtype, shape, None, *(((0.5,), (3,)) if dtype != "float32" else ()))


def _weights(place: int, dtype: str) -> list[Tensor]:
    kernel, bias = (CHANNELS, 1, 1, CHANNELS), (CHANNELS,)
    if dtype == "float32":
        return [
            Tensor(f"kernel/{place}", dtype, kernel, np.ones(kernel, np.float32)),
            Tensor(f"bias/{place}", dtype, bias, np.ones(bias, np.float32)),
        ]
    scales, zeros = (0.25,) * CHANNELS, (0,) * CHANNELS
    return [
        Tensor(f"kernel/{place}", "int8", kernel, np.ones(kernel, np.int8), scales, zeros, 0),
        Tensor(f"bias/{place}", "int32", bias, np.ones(bias, np.int32), (0.125,) * CHANNELS, zeros, 0),
    ]


def _options(type_: str) -> object:
    if type_ == "CONV_2D":
        options = schema.Conv2DOptionsT()
        options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
        return options
    return schema.AddOptionsT() if type_ == "ADD" else None
