"""``edgekit device``: the boards to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .options import emit_json, json_option

if TYPE_CHECKING:
    from ..devices.checkup import Checkup
    from ..devices.setup_record import SetupRecord

__all__ = ["command"]

EXIT_WORLD = 3


@click.group("device")
def command() -> None:
    """Name the boards you measure on, set them up over SSH, and look at them.

    \b
    Example:
      edgekit device add pi4 ssh://pi@raspberrypi.local
      edgekit device setup pi4
      edgekit bench runs/mine --device pi4
    """


@command.command("add")
@click.argument("name")
@click.argument("address")
@click.option("--force", is_flag=True, help="Replace a device of that name.")
@click.option("--check", is_flag=True, help="Connect, and say what was found.")
@json_option
def add(name: str, address: str, force: bool, check: bool, as_json: bool) -> None:
    """Remember a device at ADDRESS, ssh://[user@]host[:port]; the host may be a name of your SSH config.

    \b
    Example:
      edgekit device add pi4 ssh://pi@raspberrypi.local
      edgekit device add lab ssh://lab-pi
    """
    from ..devices.registry import Registry

    entry = Registry().add(name, address, force=force)
    if check:
        _show_checkup(entry.name, as_json)
        return
    if as_json:
        emit_json(vars(entry))
        return
    emulated = entry.address.startswith("emulated:")
    following = f"edgekit device check {name}" if emulated else f"edgekit device setup {name}"
    click.echo(f"{name} is {entry.address}. Now type: {following}")


@command.command("list")
@json_option
def list_devices(as_json: bool) -> None:
    """List the devices that were added, and when each last answered.

    \b
    Example:
      edgekit device list
    """
    from ..devices.registry import Registry

    entries = list(Registry().entries().values())
    if as_json:
        emit_json({"devices": [vars(entry) for entry in entries]})
        return
    if not entries:
        click.echo("no device yet, but this machine itself: local. Add one: edgekit device add NAME ssh://[user@]host")
        return
    rows = [("NAME", "ADDRESS", "LAST SEEN"), *((e.name, e.address, e.seen or "never") for e in entries)]
    _columns(rows)


@command.command("show")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a device, and what setup has put there.

    \b
    Example:
      edgekit device show pi4
    """
    from ..devices.opening import known_device, open_connection
    from ..devices.setup import setup_status
    from ..errors import DeviceError

    entry = known_device(name)
    record: SetupRecord | None = None
    why, why_not = "", f"none. Run: edgekit device setup {entry.name}"
    if entry.address.startswith("emulated:"):
        why_not = "none, and none needed: a userland comes with its runtimes"
    else:
        connection = open_connection(entry)
        try:
            record = setup_status(connection, entry.folder)
        except DeviceError as error:
            why = str(error)
        finally:
            connection.close()
    if as_json:
        emit_json({**vars(entry), "setup": None if record is None else vars(record), "error": why or None})
    else:
        known = [(key, value) for key, value in vars(entry).items() if value]
        _columns([*known, *(_record_rows(record) if record else [("setup", why or why_not)])])
    raise click.exceptions.Exit(EXIT_WORLD if why else 0)


@command.command("check")
@click.argument("name")
@json_option
def check(name: str, as_json: bool) -> None:
    """Connect to a device and say step by step what is there; exit 3 when it cannot be measured on now.

    \b
    Example:
      edgekit device check pi4
    """
    _show_checkup(name, as_json)


@command.command("setup")
@click.argument("name")
@click.option(
    "--wheels",
    type=click.Path(exists=True, file_okay=False),
    metavar="FOLDER",
    help="Take wheels from here, not from the internet.",
)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "litert", "tflite", "both"]),
    default="auto",
    show_default=True,
    help="The runtime to put there; auto takes the one that has wheels for the board.",
)
@click.option("--python", metavar="P", help="The Python there to use. [default: the newest there are wheels for]")
@json_option
def setup(name: str, wheels: str | None, runtime: str, python: str | None, as_json: bool) -> None:
    """Put edgekit-device and a runtime into a private folder on the board: ~/.edgekit-device, and nothing outside it.

    Run it again to upgrade. The board needs a Python 3.9 or newer and no internet.

    \b
    Example:
      edgekit device setup pi4
      edgekit device setup pi4 --runtime tflite --wheels wheels/
    """
    from pathlib import Path

    from ..devices.opening import known_device, open_connection
    from ..devices.registry import Registry
    from ..devices.setup import set_up
    from .progress import ShownProgress

    entry = known_device(name)
    connection = open_connection(entry)
    try:
        with ShownProgress() as progress:
            record = set_up(
                connection,
                entry.folder,
                wheels=None if wheels is None else Path(wheels),
                runtime=runtime,
                python=python,
                progress=progress,
            )
    finally:
        connection.close()
    Registry().saw(entry.name)
    if as_json:
        emit_json({"device": entry.name, **vars(record)})
        return
    _columns(_record_rows(record))
    click.echo(
        f"{entry.name} is ready ({record.change or 'set up'}). Now type: edgekit bench M.tflite --device {entry.name}"
    )


