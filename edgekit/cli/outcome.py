"""How a comparison ends a command: shown, and turned into an exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from ..errors import EdgekitError
from ..records import Comparison, to_dict

__all__ = ["comparison_json", "exit_with", "failures_json", "report_failures", "show"]


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as the contract of ``edgekit compare --json`` has it, raw samples left out."""
    raw = to_dict(comparison)
    for _, report in raw["reports"]:
        report["latency"].pop("samples_ms", None)
    return raw


def failures_json(failures: Mapping[str, EdgekitError]) -> list[dict[str, str]]:
    """What failed, and why."""
    return [{"variant": name, "error": str(error)} for name, error in failures.items()]


def show(comparison: Comparison) -> None:
    """The comparison as a table on standard output."""
    from rich.console import Console

    from ..render import render_text

    render_text(comparison, Console(file=sys.stdout))


def report_failures(failures: Mapping[str, EdgekitError]) -> None:
    """Each failure as a line on standard error."""
    for name, error in failures.items():
        click.echo(f"edgekit: error: {name}: {error}", err=True)


def exit_with(failures: Mapping[str, EdgekitError], passed: bool = True, *, code: int | None = None) -> None:
    """Leave with the code of the worst failure, else with ``code``, by default 0, or 1 when a gate said no."""
    worst = max((error.exit_code for error in failures.values()), default=0)
    raise click.exceptions.Exit(worst or ((0 if passed else 1) if code is None else code))
