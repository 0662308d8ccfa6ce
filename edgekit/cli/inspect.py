"""``edgekit inspect``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import emit_json, json_option

if TYPE_CHECKING:
    from edgekit_converters import ModelCard
    from edgekit_converters.targets.records import TargetReport

__all__ = ["command"]


@click.command("inspect")
@click.argument("model", type=click.Path())
@click.option(
    "--target",
    metavar="T",
    help="What this target makes of it: which operators run there, why the rest do not, what to change (see edgekit targets).",
)
@json_option
def command(model: str, target: str | None, as_json: bool) -> None:
    """Show a .tflite's inputs, outputs, scales, operators, parameters and MACs; with --target what a board or chip makes of it.

    Needs no TensorFlow, and no compiler for an Edge TPU. A file compiled for an Edge TPU can be opened too.

    \b
    Example:
      edgekit inspect int8.tflite
      edgekit inspect int8.tflite --target coral
    """
    from edgekit_converters import read_model_card
    from edgekit_device.embedded import read_note

    from ..boundary import translated
    from ..subject import check_tflite

    content = check_tflite(Path(model)).read_bytes()
    with translated():
        card = read_model_card(content)
        wanted = target or _compiled_for(card)
        report = None if wanted is None else _preflight(content, wanted, card)
    if as_json:
        emit_json(
            {**card.to_dict(), "note": read_note(content), **({} if report is None else {"target": report.to_dict()})}
        )
        return
    _show(model, card)
    if report is not None:
        from ..render.target import target_lines

        click.echo("\n".join(target_lines(report)))


def _compiled_for(card: ModelCard) -> str | None:
    """The target of a file that was compiled for an Edge TPU, which is opened without being asked for."""
    from edgekit_device.accelerators.compiled import EDGETPU_OPERATOR

    return "coral" if any(op.custom and op.type == EDGETPU_OPERATOR for op in card.ops) else None


def _preflight(content: bytes, name: str, card: ModelCard) -> TargetReport:
    from edgekit_converters.targets.preflight import preflight
    from edgekit_converters.targets.target import find_target

    return preflight(content, find_target(name), card=card)


def _show(model: str, card: ModelCard) -> None:
    from ..render import figures

    click.echo(
        f"{model}: {figures.size(card.size_bytes)}, {figures.count(card.parameters)} parameters, {figures.count(card.macs)} MACs"
    )
    for side, tensors in (("input", card.inputs), ("output", card.outputs)):
        for tensor in tensors:
            scale = f"  scale {tensor.scales[0]:.6g}, zero point {tensor.zero_points[0]}" if tensor.scales else ""
            click.echo(f"  {side:7} {tensor.name}  {tensor.dtype}{list(tensor.shape)}{scale}")
    for signature in card.signatures:
        click.echo(f"  signature {signature.key}({', '.join(signature.inputs)}) -> {', '.join(signature.outputs)}")
    click.echo("  operators")
    versions = {(op.type, op.version) for op in card.ops}
    for (kind, version), number in Counter((op.type, op.version) for op in card.ops).most_common():
        macs = sum(op.macs for op in card.ops if op.type == kind and op.version == version)
        click.echo(f"    {number:5} {kind} v{version}{f'  {figures.count(macs)} MACs' if macs else ''}")
    click.echo(
        f"  {len(card.ops)} operators of {len(versions)} kinds, {card.subgraphs} subgraph(s), SHA-256 {card.sha256[:16]}…"
    )
