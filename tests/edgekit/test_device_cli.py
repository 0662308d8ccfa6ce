"""``edgekit device`` from outside: add, look at, measure on and forget a board; and what a check says of strange ones."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from edgekit.cli.main import main
from edgekit.config import load_config
from edgekit.devices import Completed, checkup
from edgekit.devices.checkup import check_device
from edgekit.devices.registry import Registry
from edgekit.errors import UsageError
from edgekit.store import file_sha256
from tests.conftest import Cli
from tests.edgekit.sshd import SSHServer, free_port
from tests.edgekit.test_ssh import until


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Edgekit's own home, empty."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def at_board(board: SSHServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> SSHServer:
    """A board that is set up, and added as pi4."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(board.config))
    assert main(["device", "add", "pi4", board.address]) == 0
    return board


def test_a_board_is_added_checked_measured_on_and_forgotten(
    edgekit_cli: Cli, board: SSHServer, float_model: Path, tmp_path: Path
) -> None:
    """The whole path, as a user goes it, each command a process of its own."""
    env = {**board.environment, "EDGEKIT_HOME": str(tmp_path / "home")}
    added = edgekit_cli("device", "add", "pi4", board.address, env=env)
    checked = edgekit_cli("device", "check", "pi4", env=env)
    done = edgekit_cli("bench", float_model, "--device", "pi4", "--runs", "9", "--json", env=env)
    listed = edgekit_cli("device", "list", "--json", env=env)
    forgotten = edgekit_cli("device", "remove", "pi4", "--forget", env=env)
    after = edgekit_cli("bench", float_model, "--device", "pi4", env=env)

    assert "edgekit device setup pi4" in added.stdout
    assert (checked.returncode, "pi4 can be measured on" in checked.stdout) == (0, True), (
        checked.stdout + checked.stderr
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    (report,) = json.loads(done.stdout)["reports"]
    assert report["model"]["sha256"] == file_sha256(float_model)
    assert report["latency"]["median_ms"] > 0
    assert [device["name"] for device in json.loads(listed.stdout)["devices"]] == ["pi4"]
    assert json.loads(listed.stdout)["devices"][0]["seen"]
    assert forgotten.returncode == 0
    assert (after.returncode, "unknown device 'pi4'" in after.stderr) == (2, True)


def test_a_run_is_measured_with_its_data_on_a_board(
    edgekit_cli: Cli, board: SSHServer, run_folder: Path, data: Path, tmp_path: Path
) -> None:
    """Every variant, with its accuracy there and its outputs brought home."""
    env = {**board.environment, "EDGEKIT_HOME": str(tmp_path / "home")}
    assert edgekit_cli("device", "add", "pi4", board.address, env=env).returncode == 0
    done = edgekit_cli("bench", run_folder, "--device", "pi4", "--runs", "9", "--data", data, "--json", env=env)

    assert done.returncode == 0, done.stderr
    found = {report["variant"]: report for report in json.loads(done.stdout)["reports"]}
    assert set(found) == {"float32", "float16", "dynamic-int8", "int8"}
    assert found["float32"]["accuracy"]["accuracy"] == 1.0
    assert not list((board.home / ".edgekit-device").glob("work/*"))


def test_ctrl_c_leaves_nothing_on_the_board(at_board: SSHServer, float_model: Path) -> None:
    """Neither a process nor a work folder."""
    there = at_board.home / ".edgekit-device"
    command = [sys.executable, "-m", "edgekit", "bench", str(float_model), "--device", "pi4", "--runs", "10000000"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert until(lambda: measuring_in(there), 60)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read().decode()

    assert process.returncode == 130
    assert "interrupted" in said
    assert until(lambda: not measuring_in(there))
    assert not list(there.glob("work/*"))


def measuring_in(there: Path) -> list[psutil.Process]:
    """Processes at work in a board's work folders."""
    found = psutil.process_iter(["cwd", "status"])
    return [p for p in found if str(p.info["cwd"]).startswith(f"{there}/work/") and p.info["status"] != "zombie"]


@pytest.mark.parametrize(
    "verb", [["bench", "MODEL", "--device"], ["device", "check"], ["device", "setup"], ["device", "collect"]]
)
def test_a_board_that_is_off_is_told_within_seconds(
    verb: list[str], home: Path, float_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, the reason, and what to type."""
    assert main(["device", "add", "gone", f"ssh://127.0.0.1:{free_port()}"]) == 0
    started = time.monotonic()
    code = main([*(str(float_model) if word == "MODEL" else word for word in verb), "gone"])

    assert code == 3
    assert time.monotonic() - started < 15
    assert "gone is not reached: 127.0.0.1 port" in capsys.readouterr().err


def test_a_toml_may_name_a_board(home: Path, tmp_path: Path) -> None:
    """One that was added; another is refused before anything is trained."""
    path = tmp_path / "edgekit.toml"
    path.write_text('[data]\nsource = "digits"\n[model]\narchitecture = "mlp"\n[bench]\ndevice = "pi4"\n')
    with pytest.raises(UsageError, match=r"edgekit\.toml: unknown device 'pi4'.*edgekit device add"):
        load_config(path)
    Registry().add("pi4", "ssh://host")
    assert load_config(path).bench.device == "pi4"


@pytest.mark.parametrize("verb", ["show", "check", "setup", "remove", "collect"])
def test_an_unknown_device_is_a_wrong_use(verb: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the known ones and a suggestion."""
    assert main(["device", "add", "pi4", "ssh://host"]) == 0
    assert main(["device", verb, "pi"]) == 2
    assert "did you mean 'pi4'? Choose from: local, pi4" in capsys.readouterr().err


def test_show_says_what_is_known_of_a_board_that_is_off(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The entry all the same."""
    assert main(["device", "add", "gone", f"ssh://127.0.0.1:{free_port()}"]) == 0
    assert main(["device", "show", "gone", "--json"]) == 3
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])

    assert (shown["name"], shown["setup"]) == ("gone", None)
    assert "refuses the connection" in shown["error"]


def test_a_board_that_is_off_can_be_forgotten(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Remove says how; nothing is forgotten until then."""
    assert main(["device", "add", "gone", f"ssh://127.0.0.1:{free_port()}"]) == 0
    assert main(["device", "remove", "gone"]) == 3
    assert "edgekit device remove gone --forget" in capsys.readouterr().err
    assert "gone" in Registry().entries()
    assert main(["device", "remove", "gone", "--forget"]) == 0
    assert Registry().entries() == {}


def test_setup_from_a_folder_without_wheels_is_refused(
    at_board: SSHServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reaches the board's setup, and its refusal reaches the user."""
    (tmp_path / "wheels").mkdir()
    assert main(["device", "setup", "pi4", "--wheels", str(tmp_path / "wheels")]) in (2, 3)
    assert "edgekit: error: " in capsys.readouterr().err
    assert main(["device", "setup", "pi4", "--wheels", str(tmp_path / "none")]) == 2


def test_a_busy_board_says_who_holds_it(at_board: SSHServer, capsys: pytest.CaptureFixture[str]) -> None:
    """And is not usable until it is free."""
    lock = at_board.home / ".edgekit-device" / "lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(
            json.dumps({"holder": "ada@desk\x1b[2J", "verb": "bench", "since": "2026-11-24T09:00:00Z", "pid": 1})
        )
        file.flush()
        assert main(["device", "check", "pi4", "--json"]) == 3
    held = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main(["device", "check", "pi4", "--json"]) == 0
    free = json.loads(capsys.readouterr().out.splitlines()[-1])

    assert held["reason"].startswith("free: busy: ada@desk [2J runs bench since 2026-11-24T09:00:00Z")
    assert (free["usable"], free["reason"]) == (True, "")


def test_a_board_that_was_never_set_up(
    sshd: SSHServer, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is reached, its Python is found, and the line to type is the reason."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
    assert main(["device", "add", "pi4", sshd.address, "--check", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    facts = {finding["name"]: finding["ok"] for finding in found["findings"]}

    assert (facts["reached"], facts["setup"], facts["clock"]) == (True, False, True)
    assert found["reason"] == "setup: never set up. Run: edgekit device setup pi4"


def test_this_machine_can_be_checked_too(device_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By asking its device process."""
    monkeypatch.setenv("EDGEKIT_DEVICE_PYTHON", str(device_python))
    found = check_device("local")

    assert found.usable
    assert "litert" in found.findings[-1].found


class StrangeBoard:
    """A Connection that answers with facts of a test's choice."""

    name = "pi4"

    def __init__(self, facts: Mapping[str, str]) -> None:
        self.facts = facts

    def execute(self, command: Sequence[str], **_: object) -> Completed:
        """The facts, whatever is asked."""
        return Completed(0, "".join(f"{key}\t{value}\n" for key, value in self.facts.items()))

    def close(self) -> None:
        """Nothing to let go of."""


INFO = json.dumps({"board": {}, "runtimes": {"litert": "2.3.0"}})
YEAR_S = 365.25 * 86400


def of(monkeypatch: pytest.MonkeyPatch, facts: Mapping[str, str]) -> checkup.Checkup:
    """What a check makes of a board with these facts."""
    monkeypatch.setattr(checkup, "open_connection", lambda _: StrangeBoard({"info 0": INFO, **facts}))
    Registry().add("pi4", "ssh://host", force=True)
    return check_device("pi4")


@pytest.mark.parametrize(
    ("facts", "name", "ok", "found"),
    [
        ({"clock": str(int(time.time() - 5 * YEAR_S))}, "clock", None, "its clock is 5 years behind this host's"),
        ({"clock": str(int(time.time() + 3 * 3600 + 30))}, "clock", None, "its clock is 3 hours ahead of this host's"),
        ({"clock": "0"}, "clock", None, "years behind"),
        ({"clock": "-5"}, "clock", None, "years behind"),
        ({"governor": "powersave"}, "governor", None, "powersave"),
        ({"governor": "performance"}, "governor", True, "performance"),
        ({"throttled": "50005"}, "throttling", None, "under-voltage, throttled right now"),
        ({"throttled": "50000"}, "throttling", None, "not now; since it was started: under-voltage, throttled"),
        ({"vcgencmd": "throttled=0x0"}, "throttling", True, "none"),
        ({"memory": "20480"}, "free memory", None, "20 MB"),
        ({"disk": "1024"}, "free disk", False, "1 MB"),
        ({"disk": "10240000"}, "free disk", True, "10,000 MB"),
        ({"machine": "aarch64", "bits": "32"}, "board", True, "aarch64, 32-bit userland"),
        ({"model": "Raspberry Pi 4\x1b[2J"}, "board", True, "Raspberry Pi 4 [2J"),
        ({"info 0": "\x1b[31mrubbish"}, "runtimes", False, "edgekit-device does not answer: [31mrubbish"),
        ({"info 0": "[" * 9999}, "runtimes", False, "edgekit-device does not answer"),
        ({"info 0": '{"runtimes": {}}'}, "runtimes", False, "none installed"),
        ({"holder": "rubbish"}, "free", False, "busy: somebody measures on it"),
    ],
)
def test_what_is_made_of_a_board_s_facts(
    home: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, str], name: str, ok: bool | None, found: str
) -> None:
    """A remark, a reason not to measure, or all well; in printable characters."""
    looked = of(monkeypatch, facts)
    (finding,) = [item for item in looked.findings if item.name == name]

    assert finding.ok is ok
    assert found in finding.found
    assert finding.found.isprintable()
    assert looked.usable is (ok is not False)


@pytest.mark.parametrize("rubbish", ["", "x", "9" * 30, "\x1b[2J", "1z9", "-"])
def test_a_fact_that_is_rubbish_is_left_out(home: Path, monkeypatch: pytest.MonkeyPatch, rubbish: str) -> None:
    """No number is made up."""
    looked = of(monkeypatch, {key: rubbish for key in ("clock", "memory", "disk", "throttled", "vcgencmd")})
    names = {finding.name for finding in looked.findings}

    assert not names & {"clock", "throttling", "free memory", "free disk"}
    assert looked.usable


@pytest.mark.parametrize("verb", ["add", "list", "show", "check", "setup", "remove", "collect"])
def test_help_of_every_subcommand_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And that it can print JSON."""
    assert main(["device", verb, "--help"]) == 0
    shown = capsys.readouterr().out

    assert f"edgekit device {verb}" in shown.split("Example:")[1]
    assert "--json" in shown
