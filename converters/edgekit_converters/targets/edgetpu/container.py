"""What the Edge TPU compiler puts into a .tflite: the package of one ``edgetpu-custom-op``, read without any of its tools.

The operator's options are a FlexBuffer map (libedgetpu ``tflite/custom_op_data.cc``); its key 4 holds a FlatBuffer, identifier
``DWN1``, of libedgetpu's ``executable/executable.fbs`` (Apache-2.0)::

    Package ─► MultiExecutable ─► Executable (one or more), each a FlatBuffer of its own inside a string

A package comes with an executable that runs the network, EXECUTION_ONLY, and one that loads the parameters the chip then keeps,
PARAMETER_CACHING; or with a single STAND_ALONE one. The numbers below are the places of the fields in that schema.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ModelFileError
from ...model_card import clean_name
from ..operators import EDGETPU_OPERATOR
from .flat import DAMAGED, Budget, FlatTable, read_flex_strings, root_table

__all__ = [
    "EXECUTION_ONLY",
    "PARAMETER_CACHING",
    "PLACEHOLDER",
    "PLACEHOLDERS",
    "STAND_ALONE",
    "Executable",
    "Layer",
    "Package",
    "PlaceholderError",
    "Transfers",
    "package_bytes",
    "read_package",
]

IDENTIFIER = b"DWN1"
# How the options begin that the Python package `edgecompiler` writes where there is no compiler: it calls them EPCT, stores
# 0x45504342 with the low byte first, and nothing can run them.
PLACEHOLDERS = (b"BCPE", b"EPCB", b"EPCT")
PLACEHOLDER = PLACEHOLDERS[0]
PACKAGE_KEY = "4"
MOST_EXECUTABLES = 256

STAND_ALONE, PARAMETER_CACHING, EXECUTION_ONLY = "STAND_ALONE", "PARAMETER_CACHING", "EXECUTION_ONLY"
_TYPES = {0: STAND_ALONE, 1: PARAMETER_CACHING, 2: EXECUTION_ONLY}
# Members of the union AnyHint, and what a descriptor's base address is of.
_DESCRIPTOR, _INSTRUCTION, _INTERRUPT, _FENCE = 1, 2, 3, 4
_BASES = {0: "output", 1: "input", 2: "parameter", 3: "scratch"}


class PlaceholderError(ModelFileError):
    """Options that look compiled, and that no Edge TPU can run."""


@dataclass(frozen=True)
class Layer:
    """A tensor that goes in or out: ``size_bytes`` with its padding; ``runs`` is how often it is sent in one inference."""

    name: str
    size_bytes: int
    y: int
    x: int
    z: int
    data_type: int
    runs: int = 1


@dataclass(frozen=True)
class Transfers:
    """What one run of an executable moves: how many transfers, and bytes, of each kind, as far as the compiler foresaw them.

    ``complete`` says that it foresaw all of them.
    """

    instructions: int = 0
    inputs: int = 0
    input_bytes: int = 0
    outputs: int = 0
    output_bytes: int = 0
    parameters: int = 0
    parameter_bytes: int = 0
    scratches: int = 0
    scratch_bytes: int = 0
    fences: int = 0
    interrupts: int = 0
    complete: bool = False


@dataclass(frozen=True)
class Executable:
    """One executable. ``type`` is STAND_ALONE, PARAMETER_CACHING or EXECUTION_ONLY, or type_N for one the schema has not.

    ``narrow_bytes_per_tile`` of each tile's memory hold activations. ``estimated_cycles`` is the compiler's own, 0 from compiler
    15 on. Executables with the same ``caching_token`` share the chip's parameter memory.
    """

    name: str
    type: str
    batch: int
    scratch_bytes: int
    parameter_bytes: int
    instruction_bytes: int
    instruction_chunks: int
    chip: str
    estimated_cycles: int
    narrow_bytes_per_tile: int
    caching_token: int
    parameters_in_dram: bool
    inputs: tuple[Layer, ...]
    outputs: tuple[Layer, ...]
    transfers: Transfers


@dataclass(frozen=True)
class Package:
    """What one ``edgetpu-custom-op`` carries. ``min_runtime`` is the lowest runtime version that takes it."""

    min_runtime: int
    compiler_version: str
    model_identifier: str
    virtual_chip: int
    chips: int
    size_bytes: int
    executables: tuple[Executable, ...]

    @property
    def cached_bytes(self) -> int:
        """Parameters that are loaded once and stay on the chip."""
        return sum(one.parameter_bytes for one in self.executables if one.type == PARAMETER_CACHING)

    @property
    def streamed_bytes(self) -> int:
        """Parameters that are sent with every inference: those of whatever executes."""
        return sum(one.parameter_bytes for one in self.executables if one.type != PARAMETER_CACHING)


def package_bytes(options: bytes) -> bytes:
    """The bytes an operator's options hold as its package, whatever they are. Raises ModelFileError where they hold none."""
    found = read_flex_strings(memoryview(options)).get(PACKAGE_KEY)
    if found is None:
        raise ModelFileError(f"expected a package (key 4) in the options of {EDGETPU_OPERATOR}, got none: {DAMAGED}")
    return bytes(found)


