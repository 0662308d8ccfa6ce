"""Does a .tflite stay inside its own file? A runtime that follows a damaged offset out of it may crash, or not.

tflite-runtime reads wherever an offset points, and what lies there differs from process to process: a trial in a child
may pass where the next load does not. LiteRT and TensorFlow verify the layout, but not the indices of signatures. So
the layout of tables and vectors (flatbuffers.dev/internals), and the indices that no loader checks, are verified here
for all of them; what the numbers mean is the runtime's business.
"""

from __future__ import annotations

import struct
from typing import Union

from .errors import ModelError

__all__ = ["verify"]

_U32 = struct.Struct("<I")

# What a table's field holds: the width of a vector's elements, a table, a vector of tables, or one table of several
# kinds by the number in the field before it. Scalars are inline and need no entry. Field numbers are the schema's own
# (tensorflow/lite/schema/schema.fbs).
_Field = Union[int, str, "list[str]", "dict[int, str]"]
_SCHEMA: dict[str, dict[int, _Field]] = {
    "Model": {1: ["OperatorCode"], 2: ["SubGraph"], 3: 1, 4: ["Buffer"], 5: 4, 6: ["Metadata"], 7: ["SignatureDef"]},
    "OperatorCode": {1: 1},
    "SubGraph": {0: ["Tensor"], 1: 4, 2: 4, 3: ["Operator"], 4: 1},
    "Tensor": {0: 4, 3: 1, 4: "Quantization", 6: "Sparsity", 7: 4, 9: ["VariantSubType"]},
    "Quantization": {0: 4, 1: 4, 2: 4, 3: 8, 5: {1: "Bytes"}},
    "Sparsity": {0: 4, 1: 4, 2: ["Dimension"]},
    "Dimension": {
        3: {1: "Int32Vector", 2: "Uint16Vector", 3: "Bytes"},
        5: {1: "Int32Vector", 2: "Uint16Vector", 3: "Bytes"},
    },
    "VariantSubType": {0: 4},
    "Operator": {1: 4, 2: 4, 4: {17: "Int32Vector", 30: "Int32Vector"}, 5: 1, 7: 1, 8: 4, 12: {}},
    "Buffer": {0: 1},
    "Metadata": {0: 1},
    "SignatureDef": {0: ["TensorMap"], 1: ["TensorMap"], 2: 1},
    "TensorMap": {0: 1},
    "Bytes": {0: 1},
    "Int32Vector": {0: 4},  # also ReshapeOptions (17) and SqueezeOptions (30), whose one vector it is
    "Uint16Vector": {0: 2},
    "": {},
}


def verify(content: bytes, name: str) -> None:
    """Raise ModelError unless every table and vector of the model lies inside ``content``."""
    try:
        _Walk(content).model()
    except (_OutsideError, struct.error) as error:
        raise ModelError(f"cannot load {name}: it is damaged ({error}). Copy it again, or convert it again") from error


class _OutsideError(Exception):
    """An offset or a length leads out of the file."""


class _Walk:
    """One pass over the tables of a model, each visited once however often it is shared."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._seen: set[tuple[int, str]] = set()

    def model(self) -> None:
        """Verify everything that the root table leads to."""
        root = self._offset(0)
        self._table(root, "Model")
        buffers, graphs = self._tables(root, 4), self._tables(root, 2)
        for metadata in self._tables(root, 6):
            self._below(self._scalar(metadata, 1), len(buffers), "a metadata's buffer")
        for signature in self._tables(root, 7):
            graph = self._scalar(signature, 4)
            self._below(graph, len(graphs), "a signature's subgraph")
            tensors = len(self._tables(graphs[graph], 0))
            for argument in self._tables(signature, 0) + self._tables(signature, 1):
                self._below(self._scalar(argument, 1), tensors, "a signature's tensor")

    def _table(self, at: int, kind: str) -> None:
        if (at, kind) in self._seen:
            return
        self._seen.add((at, kind))
        fields = self._fields(at)
        for number, holds in _SCHEMA[kind].items():
            if number >= len(fields) or not fields[number]:
                continue
            field = at + fields[number]
            if isinstance(holds, dict):
                chosen = self._content[at + fields[number - 1]] if fields[number - 1] else 0
                self._table(self._offset(field), holds.get(chosen, ""))
            elif isinstance(holds, list):
                start, count = self._vector(field, 4)
                for element in range(start, start + 4 * count, 4):
                    self._table(self._offset(element), holds[0])
            elif isinstance(holds, str):
                self._table(self._offset(field), holds)
            else:
                self._vector(field, holds)

    def _fields(self, at: int) -> tuple[int, ...]:
        """Where each field of the table at ``at`` lies within it, 0 where it is absent."""
        (back,) = struct.unpack_from("<i", self._content, self._inside(at, 4))
        layout = self._inside(at - back, 4)
        length, size = struct.unpack_from("<HH", self._content, layout)
        self._inside(layout, length)
        if at + size > len(self._content):
            raise _OutsideError(f"a table of {size} bytes at byte {at}")
        if length < 4 or length % 2:
            raise _OutsideError(f"a table's layout of {length} bytes at byte {layout}")
        fields: tuple[int, ...] = struct.unpack_from(f"<{length // 2 - 2}H", self._content, layout + 4)
        if any(field and not 4 <= field < size for field in fields):
            raise _OutsideError(f"a field outside its table at byte {at}")
        return fields

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        """Where the elements of the vector that ``field`` points to start, and how many they are."""
        at = self._inside(self._offset(field), 4)
        (count,) = _U32.unpack_from(self._content, at)
        self._inside(at + 4, count * width)
        return at + 4, count

    def _offset(self, at: int) -> int:
        return at + int(_U32.unpack_from(self._content, self._inside(at, 4))[0])

    def _tables(self, at: int, number: int) -> list[int]:
        fields = self._fields(at)
        if number >= len(fields) or not fields[number]:
            return []
        start, count = self._vector(at + fields[number], 4)
        return [self._offset(element) for element in range(start, start + 4 * count, 4)]

    def _scalar(self, at: int, number: int) -> int:
        fields = self._fields(at)
        present = number < len(fields) and fields[number]
        return int(_U32.unpack_from(self._content, self._inside(at + fields[number], 4))[0]) if present else 0

    def _below(self, index: int, count: int, what: str) -> None:
        if index >= count:
            raise _OutsideError(f"{what} is number {index} of {count}")

    def _inside(self, at: int, size: int) -> int:
        if at < 0 or at + size > len(self._content):
            raise _OutsideError(f"{size} bytes at byte {at}, and the file has {len(self._content)}")
        return at
