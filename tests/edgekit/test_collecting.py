"""What a board has kept comes home over its transport, or by way of a hub: nothing is let go before it is on this disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.cli import main as device_main
from edgekit_device.outbox import Outbox
from edgekit_device.report import LatencyFacts, ModelFacts

from edgekit import bench, compare
from edgekit.cli import main
from edgekit.collecting import acknowledge, collect_before_bench, collect_from
from edgekit.devices import Completed, Device, FakeTransport, LocalTransport, RemoteTransport, open_device
from edgekit.devices.registry import Registry
from edgekit.errors import DeviceError
from edgekit.hub import fetching
from edgekit.hub.intake import Incoming
from edgekit.inbox import unplaced
from edgekit.run_index import remember_run
from edgekit.store import RunStore
from tests.conftest import Cli
from tests.edgekit.sshd import SSHServer
from tests.edgekit.this_machine import ThisMachine
from tests.hubs import RealHub


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edgekit's own folder, for this test alone."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "home"))


def set_up_board(home: Path, device_python: Path) -> Path:
    """What setup leaves in a user's home on a board, in short: its Python. Returns the board's folder."""
    python = home / ".edgekit-device" / "env" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f'#!/bin/sh\nexec "{device_python}" "$@"\n')
    python.chmod(0o755)
    return home / ".edgekit-device"


@pytest.fixture
def board(tmp_path: Path, device_python: Path) -> Path:
    """A board's folder, where its outbox is."""
    return set_up_board(tmp_path / "board", device_python)


@pytest.fixture
def machine(board: Path) -> ThisMachine:
    """How it is reached."""
    return ThisMachine(board.parent)


@pytest.fixture
def pi4(machine: ThisMachine) -> Iterator[Device]:
    """The same as a device."""
    with Device(RemoteTransport(machine)) as device:
        yield device


@pytest.fixture
def store(run_folder: Path) -> RunStore:
    """A run that is known here."""
    store = RunStore.open(run_folder)
    remember_run(store)
    return store


