"""``edgekit convert``."""

from __future__ import annotations

from typing import Any

import click

from ..choices import IO_TYPES
from .options import data_options, emit_json, json_option, preprocessing_from, preprocessing_options

__all__ = ["command"]


@click.command("convert")
@click.argument("model", type=click.Path())
@data_options
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    metavar="NAME",
    help="float32, float16, dynamic-int8, int8 or int16x8; repeat for several. [default: float32, and int8 with --data]",
)
@click.option("--out", required=True, type=click.Path(), help="The run folder; what is there and still right is kept.")
@click.option(
    "--input-type",
    type=click.Choice(IO_TYPES),
    default="float32",
    show_default=True,
    help="Input of int8 variants.",
)
@click.option(
    "--output-type",
    type=click.Choice(IO_TYPES),
    default="float32",
    show_default=True,
    help="Output of int8 variants.",
)
@click.option(
    "--calibration-samples",
    "calibration_count",
    type=click.IntRange(1),
    help="How many training samples calibrate. [default: 200]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the calibration draw.")
@click.option(
    "--batch", type=int, default=1, show_default=True, help="Static rows of the variants; -1 leaves them free."
)
@click.option("--trust", is_flag=True, help="Load Lambda layers, which are Python code inside the model file.")
@preprocessing_options
@json_option
def command(
    model: str,
    recipes: tuple[str, ...],
    scale: float | None,
    offset: float | None,
    size: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Convert MODEL by recipes into .tflite variants in a run folder.

    MODEL is a Keras 3 or Keras 2 .keras, a .h5, a SavedModel folder or a float .tflite.

    \b
    Example:
      edgekit convert model.keras --data digits.npz --recipe float32 --recipe int8 --out runs/mine
    """
    from ..conversion import convert
    from .outcome import exit_with, failures_json, report_failures
    from .progress import ShownProgress

    names = recipes or (("float32", "int8") if how["data"] else ("float32",))
    preprocessing = preprocessing_from(scale, offset, size)
    with ShownProgress() as progress:
        made = convert(model, recipes=names, preprocessing=preprocessing, progress=progress, **how)
    if as_json:
        emit_json({"variants": [vars(item.variant) for item in made], "failures": failures_json(made.failures)})
    else:
        for item in made:
            click.echo(_line(item.variant))
    report_failures(made.failures)
    exit_with(made.failures)


def _line(variant: Any) -> str:
    from ..render import figures

    kept = "kept" if variant.reused else f"{variant.convert_s:.2f} s"
    size = figures.size(variant.size_bytes)
    return f"{variant.name:14} {size:>9}  {variant.quantizer:18} {kept:>8}  {variant.path}"
