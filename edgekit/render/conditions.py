"""How a measurement was made, in words: the way it ran, the state of the board before and after, and how noisy it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit_device.report import BenchmarkReport, ConditionsFacts

from . import figures
from .summary import plain

__all__ = ["board_line", "conditions_rows", "moments", "noise_line", "way"]

Row = tuple[str, ...]


def way(report: BenchmarkReport) -> str:
    """Runtime, delegate and threads."""
    runtime = report.runtime
    threads = f"{runtime.threads} thread{'s' if runtime.threads != 1 else ''}"
    parts = (f"{runtime.name} {runtime.version}".strip(), runtime.delegate or "no delegate named", threads)
    return ", ".join(plain(part) for part in parts if part)


def noise_line(report: BenchmarkReport) -> str:
    """How many inferences, why they ended, in whose company, and the noise of the model against itself."""
    latency, session = report.latency, report.session
    parts = [f"{figures.count(latency.count)} inferences{_ended(latency.stop)}"]
    if session.variants > 1:
        parts.append(f"in turns with {session.variants - 1} other{'s' if session.variants > 2 else ''}")
    if session.noise_floor is not None:
        parts.append(f"against itself within {figures.percent(session.noise_floor)}")
    if latency.warmup_stable is False:
        parts.append("warm-up never settled")
    return ", ".join(parts)


def board_line(report: BenchmarkReport) -> str:
    """The state of the board while it measured, as far as it tells; empty where it tells nothing."""
    parts = []
    for moment in MOMENTS:
        before, after = moment.shown(report.before), moment.shown(report.after)
        if moment.line and (moved := _moved(before, after)) and moved != moment.silent:
            parts.append(moment.line.format(moved))
    return ", ".join(parts)


def moments(report: BenchmarkReport) -> tuple[Row, ...]:
    """Rows of (what, before, after) for all that the board says of its state."""
    facts = ((it.title, it.shown(report.before), it.shown(report.after)) for it in MOMENTS)
    return tuple((title, before, after) for title, before, after in facts if before or after)


def conditions_rows(reports: Sequence[BenchmarkReport], titles: Sequence[str]) -> list[Row]:
    """A head and rows that put the conditions of several reports side by side; what none of them tells is left out."""
    rows = [(name, *(shown(report) for report in reports)) for name, shown in FACTS]
    for it in MOMENTS:
        rows.append((it.title, *(_moved(it.shown(report.before), it.shown(report.after)) for report in reports)))
    return [("", *titles), *(row for row in rows if any(row[1:]))]


def _ended(stop: str) -> str:
    return {"narrow": " (until the interval was narrow)", "budget": " (until the time was spent)"}.get(stop, "")


def _moved(before: str, after: str) -> str:
    """What it was before and after, once where it stayed."""
    return " → ".join(dict.fromkeys(text for text in (before, after) if text))


def _board(report: BenchmarkReport) -> str:
    names = dict.fromkeys(plain(text) for text in (report.board.model, report.board.cpu) if text)
    return ", ".join(names)


def _busy(facts: ConditionsFacts) -> str:
    if facts.busy_others is None:
        return ""
    who = ", ".join(plain(name, 30) for name in facts.others[:3]) if facts.busy_others >= SOME_BUSY else ""
    return f"{facts.busy_others:.1f} cores" + (f" ({who})" if who else "")


def _number(value: float | None, text: Callable[[float], str]) -> str:
    return "" if value is None else text(value)


@dataclass(frozen=True)
class _Moment:
    """One figure of the board's state: its text, and how a line says it; not at all where it is ``silent``."""

    title: str
    shown: Callable[[ConditionsFacts], str]
    line: str = ""
    silent: str = ""


SOME_BUSY = 0.1
MOMENTS = (
    _Moment("governor", lambda it: plain(it.governor), "{}"),
    _Moment("frequency", lambda it: _number(it.frequency_mhz, figures.megahertz), "{}"),
    _Moment("top frequency", lambda it: _number(it.frequency_max_mhz, figures.megahertz)),
    _Moment("temperature", lambda it: _number(it.temperature_c, figures.celsius), "{}"),
    _Moment("throttling", lambda it: plain(it.throttling), "throttled: {}", "none"),
    _Moment("since it was started", lambda it: plain(it.throttled_before)),
    _Moment("other processes", _busy, "others on {}"),
    _Moment("load", lambda it: _number(it.load_1m, lambda value: f"{value:.1f}")),
    _Moment("free memory", lambda it: _number(it.memory_available_mb, figures.mebibytes)),
    _Moment("swap used", lambda it: _number(it.swap_used_mb, figures.mebibytes), "{} swapped", "0 B"),
)
FACTS: tuple[tuple[str, Callable[[BenchmarkReport], str]], ...] = (
    ("ran by", way),
    ("board", _board),
    ("inferences", noise_line),
    ("measured", lambda report: plain(report.created)),
)
