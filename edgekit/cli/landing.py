"""How reports that came home are told of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import emit_json

if TYPE_CHECKING:
    from ..inbox import Landed

__all__ = ["show_landed"]

EXIT_WORLD = 3
SAID = {
    "shown": "is shown",
    "kept": "is kept in the run's history",
    "known": "had come before",
    "unplaced": "waits in the inbox",
    "busy": "stays where it is",
}


def show_landed(landed: Landed, as_json: bool) -> None:
    """Say what became of each report; leave with 3 when some could not be taken."""
    busy = landed.ids("busy")
    if as_json:
        counts = {outcome: len(landed.ids(outcome)) for outcome in SAID}
        emit_json({**counts, "reports": [vars(landing) for landing in landed.landings]})
    else:
        for landing in landed.landings:
            place = " ".join(part for part in (landing.run, landing.variant) if part)
            remark = f" ({landing.remark})" if landing.remark else ""
            click.echo(
                f"{landing.report_id or 'unreadable':32}  {place + ': ' if place else ''}{SAID[landing.outcome]}{remark}"
            )
        click.echo(f"{len(landed.taken)} report(s) came home" + (f", {len(busy)} did not" if busy else ""))
        if landed.ids("unplaced"):
            click.echo("Place those in the inbox by naming their run: --run RUN")
    if busy:
        raise click.exceptions.Exit(EXIT_WORLD)
