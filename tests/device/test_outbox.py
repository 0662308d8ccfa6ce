"""The outbox: a report that was taken in is there until somebody has it, whatever happens to board, clock and disk."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.cli import main
from edgekit_device.errors import OutboxError
from edgekit_device.outbox import MOST_ACKNOWLEDGED, MOST_DAMAGED, MOST_REPORT_BYTES, Outbox, is_report_id
from edgekit_device.report import BoardFacts, ModelFacts
from hypothesis import given
from hypothesis import strategies as st


def report(name: str, **facts: object) -> BenchmarkReport:
    """A report with this id."""
    return BenchmarkReport(id=name, **facts)  # type: ignore[arg-type]


def ids(outbox: Outbox) -> list[str]:
    """Ids in the order they would be delivered."""
    return [entry.id for entry in outbox.waiting()]


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs ``code``."""
    command = [sys.executable, "-c", textwrap.dedent(code), *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """An outbox that is not there yet."""
    return Outbox(tmp_path / "board" / "outbox")


@pytest.fixture
def board(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """The same as this machine's own."""
    monkeypatch.setenv("EDGEKIT_DEVICE_HOME", str(outbox.folder.parent))
    return outbox


def test_reports_come_out_as_they_went_in_and_in_that_order(outbox: Outbox) -> None:
    """Oldest first, to the byte of their JSON, and still there until they are acknowledged."""
    written = [report(name, notes=("ä \x1b[31m",)) for name in ("b", "a", "c")]
    for each in written:
        outbox.put(each)

    assert list(outbox.drain()) == [(each.id, each.to_json()) for each in written]
    assert outbox.acknowledge(["a", "nobody"]) == ["a"]
    assert ids(outbox) == ["b", "c"]


def test_an_outbox_that_is_not_there_is_empty(outbox: Outbox) -> None:
    """Looking makes no folder."""
    assert (outbox.waiting(), outbox.rejected(), outbox.damaged(), list(outbox.drain())) == ([], [], 0, [])
    assert not outbox.folder.exists()


def test_a_report_put_twice_is_there_once(outbox: Outbox) -> None:
    """Also after it was delivered: then it is not taken in again."""
    first = outbox.put(report("a"))

    assert outbox.put(report("a")) == first
    assert ids(outbox) == ["a"]
    outbox.acknowledge(["a"])
    assert outbox.put(report("a")) is None
    assert ids(outbox) == []


def test_another_report_under_the_same_id_is_refused(outbox: Outbox) -> None:
    """The first stays as it is."""
    outbox.put(report("a", created="first"))

    with pytest.raises(OutboxError, match="another report under the id a"):
        outbox.put(report("a", created="second"))
    assert json.loads(dict(outbox.drain())["a"])["created"] == "first"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "x" * 65, "é", "a\n", ".", "-h", "--json", "\x00"])
def test_an_id_that_is_no_name_for_a_file_is_refused(outbox: Outbox, name: str) -> None:
    """Before anything is written."""
    with pytest.raises(OutboxError, match="expected a report with an id") as caught:
        outbox.put(report(name))

    assert str(caught.value).isprintable()
    assert not is_report_id(name)
    assert not outbox.folder.exists()


def test_when_it_is_full_the_oldest_are_kept(tmp_path: Path) -> None:
    """The stated rule, by count and by bytes: a new report is refused with an error, none that was taken in is dropped."""
    size = len(report("a").to_json()) + 1
    for outbox in (Outbox(tmp_path / "count", most_reports=2), Outbox(tmp_path / "bytes", most_bytes=2 * size)):
        outbox.put(report("a"))
        outbox.put(report("b"))
        with pytest.raises(
            OutboxError, match=r"is full .*the oldest are kept and this report is not.*edgekit-device push"
        ):
            outbox.put(report("c"))

        assert ids(outbox) == ["a", "b"]
        outbox.acknowledge(["a"])
        outbox.put(report("c"))
        assert ids(outbox) == ["b", "c"]


