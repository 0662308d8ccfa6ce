"""A measurement in a terminal: a line with the figures, one with the noise, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from . import figures
from .conditions import board_line, noise_line, way
from .summary import plain

if TYPE_CHECKING:
    from edgekit_device import BenchmarkReport

    from ..gate import RegressionGate

__all__ = ["bench_lines", "gate_lines", "session_lines"]

INDENT = " " * 15
SIGNS = {"passed": "✓", "regressed": "✗", "failed": "✗", "not comparable": "?", "new": "+", "missing": "-"}


def session_lines(reports: Mapping[str, BenchmarkReport]) -> Iterator[str]:
    """What holds for all of ``reports`` alike, said once below them: the board's state and what to beware of."""
    states = {board_line(report) for report in reports.values()}
    if len(states) == 1 and (state := states.pop()):
        yield f"the board meanwhile: {state}"
    for note in _common_notes(reports):
        yield f"! {plain(note, 300)}"


def bench_lines(name: str, reports: Mapping[str, BenchmarkReport]) -> Iterator[str]:
    """What was measured of the variant ``name``, without what ``session_lines`` says of all ``reports``."""
    report = reports[name]
    latency, accuracy = report.latency, report.accuracy.accuracy
    right = "" if accuracy is None else f"  accuracy {figures.percent(accuracy)}"
    if report.board.emulator:
        yield f"{plain(name):14} emulated by {plain(report.board.emulator)}: no latency{right}"
        yield f"{INDENT}{way(report)}"
    else:
        yield (
            f"{plain(name):14} median {figures.milliseconds(latency.median_ms):>8}{_interval(report)}  "
            f"p95 {figures.milliseconds(latency.p95_ms):>8}  first {figures.milliseconds(latency.first_ms):>8}{right}"
        )
        yield f"{INDENT}{noise_line(report)}; {way(report)}"
    state = board_line(report)
    if state and any(board_line(other) != state for other in reports.values()):
        yield f"{INDENT}{state}"
    for note in report.notes:
        if note not in _common_notes(reports):
            yield f"{INDENT}! {plain(note, 300)}"


def _common_notes(reports: Mapping[str, BenchmarkReport]) -> list[str]:
    notes = [report.notes for report in reports.values()]
    return [note for note in notes[0] if all(note in others for others in notes)] if notes else []


def gate_lines(gate: RegressionGate) -> Iterator[str]:
    """Each variant's outcome, and the verdict last."""
    from .gate_markdown import gate_headline

    yield f"against {plain(gate.baseline, 400)}:"
    for line in gate.lines:
        yield f"{SIGNS[line.outcome]} {plain(line.variant):12} {plain(line.message, 1000)}"
    yield f"{'✓' if gate.exit_code == 0 else '✗'} {plain(gate_headline(gate), 1000)}"


def _interval(report: BenchmarkReport) -> str:
    low, high = report.latency.median_low_ms, report.latency.median_high_ms
    return "" if low is None or high is None else f" ({figures.milliseconds_between(low, high)})"