def measured_on(board: Path, store: RunStore, name: str, run: str | None = None) -> str:
    """Let the board measure a variant by itself, as a cron job there would; the report's id."""
    outbox = Outbox(board / "outbox")
    before = {entry.id for entry in outbox.waiting()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_DEVICE_HOME", str(board))
        belonging = ["--run", store.run_id() if run is None else run, "--variant", name]
        assert device_main(["bench", str(store.variant_path(name)), "--runs", "3", "--warmup", "0", *belonging]) == 0
    return next(entry.id for entry in outbox.waiting() if entry.id not in before)


def waiting(board: Path) -> list[str]:
    """Ids in the board's outbox."""
    return [entry.id for entry in Outbox(board / "outbox").waiting()]


def test_what_a_board_measured_alone_comes_home_and_into_compare(board: Path, pi4: Device, store: RunStore) -> None:
    """In order: the last one measured of a variant is shown. Afterwards the board has forgotten them."""
    measured = [measured_on(board, store, name) for name in ("int8", "float32", "int8")]
    landed = collect_from(pi4)

    assert [(item.report_id, item.outcome, item.source) for item in landed.landings] == [
        (m, "shown", "pi4") for m in measured
    ]
    assert waiting(board) == []
    reports = dict(compare(store).reports)
    assert {name: report.id for name, report in reports.items()} == {"int8": measured[2], "float32": measured[1]}
    assert collect_from(pi4).landings == ()


def test_a_bench_whose_host_died_is_not_lost(
    board: Path, machine: ThisMachine, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is cut when the board has answered: the next bench brings the report home first, and shows its own."""
    answered: list[str] = []
    real = machine.execute

    def cut(command: Sequence[str], **options: Any) -> Completed:
        done = real(command, **options)
        if "bench" in command and not answered:
            answered.append(done.stdout)
            raise DeviceError("the connection was lost")
        return done

    monkeypatch.setattr(machine, "execute", cut)
    with Device(RemoteTransport(machine)) as pi4, pytest.raises(DeviceError, match="the connection was lost"):
        bench(store.folder, device=pi4, variants=["int8"], runs=3, warmup=0)
    lost = BenchmarkReport.from_json(answered[0])
    assert waiting(board) == [lost.id]
    assert (lost.run, lost.variant) == (store.run_id(), "int8")

    with Device(RemoteTransport(machine)) as pi4:
        reports = bench(store.folder, device=pi4, variants=["int8", "float32"], runs=60, warmup=0)
    assert waiting(board) == []
    assert {(report.run, report.variant) for report in reports} == {
        (store.run_id(), "int8"),
        (store.run_id(), "float32"),
    }
    assert store.knows_report(lost.id)
    variant = store.variant("int8")
    assert variant is not None
    assert store.report(variant) == reports.by_variant["int8"] != lost


def test_a_host_that_dies_before_it_acknowledges_gets_them_again_and_knows_them(
    board: Path, pi4: Device, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Landed, and not yet let go: the second time they are known, and nothing is changed."""
    measured = measured_on(board, store, "int8")
    with monkeypatch.context() as patch:
        patch.setattr("edgekit.collecting.acknowledge", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            collect_from(pi4)
    before = (store.folder / "reports" / "int8.json").read_bytes()
    assert waiting(board) == [measured]

    assert [item.outcome for item in collect_from(pi4).landings] == ["known"]
    assert waiting(board) == []
    assert (store.folder / "reports" / "int8.json").read_bytes() == before


def test_many_reports_come_in_pages(board: Path, pi4: Device, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a page is; acknowledged in commands of bounded length."""
    monkeypatch.setattr("edgekit.collecting.PAGE_BYTES", 5000)
    monkeypatch.setattr("edgekit.collecting.ACKNOWLEDGED_AT_ONCE", 2)
    outbox = Outbox(board / "outbox")
    for number in range(7):
        outbox.put(BenchmarkReport(id=f"r{number}", run=store.run_id()))
    landed = collect_from(pi4)

    assert landed.ids("kept") == [f"r{number}" for number in range(7)]
    assert waiting(board) == []


def test_what_cannot_land_now_stays_on_the_board(board: Path, pi4: Device, store: RunStore) -> None:
    """Another edgekit holds the run; the others come home."""
    held, free = measured_on(board, store, "int8"), measured_on(board, store, "float32", run="")
    with store.locked():
        landed = collect_from(pi4)

    assert (landed.ids("busy"), landed.ids("unplaced")) == ([held], [free])
    assert waiting(board) == [held]
    assert [item.outcome for item in collect_from(pi4, run=store).landings] == ["shown", "shown"]
    assert unplaced() == []


def fake(answer: Callable[[Sequence[str]], Completed]) -> Device:
    """A device that answers ``outbox`` so, and forgets whatever it is told to."""
    return Device(FakeTransport(lambda arguments, _: answer(arguments)))


def test_rubbish_in_an_outbox_stands_in_nobody_s_way(store: RunStore) -> None:
    """Lines that are no reports are told and stay; the reports among them land."""
    good = BenchmarkReport(id="good", run=store.run_id())
    lines = ["{", "\x1b[31mrubbish", '{"schema":0}', good.to_json()]
    device = fake(lambda arguments: Completed(0, "\n".join(lines) if arguments[1] == "drain" else ""))
    landed = collect_from(device)

    assert landed.ids("kept") == ["good"]
    assert len(landed.ids("busy")) == 3
    assert all(item.remark.isprintable() for item in landed.landings)
    assert device.transport.commands[1] == ("outbox", "ack", "good")  # type: ignore[attr-defined]


def test_a_device_that_never_ends_is_left(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After more reports than an outbox holds; ids that are options of a command are never sent as such."""
    monkeypatch.setattr("edgekit.collecting.MOST_COLLECTED", 6)
    numbers = iter(range(1000))

    def answer(arguments: Sequence[str]) -> Completed:
        reports = [BenchmarkReport(id=f"r{next(numbers)}", run=store.run_id()) for _ in range(2)]
        hostile = BenchmarkReport(id="--help", run=store.run_id())
        lines = [report.to_json() for report in (*reports, hostile)]
        return Completed(0, "\n".join(lines) if arguments[1] == "drain" else "")

    device = fake(answer)
    landed = collect_from(device)

    assert len(landed.landings) < 12
    acknowledged = [command for command in device.transport.commands if command[1] == "ack"]  # type: ignore[attr-defined]
    assert len(acknowledged) == 3
    assert not [text for command in acknowledged for text in command if text.startswith("-")]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Completed(2, "", "edgekit-device: error: argument VERB: invalid choice: 'outbox'"), "too old to keep reports"),
        (Completed(2, "", "edgekit-device: error: this machine keeps no reports"), "keeps no reports"),
        (Completed(3, "", "edgekit-device: error: cannot read\n\x1b[31m"), "cannot read"),
        (Completed(-9, "", ""), "it said nothing"),
        (Completed(0, "", "", timed_out=True), "did not answer within"),
        (Completed(0, "x" * 100, "", flooded=True), "it said nothing"),
    ],
)
def test_a_device_that_does_not_hand_out_its_reports_is_told(answer: Completed, said: str) -> None:
    """In its own words, fit to print."""
    with pytest.raises(DeviceError, match=said) as caught:
        collect_from(fake(lambda _: answer))

    assert str(caught.value).isprintable()


def test_a_bench_goes_on_when_what_waits_cannot_be_had(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken outbox is a note; acknowledging that fails is one too. A device without an outbox is not even that."""
    notes: list[str] = []

    class Told:
        def step(self, text: str) -> None:
            """Not asked here."""

        def update(self, done: int, total: int) -> None:
            """Not asked here."""

        def note(self, text: str) -> None:
            notes.append(text)

    code = [3]

    def answer(arguments: Sequence[str]) -> Completed:
        if arguments[0] == "outbox":
            return Completed(code[0], "", "edgekit-device: error: a bad sector")
        sha256 = store.variant("int8").sha256  # type: ignore[union-attr]
        report = BenchmarkReport(id="x", model=ModelFacts(sha256), latency=LatencyFacts(count=1, median_ms=1.0))
        return Completed(0, report.to_json())

    assert len(bench(store.folder, device=fake(answer), variants=["int8"], progress=Told())) == 1  # type: ignore[arg-type]
    assert len([note for note in notes if "a bad sector" in note]) == 2
    notes.clear()
    code[0] = 2
    bench(store.folder, device=fake(answer), variants=["int8"], progress=Told())  # type: ignore[arg-type]
    assert notes == []


def test_this_machine_is_no_board(store: RunStore, device_python: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing waits here, and a bench here leaves nothing behind."""
    with Device(LocalTransport(str(device_python))) as device:
        acknowledge(device, [])
        with pytest.raises(DeviceError, match="does not hand out its reports"):
            collect_from(device)
    assert main(["device", "collect", "local"]) == 3
    assert "does not hand out its reports" in capfd.readouterr().err


@pytest.fixture
def ssh_board(sshd: SSHServer, device_python: Path) -> Iterator[Path]:
    """The folder of a board that is reached over a real sshd."""
    folder = set_up_board(sshd.home, device_python)
    yield folder
    shutil.rmtree(folder)


def test_over_real_ssh_from_the_command_line(
    sshd: SSHServer, ssh_board: Path, store: RunStore, edgekit_cli: Cli
) -> None:
    """A board by its name: measured there alone and collected, measured alone again and brought home by the next bench."""
    environment = {**sshd.environment, "EDGEKIT_HOME": os.environ["EDGEKIT_HOME"]}
    Registry().add("pi4", sshd.address)
    measured = measured_on(ssh_board, store, "int8")
    collected = edgekit_cli("device", "collect", "pi4", "--json", env=environment)
    assert collected.returncode == 0, collected.stderr
    found = [(item["report_id"], item["outcome"]) for item in json.loads(collected.stdout)["reports"]]
    assert found == [(measured, "shown")]

    waited = measured_on(ssh_board, store, "int8")
    how = ("--device", "pi4", "--variant", "int8", "--runs", "3", "--json")
    done = edgekit_cli("bench", store.folder, *how, env=environment)
    assert done.returncode == 0, done.stderr
    assert waiting(ssh_board) == []
    benched = json.loads(done.stdout)["reports"][0]["id"]
    assert {path.stem for path in (store.folder / "history").iterdir()} == {measured, waited, benched}


@pytest.mark.parametrize("waits", [True, False])
def test_a_board_is_asked_for_reports_only_where_some_wait(
    sshd: SSHServer, ssh_board: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """What it says when it is opened saves a round trip, and the start of a Python there."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
    Registry().add("pi4", sshd.address, force=True)
    if waits:
        measured_on(ssh_board, store, "int8")
    asked: list[str] = []
    with open_device("pi4") as device:
        run = device.transport.run
        monkeypatch.setattr(
            device.transport, "run", lambda arguments, **how: asked.append(arguments[1]) or run(arguments, **how)
        )
        collect_before_bench(device, store)

    assert ("drain" in asked) is waits
    assert waiting(ssh_board) == []


# -- by way of a hub ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RealHub]:
    """A real one."""
    made = RealHub(tmp_path / "hub")
    yield made
    made.close()


def posted_by(board: Path, hub: RealHub, name: str = "board") -> None:
    """Let the board post what it has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_DEVICE_HOME", str(board))
        assert device_main(["push", "--url", hub.url, "--token-file", str(hub.token_file(name))]) == 0


def test_what_a_board_posted_lands_from_the_hub(board: Path, hub: RealHub, store: RunStore, capfd: Any) -> None:
    """Over HTTP with a token that may read, and out of the database beside it; each time only what is new."""
    first = measured_on(board, store, "int8")
    posted_by(board, hub)
    assert waiting(board) == []
    reader = str(hub.token_file("reader", "read"))
    capfd.readouterr()
    assert main(["hub", "collect", "--url", hub.url, "--token-file", reader, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [(item["report_id"], item["outcome"], item["source"]) for item in found["reports"]] == [
        (first, "shown", "board")
    ]
    assert [report.id for _, report in compare(store).reports] == [first]

    second = measured_on(board, store, "float32")
    posted_by(board, hub, "again")
    capfd.readouterr()
    assert main(["hub", "collect", "--db", hub.db, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [(item["report_id"], item["outcome"]) for item in found["reports"]] == [(second, "shown")]
    assert main(["hub", "collect", "--url", hub.url, "--token-file", reader]) == 0
    assert "0 report(s) came home" in capfd.readouterr().out


def test_what_came_both_ways_is_there_once(board: Path, pi4: Device, hub: RealHub, store: RunStore) -> None:
    """Posted, the receipt lost, and drained over SSH as well."""
    measured = measured_on(board, store, "int8")
    file = next(path for path in (board / "outbox").iterdir() if measured in path.name)
    content = file.read_bytes()
    posted_by(board, hub)
    (board / "outbox" / "acknowledged").unlink()
    file.write_bytes(content)

    assert [item.outcome for item in collect_from(pi4).landings] == ["shown"]
    assert [item.outcome for item in fetching.collect_from_database(hub.db).landings] == ["known"]


def test_the_mark_stays_before_what_could_not_land(hub: RealHub, store: RunStore) -> None:
    """A run that is busy holds the page up from there: it comes again, with what came after it."""
    from edgekit.hub.intake import Posted, read_posted

    names = ["r0", "r1", "r2"]
    runs = ["", store.run_id(), ""]
    bodies = [BenchmarkReport(id=name, run=run).to_json() for name, run in zip(names, runs, strict=True)]
    posted = read_posted(f"[{','.join(bodies)}]".encode())
    assert isinstance(posted, Posted)
    hub.storage.add(posted.items, "board")  # type: ignore[arg-type]
    with store.locked():
        first = fetching.collect_from_database(hub.db)
    second = fetching.collect_from_database(hub.db)

    assert (first.ids("unplaced"), first.ids("busy")) == (["r0", "r2"], ["r1"])
    assert (second.ids("kept"), second.ids("unplaced")) == (["r1"], ["r2"])
    assert fetching.collect_from_database(hub.db).landings == ()


def test_what_a_hub_holds_and_nobody_can_read_is_passed_over(hub: RealHub) -> None:
    """By either way; told, and in nobody's way."""
    bodies = {"r0": '{"schema":0}', "r1": BenchmarkReport(id="r1").to_json()}
    hub.storage.add([Incoming(name, "", "0" * 64, body) for name, body in bodies.items()], "board")
    reader = hub.token_file("reader", "read")
    over_http = fetching.collect_from_hub(hub.url, reader)
    (Path(os.environ["EDGEKIT_HOME"]) / "collected.json").unlink()
    from_database = fetching.collect_from_database(hub.db)

    for landed in (over_http, from_database):
        assert (landed.ids("unplaced"), landed.ids("busy")) == (["r1"], [""])
        assert "it stays at the hub: expected a benchmark report" in landed.landings[-1].remark


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "https://hub.example"], "expected --url with --token-file"),
        (["--token-file", "x"], "belong to --url"),
        (["--db", "sqlite:///x", "--url", "https://h", "--token-file", "x"], "expected --url with --token-file"),
        (["--url", "https://hub.example", "--token-file", "/nowhere"], "cannot read /nowhere"),
        (["--db", "nonsense"], "expected --db as a URL"),
        (["--run", "/nowhere"], "expected a run folder"),
    ],
)
def test_a_collection_that_cannot_be_is_told(arguments: list[str], said: str, capfd: Any) -> None:
    """Exit 2."""
    assert main(["hub", "collect", *arguments]) == 2
    assert said in capfd.readouterr().err


def test_a_hub_that_is_none_is_told(hub: RealHub, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """A token of the wrong scope, a token nobody gave out, another server, a hub that has ended."""
    wrong = str(hub.token_file("device"))
    assert main(["hub", "collect", "--url", hub.url, "--token-file", wrong]) == 3
    assert "expected a token of scope read" in capfd.readouterr().err
    assert main(["hub", "collect", "--url", f"{hub.url}/elsewhere", "--token-file", wrong]) == 3
    assert "not as a hub of edgekit" in capfd.readouterr().err
    hub.stop()
    assert main(["hub", "collect", "--url", hub.url, "--token-file", wrong]) == 3
    assert "cannot be reached" in capfd.readouterr().err
