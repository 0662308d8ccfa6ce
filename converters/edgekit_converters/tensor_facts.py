"""Facts about the weights of a .tflite of any precision, measured on its bytes without TensorFlow or a runtime."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .model_card import OpCard, TensorCard, read_model_card

__all__ = ["KernelTensor", "WeightFacts", "kernel_tensors", "stored_values", "weight_facts", "zipped_bytes"]

Array = npt.NDArray[Any]
# Which operands of an operator are weights it multiplies with.
KERNEL_OPERANDS = {
    "CONV_2D": (1,),
    "DEPTHWISE_CONV_2D": (1,),
    "TRANSPOSE_CONV": (1,),
    "CONV_3D": (1,),
    "CONV_3D_TRANSPOSE": (1,),
    "FULLY_CONNECTED": (1,),
    "BATCH_MATMUL": (0, 1),
    "EMBEDDING_LOOKUP": (1,),
    "GATHER": (0,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": tuple(range(1, 9)),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
}
DTYPES: dict[str, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "int4": np.int8,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
}


@dataclass(frozen=True)
class KernelTensor:
    """One kernel of the file: ``sparsity`` is its share of zeros, ``distinct`` its number of different stored values."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sparsity: float
    distinct: int


@dataclass(frozen=True)
class WeightFacts:
    """``sparsity`` over all kernels together; ``largest_clusters`` is the largest ``distinct`` of any of them (0 without)."""

    sparsity: float
    largest_clusters: int
    kernels: tuple[KernelTensor, ...]


def zipped_bytes(data: bytes) -> int:
    """The size after DEFLATE at level 9, as in a ZIP or on its way through gzip."""
    return len(zlib.compress(data, 9))


def weight_facts(tflite: bytes) -> WeightFacts:
    """Sparsity and distinct values of every kernel; raises ModelFileError for bytes that are no model."""
    measured = []
    zeros = elements = 0
    for tensor in kernel_tensors(tflite):
        values = stored_values(tflite, tensor)
        if values is None or not values.size:
            continue
        nothing = int(np.count_nonzero(values == _zero_points(tensor, values.ndim)))
        zeros, elements = zeros + nothing, elements + values.size
        measured.append(
            KernelTensor(tensor.name, tensor.dtype, tensor.shape, nothing / values.size, len(np.unique(values)))
        )
    largest = max((item.distinct for item in measured), default=0)
    return WeightFacts(zeros / elements if elements else 0.0, largest, tuple(measured))


def kernel_tensors(tflite: bytes) -> tuple[TensorCard, ...]:
    """The constants that are weights of an operator, also behind a DEQUANTIZE; each once, in the order of the file."""
    card = read_model_card(tflite)
    found: dict[tuple[int, int], TensorCard] = {}
    for graph in range(card.subgraphs):
        tensors = [item for item in (*card.tensors, *card.other_tensors) if item.subgraph == graph]
        ops = [item for item in (*card.ops, *card.other_ops) if item.subgraph == graph]
        behind = {op.outputs[0]: op.inputs[0] for op in ops if op.type == "DEQUANTIZE" and op.inputs and op.outputs}
        for op in ops:
            for index in _weights(op):
                tensor = tensors[behind.get(index, index)]
                if tensor.constant:
                    found[graph, tensor.index] = tensor
    return tuple(found.values())


def stored_values(tflite: bytes, tensor: TensorCard) -> Array | None:
    """A constant's values as stored (integers unscaled), in its shape; None for a type or storage not read here."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(tflite, 0)
    buffer = model.Buffers(model.Subgraphs(tensor.subgraph).Tensors(tensor.index).Buffer())
    raw = buffer.DataAsNumpy() if buffer.DataLength() else np.zeros(0, np.uint8)
    elements = int(np.prod(tensor.shape, dtype=np.int64))
    if tensor.dtype == "int4":
        raw = _nibbles(raw)[:elements]
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None or raw.nbytes != elements * np.dtype(dtype).itemsize:  # sparse, or kept behind the flatbuffer
        return None
    values: Array = raw.view(dtype).reshape(tensor.shape)
    return values


def _weights(op: OpCard) -> list[int]:
    return [op.inputs[i] for i in KERNEL_OPERANDS.get(op.type, ()) if i < len(op.inputs) and op.inputs[i] >= 0]


def _zero_points(tensor: TensorCard, rank: int) -> Any:
    """What stands for 0 in a kernel: one number, or one per slice laid out along its dimension."""
    if len(tensor.zero_points) <= 1:
        return tensor.zero_points[0] if tensor.zero_points else 0
    shape = [1] * rank
    shape[tensor.quantized_dimension] = -1
    return np.reshape(tensor.zero_points, shape)


def _nibbles(raw: Array) -> Array:
    """Two signed 4-bit numbers from each byte, the low one first."""
    pairs = np.stack([raw & 15, raw >> 4], axis=-1).reshape(-1).astype(np.int8)
    return np.where(pairs > 7, pairs - 16, pairs).astype(np.int8)
