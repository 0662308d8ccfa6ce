"""A regression gate for a pull request or a job summary: GitHub-flavoured Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from . import figures
from .conditions import conditions_rows
from .markdown import escape

if TYPE_CHECKING:
    from edgekit_device import BenchmarkReport

    from ..gate import GateLine, RegressionGate

__all__ = ["gate_headline", "render_gate_markdown"]

SIGNS = {
    "passed": "✅",
    "regressed": "❌",
    "not comparable": "⚠️",
    "failed": "❌",
    "new": "🆕",
    "missing": "➖",
}


def render_gate_markdown(gate: RegressionGate) -> str:
    """The verdict, a table of the variants, the reasons, and the conditions folded away. Names cannot become markup."""
    blocks = [
        f"## Latency against {escape(gate.baseline)}",
        f"{'✅' if gate.exit_code == 0 else '❌'} **{escape(gate_headline(gate))}**",
        "\n".join(_table(gate)),
        "\n".join(f"- {SIGNS[line.outcome]} **{escape(line.variant)}**: {escape(line.message)}" for line in gate.lines),
        *(_details(line) for line in gate.lines if line.after is not None),
        f"<sub>A change is after / before with its 99 % interval. Allowed: {_limit(gate)}. {figures.SIZE_NOTE}.</sub>",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def gate_headline(gate: RegressionGate) -> str:
    """The outcome in one sentence."""
    slower, unclear = ([line.variant for line in lines] for lines in (gate.regressed, gate.undecided))
    failed = [line.variant for line in gate.lines if line.outcome == "failed"]
    said = []
    if slower:
        said.append(f"slower by more than {_limit(gate)}: {', '.join(slower)}")
    if unclear:
        said.append(f"not comparable: {', '.join(unclear)}{' (allowed)' if gate.allow_not_comparable else ''}")
    if failed:
        said.append(f"not measured: {', '.join(failed)}")
    return "; ".join(said) or f"nothing became slower by more than {_limit(gate)}"


def _limit(gate: RegressionGate) -> str:
    return figures.limit("max_regression", 100 * gate.max_regression, "%")


def _table(gate: RegressionGate) -> Iterator[str]:
    accuracy = any(report.accuracy.accuracy is not None for line in gate.lines for report in _both(line))
    yield "| | variant | before | after | change | size |" + (" accuracy |" if accuracy else "") + " verdict |"
    yield "| :-: | :-- | --: | --: | --: | --: |" + (" --: |" if accuracy else "") + " :-- |"
    for line in gate.lines:
        cells = [
            SIGNS[line.outcome],
            escape(line.variant),
            _median(line.before),
            _median(line.after),
            _change(line),
            _moved(line, lambda report: report.model.size_bytes or None, figures.size),
        ]
        if accuracy:
            cells.append(_moved(line, lambda report: report.accuracy.accuracy, figures.percent))
        verdict = line.outcome if line.outcome != "passed" or line.difference is None else line.difference.verdict
        yield f"| {' | '.join((*cells, verdict))} |"


def _both(line: GateLine) -> list[BenchmarkReport]:
    return [report for report in (line.before, line.after) if report is not None]


def _median(report: BenchmarkReport | None) -> str:
    return figures.MISSING if report is None else figures.milliseconds(report.latency.median_ms)


def _change(line: GateLine) -> str:
    found = line.difference
    if found is None or found.ratio is None:
        return figures.MISSING
    return f"{figures.slowdown(found.ratio)} ({figures.slowdown(found.low)} to {figures.slowdown(found.high)})"


def _moved(
    line: GateLine, value: Callable[[BenchmarkReport], float | None], shown: Callable[[float | None], str]
) -> str:
    """A figure before and after, once where it is the same."""
    return " → ".join(dict.fromkeys(shown(value(report)) for report in _both(line)))


def _details(line: GateLine) -> str:
    """Both measurements' conditions, folded away."""
    head, *rows = conditions_rows(_both(line), ("baseline", "now") if line.before is not None else ("now",))
    table = [f"| {' | '.join(map(escape, head))} |", f"| {' | '.join([':--'] * len(head))} |"]
    table += [f"| {' | '.join(map(escape, row))} |" for row in rows]
    lines = "\n".join(table)
    return f"<details><summary>{escape(line.variant)}: how it was measured</summary>\n\n{lines}\n\n</details>"
