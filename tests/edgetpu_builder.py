"""Compiled Edge TPU models built byte by byte, with a writer of its own: flatbuffers' builders, not edgekit's reader.

``compiled_model(original)`` makes of any .tflite what the compiler would leave behind: the operators in ``pieces`` become one
``edgetpu-custom-op`` each, with a real-looking DWN1 package; the others stay. Nothing of it runs: instructions are noise.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

CUSTOM_OP = "edgetpu-custom-op"
STAND_ALONE, PARAMETER_CACHING, EXECUTION_ONLY = range(3)
INPUT, OUTPUT, PARAMETER, SCRATCH = 1, 0, 2, 3  # what a transfer's base address is of
_DESCRIPTOR, _INSTRUCTION, _INTERRUPT, _FENCE = 1, 2, 3, 4


@dataclass(frozen=True)
class BuiltLayer:
    """A tensor that goes into an executable or out of it."""

    name: str
    size_bytes: int
    y: int = 1
    x: int = 1
    z: int = 1
    data_type: int = 0
    runs: int = 1


@dataclass(frozen=True)
class BuiltExecutable:
    """An executable; ``transfers`` are (base, bytes) of its descriptors, after one instruction each and before an interrupt."""

    type: int = EXECUTION_ONLY
    parameter_bytes: int = 0
    name: str = "model"
    batch: int = 1
    scratch_bytes: int = 0
    instructions: Sequence[int] = (640,)
    chip: str = "beagle"
    estimated_cycles: int = 0
    estimated_cycles_64: int = 0
    narrow_bytes_per_tile: int = 1024
    token: int = 0xB1A5ED0F5EED
    in_dram: bool = False
    inputs: Sequence[BuiltLayer] = ()
    outputs: Sequence[BuiltLayer] = ()
    transfers: Sequence[tuple[int, int]] = ()
    fences: int = 0
    complete: bool = True


@dataclass(frozen=True)
class BuiltPackage:
    """A package; by default one that keeps 4,096 bytes of parameters on the chip and streams none."""

    executables: Sequence[BuiltExecutable] = (BuiltExecutable(), BuiltExecutable(PARAMETER_CACHING, 4096, "Unknown"))
    min_runtime: int = 14
    compiler_version: str = "cl/384591198"
    model_identifier: str = ""
    virtual_chip: int = 0


def compiled_model(
    original: bytes,
    *,
    pieces: Sequence[Sequence[int]] | None = None,
    packages: Sequence[BuiltPackage | bytes] | None = None,
) -> bytes:
    """The bytes of ``original`` after compiling: each of ``pieces`` (operator indices of subgraph 0; all in one by default)
    absorbed by a custom operator with the package at the same place of ``packages``; bytes stand for its options as they are.
    """
    model = schema.ModelT.InitFromPackedBuf(original, 0)
    graph = model.subgraphs[0]
    pieces = [range(len(graph.operators))] if pieces is None else pieces
    packages = [BuiltPackage() for _ in pieces] if packages is None else packages
    constants = {i for i, tensor in enumerate(graph.tensors) if _is_constant(model, tensor)}
    code = _custom_code(model)
    absorbed = {index for piece in pieces for index in piece}
    left = [op for i, op in enumerate(graph.operators) if i not in absorbed]
    made = [_custom_op(graph, piece, constants, code, package) for piece, package in zip(pieces, packages, strict=True)]
    graph.operators = _in_order(made + left, constants | set(graph.inputs))
    _forget_unused(model, graph)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def custom_options(package: bytes, *, version: int = 1, key: str = "4") -> bytes:
    """The FlexBuffer map around a package, as libedgetpu writes it."""
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Int("1", version)
        builder.Key(key)
        # A string of any bytes, which String() itself would encode: so libedgetpu stores a package.
        builder._WriteBlob(package, append_zero=True, type_=flexbuffers.Type.STRING)
        builder.Int("5", 0)
    return bytes(builder.Finish())


def package_bytes(package: BuiltPackage) -> bytes:
    """A DWN1 FlatBuffer of libedgetpu's schema."""
    multi = flatbuffers.Builder(1024)
    executables = [_string(multi, _executable(one)) for one in package.executables]
    vector = _offsets(multi, executables)
    multi.StartObject(1)
    multi.PrependUOffsetTRelativeSlot(0, vector, 0)
    multi.Finish(multi.EndObject())
    builder = flatbuffers.Builder(1024)
    inner = builder.CreateByteVector(bytes(multi.Output()))
    version = builder.CreateString(package.compiler_version)
    identifier = builder.CreateString(package.model_identifier)
    builder.StartObject(8)
    builder.PrependInt32Slot(0, package.min_runtime, 0)
    builder.PrependUOffsetTRelativeSlot(1, inner, 0)
    builder.PrependUOffsetTRelativeSlot(4, version, 0)
    builder.PrependInt32Slot(5, package.virtual_chip, 0)
    builder.PrependUOffsetTRelativeSlot(7, identifier, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"DWN1")
    return bytes(builder.Output())


