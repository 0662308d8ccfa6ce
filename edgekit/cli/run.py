"""``edgekit run``."""

from __future__ import annotations

import click

from .options import emit_json, json_option

__all__ = ["command"]


@click.command("run")
@click.argument("config", type=click.Path())
@click.option("--out", type=click.Path(), help="The run folder. [default: runs/NAME]")
@click.option("--data-folder", type=click.Path(), help="Where the files of the named data lie.")
@json_option
def command(config: str, out: str | None, data_folder: str | None, as_json: bool) -> None:
    """Run an edgekit.toml: data, model, variants, measurement, verdict.

    What an earlier call finished, and whose inputs have not changed, is kept.

    \b
    Example:
      edgekit run examples/digits/edgekit.toml
    """
    from ..pipeline import run
    from .chatter import chatter_held
    from .outcome import comparison_json, exit_with, failures_json, report_failures, show
    from .progress import ShownProgress

    with chatter_held(), ShownProgress() as progress:
        result = run(config, out=out, data_folder=data_folder, progress=progress)
    if as_json:
        more = {"folder": str(result.folder.resolve()), "failures": failures_json(result.failures)}
        emit_json({**comparison_json(result.comparison), **more})
    else:
        show(result.comparison)
        click.echo(f"report: {result.folder / 'report.html'}")
    report_failures(result.failures)
    exit_with(result.failures, result.comparison.gate.passed)
