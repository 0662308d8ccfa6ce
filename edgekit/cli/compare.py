"""``edgekit compare``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import compare_options, emit_json, json_option

__all__ = ["command"]


@click.command("compare")
@click.argument("run", type=click.Path())
@compare_options
@click.option("--markdown", is_flag=True, help="GitHub-flavoured Markdown on standard output.")
@click.option("--html", type=click.Path(dir_okay=False), metavar="F", help="Also write one self-contained page to F.")
@json_option
def command(
    run: str, baseline: str | None, markdown: bool, html: str | None, as_json: bool, **limits: float | None
) -> None:
    """Compare the variants of a run folder, say what to ship and why; exit 1 when no variant meets every limit.

    \b
    Example:
      edgekit compare runs/mine --max-drop 0.01 --max-latency-ms 5
      edgekit compare runs/mine --markdown >> pull-request.md
    """
    from ..comparison import Limits, compare
    from ..errors import UsageError
    from ..render import render_html, render_markdown
    from ..store import write_atomically
    from .outcome import comparison_json, exit_with, show

    if as_json and markdown:
        raise UsageError("expected one of --json and --markdown, got both")
    comparison = compare(run, baseline=baseline, limits=Limits(**limits))
    if html is not None:
        write_atomically(Path(html), render_html(comparison).encode())
    if as_json:
        emit_json(comparison_json(comparison))
    elif markdown:
        click.echo(render_markdown(comparison), nl=False)
    else:
        show(comparison)
    exit_with({}, comparison.gate.passed)
