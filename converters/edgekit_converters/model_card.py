"""The model card: what a .tflite holds, read from its bytes without TensorFlow and without a runtime.

The file is a flatbuffer (identifier ``TFL3``), and a flatbuffer from a stranger may point anywhere: at itself, past its
end, or a million times at the same vector. So nothing is believed: each table read and each value copied is paid from
a budget in proportion to the file's size, and every index is checked against what it indexes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import MissingPackageError, ModelFileError
from .op_costs import count_elements, count_macs

__all__ = [
    "ModelCard",
    "OpCard",
    "SignatureCard",
    "TensorCard",
    "clean_name",
    "enum_names",
    "load_schema",
    "read_model_card",
]

SCHEMA_VERSION = 3
MAX_SUBGRAPHS = 1000
MAX_TABLES = 200_000
MAX_WORK_BYTES = 64 * 2**20
MAX_RANK = 32
MAX_ELEMENTS = 2**62
TEXT_CAP = 200
WARNINGS_CAP = 20

_DAMAGED = "the file is damaged; download it again, or convert the model again"
# What flatbuffers and numpy raise when an offset leads outside the file.
_ACCESS_ERRORS = (struct.error, ValueError, TypeError, IndexError, OverflowError)
_BITS = {
    **dict.fromkeys(("int2",), 2),
    **dict.fromkeys(("int4", "uint4"), 4),
    **dict.fromkeys(("bool", "int8", "uint8", "float8_e4m3fn", "float8_e5m2"), 8),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 16),
    **dict.fromkeys(("int32", "uint32", "float32"), 32),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 64),
    "complex128": 128,
}
_WEIGHTS = frozenset(name for name in _BITS if "float" in name) | {"int2", "int4", "uint4", "int8", "uint8", "int16"}
_BIASES = frozenset({"int32", "int64"})


@dataclass(frozen=True)
class TensorCard:
    """One tensor: ``shape`` as stored (1 where dynamic), ``shape_signature`` with -1 where dynamic, None if not given.

    One scale means per tensor, several mean one per slice of ``quantized_dimension``, none means not quantized.
    ``size_bytes`` is what the file stores of a constant, and what any other tensor takes in memory.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...] | None
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    quantized_dimension: int
    constant: bool
    size_bytes: int
    subgraph: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The tensor as JSON values; ``scale`` and ``zero_point`` are a number, a list when per channel, or None."""
        fields = dataclasses.asdict(self)
        scales = [scale if math.isfinite(scale) else None for scale in fields.pop("scales")]
        fields["scale"] = _one_or_list(scales)
        fields["zero_point"] = _one_or_list(list(fields.pop("zero_points"))) if scales else None
        return fields


@dataclass(frozen=True)
class OpCard:
    """One operator: tensor indices of its operands (-1 where an optional one is left out) and its MACs.

    ``type`` is the builtin operator's name in the schema, or the name a custom operator gives itself.
    """

    index: int
    type: str
    version: int
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    macs: int
    subgraph: int = 0


@dataclass(frozen=True)
class SignatureCard:
    """One named entry point: argument and result names, and the tensors of ``subgraph`` they stand for."""

    key: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    subgraph: int


@dataclass(frozen=True)
class ModelCard:
    """What a model file holds; ``inputs``, ``outputs``, ``ops`` and ``tensors`` are those of its first subgraph.

    ``parameters`` is the number of elements of constant tensors of a weight's kind in all subgraphs: floats and the
    integers of at most 16 bits, and int32 or int64 that carry a scale (biases of a quantized model). Shapes, axes and
    other plain int32 or int64 constants are none. Each tensor counts once, also where several share a buffer because their
    bytes happen to be equal: so every precision of one network has the same number. A sparse tensor counts as the dense
    one it stands for.

    ``macs`` adds up every operator of every subgraph once (the formulas are in ``op_costs``): the body of a loop counts
    as one turn, because how often it turns is not in the file.
    """

    inputs: tuple[TensorCard, ...]
    outputs: tuple[TensorCard, ...]
    ops: tuple[OpCard, ...]
    tensors: tuple[TensorCard, ...]
    signatures: tuple[SignatureCard, ...]
    parameters: int
    macs: int
    size_bytes: int
    sha256: str
    schema_version: int
    description: str
    subgraphs: int
    metadata: tuple[str, ...]
    other_ops: tuple[OpCard, ...] = ()
    other_tensors: tuple[TensorCard, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON values, every number finite."""
        facts = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        for name in ("inputs", "outputs", "tensors", "other_tensors"):
            facts[name] = [tensor.to_dict() for tensor in facts[name]]
        for name in ("ops", "other_ops", "signatures"):
            facts[name] = [_listed(dataclasses.asdict(record)) for record in facts[name]]
        return _listed(facts)


