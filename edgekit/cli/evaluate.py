"""``edgekit evaluate``."""

from __future__ import annotations

from typing import Any

import click

from .options import (
    data_options,
    emit_json,
    json_option,
    preprocessing_from,
    preprocessing_options,
    runtime_options,
    variant_option,
)

__all__ = ["command"]


@click.command("evaluate")
@click.argument("model", type=click.Path(), metavar="RUN|M.tflite")
@data_options
@variant_option
@click.option("--reference", type=click.Path(), help="The float .tflite a single model should agree with.")
@runtime_options
@preprocessing_options
@json_option
def command(
    model: str,
    data: str | None,
    scale: float | None,
    offset: float | None,
    size: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Measure how right the variants of a run folder, or one .tflite, are on the test split of --data.

    \b
    Example:
      edgekit evaluate runs/mine --data digits.npz
      edgekit evaluate int8.tflite --data digits.npz --scale 0.0625 --json
    """
    from ..errors import UsageError
    from ..evaluation import evaluate
    from .chatter import chatter_held
    from .outcome import exit_with, failures_json, report_failures
    from .progress import ShownProgress

    if data is None:
        raise UsageError("evaluating needs data with a test split: --data digits.npz")
    preprocessing = preprocessing_from(scale, offset, size)
    with chatter_held(), ShownProgress() as progress:
        found = evaluate(model, data, preprocessing=preprocessing, progress=progress, **how)
    if as_json:
        from ..records import to_dict

        emit_json({"evaluations": [to_dict(item) for item in found], "failures": failures_json(found.failures)})
    else:
        for item in found:
            click.echo(_line(item))
    report_failures(found.failures)
    exit_with(found.failures)


def _line(item: Any) -> str:
    from ..render import figures

    shown = f"{item.variant:14} accuracy {figures.percent(item.accuracy):>7}  agreement {figures.percent(item.agreement):>7}"
    if item.mean_absolute_error is not None:
        shown = f"{item.variant:14} mean absolute error {figures.difference(item.mean_absolute_error)}"
    top5 = "" if item.top5 is None else f"  top-5 {figures.percent(item.top5):>7}"
    return f"{shown}{top5}  {figures.count(item.count)} samples"
