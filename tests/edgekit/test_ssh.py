"""A real sshd: commands to the byte, ended whatever happens; files whole or absent, going on where they stopped."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edgekit.devices import SSHConnection, ssh, ssh_copy, ssh_master
from edgekit.devices.address import SSHAddress, parse_address
from edgekit.errors import DeviceError, UsageError
from tests.edgekit.sshd import USER, Line, SSHServer, free_port, needed_ssh, ssh_server

NASTY = ("", "a b", "it's", '"$HOME"', "`id`", "a\nb", "-n", "*", "\\", "é\t\x1b[31m", "!x", "~")
MEGABYTE = 1 << 20


def address_at(port: int, host: str = "127.0.0.1", user: str | None = USER) -> SSHAddress:
    """Where a server listens."""
    return SSHAddress(host, user, port)


@pytest.fixture(scope="module")
def connection(sshd: SSHServer) -> Iterator[SSHConnection]:
    """To the server, by its own config; the tests share it, as variants do."""
    with pytest.MonkeyPatch.context() as patch, SSHConnection(address_at(sshd.port), "pi4") as made:
        patch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
        yield made


@pytest.fixture
def there(sshd: SSHServer, tmp_path: Path) -> Path:
    """A folder on the board for one test alone."""
    folder = sshd.home / tmp_path.name
    folder.mkdir()
    return folder


def running_from(folder: Path) -> list[psutil.Process]:
    """Processes in ``folder``, but for those that are dead already."""
    found = []
    for process in psutil.process_iter(["cwd", "status"]):
        if process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def until(condition: object, seconds: float = 15) -> bool:
    """Whether it came true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


# -- commands -------------------------------------------------------------------------------------------------------


def test_arguments_input_environment_and_folder_arrive_to_the_byte(connection: SSHConnection, there: Path) -> None:
    """No shell on the way changes any of them."""
    data = bytes(range(256)) * 4096
    script = 'printf "%s|" "$@" "$ODD"; pwd; cat >seen'
    done = connection.execute(
        ["sh", "-c", script, "sh", *NASTY],
        deadline_s=30,
        stdin=data,
        environment={"ODD": "it's\n$HOME"},
        folder=str(there),
    )

    assert done.exit_code == 0, done.stderr
    assert done.stdout == "".join(f"{text}|" for text in (*NASTY, "it's\n$HOME")) + f"{there}\n"
    assert (there / "seen").read_bytes() == data


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 1"], 1),
        (["sh", "-c", "exit 255"], 255),
        (["no-such-program"], 127),
        (["/etc/passwd"], 126),
        (["sh", "-c", "kill -9 $$"], -9),
        (["sh", "-c", "kill -11 $$"], -11),
    ],
)
def test_how_a_command_ended_is_told(connection: SSHConnection, command: list[str], code: int) -> None:
    """Also with 255, which ssh itself uses for a lost connection."""
    assert connection.execute(command, deadline_s=30).exit_code == code


def test_output_and_errors_are_apart_and_as_they_were(connection: SSHConnection) -> None:
    """Without a newline that was not there, with control characters as they came."""
    done = connection.execute(["sh", "-c", r"printf 'a\033[2J\000'; printf 'b\r' >&2"], deadline_s=30)

    assert (done.stdout, done.stderr) == ("a\x1b[2J\0", "b\r")


def test_a_relative_folder_starts_at_the_home(connection: SSHConnection, sshd: SSHServer, there: Path) -> None:
    """And no folder is the home itself."""
    assert connection.home == str(sshd.home)
    assert connection.execute(["pwd"], deadline_s=30).stdout == f"{sshd.home}\n"
    assert connection.execute(["pwd"], deadline_s=30, folder=there.name).stdout == f"{there}\n"


