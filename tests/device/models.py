"""Small .tflite models for the device's tests, by name: each is there for one question that the contract asks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from edgekit_device.embedded import append_note

from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model

NOTE = {"preprocessing": {"scale": 0.5, "offset": -1.0}, "recipe": "int8"}
TABLE = np.arange(40, dtype=np.float32).reshape(10, 4)


def difference_and_product() -> bytes:
    """Inputs (b, a), in this order; outputs (a * b, a - b): whoever mixes up an order gets other numbers."""
    tensors = [Tensor("a", "float32", (1, 4)), Tensor("b", "float32", (1, 4))]
    tensors += [Tensor("difference", "float32", (1, 4)), Tensor("product", "float32", (1, 4))]
    ops = [Op("SUB", (0, 1), (2,), schema.SubOptionsT()), Op("MUL", (0, 1), (3,), schema.MulOptionsT())]
    return build(Graph(tensors, ops, (1, 0), (3, 2), "serving_default"))


def unnamed() -> bytes:
    """The same without a signature."""
    tensors = [Tensor("a", "float32", (1, 4)), Tensor("b", "float32", (1, 4)), Tensor("sum", "float32", (1, 4))]
    return build(Graph(tensors, [Op("ADD", (0, 1), (2,), schema.AddOptionsT())], (0, 1), (2,)))


def quantized_sum() -> bytes:
    """Two int8 inputs with scales of their own."""
    tensors = [
        Tensor("a", "int8", (1, 4), None, (0.5,), (3,)),
        Tensor("b", "int8", (1, 4), None, (0.25,), (-1,)),
        Tensor("sum", "int8", (1, 4), None, (0.75,), (2,)),
    ]
    return build(Graph(tensors, [Op("ADD", (0, 1), (2,), schema.AddOptionsT(), version=2)], (0, 1), (2,), "sum"))


def fixed_batch() -> bytes:
    """A RESHAPE to a constant [1, 12], as converters write it for a batch of one, then each value doubled."""
    tensors = [
        Tensor("image", "float32", (1, 2, 6)),
        Tensor("shape", "int32", (2,), np.array([1, 12], np.int32)),
        Tensor("flat", "float32", (1, 12)),
        Tensor("doubled", "float32", (1, 12)),
    ]
    ops = [Op("RESHAPE", (0, 1), (2,), schema.ReshapeOptionsT()), Op("ADD", (2, 2), (3,), schema.AddOptionsT())]
    return build(Graph(tensors, ops, (0,), (3,), "serving_default"))


def tokens() -> bytes:
    """Rows of a table by int32 index: what an embedding is."""
    tensors = [
        Tensor("table", "float32", TABLE.shape, TABLE),
        Tensor("ids", "int32", (1, 3)),
        Tensor("rows", "float32", (1, 3, 4)),
    ]
    return build(Graph(tensors, [Op("GATHER", (0, 1), (2,), schema.GatherOptionsT())], (1,), (2,), "serving_default"))


def unequal_rows() -> bytes:
    """Inputs of one and of three rows: there is no batch."""
    tensors = [Tensor("row", "float32", (1, 4)), Tensor("rows", "float32", (3, 4)), Tensor("sum", "float32", (3, 4))]
    return build(Graph(tensors, [Op("ADD", (0, 1), (2,), schema.AddOptionsT())], (0, 1), (2,), "serving_default"))


def transposed() -> bytes:
    """Rows become columns: the outputs of several calls cannot be put together."""
    tensors = [
        Tensor("row", "float32", (1, 4)),
        Tensor("order", "int32", (2,), np.array([1, 0], np.int32)),
        Tensor("column", "float32", (4, 1)),
    ]
    return build(
        Graph(tensors, [Op("TRANSPOSE", (0, 1), (2,), schema.TransposeOptionsT())], (0,), (2,), "serving_default")
    )


def quantized_output() -> bytes:
    """A float input and an int8 output: real-world values in, so real-world values out."""
    tensors = [Tensor("real", "float32", (1, 4)), Tensor("steps", "int8", (1, 4), None, (0.5,), (3,))]
    return build(Graph(tensors, [Op("QUANTIZE", (0,), (1,))], (0,), (1,), "serving_default"))


def two_signatures() -> bytes:
    """Two graphs with a signature each."""
    graphs = []
    for key, kind, options in (("plus", "ADD", schema.AddOptionsT()), ("times", "MUL", schema.MulOptionsT())):
        tensors = [Tensor("x", "float32", (1, 4)), Tensor(key, "float32", (1, 4))]
        graphs.append(Graph(tensors, [Op(kind, (0, 0), (1,), options)], (0,), (1,), key))
    return build(*graphs)


MODELS: dict[str, Callable[[], bytes]] = {
    "dense": dense_model,
    "dense_int8": lambda: dense_model("int8"),
    "dense_int8_float_io": lambda: dense_model("int8", "float32"),
    "conv": conv_model,
    "conv_int8": lambda: conv_model("int8"),
    "difference_and_product": difference_and_product,
    "unnamed": unnamed,
    "quantized_sum": quantized_sum,
    "fixed_batch": fixed_batch,
    "tokens": tokens,
    "unequal_rows": unequal_rows,
    "transposed": transposed,
    "quantized_output": quantized_output,
    "two_signatures": two_signatures,
    "noted": lambda: append_note(dense_model(), NOTE),
}
