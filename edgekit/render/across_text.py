"""Boards and targets side by side, in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from . import figures
from .across import (
    AcrossColumn,
    Place,
    across_columns,
    across_title,
    is_across,
    legend_lines,
    places,
    refusal_lines,
    remark_lines,
)
from .summary import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..records import Comparison

__all__ = ["render_across"]

INDENT, GAP = 2, 2
MOST_VARIANT = 24
REFUSALS_SHOWN = 20


def render_across(
    comparison: Comparison, console: Console, say: Callable[[str, str], None], readable: Callable[[str], str]
) -> None:
    """Print what every place makes of the variants, where there is more than one board's: a table, or sentences where it does
    not fit.

    ``say`` prints a line in a style, ``readable`` makes text what the terminal can show.
    """
    if not is_across(comparison):
        return
    say("", "")
    say(across_title(comparison), "bold")
    is_narrow = _widths(comparison) > console.width
    for number, place in enumerate(places(comparison)):
        say(f"{place.title}: {place.said_by}" if place.said_by else place.title, "dim")
        if is_narrow:
            for line in _sentences(comparison, place, console.width):
                say(line, "")
        else:
            console.print(_table(comparison, place, readable, with_head=number == 0), highlight=False)
    refusals = list(refusal_lines(comparison))
    for line in refusals[:REFUSALS_SHOWN]:
        say(f"✗ {line}", "yellow")
    if len(refusals) > REFUSALS_SHOWN:
        say(f"✗ and {figures.count(len(refusals) - REFUSALS_SHOWN)} more", "yellow")
    for line in (*remark_lines(comparison), *legend_lines(comparison)):
        say(line, "dim")


def _widths(comparison: Comparison) -> int:
    """How wide the table is."""
    return INDENT + _names(comparison) + sum(GAP + _width(comparison, column) for column in across_columns(comparison))


def _names(comparison: Comparison) -> int:
    longest = max(len(plain(line.variant)) for line in comparison.across)
    return min(MOST_VARIANT, max(len("variant"), longest))


def _width(comparison: Comparison, column: AcrossColumn) -> int:
    return max(len(column.title), *(len(column.text(line)) for line in comparison.across))


def _sentences(comparison: Comparison, place: Place, width: int) -> Iterator[str]:
    """A line of each variant with all its figures, broken between words."""
    columns = across_columns(comparison)
    for line in place.lines:
        known = [column.sentence(line) for column in columns if column.text(line) != figures.MISSING]
        if len(known) > 1 and known[1].endswith(f" {known[0]}"):
            known = known[1:]  # the latency says the basis itself
        first = f"{' ' * INDENT}{plain(line.variant, MOST_VARIANT)}: "
        yield from textwrap.wrap("; ".join(known), width, initial_indent=first, subsequent_indent=" " * 2 * INDENT)


def _table(comparison: Comparison, place: Place, readable: Callable[[str], str], *, with_head: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_edge=False, show_header=with_head, pad_edge=False, padding=(0, GAP, 0, 0))
    names = INDENT + _names(comparison)
    table.add_column(" " * INDENT + "variant", overflow="ellipsis", no_wrap=True, min_width=names, max_width=names)
    for column in across_columns(comparison):
        width = _width(comparison, column)
        table.add_column(
            readable(column.title), justify="left" if column.words else "right", no_wrap=True, min_width=width
        )
    for line in place.lines:
        cells = (" " * INDENT + plain(line.variant), *(column.text(line) for column in across_columns(comparison)))
        table.add_row(*(Text(readable(cell)) for cell in cells), style="yellow" if line.refusal else "")
    return table
