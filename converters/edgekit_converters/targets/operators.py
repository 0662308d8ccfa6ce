"""The operators of a .tflite with their options and operands: what rules for a target are applied to. No TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from ..errors import ModelFileError
from ..model_card import ModelCard, TensorCard, enum_names, load_schema, read_model_card

__all__ = ["EDGETPU_OPERATOR", "ETHOS_U_OPERATOR", "Operator", "OperatorGraph", "read_operators"]

# What the two compilers put in the place of the operators they take.
EDGETPU_OPERATOR, ETHOS_U_OPERATOR = "edgetpu-custom-op", "ethos-u"

MOST_VALUES = 1024  # of a constant that says how (axes, sizes, paddings); weights are not read
_DTYPES = {
    "int32": np.int32,
    "int64": np.int64,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "float32": np.float32,
}
_ACCESS_ERRORS = (struct.error, ValueError, TypeError, IndexError, OverflowError, AttributeError)


@dataclass(frozen=True)
class Operator:
    """Operator ``index`` of subgraph 0.

    ``inputs`` and ``outputs`` are its tensors, None where an optional one is left out. ``options`` are its builtin options by
    the schema's own names (``StrideH``, ``FusedActivationFunction``), numbers and lists of numbers. ``constants`` holds the
    values of its small constant inputs (at most 1,024 elements) by their place among the inputs.
    """

    index: int
    type: str
    version: int
    custom: bool
    inputs: tuple[TensorCard | None, ...]
    outputs: tuple[TensorCard | None, ...]
    macs: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[int, np.ndarray[Any, Any]] = field(default_factory=dict, repr=False)

    @property
    def operands(self) -> tuple[TensorCard, ...]:
        """Every tensor it reads or writes."""
        return tuple(tensor for tensor in (*self.inputs, *self.outputs) if tensor is not None)

    @property
    def computed_inputs(self) -> tuple[TensorCard, ...]:
        """The inputs that are no constants."""
        return tuple(tensor for tensor in self.inputs if tensor is not None and not tensor.constant)

    @property
    def constant_inputs(self) -> tuple[TensorCard, ...]:
        """The inputs whose values are in the file."""
        return tuple(tensor for tensor in self.inputs if tensor is not None and tensor.constant)


@dataclass(frozen=True)
class OperatorGraph:
    """Subgraph 0 of a model in the order of execution; ``card`` is all the rest that is known of the file."""

    card: ModelCard
    operators: tuple[Operator, ...]


def read_operators(data: bytes, card: ModelCard | None = None) -> OperatorGraph:
    """Read the operators of a .tflite's first subgraph; ``card`` is that of the bytes, where it is read already.

    Raises ModelFileError for bytes that are no whole model.
    """
    card = read_model_card(data) if card is None else card
    schema = load_schema()
    try:
        model = schema.Model.GetRootAs(data, 0)
        graph = model.Subgraphs(0)
        return OperatorGraph(card, tuple(_operator(schema, model, graph, card, i) for i in range(len(card.ops))))
    except _ACCESS_ERRORS as error:
        raise ModelFileError(
            f"expected operators with options inside the file, got {len(data)} bytes that point outside themselves: the file "
            "is damaged; download it again, or convert the model again"
        ) from error


def _operator(schema: Any, model: Any, graph: Any, card: ModelCard, index: int) -> Operator:
    op, raw = card.ops[index], graph.Operators(index)
    inputs = tuple(None if i < 0 else card.tensors[i] for i in op.inputs)
    return Operator(
        index=index,
        type=op.type,
        version=op.version,
        custom=op.custom,
        inputs=inputs,
        outputs=tuple(None if i < 0 else card.tensors[i] for i in op.outputs),
        macs=op.macs,
        options=_options(schema, raw),
        constants=_constants(model, graph, inputs),
    )


def _options(schema: Any, raw: Any) -> dict[str, Any]:
    """The builtin options of an operator; empty for one that has none, or of a kind newer than the schema."""
    for union, table in (("BuiltinOptions", raw.BuiltinOptions()), ("BuiltinOptions2", raw.BuiltinOptions2())):
        name = _union_names(schema, union).get(getattr(raw, f"{union}Type")(), "NONE")
        kind = getattr(schema, name, None)
        if table is None or kind is None:
            continue
        options = kind()
        options.Init(table.Bytes, table.Pos)
        return {field_name: read(options) for field_name, read in _fields(kind).items()}
    return {}


@cache
def _union_names(schema: Any, union: str) -> dict[int, str]:
    return enum_names(getattr(schema, union))


@cache
def _fields(kind: Any) -> dict[str, Callable[[Any], Any]]:
    """How to read each field of an options table: scalars by their method, vectors of numbers as lists."""
    names = [name for name, value in vars(kind).items() if callable(value) and name[0].isupper()]
    fields: dict[str, Callable[[Any], Any]] = {}
    for name in names:
        if f"{name}AsNumpy" in names:
            fields[name] = _vector_reader(kind, name)
        elif f"{name}Length" not in names and getattr(kind, name).__code__.co_argcount == 1:
            suffix = next((end for end in ("AsNumpy", "Length", "IsNone") if name.endswith(end)), "")
            if not suffix or name[: -len(suffix)] not in names:
                fields[name] = getattr(kind, name)
    return fields


def _vector_reader(kind: Any, name: str) -> Callable[[Any], list[Any]]:
    length, values = getattr(kind, f"{name}Length"), getattr(kind, f"{name}AsNumpy")
    return lambda table: values(table)[:MOST_VALUES].tolist() if length(table) else []


def _constants(model: Any, graph: Any, inputs: tuple[TensorCard | None, ...]) -> dict[int, np.ndarray[Any, Any]]:
    found = {}
    for place, tensor in enumerate(inputs):
        if tensor is None or not tensor.constant or tensor.dtype not in _DTYPES:
            continue
        dtype = np.dtype(_DTYPES[tensor.dtype])
        if not 0 < tensor.size_bytes <= MOST_VALUES * dtype.itemsize or tensor.size_bytes % dtype.itemsize:
            continue
        buffer = model.Buffers(graph.Tensors(tensor.index).Buffer())
        if buffer.Offset() > 1 or not buffer.DataLength():
            continue
        found[place] = np.frombuffer(buffer.DataAsNumpy().tobytes(), dtype.newbyteorder("<"))
    return found
