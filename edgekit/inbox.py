"""Reports that came from boards, put where they belong: each into its run, once, whichever way and however often it came.

What decides is the model's SHA-256: a report is shown for the variant whose file it measured. Among several of one variant the
one that was *received* last is shown, by the clock of whoever received it (this host, or the hub): a board's own clock may be
years off. The others are kept in the run's history. A report whose run is not known waits in EDGEKIT_HOME/inbox.
"""

from __future__ import annotations

import calendar
import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit_device import BenchmarkReport, ReportError
from edgekit_device.emulation import strip_times
from edgekit_device.outbox import is_report_id
from edgekit_device.report import clean_text

from .errors import StoreError, UsageError
from .plain import plain_json
from .recipe import edgekit_home
from .records import Variant
from .run_index import find_run, make_home, remember_run
from .store import RunStore, now, read_json_file, write_atomically

__all__ = ["Arrival", "Landed", "Landing", "land", "unplaced"]

INBOX = "inbox"
MOST_UNPLACED = 10_000
CLOCK_TOLERANCE_S = 300.0
EARLIEST = "2025"  # no edgekit-device is older: a clock that says so was never set
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Arrival:
    """A report, when it was received (UTC, ISO 8601, by the receiver's clock), and the device that sent it."""

    report: BenchmarkReport
    received: str = ""
    source: str = ""


@dataclass(frozen=True)
class Landing:
    """What became of one report.

    ``outcome`` is ``shown`` (it is the variant's report now), ``kept`` (in the run's history: a later one is shown, or the
    run has another file by now), ``known`` (it had come before), ``unplaced`` (its run is not known: it waits in the inbox) or
    ``busy`` (it could not be written, for ``remark``: it stays where it came from).
    """

    report_id: str
    outcome: str
    run: str = ""
    variant: str = ""
    source: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Landed:
    """What became of all of them, in the order they came."""

    landings: tuple[Landing, ...] = ()

    def ids(self, *outcomes: str) -> list[str]:
        """The ids of reports that ended so."""
        return [landing.report_id for landing in self.landings if landing.outcome in outcomes]

    @property
    def taken(self) -> list[str]:
        """The ids of reports that are safe here: whoever sent them may forget them."""
        return self.ids("shown", "kept", "known", "unplaced")

    def __add__(self, other: Landed) -> Landed:
        """Both, one after the other."""
        return Landed((*self.landings, *other.landings))


def land(arrivals: Iterable[Arrival], *, run: RunStore | None = None, held: RunStore | None = None) -> Landed:
    """Put each report into its run; exactly once, by its id.

    A report goes to the run it names, where that is known. Others go to ``run``, if it holds the very model they measured,
    as do those that wait in the inbox; else they wait there. ``held`` is a run whose lock the caller holds already. Raises
    nothing for one report: what cannot be written is ``busy`` in the answer.
    """
    places = _Places(run)
    waiting = [] if run is None else [item for item in unplaced() if places.of(item.report) is not None]
    if run is not None:
        with contextlib.suppress(StoreError), _locked(run, held):
            remember_run(run)
    groups: dict[Path, list[Arrival]] = {}
    landings: list[Landing] = []
    for arrival in (*waiting, *arrivals):
        folder = places.of(arrival.report)
        if folder is None:
            landings.append(_keep_unplaced(arrival))
        else:
            groups.setdefault(folder, []).append(arrival)
    for folder, group in groups.items():
        landings += _land_in(RunStore(folder), group, held)
    placed = {landing.report_id for landing in landings if landing.outcome in ("shown", "kept", "known")}
    for item in waiting:
        if item.report.id in placed:
            _unplaced_path(item.report).unlink(missing_ok=True)
    return Landed(tuple(landings))


def unplaced() -> list[Arrival]:
    """The reports whose run is not known, as they came; damaged files are left out."""
    found = []
    for path in sorted((edgekit_home() / INBOX).glob("*.json")):
        raw = read_json_file(path)
        with contextlib.suppress(ReportError, AttributeError):
            report = BenchmarkReport.from_dict(raw.get("report"))
            found.append(Arrival(report, clean_text(raw.get("received")), clean_text(raw.get("source"))))
    return sorted(found, key=lambda arrival: arrival.received)


