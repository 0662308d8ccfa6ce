"""Small .tflite models built byte by byte from the schema, so that a test knows what is in them.

Each runs in a real interpreter. Weights come from a seeded generator; their values do not matter, their kinds do.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

DENSE_INPUTS, DENSE_UNITS = 64, 32
CONV_SIDE, CONV_CHANNELS, CONV_FILTERS = 8, 3, 5

_ACTIVATIONS = {"int8": "int8", "int16x8": "int16"}
_BIASES = {"int8": "int32", "int16x8": "int64"}


@dataclass(frozen=True)
class Tensor:
    """A tensor to build; ``values`` make it a constant, ``scales`` quantized, ``signature`` partly dynamic."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: np.ndarray | None = None
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    dimension: int = 0
    signature: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Op:
    """An operator to build; ``type`` is a builtin operator's name, or a custom one's when ``custom``."""

    type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = None
    custom: bool = False
    version: int = 1


@dataclass(frozen=True)
class Graph:
    """A subgraph to build: tensors, operators in order, and the tensors that go in and out."""

    tensors: Sequence[Tensor]
    ops: Sequence[Op]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    signature_key: str = ""


def build(
    *graphs: Graph, description: str = "built by hand", metadata: Sequence[str] = (), external: bool = False
) -> bytes:
    """The bytes of a model of ``graphs``; ``external`` puts constants behind the flatbuffer, as models near 2 GB do."""
    model = schema.ModelT()
    model.version, model.description = 3, description
    model.buffers, model.operatorCodes = [schema.BufferT()], []
    model.subgraphs = [_subgraph(model, graph) for graph in graphs]
    model.metadata = [_metadata(name) for name in metadata]
    model.signatureDefs = [_signature(graph, i) for i, graph in enumerate(graphs) if graph.signature_key]
    return _pack_external(model) if external else _pack(model)


def dense_model(precision: str = "float32", io_type: str = "") -> bytes:
    """A fully connected layer of 64 x 32 with a bias; ``io_type`` adds QUANTIZE and DEQUANTIZE where it differs."""
    weights, bias = (DENSE_UNITS, DENSE_INPUTS), (DENSE_UNITS,)
    op = Op("FULLY_CONNECTED", (0, 1, 2), (3,), schema.FullyConnectedOptionsT(), version=4)
    return build(_layer(op, (1, DENSE_INPUTS), weights, bias, (1, DENSE_UNITS), precision, io_type, dimension=0))


def conv_model(precision: str = "float32", io_type: str = "") -> bytes:
    """A 3 x 3 SAME convolution from 8 x 8 x 3 to 8 x 8 x 5; its kernel of 135 elements is a small one."""
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    image, kernel = (1, CONV_SIDE, CONV_SIDE, CONV_CHANNELS), (CONV_FILTERS, 3, 3, CONV_CHANNELS)
    output = (1, CONV_SIDE, CONV_SIDE, CONV_FILTERS)
    op = Op("CONV_2D", (0, 1, 2), (3,), options, version=3)
    return build(_layer(op, image, kernel, (CONV_FILTERS,), output, precision, io_type, dimension=0))


def depthwise_model() -> bytes:
    """A float32 3 x 3 depthwise convolution with stride 2, from 8 x 8 x 3 to 4 x 4 x 3."""
    options = schema.DepthwiseConv2DOptionsT()
    options.strideW = options.strideH = 2
    options.depthMultiplier = options.dilationWFactor = options.dilationHFactor = 1
    op = Op("DEPTHWISE_CONV_2D", (0, 1, 2), (3,), options)
    shapes = (1, CONV_SIDE, CONV_SIDE, CONV_CHANNELS), (1, 3, 3, CONV_CHANNELS), (CONV_CHANNELS,), (1, 4, 4, 3)
    return build(_layer(op, *shapes, "float32", "", dimension=3))


def _layer(
    op: Op,
    input_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    bias_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
    precision: str,
    io_type: str,
    *,
    dimension: int,
) -> Graph:
    """One layer in ``precision``, tensors 0 to 3 its input, kernel, bias and output, and what its ends need."""
    activation = _ACTIVATIONS.get(precision, "float32")
    tensors = [
        _activation("input", activation, input_shape),
        _kernel(kernel_shape, precision, dimension),
        _bias(bias_shape, precision),
        _activation("output", activation, output_shape),
    ]
    ops, ends = [op], [0, 3]
    if precision == "float16":
        tensors.append(Tensor("kernel_float32", "float32", kernel_shape))
        ops = [Op("DEQUANTIZE", (1,), (4,)), Op(op.type, (0, 4, 2), (3,), op.options, version=op.version)]
    if io_type and io_type != activation:
        ops = [_convert(io_type, (4,), (0,)), *ops, _convert(io_type, (3,), (5,))]
        tensors += [_activation("input_end", io_type, input_shape), _activation("output_end", io_type, output_shape)]
        ends = [4, 5]
    return Graph(tensors, ops, (ends[0],), (ends[1],), signature_key="serving_default")


