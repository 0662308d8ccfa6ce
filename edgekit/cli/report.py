"""``edgekit report``."""

from __future__ import annotations

import click

from .options import compare_options, emit_json, json_option

__all__ = ["command"]


@click.command("report")
@click.argument("run", type=click.Path())
@compare_options
@json_option
def command(run: str, baseline: str | None, as_json: bool, **limits: float | None) -> None:
    """Write report.json, report.md and report.html of a run folder from what was measured.

    \b
    Example:
      edgekit report runs/mine --max-drop 0.01
    """
    from ..comparison import Limits, compare
    from ..pipeline import write_report
    from ..store import RunStore

    store = RunStore.open(run)
    with store.locked():
        paths = write_report(store, compare(store, baseline=baseline, limits=Limits(**limits)))
    if as_json:
        emit_json({path.suffix[1:]: str(path.resolve()) for path in paths})
        return
    for path in paths:
        click.echo(str(path))
