"""The search for a variant that keeps its accuracy, in a terminal: every try, and the verdict."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from . import figures
from .summary import CHOICE_MARK, plain

if TYPE_CHECKING:
    from rich.console import Console

    from ..budget import Budget, BudgetStep

__all__ = ["render_budget"]

FRACTIONS = ("accuracy", "top5", "macro-f1", "agreement")


def render_budget(budget: Budget, console: Console) -> None:
    """Print the steps as a table, and what to ship and why. Nothing is read as markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title, justify in (
        ("", "left"),
        ("variant", "left"),
        (budget.metric, "right"),
        ("lost", "right"),
        ("size", "right"),
        ("median", "right"),
        ("took", "right"),
    ):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_row("", "float32", _value(budget, budget.baseline), figures.MISSING)
    for rung, steps in itertools.groupby(budget.steps, key=lambda step: step.rung):
        table.add_row("", Text(f"{plain(rung)}:", style="dim"))
        for step in steps:
            table.add_row(
                *(Text(cell) for cell in _cells(budget, step)), style="bold" if step.variant == budget.choice else ""
            )
    console.print(table, highlight=False)
    for step in budget.steps:
        if step.note:
            console.print(Text(f"  {plain(step.variant)}: {plain(step.note, 300)}"), highlight=False, style="dim")
    sign = CHOICE_MARK if budget.met else "✗"
    verdict = f"Ship {budget.choice}" if budget.met else "Nothing keeps its accuracy"
    console.print(Text(f"{sign} {verdict}: {budget.reason}", style="bold"), highlight=False)
    console.print(
        Text(f"measured on {figures.count(budget.samples)} test samples; the search took {budget.seconds:.1f} s"),
        highlight=False,
    )


def _cells(budget: Budget, step: BudgetStep) -> tuple[str, ...]:
    mark = CHOICE_MARK if step.variant == budget.choice else "✓" if step.met else ""
    return (
        mark,
        plain(step.variant),
        _value(budget, step.value),
        _lost(budget, step.drop),
        figures.size(step.size_bytes),
        figures.milliseconds(step.median_ms),
        f"{step.seconds:.1f} s",
    )


def _value(budget: Budget, value: float | None) -> str:
    return figures.percent(value) if budget.metric in FRACTIONS else figures.difference(value)


def _lost(budget: Budget, drop: float | None) -> str:
    if drop is None:
        return figures.MISSING
    return figures.points(drop).lstrip("+") if budget.metric in FRACTIONS else figures.difference(drop)