def test_the_largest_report_there_can_be_fits(outbox: Outbox) -> None:
    """Every list at its cap, every text at its: less than the largest that is taken; more is refused."""
    from tests.device.test_report import FULL

    raw = FULL.to_dict()
    raw["latency"]["samples_ms"] = [1.2345678901234567] * 3000
    raw["profile"]["operators"] = [{"index": 1, "type": "C" * 300, "name": "n" * 300, "mean_ms": 1.0}] * 3000
    raw["notes"] = ["n" * 300] * 100
    largest = BenchmarkReport.from_dict(raw)

    assert outbox.put(largest) is not None
    assert len(largest.to_json()) < MOST_REPORT_BYTES
    with pytest.raises(OutboxError, match="expected a report of at most"):
        outbox.put(report("b", notes=("x" * MOST_REPORT_BYTES,)))


def test_clock_jumps_do_not_change_the_order(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The year 1970 after the year 2100: what was put later comes later; numbers go on after everything is delivered."""
    for name, clock in (("late", 4.1e9), ("early", 0.0), ("now", 1.7e9)):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        path = outbox.put(report(name))
        assert path is not None
        os.utime(path, (clock, clock))
    assert ids(outbox) == ["late", "early", "now"]

    outbox.acknowledge(["late", "early", "now"])
    outbox.put(report("next"))
    assert [entry.sequence for entry in outbox.waiting()] == [4]


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"schema":1', b"\x00" * 500, b"[]", b'{"schema":1,"id":"b"}', b"[" * 9999]
)
def test_a_damaged_file_stands_in_nobody_s_way(outbox: Outbox, content: bytes) -> None:
    """Empty, cut short, zeroed or another's: it is moved aside, counted, and the others are delivered."""
    for name in ("a", "x", "z"):
        outbox.put(report(name))
    entry = outbox.find("x")
    entry.path.write_bytes(content)

    assert [name for name, _ in outbox.drain()] == ["a", "z"]
    assert outbox.damaged() == 1
    assert (outbox.folder / "damaged" / entry.path.name).read_bytes() == content
    assert ids(outbox) == ["a", "z"]


def test_damaged_files_do_not_fill_the_card(outbox: Outbox) -> None:
    """The last MOST_DAMAGED of them are kept."""
    for number in range(MOST_DAMAGED + 5):
        path = outbox.put(report(f"r{number}"))
        assert path is not None
        path.write_bytes(b"")
    assert not list(outbox.drain())

    kept = sorted(path.name for path in (outbox.folder / "damaged").iterdir())
    assert kept == [f"{number + 1:012d}-r{number}.json" for number in range(5, MOST_DAMAGED + 5)]


def test_foreign_files_and_half_written_ones_are_no_reports(outbox: Outbox) -> None:
    """A stranger's file stays; what a killed process left aside is swept at the next occasion."""
    outbox.put(report("a"))
    (outbox.folder / "README").write_text("mine")
    (outbox.folder / ".000000000002-b.json.part").write_text("{")
    (outbox.folder / "000000000009-folder.json").mkdir()
    (outbox.folder / "000000000008-link.json").symlink_to("/etc/passwd")

    assert ids(outbox) == ["a"]
    outbox.put(report("c"))
    assert not list(outbox.folder.glob("*.part"))
    assert (outbox.folder / "README").read_text() == "mine"


def test_files_are_for_their_owner_alone(outbox: Outbox) -> None:
    """Folder 700, files 600, whatever the umask says."""
    before = os.umask(0)
    try:
        outbox.put(report("a"))
        outbox.put(report("b"))
        outbox.reject("a", "why")
        outbox.acknowledge(["b"])
    finally:
        os.umask(before)

    for path in (outbox.folder, *outbox.folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_rejected_report_is_kept_with_its_reason(outbox: Outbox) -> None:
    """Out of the way of the others, told by list, still given to a host that drains, removed when acknowledged."""
    for name in ("a", "b"):
        outbox.put(report(name))
    outbox.reject("a", "refused: too\nlarge \x1b[0m")
    outbox.reject("nobody", "…")

    assert ids(outbox) == ["b"]
    assert [(entry.id, entry.rejected) for entry in outbox.rejected()] == [("a", "refused: too large [0m")]
    assert [name for name, _ in outbox.drain()] == ["b", "a"]
    assert [name for name, _ in outbox.drain(with_rejected=False)] == ["b"]
    assert outbox.acknowledge(["a"]) == ["a"]
    assert list((outbox.folder / "rejected").iterdir()) == []


def test_a_drain_comes_in_pages(outbox: Outbox) -> None:
    """At most so many reports, or bytes, but always one."""
    for name in "abcd":
        outbox.put(report(name))
    size = len(report("a").to_json()) + 1

    assert [name for name, _ in outbox.drain(2)] == ["a", "b"]
    assert [name for name, _ in outbox.drain(most_bytes=3 * size)] == ["a", "b", "c"]
    assert [name for name, _ in outbox.drain(most_bytes=1)] == ["a"]


def test_what_is_remembered_of_the_delivered_is_bounded(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are; a line that a power cut tore is passed over, and does not swallow the next."""
    monkeypatch.setattr("edgekit_device.outbox.MOST_ACKNOWLEDGED", 3)
    for number in range(8):
        outbox.put(report(f"r{number}"))
        outbox.acknowledge([f"r{number}"])
    path = outbox.folder / "acknowledged"
    assert path.read_text().split()[1::2] == ["r3", "r4", "r5", "r6", "r7"]
    assert MOST_ACKNOWLEDGED == 10_000

    path.write_bytes(path.read_bytes() + b"00000000")
    outbox.put(report("after"))
    outbox.acknowledge(["after"])
    assert outbox.put(report("after")) is None
    assert outbox.put(report("r7")) is None


def test_killed_between_remembering_and_removing_it_is_not_delivered_twice(outbox: Outbox) -> None:
    """The file of an id that is acknowledged goes at the next occasion."""
    path = outbox.put(report("a"))
    outbox.put(report("b"))
    assert path is not None
    (outbox.folder / "acknowledged").write_text("000000000001 a\n")

    outbox.acknowledge([])
    assert ids(outbox) == ["b"]
    assert not path.exists()


WRITER = """
    import sys
    from pathlib import Path
    from edgekit_device import BenchmarkReport
    from edgekit_device.outbox import Outbox
    outbox = Outbox(Path(sys.argv[1]))
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        outbox.put(BenchmarkReport(id=f"{sys.argv[4]}{number}"))
        print(number, flush=True)
"""


DRAINER = """
    import sys
    from pathlib import Path
    from edgekit_device.outbox import Outbox
    outbox = Outbox(Path(sys.argv[1]))
    for name, line in list(outbox.drain()):
        print(name, flush=True)
        outbox.acknowledge([name])
"""


def killed_after(process: subprocess.Popen[str], lines: int, pause_s: float) -> tuple[list[str], bool]:
    """What a process printed that was killed with SIGKILL a moment after so many lines, and whether it was."""
    with process:
        assert process.stdout is not None
        read = list(itertools.islice(process.stdout, lines))
        time.sleep(pause_s)
        process.kill()
        read += list(process.stdout)
    return [line.strip() for line in read if line.endswith("\n")], process.returncode == -signal.SIGKILL


def test_kill_nine_at_random_moments_loses_nothing(outbox: Outbox) -> None:
    """A writer of 200 reports, and a drainer that prints what it has before it acknowledges, both killed again and again:
    every report is read whole, in order, and none twice but those a drainer was killed over."""
    draw, written, kills = random.Random(5), 0, 0
    taken: list[str] = []
    while written < 200:
        for _ in range(2):
            lines, killed = killed_after(
                child(WRITER, outbox.folder, written, 200, "r"), draw.randint(1, 40), draw.uniform(0, 0.005)
            )
            written, kills = max([written, *(int(line) + 1 for line in lines)]), kills + killed
        names, killed = killed_after(child(DRAINER, outbox.folder), draw.randint(1, 30), draw.uniform(0, 0.005))
        kills += killed
        taken += names[1:] if names[:1] == taken[-1:] else names
    left = [name for name, _ in outbox.drain() if name not in taken[-1:]]

    assert kills >= 6
    assert outbox.damaged() == 0
    assert [*taken, *left] == [f"r{number}" for number in range(200)]


def test_many_processes_write_and_drain_at_once(outbox: Outbox) -> None:
    """Three writers beside a drainer: every report comes out once, each writer's in its order, all under their own number."""
    writers = [child(WRITER, outbox.folder, 0, 40, letter) for letter in "abc"]
    taken: list[str] = []
    while any(writer.poll() is None for writer in writers) or outbox.waiting():
        page = [name for name, _ in outbox.drain()]
        assert outbox.acknowledge(page) == page
        taken += page
    errors = [writer.communicate()[1] for writer in writers]

    assert errors == ["", "", ""]
    assert sorted(taken) == sorted(f"{letter}{number}" for letter in "abc" for number in range(40))
    for letter in "abc":
        mine = [int(name[1:]) for name in taken if name[0] == letter]
        assert mine == sorted(mine)


def test_a_lock_that_is_never_let_go_is_told(outbox: Outbox) -> None:
    """After a while, instead of waiting for ever."""
    import fcntl

    outbox.put(report("a"))
    with (outbox.folder / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(OutboxError, match=r"another edgekit-device has held .* for 0\.05 s"):
            Outbox(outbox.folder, lock_wait_s=0.05).put(report("b"))
        assert [name for name, _ in outbox.drain()] == ["a"]  # reading needs no lock


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB; where nothing can be mounted, None of these tests run."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a disk that is small enough to be filled")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_an_error_that_says_so_and_loses_nothing(small_disk: Path) -> None:
    """What was taken in stays whole, nothing is left aside, and delivering works on a full disk and frees it."""
    outbox, kept = Outbox(small_disk / "outbox"), 0
    with pytest.raises(OutboxError, match="the disk is full: free some space"):  # noqa: PT012 - one of them raises
        for kept in range(100):
            outbox.put(report(f"r{kept}", notes=("n" * 3000,)))
    with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)

    assert kept > 3
    assert ids(outbox) == [f"r{number}" for number in range(kept)]
    assert not list(outbox.folder.glob(".*.part"))
    assert [name for name, _ in outbox.drain()] == ids(outbox)
    assert len(outbox.acknowledge(ids(outbox))) == kept
    outbox.put(report("again"))


def test_a_limit_on_file_sizes_is_an_error_too(outbox: Outbox) -> None:
    """RLIMIT_FSIZE in a child of our own: the message names it."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        from edgekit_device import BenchmarkReport
        from edgekit_device.errors import OutboxError
        from edgekit_device.outbox import Outbox
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            Outbox(Path(sys.argv[1])).put(BenchmarkReport(id="a"))
        except OutboxError as error:
            print(error)
    """
    with child(code, outbox.folder) as process:
        said, errors = process.communicate()

    assert errors == ""
    assert "ulimit -f" in said
    assert [path.name for path in outbox.folder.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_used_is_an_outbox_error(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "outbox").write_text("no folder")

    for action in (lambda box: box.put(report("a")), lambda box: box.waiting(), lambda box: box.acknowledge(["a"])):
        with pytest.raises(OutboxError, match=r"cannot .* the outbox"):
            action(Outbox(tmp_path / "outbox"))


@given(st.lists(st.tuples(st.sampled_from(["put", "ack", "reject", "tear"]), st.integers(0, 5)), max_size=30))
def test_any_sequence_of_actions_agrees_with_a_list(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]]
) -> None:
    """The oracle is a list of ids and a set of the delivered."""
    outbox = Outbox(tmp_path_factory.mktemp("outbox") / "o")
    waiting: list[str] = []
    rejected: list[str] = []
    delivered: set[str] = set()
    for verb, number in actions:
        name = f"r{number}"
        if verb == "put":
            outbox.put(report(name))
            if name not in (*waiting, *rejected) and name not in delivered:
                waiting.append(name)
        elif verb == "ack":
            outbox.acknowledge([name])
            if name in (*waiting, *rejected):
                delivered.add(name)
            waiting = [item for item in waiting if item != name]
            rejected = [item for item in rejected if item != name]
        elif verb == "reject":
            outbox.reject(name, "no")
            if name in waiting:
                waiting.remove(name)
                rejected.append(name)
        elif name in waiting:
            outbox.find(name).path.write_bytes(b'{"sch')
            list(outbox.drain())
            waiting.remove(name)

        assert ids(outbox) == waiting
        assert {entry.id for entry in outbox.rejected()} == set(rejected)


# -- the command line -------------------------------------------------------------------------------------------------


def test_the_verb_lists_shows_drains_and_acknowledges(board: Outbox, capfd: pytest.CaptureFixture[str]) -> None:
    """What a host types over SSH, and what a person reads; nothing a report holds reaches a terminal as it is."""
    board.put(report("a", board=BoardFacts(model="Pi\x1b[31m\n4"), model=ModelFacts(name="m")))
    board.put(report("b"))
    board.reject("b", "refused: no")

    assert main(["outbox"]) == 0
    out = capfd.readouterr().out
    assert out.splitlines()[0].split()[:2] == ["1", "a"]
    assert "rejected: refused: no" in out
    assert out.splitlines()[-1] == f"1 waiting, 1 rejected by a hub, 0 damaged in {board.folder}"
    assert main(["outbox", "list", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert [(entry["id"], entry["rejected"]) for entry in listed["reports"]] == [("a", ""), ("b", "refused: no")]
    assert main(["outbox", "drain", "--json"]) == 0
    out = capfd.readouterr().out
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["a", "b"]
    assert "\x1b" not in out
    assert main(["outbox", "show", "a"]) == 0
    assert json.loads(capfd.readouterr().out)["model"]["name"] == "m"
    assert main(["outbox", "ack", "a", "b", "c"]) == 0
    assert capfd.readouterr().out == "2 removed, 1 not there, 0 still waiting\n"


def test_the_verb_says_what_is_wrong(
    board: Outbox, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An unknown id, a damaged report, a page of nothing, a machine that is no board."""
    path = board.put(report("a"))
    assert path is not None
    path.write_bytes(b"{")

    assert main(["outbox", "show", "a"]) == 3
    assert main(["outbox", "show", "nobody"]) == 3
    assert main(["outbox", "drain", "--most", "0"]) == 2
    monkeypatch.setenv("EDGEKIT_DEVICE_HOME", "")
    assert main(["outbox", "list"]) == 2
    errors = capfd.readouterr().err.splitlines()
    assert "was damaged, and is moved aside" in errors[0]
    assert "no report 'nobody' among the 0" in errors[1]
    assert "expected --most as a whole number from 1" in errors[2]
    assert "edgekit device setup NAME" in errors[3]


def test_bench_puts_its_report_into_the_outbox_before_it_prints(
    board: Outbox, models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the run and the variant it was told; the same report that it prints."""
    arguments = ["bench", str(models / "dense.tflite"), "--runs", "3", "--warmup", "0", "--json"]
    assert main([*arguments, "--run", "0a", "--variant", "int8"]) == 0

    printed = BenchmarkReport.from_json(capfd.readouterr().out)
    assert [BenchmarkReport.from_json(line) for _, line in board.drain()] == [printed]
    assert (printed.run, printed.variant) == ("0a", "int8")


def test_bench_goes_on_where_its_report_cannot_be_kept(
    board: Outbox, models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The report is printed, and says that it is nowhere else; standard error says so too."""
    board.folder.parent.mkdir(parents=True)
    board.folder.write_text("no folder")

    assert main(["bench", str(models / "dense.tflite"), "--runs", "3", "--warmup", "0", "--json"]) == 0
    said = capfd.readouterr()
    assert (
        BenchmarkReport.from_json(said.out).notes[-1].startswith("not kept in the board's outbox: cannot keep a report")
    )
    assert "warning: this report is not kept on the board" in said.err


def test_bench_keeps_nothing_on_a_machine_that_is_no_board(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No folder appears in the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EDGEKIT_DEVICE_HOME", raising=False)

    assert main(["bench", str(models / "dense.tflite"), "--runs", "3", "--warmup", "0", "--json"]) == 0
    notes = BenchmarkReport.from_json(capfd.readouterr().out).notes
    assert not [note for note in notes if "outbox" in note]
    assert list(tmp_path.iterdir()) == []


def test_signal_names_are_not_needed_for_a_drain(board: Outbox) -> None:
    """A drain whose reader has gone (a broken pipe) ends without a traceback, and keeps everything."""
    for number in range(100):
        board.put(report(f"r{number}", notes=("n" * 190,)))
    with child(
        "import sys\nfrom edgekit_device.cli import main\nsys.exit(main(['outbox', 'drain', '--json']))"
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()

    assert "Traceback" not in errors
    assert process.returncode not in (0, -signal.SIGSEGV)
    assert len(ids(board)) == 100
