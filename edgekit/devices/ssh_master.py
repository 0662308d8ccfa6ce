"""The one connection that everything sent to a machine shares: an ``ssh`` of the user's own, as its child process."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO

from ..errors import DeviceError, UsageError
from .address import CONFIG_VARIABLE, SSHAddress
from .remote_scripts import bootstrap, hello_script, new_mark
from .ssh_errors import connection_error, silence_error

__all__ = ["Master", "end_process"]

CONNECT_S = 10  # to be answered by the host, and by its sshd
LOGIN_S = 60.0  # in all: a jump host or two, and a login shell with much to do
ALIVE_EVERY_S, ALIVE_TIMES = 5, 6  # a link that is dead for 30 s is noticed; one that is merely full is not
SOCKET_PATH_LONGEST = 104 - 18  # sun_path on the meanest system, less the suffix ssh binds to before it renames
ERRORS_CAP = 16 * 1024
# What a user's config may say for his own sessions, and that would break a command's output or let the device in here.
OURS = {
    "BatchMode": "yes",
    "LogLevel": "ERROR",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ConnectTimeout": str(CONNECT_S),
    "ServerAliveInterval": str(ALIVE_EVERY_S),
    "ServerAliveCountMax": str(ALIVE_TIMES),
    "ControlPersist": "no",
}


class Master:
    """A multiplexing ``ssh``, up when constructed. Host keys, keys, agent and jumps are as the user's config has them.

    It runs a shell there that only waits for the link to end: when this process dies, however it dies, its end of the pipe
    closes, that shell ends, and the connection with it. ``home`` is the user's home folder there. Raises DeviceError when
    the machine cannot be reached, with what to do about it.
    """

    def __init__(self, address: SSHAddress, name: str) -> None:
        self.address, self.name = address, name
        self._folder = _socket_folder()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process: subprocess.Popen[bytes] | None = None
        self.home = ""
        try:
            self.home = self._connect()
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as ssh has noticed."""
        return self._process is not None and self._process.poll() is None

    def start(
        self, script: str, stderr: IO[bytes], stdout: IO[bytes] | int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """A process of ``ssh`` that runs ``script`` there through this connection; the script goes first into its input."""
        return _start(self._command("ControlMaster=no", script), script, stdout, stderr)

    def complaints(self) -> str:
        """What ssh has said on standard error of the connection itself."""
        self._errors.seek(0)
        return self._errors.read(ERRORS_CAP).decode("utf-8", "replace")

    def why_lost(self, patience_s: float = 1.0) -> str:
        """The same, once ssh has had the time to say it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(timeout=patience_s)
        return self.complaints()

    def close(self) -> None:
        """End the connection; harmless when called twice."""
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            end_process(process, patience_s=1.0)
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self, how: str, script: str) -> list[str]:
        options = [f"-o{name}={value}" for name, value in OURS.items()]
        config = os.environ.get(CONFIG_VARIABLE)
        place = [] if self.address.port is None else ["-p", str(self.address.port)]
        place += [] if self.address.user is None else ["-l", self.address.user]
        return [
            "ssh",
            *(["-F", _readable(config)] if config else []),
            *options,
            f"-o{how}",
            f"-oControlPath={self._folder / 's'}",
            *place,
            "--",
            self.address.host,
            bootstrap(script),
        ]

    def _connect(self) -> str:
        mark = new_mark()
        script = hello_script(mark)
        self._process = _start(self._command("ControlMaster=yes", script), script, subprocess.PIPE, self._errors)
        assert self._process.stdout is not None
        said = _read_until(self._process.stdout, f"\n{mark} home ".encode(), LOGIN_S)
        home = said.partition(f"{mark} home ".encode())[2].partition(b"\n")[0].decode("utf-8", "replace")
        if home.startswith("/"):
            return home
        if self._process.poll() is None and not said.endswith(b"\0ended"):
            raise silence_error(self.name, self.address, said.decode("utf-8", "replace"), LOGIN_S)
        code = _code(self._process)
        heard = said.removesuffix(b"\0ended")
        raise connection_error(self.name, self.address, self.complaints(), heard, code, jump=self._jump())

    def _jump(self) -> str:
        """The jump host that the user's config sends us through; empty where there is none."""
        command = self._command("ControlMaster=no", "")[:-1]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            asked = subprocess.run([command[0], "-G", *command[1:]], capture_output=True, timeout=10, check=False)
            for line in asked.stdout.decode("utf-8", "replace").splitlines():
                if line.lower().startswith("proxyjump "):
                    return line.partition(" ")[2].strip()
        return ""


def end_process(process: subprocess.Popen[bytes], *, patience_s: float) -> None:
    """Wait for a process whose input was closed to end by itself, then end it."""
    try:
        process.wait(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    except BaseException:  # a second Ctrl-C: no patience
        process.kill()
        process.wait()
        raise


def _start(command: list[str], script: str, stdout: IO[bytes] | int, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            # No terminal: Ctrl-C is ours to handle, and no ssh (a jump's has no batch mode) can ask anything there.
            start_new_session=True,
            env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
            bufsize=0,
        )
    except FileNotFoundError as error:
        raise DeviceError(
            "expected OpenSSH's client on this machine, found no program called ssh. Install it: "
            "sudo apt install openssh-client"
        ) from error
    except OSError as error:
        raise DeviceError(f"cannot start ssh: {error.strerror or error}. Try it by hand: ssh -V") from error
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended already; its words say why
        process.stdin.write(script.encode())
    return process


def _read_until(pipe: IO[bytes], wanted: bytes, limit_s: float) -> bytes:
    r"""What comes up to the line that starts with ``wanted``; ends with ``\0ended`` when the pipe does before it."""
    until, said = time.monotonic() + limit_s, b""
    with selectors.DefaultSelector() as ready:
        ready.register(pipe, selectors.EVENT_READ)
        while time.monotonic() < until and len(said) < 1 << 20:
            if not ready.select(timeout=max(0.0, until - time.monotonic())):
                break
            piece = os.read(pipe.fileno(), 65536)
            if not piece:
                return said + b"\0ended"
            said += piece
            if b"\n" in said.partition(wanted)[2]:
                break
    return said


def _code(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return 255


def _readable(config: str) -> str:
    path = Path(config).expanduser()
    if not (path.is_file() and os.access(path, os.R_OK)):
        raise UsageError(f"{CONFIG_VARIABLE} names {config!r}, which is no file that can be read: name an SSH config")
    return str(path.absolute())


def _socket_folder() -> Path:
    """A private folder with a path short enough for a socket in it, wherever TMPDIR is."""
    for parent in (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):  # noqa: S108 - mkdtemp is 0700
        if parent and len(os.fsencode(parent)) + len("/edgekit-ssh-12345678/s") <= SOCKET_PATH_LONGEST:
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix="edgekit-ssh-", dir=parent))
    raise DeviceError("found no folder for ssh's socket: name one with a short path in TMPDIR, such as /tmp")