def _convert(io_type: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Op:
    name = "DEQUANTIZE" if io_type == "float32" and inputs == (3,) else "QUANTIZE"
    return Op(name, inputs, outputs, version=2 if name == "DEQUANTIZE" else 1)


def _activation(name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
    quantized = {"int8": (0.5, 3), "uint8": (0.5, 131), "int16": (0.5, 0)}
    scale, zero_point = quantized.get(dtype, (None, None))
    return Tensor(name, dtype, shape, None, *(() if scale is None else ((scale,), (zero_point,))))


def _kernel(shape: tuple[int, ...], precision: str, dimension: int) -> Tensor:
    random = np.random.default_rng(7)
    if precision in ("float32", "float16"):
        return Tensor("kernel", precision, shape, random.normal(size=shape).astype(precision))
    values = random.integers(-127, 128, size=shape, dtype=np.int8)
    channels = shape[dimension]
    return Tensor("kernel", "int8", shape, values, (0.25,) * channels, (0,) * channels, dimension)


def _bias(shape: tuple[int, ...], precision: str) -> Tensor:
    if precision not in _BIASES:
        return Tensor("bias", "float32", shape, np.ones(shape, np.float32))
    # A bias is in steps of the input's scale times the kernel's.
    scales = (0.5 * 0.25,) * shape[0]
    dtype = _BIASES[precision]
    return Tensor("bias", dtype, shape, np.ones(shape, dtype), scales, (0,) * shape[0])


def _subgraph(model: Any, graph: Graph) -> Any:
    subgraph = schema.SubGraphT()
    subgraph.tensors = [_tensor(model, tensor) for tensor in graph.tensors]
    subgraph.operators = [_operator(model, op) for op in graph.ops]
    subgraph.inputs, subgraph.outputs = list(graph.inputs), list(graph.outputs)
    return subgraph


def _tensor(model: Any, tensor: Tensor) -> Any:
    built = schema.TensorT()
    built.name, built.shape = tensor.name, list(tensor.shape)
    built.type = getattr(schema.TensorType, tensor.dtype.upper())
    built.shapeSignature = None if tensor.signature is None else list(tensor.signature)
    built.buffer = 0 if tensor.values is None else _buffer(model, tensor.values)
    if tensor.scales:
        built.quantization = schema.QuantizationParametersT()
        built.quantization.scale = list(tensor.scales)
        built.quantization.zeroPoint = list(tensor.zero_points)
        built.quantization.quantizedDimension = tensor.dimension
    return built


def _buffer(model: Any, values: np.ndarray) -> int:
    """The buffer of ``values``: equal bytes share one, as converters let them."""
    raw = np.frombuffer(values.tobytes(), np.uint8)
    for i, buffer in enumerate(model.buffers):
        if buffer.data is not None and np.array_equal(buffer.data, raw):
            return i
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = raw
    return len(model.buffers) - 1


def _operator(model: Any, op: Op) -> Any:
    built = schema.OperatorT()
    built.opcodeIndex = len(model.operatorCodes)
    built.inputs, built.outputs = list(op.inputs), list(op.outputs)
    if op.options is not None:
        name = type(op.options).__name__.removesuffix("T")
        built.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        built.builtinOptions = op.options
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, "CUSTOM" if op.custom else op.type)
    # 127 is what the schema asks for where the code does not fit the old field's byte.
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), op.version
    code.customCode = op.type if op.custom else None
    model.operatorCodes.append(code)
    return built


def _metadata(name: str) -> Any:
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, 0
    return entry


def _signature(graph: Graph, subgraph: int) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = graph.signature_key, subgraph
    signature.inputs, signature.outputs = (
        [_argument(f"{end}_{i}", index) for i, index in enumerate(indices)]
        for end, indices in (("input", graph.inputs), ("output", graph.outputs))
    )
    return signature


def _argument(name: str, index: int) -> Any:
    argument = schema.TensorMapT()
    argument.name, argument.tensorIndex = name, index
    return argument


def _pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _pack_external(model: Any) -> bytes:
    """Pack twice: once to learn where the flatbuffer ends, once with the offsets; both have the same size."""
    blobs = [b"" if buffer.data is None else buffer.data.tobytes() for buffer in model.buffers]
    for buffer, blob in zip(model.buffers, blobs, strict=True):
        # A field at its default, 0, is left out of the flatbuffer: anything else keeps the size.
        buffer.data, buffer.offset, buffer.size = None, 2 if blob else 0, len(blob)
    end = -(-len(_pack(model)) // 16) * 16
    padded = [blob + bytes(-len(blob) % 16) for blob in blobs]
    starts = itertools.accumulate((len(blob) for blob in padded), initial=end)
    for buffer, start in zip(model.buffers, starts, strict=False):
        buffer.offset = start if buffer.size else 0
    return _pack(model).ljust(end, b"\0") + b"".join(padded)