def read_model_card(data: bytes) -> ModelCard:
    """Read the card of a .tflite file's bytes.

    Raises ModelFileError when they are no model, whatever else they are, and MissingPackageError without the schema.
    """
    if data[4:8] != b"TFL3":
        begin = f" starting {data[:8].hex()}" if data else ""
        raise ModelFileError(
            f"expected a TensorFlow Lite model (identifier TFL3 at byte 4), got {len(data)} bytes{begin}: "
            "check the download, or convert the model again"
        )
    schema = load_schema()
    try:
        return _Reader(data, schema).card()
    except _ACCESS_ERRORS as error:
        raise ModelFileError(
            f"expected a whole TensorFlow Lite model, got {len(data)} bytes that point outside themselves: {_DAMAGED}"
        ) from error


def load_schema() -> Any:
    """The flatbuffer schema's generated module; imported here because it takes a tenth of a second.

    Raises MissingPackageError without it.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingPackageError(
            "reading a .tflite needs its schema, got no package ai_edge_litert: pip install ai-edge-litert"
        ) from error
    return schema_py_generated


def _one_or_list(values: list[Any]) -> Any:
    return None if not values else values[0] if len(values) == 1 else values


def _listed(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def clean_name(text: bytes | None) -> str:
    """Bytes from the file as printable text of at most 200 characters; control characters become spaces."""
    decoded = (text or b"")[: 4 * TEXT_CAP].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in decoded)[:TEXT_CAP].strip()


def enum_names(enum: type) -> dict[int, str]:
    """The names of a schema's enumeration, by their numbers. From Python 3.13 a class holds numbers of its own as well."""
    return {value: name for name, value in vars(enum).items() if isinstance(value, int) and not name.startswith("_")}


@dataclass(frozen=True)
class _Graph:
    """One subgraph as read: its tensors and operators, and which tensors go in and out."""

    tensors: tuple[TensorCard, ...]
    ops: tuple[OpCard, ...]
    inputs: tuple[TensorCard, ...]
    outputs: tuple[TensorCard, ...]


