"""``edgekit compile``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import data_options, emit_json, json_option, variant_option

if TYPE_CHECKING:
    from ..compiling import Compiled
    from ..errors import EdgekitError

__all__ = ["command"]

LOG_LINES = 15


@click.command("compile")
@click.argument("models", nargs=-1, required=True, type=click.Path())
@click.option("--target", required=True, metavar="T", help="A board or chip: see edgekit targets.")
@click.option(
    "--out",
    type=click.Path(),
    help="The folder of what is made of files; what is made of a run stays in it. [default: .]",
)
@variant_option
@click.option("--together", is_flag=True, help="Edge TPU: compile all models together, so that they share its memory.")
@click.option("--compiler", type=click.Path(), help="Edge TPU: the edgetpu_compiler to use. [default: the one on PATH]")
@click.option("--min-runtime-version", type=int, metavar="N", help="Edge TPU: run on runtimes as old as this one.")
@click.option(
    "--search-delegate", is_flag=True, help="Edge TPU: where compilation fails, leave more and more operators out."
)
@click.option("--delegate-search-step", type=int, metavar="N", help="Edge TPU: how many operators more at each try.")
@click.option(
    "--multiple-subgraphs", is_flag=True, help="Edge TPU: map every piece, not only the first (experimental)."
)
@click.option(
    "--num-segments", type=int, metavar="N", help="Edge TPU: cut the model into N for a pipeline of Edge TPUs."
)
@click.option("--intermediate-tensors", metavar="A,B", help="Edge TPU: where the mapped part ends.")
@click.option("--timeout-s", type=float, metavar="S", help="Edge TPU: the compiler's own timeout. [default: 180]")
@click.option("--accelerator-config", metavar="C", help="Ethos-U: another configuration, such as ethos-u85-512.")
@click.option("--system-config", metavar="C", help="Ethos-U: a system of Vela's configuration file.")
@click.option("--memory-mode", metavar="M", help="Ethos-U: a memory mode of Vela's configuration file.")
@click.option(
    "--vela-config", type=click.Path(), help="Ethos-U: the configuration file (.ini) of systems and memory modes."
)
@click.option("--optimise", type=click.Choice(["Performance", "Size"]), help="Ethos-U: what Vela optimises for.")
@click.option("--arena-cache-size", type=int, metavar="BYTES", help="Ethos-U: the SRAM Vela may use.")
@click.option(
    "--arena-headroom",
    type=float,
    metavar="F",
    help="Microcontroller: memory beyond what was needed here, as a fraction.",
)
@data_options
@click.option(
    "--deadline-s", type=click.FloatRange(1), default=600.0, show_default=True, help="The tool is ended after so long."
)
@click.option("--force", is_flag=True, help="Replace files of --out; compile also what is known to map nowhere.")
@json_option
def command(
    models: tuple[str, ...],
    target: str,
    out: str | None,
    variants: tuple[str, ...],
    together: bool,
    data: str | None,
    data_folder: str | None,
    deadline_s: float,
    force: bool,
    as_json: bool,
    intermediate_tensors: str | None,
    **options: Any,
) -> None:
    """Compile MODELS for a target with its own tool: a run folder's variants, or .tflite files.

    An Edge TPU needs Coral's edgetpu_compiler, which you install yourself (docs/edgetpu-compile.md); an Ethos-U Arm's Vela
    (pip install 'edgekit[ethos-u]'); a microcontroller gets a C array, a header and a program, tried in TensorFlow Lite Micro
    (pip install 'edgekit[micro]'), on samples of --data where given.

    \b
    Example:
      edgekit compile runs/mine --target coral
      edgekit compile int8.tflite --target ethos-u55-128 --out build
      edgekit compile runs/mine --variant int8 --target micro --data digits.npz
    """
    from ..compiling import compile_for
    from ..errors import EdgekitError
    from .chatter import chatter_held
    from .outcome import exit_with, failures_json, report_failures
    from .progress import ShownProgress

    options["intermediate_tensors"] = _names(intermediate_tensors)
    try:
        with chatter_held(), ShownProgress() as progress:
            made = compile_for(
                models,
                target,
                out=out,
                variants=variants,
                options=options,
                together=together,
                data=data,
                data_folder=data_folder,
                deadline_s=deadline_s,
                force=force,
                progress=progress,
            )
    except EdgekitError as error:
        _tell_log(error)
        raise
    if as_json:
        emit_json({"compiled": [_plain(item) for item in made], "failures": failures_json(made.failures)})
    else:
        for item in made:
            _show(item)
    for failed in {id(item): item for item in made.failures.values()}.values():  # models compiled together fail as one
        _tell_log(failed)
    report_failures(made.failures)
    exit_with(made.failures)


def _tell_log(error: EdgekitError) -> None:
    """The last lines of what a tool printed before it failed, on standard error."""
    from ..render.summary import plain

    lines = [plain(line, 300) for line in error.log.splitlines() if line.strip()]
    for line in lines[-LOG_LINES:]:
        click.echo(f"  | {line}", err=True)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _plain(item: Compiled) -> dict[str, Any]:
    return {
        "name": item.name,
        "files": [str(path) for path in item.paths],
        "variant": None if item.variant is None else item.variant.name,
        "compile_s": item.compile_s,
        "target": item.report.to_dict(),
        "log": item.log,
    }


def _show(item: Compiled) -> None:
    from ..render.target import target_lines

    click.echo(f"{item.name} for " + "\n".join(target_lines(item.report)))
    for path in item.paths:
        click.echo(f"  {path}")
    if item.variant is not None:
        click.echo(f"  variant {item.variant.name}: edgekit bench RUN --variant {item.variant.name} --device NAME")
