"""Where the operators of one variant run on an accelerator, and what keeps the others off it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from ..records import Comparison, TargetLine
from . import figures
from .across import basis_label, latency_text, operators_text
from .measured import texts
from .summary import plain

if TYPE_CHECKING:
    from edgekit_converters.targets.records import LayerFigure, OpPlacement, TargetReport

__all__ = ["Cause", "Placement", "placements"]

ON_TARGET = {"edgetpu": "Edge TPU", "ethos-u": "Ethos-U", "micro": "TFLM"}
OFF_TARGET = {"cpu": "processor", "unsupported": "nothing there"}
CAUSES_SHOWN, OPERATORS_NAMED, RUNS_SHOWN, LAYERS_SHOWN, FIGURES_SHOWN, LAYER_FIGURES_SHOWN = 40, 8, 60, 60, 10, 3
# What is asked for first of everything that tools count; a page has no room for all of it.
ASKED_FOR = (
    "parity_samples",
    "parity_identical",
    "parity_max_abs_diff",
    "inferences_per_s",
    "core_clock_hz",
    "cycles_total",
    "cycles_npu",
    "cycles",
    "cycles_share",
    "network_share",
    "macs",
    "sram_total_bytes",
    "dram_total_bytes",
    "on_chip_flash_total_bytes",
    "off_chip_flash_total_bytes",
    "original_weights_bytes",
    "encoded_weights_bytes",
    "npu_operators",
    "cpu_operators",
)


@dataclass(frozen=True)
class Cause:
    """One reason why operators are not on the accelerator: which they are, and what to type instead."""

    reason: str
    operators: str
    remedies: tuple[str, ...]


@dataclass(frozen=True)
class Placement:
    """What a target said of one variant: ``facts`` as (name, text), rows of tables, and warnings.

    ``runs`` are stretches of operators in one place, ``layers`` the tool's own table under ``layer_head``.
    """

    name: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    causes: tuple[Cause, ...]
    causes_left: int
    runs: tuple[tuple[str, ...], ...]
    layer_head: tuple[str, ...]
    layers: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...]


def placements(comparison: Comparison) -> tuple[Placement, ...]:
    """One of each target report that says more than its line, in the order of the lines."""
    reports = {(name, report.name): report for name, report in comparison.target_reports}
    found = ((line, reports.get((line.variant, line.target))) for line in comparison.across)
    return tuple(_placement(line, report) for line, report in found if report is not None and report.kind != "cpu")


def _placement(line: TargetLine, report: TargetReport) -> Placement:
    causes = tuple(_causes(report.ops))
    head, layers = _layer_table(report.layers, basis_label(line))
    return Placement(
        name=f"{plain(line.variant)} on {plain(line.target)}",
        summary=f"{'refused' if line.refusal else operators_text(line)}; {plain(line.basis, 20)}",
        facts=tuple(_facts(line, report)),
        causes=causes[:CAUSES_SHOWN],
        causes_left=max(0, len(causes) - CAUSES_SHOWN),
        runs=tuple(_runs(report.ops))[:RUNS_SHOWN],
        layer_head=head,
        layers=layers,
        warnings=tuple(plain(warning, 400) for warning in report.warnings),
    )


def _facts(line: TargetLine, report: TargetReport) -> Iterator[tuple[str, str]]:
    yield "said by", plain(line.said_by, 200) or figures.MISSING
    if line.refusal:
        yield "refused", plain(line.refusal, 400)
        yield from texts({"instead": line.remedy})
    if line.latency_ms is not None:
        why = "" if report.estimate is None else plain(report.estimate.basis, 600)
        yield "latency", latency_text(line) + (f": {why}" if why else "")
    breaker = next((op for op in report.ops if op.index == report.first_off_target), None)
    if breaker is not None and report.on_target:
        yield "the chain breaks at", _operator(breaker)
    if report.min_runtime is not None:
        yield "needs Edge TPU runtime", f"{report.min_runtime} or newer"
    yield from _tool_figures(report, basis_label(line))
    if report.mapping_check is not None:
        yield "predicted as the compiler did", f"{figures.count(report.mapping_check.agreed)} operators"
    yield from texts({"note": line.note, "file": line.file})


def _tool_figures(report: TargetReport, label: str) -> Iterator[tuple[str, str]]:
    """Everything the tool counted, each figure with its label."""
    sizes = {"parameters on chip": report.cached_bytes, "sent at every inference": report.streamed_bytes}
    named = {f"memory, {_title(name.removesuffix('_bytes'))}": size for name, size in report.memory.items()}
    for name, size in {**sizes, **named}.items():
        if size is not None:
            yield name, figures.size(size) + label
    counted = _asked_first(name for name, value in report.figures.items() if value or name.startswith("parity"))
    for name in counted[:FIGURES_SHOWN]:
        yield _title(name.removesuffix("_bytes")), _number(name, report.figures[name]) + label
    if len(counted) > FIGURES_SHOWN:
        yield "more", f"{figures.count(len(counted) - FIGURES_SHOWN)} figures in report.json"


def _causes(ops: Sequence[OpPlacement]) -> Iterator[Cause]:
    """Operators that are not on the accelerator, by reason, the most frequent first."""
    found: dict[str, list[OpPlacement]] = {}
    for op in ops:
        if op.is_left:
            found.setdefault(plain(op.reason, 400), []).append(op)
    for reason, group in sorted(found.items(), key=lambda item: -len(item[1])):
        named = ", ".join(_operator(op) for op in group[:OPERATORS_NAMED])
        more = len(group) - OPERATORS_NAMED
        yield Cause(
            reason=reason or "no reason was given",
            operators=named + (f" and {figures.count(more)} more" if more > 0 else ""),
            remedies=tuple(dict.fromkeys(plain(op.remedy, 600) for op in group if op.remedy))[:OPERATORS_NAMED],
        )


def _runs(ops: Sequence[OpPlacement]) -> Iterator[tuple[str, str, str]]:
    """Stretches of operators in one place: their positions, the place, and their types."""
    for place, stretch in groupby(ops, key=lambda op: op.placement):
        group = list(stretch)
        first, last = group[0].index, group[-1].index
        kinds: dict[str, int] = {}
        for op in group:
            kinds[plain(op.type, 40)] = kinds.get(plain(op.type, 40), 0) + 1
        most = sorted(kinds.items(), key=lambda item: -item[1])
        types = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in most[:OPERATORS_NAMED])
        where = {**ON_TARGET, **OFF_TARGET}.get(place, plain(place, 20))
        yield str(first) if first == last else f"{first} to {last}", where, types


def _layer_table(layers: Sequence[LayerFigure], label: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The tool's table by layer: its head and the first rows, a column for each figure that any of them has."""
    shown = layers[:LAYERS_SHOWN]
    names = _asked_first(dict.fromkeys(name for layer in shown for name, value in layer.figures.items() if value))
    names = names[:LAYER_FIGURES_SHOWN]
    head = ("layer", "operator", "on", *(f"{_title(name.removesuffix('_bytes'))}{label}" for name in names))
    rows = tuple(
        (
            plain(layer.name, 60),
            plain(layer.type, 40),
            {**ON_TARGET, **OFF_TARGET}.get(layer.placement, plain(layer.placement, 20)),
            *(_number(name, layer.figures.get(name)) for name in names),
        )
        for layer in shown
    )
    return head, rows


def _asked_first(names: Iterable[str]) -> list[str]:
    ranks = {name: rank for rank, name in enumerate(ASKED_FOR)}
    return sorted(names, key=lambda name: ranks.get(name, len(ranks)))


def _number(name: str, value: float | None) -> str:
    """A figure of a tool, by what its name says it is."""
    if value is None:
        return figures.MISSING
    if name.endswith(("share", "identical")):
        return figures.percent(value)
    if name.endswith("_bytes"):
        return figures.size(value)
    return figures.count(value) if value == round(value) or value >= 1000 else figures.difference(value)


def _operator(op: OpPlacement) -> str:
    layer = f" ({plain(op.layer, 60)})" if op.layer else ""
    return f"{op.index} {plain(op.type, 40)}{layer}"


def _title(name: str) -> str:
    return plain(name, 40).replace("_", " ")
