"""A .tflite as a tree of objects that can be changed: the schema's own object tree, and what one asks of it.

Only the first subgraph is looked at; the others are carried along. Not for files from strangers: read their model card
first, which checks every index.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import TechniqueError
from ..model_card import enum_names, read_model_card

__all__ = ["FlatModel"]

Array = npt.NDArray[Any]
ALIGNMENT = 16
LARGEST_BYTES = 2**31 - 1
# The schema's first field for it has 7 bits; from there on it says PLACEHOLDER_FOR_GREATER_OP_CODES.
LAST_OLD_CODE = 127


class FlatModel:
    """The object tree of ``tflite``; raises ModelFileError for bytes that are none, TechniqueError beyond 2 GB."""

    def __init__(self, tflite: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        read_model_card(tflite)
        if len(tflite) > LARGEST_BYTES:
            raise TechniqueError(
                f"expected a model of at most 2 GB to change, got {len(tflite)} bytes: leave out this option"
            )
        self.model = schema.ModelT.InitFromPackedBuf(tflite, 0)
        for buffer in self.model.buffers:
            if (buffer.offset or 0) > 1:  # behind the flatbuffer, where large models have their constants
                buffer.data = np.frombuffer(tflite, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        self.graph = self.model.subgraphs[0]
        self._names = enum_names(schema.BuiltinOperator)
        self._dtypes = {value: name.lower() for value, name in enum_names(schema.TensorType).items()}
        self.producers: dict[int, int] = {}
        self.consumers: dict[int, list[int]] = {}
        for index, op in enumerate(self.graph.operators):
            self.producers.update({int(tensor): index for tensor in op.outputs})
            for tensor in op.inputs:
                self.consumers.setdefault(int(tensor), []).append(index)
        self.ends = {int(i) for i in (*self.graph.inputs, *self.graph.outputs)}

    def to_bytes(self) -> bytes:
        """The file of the tree as it is now, its constants aligned as the schema wants them (which Pack forgets)."""
        import flatbuffers

        def start_vector(builder: Any, size: int, count: int, alignment: int) -> Any:
            return flatbuffers.Builder.StartVector(builder, size, count, ALIGNMENT if size == 1 else alignment)

        builder = type("Aligned", (flatbuffers.Builder,), {"StartVector": start_vector})(1 << 20)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def code(self, op: int) -> int:
        """The builtin operator's number in the schema."""
        code = self.model.operatorCodes[self.graph.operators[op].opcodeIndex]
        return int(max(code.builtinCode, code.deprecatedBuiltinCode))

    def type(self, op: int) -> str:
        """The builtin operator's name in the schema."""
        return str(self._names.get(self.code(op), "")) or (f"UNKNOWN_{self.code(op)}")

    def inputs(self, op: int) -> list[int]:
        """Tensor indices, -1 where an optional operand is left out."""
        return [int(i) for i in self.graph.operators[op].inputs]

    def outputs(self, op: int) -> list[int]:
        """Tensor indices."""
        return [int(i) for i in self.graph.operators[op].outputs]

    def name(self, tensor: int) -> str:
        """The tensor's whole name, as an interpreter tells it."""
        return str((self.graph.tensors[tensor].name or b"").decode("utf-8", "replace"))

    def dtype(self, tensor: int) -> str:
        """The tensor's element type as numpy calls it."""
        return str(self._dtypes.get(self.graph.tensors[tensor].type, "unknown"))

    def scope(self, op: int) -> str:
        """What ai-edge-quantizer matches its patterns against: the names of the outputs, each followed by a semicolon."""
        return "".join(self.name(i) + ";" for i in self.outputs(op) if i >= 0 and self.name(i))

    def constant(self, tensor: int) -> Array | None:
        """A copy of a constant's values in its shape; None for a tensor that is computed, or left out."""
        if tensor < 0:
            return None
        raw = self.graph.tensors[tensor]
        data = self.model.buffers[raw.buffer].data if raw.buffer else None
        if data is None or not len(data):
            return None
        values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.dtype(self.dtype(tensor)))
        return values.reshape([int(i) for i in raw.shape] if raw.shape is not None else []).copy()

    def set_operand(self, op: int, position: int, values: Array) -> None:
        """Give the constant operand at ``position`` of ``op`` other values, in a tensor and a buffer of its own.

        Other operators that read the same tensor, and tensors that share its buffer, keep theirs.
        """
        tensor = self.inputs(op)[position]
        raw = self.graph.tensors[tensor]
        if len(self.consumers[tensor]) > 1 or tensor in self.ends:
            raw = copy(raw)
            raw.name = (raw.name or b"") + f"_of_{op}".encode()
            self.graph.tensors.append(raw)
            self.consumers[tensor].remove(op)
            tensor = len(self.graph.tensors) - 1
            self.consumers[tensor] = [op]
            operands = self.inputs(op)
            operands[position] = tensor
            self.graph.operators[op].inputs = operands
        graphs = self.model.subgraphs
        if sum(other.buffer == raw.buffer for graph in graphs for other in graph.tensors) > 1:
            self.model.buffers.append(copy(self.model.buffers[raw.buffer]))
            raw.buffer = len(self.model.buffers) - 1
        data = np.ascontiguousarray(values, np.dtype(self.dtype(tensor)))
        self.model.buffers[raw.buffer].data = np.frombuffer(data.tobytes(), np.uint8)

    def add_code(self, builtin: int, *, version: int) -> int:
        """The place of the operator code of a builtin operator (its number in the schema) in ``version``, appended where new."""
        codes = self.model.operatorCodes
        for place, code in enumerate(codes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and code.version == version:
                return place
        from ai_edge_litert import schema_py_generated as schema

        made = schema.OperatorCodeT()
        made.builtinCode, made.version = builtin, version
        made.deprecatedBuiltinCode = min(builtin, LAST_OLD_CODE)
        codes.append(made)
        return len(codes) - 1

    def drop_unused_codes(self) -> None:
        """Leave out operator codes that no operator has: runtimes and compilers look up each of them."""
        operators = [op for graph in self.model.subgraphs for op in graph.operators or ()]
        used = sorted({op.opcodeIndex for op in operators})
        place = {old: new for new, old in enumerate(used)}
        self.model.operatorCodes = [self.model.operatorCodes[index] for index in used]
        for op in operators:
            op.opcodeIndex = place[op.opcodeIndex]