class _Places:
    """Where reports belong: in the run they name, else in ``run`` where that holds the model they measured."""

    def __init__(self, run: RunStore | None) -> None:
        self._folder = None if run is None else run.folder.resolve()
        self._run_id = None if run is None else run.read_facts("run.json").get("id")
        self._models = set() if run is None else {variant.sha256 for variant in _variants(run)}
        self._named: dict[str, Path | None] = {}

    def of(self, report: BenchmarkReport) -> Path | None:
        """The run's folder; None when it is not known."""
        if report.run not in self._named:
            store = find_run(report.run)
            self._named[report.run] = None if store is None else store.folder.resolve()
        named = self._named[report.run]
        if named is not None or self._folder is None:
            return named
        is_its_own = bool(report.run) and report.run == self._run_id
        return self._folder if is_its_own or report.model.sha256 in self._models else None


def _land_in(store: RunStore, arrivals: Sequence[Arrival], held: RunStore | None) -> list[Landing]:
    landings: list[Landing] = []
    try:
        with _locked(store, held):
            variants = _variants(store)
            for arrival in arrivals:
                landings.append(_land_one(store, variants, arrival))
    except StoreError as error:  # what landed before it stays landed
        for item in arrivals[len(landings) :]:
            landings.append(Landing(item.report.id, "busy", str(store.folder), source=item.source, remark=str(error)))
    return landings


def _land_one(store: RunStore, variants: Sequence[Variant], arrival: Arrival) -> Landing:
    report, received = strip_times(arrival.report, arrival.report.board.emulator), _valid_time(arrival.received)
    variant = _measured(variants, report)
    facts = (str(store.folder), "" if variant is None else variant.name, arrival.source)
    if store.knows_report(report.id):
        return Landing(report.id, "known", *facts)
    remark = _clock_remark(report.created, received)
    if remark:
        report = dataclasses.replace(report, notes=(*report.notes, remark))
    if variant is None:
        store.keep_report("", report, received)
        return Landing(
            report.id, "kept", *facts, remark="the run holds no variant with this model: it was converted anew"
        )
    if store.report(variant) is not None and store.received(variant.name) > received:
        store.keep_report(variant.name, report, received)
        return Landing(report.id, "kept", *facts, remark="a report that came later is shown")
    store.save_report(variant.name, report, {"device": arrival.source, "delivered": True}, received=received)
    return Landing(report.id, "shown", *facts, remark=remark)


def _keep_unplaced(arrival: Arrival) -> Landing:
    report = arrival.report
    try:
        folder, path = make_home(INBOX), _unplaced_path(report)
        if not path.is_file():
            if sum(1 for _ in folder.glob("*.json")) >= MOST_UNPLACED:
                raise StoreError(f"{folder} holds {MOST_UNPLACED} reports of unknown runs: place them, or remove them")
            content = {
                "received": _valid_time(arrival.received), "source": arrival.source, "report": report.to_dict()
            }  # fmt: skip
            write_atomically(path, (json.dumps(plain_json(content), indent=2) + "\n").encode())
    except StoreError as error:
        return Landing(report.id, "busy", source=arrival.source, remark=str(error))
    names = f"names the run {clean_text(report.run, 40)}, which is not known here" if report.run else "names no run"
    return Landing(report.id, "unplaced", source=arrival.source, remark=f"it {names}: it waits in {path}")


def _unplaced_path(report: BenchmarkReport) -> Path:
    name = report.id if is_report_id(report.id) else hashlib.sha256(report.to_json().encode()).hexdigest()
    return edgekit_home() / INBOX / f"{name}.json"


def _variants(store: RunStore) -> list[Variant]:
    try:
        return store.variants()
    except UsageError:  # it has none
        return []


def _measured(variants: Sequence[Variant], report: BenchmarkReport) -> Variant | None:
    """The variant whose very file was measured; of several with the same bytes the one that the report names."""
    same = [variant for variant in variants if variant.sha256 == report.model.sha256]
    return next((variant for variant in same if variant.name == report.variant), same[0] if same else None)


def _locked(store: RunStore, held: RunStore | None) -> contextlib.AbstractContextManager[None]:
    mine = held is not None and held.folder.resolve() == store.folder.resolve()
    return contextlib.nullcontext() if mine else store.locked()


def _seconds(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(calendar.timegm(time.strptime(text, TIME_FORMAT)))
    return None


def _valid_time(text: str) -> str:
    return text if _seconds(text) is not None else now()


def _clock_remark(created: str, received: str) -> str:
    """What is certainly wrong with the board's clock; a report may have waited for days, so being early is no sign."""
    made, came = _seconds(created), _seconds(received)
    if made is None or came is None:
        return ""
    if made > came + CLOCK_TOLERANCE_S:
        return f"the board's clock was ahead: it says {created}, the report was received at {received}"
    if created < EARLIEST:
        return f"the board's clock was not set: it says {created}, the report was received at {received}"
    return ""
