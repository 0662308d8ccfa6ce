"""A board behind ssh as a device: its work folder, what it is told, and the scripts that run on the poorest of systems."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgekit.devices import Device, RemoteTransport, SSHConnection, open_device
from edgekit.devices.address import SSHAddress
from edgekit.devices.registry import Registry
from edgekit.devices.remote_scripts import bootstrap, execute_script, fetch_script, send_script
from edgekit.devices.request import BenchRequest
from edgekit.errors import DeviceError, UsageError
from edgekit.store import file_sha256
from tests.edgekit.sshd import USER, Line, SSHServer
from tests.edgekit.test_ssh import address_at, settled, until

MEGABYTE = 1 << 20
Board = Callable[[str], None]


@pytest.fixture
def at_board(board: SSHServer, monkeypatch: pytest.MonkeyPatch) -> SSHServer:
    """A board that is set up, and reached by its own config."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(board.config))
    return board


@pytest.fixture
def play_device(at_board: SSHServer, tmp_path: Path) -> Board:
    """play_device(code): the board's Python runs ``code`` in place of edgekit-device."""

    def write(code: str) -> None:
        env = at_board.home / ".edgekit-device" / "env"
        env.unlink()
        (env / "bin").mkdir(parents=True)
        python = env / "bin" / "python"
        python.write_text(f"#!{sys.executable}\n{textwrap.dedent(code)}")
        python.chmod(0o755)

    return write


def connect(server: SSHServer, port: int | None = None) -> SSHConnection:
    """A connection called pi4."""
    return SSHConnection(address_at(port or server.port), "pi4")


def test_what_the_board_is_told(at_board: SSHServer, play_device: Board) -> None:
    """Where its home is, who measures, which folder is for the work; nothing of this host's Python."""
    play_device(
        """
        import json, os, sys
        names = ("EDGEKIT_DEVICE_HOME", "EDGEKIT_HOLDER")
        print(json.dumps({**{n: os.environ.get(n) for n in names}, "cwd": os.getcwd(), "argv": sys.argv[1:]}))
        """
    )
    transport = RemoteTransport(connect(at_board))
    told = json.loads(transport.run(["info", "a b"], deadline_s=60).stdout)
    transport.close()

    home = str(at_board.home / ".edgekit-device")
    assert told["EDGEKIT_DEVICE_HOME"] == home
    assert told["EDGEKIT_HOLDER"] == f"{getpass.getuser()}@{socket.gethostname()}"
    assert told["cwd"].startswith(f"{home}/work/")
    assert told["argv"] == ["-I", "-m", "edgekit_device", "info", "a b"]


