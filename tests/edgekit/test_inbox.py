"""Reports that came home: each in its run, once, the one received last shown, none lost."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import BoardFacts, LatencyFacts, ModelFacts

from edgekit import compare
from edgekit.inbox import Arrival, Landed, Landing, land, unplaced
from edgekit.run_index import find_run, remember_run
from edgekit.store import RunStore

MONDAY, TUESDAY, WEDNESDAY = (f"2026-03-0{day}T12:00:00Z" for day in (2, 3, 4))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Edgekit's own folder, for this test alone."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def store(run_folder: Path, home: Path) -> RunStore:
    """A run that is known."""
    store = RunStore.open(run_folder)
    remember_run(store)
    return store


def report_on(store: RunStore, name: str = "int8", **facts: Any) -> BenchmarkReport:
    """What a board would say of a variant: a median of 1.5 ms."""
    variant = store.variant(name)
    assert variant is not None
    given = {
        "id": os.urandom(16).hex(), "created": MONDAY, "model": ModelFacts(variant.sha256, variant.size_bytes, name),
        "latency": LatencyFacts(count=3, median_ms=1.5, samples_ms=(1.5, 1.5, 1.5)), "run": store.run_id(), "variant": name,
    }  # fmt: skip
    return BenchmarkReport(**{**given, **facts})


def outcomes(landed: Landed) -> list[str]:
    """Of each."""
    return [landing.outcome for landing in landed.landings]


def shown(store: RunStore, name: str = "int8") -> BenchmarkReport | None:
    """The variant's report."""
    variant = store.variant(name)
    assert variant is not None
    return store.report(variant)


def test_a_report_lands_in_its_run_and_in_compare(store: RunStore) -> None:
    """As the variant's own, with the device that sent it; compare reads it."""
    report = report_on(store)
    landed = land([Arrival(report, TUESDAY, "pi4")])

    assert landed.landings == (Landing(report.id, "shown", str(store.folder.resolve()), "int8", "pi4"),)
    assert landed.taken == [report.id]
    assert shown(store) == report
    assert store.received("int8") == TUESDAY
    assert [name for name, _ in compare(store).reports] == ["int8"]


def test_a_report_lands_once_however_often_it_comes(store: RunStore) -> None:
    """Also after another has taken its place: it does not come back as the latest."""
    first, second = report_on(store), report_on(store)
    assert outcomes(land([Arrival(first, MONDAY), Arrival(first, MONDAY)])) == ["shown", "known"]
    assert outcomes(land([Arrival(second, TUESDAY)])) == ["shown"]
    again = land([Arrival(first, WEDNESDAY)])

    assert outcomes(again) == ["known"]
    assert again.taken == [first.id]
    assert shown(store) == second


def test_what_a_bench_has_stored_is_known_when_it_comes_again(store: RunStore) -> None:
    """The host died before it could acknowledge; the board delivers the report it has answered once more."""
    report, later = report_on(store), report_on(store)
    store.save_report("int8", report, {"device": "pi4"})
    store.save_report("int8", later, {"device": "pi4"})

    assert outcomes(land([Arrival(report, "2099-01-01T00:00:00Z")])) == ["known"]
    assert shown(store) == later


def test_what_was_received_earlier_does_not_replace_what_came_later(store: RunStore) -> None:
    """By the receiver's clock, as a hub hands out on Wednesday what it got on Monday; it is kept in the history."""
    early, late = report_on(store, created="2099-01-01T00:00:00Z"), report_on(store)
    landed = land([Arrival(late, TUESDAY), Arrival(early, MONDAY)])

    assert outcomes(landed) == ["shown", "kept"]
    assert "a report that came later is shown" in landed.landings[1].remark
    assert shown(store) == late
    assert store.knows_report(early.id)
    kept = json.loads((store.folder / "history" / f"{early.id}.json").read_text())
    assert (kept["variant"], kept["received"], kept["report"]["id"]) == ("int8", MONDAY, early.id)