@command.command("remove")
@click.argument("name")
@click.option("--forget", is_flag=True, help="Leave the board alone: it is gone, or somebody else's now.")
@click.option("--force", is_flag=True, help="Also remove reports there that nobody has collected.")
@json_option
def remove(name: str, forget: bool, force: bool, as_json: bool) -> None:
    """Remove from the board what setup put there, and forget the device.

    \b
    Example:
      edgekit device remove pi4
      edgekit device remove pi4 --forget
    """
    from ..devices.opening import open_connection
    from ..devices.registry import Registry
    from ..devices.setup import uninstall

    registry = Registry()
    entry = registry.entry(name)
    removed = False
    if not forget and not entry.address.startswith("emulated:"):
        connection = open_connection(entry)
        try:
            removed = _removed_there(lambda: uninstall(connection, entry.folder, force=force), name)
        finally:
            connection.close()
    registry.remove(name)
    if as_json:
        emit_json({"device": name, "forgotten": True, "uninstalled": removed})
    else:
        there = "its folder there is removed" if removed else "nothing was removed there"
        click.echo(f"{name} is forgotten, {there}")


@command.command("collect")
@click.argument("name")
@click.option("--run", type=click.Path(), metavar="RUN", help="Where reports go that name no run known here.")
@json_option
def collect(name: str, run: str | None, as_json: bool) -> None:
    """Bring home the reports that wait on a device, each into the run it belongs to; exit 3 when some cannot be taken.

    \b
    Example:
      edgekit device collect pi4
    """
    from ..collecting import collect as collect_reports
    from .landing import show_landed

    show_landed(collect_reports(name, run=run), as_json)


def _removed_there(uninstall: Any, name: str) -> bool:
    """Whether there was something to remove; when the board is out of reach, say how to forget it all the same."""
    from ..errors import DeviceError

    try:
        return bool(uninstall())
    except DeviceError as error:
        raise DeviceError(
            f"{error}. To forget the device and leave the board as it is: edgekit device remove {name} --forget",
            output=error.output,
        ) from error


def _show_checkup(name: str, as_json: bool) -> None:
    from ..devices.checkup import check_device

    checkup = check_device(name)
    if as_json:
        findings = [vars(finding) for finding in checkup.findings]
        facts = {
            "device": checkup.device,
            "address": checkup.address,
            "usable": checkup.usable,
            "reason": checkup.reason,
        }
        emit_json({**facts, "findings": findings})
    else:
        _say_checkup(checkup)
    raise click.exceptions.Exit(0 if checkup.usable else EXIT_WORLD)


def _say_checkup(checkup: Checkup) -> None:
    marks = {True: "ok", None: "note", False: "NO"}
    for finding in checkup.findings:
        click.echo(f"{marks[finding.ok]:5}{finding.name:13} {finding.found}")
        if finding.advice:
            click.echo(f"{'':19}{finding.advice}")
    if checkup.usable:
        click.echo(f"{checkup.device} can be measured on: edgekit bench M.tflite --device {checkup.device}")
    else:
        click.echo(f"edgekit: error: {checkup.device} cannot be measured on now: {checkup.reason}", err=True)


def _record_rows(record: SetupRecord) -> list[tuple[str, str]]:
    runtimes = ", ".join(f"{name} {version}" for name, version in record.runtimes.items())
    return [
        ("setup", f"edgekit-device {record.edgekit_device} in {record.home}"),
        ("python", f"{record.python_version} at {record.python}, {record.architecture}"),
        ("runtimes", runtimes or "none"),
    ]


def _columns(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] if rows else []
    for row in rows:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))
