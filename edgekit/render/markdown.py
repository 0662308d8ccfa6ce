"""The comparison for a pull request or a job summary: GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import figures
from .across import across_columns, across_title, is_across, legend_lines, places, refusal_lines, remark_lines
from .conditions import board_line, noise_line
from .measured import sustained_facts
from .run_with import run_with_lines
from .summary import Column, columns, failure_line, headline, legend, limits_line, mark, plain

if TYPE_CHECKING:
    from ..records import ComparedVariant, Comparison

__all__ = ["escape", "render_markdown"]

ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def render_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown, ending in a newline. Names and messages are escaped: they cannot become markup."""
    blocks = [
        f"## {escape(comparison.title)}" if comparison.title else "",
        _verdict(comparison),
        "\n".join(_table(comparison)) if comparison.variants else "",
        f"<sub>{escape(legend(comparison))}. {figures.SIZE_NOTE}.</sub>" if comparison.variants else "",
        "\n".join(_gate(comparison)),
        _bullets("Measured on", (f"{escape(key)}: {escape(value)}" for key, value in comparison.measured_on.items())),
        _bullets("Run with", (escape(line) for line in run_with_lines(comparison))),
        _bullets("Conditions", (escape(line) for line in _conditions(comparison))),
        "\n".join(_across(comparison)),
        _bullets("Caveats", (escape(caveat) for caveat in comparison.caveats)),
        f"<sub>Compared {escape(comparison.created)}</sub>" if comparison.created else "",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(text: object) -> str:
    """Foreign text as Markdown that shows exactly that text on one line, in a table cell too."""
    safe = re.sub(r"[&<>]", lambda found: ENTITIES[found[0]], plain(text, 1000))
    return re.sub(r"([\\`*_{}\[\]|~#!$])", r"\\\1", safe)


def _verdict(comparison: Comparison) -> str:
    reason = f": {escape(comparison.reason)}" if comparison.reason else ""
    sign = "✅" if comparison.choice is not None else "❌"
    return f"{sign} **{escape(headline(comparison))}**{reason}"


def _table(comparison: Comparison) -> Iterator[str]:
    shown = columns(comparison)
    yield _row("", "variant", *(escape(column.title) for column in shown))
    yield _row(":-:", ":--", *("--:" for _ in shown))
    for variant in comparison.variants:
        name = escape(plain(variant.name))
        strong = f"**{name}**" if variant.name == comparison.choice and name else name
        yield _row(mark(comparison, variant), strong, *(_cell(column, variant) for column in shown))


def _cell(column: Column, variant: ComparedVariant) -> str:
    small = "" if column.aside is None else column.aside(variant)
    return column.text(variant) + (f"<br><sub>{escape(small)}</sub>" if small else "")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _gate(comparison: Comparison) -> Iterator[str]:
    gate = comparison.gate
    if not gate.limits and not gate.failures:
        return
    yield f"**Gate {'passed' if gate.passed else 'failed'}.** Limits: {escape(limits_line(comparison))}."
    if gate.failures:
        yield ""
    for failure in gate.failures:
        yield f"- {escape(failure_line(failure))}"


def _conditions(comparison: Comparison) -> Iterator[str]:
    """The state of the board around each measurement, for those that tell."""
    for name, report in comparison.reports:
        told = [board_line(report), *(f"{title} {text}" for title, text in sustained_facts(report))]
        if any(told):
            yield f"{plain(name)}: {'; '.join(filter(None, (noise_line(report), *told)))}"


def _across(comparison: Comparison) -> Iterator[str]:
    """Boards and targets side by side, every figure with what it is."""
    if not is_across(comparison):
        return
    shown = across_columns(comparison)
    yield from (f"### {across_title(comparison)}", "")
    yield _row("on", "variant", *(escape(column.title) for column in shown), "said by")
    yield _row(":--", ":--", *(":--" if column.words else "--:" for column in shown), ":--")
    for place in places(comparison):
        for line in place.lines:
            cells = (
                line.target,
                plain(line.variant),
                *(column.text(line) for column in shown),
                plain(line.said_by, 100),
            )
            yield _row(*map(escape, cells))
    remarks = [*refusal_lines(comparison), *remark_lines(comparison)]
    yield from ("", *(f"- {escape(line)}" for line in remarks)) if remarks else ()
    yield from ("", f"<sub>{escape('. '.join(line.rstrip('.') for line in legend_lines(comparison)))}.</sub>")


def _bullets(title: str, lines: Iterator[str]) -> str:
    items = [f"- {line}" for line in lines]
    return "\n".join((f"**{title}**", "", *items)) if items else ""