def test_a_board_that_was_never_set_up_is_left_alone(sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the line to type is said: for a name, and for an address that has none yet."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
    before = sorted(sshd.home.rglob("*"))
    with pytest.raises(DeviceError, match=r"pi4 was never set up: .*Run: edgekit device setup pi4$"):
        RemoteTransport(connect(sshd), ".edgekit-elsewhere")
    with pytest.raises(DeviceError, match=r"Run: edgekit device add NAME ssh://\S+ && edgekit device setup NAME$"):
        open_device(sshd.address)

    assert sorted(sshd.home.rglob("*")) == before


def test_a_board_without_room_for_the_work_is_one_message(at_board: SSHServer) -> None:
    """Here a file stands where the work folders go; it stays."""
    work = at_board.home / ".edgekit-device" / "work"
    work.write_bytes(b"mine")
    with pytest.raises(DeviceError, match=r"pi4 has no place for the work to be done in \.edgekit-device/work: mkdir"):
        RemoteTransport(connect(at_board))

    assert work.read_bytes() == b"mine"


def test_nothing_is_left_on_the_board(at_board: SSHServer, tmp_path: Path) -> None:
    """Not even the folder of work folders, when nobody else works there."""
    (tmp_path / "a").write_bytes(b"a")
    transport = RemoteTransport(connect(at_board))
    other = RemoteTransport(connect(at_board))
    transport.put(tmp_path / "a", "a")
    transport.close()
    assert (at_board.home / ".edgekit-device" / "work").is_dir()
    other.close()

    assert [path.name for path in (at_board.home / ".edgekit-device").iterdir()] == ["env"]


def test_what_killed_hosts_left_is_swept_after_a_day(at_board: SSHServer) -> None:
    """What is younger may be in use."""
    work = at_board.home / ".edgekit-device" / "work"
    for name, age_s in (
        ("old", 2 * 86400 + 60),
        ("young", 3600),
        ("incoming/.old.part", 2 * 86400 + 60),
        ("incoming/.new.part", 9),
    ):
        place = work / name
        place.mkdir(parents=True) if "incoming" not in name else place.parent.mkdir(exist_ok=True)
        if "incoming" in name:
            place.write_bytes(b"x")
        else:
            (place / "model").write_bytes(b"x")
        os.utime(place, (time.time() - age_s,) * 2)
    RemoteTransport(connect(at_board)).close()

    assert sorted(str(path.relative_to(work)) for path in work.rglob("*")) == [
        "incoming",
        "incoming/.new.part",
        "young",
        "young/model",
    ]


def test_a_copy_goes_on_with_the_next_command(at_board: SSHServer, tmp_path: Path) -> None:
    """Another transport, hours later: what arrived of a large file of samples is not sent again."""
    (tmp_path / "samples.npz").write_bytes(os.urandom(4 * MEGABYTE))
    line = Line(at_board.port, cut_after=3 * MEGABYTE)
    at_board.trust(line.port)
    with contextlib.closing(line):
        first = RemoteTransport(connect(at_board, line.port))
        with pytest.raises(DeviceError, match="run the same command again"):
            first.put(tmp_path / "samples.npz", "samples.npz")
        first.close()
        incoming = at_board.home / ".edgekit-device" / "work" / "incoming"
        assert until(lambda: settled(incoming))
        (part,) = incoming.iterdir()
        arrived, before = part.stat().st_size, line.sent
        second = RemoteTransport(connect(at_board, line.port))
        second.put(tmp_path / "samples.npz", "samples.npz")
        sent = line.sent - before
        second.close()

    assert arrived > 0
    assert sent == pytest.approx(4 * MEGABYTE - arrived, abs=80_000)


def test_a_board_that_went_away_does_not_stop_us_from_closing(at_board: SSHServer) -> None:
    """Its work folder is swept by whoever comes next."""
    line = Line(at_board.port)
    at_board.trust(line.port)
    transport = RemoteTransport(connect(at_board, line.port))
    line.close()
    transport.close()
    transport.close()
    shutil.rmtree(at_board.home / ".edgekit-device" / "work")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", r"pi4 was killed \(SIGKILL\) on dense\.tflite"),
        ("import os; os.abort()", r"was killed \(SIGABRT\)"),
        ("print('\\x1b[2J\\x07' * 1000)", "answered rubbish"),
        ("print('{' * 3_000_000)", "answered rubbish"),
        (
            "import sys; sys.stderr.write('edgekit-device: error: \\x1b[31mno\\n'); sys.exit(3)",
            r"failed \(exit 3\) .*no$",
        ),
        ("import sys; sys.exit(255)", r"failed \(exit 255\)"),
        ("import time; time.sleep(60)", r"did not finish dense\.tflite within 1 s"),
    ],
)
def test_a_board_that_misbehaves_is_one_message(
    at_board: SSHServer, play_device: Board, float_model: Path, code: str, message: str
) -> None:
    """As a local device that does."""
    play_device(code)
    request = BenchRequest(deadline_s=1 if "sleep" in code else 60)
    with Device(RemoteTransport(connect(at_board))) as device, pytest.raises(DeviceError, match=message) as caught:
        device.bench(float_model, request)

    assert str(caught.value).isprintable()


