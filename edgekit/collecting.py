"""Bring home what a device has kept: read its outbox, put every report where it belongs, and only then let it go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from edgekit_device import BenchmarkReport, ReportError
from edgekit_device.outbox import MOST_REPORTS, is_report_id
from edgekit_device.report import clean_text

from .devices import Device
from .devices.local import ProcessTransport
from .devices.remote import RemoteTransport
from .devices.transport import USAGE_EXIT, Completed
from .errors import DeviceError, EdgekitError
from .inbox import Arrival, Landed, Landing, land
from .progress import Progress, Silent
from .run_index import remember_run
from .store import RunStore, now

__all__ = ["acknowledge", "acknowledge_measured", "collect", "collect_before_bench", "collect_from"]

DEADLINE_S = 120.0
PAGE_BYTES = 8 * 1024 * 1024  # well below what a transport takes as one answer
MOST_COLLECTED = 2 * MOST_REPORTS  # more than an outbox holds: whoever goes on sending is no board of ours
ACKNOWLEDGED_AT_ONCE = 500  # a command line of 17 KB, also where a shell on the way has its own limit
LINE_CAP = 400


def collect(name: str, *, run: str | os.PathLike[str] | None = None, deadline_s: float = DEADLINE_S) -> Landed:
    """Bring home the reports that wait on the device called ``name``; those that name no known run go to ``run``.

    Raises UsageError for an unknown device or a folder that is no run, DeviceError when the device cannot be reached.
    """
    from .devices import open_device

    store = None if run is None else RunStore.open(run)
    with open_device(name) as device:
        return collect_from(device, run=store, deadline_s=deadline_s)


def collect_from(
    device: Device, *, run: RunStore | None = None, held: RunStore | None = None, deadline_s: float = DEADLINE_S
) -> Landed:
    """``collect`` over an open device, page by page; ``held`` is a run whose lock the caller holds.

    A report is acknowledged to the device after it is on this host's disk: interrupted in between it comes again, and is
    known. What cannot be placed now (another edgekit holds its run) stays on the device.
    """
    landed, seen = land((), run=run, held=held), set[str]()
    while len(seen) < MOST_COLLECTED:
        reports, rubbish = _drain(device, deadline_s)
        fresh = [report for report in reports if report.id not in seen]
        if not fresh:
            return landed + rubbish
        seen.update(report.id for report in fresh)
        found = land((Arrival(report, now(), device.name) for report in fresh), run=run, held=held)
        landed += found
        acknowledge(device, found.taken, deadline_s=deadline_s)
    return landed


def acknowledge(device: Device, ids: Sequence[str], *, deadline_s: float = DEADLINE_S) -> None:
    """Tell the device which reports are safe here. Raises DeviceError."""
    sound = [report_id for report_id in ids if is_report_id(report_id)]
    for start in range(0, len(sound), ACKNOWLEDGED_AT_ONCE):
        _ask(device, ["outbox", "ack", *sound[start : start + ACKNOWLEDGED_AT_ONCE]], deadline_s)


def collect_before_bench(device: Device, store: RunStore, progress: Progress | None = None) -> str:
    """Before variants are measured: what waits on the device lands first, so that what is measured now is the latest.

    Returns the run's id, for the device to write into its reports. ``store`` is locked. Nothing here stops a measurement:
    what goes wrong is a note.
    """
    shown = progress or Silent()
    if _keeps_nothing(device):
        return store.run_id()
    try:
        remember_run(store)
        if isinstance(device.transport, RemoteTransport) and not device.transport.reports_wait:
            return store.run_id()
        landed = collect_from(device, held=store)
        if landed.landings:
            shown.note(f"{len(landed.taken)} report(s) had waited on {device.name}, and are home now")
    except _NoOutboxError:
        pass
    except EdgekitError as error:
        shown.note(f"what waits on {device.name} stays there: {error}")
    return store.run_id()


def acknowledge_measured(device: Device, reports: Iterable[BenchmarkReport], progress: Progress | None = None) -> None:
    """After they are stored: the device may forget the reports it has just answered. What goes wrong is a note: they come
    home once more, and are known."""
    ids = [report.id for report in reports if report.id]
    if not ids or _keeps_nothing(device):
        return
    try:
        acknowledge(device, ids)
    except _NoOutboxError:
        pass
    except EdgekitError as error:
        (progress or Silent()).note(f"{device.name} keeps the reports it has answered for now: {error}")


class _NoOutboxError(DeviceError):
    """The device has no outbox: it is no board, or its edgekit-device is too old."""


def _keeps_nothing(device: Device) -> bool:
    return isinstance(device.transport, ProcessTransport)


def _drain(device: Device, deadline_s: float) -> tuple[list[BenchmarkReport], Landed]:
    """A page of what waits, and what in it is no report: that stays there, and stands in nobody's way."""
    completed = _ask(device, ["outbox", "drain", "--json", "--most-bytes", str(PAGE_BYTES)], deadline_s)
    reports, rubbish = [], []
    for line in completed.stdout.splitlines():
        try:
            reports.append(BenchmarkReport.from_json(line))
        except ReportError as error:
            rubbish.append(Landing("", "busy", source=device.name, remark=f"it stays on {device.name}: {error}"))
    return reports, Landed(tuple(rubbish))


def _ask(device: Device, arguments: Sequence[str], deadline_s: float) -> Completed:
    completed = device.transport.run(arguments, deadline_s=deadline_s)
    if completed.exit_code == 0 and not completed.timed_out and not completed.flooded:
        return completed
    said = " ".join(completed.stderr.split())
    kind: type[DeviceError] = DeviceError
    if completed.timed_out:
        why = f"it did not answer within {deadline_s:g} s"
    elif completed.exit_code == USAGE_EXIT:
        kind = _NoOutboxError
        old = "its edgekit-device is too old to keep reports: edgekit device setup"
        why = f"{old} {device.name}" if "invalid choice" in said else _reason(said)
    else:
        why = _reason(said)
    raise kind(f"{device.name} does not hand out its reports: {why}", output=completed.stderr)


def _reason(said: str) -> str:
    """What a device says of its failure, fit to print."""
    return clean_text(said, LINE_CAP).removeprefix("edgekit-device: error: ") or "it said nothing"
