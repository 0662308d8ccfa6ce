"""``edgekit convert``."""

from __future__ import annotations

import click

from .options import data_option, emit_json, json_option, preprocessing_options

__all__ = ["command"]


@click.command("convert")
@click.argument("model", type=click.Path())
@data_option
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    metavar="NAME",
    help="float32, float16, dynamic-int8, int8 or int16x8; repeat for several. [default: float32, int8]",
)
@click.option("--out", required=True, type=click.Path(), help="The run folder; what is there and still right is kept.")
@click.option(
    "--input-type",
    type=click.Choice(["float32", "int8", "uint8"]),
    default="float32",
    show_default=True,
    help="Input of int8 variants.",
)
@click.option(
    "--output-type",
    type=click.Choice(["float32", "int8", "uint8"]),
    default="float32",
    show_default=True,
    help="Output of int8 variants.",
)
@click.option(
    "--calibration-samples", type=click.IntRange(1), help="How many training samples calibrate. [default: 200]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the calibration draw.")
@click.option(
    "--batch", type=int, default=1, show_default=True, help="Static rows of the variants; -1 leaves them free."
)
@click.option("--trust", is_flag=True, help="Load Lambda layers, which are Python code inside the model file.")
@click.option("--data-folder", type=click.Path(), help="Where the files of the named data lie.")
@preprocessing_options
@json_option
def command(
    model: str,
    data: str | None,
    recipes: tuple[str, ...],
    out: str,
    input_type: str,
    output_type: str,
    calibration_samples: int | None,
    seed: int,
    batch: int,
    trust: bool,
    data_folder: str | None,
    scale: float | None,
    offset: float | None,
    size: str | None,
    as_json: bool,
) -> None:
    """Convert MODEL by recipes into .tflite variants in a run folder.

    MODEL is a Keras 3 or Keras 2 .keras, a .h5, a SavedModel folder or a float .tflite.

    \b
    Example:
      edgekit convert model.keras --data digits.npz --recipe float32 --recipe int8 --out runs/mine
    """
    from ..conversion import convert
    from ..recipe import find_recipes
    from ..records import to_dict
    from ..store import RunStore
    from .options import load
    from .outcome import exit_with, report_failures
    from .progress import ShownProgress

    names = recipes or ("float32", "int8")
    find_recipes(names)
    with ShownProgress() as progress:
        dataset, preprocessing = load(data, scale, offset, size, data_folder) if data else (None, None)
        if dataset is None and (scale, offset, size) != (None, None, None):
            from ..data import Preprocessing, parse_size

            preprocessing = Preprocessing(
                1.0 if scale is None else scale, offset or 0.0, parse_size(size) if size else None
            )
        store = RunStore.create(out)
        with store.locked():
            conversions = convert(
                model,
                data=dataset,
                recipes=names,
                out=store,
                input_type=input_type,
                output_type=output_type,
                preprocessing=preprocessing,
                calibration_count=calibration_samples,
                seed=seed,
                batch=batch,
                trust=trust,
                progress=progress,
            )
    if as_json:
        failures = [{"recipe": name, "error": str(error)} for name, error in conversions.failures.items()]
        emit_json({"variants": [to_dict(item.variant) for item in conversions], "failures": failures})
    else:
        from ..render import figures

        for item in conversions:
            variant = item.variant
            kept = "kept" if variant.reused else f"{variant.convert_s:.2f} s"
            click.echo(
                f"{variant.name:14} {figures.size(variant.size_bytes):>9}  {variant.quantizer:18} {kept:>8}  {variant.path}"
            )
    report_failures(conversions.failures)
    exit_with(conversions.failures)