def test_a_device_is_opened_by_its_name(
    at_board: SSHServer, float_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noted when it was seen."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path))
    Registry().add("pi4", at_board.address)
    with open_device("pi4") as device:
        report = device.bench(float_model, BenchRequest(runs=9))

    assert device.name == "pi4"
    assert report.model.sha256 == file_sha256(float_model)
    assert Registry().entry("pi4").seen
    with pytest.raises(UsageError, match=r"did you mean 'pi4'.*edgekit device add"):
        open_device("pi44")


# -- the scripts on the poorest of systems --------------------------------------------------------------------------

NEEDED = ("sh", "cat", "dd", "head", "wc", "mkdir", "mv", "rm", "mktemp", "dirname", "sleep")
SHELLS = [path for name in ("dash", "bash", "busybox") if (path := shutil.which(name))]


@pytest.fixture
def tools(tmp_path: Path) -> Callable[[Sequence[str]], Path]:
    """tools(names): a folder for PATH with these alone."""

    def link(names: Sequence[str]) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in names:
            found = os.path.realpath(sys.executable) if name == "python3" else shutil.which(name)
            assert found is not None
            (folder / name).symlink_to(found)
        return folder

    return link


def without_usual_places(script: str) -> str:
    """The bootstrap of ``script``, its tools looked for on the PATH alone."""
    command = bootstrap(script)
    assert "PATH=$PATH:/usr/bin:/bin; " in command
    return command.replace("PATH=$PATH:/usr/bin:/bin; ", "")


def run_script(script: str, data: bytes, path: Path, shell: str) -> subprocess.CompletedProcess[bytes]:
    """As sshd would run it, with a system's own sh."""
    sh = [shell, "sh"] if shell.endswith("busybox") else [shell]
    return subprocess.run(
        [*sh, "-c", without_usual_places(script)],
        input=script.encode() + data,
        capture_output=True,
        timeout=60,
        env={"PATH": str(path), "HOME": str(path)},
        check=False,
    )


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("extra", [(), ("sha256sum",), ("python3",), ("setsid", "flock", "df", "awk")])
def test_files_need_nothing_that_a_small_system_lacks(
    tools: Callable[[Sequence[str]], Path], tmp_path: Path, shell: str, extra: tuple[str, ...]
) -> None:
    """Without a digest the size is what is checked; with one, the content is."""
    content = os.urandom(300_000)
    path, target, sha256 = tools((*NEEDED, *extra)), tmp_path / "to" / "it's", hashlib.sha256(content).hexdigest()
    script = send_script("mark", str(target), f"{target}.part", len(content), sha256, resume=False)
    sent = run_script(script, content, path, shell)
    fetched = run_script(fetch_script("mark", str(target)), b"", path, shell)
    wrong = send_script("mark", str(target) + "2", f"{target}.part", len(content), "0" * 64, resume=False)
    refused = run_script(wrong, content, path, shell)

    assert sent.stdout.endswith(b"\nmark done\n"), sent.stderr
    assert target.read_bytes() == content
    hashed = bool({"sha256sum", "python3"} & set(extra))
    assert (
        fetched.stdout == b"\nmark size 300000\n" + content + f"\nmark sum {sha256 if hashed else 'unknown'}\n".encode()
    )
    assert refused.stdout.endswith(b"mark failed damaged\n" if hashed else b"mark done\n")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("extra", [(), ("setsid",)])
def test_commands_need_nothing_that_a_small_system_lacks(
    tools: Callable[[Sequence[str]], Path], tmp_path: Path, shell: str, extra: tuple[str, ...]
) -> None:
    """Without setsid the command runs all the same."""
    path = tools((*NEEDED, *extra))
    script = execute_script(
        "mark", ["sh", "-c", "cat; exit 5"], folder=str(tmp_path), environment={}, bytes_in=5, deadline_s=60
    )
    sh = [shell, "sh"] if shell.endswith("busybox") else [shell]
    with subprocess.Popen(
        [*sh, "-c", without_usual_places(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": str(path), "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(script.encode() + b"hello")
        process.stdin.flush()  # and not closed: that would end the command
        assert process.stdout.read() == b"\nmark begin\nhello\nmark ended 5\n"

    assert [item.name for item in tmp_path.iterdir()] == ["bin"]


def test_no_address_reaches_ssh_as_an_option(at_board: SSHServer) -> None:
    """Even one that was made by hand."""
    with pytest.raises(DeviceError, match="is not reached"):
        SSHConnection(SSHAddress("-V", USER), "pi4").execute(["true"], deadline_s=5)
