"""Setting a board up, changing it and taking it away again, on this machine with a home of its own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import edgekit_device
import pytest

from edgekit.devices import device_wheel
from edgekit.devices import setup as board_setup
from edgekit.devices.onboard import onboard_script
from edgekit.devices.setup import SetupRecord, set_up, setup_status, uninstall
from edgekit.devices.setup_record import read_record
from edgekit.devices.transport import Completed
from edgekit.devices.wheel_sets import choose_wheels
from edgekit.errors import DeviceError, UsageError

from .board_wheels import this_target, write_stand_in, write_wheel, write_wheels
from .this_machine import ThisMachine

HOME = ".edgekit-device"
Snapshot = dict[str, bytes]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all wheels this machine needs as a board."""
    folder = tmp_path_factory.mktemp("board-wheels")
    write_wheels(folder, choose_wheels(this_target()), this_target())
    return folder


@pytest.fixture
def board(tmp_path: Path) -> ThisMachine:
    """A board on which nothing of edgekit is yet; its python3 is the one that runs the tests."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    (tmp_path / "home").mkdir()
    return ThisMachine(tmp_path / "home", f"{tmp_path / 'bin'}:{os.defpath}")


@pytest.fixture(scope="session", autouse=True)
def _steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A stand-in for edgekit-device that starts at once; and no flush of all disks of this machine at every setup. Both would
    cost more than everything that is tested here; the real ones are in the last test, over ssh, and on ARM."""
    script = onboard_script()
    assert "os.sync()" in script
    wheel = write_stand_in(tmp_path_factory.mktemp("own"), edgekit_device.__version__)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("edgekit.devices.setup_board.onboard_script", lambda: script.replace("os.sync()", "pass"))
        patched.setattr(board_setup, "write_device_wheel", lambda folder: Path(shutil.copy(wheel, folder)))
        yield


