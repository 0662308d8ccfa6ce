"""A .tflite the Edge TPU compiler has been at: told from other files, and opened without the compiler."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from ...errors import ModelFileError
from ...model_card import load_schema
from ..operators import EDGETPU_OPERATOR, OperatorGraph, read_operators
from ..records import COMPILED, LayerFigure, OpPlacement, TargetReport
from ..target import Target
from .container import PARAMETER_CACHING, Executable, Package, PlaceholderError, read_package
from .flat import DAMAGED
from .statuses import LATER

__all__ = ["first_off", "has_package", "is_compiled", "read_compiled", "read_packages"]

_LEFT = "the compiler left it on the processor"
_WHY = "edgekit inspect ORIGINAL.tflite --target coral says why"
_ACCESS_ERRORS = (struct.error, ValueError, TypeError, IndexError, OverflowError, AttributeError)


def is_compiled(data: bytes) -> bool:
    """Whether a .tflite holds an ``edgetpu-custom-op``, whatever is in it. Raises ModelFileError for a damaged model."""
    if EDGETPU_OPERATOR.encode() not in data:
        return False
    card = read_operators(data).card
    return any(op.custom and op.type == EDGETPU_OPERATOR for op in (*card.ops, *card.other_ops))


def has_package(data: bytes) -> bool:
    """Whether an Edge TPU has something to run in a .tflite: each ``edgetpu-custom-op`` holds a whole package.

    False for a placeholder, for the stub a failing compiler leaves, and for bytes that are no model at all.
    """
    try:
        return bool(read_packages(data))
    except ModelFileError:
        return False


def read_packages(data: bytes) -> dict[int, Package]:
    """The packages of a compiled .tflite, by the operator of subgraph 0 that holds them; empty for a model not compiled.

    Raises ModelFileError for a damaged model or package, PlaceholderError for what no compiler made.
    """
    return _packages(data, read_operators(data))


def read_compiled(data: bytes, target: Target) -> TargetReport:
    """What is known of a compiled .tflite. Operators are those of the compiled file; what the Edge TPU runs is one each.

    ``cached_bytes`` are the parameters loaded once, ``streamed_bytes`` those sent with every inference, over all packages;
    ``layers`` has a line for every executable. A placeholder gives a report with a refusal. Raises ModelFileError for a file
    that is damaged or not compiled.
    """
    graph = read_operators(data)
    try:
        packages = _packages(data, graph)
    except PlaceholderError as error:
        return _refused(graph, target, str(error))
    if not packages:
        raise ModelFileError(
            f"expected a model compiled for the Edge TPU, got one without {EDGETPU_OPERATOR}: compile it first"
        )
    ops = tuple(_placement(op.index, op.type, op.version, op.index in packages) for op in graph.operators)
    held = tuple(packages.values())
    executables = [one for package in held for one in package.executables]
    on_cpu = len(ops) - len(packages)
    return TargetReport(
        name=target.name,
        kind=target.kind,
        basis=COMPILED,
        said_by=_said_by(held),
        ops=ops,
        subgraphs=len(packages),
        on_target=len(packages),
        on_cpu=on_cpu,
        first_off_target=first_off(ops),
        min_runtime=max(package.min_runtime for package in held),
        cached_bytes=sum(package.cached_bytes for package in held),
        streamed_bytes=sum(package.streamed_bytes for package in held),
        memory=_memory(held, executables),
        figures=_figures(executables),
        layers=tuple(_line(index, one) for index, package in packages.items() for one in package.executables),
        warnings=_warnings(held, target),
        model_sha256=graph.card.sha256,
    )


def _packages(data: bytes, graph: OperatorGraph) -> dict[int, Package]:
    indices = [op.index for op in graph.operators if op.custom and op.type == EDGETPU_OPERATOR]
    try:
        raw = load_schema().Model.GetRootAs(data, 0).Subgraphs(0)
        options = {index: _options(data, raw.Operators(index), len(indices)) for index in indices}
    except _ACCESS_ERRORS as error:
        raise ModelFileError(f"expected the options of {EDGETPU_OPERATOR} inside the file: {DAMAGED}") from error
    return {index: _package(index, content) for index, content in options.items()}


def _package(index: int, options: bytes) -> Package:
    try:
        return read_package(options)
    except PlaceholderError:
        raise
    except ModelFileError as error:
        raise ModelFileError(
            f"operator {index} is an {EDGETPU_OPERATOR} without a whole package, as a compiler that failed leaves it: {error}"
        ) from error


def _options(data: bytes, raw: Any, count: int) -> bytes:
    """The options of a custom operator: in the flatbuffer or, in models near 2 GB, behind it."""
    size = raw.CustomOptionsLength()
    # Several operators may point at the same bytes: an honest file's options fit into it side by side.
    if size > len(data) or size * count > 2 * len(data):
        raise ModelFileError(
            f"expected options of {EDGETPU_OPERATOR} that fit into {len(data)} bytes, got {size}: {DAMAGED}"
        )
    if size:
        content: bytes = raw.CustomOptionsAsNumpy().tobytes()
        return content
    start = getattr(raw, "LargeCustomOptionsOffset", int)()
    end = start + getattr(raw, "LargeCustomOptionsSize", int)()
    if not 0 < start < end <= len(data):
        raise ModelFileError(f"expected a package in the options of {EDGETPU_OPERATOR}, got none: {DAMAGED}")
    return data[start:end]


def _refused(graph: OperatorGraph, target: Target, why: str) -> TargetReport:
    ops = tuple(
        OpPlacement(op.index, op.type, "unsupported", "a placeholder, no package", version=op.version)
        if op.type == EDGETPU_OPERATOR
        else OpPlacement(op.index, op.type, "cpu", version=op.version)
        for op in graph.operators
    )
    return TargetReport(
        name=target.name,
        kind=target.kind,
        basis=COMPILED,
        said_by="nobody: a placeholder",
        ops=ops,
        on_cpu=len(ops),
        refusal=why,
        remedy="edgekit compile MODEL.tflite --target coral, with Google's edgetpu_compiler installed",
        model_sha256=graph.card.sha256,
    )


def _placement(index: int, kind: str, version: int, packaged: bool) -> OpPlacement:
    if packaged:
        return OpPlacement(index, kind, "edgetpu", version=version)
    return OpPlacement(index, kind, "cpu", _LEFT, _WHY, version=version)


def first_off(ops: Sequence[OpPlacement]) -> int | None:
    """The first operator that stays on the processor for a reason of its own, behind one that does not; else the first there."""
    started = False
    for op in ops:
        started = started or op.placement == "edgetpu"
        if started and op.placement == "cpu" and op.reason != LATER:
            return op.index
    return next((op.index for op in ops if op.placement == "cpu"), None)


def _said_by(packages: Sequence[Package]) -> str:
    """The compiler, as far as its packages tell: most say no more than ``cl/``."""
    versions = {package.compiler_version.removeprefix("cl/").strip() for package in packages} - {""}
    return (
        f"edgetpu_compiler {', '.join(sorted(versions))}" if versions else "edgetpu_compiler (version not in the file)"
    )


def _memory(packages: Sequence[Package], executables: Sequence[Executable]) -> dict[str, int]:
    return {
        "packages": sum(package.size_bytes for package in packages),
        "instructions": sum(one.instruction_bytes for one in executables),
        "scratch": max(one.scratch_bytes for one in executables),
        "narrow_per_tile": max(one.narrow_bytes_per_tile for one in executables),
    }


def _figures(executables: Sequence[Executable]) -> dict[str, float]:
    running = [one for one in executables if one.type != PARAMETER_CACHING]
    figures = {
        "executables": float(len(executables)),
        "input_bytes": float(sum(one.transfers.input_bytes for one in running)),
        "output_bytes": float(sum(one.transfers.output_bytes for one in running)),
    }
    cycles = [one.estimated_cycles for one in running]
    return {**figures, "compiler_cycles": float(sum(cycles))} if cycles and all(cycles) else figures


def _line(index: int, one: Executable) -> LayerFigure:
    """An executable as a line; only what is not 0."""
    figures = {
        "parameter_bytes": one.parameter_bytes,
        "instruction_bytes": one.instruction_bytes,
        "narrow_bytes_per_tile": one.narrow_bytes_per_tile,
        "scratch_bytes": one.scratch_bytes,
        "input_bytes": one.transfers.input_bytes,
        "output_bytes": one.transfers.output_bytes,
        "compiler_cycles": one.estimated_cycles,
    }
    shown = {name: float(value) for name, value in figures.items() if value}
    return LayerFigure(f"operator {index}: {one.name or 'executable'}", one.type, "edgetpu", shown)


def _warnings(packages: Sequence[Package], target: Target) -> tuple[str, ...]:
    said = []
    tokens = {one.caching_token for package in packages for one in package.executables if one.type == PARAMETER_CACHING}
    if len(tokens) > 1:
        said.append(
            "its pieces were compiled apart: each pushes the other's parameters off the chip in every inference"
        )
    chips = {one.chip for package in packages for one in package.executables} - {"beagle", ""}
    if chips:
        said.append(
            f"compiled for the chip {', '.join(sorted(chips))}, not for the Edge TPU of {target.title} (beagle)"
        )
    if any(package.chips > 1 for package in packages):
        said.append("a package for several chips: figures are those of its first part")
    unknown = {one.type for package in packages for one in package.executables if one.type.startswith("type_")}
    if unknown:
        said.append(f"executables of a kind edgekit does not know ({', '.join(sorted(unknown))}) count as streamed")
    return tuple(said)