def read_package(options: bytes) -> Package:
    """Read the package in the custom options of an ``edgetpu-custom-op``.

    Raises ModelFileError for anything that is no whole package, PlaceholderError where it is what the Python package
    ``edgecompiler`` writes without a compiler.
    """
    if bytes(options[:4]) in PLACEHOLDERS:
        raise _placeholder()
    data = package_bytes(options)
    if data[:4] in PLACEHOLDERS:
        raise _placeholder()
    budget = Budget(len(options))
    package = root_table(memoryview(data), budget, IDENTIFIER)
    multi = package.blob(1)
    executables = root_table(multi, budget).blobs(0) if len(multi) else ()
    read = tuple(_executable(root_table(one, budget)) for one in executables)
    if not 1 <= len(read) <= MOST_EXECUTABLES:
        raise ModelFileError(
            f"expected 1 to {MOST_EXECUTABLES} executables in an Edge TPU package, got {len(read)}: {DAMAGED}"
        )
    return Package(
        min_runtime=package.number(0, "i"),
        compiler_version=_text(package, 4),
        model_identifier=_text(package, 7),
        virtual_chip=package.number(5, "i"),
        chips=max(1, package.count(6)),
        size_bytes=len(data),
        executables=read,
    )


def _placeholder() -> PlaceholderError:
    return PlaceholderError(
        "expected what the Edge TPU compiler made, got a placeholder of the Python package edgecompiler, which no Edge TPU can "
        "run: compile the model with Google's edgetpu_compiler"
    )


def _executable(table: FlatTable) -> Executable:
    chunks = [bitstream.blob(0) for bitstream in table.tables(5)]
    kind = table.number(13, "h")
    return Executable(
        name=_text(table, 1),
        type=_TYPES.get(kind, f"type_{kind}"),
        batch=table.number(3, "i"),
        scratch_bytes=_size(table.number(4, "i"), "scratch"),
        parameter_bytes=len(table.blob(6)),
        instruction_bytes=sum(map(len, chunks)),
        instruction_chunks=len(chunks),
        chip=_text(table, 10),
        estimated_cycles=max(0, table.number(16, "q") or table.number(11, "i")),
        narrow_bytes_per_tile=_size(table.number(12, "i"), "narrow memory"),
        caching_token=table.number(14, "Q"),
        parameters_in_dram=bool(table.number(15, "?")),
        inputs=tuple(map(_layer, table.tables(8))),
        outputs=tuple(map(_layer, table.tables(9))),
        transfers=_transfers(table.table(7)),
    )


def _layer(table: FlatTable) -> Layer:
    return Layer(
        name=_text(table, 0),
        size_bytes=_size(table.number(1, "i"), "layer"),
        y=table.number(2, "i"),
        x=table.number(3, "i"),
        z=table.number(4, "i"),
        data_type=table.number(6, "h"),
        runs=table.number(9, "i", 1),
    )


def _transfers(hints: FlatTable | None) -> Transfers:
    if hints is None:
        return Transfers()
    counts: dict[str, int] = {}
    for hint in hints.tables(0):
        kind, body = hint.number(0, "B"), hint.table(1)
        if body is None:
            continue
        name, size = _hint(kind, body)
        counts[name] = counts.get(name, 0) + 1
        counts[f"{name}_bytes"] = counts.get(f"{name}_bytes", 0) + size
    return Transfers(
        instructions=counts.get("instruction", 0),
        inputs=counts.get("input", 0),
        input_bytes=counts.get("input_bytes", 0),
        outputs=counts.get("output", 0),
        output_bytes=counts.get("output_bytes", 0),
        parameters=counts.get("parameter", 0),
        parameter_bytes=counts.get("parameter_bytes", 0),
        scratches=counts.get("scratch", 0),
        scratch_bytes=counts.get("scratch_bytes", 0),
        fences=counts.get("fence", 0),
        interrupts=counts.get("interrupt", 0),
        complete=bool(hints.number(1, "?")),
    )


def _hint(kind: int, body: FlatTable) -> tuple[str, int]:
    """What a hint is of, and the bytes it moves."""
    if kind != _DESCRIPTOR:
        return {_INSTRUCTION: "instruction", _INTERRUPT: "interrupt", _FENCE: "fence"}.get(kind, "other"), 0
    meta = body.table(0)
    base = 0 if meta is None else meta.number(0, "h")
    return _BASES.get(base, "other"), _size(body.number(2, "i"), "transfer")


def _size(value: int, what: str) -> int:
    if value < 0:
        raise ModelFileError(f"expected a {what} of 0 bytes or more in an Edge TPU package, got {value}: {DAMAGED}")
    return value


def _text(table: FlatTable, field: int) -> str:
    return clean_name(bytes(table.blob(field)[:1024]))