class _Reader:
    """Walks one file within its budget; any of its methods may raise ModelFileError or one of _ACCESS_ERRORS."""

    def __init__(self, data: bytes, schema: Any) -> None:
        self.data = data
        self.model = schema.Model.GetRootAs(data, 0)
        self.dtypes = {value: name.lower() for value, name in enum_names(schema.TensorType).items()}
        self.builtins = enum_names(schema.BuiltinOperator)
        self.blockwise = schema.QuantizationDetails.BlockwiseQuantization
        # An honest file spends at least 4 bytes on each table and on each number; twice to four times that is allowed.
        self.tables_left = min(MAX_TABLES, len(data) // 4)
        self.work_left = min(MAX_WORK_BYTES, 4 * len(data))
        self.parameters = 0
        self.warnings: list[str] = []

    def card(self) -> ModelCard:
        model = self.model
        if model.Version() != SCHEMA_VERSION:
            raise ModelFileError(f"expected schema version {SCHEMA_VERSION}, got {model.Version()}: {_DAMAGED}")
        if not 1 <= model.SubgraphsLength() <= MAX_SUBGRAPHS:
            raise ModelFileError(f"expected 1 to {MAX_SUBGRAPHS} subgraphs, got {model.SubgraphsLength()}: {_DAMAGED}")
        codes = [self.code(model.OperatorCodes(i)) for i in self.tables(model.OperatorCodesLength(), "operator codes")]
        graphs = [self.graph(i, codes) for i in self.tables(model.SubgraphsLength(), "subgraphs")]
        first, others = graphs[0], graphs[1:]
        return ModelCard(
            inputs=first.inputs,
            outputs=first.outputs,
            ops=first.ops,
            tensors=first.tensors,
            signatures=self.signatures(graphs),
            parameters=self.parameters,
            macs=sum(op.macs for graph in graphs for op in graph.ops),
            size_bytes=len(self.data),
            sha256=hashlib.sha256(self.data).hexdigest(),
            schema_version=model.Version(),
            description=self.text(model.Description()),
            subgraphs=len(graphs),
            metadata=tuple(
                self.text(model.Metadata(i).Name()) for i in self.tables(model.MetadataLength(), "metadata entries")
            ),
            other_ops=tuple(op for graph in others for op in graph.ops),
            other_tensors=tuple(tensor for graph in others for tensor in graph.tensors),
            warnings=tuple(self.warnings),
        )

    def tables(self, count: int, what: str) -> range:
        """The indices of a vector of ``count`` tables, paid for before any is read."""
        if count > self.tables_left:
            raise ModelFileError(f"expected a few {what} in {len(self.data)} bytes, got {count}: {_DAMAGED}")
        self.tables_left -= count
        return range(count)

    def spend(self, size_bytes: int) -> None:
        self.work_left -= size_bytes
        if self.work_left < 0:
            raise ModelFileError(
                f"expected each part of a model's {len(self.data)} bytes to be used about once, "
                f"got parts that are used over and over: {_DAMAGED}"
            )

    def text(self, raw: bytes | None) -> str:
        self.spend(len(raw or b""))
        return clean_name(raw)

    def numbers(self, table: Any, field: str) -> tuple[Any, ...]:
        """The vector ``field`` of ``table`` as Python numbers; empty when it is not there."""
        count = getattr(table, field + "Length")()
        self.spend(8 * count)
        return tuple(getattr(table, field + "AsNumpy")().tolist()) if count else ()

    def warn(self, text: str) -> None:
        if len(self.warnings) < WARNINGS_CAP:
            self.warnings.append(text)

    def code(self, raw: Any) -> tuple[str, int, bool]:
        """An operator code's type, version, and whether it is custom."""
        builtin = max(raw.BuiltinCode(), raw.DeprecatedBuiltinCode())
        name = self.builtins.get(builtin, f"UNKNOWN_{builtin}")
        if name != "CUSTOM":
            return name, raw.Version(), False
        return self.text(raw.CustomCode()) or "CUSTOM", raw.Version(), True

    def graph(self, index: int, codes: list[tuple[str, int, bool]]) -> _Graph:
        raw, where = self.model.Subgraphs(index), f"subgraph {index}"
        tensors = tuple(self.tensor(raw.Tensors(i), i, index) for i in self.tables(raw.TensorsLength(), "tensors"))
        ops = tuple(
            self.op(raw.Operators(i), i, index, codes, tensors) for i in self.tables(raw.OperatorsLength(), "operators")
        )
        inputs, outputs = (
            tuple(tensors[i] for i in self.operands(raw, field, f"{where} {field.lower()}", tensors))
            for field in ("Inputs", "Outputs")
        )
        return _Graph(tensors, ops, inputs, outputs)

    def operands(
        self, table: Any, field: str, where: str, tensors: tuple[TensorCard, ...], lowest: int = 0
    ) -> tuple[int, ...]:
        """The tensor indices in the vector ``field``, each at least ``lowest`` and below the number of tensors."""
        indices = self.numbers(table, field)
        for index in indices:
            _check_index(index, len(tensors), f"{where}: tensor", lowest)
        return indices

    def op(
        self, raw: Any, index: int, subgraph: int, codes: list[tuple[str, int, bool]], tensors: tuple[TensorCard, ...]
    ) -> OpCard:
        where = f"op {index} of subgraph {subgraph}"
        kind, version, custom = codes[_check_index(raw.OpcodeIndex(), len(codes), f"{where}: operator code")]
        inputs = self.operands(raw, "Inputs", where, tensors, lowest=-1)
        outputs = self.operands(raw, "Outputs", where, tensors, lowest=-1)
        shapes = [[None if i < 0 else tensors[i].shape for i in operands] for operands in (inputs, outputs)]
        macs = 0 if custom else count_macs(kind, *shapes)
        return OpCard(index, kind, version, custom, inputs, outputs, macs, subgraph)

    def tensor(self, raw: Any, index: int, subgraph: int) -> TensorCard:
        where = f"tensor {index} of subgraph {subgraph}"
        dtype = self.dtypes.get(raw.Type(), f"unknown_{raw.Type()}")
        shape, elements = self.shape(raw, where)
        scales, zero_points, dimension = self.quantization(raw.Quantization(), where)
        stored = self.stored(raw, where)
        in_memory = (elements * _BITS.get(dtype, 0) + 7) // 8
        if stored is not None:
            self.weigh(dtype, elements, quantized=bool(scales))
            if dtype in _BITS and stored[1] != in_memory and raw.Sparsity() is None:
                self.warn(f"{where} needs {in_memory} bytes but its buffer holds {stored[1]}: no runtime will load it")
        return TensorCard(
            index=index,
            name=self.text(raw.Name()),
            dtype=dtype,
            shape=shape,
            shape_signature=self.numbers(raw, "ShapeSignature") or None,
            scales=scales,
            zero_points=zero_points,
            quantized_dimension=dimension,
            constant=stored is not None,
            size_bytes=in_memory if stored is None else stored[1],
            subgraph=subgraph,
        )

    def shape(self, raw: Any, where: str) -> tuple[tuple[int, ...], int]:
        rank = max(raw.ShapeLength(), raw.ShapeSignatureLength())
        if rank > MAX_RANK:
            raise ModelFileError(f"{where}: expected at most {MAX_RANK} dimensions, got {rank}: {_DAMAGED}")
        shape = self.numbers(raw, "Shape")
        if count_elements(shape) > MAX_ELEMENTS:
            raise ModelFileError(f"{where}: expected a shape that fits a machine, got {shape}: {_DAMAGED}")
        return shape, count_elements(shape)

    def quantization(self, raw: Any, where: str) -> tuple[tuple[float, ...], tuple[int, ...], int]:
        if raw is None:
            return (), (), 0
        scales = self.numbers(raw, "Scale")
        if not all(math.isfinite(scale) for scale in scales):
            self.warn(f"{where} has a scale that is no finite number")
        if raw.DetailsType() == self.blockwise:
            self.warn(f"{where} is quantized in blocks: its scales are in another tensor and are not listed")
        return scales, self.numbers(raw, "ZeroPoint"), raw.QuantizedDimension()

    def stored(self, raw: Any, where: str) -> tuple[int, int] | None:
        """Which buffer holds a constant's bytes, as a key, and how many bytes; None for a tensor that is computed.

        The bytes are in the buffer's own vector or, in models near 2 GB, behind the flatbuffer at ``offset``.
        """
        # Schemas before weights in separate files have no such field.
        if getattr(raw, "ExternalBuffer", int)():
            self.warn(f"{where} keeps its values in another file, which is not read")
        if raw.Buffer() == 0:
            return None
        buffer = self.model.Buffers(_check_index(raw.Buffer(), self.model.BuffersLength(), f"{where}: buffer"))
        if buffer.Offset() > 1:
            if buffer.Offset() + buffer.Size() > len(self.data):
                raise ModelFileError(
                    f"{where}: expected its {buffer.Size()} bytes at byte {buffer.Offset()}, got a file of "
                    f"{len(self.data)} bytes: {_DAMAGED}"
                )
            return (-buffer.Offset(), buffer.Size()) if buffer.Size() else None
        # As a numpy view: nothing is copied, and a length that leads past the end of the file is refused.
        size = buffer.DataAsNumpy().size if buffer.DataLength() else 0
        return (raw.Buffer(), size) if size else None

    def weigh(self, dtype: str, elements: int, *, quantized: bool) -> None:
        """Count a constant's elements as parameters."""
        if dtype in _WEIGHTS or (dtype in _BIASES and quantized):
            self.parameters += elements

    def signatures(self, graphs: list[_Graph]) -> tuple[SignatureCard, ...]:
        signatures = []
        for i in self.tables(self.model.SignatureDefsLength(), "signatures"):
            raw = self.model.SignatureDefs(i)
            subgraph = _check_index(raw.SubgraphIndex(), len(graphs), f"signature {i}: subgraph")
            inputs, outputs = (self.arguments(raw, field, graphs[subgraph].tensors) for field in ("Inputs", "Outputs"))
            signatures.append(SignatureCard(self.text(raw.SignatureKey()), inputs, outputs, subgraph))
        return tuple(signatures)

    def arguments(self, raw: Any, field: str, tensors: tuple[TensorCard, ...]) -> dict[str, int]:
        """A signature's argument names and the tensors they stand for."""
        count = getattr(raw, field + "Length")()
        maps = [getattr(raw, field)(i) for i in self.tables(count, "signature arguments")]
        return {
            self.text(item.Name()): _check_index(item.TensorIndex(), len(tensors), "signature argument: tensor")
            for item in maps
        }


def _check_index(index: int, count: int, what: str, lowest: int = 0) -> int:
    if not lowest <= index < count:
        raise ModelFileError(f"{what}: expected one of {count}, got number {index}: {_DAMAGED}")
    return index