@pytest.mark.parametrize(
    ("created", "said"),
    [
        ("2099-01-01T00:00:00Z", "ahead"),
        ("1970-01-01T00:00:09Z", "not set"),
        ("2026-03-03T11:59:00Z", ""),
        ("2026-01-01T00:00:00Z", ""),
        ("yesterday", ""),
    ],
)
def test_a_clock_that_is_certainly_wrong_is_noted(store: RunStore, created: str, said: str) -> None:
    """In the report's notes; one that waited for weeks is no wrong clock."""
    landed = land([Arrival(report_on(store, created=created), TUESDAY)])
    report = shown(store)

    assert report is not None
    assert [said in note for note in report.notes] == ([True] if said else [])
    assert bool(landed.landings[0].remark) == bool(said)


def test_the_model_s_hash_decides_not_the_name(store: RunStore) -> None:
    """A wrong name, or none, does not mislead; a file that the run has no more is kept, and not shown."""
    misnamed = report_on(store, variant="float32")
    nameless = report_on(store, "float16", variant="")
    foreign = report_on(store, model=ModelFacts("ab" * 32), variant="int8")
    landed = land(Arrival(report, TUESDAY) for report in (misnamed, nameless, foreign))

    assert [(item.variant, item.outcome) for item in landed.landings] == [
        ("int8", "shown"), ("float16", "shown"), ("", "kept"),
    ]  # fmt: skip
    assert "converted anew" in landed.landings[2].remark
    assert store.knows_report(foreign.id)
    assert shown(store) == misnamed


@pytest.mark.parametrize("run", ["", "ab" * 16, "../../etc", "\x00", "x" * 200])
def test_a_report_of_an_unknown_run_waits_in_the_inbox(store: RunStore, home: Path, run: str) -> None:
    """Once; naming its run places it, and it waits no more."""
    report = report_on(store, run=run)
    landed = land([Arrival(report, TUESDAY, "pi4")])
    assert outcomes(landed) == ["unplaced"]
    assert landed.taken == [report.id]
    assert outcomes(land([Arrival(report, WEDNESDAY, "pi4")])) == ["unplaced"]
    assert [(item.received, item.source) for item in unplaced()] == [(TUESDAY, "pi4")]
    assert [path.name for path in (home / "inbox").iterdir()] == [f"{report.id}.json"]

    placed = land([], run=store)
    assert [(item.report_id, item.outcome) for item in placed.landings] == [(report.id, "shown")]
    assert unplaced() == []
    assert shown(store) is not None


def test_naming_a_run_does_not_take_in_what_belongs_elsewhere(store: RunStore, tmp_path: Path) -> None:
    """A report of another known run goes there; one on a model that the run does not hold waits on."""
    other = RunStore(Path(shutil.copytree(store.folder, tmp_path / "other")))
    facts = json.loads((other.folder / "run.json").read_text())
    (other.folder / "run.json").write_text(json.dumps({**facts, "id": "0f" * 16}))
    remember_run(other)
    theirs, foreign = report_on(other), report_on(store, run="", model=ModelFacts("ab" * 32))
    landed = land([Arrival(theirs, TUESDAY), Arrival(foreign, TUESDAY)], run=store)

    assert sorted((item.outcome, item.run) for item in landed.landings) == [
        ("shown", str(other.folder.resolve())), ("unplaced", ""),
    ]  # fmt: skip
    assert shown(store) is None


def test_a_run_that_is_being_written_to_is_left_alone(store: RunStore) -> None:
    """Its reports stay where they came from; those of other runs land."""
    report, elsewhere = report_on(store), report_on(store, run="")
    with store.locked():
        landed = land([Arrival(report, TUESDAY), Arrival(elsewhere, TUESDAY)])
        held = land([Arrival(dataclasses.replace(report, id="held"), TUESDAY)], held=store)

    assert sorted(outcomes(landed)) == ["busy", "unplaced"]
    assert landed.taken == [elsewhere.id]
    assert "another edgekit is writing" in next(item.remark for item in landed.landings if item.outcome == "busy")
    assert outcomes(held) == ["shown"]


