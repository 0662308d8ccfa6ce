"""Collect what boards have posted: from a hub's database on this machine, or from a hub over HTTP, into the runs here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from edgekit_device import BenchmarkReport, ReportError
from edgekit_device.client import Hub, ask_hub, read_token
from edgekit_device.text import clean_text

from ..boundary import translated
from ..errors import DeviceError
from ..inbox import Arrival, Landed, Landing, land
from ..run_index import make_home
from ..store import RunStore, read_json_file, write_atomically

__all__ = ["collect_from_database", "collect_from_hub"]

MARKS = "collected.json"  # for each hub, the number of the last report taken from it
Item = tuple[int, Arrival | Landing]
Page = Callable[
    [int], tuple[int, list[Item]]
]  # from a number of arrival to the last one of the page, and what is on it


def collect_from_hub(url: str, token_file: Path, *, insecure_http: bool = False, run: RunStore | None = None) -> Landed:
    """What arrived at the hub at ``url`` since it was last collected from. Needs a token of scope ``read``.

    Raises UsageError for an address or a file that will not do, DeviceError when the hub does not answer as one.
    """
    with translated():
        hub = Hub(url, read_token(token_file), insecure_http)

    def ask(path: str) -> dict[str, Any]:
        with translated():
            return ask_hub(hub, path).facts

    def page(after: int) -> tuple[int, list[Item]]:
        return _read_page(ask(f"/v1/reports?{urlencode({'after': after})}"), url)

    hub_id = ask("/v1/health").get("hub")
    if not isinstance(hub_id, str):
        raise DeviceError(f"{url} answers, but not as a hub of edgekit: check the address")
    return _collect(clean_text(hub_id, 64), page, run)


def collect_from_database(url: str = "", *, run: RunStore | None = None) -> Landed:
    """The same out of the database ``url`` (by default this machine's own hub's), without a hub running."""
    from . import require_hub

    require_hub()
    from .storage import Storage

    storage = Storage(url)
    with contextlib.closing(storage):

        def page(after: int) -> tuple[int, list[Item]]:
            rows = storage.reports(after)
            items = [
                (
                    row.arrival,
                    _arrival({"report": json.loads(row.body), "received": row.received, "sender": row.sender}),
                )
                for row in rows
            ]
            return rows[-1].arrival if rows else after, items

        return _collect(storage.hub_id, page, run)


def _collect(hub_id: str, page: Page, run: RunStore | None) -> Landed:
    """Page after page into the runs; the hub's mark moves past a report when it is on this disk."""
    landed, marks = land((), run=run), make_home() / MARKS
    after = _read_marks(marks).get(hub_id, 0)
    while True:
        last, items = page(after)
        if not items:
            return landed
        found = land((item for _, item in items if isinstance(item, Arrival)), run=run)
        landed = landed + found + Landed(tuple(item for _, item in items if isinstance(item, Landing)))
        busy = set(found.ids("busy"))
        held_up = [number for number, item in items if isinstance(item, Arrival) and item.report.id in busy]
        after = min(held_up) - 1 if held_up else last
        _write_mark(marks, hub_id, after)
        if held_up:
            return landed


def _read_page(facts: dict[str, Any], url: str) -> tuple[int, list[Item]]:
    last, items = facts.get("next"), facts.get("reports")
    if not isinstance(last, int) or not isinstance(items, list):
        raise DeviceError(f"{url} answers no list of reports: is a hub of edgekit at this address?")
    rows = [item for item in items if isinstance(item, dict) and isinstance(item.get("arrival"), int)]
    return last, [(item["arrival"], _arrival(item)) for item in rows]


def _arrival(item: dict[str, Any]) -> Arrival | Landing:
    """A report as it came; one that this edgekit cannot read is passed over, and told."""
    try:
        report = BenchmarkReport.from_dict(item.get("report"))
    except ReportError as error:
        return Landing("", "busy", source=clean_text(item.get("sender")), remark=f"it stays at the hub: {error}")
    return Arrival(report, clean_text(item.get("received")), clean_text(item.get("sender")))


def _read_marks(path: Path) -> dict[str, int]:
    raw = read_json_file(path)
    marks = raw if isinstance(raw, dict) else {}
    return {hub_id: mark for hub_id, mark in marks.items() if isinstance(mark, int) and mark >= 0}


def _write_mark(path: Path, hub_id: str, mark: int) -> None:
    marks = {**_read_marks(path), hub_id: mark}
    write_atomically(path, (json.dumps(marks, indent=2) + "\n").encode())
