"""``edgekit targets``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import emit_json, json_option

if TYPE_CHECKING:
    from edgekit_converters.targets.target import Target

__all__ = ["command"]


@click.command("targets")
@click.argument("name", required=False)
@click.option("--operators", is_flag=True, help="Of NAME: the operators it runs, and what it asks of them.")
@json_option
def command(name: str | None, operators: bool, as_json: bool) -> None:
    """List the targets: boards and chips a model can be checked and compiled for; or show NAME whole.

    \b
    Example:
      edgekit targets
      edgekit targets coral --operators
      edgekit inspect int8.tflite --target ethos-u55-128
    """
    from edgekit_converters.targets.target import find_target, targets

    from ..boundary import translated

    with translated():
        found = targets() if name is None else {name: find_target(name)}
    if operators:
        _operators(name, next(iter(found.values())), as_json)
        return
    if as_json:
        listed = [target.to_dict() for target in found.values()]
        emit_json({"targets": listed} if name is None else listed[0])
    elif name is None:
        width = max(len(target) for target in found)
        for target in found.values():
            click.echo(f"{target.name:{width}}  {target.title}{_step(target)}")
        click.echo("\nedgekit inspect M.tflite --target NAME says what it makes of a model; edgekit compile makes it.")
    else:
        _show(next(iter(found.values())))


def _operators(name: str | None, target: Target, as_json: bool) -> None:
    from edgekit_converters.targets.supported import supported_operators

    from ..errors import UsageError

    if name is None:
        raise UsageError("expected a target whose operators to list: edgekit targets coral --operators")
    known = supported_operators(target)
    if not known:
        raise UsageError(
            f"{target.name} has no table of its own: its {target.compiler or 'runtime'} knows. Ask of a model: edgekit inspect "
            f"M.tflite --target {target.name}"
        )
    if as_json:
        emit_json({"target": target.name, "operators": [vars(item) for item in known]})
        return
    width = max(len(item.type) for item in known)
    for item in known:
        click.echo(f"{item.type:{width}}  {'; '.join(item.asks)}".rstrip())


def _step(target: Target) -> str:
    return f" (compiled by {target.compiler})" if target.compiler else ""


def _show(target: Target) -> None:
    from ..render import figures

    click.echo(f"{target.name}: {target.title}")
    lines = {
        "precisions": ", ".join(target.precisions),
        "input": ", ".join(target.input_types),
        "output": ", ".join(target.output_types),
        "shapes": f"all fixed, {target.batch} row(s)" if target.static else "any",
        "runtimes": ", ".join(target.runtimes),
        "operators": target.operators,
        "compiler": " ".join(filter(None, (target.compiler, target.config))),
        "processor": target.machine,
        "attached by": target.link,
        "parameter memory": ""
        if target.parameter_memory_bytes is None
        else figures.size(target.parameter_memory_bytes),
        "memory": "" if target.ram_bytes is None else figures.size(target.ram_bytes),
        "also called": ", ".join(target.aliases),
    }
    for title, text in lines.items():
        if text:
            click.echo(f"  {title:16} {text}")
    for note in target.notes:
        click.echo(f"  note: {note}")
    for source in target.sources:
        click.echo(f"  source: {source}")
