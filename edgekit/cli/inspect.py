"""``edgekit inspect``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import emit_json, json_option

if TYPE_CHECKING:
    from edgekit_converters import ModelCard

__all__ = ["command"]


@click.command("inspect")
@click.argument("model", type=click.Path())
@json_option
def command(model: str, as_json: bool) -> None:
    """Show a .tflite's inputs, outputs, scales, operators, parameters and MACs. Needs no TensorFlow and runs nothing.

    \b
    Example:
      edgekit inspect int8.tflite
    """
    from edgekit_converters import read_model_card
    from edgekit_device.embedded import read_note

    from ..boundary import translated
    from ..subject import check_tflite

    content = check_tflite(Path(model)).read_bytes()
    with translated():
        card = read_model_card(content)
    if as_json:
        emit_json({**card.to_dict(), "note": read_note(content)})
    else:
        _show(model, card)


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