@pytest.fixture(scope="session")
def made(_steady: None, tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    """The home of a board after its first setup."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").symlink_to(sys.executable)
    machine = ThisMachine(folder / "home", f"{folder / 'bin'}:{os.defpath}")
    machine.home.mkdir()
    set_up(machine, HOME, wheels=wheels)
    return machine.home


@pytest.fixture
def ready(board: ThisMachine, made: Path) -> ThisMachine:
    """A board that was set up before, moved to where this test has it."""
    shutil.copytree(made / HOME, board.home / HOME, symlinks=True)
    return board


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host's edgekit-device has one more file than the board's."""
    real = board_setup.write_device_wheel

    def write(folder: Path) -> Path:
        wheel = real(folder)
        files = {name: text for name, text in _content(wheel).items() if ".dist-info" not in name}
        return write_wheel(folder, wheel.stem, {**files, "edgekit_device/newer.py": b""})

    monkeypatch.setattr(board_setup, "write_device_wheel", write)


def _content(wheel: Path) -> dict[str, bytes]:
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _snapshot(folder: Path) -> Snapshot:
    """Every file and link below a folder, but what Python compiles."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = os.readlink(path).encode()
        elif path.is_file() and path.suffix != ".pyc":
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def _works(board: ThisMachine) -> bool:
    """Whether what a transport would run there runs."""
    done = board.execute([f"{HOME}/env/bin/python", "-m", "edgekit_device", "info", "--json"], deadline_s=60)
    return done.exit_code == 0 and "litert" in json.loads(done.stdout)["runtimes"]


def test_a_fresh_board_gets_an_environment_that_runs(board: ThisMachine, wheels: Path) -> None:
    """The host's own edgekit-device and a runtime, in one folder; the record says of what; nothing is left of an earlier
    attempt whose power was cut at once."""
    (board.home / HOME).mkdir()
    (board.home / HOME / "edgekit-device.json.part").touch()

    record = set_up(board, HOME, wheels=wheels)

    home = board.home / HOME
    assert record.change == "installed"
    assert record.edgekit_device == edgekit_device.__version__
    assert list(record.runtimes) == ["litert"]
    assert Path(record.home) == home.resolve()
    assert record.python_version == ".".join(str(part) for part in sys.version_info[:3])
    assert set(record.wheels) == {path.name for path in wheels.glob("*.whl")} | {
        f"edgekit_device-{edgekit_device.__version__}-py3-none-any.whl"
    }
    assert setup_status(board, HOME) == replace(record, change="")
    assert sorted(os.listdir(board.home)) == [HOME]
    assert sorted(os.listdir(home)) == ["edgekit-device.json", "env", "environments"]
    assert _works(board)


def test_the_command_on_the_board_finds_its_own_environment(ready: ThisMachine) -> None:
    """Also through a link on the user's PATH."""
    (ready.home / "command").symlink_to(f"{HOME}/env/bin/edgekit-device")

    done = ready.execute(["./command", "--version"], deadline_s=60)

    assert done.stdout == "edgekit-device stand-in\n"


def test_a_board_that_is_set_up_is_left_alone(ready: ThisMachine, wheels: Path) -> None:
    """Nothing is sent, no file changes; it was run once to know that it works."""
    before = _snapshot(ready.home)

    record = set_up(ready, HOME, wheels=wheels)

    assert (record.change, ready.sent) == ("unchanged", [])
    assert _snapshot(ready.home) == before
    assert "verify" in [command[3] for command in ready.ran if len(command) > 3]


def test_a_host_without_wheels_knows_that_a_board_is_set_up(
    ready: ThisMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another laptop, with an empty cache and no internet, fetches nothing for a board that has everything."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")

    assert set_up(ready, HOME).change == "unchanged"


@pytest.mark.usefixtures("newer")
def test_an_upgrade_sends_what_has_changed_alone(
    ready: ThisMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime's files are linked from the environment in use, which is replaced and removed."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (old,) = (ready.home / HOME / "environments").iterdir()
    runtime = next(old.rglob("ai_edge_litert_is_here.txt")).stat().st_ino

    record = set_up(ready, HOME)

    (new,) = (ready.home / HOME / "environments").iterdir()
    assert record.change == "upgraded"
    assert ready.sent == [f"edgekit_device-{record.edgekit_device}-py3-none-any.whl"]
    assert new != old
    assert next(new.rglob("ai_edge_litert_is_here.txt")).stat().st_ino == runtime
    assert next(new.rglob("edgekit_device/newer.py")).is_file()
    assert _works(ready)


@pytest.mark.usefixtures("newer")
def test_a_file_the_card_has_lost_is_sent_again(ready: ThisMachine, wheels: Path) -> None:
    """A wheel is taken over from the environment in use when every file of it is what RECORD says, and only then."""
    damaged = next((ready.home / HOME).rglob("ai_edge_litert_is_here.txt"))
    damaged.write_bytes(b"rot")

    set_up(ready, HOME, wheels=wheels)

    assert {name.split("-")[0] for name in ready.sent} == {"edgekit_device", "ai_edge_litert"}
    assert next((ready.home / HOME).rglob("ai_edge_litert_is_here.txt")).read_bytes() != b"rot"


@pytest.mark.usefixtures("newer")
def test_wheels_are_fetched_when_those_of_the_board_are_damaged(
    ready: ThisMachine, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was thought to be there turns out not to be: the host gets it after all."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    next((ready.home / HOME).rglob("ai_edge_litert_is_here.txt")).write_bytes(b"rot")

    assert set_up(ready, HOME).change == "upgraded"
    assert _works(ready)


@pytest.mark.parametrize("broken", ["lib/python3*/site-packages/edgekit_device/__main__.py", "bin/python"])
def test_an_environment_that_does_not_run_any_more_is_made_anew(ready: ThisMachine, wheels: Path, broken: str) -> None:
    """A file was lost, or the Python it was made with went away."""
    next((ready.home / HOME / "env").resolve().glob(broken)).unlink()

    record = set_up(ready, HOME, wheels=wheels)

    assert record.change == "upgraded"
    assert _works(ready)


def test_what_was_named_once_holds_until_something_else_is(board: ThisMachine, wheels: Path, tmp_path: Path) -> None:
    """An upgrade without options does not take away the runtime, or the Python, that was asked for."""
    small = tmp_path / "wheels"
    shutil.copytree(wheels, small)
    write_wheels(small, choose_wheels(this_target(), "both"), this_target())
    (board.home / "mine").symlink_to(sys.executable)

    first = set_up(board, HOME, wheels=small, runtime="both", python="~/mine")
    second = set_up(board, HOME, wheels=small)
    third = set_up(board, HOME, wheels=small, runtime="litert", python="python3")

    assert (second.change, second.key, set(second.runtimes)) == ("unchanged", first.key, {"litert", "tflite"})
    assert (third.change, set(third.runtimes)) == ("upgraded", {"litert"})
    assert (third.asked_runtime, third.asked_python) == ("litert", "python3")


# -- what must not be touched ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [HOME, "pictures/2026"])
def test_a_foreign_folder_is_left_byte_for_byte(board: ThisMachine, wheels: Path, name: str) -> None:
    """Neither setup nor removal touches it; the message names it and what is in it."""
    folder = board.home / name
    folder.mkdir(parents=True)
    (folder / "cat.jpg").write_bytes(b"\xff\xd8")
    before = _snapshot(board.home)

    with pytest.raises(UsageError, match=rf"{name} on pi4 is there and is not edgekit's \(it holds cat\.jpg"):
        set_up(board, name, wheels=wheels)
    assert not uninstall(board, name)

    assert _snapshot(board.home) == before
    assert board.sent == []


@pytest.mark.parametrize("name", ["", "..", "/"])
def test_the_user_s_own_folder_is_nobody_s_to_set_up(board: ThisMachine, wheels: Path, name: str) -> None:
    """Not even when it is empty."""
    with pytest.raises(UsageError, match="is not edgekit's"):
        set_up(board, name, wheels=wheels)
    assert not uninstall(board, name)

    assert list(board.home.iterdir()) == []


def test_a_file_in_the_way_is_left_there(board: ThisMachine, wheels: Path) -> None:
    """It is no folder, and no home."""
    (board.home / HOME).write_text("mine")

    with pytest.raises(UsageError, match="is not edgekit's"):
        set_up(board, HOME, wheels=wheels)

    assert (board.home / HOME).read_text() == "mine"


def test_a_record_with_another_kind_makes_no_home(board: ThisMachine) -> None:
    """Our marker is known by what it says, not by its name."""
    (board.home / HOME).mkdir()
    (board.home / HOME / "edgekit-device.json").write_text('{"kind": "something"}')

    assert not uninstall(board, HOME)
    assert (board.home / HOME / "edgekit-device.json").exists()


# -- interruptions ---------------------------------------------------------------------------------------------------


class CutError(Exception):
    """The line was cut."""


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("step", ["begin", "send", "install"])
def test_a_setup_cut_off_anywhere_leaves_the_old_environment_working(
    ready: ThisMachine, wheels: Path, step: str
) -> None:
    """With no chance to clean up; the next setup from this host goes through at once."""

    def cut(name: str) -> None:
        if step in (name, "send") and (step != "send" or name.endswith(".whl")):
            ready.before_run = _refuse
            raise CutError

    ready.before_run = cut
    ready.before_send = cut if step == "send" else ready.before_send
    with pytest.raises(CutError):
        set_up(ready, HOME, wheels=wheels)
    ready.before_run = ready.before_send = lambda name: None

    assert _works(ready)
    _pretend_the_owner_is_dead(ready)
    assert set_up(ready, HOME, wheels=wheels).change == "upgraded"
    assert _works(ready)
    assert sorted(os.listdir(ready.home / HOME)) == ["edgekit-device.json", "env", "environments"]
    assert len(list((ready.home / HOME / "environments").iterdir())) == 1


def _refuse(name: str) -> None:
    raise DeviceError("pi4 is gone")


def _pretend_the_owner_is_dead(board: ThisMachine) -> None:
    """Give the lock the process id of one that has ended, as it would have after a crash."""
    path = board.home / HOME / "setup.lock" / "owner.json"
    if path.exists():
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        path.write_text(json.dumps({**json.loads(path.read_text()), "pid": ended.pid}))


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize(
    "line",
    [
        "write_text(os.path.join(folder",  # unpacked, not tried
        "with idle(home):",  # tried, not in place
        "write_json(os.path.join(home, MARKER), record)",  # in place, the old one still there
    ],
    ids=["unpacked", "tried", "in place"],
)
def test_an_install_killed_in_the_middle_leaves_a_working_environment(
    ready: ThisMachine, wheels: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """With signal 9: the board runs what it ran before, or what it was to run, never nothing; the next setup tidies up."""
    before, found, after = onboard_script().partition(line)
    assert found
    indent = before.rpartition("\n")[2]
    text = f"{before}os.kill(os.getpid(), 9)\n{indent}{line}{after}"
    with monkeypatch.context() as patched:
        patched.setattr("edgekit.devices.setup_board.onboard_script", lambda: text)
        with pytest.raises(DeviceError, match="install ended with exit code -9"):
            set_up(ready, HOME, wheels=wheels)
    assert _works(ready)
    _pretend_the_owner_is_dead(ready)

    assert set_up(ready, HOME, wheels=wheels).change in ("unchanged", "upgraded")
    assert _works(ready)
    assert sorted(os.listdir(ready.home / HOME)) == ["edgekit-device.json", "env", "environments"]
    assert len(list((ready.home / HOME / "environments").iterdir())) == 1
    marker = json.loads((ready.home / HOME / "edgekit-device.json").read_text())
    assert marker == json.loads((ready.home / HOME / "env" / "edgekit-device.json").read_text())


def test_wheels_that_arrived_are_not_sent_again(board: ThisMachine, wheels: Path) -> None:
    """A first setup that was cut off goes on with what the board has."""

    def cut(name: str) -> None:
        if name.startswith("ai_edge_litert"):
            raise CutError

    board.before_send = cut
    with pytest.raises(CutError):
        set_up(board, HOME, wheels=wheels)
    arrived = list(board.sent)
    board.before_send = lambda name: None
    board.sent.clear()

    record = set_up(board, HOME, wheels=wheels)

    assert record.change == "installed"
    assert arrived
    assert set(board.sent) == set(record.wheels) - set(arrived)


def test_a_wheel_that_arrives_changed_is_refused_and_nothing_is_left(board: ThisMachine, wheels: Path) -> None:
    """A board without edgekit is one again."""
    send = board.send

    def flip(local: Path, remote: str) -> None:
        send(local, remote)
        if "tqdm" in remote:
            path = board.home / remote
            path.write_bytes(path.read_bytes()[:-1] + b"x")

    board.send = flip  # type: ignore[method-assign]

    with pytest.raises(DeviceError, match=r"the wheel tqdm-.*is damaged: it arrived changed"):
        set_up(board, HOME, wheels=wheels)

    assert list(board.home.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "broken", "told"),
    [
        ({"a.py": b"1"}, ("a.py", b"2"), "a.py is not as its RECORD says"),
        ({"../../../evil.py": b"1"}, None, r"the unsafe name \.\./\.\./\.\./evil\.py"),
        ({"/tmp/evil.py": b"1"}, None, "the unsafe name /tmp/evil.py"),
        ({"a.py": b"1"}, ("b.py", b"1"), "b.py is not as its RECORD says"),
        ({"a-1.dist-info/RECORD": b""}, None, "expected one RECORD in it, got 2"),
    ],
    ids=["changed", "parent", "absolute", "unknown", "two records"],
)
def test_a_wheel_that_is_not_what_it_says_is_refused(
    board: ThisMachine,
    wheels: Path,
    tmp_path: Path,
    files: dict[str, bytes],
    broken: tuple[str, bytes] | None,
    told: str,
) -> None:
    """Every file against RECORD, no file outside the environment."""
    import zipfile

    folder = tmp_path / "bad"
    shutil.copytree(wheels, folder)
    name = next(folder.glob("tqdm-*")).stem
    wheel = write_wheel(folder, name, files)
    if broken:
        content = _content(wheel)
        content[broken[0]] = broken[1]
        with zipfile.ZipFile(wheel, "w") as archive:
            for entry, text in content.items():
                archive.writestr(entry, text)

    with pytest.raises(DeviceError, match=told):
        set_up(board, HOME, wheels=folder)

    assert list(board.home.iterdir()) == []


def test_a_damaged_wheel_is_dropped_from_the_cache(
    board: ThisMachine, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next setup fetches it anew."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "ours"))
    cache = board_setup.wheel_cache(this_target())
    shutil.copytree(wheels, cache)
    name = next(cache.glob("tqdm-*")).stem
    write_wheel(cache, name, {"/evil": b""})

    with pytest.raises(DeviceError, match="The copy here was removed: run this again"):
        set_up(board, HOME)

    assert not (cache / f"{name}.whl").exists()


# -- a disk that is full ---------------------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_is_told_before_anything_is_sent(
    board: ThisMachine, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is needed and what is free, in megabytes; nothing is left."""
    monkeypatch.setattr(board_setup, "MARGIN_BYTES", 1 << 60)

    with pytest.raises(DeviceError, match=r"disk is full \(\d+ MB are needed, \d+ MB are free\)"):
        set_up(board, HOME, wheels=wheels)

    assert board.sent == []
    assert list(board.home.iterdir()) == []


@pytest.mark.usefixtures("newer")
def test_a_disk_that_fills_up_in_the_middle_leaves_the_board_as_it_was(ready: ThisMachine, wheels: Path) -> None:
    """The kernel refuses a write; the half-made environment and the wheels go, the old one works."""
    before = _snapshot(ready.home)
    ready.largest_file = 12_000  # bytes: less than the largest file of the stand-in

    with pytest.raises(DeviceError, match=r"disk is full.*It is as it was before"):
        set_up(ready, HOME, wheels=wheels)

    ready.largest_file = None
    assert _snapshot(ready.home) == before
    assert _works(ready)


# -- others at work --------------------------------------------------------------------------------------------------


def test_a_second_setup_is_told_who_is_at_it(ready: ThisMachine, wheels: Path) -> None:
    """The first one's user, host and time; after a reboot, or half an hour of silence, the lock is nobody's."""
    lock = ready.home / HOME / "setup.lock"
    _hold(lock, boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    next((ready.home / HOME).rglob("edgekit_device/__main__.py")).write_text("raise SystemExit(9)")

    with pytest.raises(DeviceError, match="is being set up by ada@lab since 2026-11-24T10:00:00Z"):
        set_up(ready, HOME, wheels=wheels)
    with pytest.raises(DeviceError, match="is being set up by ada@lab"):
        uninstall(ready, HOME)

    os.utime(lock, (1e9, 1e9))
    assert set_up(ready, HOME, wheels=wheels).change == "upgraded"
    _hold(lock, boot="another")
    assert uninstall(ready, HOME)


def _hold(lock: Path, boot: str) -> None:
    lock.mkdir()
    owner = {"holder": "ada@lab", "pid": 1, "since": "2026-11-24T10:00:00Z", "token": "hers", "boot": boot}
    (lock / "owner.json").write_text(json.dumps(owner))


@pytest.fixture
def benching(ready: ThisMachine) -> Iterator[ThisMachine]:
    """A board on which somebody measures."""
    with open(ready.home / HOME / "lock", "w") as file:
        json.dump({"holder": "bob@desk", "verb": "bench"}, file)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        yield ready


@pytest.mark.usefixtures("newer")
def test_nothing_is_replaced_under_a_running_benchmark(benching: ThisMachine, wheels: Path) -> None:
    """Neither by a setup nor by a removal; both say who it is."""
    before = os.readlink(benching.home / HOME / "env")

    with pytest.raises(DeviceError, match=r"is in use by bob@desk \(bench\)"):
        set_up(benching, HOME, wheels=wheels)
    with pytest.raises(DeviceError, match="is in use by bob@desk"):
        uninstall(benching, HOME)

    assert os.readlink(benching.home / HOME / "env") == before
    assert _works(benching)
    assert not (benching.home / HOME / "setup.lock").exists()


# -- removal ---------------------------------------------------------------------------------------------------------


def test_removal_leaves_no_trace(ready: ThisMachine) -> None:
    """The second time there is nothing to remove."""
    (ready.home / HOME / "work" / "abc").mkdir(parents=True)

    assert uninstall(ready, HOME)

    assert list(ready.home.iterdir()) == []
    assert not uninstall(ready, HOME)
    assert setup_status(ready, HOME) is None


def test_reports_nobody_has_fetched_are_not_lost_by_a_removal(ready: ThisMachine) -> None:
    """Those a hub has refused count too; --force is what loses them."""
    outbox = ready.home / HOME / "outbox"
    (outbox / "rejected").mkdir(parents=True)
    (outbox / "000000000001-a.json").write_text("{}")
    (outbox / "rejected" / "000000000002-b.json").write_text("{}")
    (outbox / "acknowledged").write_text("000000000003 c\n")

    with pytest.raises(UsageError, match=r"has 2 reports in .*/outbox.*edgekit device collect pi4.*--force"):
        uninstall(ready, HOME)
    assert len(list(outbox.rglob("*.json"))) == 2

    assert uninstall(ready, HOME, force=True)
    assert list(ready.home.iterdir()) == []


def test_a_setup_keeps_the_outbox(ready: ThisMachine, wheels: Path) -> None:
    """Reports outlive an upgrade, and a setup that fails."""
    report = ready.home / HOME / "outbox" / "000000000001-a.json"
    report.parent.mkdir()
    report.write_text("{}")
    next((ready.home / HOME).rglob("edgekit_device/__main__.py")).write_text("raise SystemExit(9)")

    assert set_up(ready, HOME, wheels=wheels).change == "upgraded"
    assert report.read_text() == "{}"


def test_a_home_behind_a_link_goes_with_the_link(ready: ThisMachine, tmp_path: Path) -> None:
    """A user may keep it on another disk."""
    (ready.home / HOME).rename(tmp_path / "disk")
    (ready.home / HOME).symlink_to(tmp_path / "disk")

    assert _works(ready)
    assert uninstall(ready, HOME)
    assert list(ready.home.iterdir()) == []
    assert not (tmp_path / "disk").exists()


def test_a_board_whose_python_is_gone_says_how_to_remove_by_hand(ready: ThisMachine, tmp_path: Path) -> None:
    """Only one too old is left."""
    (tmp_path / "bin" / "python3").unlink()
    facts = {"executable": "/usr/bin/python3", "version": [3, 5, 3]}
    (tmp_path / "bin" / "python3").write_text(f"#!/bin/sh\necho 'edgekit-python {json.dumps(facts)}'\n")
    (tmp_path / "bin" / "python3").chmod(0o755)
    ready.path = f"{tmp_path / 'bin'}"
    for name in ("sh", "uname"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")

    with pytest.raises(DeviceError, match=f"Remove it by hand: rm -r {HOME}"):
        uninstall(ready, HOME)


# -- what a board answers --------------------------------------------------------------------------------------------


def test_there_is_no_record_of_a_board_without_one(board: ThisMachine, ready: ThisMachine) -> None:
    """Nor of one whose record is damaged."""
    assert setup_status(ready, "elsewhere") is None

    (ready.home / HOME / "env" / "edgekit-device.json").write_text("{")

    assert setup_status(ready, HOME) is None


def test_a_record_is_hostile_text() -> None:
    """Fields of the wrong kind are empty, text is printable and short; what is none is None."""
    stored: dict[str, Any] = {
        "kind": "edgekit-device",
        "key": "k\x1b[31m",
        "wheels": ["x"],
        "runtimes": {"a\n": "1" * 999},
    }

    assert read_record(stored) == SetupRecord("", "", "", "", "", "", key="k [31m", runtimes={"a": "1" * 200})
    assert [read_record(value) for value in (None, [], {}, {"kind": "edgekit-device"}, {"kind": "x", "key": "1"})] == [
        None
    ] * 5


class Answering(ThisMachine):
    """A board whose answers to setup's actions are made up."""

    def __init__(self, board: ThisMachine, answer: str, action: str) -> None:
        super().__init__(board.home, board.path)
        self.answer, self.action = answer, action

    def execute(self, command: Any, **options: Any) -> Completed:
        """The made-up answer to the action it is for."""
        if len(command) > 3 and command[3] == self.action:
            return Completed(0, self.answer, "some \x1b[31mnoise\n")
        return super().execute(command, **options)


@pytest.mark.parametrize(
    ("action", "answer", "told"),
    [
        ("look", "", "the setup's look ended with exit code 0: some .31mnoise"),
        ("look", "edgekit-setup []", "look ended with exit code 0"),
        ("look", "edgekit-setup {", "look ended with exit code 0"),
        ("look", 'edgekit-setup {"error": "\\u001b[31mwhat"}', r"pi4 refuses the setup: \[31mwhat"),
        (
            "begin",
            'edgekit-setup {"error": "files", "said": "a: Permission denied"}',
            "refuses to change its files: a: Perm",
        ),
        ("begin", 'edgekit-setup {"error": "locked", "owner": 7}', "is being set up by somebody"),
        ("begin", 'edgekit-setup {"home": "x", "kept": ["nothing"], "here": [], "free_bytes": 0}', "disk is full"),
        (
            "install",
            'edgekit-setup {"error": "venv", "said": "ensurepip"}',
            "cannot make a virtual environment: ensurepip",
        ),
        (
            "install",
            'edgekit-setup {"error": "broken", "runtime": "litert", "said": "x", "exit_code": -4}',
            "Its processor lacks instructions",
        ),
        (
            "install",
            'edgekit-setup {"error": "lost-lock", "owner": {"holder": "eve@x"}}',
            "took over the setup of pi4: eve@x",
        ),
        ("begin", 'edgekit-setup {"here": 7, "kept": [{}], "free_bytes": "x"}', "no folder for|what it has installed"),
        ("install", 'edgekit-setup {"record": 5}', "does not say what it has installed"),
    ],
)
def test_whatever_a_board_answers_becomes_a_message(
    board: ThisMachine, wheels: Path, action: str, answer: str, told: str
) -> None:
    """Printable, with what to do; no answer is trusted."""
    with pytest.raises(DeviceError, match=told) as caught:
        set_up(Answering(board, answer, action), HOME, wheels=wheels)

    assert str(caught.value).isprintable()


def test_a_board_that_does_not_answer_in_time_is_told(board: ThisMachine, wheels: Path) -> None:
    """With the step it hangs in."""

    class Hanging(Answering):
        def execute(self, command: Any, **options: Any) -> Completed:
            done = super().execute(command, **options)
            return replace(done, timed_out=True) if done.stdout == self.answer else done

    with pytest.raises(DeviceError, match="the setup's look did not end within 120 s"):
        set_up(Hanging(board, "nothing", "look"), HOME, wheels=wheels)


def test_a_runtime_that_does_not_run_there_is_told_and_not_put_in_place(
    ready: ThisMachine, wheels: Path, tmp_path: Path
) -> None:
    """The environment is tried before it replaces the one in use; the message is the runtime's own."""
    folder = tmp_path / "bad"
    shutil.copytree(wheels, folder)
    litert = next(folder.glob("ai_edge_litert-*")).stem
    write_wheel(folder, litert, {"ai_edge_litert/__init__.py": b"raise ImportError('libcrypt.so.1: cannot open')"})
    before = _snapshot(ready.home)

    with pytest.raises(DeviceError, match=r"the litert runtime does not run on pi4.*libcrypt\.so\.1"):
        set_up(ready, HOME, wheels=folder)

    assert _snapshot(ready.home) == before
    assert _works(ready)


def test_32_bit_arm_without_numpy_is_told_where_to_get_it(board: ThisMachine, wheels: Path) -> None:
    """PyPI has none; Debian has, and piwheels."""
    _speak_as_a_pi(board, numpy="")
    with pytest.raises(
        DeviceError, match=r"has no numpy, expected 1\.23 .*sudo apt-get install python3-numpy.*piwheels"
    ):
        set_up(board, HOME, wheels=wheels)

    _speak_as_a_pi(board, numpy="1.19.5")
    with pytest.raises(DeviceError, match=r"has numpy 1\.19\.5, expected 1\.23"):
        set_up(board, HOME)


def _speak_as_a_pi(board: ThisMachine, numpy: str) -> None:
    facts = {
        "executable": "/usr/bin/python3",
        "version": [3, 11, 2],
        "implementation": "cpython",
        "machine": "aarch64",
        "bits": 32,
        "build": {"MULTIARCH": "arm-linux-gnueabihf"},
        "libc": "glibc 2.36",
        "venv": True,
        "numpy": numpy,
    }
    python = Path(board.path.split(":")[0]) / "python3"
    python.unlink(missing_ok=True)
    python.write_text(f"#!/bin/sh\necho 'edgekit-python {json.dumps(facts)}'\n")
    python.chmod(0o755)


def test_the_board_s_own_numpy_is_seen_where_it_has_to_serve(board: ThisMachine, tmp_path: Path) -> None:
    """Made with system packages, an environment finds what the system's Python has."""
    script = onboard_script().replace('\nif __name__ == "__main__":', "\nif False:")
    check = f"{script}\nmake_environment(sys.argv[1], True)"
    env = tmp_path / "env"
    subprocess.run([sys.executable, "-c", check, str(env)], check=True)

    assert "include-system-site-packages = true" in (env / "pyvenv.cfg").read_text()


def test_the_text_sent_to_boards_runs_on_the_oldest_python(tflite_python: Path) -> None:
    """Python 3.9, with nothing installed."""
    done = subprocess.run(
        [tflite_python, "-I", "-", "look", json.dumps({"home": "/nowhere/at/all"})],
        input=onboard_script(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout.strip().removeprefix("edgekit-setup "))["state"] == "vacant"


def test_a_board_is_set_up_from_the_real_index(
    board: ThisMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real wheels through real pip: LiteRT loads and says its version; the folder is the user's alone."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "ours"))
    monkeypatch.setattr(board_setup, "write_device_wheel", device_wheel.write_device_wheel)
    monkeypatch.setattr("edgekit.devices.setup_board.onboard_script", onboard_script)
    chosen = choose_wheels(this_target())

    record = set_up(board, HOME)

    pinned = dict(item.split("==") for item in chosen.requirements)
    assert record.runtimes == {"litert": pinned["ai-edge-litert"]}
    assert (board.home / HOME).stat().st_mode & 0o777 == 0o700
    assert _works(board)