def placeholder_options() -> bytes:
    """What the Python package `edgecompiler` leaves where it finds no compiler: its magic, and nothing that could run."""
    header = struct.pack("<IIIIQ", 0x45504342, 2, 16, 0, 0xB1A5ED)
    return header + struct.pack("<IIIII", 0xDEADBEEF, 1, 3, 1, 1)


def _executable(one: BuiltExecutable) -> bytes:
    builder = flatbuffers.Builder(1024)
    name, chip = builder.CreateString(one.name), builder.CreateString(one.chip)
    noise = np.random.default_rng(11)
    parameters = builder.CreateByteVector(noise.bytes(one.parameter_bytes)) if one.parameter_bytes else None
    chunks = _offsets(builder, [_bitstream(builder, noise.bytes(size)) for size in one.instructions])
    inputs, outputs = (
        _offsets(builder, [_layer(builder, layer) for layer in layers]) for layers in (one.inputs, one.outputs)
    )
    hints = _hints(builder, one)
    builder.StartObject(17)
    builder.PrependUOffsetTRelativeSlot(1, name, 0)
    builder.PrependInt32Slot(3, one.batch, 0)
    builder.PrependInt32Slot(4, one.scratch_bytes, 0)
    builder.PrependUOffsetTRelativeSlot(5, chunks, 0)
    if parameters is not None:
        builder.PrependUOffsetTRelativeSlot(6, parameters, 0)
    builder.PrependUOffsetTRelativeSlot(7, hints, 0)
    builder.PrependUOffsetTRelativeSlot(8, inputs, 0)
    builder.PrependUOffsetTRelativeSlot(9, outputs, 0)
    builder.PrependUOffsetTRelativeSlot(10, chip, 0)
    builder.PrependInt32Slot(11, one.estimated_cycles, 0)
    builder.PrependInt32Slot(12, one.narrow_bytes_per_tile, 0)
    builder.PrependInt16Slot(13, one.type, 0)
    builder.PrependUint64Slot(14, one.token, 0)
    builder.PrependBoolSlot(15, one.in_dram, False)
    builder.PrependInt64Slot(16, one.estimated_cycles_64, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _hints(builder: Any, one: BuiltExecutable) -> int:
    hints = [_hint(builder, _INSTRUCTION, _table(builder, 1)) for _ in one.instructions]
    for base, size in one.transfers:
        builder.StartObject(4)
        builder.PrependInt16Slot(0, base, 0)
        meta = builder.EndObject()
        builder.StartObject(3)
        builder.PrependUOffsetTRelativeSlot(0, meta, 0)
        builder.PrependInt32Slot(2, size, 0)
        hints.append(_hint(builder, _DESCRIPTOR, builder.EndObject()))
    hints += [_hint(builder, _FENCE, _table(builder, 0)) for _ in range(one.fences)]
    hints.append(_hint(builder, _INTERRUPT, _table(builder, 1)))
    vector = _offsets(builder, hints)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    builder.PrependBoolSlot(1, one.complete, False)
    return builder.EndObject()


def _hint(builder: Any, kind: int, body: int) -> int:
    builder.StartObject(3)
    builder.PrependUint8Slot(0, kind, 0)
    builder.PrependUOffsetTRelativeSlot(1, body, 0)
    return builder.EndObject()


def _table(builder: Any, fields: int) -> int:
    builder.StartObject(fields)
    return builder.EndObject()


def _layer(builder: Any, layer: BuiltLayer) -> int:
    name = builder.CreateString(layer.name)
    builder.StartObject(12)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    for field, value in enumerate((layer.size_bytes, layer.y, layer.x, layer.z), start=1):
        builder.PrependInt32Slot(field, value, 0)
    builder.PrependInt16Slot(6, layer.data_type, 0)
    builder.PrependInt32Slot(9, layer.runs, 1)
    return builder.EndObject()


def _bitstream(builder: Any, content: bytes) -> int:
    chunk = builder.CreateByteVector(content)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, chunk, 0)
    return builder.EndObject()


