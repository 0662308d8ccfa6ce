"""``edgekit convert``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..choices import IO_TYPES
from .options import (
    data_options,
    emit_json,
    finetune_from,
    finetune_options,
    json_option,
    preprocessing_from,
    preprocessing_options,
)

if TYPE_CHECKING:
    from ..searching import SearchResult

__all__ = ["command"]

SEARCH_ONLY = ("metric", "max_search_s")


@click.command("convert")
@click.argument("model", type=click.Path())
@data_options
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    metavar="NAME",
    help="A recipe by name (see edgekit recipes), or its .toml; repeat for several. [default: float32, and int8 with --data]",
)
@click.option(
    "--target",
    metavar="T",
    help="Where it is to run (see edgekit targets): recipes and types it wants, what it makes of the result, and compiled files "
    "where its tool is installed.",
)
@click.option("--out", required=True, type=click.Path(), help="The run folder; what is there and still right is kept.")
@click.option(
    "--max-drop",
    type=float,
    help="Search for a variant that loses no more than this, as a fraction: 0.01 is one point. Exit 1 when none does.",
)
@click.option("--metric", help="What must not drop: accuracy, top5, macro-f1, agreement, mean-absolute-error.")
@click.option("--max-search-s", type=float, metavar="S", help="No new try begins after so many seconds.")
@click.option(
    "--device", default="local", show_default=True, help="Where the search and slimming to a latency measure."
)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Of these measurements.")
@click.option(
    "--input-type",
    type=click.Choice(IO_TYPES),
    help="Input of int8 variants. [default: the target's, else float32]",
)
@click.option(
    "--output-type",
    type=click.Choice(IO_TYPES),
    help="Output of int8 variants. [default: the target's, else float32]",
)
@click.option(
    "--calibration-samples",
    "calibration_count",
    type=click.IntRange(1),
    help="How many training samples calibrate. [default: 200]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything drawn or trained.")
@click.option(
    "--batch", type=int, default=1, show_default=True, help="Static rows of the variants; -1 leaves them free."
)
@click.option("--trust", is_flag=True, help="Load Lambda layers, which are Python code inside the model file.")
@finetune_options
@preprocessing_options
@json_option
def command(
    model: str,
    recipes: tuple[str, ...],
    max_drop: float | None,
    scale: float | None,
    offset: float | None,
    size: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Convert MODEL by recipes into .tflite variants in a run folder; with --max-drop until one keeps its accuracy.

    MODEL is a Keras 3 or Keras 2 .keras, a .h5, a SavedModel folder or a float .tflite.

    \b
    Example:
      edgekit convert model.keras --data digits.npz --recipe float32 --recipe int8 --out runs/mine
      edgekit convert model.keras --data digits.npz --recipe slim50-prune75-qat-int8 --epochs 5 --out runs/mine
      edgekit convert model.keras --data digits.npz --max-drop 0.01 --out runs/mine
      edgekit convert model.keras --data digits.npz --target coral --out runs/mine
    """
    from .chatter import chatter_held
    from .outcome import exit_with, failures_json, report_failures
    from .progress import ShownProgress

    how.update(preprocessing=preprocessing_from(scale, offset, size), finetune=finetune_from(how))
    if max_drop is not None:
        _search(model, recipes or ("int8",), max_drop, as_json, how)
        return
    _refuse_search_options(how)
    from ..conversion import convert
    from ..render.target import target_lines

    names = recipes or (None if how["data"] or how["target"] else ("float32",))
    with chatter_held(), ShownProgress() as progress:
        made = convert(model, recipes=names, progress=progress, **how)
    if as_json:
        found = {"variants": [vars(item.variant) for item in made], "failures": failures_json(made.failures)}
        reports = {item.variant.name: item.target_report.to_dict() for item in made if item.target_report is not None}
        emit_json({**found, "targets": reports} if reports else found)
    else:
        for item in made:
            click.echo(_line(item.variant))
            if item.target_report is not None:
                click.echo("\n".join(target_lines(item.target_report)))
    report_failures(made.failures)
    exit_with(made.failures)


def _refuse_search_options(how: dict[str, Any]) -> None:
    from ..errors import UsageError

    for name in SEARCH_ONLY:
        if how.pop(name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} belongs to a search: add --max-drop 0.01")


def _search(model: str, recipes: tuple[str, ...], max_drop: float, as_json: bool, how: dict[str, Any]) -> None:
    from ..errors import UsageError
    from ..render.target import target_lines
    from ..searching import search
    from .chatter import chatter_held
    from .outcome import failures_json
    from .progress import ShownProgress

    if how["data"] is None:
        raise UsageError("--max-drop needs data to measure accuracy on: --data digits.npz")
    if how.pop("batch") != 1:
        raise UsageError("--max-drop measures variants of one row: leave --batch out")
    with chatter_held(), ShownProgress() as progress:
        found = search(model, recipes=recipes, max_drop=max_drop, progress=progress, **how)
    if as_json:
        from ..records import to_dict

        emit_json(
            {
                "variants": [vars(item) for item in found.variants],
                "choice": found.choice,
                "budget": to_dict(found.budget),
                "failures": failures_json(found.failures),
                **(
                    {"targets": {name: to_dict(item.report) for name, item in found.targets.items()}}
                    if found.targets
                    else {}
                ),
            }
        )
    else:
        _show(found)
        for done in found.targets.values():
            click.echo("\n".join(target_lines(done.report)))
    raise click.exceptions.Exit(0 if found.budget.met else 1)


def _show(found: SearchResult) -> None:
    import sys

    from rich.console import Console

    from ..render.budget import render_budget

    render_budget(found.budget, Console(file=sys.stdout))


def _line(variant: Any) -> str:
    from ..render import figures

    kept = "kept" if variant.reused else f"{variant.convert_s:.2f} s"
    size = figures.size(variant.size_bytes)
    return f"{variant.name:24} {size:>9}  {variant.quantizer:18} {kept:>8}  {variant.path}"