def test_home_is_what_the_session_says_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that begins elsewhere than HOME says: commands and files go by HOME, as what Python finds there does."""
    home = tmp_path / "home"
    home.mkdir()
    login = tmp_path / "login"
    login.write_text(f'#!/bin/sh\nexport HOME={home}\ncd /\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    login.chmod(0o755)
    (tmp_path / "sent").write_bytes(b"content")
    with ssh_server(tmp_path / "sshd", extra=f"ForceCommand {login}") as server:
        monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(server.config))
        with SSHConnection(address_at(server.port)) as link:
            link.send(tmp_path / "sent", "there/received")
            link.fetch("there/received", tmp_path / "back")
            listed = link.execute(["ls", "there"], deadline_s=30).stdout

    assert (home / "there" / "received").read_bytes() == (tmp_path / "back").read_bytes() == b"content"
    assert listed == "received\n"


def test_a_folder_that_is_not_there_is_said(connection: SSHConnection) -> None:
    """The command is not run elsewhere instead."""
    with pytest.raises(DeviceError, match=r"pi4 cannot run true where it should: .*none"):
        connection.execute(["true"], deadline_s=30, folder="none")


@pytest.mark.parametrize(
    "wrong", [{"command": []}, {"command": ["a\0b"]}, {"environment": {"A=B": "c"}}, {"environment": {"A": "\0"}}]
)
def test_what_no_system_can_run_is_refused_before_anything_is_sent(
    connection: SSHConnection, wrong: dict[str, object]
) -> None:
    """As a wrong use."""
    facts: dict[str, object] = {"command": ["true"], **wrong}
    with pytest.raises(UsageError):
        connection.execute(facts.pop("command"), deadline_s=1, **facts)  # type: ignore[arg-type]


FAMILY = ["sh", "-c", "sleep 300 & sleep 300 & echo up; sleep 300"]


def test_the_deadline_ends_a_command_with_its_children(connection: SSHConnection, there: Path) -> None:
    """What it printed comes back, and the connection works on."""
    done = connection.execute(FAMILY, deadline_s=1, folder=str(there))

    assert (done.timed_out, done.exit_code, done.stdout) == (True, -9, "up\n")
    assert until(lambda: running_from(there) == [])
    assert connection.execute(["true"], deadline_s=30).exit_code == 0


def test_a_large_input_that_nobody_reads_holds_nothing_up(connection: SSHConnection) -> None:
    """Neither the deadline nor the command's end waits for it."""
    assert connection.execute(["true"], deadline_s=30, stdin=b"x" * 4 * MEGABYTE).exit_code == 0


def test_what_a_command_leaves_running_is_ended(connection: SSHConnection, there: Path) -> None:
    """With the command, not at the deadline."""
    started = time.monotonic()
    done = connection.execute(["sh", "-c", "sleep 300 & exit 3"], deadline_s=60, folder=str(there))

    assert done.exit_code == 3
    assert time.monotonic() - started < 30
    assert until(lambda: running_from(there) == [])


def test_a_daemon_that_keeps_the_output_open_does_not_hold_us(connection: SSHConnection, there: Path) -> None:
    """It has left the group, so it lives; we have our answer."""
    script = f"setsid sleep 300 & echo $! >{shlex.quote(str(there / 'pid'))}; echo done"
    started = time.monotonic()
    try:
        done = connection.execute(["sh", "-c", script], deadline_s=60)
        assert (done.exit_code, done.stdout) == (0, "done\n")
        assert time.monotonic() - started < 30
    finally:
        os.kill(int((there / "pid").read_text()), signal.SIGKILL)


