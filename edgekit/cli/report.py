"""``edgekit report``."""

from __future__ import annotations

import click

from .options import compare_options, emit_json, json_option

__all__ = ["command"]


@click.command("report")
@click.argument("run", type=click.Path())
@compare_options
@json_option
def command(
    run: str,
    baseline: str | None,
    max_drop: float | None,
    max_latency_ms: float | None,
    max_size_kb: float | None,
    as_json: bool,
) -> None:
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
        comparison = compare(store, baseline=baseline, limits=Limits(max_drop, max_latency_ms, max_size_kb))
        paths = write_report(store, comparison)
    if as_json:
        emit_json({path.suffix[1:]: str(path.resolve()) for path in paths})
        return
    for path in paths:
        click.echo(str(path))