def _string(builder: Any, content: bytes) -> int:
    """A string of any bytes: the schema keeps executables in strings."""
    return builder.CreateString(content)


def _offsets(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data if tensor.buffer else None
    return data is not None and len(data) > 0


def _custom_code(model: Any) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.CUSTOM
    code.deprecatedBuiltinCode, code.version, code.customCode = code.builtinCode, 1, CUSTOM_OP
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _custom_op(graph: Any, piece: Sequence[int], constants: set[int], code: int, package: BuiltPackage | bytes) -> Any:
    inside = [graph.operators[i] for i in piece]
    outside = [op for i, op in enumerate(graph.operators) if i not in set(piece)]
    produced = {int(i) for op in inside for i in op.outputs}
    read = [int(i) for op in inside for i in op.inputs if i >= 0]
    wanted = {int(i) for op in outside for i in op.inputs} | {int(i) for i in graph.outputs}
    built = schema.OperatorT()
    built.opcodeIndex = code
    built.inputs = [i for i in dict.fromkeys(read) if i not in produced and i not in constants]
    built.outputs = [i for i in sorted(produced) if i in wanted]
    options = package if isinstance(package, bytes) else custom_options(package_bytes(package))
    built.customOptions = np.frombuffer(options, np.uint8)
    return built


def _in_order(ops: list[Any], available: set[int]) -> list[Any]:
    """The operators so that each comes after those it reads from."""
    ordered, known = [], set(available)
    while ops:
        ready = [op for op in ops if all(i < 0 or int(i) in known for i in op.inputs)]
        if not ready:
            raise ValueError("the pieces depend on each other in a circle")
        ordered += ready
        known |= {int(i) for op in ready for i in op.outputs}
        ops = [op for op in ops if op not in ready]
    return ordered


def _forget_unused(model: Any, graph: Any) -> None:
    """Leave out tensors nobody uses any more, and their values."""
    used = {int(i) for op in graph.operators for i in (*op.inputs, *op.outputs) if i >= 0}
    used |= {int(i) for i in (*graph.inputs, *graph.outputs)}
    kept = sorted(used)
    new = {old: place for place, old in enumerate(kept)} | {-1: -1}
    graph.tensors = [graph.tensors[i] for i in kept]
    for table in (graph, *graph.operators):
        table.inputs, table.outputs = ([new[int(i)] for i in ids] for ids in (table.inputs, table.outputs))
    still = {tensor.buffer for other in model.subgraphs for tensor in other.tensors}
    for place, buffer in enumerate(model.buffers):
        if place not in still:
            buffer.data = None
    model.signatureDefs = []
