"""``edgekit diagnose``."""

from __future__ import annotations

import sys
from typing import Any

import click

from .options import data_options, emit_json, json_option, preprocessing_from, preprocessing_options

__all__ = ["command"]


@click.command("diagnose")
@click.argument("model", type=click.Path(), metavar="MODEL|RUN")
@data_options
@click.option("--recipe", default="int8", show_default=True, metavar="NAME", help="The int8 recipe to look into.")
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Training samples to measure on, beside those that calibrate.",
)
@click.option(
    "--max-s",
    type=click.FloatRange(0),
    default=120.0,
    show_default=True,
    help="Seconds to spend on what leaving layers in float would win, worst layers first.",
)
@click.option(
    "--calibration-samples",
    "calibration_count",
    type=click.IntRange(1),
    help="How many training samples calibrate. [default: 200]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws.")
@click.option("--trust", is_flag=True, help="Load Lambda layers, which are Python code inside the model file.")
@click.option("--markdown", is_flag=True, help="GitHub-flavoured Markdown on standard output.")
@preprocessing_options
@json_option
def command(
    model: str,
    scale: float | None,
    offset: float | None,
    size: str | None,
    markdown: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Say which layers of MODEL's int8 variant lose accuracy, and whether its calibration samples are sound.

    MODEL is what convert takes, or a run folder. For every Keras layer: the error of its output, the ranges in float and in
    int8, and what leaving it in float32 or int16 would win, measured.

    \b
    Example:
      edgekit diagnose model.keras --data digits.npz
      edgekit diagnose runs/mine --data digits.npz --recipe int8-percentile --max-s 300 --json
    """
    from ..diagnosis import diagnose
    from ..errors import UsageError
    from .progress import ShownProgress

    if as_json and markdown:
        raise UsageError("expected one of --json and --markdown, got both")
    preprocessing = preprocessing_from(scale, offset, size)
    with ShownProgress() as progress:
        report = diagnose(model, preprocessing=preprocessing, progress=progress, **how)
    if as_json:
        emit_json(report.to_dict())
        return
    if markdown:
        from ..render.diagnosis import render_diagnosis_markdown

        click.echo(render_diagnosis_markdown(report), nl=False)
        return
    from rich.console import Console

    from ..render.diagnosis import render_diagnosis_text

    render_diagnosis_text(report, Console(file=sys.stdout))