def test_a_command_that_never_stops_printing_is_ended(
    connection: SSHConnection, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before it has filled this machine's disk."""
    monkeypatch.setattr(ssh, "OUTPUT_CAP_BYTES", MEGABYTE)
    done = connection.execute(["yes"], deadline_s=60, folder=str(there))

    assert (done.flooded, done.timed_out) == (True, False)
    assert len(done.stdout) <= MEGABYTE
    assert until(lambda: running_from(there) == [])


RUN_AND_SAY = """
import sys
from edgekit.devices import SSHConnection
from edgekit.devices.address import parse_address
with SSHConnection(parse_address(sys.argv[1]), "pi4") as link:
    assert link.home
    print(link._master._folder, flush=True)
    link.execute(["sh", "-c", "sleep 300 & sleep 300"], deadline_s=200, folder=sys.argv[2])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_command_ends_with_us(sshd: SSHServer, there: Path, number: signal.Signals) -> None:
    """After Ctrl-C, and when we are killed and can do nothing more: the connection goes, and with it the command."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_AND_SAY, sshd.address, str(there)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **sshd.environment},
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        socket_folder = Path(process.stdout.readline().strip())
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
        assert until(lambda: len(running_from(there)) >= 3)
        os.killpg(process.pid, number)
        process.wait(timeout=20)

    assert until(lambda: running_from(there) == [])
    assert until(lambda: not any(str(socket_folder) in " ".join(p.info["cmdline"] or []) for p in clients()))
    assert number == signal.SIGKILL or not socket_folder.exists()
    shutil.rmtree(socket_folder, ignore_errors=True)


def clients() -> list[psutil.Process]:
    """Every ssh of this machine."""
    return [p for p in psutil.process_iter(["name", "cmdline"]) if p.info["name"] == "ssh"]


def test_a_cut_line_ends_the_command_and_is_said(sshd: SSHServer, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next command finds a new connection."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
    line = Line(sshd.port)
    sshd.trust(line.port)
    with SSHConnection(address_at(line.port), "pi4") as link, contextlib.closing(line):
        assert link.home
        line.cut_after = line.sent + 20_000
        with pytest.raises(
            DeviceError, match=r"connection to pi4 was lost while it ran sh.*run the same command again"
        ):
            link.execute(
                ["sh", "-c", "cat >/dev/null; sleep 300"], deadline_s=60, stdin=b"x" * 40_000, folder=str(there)
            )
        assert until(lambda: running_from(there) == [])
        assert link.execute(["true"], deadline_s=30).exit_code == 0


def test_a_line_that_falls_silent_is_noticed_on_both_sides(
    sshd: SSHServer, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here by ssh's own questions, there by the timer."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
    monkeypatch.setitem(ssh_master.OURS, "ServerAliveInterval", "1")
    monkeypatch.setitem(ssh_master.OURS, "ServerAliveCountMax", "2")
    monkeypatch.setattr("edgekit.devices.remote_scripts.GRACE_S", -55)
    line = Line(sshd.port)
    sshd.trust(line.port)
    with SSHConnection(address_at(line.port), "pi4") as link, contextlib.closing(line):
        assert link.home
        line.silent_after = line.sent + 2000
        with pytest.raises(DeviceError, match="connection to pi4 was lost while it ran sh"):
            link.execute(["sh", "-c", "sleep 300"], deadline_s=60, stdin=b"x" * 1000, folder=str(there))
        assert until(lambda: running_from(there) == [], 20)


def test_a_killed_session_is_a_lost_connection(connection: SSHConnection, sshd: SSHServer, there: Path) -> None:
    """When the board's sshd dies under it, the command there dies too."""
    script = "sleep 300 & kill -9 $(ps -o ppid= -p $(ps -o ppid= -p $$)); sleep 300"
    with pytest.raises(DeviceError, match="was lost while it ran sh"):
        connection.execute(["sh", "-c", script], deadline_s=60, folder=str(there))

    assert until(lambda: running_from(there) == [])
    assert connection.execute(["true"], deadline_s=30).exit_code == 0


# -- what stands between us and a shell -------------------------------------------------------------------------------

SHELLS = [path for name in ("sh", "dash", "bash", "zsh", "fish", "tcsh", "ksh") if (path := shutil.which(name))]
CHATTY = 'echo "welcome \x1b[31m"; echo "edgekit-0 ended 7"; printf "no newline"; echo noise >&2\n'


@pytest.mark.parametrize("shell", SHELLS)
def test_any_login_shell_will_do(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads one line that means the same to all of them."""
    needed_ssh()
    with ssh_server(tmp_path / "server", shell=shell) as server:
        monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(server.config))
        with SSHConnection(address_at(server.port)) as link:
            done = link.execute(["printf", "%s|", *NASTY], deadline_s=30)

    assert done.stdout == "".join(f"{text}|" for text in NASTY)


def test_banners_and_a_talkative_bashrc_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in what a command prints, nor in files."""
    needed_ssh()
    (tmp_path / "banner").write_text("Authorized use only \x1b[2J\n" * 50)
    with ssh_server(tmp_path / "server", shell=shutil.which("bash") or "", extra=f"Banner {tmp_path}/banner") as server:
        (server.home / ".bashrc").write_text(CHATTY)
        monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(server.config))
        (tmp_path / "file").write_bytes(os.urandom(300_000))
        with SSHConnection(address_at(server.port)) as link:
            done = link.execute(["sh", "-c", "echo out; echo err >&2; exit 4"], deadline_s=30)
            link.send(tmp_path / "file", "there")
            link.fetch("there", tmp_path / "back")

        assert (server.folder / "home/there").read_bytes() == (tmp_path / "file").read_bytes()
    assert (done.exit_code, done.stdout, done.stderr) == (4, "out\n", "err\n")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()


def test_a_login_without_a_useful_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own tools are found; the command gets the PATH there was, so that what is not on it is not run."""
    needed_ssh()
    with ssh_server(tmp_path / "server", path="/nowhere") as server:
        monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(server.config))
        (tmp_path / "a").write_bytes(b"a")
        with SSHConnection(address_at(server.port), "pi4") as link:
            done = link.execute(["/usr/bin/printenv"], deadline_s=30, stdin=b"in")
            missing = link.execute(["python3", "-V"], deadline_s=30)
            link.send(tmp_path / "a", "b")
            link.fetch("b", tmp_path / "c")

    assert "PATH=/nowhere" in done.stdout.splitlines()
    assert not [line for line in done.stdout.splitlines() if line.startswith("path=")]
    assert missing.exit_code == 127
    assert (tmp_path / "c").read_bytes() == b"a"


@pytest.mark.parametrize("forced", ["echo hello", "/usr/sbin/nologin", "internal-sftp"])
def test_an_account_without_a_shell_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: str) -> None:
    """It let us in, but runs something else."""
    needed_ssh()
    monkeypatch.setattr(ssh_master, "LOGIN_S", 5.0)
    with ssh_server(tmp_path / "server", extra=f"ForceCommand {forced}") as server:
        monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(server.config))
        with pytest.raises(DeviceError, match=r"login shell|ordinary shell") as caught:
            SSHConnection(address_at(server.port), "pi4").execute(["true"], deadline_s=5)

    assert str(caught.value).isprintable()


def test_a_host_s_own_config_does_not_break_a_command(sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alias for people, with a terminal, a forward and a command of its own."""
    alias = (
        f"Host mine\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {USER}\n  RemoteCommand tmux attach\n"
        "  RequestTTY force\n  LocalForward 1 localhost:1\n  ControlMaster auto\n  ControlPath /nowhere/%C\n"
        "  ControlPersist 1h\n  PermitLocalCommand yes\n  LocalCommand false\n  LogLevel QUIET\n"
    )
    config = sshd.folder / "alias_config"
    config.write_text(alias + sshd.config.read_text())
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(config))
    with SSHConnection(SSHAddress("mine"), "mine") as link:
        done = link.execute(["sh", "-c", "echo ok; test -t 0"], deadline_s=30)

    assert (done.exit_code, done.stdout) == (1, "ok\n")


def test_a_jump_host_of_the_config_is_taken(sshd: SSHServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a second sshd, by aliases alone; and when the jump does not let us through, that is said."""
    with ssh_server(tmp_path / "jump") as jump:
        both = tmp_path / "known"
        both.write_text(sshd.known_hosts.read_text() + jump.known_hosts.read_text())
        config = tmp_path / "config"
        config.write_text(
            f"Host board\n  HostName 127.0.0.1\n  Port {sshd.port}\n  ProxyJump jump\n"
            f"  IdentityFile {sshd.folder / 'user_key'}\n"
            f"Host jump\n  HostName 127.0.0.1\n  Port {jump.port}\n  IdentityFile {jump.folder / 'user_key'}\n"
            f"Host *\n  User {USER}\n  IdentitiesOnly yes\n  UserKnownHostsFile {both}\n  GlobalKnownHostsFile /dev/null\n"
        )
        monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(config))
        with SSHConnection(SSHAddress("board"), "board") as link:
            assert link.home == str(sshd.home)
            assert any("sshd" in p.name() for p in jump.sessions())
        (jump.folder / "authorized_keys").write_text("")
        with pytest.raises(
            DeviceError, match=r"through the jump host jump of your SSH config: jump does not let you in.*"
        ):
            assert SSHConnection(SSHAddress("board"), "board").home
        shutil.copy(jump.folder / "user_key.pub", jump.folder / "authorized_keys")
        config.write_text(config.read_text().replace(f"Port {sshd.port}", f"Port {free_port()}"))
        with pytest.raises(DeviceError, match=r"through the jump host jump .*: board refuses the connection"):
            assert SSHConnection(SSHAddress("board"), "board").home


# -- not reached -----------------------------------------------------------------------------------------------------


def refused(server: SSHServer, address: SSHAddress, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said when ``address`` is not reached."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(server.config))
    started = time.monotonic()
    link = SSHConnection(address, "pi4")
    with pytest.raises(DeviceError) as caught:
        link.execute(["true"], deadline_s=5)
    assert time.monotonic() - started < 30
    assert str(caught.value).isprintable()
    link.close()
    return str(caught.value)


def by_hand(server: SSHServer) -> str:
    """What one would type after ssh."""
    return f"-F {server.config} -p {server.port} {USER}@127.0.0.1"


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[SSHServer]:
    """A server whose keys a test may spoil."""
    needed_ssh()
    with ssh_server(tmp_path / "server") as server:
        yield server


def test_an_unknown_host_key_is_never_accepted(own_sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the user who looks at it; nothing is written to the known hosts."""
    own_sshd.known_hosts.write_text("")
    said = refused(own_sshd, address_at(own_sshd.port), monkeypatch)

    assert f"edgekit accepts none on its own. Look at it and say yes, once: ssh {by_hand(own_sshd)}" in said
    assert own_sshd.known_hosts.read_text() == ""


def test_another_host_key_is_a_warning(own_sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to type if one knows why."""
    other = (own_sshd.folder / "other_key.pub").read_text()
    own_sshd.known_hosts.write_text(f"[127.0.0.1]:{own_sshd.port} {other}")
    said = refused(own_sshd, address_at(own_sshd.port), monkeypatch)

    assert "shows another host key than the one you know it by" in said
    assert f'ssh-keygen -f "{own_sshd.known_hosts}" -R "[127.0.0.1]:{own_sshd.port}"; ssh {by_hand(own_sshd)}' in said


def test_a_key_that_is_not_let_in(own_sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No password is asked for: there is nobody to type one."""
    own_sshd.write_config(key="other_key")
    said = refused(own_sshd, address_at(own_sshd.port), monkeypatch)

    assert "does not let you in" in said
    assert f"ssh-copy-id {by_hand(own_sshd)}" in said


def test_a_key_that_others_can_read(own_sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ssh does not use it, and says so among much else."""
    key = own_sshd.folder / "user_key"
    key.chmod(0o644)

    assert f"chmod 600 {key}" in refused(own_sshd, address_at(own_sshd.port), monkeypatch)


def test_a_closed_port(own_sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is there, sshd is not."""
    said = refused(own_sshd, address_at(1), monkeypatch)

    assert "127.0.0.1 port 1 refuses the connection" in said
    assert "systemctl enable --now ssh" in said


def test_an_unknown_host(own_sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is in the message, and how to look for it."""
    said = refused(own_sshd, SSHAddress("no-such-host.invalid"), monkeypatch)

    assert "no host no-such-host.invalid was found" in said


def test_a_host_that_takes_the_call_and_says_nothing(own_sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the time to connect."""
    monkeypatch.setitem(ssh_master.OURS, "ConnectTimeout", "3")
    line = Line(own_sshd.port)
    line.silent_after = 0
    with contextlib.closing(line):
        assert "does not answer" in refused(own_sshd, address_at(line.port), monkeypatch)


def test_a_server_of_another_kind(own_sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is cut before anything is said."""
    line = Line(own_sshd.port, cut_after=0)
    with contextlib.closing(line):
        assert "hung up before anyone was let in" in refused(own_sshd, address_at(line.port), monkeypatch)


def test_a_config_that_ssh_does_not_take(own_sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that is wrong is told."""
    own_sshd.write_config("NoSuchOption yes")
    said = refused(own_sshd, address_at(own_sshd.port), monkeypatch)

    assert "ssh does not take its configuration" in said
    assert "NoSuchOption" in said.replace("nosuchoption", "NoSuchOption")


def test_a_config_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable's value is the user's to change."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"EDGEKIT_SSH_CONFIG names .*none.*no file"):
        SSHConnection(SSHAddress("host")).execute(["true"], deadline_s=5)


def test_no_ssh_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the line that installs it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="sudo apt install openssh-client"):
        SSHConnection(SSHAddress("host")).execute(["true"], deadline_s=5)


def test_a_server_that_lets_one_session_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a shared connection every command has its own: slower, and right."""
    needed_ssh()
    with ssh_server(tmp_path / "server", extra="MaxSessions 1") as server:
        monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(server.config))
        with SSHConnection(address_at(server.port), "pi4") as link:
            assert link.execute(["echo", "hello"], deadline_s=30).stdout == "hello\n"


def test_a_temporary_folder_with_a_long_path(sshd: SSHServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path holds 104 bytes on some systems: another folder is taken."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
    with SSHConnection(address_at(sshd.port)) as link:
        assert link.execute(["true"], deadline_s=30).exit_code == 0


def test_closing_twice_leaves_no_process_and_no_socket(connection: SSHConnection) -> None:
    """And a closed connection opens again when it is used."""
    assert connection.home
    folder = connection._master._folder  # type: ignore[union-attr]
    connection.close()
    connection.close()

    assert not folder.exists()
    assert connection.execute(["true"], deadline_s=30).exit_code == 0


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, ssh_copy.RESUMED_FROM_BYTES - 1, ssh_copy.RESUMED_FROM_BYTES, 3 * MEGABYTE + 1])
def test_a_file_goes_there_and_comes_back(connection: SSHConnection, there: Path, tmp_path: Path, size: int) -> None:
    """To the byte, into a folder that is made; nothing else is left beside it."""
    (tmp_path / "a").write_bytes(os.urandom(size))
    connection.send(tmp_path / "a", f"{there.name}/deep er/it's -n")
    connection.fetch(f"{there.name}/deep er/it's -n", tmp_path / "b")

    assert (there / "deep er/it's -n").read_bytes() == (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert [path.name for path in (there / "deep er").iterdir()] == ["it's -n"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_copy_goes_on_where_it_stopped(
    sshd: SSHServer, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that is cut after two of three megabytes carries only the third the next time; and nothing the time after."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
    (tmp_path / "a").write_bytes(os.urandom(3 * MEGABYTE))
    line = Line(sshd.port, cut_after=2 * MEGABYTE)
    sshd.trust(line.port)
    with contextlib.closing(line), SSHConnection(address_at(line.port), "pi4") as link:
        with pytest.raises(DeviceError, match=r"lost while a was copied there.*run the same command again"):
            link.send(tmp_path / "a", str(there / "a"))
        assert until(lambda: settled(there))
        (part,) = there.iterdir()
        arrived = part.stat().st_size
        before = line.sent
        link.send(tmp_path / "a", str(there / "a"))
        second, before = line.sent - before, line.sent
        link.send(tmp_path / "a", str(there / "a"))
        third = line.sent - before

    assert 0 < arrived < 2 * MEGABYTE  # the rest lay in the buffers of the sshd that was cut off
    assert second == pytest.approx(3 * MEGABYTE - arrived, abs=60_000)
    assert third < 60_000
    assert (there / "a").read_bytes() == (tmp_path / "a").read_bytes()
    assert [path.name for path in there.iterdir()] == ["a"]


def settled(folder: Path) -> bool:
    """Whether nothing grows in ``folder`` any more."""
    before = sum(path.stat().st_size for path in folder.iterdir())
    time.sleep(0.2)
    return sum(path.stat().st_size for path in folder.iterdir()) == before


def test_a_slow_line_is_no_lost_one(
    sshd: SSHServer, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as something moves."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
    monkeypatch.setattr(ssh_copy, "STALL_S", 2.0)
    (tmp_path / "a").write_bytes(os.urandom(600_000))
    line = Line(sshd.port, bytes_per_s=200_000)
    sshd.trust(line.port)
    with contextlib.closing(line), SSHConnection(address_at(line.port), "pi4") as link:
        link.send(tmp_path / "a", str(there / "a"))

    assert (there / "a").read_bytes() == (tmp_path / "a").read_bytes()


def test_a_line_on_which_nothing_moves_is_given_up(
    sshd: SSHServer, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there already stays."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
    monkeypatch.setattr(ssh_copy, "STALL_S", 0.7)
    (tmp_path / "a").write_bytes(os.urandom(3 * MEGABYTE))
    line = Line(sshd.port)
    sshd.trust(line.port)
    with contextlib.closing(line), SSHConnection(address_at(line.port), "pi4") as link:
        assert link.home
        line.silent_after = line.sent + MEGABYTE
        with pytest.raises(DeviceError, match=r"lost while a was copied there \(nothing moved"):
            link.send(tmp_path / "a", str(there / "a"))

    assert not (there / "a").exists()


def test_two_that_send_the_same_file_do_not_spoil_it(connection: SSHConnection, there: Path, tmp_path: Path) -> None:
    """The second goes on with a copy of what the first has."""
    content = os.urandom(MEGABYTE)
    (tmp_path / "a").write_bytes(content)
    part = there / f".{hashlib.sha256(content).hexdigest()[:32]}.part"
    part.write_bytes(content[:500_000])
    with part.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        connection.send(tmp_path / "a", str(there / "a"))

    assert (there / "a").read_bytes() == content
    assert part.read_bytes() == content[:500_000]


def test_what_arrives_damaged_is_not_kept(connection: SSHConnection, there: Path, tmp_path: Path) -> None:
    """Found by the SHA-256; the next copy begins anew."""
    content = os.urandom(MEGABYTE)
    (tmp_path / "a").write_bytes(content)
    (there / f".{hashlib.sha256(content).hexdigest()[:32]}.part").write_bytes(b"\0" * 1000)
    with pytest.raises(DeviceError, match="cannot copy a to pi4: it arrived damaged"):
        connection.send(tmp_path / "a", str(there / "a"))
    assert list(there.iterdir()) == []
    connection.send(tmp_path / "a", str(there / "a"))
    assert (there / "a").read_bytes() == content


@pytest.fixture
def small_disk(there: Path) -> Iterator[Path]:
    """A file system of one megabyte on the board."""
    disk = there / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "edgekit", str(disk)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("only root may mount a small file system to fill")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("over", [300, MEGABYTE], ids=["while it is written", "before"])
def test_a_full_disk_is_said_and_left_as_it_was(
    connection: SSHConnection, small_disk: Path, tmp_path: Path, over: int
) -> None:
    """Whether it shows before the first byte or at the last one."""
    (tmp_path / "a").write_bytes(os.urandom(MEGABYTE + over))
    with pytest.raises(DeviceError, match=r"cannot copy a to pi4: its disk is full.*[Ff]ree some space"):
        connection.send(tmp_path / "a", str(small_disk / "a"))

    assert list(small_disk.iterdir()) == []
    (tmp_path / "b").write_bytes(os.urandom(1000))
    connection.send(tmp_path / "b", str(small_disk / "b"))


def test_a_file_where_a_folder_is_needed_and_the_other_way_round(
    connection: SSHConnection, there: Path, tmp_path: Path
) -> None:
    """Neither is written over."""
    (tmp_path / "a").write_bytes(b"a")
    (there / "file").write_bytes(b"mine")
    (there / "folder").mkdir()
    with pytest.raises(DeviceError, match="a file stands where a folder is needed"):
        connection.send(tmp_path / "a", str(there / "file" / "a"))
    with pytest.raises(DeviceError, match="a folder has that name there"):
        connection.send(tmp_path / "a", str(there / "folder"))

    assert (there / "file").read_bytes() == b"mine"
    assert list((there / "folder").iterdir()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "did not write x: there is no such file"),
        (lambda path: path.mkdir(), "did not write x: it is no file"),
        (lambda path: os.mkfifo(path), "did not write x: it is no file"),
    ],
)
def test_what_cannot_be_fetched_is_said(
    connection: SSHConnection, there: Path, tmp_path: Path, make: object, message: str
) -> None:
    """And leaves nothing here."""
    make(there / "x")  # type: ignore[operator]
    with pytest.raises(DeviceError, match=message):
        connection.fetch(str(there / "x"), tmp_path / "x")

    assert list(tmp_path.iterdir()) == []


def test_a_fetch_that_is_cut_leaves_nothing(
    sshd: SSHServer, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stood there before stands there still."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
    (there / "a").write_bytes(os.urandom(8 * MEGABYTE))
    (tmp_path / "a").write_bytes(b"old")
    line = Line(sshd.port)
    sshd.trust(line.port)
    with contextlib.closing(line), SSHConnection(address_at(line.port), "pi4") as link:
        assert link.home
        line.cut_down_after = line.received + 2 * MEGABYTE
        with pytest.raises(DeviceError, match="lost while a was copied from there"):
            link.fetch(str(there / "a"), tmp_path / "a")

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_addresses_reach_the_same_server(sshd: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As edgekit device add takes them."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(sshd.config))
    address = parse_address(sshd.address)
    assert isinstance(address, SSHAddress)
    with SSHConnection(address) as link:
        assert link.name == sshd.address
        assert link.home == str(sshd.home)


@pytest.mark.parametrize(
    "answer", ["from x", "from", "from -1", "from 9e9", "from " + "9" * 30, "at x", "size x", "sum", "\\377 \\033[2J"]
)
def test_a_board_that_answers_rubbish_is_one_message(
    connection: SSHConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """It knows the mark, and says nonsense behind it."""
    lie = f"printf '\\n%s {answer}\\n' \"$mark\"; cat >/dev/null &\n"
    for name in ("send_script", "fetch_script"):
        monkeypatch.setattr(ssh_copy, name, lambda mark, *_, **__: f"mark={mark}\n{lie}")
    (tmp_path / "a").write_bytes(os.urandom(MEGABYTE))
    with pytest.raises(DeviceError) as sent:
        connection.send(tmp_path / "a", "a")
    with pytest.raises(DeviceError) as fetched:
        connection.fetch("a", tmp_path / "b")

    assert str(sent.value).isprintable()
    assert str(fetched.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
