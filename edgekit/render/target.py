"""What a target makes of one model, in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from . import figures
from .summary import plain

if TYPE_CHECKING:
    from edgekit_converters.targets.records import LayerFigure, OpPlacement, TargetReport

__all__ = ["target_lines"]

MOST_OPS = 40
MOST_LAYERS = 3
COUNTS = {"macs": "MACs", "cycles_total": "cycles", "npu_operators": "NPU operators after Vela"}
SAYS = {
    "predicted": "predicted, not compiled",
    "compiled": "as compiled",
    "modelled": "modelled, not measured",
    "executed": "run by the target's own interpreter on this machine",
}


def target_lines(report: TargetReport) -> Iterator[str]:
    """The report in lines of text: how much runs on the target, what does not and why, memory, and a latency with its label."""
    yield f"{report.name} ({SAYS.get(report.basis, report.basis)}; {plain(report.said_by, 200)})"
    if report.refusal:
        yield f"  refused: {plain(report.refusal, 1000)}"
        if report.remedy:
            yield f"    {plain(report.remedy, 1000)}"
    yield from _placed(report)
    yield from _off_target(report)
    yield from _memory(report)
    yield from _latency(report)
    for warning in report.warnings:
        yield f"  ! {plain(warning, 1000)}"


def _placed(report: TargetReport) -> Iterator[str]:
    total = len(report.ops)
    pieces = f" in {report.pieces} piece(s)" if report.pieces else ""
    yield f"  {report.on_target} of {total} operators on the target{pieces}"
    if report.first_off_target is not None and report.kind == "edgetpu" and report.on_target:
        breaker = next((op for op in report.ops if op.index == report.first_off_target), None)
        if breaker is not None:
            yield f"  the chain breaks at operator {breaker.index}, {breaker.type}{_of_layer(breaker)}"


def _off_target(report: TargetReport) -> Iterator[str]:
    """Operators that are left out, those of one reason and one remedy together."""
    left = [op for op in report.ops if op.is_left and op.reason]
    ordered = sorted(left, key=lambda op: (op.reason, op.remedy))
    for shown, ((reason, remedy), group) in enumerate(groupby(ordered, key=lambda op: (op.reason, op.remedy))):
        if shown == MOST_OPS:
            yield "  … more in --json"
            return
        ops = list(group)
        yield f"  {_named(ops)}: {plain(reason, 300)}"
        if remedy:
            yield f"    → {plain(remedy, 600)}"


def _named(ops: list[OpPlacement]) -> str:
    """``CONV_2D 12 (block/conv)`` for one, counts by type for several."""
    if len(ops) <= MOST_LAYERS:
        return ", ".join(f"{op.type} {op.index}{_of_layer(op)}" for op in ops)
    types = sorted({op.type for op in ops}, key=lambda kind: -sum(op.type == kind for op in ops))
    counts = ", ".join(f"{sum(op.type == kind for op in ops)} {kind}" for kind in types)
    return f"{counts} (operators {ops[0].index} to {max(op.index for op in ops)})"


def _of_layer(op: OpPlacement) -> str:
    return f" ({plain(op.layer, 80)})" if op.layer else ""


def _memory(report: TargetReport) -> Iterator[str]:
    if report.min_runtime is not None:
        yield f"  needs Edge TPU runtime {report.min_runtime} or newer"
    if report.cached_bytes is not None:
        streamed = (
            "" if report.streamed_bytes is None else f", {figures.size(report.streamed_bytes)} sent at every inference"
        )
        yield f"  parameters: {figures.size(report.cached_bytes)} stay on the chip{streamed}"
    if report.memory:
        yield "  memory: " + ", ".join(
            f"{name.removesuffix('_bytes').replace('_', ' ')} {figures.size(value)}"
            for name, value in report.memory.items()
        )
    yield from _figures(report.figures)
    yield from _dearest(report.layers)


def _figures(found: Mapping[str, float]) -> Iterator[str]:
    """The figures a person asks for; --json has every one the tool prints."""
    counts = [
        f"{figures.count(found[name])} {title}" for name, title in COUNTS.items() if name in found and found[name] > 0
    ]
    if counts:
        yield f"  {', '.join(counts)}"
    if found.get("parity_samples"):
        same, apart = found.get("parity_identical"), found.get("parity_max_abs_diff")
        yield (
            f"  {figures.percent(same)} of the outputs equal LiteRT's to the bit on {figures.count(found['parity_samples'])} "
            f"sample(s), largest difference {figures.difference(apart)}"
        )


def _dearest(layers: Sequence[LayerFigure]) -> Iterator[str]:
    """The operators that most of the cycles go to, where the tool has a table of them."""
    shares = [(layer.figures.get("cycles_share", 0.0), layer) for layer in layers]
    dearest = sorted((pair for pair in shares if pair[0] > 0), key=lambda pair: -pair[0])[:MOST_LAYERS]
    if dearest:
        named = (f"{_titled(layer)} {figures.percent(share)}" for share, layer in dearest)
        yield f"  most cycles: {', '.join(named)}"


def _titled(layer: LayerFigure) -> str:
    index = layer.figures.get("index")
    place = "" if index is None else f" {index:.0f}"
    return f"{plain(layer.type, 40)}{place}{f' ({plain(layer.name, 80)})' if layer.name else ''}"


def _latency(report: TargetReport) -> Iterator[str]:
    estimate = report.estimate
    if estimate is None:
        return
    bounds = ""
    if estimate.low_ms is not None and estimate.high_ms is not None:
        bounds = f" ({figures.milliseconds_between(estimate.low_ms, estimate.high_ms)})"
    basis = plain(estimate.basis, 600)
    label = "" if "not measured" in basis else ", not measured"
    yield f"  {figures.milliseconds(estimate.latency_ms)}{bounds} an inference{label}: {basis}"
