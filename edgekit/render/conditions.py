"""How a measurement was made, in words: the way it ran, the state of the board before and after, and how noisy it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    return ", ".join(text for _, before, after in moments(report) if (text := _moved(before, after)))


def moments(report: BenchmarkReport) -> tuple[Row, ...]:
    """Rows of (what, before, after) for all that the board says of its state; the unit stands in the figure."""
    facts = ((title, shown(report.before), shown(report.after)) for title, shown in MOMENTS)
    return tuple((title, before, after) for title, before, after in facts if before or after)


def conditions_rows(reports: Sequence[BenchmarkReport], titles: Sequence[str]) -> list[Row]:
    """A head and rows that put the conditions of several reports side by side; what none of them tells is left out."""
    rows = [(name, *(shown(report) for report in reports)) for name, shown in FACTS]
    for title, shown in MOMENTS:
        rows.append((title, *(_moved(shown(report.before), shown(report.after)) for report in reports)))
    return [("", *titles), *(row for row in rows if any(row[1:]))]


def _ended(stop: str) -> str:
    return {"narrow": " (until the interval was narrow)", "budget": " (until the time was spent)"}.get(stop, "")


def _moved(before: str, after: str) -> str:
    """What it was before and after, once where it stayed."""
    return " → ".join(dict.fromkeys(text for text in (before, after) if text))


def _board(report: BenchmarkReport) -> str:
    names = dict.fromkeys(plain(text) for text in (report.board.model, report.board.cpu) if text)
    return ", ".join(names)


def _frequency(facts: ConditionsFacts) -> str:
    if facts.frequency_mhz is None:
        return ""
    top = f" of {facts.frequency_max_mhz:,.0f}" if facts.frequency_max_mhz else ""
    return f"{facts.frequency_mhz:,.0f}{top} MHz"


def _busy(facts: ConditionsFacts) -> str:
    if facts.busy_others is None:
        return ""
    who = (
        f" ({', '.join(plain(name, 30) for name in facts.others[:3])})"
        if facts.others and facts.busy_others >= 0.1
        else ""
    )
    return f"others on {facts.busy_others:.1f} cores{who}"


def _number(value: float | None, text: Callable[[float], str]) -> str:
    return "" if value is None else text(value)


Shown = Callable[[ConditionsFacts], str]
MOMENTS: tuple[tuple[str, Shown], ...] = (
    ("governor", lambda it: plain(it.governor)),
    ("frequency", _frequency),
    ("temperature", lambda it: _number(it.temperature_c, figures.celsius)),
    ("throttling", lambda it: "" if it.throttling in ("", "none") else f"throttled: {plain(it.throttling)}"),
    ("other processes", _busy),
    ("load", lambda it: _number(it.load_1m, lambda value: f"load {value:.1f}")),
    ("free memory", lambda it: _number(it.memory_available_mb, lambda value: f"{figures.mebibytes(value)} free")),
    ("swap", lambda it: _number(it.swap_used_mb or None, lambda value: f"{figures.mebibytes(value)} swapped")),
)
FACTS: tuple[tuple[str, Callable[[BenchmarkReport], str]], ...] = (
    ("ran by", way),
    ("board", _board),
    ("inferences", noise_line),
    ("measured", lambda report: plain(report.created)),
)
