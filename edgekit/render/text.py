"""The comparison in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from . import figures
from .across_text import render_across
from .run_with import run_with_lines
from .summary import (
    CHOICE_MARK,
    FRONT_MARK,
    Column,
    columns,
    failure_line,
    headline,
    legend,
    limits_line,
    mark,
    plain,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..records import ComparedVariant, Comparison

__all__ = ["render_text"]

MOST_NAME = 24
GAP = 2
LEAST_COLUMN = 4
FAILURES_SHOWN = 20
ASCII_LINES = "    \n    \n -- \n    \n    \n    \n    \n    \n"
ASCII = str.maketrans(
    {
        CHOICE_MARK: "*",
        FRONT_MARK: "+",
        figures.MISSING: "-",
        figures.MINUS: "-",
        figures.TIMES: "x",
        "µ": "u",
        "Δ": "diff",
        "…": "~",
        "✓": "ok,",
        "✗": "!",
    }
)


def render_text(comparison: Comparison, console: Console) -> None:
    """Print the comparison on ``console`` at its own width; figures that do not fit go to a second table below.

    Nothing is read as markup, and on a terminal without Unicode the signs become ASCII.
    """
    from rich.text import Text

    plain_ascii = console.options.ascii_only

    def say(line: str, style: str = "") -> None:
        console.print(Text(_readable(line, plain_ascii), style=style), highlight=False)

    say(plain(comparison.title, 200), "bold")
    if comparison.measured_on:
        say(", ".join(f"{plain(key)} {plain(value)}" for key, value in comparison.measured_on.items()), "dim")
    if comparison.variants:
        for group in _groups(comparison, console.width):
            console.print(_table(comparison, group, console.width, plain_ascii), highlight=False)
        say(legend(comparison), "dim")
    for line in run_with_lines(comparison):
        say(line, "dim")
    render_across(comparison, console, say, lambda text: _readable(text, plain_ascii))
    for line, style in _verdict(comparison):
        say(line, style)


def _verdict(comparison: Comparison) -> Iterator[tuple[str, str]]:
    chosen = comparison.choice is not None
    reason = plain(comparison.reason, 1000)
    yield "", ""
    yield headline(comparison) + (f": {reason}" if reason else ""), "bold green" if chosen else "bold red"
    gate = comparison.gate
    if gate.limits or gate.failures:
        yield f"{'✓' if gate.passed else '✗'} limits: {limits_line(comparison)}".strip(), ""
    for failure in gate.failures[:FAILURES_SHOWN]:
        yield f"✗ {failure_line(failure)}", "red"
    if len(gate.failures) > FAILURES_SHOWN:
        yield f"✗ and {figures.count(len(gate.failures) - FAILURES_SHOWN)} more", "red"
    for caveat in comparison.caveats:
        yield f"! {plain(caveat, 1000)}", "yellow"


def _groups(comparison: Comparison, width: int) -> Iterator[Sequence[Column]]:
    """The columns of one table after another: all in one where they fit, else what matters most first."""
    names = max((len(plain(it.name)) for it in comparison.variants), default=0)
    room = width - len(CHOICE_MARK) - GAP - min(names, MOST_NAME)
    shown = columns(comparison)
    needed = {column.title: GAP + _width(comparison, column) for column in shown}
    if sum(needed.values()) > room:
        shown = tuple(sorted(shown, key=lambda column: column.secondary))
    group: list[Column] = []
    used = 0
    for column in shown:
        if group and used + needed[column.title] > room:
            yield group
            group, used = [], 0
        group.append(column)
        used += needed[column.title]
    yield group


def _width(comparison: Comparison, column: Column) -> int:
    return max(LEAST_COLUMN, len(column.title), *(len(column.text(variant)) for variant in comparison.variants))


def _table(comparison: Comparison, group: Sequence[Column], width: int, plain_ascii: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    lines = box.Box(ASCII_LINES, ascii=True) if plain_ascii else box.SIMPLE_HEAD
    table = Table(box=lines, show_edge=False, pad_edge=False, padding=(0, 0, 0, GAP - 1))
    table.add_column("", width=1)
    room = width - len(CHOICE_MARK) - GAP - sum(GAP + _width(comparison, column) for column in group)
    table.add_column("variant", overflow="ellipsis", no_wrap=True, max_width=max(LEAST_COLUMN, room))
    for column in group:
        widest = _width(comparison, column)
        table.add_column(_readable(column.title, plain_ascii), justify="right", no_wrap=True, min_width=widest)
    for variant in comparison.variants:
        cells = (mark(comparison, variant), plain(variant.name), *(column.text(variant) for column in group))
        table.add_row(*(Text(_readable(cell, plain_ascii)) for cell in cells), style=_row_style(comparison, variant))
    return table


def _row_style(comparison: Comparison, variant: ComparedVariant) -> str:
    if variant.name == comparison.choice:
        return "bold green"
    return "" if mark(comparison, variant) else "dim"


def _readable(text: str, plain_ascii: bool) -> str:
    return text.translate(ASCII).encode("ascii", "replace").decode() if plain_ascii else text