def test_a_run_that_cannot_be_written_keeps_nothing_half(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What landed before stays landed; the rest is not acknowledged."""
    from edgekit.errors import StoreError

    good, bad = report_on(store), report_on(store, "float16")
    real = RunStore.save_report

    def save(self: RunStore, name: str, *rest: Any, **more: Any) -> None:
        if name == "float16":
            raise StoreError("the disk is full")
        real(self, name, *rest, **more)

    monkeypatch.setattr(RunStore, "save_report", save)
    landed = land([Arrival(good, TUESDAY), Arrival(bad, TUESDAY)])

    assert outcomes(landed) == ["shown", "busy"]
    assert landed.taken == [good.id]


def test_a_run_is_found_where_it_was_last_seen(store: RunStore, tmp_path: Path) -> None:
    """A moved one is unknown until it is used again; a folder that is another run by now is not taken for it."""
    run_id = store.run_id()
    assert find_run(run_id) is not None
    moved = RunStore(Path(shutil.move(store.folder, tmp_path / "moved")))
    assert find_run(run_id) is None
    remember_run(moved)
    found = find_run(run_id)
    assert found is not None
    assert found.folder == moved.folder.resolve()
    (moved.folder / "run.json").write_text('{"kind": "edgekit-run", "id": "another"}')
    assert find_run(run_id) is None
    assert find_run("") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"runs": []}', '{"runs": {"a": 7}}', "\x00"])
def test_a_damaged_index_of_runs_is_begun_anew(store: RunStore, home: Path, content: str) -> None:
    """It only says where to look."""
    (home / "runs.json").write_text(content)
    assert find_run(store.run_id()) is None
    remember_run(store)
    assert find_run(store.run_id()) is not None


def test_a_new_run_is_known_at_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that can be noted; where it cannot, the run is made all the same."""
    store = RunStore.create(tmp_path / "new")
    found = find_run(store.run_id())
    assert found is not None
    assert found.folder == store.folder.resolve()

    monkeypatch.setenv("EDGEKIT_HOME", "/proc/none")
    assert len(RunStore.create(tmp_path / "other").run_id()) == 32
    assert find_run(store.run_id()) is None


def test_a_run_made_before_there_were_ids_gets_one(store: RunStore) -> None:
    """At its next bench; everything else in run.json stays."""
    facts = json.loads((store.folder / "run.json").read_text())
    del facts["id"]
    (store.folder / "run.json").write_text(json.dumps(facts))
    made = remember_run(store)

    assert len(made) == 32
    assert json.loads((store.folder / "run.json").read_text()) == {**facts, "id": made}
    assert store.run_id() == made


def test_an_emulated_board_s_times_are_not_shown(store: RunStore) -> None:
    """However the report came home."""
    land([Arrival(report_on(store, board=BoardFacts(emulator="qemu-arm")), TUESDAY)])
    report = shown(store)

    assert report is not None
    assert report.latency.median_ms is None


def test_damaged_files_in_the_inbox_are_left_out(store: RunStore, home: Path) -> None:
    """And stay, for whoever wants to look."""
    (home / "inbox").mkdir(parents=True)
    for name, content in (
        ("a", "{"),
        ("b", "[]"),
        ("c", '{"report": {}}'),
        ("d", '{"report": {"schema": 1, "id": 7}}'),
    ):
        (home / "inbox" / f"{name}.json").write_text(content)

    assert [item.report.id for item in unplaced()] == [""]
    assert outcomes(land([], run=store)) == []
    assert len(list((home / "inbox").iterdir())) == 4


def test_the_inbox_is_bounded(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not take stays where it came from."""
    monkeypatch.setattr("edgekit.inbox.MOST_UNPLACED", 1)
    first, second = report_on(store, run=""), report_on(store, run="")
    landed = land([Arrival(first, TUESDAY), Arrival(second, TUESDAY)])

    assert (landed.ids("unplaced"), landed.ids("busy")) == ([first.id], [second.id])
    assert "place them, or remove them" in landed.landings[1].remark


def test_a_home_that_cannot_be_written_lets_nothing_go(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report without a place stays on the board, and the message names the variable."""
    report = report_on(store, run="")
    monkeypatch.setenv("EDGEKIT_HOME", "/proc/none")
    landed = land([Arrival(report, TUESDAY)])

    assert landed.taken == []
    assert "EDGEKIT_HOME" in landed.landings[0].remark
