"""``edgekit-device outbox``: the reports that wait on this board."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from ..errors import InputError, OutboxError
from ..home import HOME_VARIABLE, device_home
from ..outbox import MOST_BYTES, MOST_REPORTS, Outbox
from ..report import BenchmarkReport
from ..text import clean_text
from .options import Verbs, add_json
from .printing import print_json

__all__ = ["add", "add_belonging", "keep", "open_outbox"]

RULE = (
    f"The outbox holds at most {MOST_REPORTS} reports and {MOST_BYTES} bytes. When it is full the oldest are kept: a new report "
    "is printed as ever and says that it is not kept. A report leaves only when somebody acknowledges that they have it."
)


def add(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = verbs.add_parser("outbox", help="the reports that wait on this board", description=RULE)
    parser.set_defaults(verb=_list, json=False)
    actions = parser.add_subparsers(metavar="ACTION", dest="action")
    listed = actions.add_parser("list", help="what waits, what a hub refused, and what is damaged", description=RULE)
    add_json(listed)
    listed.set_defaults(verb=_list)
    shown = actions.add_parser("show", help="one report, as JSON")
    shown.add_argument("id")
    shown.set_defaults(verb=_show)
    drained = actions.add_parser("drain", help="every report as one line of JSON, oldest first; none is removed")
    add_json(drained)
    drained.add_argument("--most", type=int, metavar="N", help="at most N reports")
    drained.add_argument("--most-bytes", type=int, metavar="N", help="at most N bytes, but always one report")
    drained.set_defaults(verb=_drain)
    acknowledged = actions.add_parser("ack", help="remove reports that somebody has")
    acknowledged.add_argument("ids", nargs="+", metavar="ID")
    add_json(acknowledged)
    acknowledged.set_defaults(verb=_acknowledge)


def open_outbox() -> Outbox:
    """The outbox of this board; raises InputError on a machine that is none."""
    home = device_home()
    if home is None:
        raise InputError(
            "this machine keeps no reports, as it has no ~/.edgekit-device: set it up from the host with "
            f"edgekit device setup NAME, or name a folder: {HOME_VARIABLE}=/path"
        )
    return Outbox(_outbox_folder(home))


def add_belonging(parser: argparse.ArgumentParser) -> None:
    """``--run`` and ``--variant``: what a report says it belongs to."""
    parser.add_argument(
        "--run", default="", metavar="ID", help="the id of the run this belongs to (the host's run.json)"
    )
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME",
        help="the variant's name in that run; one for each model",
    )


def keep(report: BenchmarkReport, run: str = "", variant: str = "") -> BenchmarkReport:
    """Say whose ``report`` is, put it into this board's outbox, where it has one, and return it.

    One that cannot be kept says so in its notes and on standard error, and is returned all the same.
    """
    report = dataclasses.replace(report, run=clean_text(run), variant=clean_text(variant))
    home = device_home()
    if home is None:
        return report
    try:
        Outbox(_outbox_folder(home)).put(report)
    except OutboxError as error:
        print(f"edgekit-device: warning: this report is not kept on the board: {error}", file=sys.stderr)
        return dataclasses.replace(report, notes=(*report.notes, f"not kept in the board's outbox: {error}"))
    return report


def _outbox_folder(home: Path) -> Path:
    return home / "outbox"


def _list(arguments: argparse.Namespace) -> None:
    outbox = open_outbox()
    waiting, rejected, damaged = outbox.waiting(), outbox.rejected(), outbox.damaged()
    if arguments.json:
        entries = [
            {"sequence": entry.sequence, "id": entry.id, "bytes": entry.size_bytes, "rejected": entry.rejected}
            for entry in (*waiting, *rejected)
        ]
        print_json({"folder": str(outbox.folder), "reports": entries, "damaged": damaged})
        return
    for entry in (*waiting, *rejected):
        remark = f"  rejected: {entry.rejected}" if entry.rejected else ""
        print(f"{entry.sequence:6d}  {entry.id}  {entry.size_bytes:8d} bytes{remark}")
    print(f"{len(waiting)} waiting, {len(rejected)} rejected by a hub, {damaged} damaged in {outbox.folder}")


def _show(arguments: argparse.Namespace) -> None:
    outbox = open_outbox()
    line = outbox.read(outbox.find(arguments.id))
    if line is None:
        raise OutboxError(f"the report {arguments.id} was damaged, and is moved aside: {outbox.folder / 'damaged'}")
    print(line)


def _drain(arguments: argparse.Namespace) -> None:
    for name in ("most", "most_bytes"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"expected --{name.replace('_', '-')} as a whole number from 1, got {value}")
    for _, line in open_outbox().drain(arguments.most, arguments.most_bytes):
        print(line)


def _acknowledge(arguments: argparse.Namespace) -> None:
    outbox = open_outbox()
    removed = outbox.acknowledge(arguments.ids)
    if arguments.json:
        print_json({"removed": removed})
        return
    print(
        f"{len(removed)} removed, {len(set(arguments.ids)) - len(removed)} not there, {len(outbox.waiting())} still waiting"
    )
