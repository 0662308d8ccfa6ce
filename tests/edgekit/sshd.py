"""A real sshd on loopback, with keys, a port, known hosts and a client config of its own; and a line that can be cut."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

__all__ = ["Line", "SSHServer", "free_port", "needed_ssh", "ssh_server"]

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
USER = pwd.getpwuid(os.getuid()).pw_name


class SSHServer:
    """One sshd. ``home`` is what its users see as their home; ``config`` is what EDGEKIT_SSH_CONFIG is to name."""

    def __init__(self, folder: Path, *, shell: str = "", extra: str = "", path: str = "") -> None:
        self.folder, self.port = folder, free_port()
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        folder.chmod(0o700)
        for key in ("host_key", "user_key", "other_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        self.known_hosts = folder / "known_hosts"
        self.config = folder / "ssh_config"
        self.trust(self.port)
        self.write_config()
        self._write_server_config(shell, extra, path)
        self._log = (folder / "sshd.log").open("wb")
        self.process = self._start()

    @property
    def address(self) -> str:
        """As ``edgekit device add`` takes it."""
        return f"ssh://{USER}@127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to reach this server."""
        return {"EDGEKIT_SSH_CONFIG": str(self.config)}

    def trust(self, port: int) -> None:
        """Let the client know this server's host key, at ``port``."""
        key = (self.folder / "host_key.pub").read_text()
        with self.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {key}")

    def write_config(self, more: str = "", *, key: str = "user_key") -> None:
        """The client's config: ``more`` stands before what holds for every host."""
        self.config.write_text(
            f"{more}\nHost *\n  IdentityFile {self.folder / key}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
        )

    def sessions(self) -> list[psutil.Process]:
        """The processes of everybody who is logged in, sshd's own among them."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def stop(self) -> None:
        """End the server and its sessions."""
        left = self.sessions()
        self.process.terminate()
        self.process.wait(timeout=10)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._log.close()

    def _write_server_config(self, shell: str, extra: str, path: str) -> None:
        # The home of the account is not ours to change: a wrapper makes ``home`` the one the session sees. It stands where
        # ForceCommand would, and hands the command to the shell as sshd does. SHLVL keeps bash from reading the account's own
        # .bashrc before that: it takes a shell below another one for no login.
        wrapper = self.folder / "login"
        wrapper.write_text(
            f'#!/bin/sh\nexport SHLVL=0 HOME="{self.home}" SHELL="{shell or "/bin/sh"}" PATH="{path or "$PATH"}"\n'
            f'cd "$HOME" || exit 1\nexec "$SHELL" -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        wrapper.chmod(0o755)
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder / 'host_key'}\n"
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nLogLevel ERROR\n"
            f"MaxStartups 100\nUseDNS no\nSetEnv SHLVL=9\n{extra}\n"
            + (f"ForceCommand {wrapper}\n" if "ForceCommand" not in extra else "")
        )

    def _start(self) -> subprocess.Popen[bytes]:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config")]
        process = subprocess.Popen(command, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return process
            time.sleep(0.02)
        raise AssertionError(f"sshd did not start: {(self.folder / 'sshd.log').read_text()}")


class Line:
    """A TCP line to a port of this machine that counts what goes over it, and can be slow, cut, or dead.

    Up is towards the server. It hangs up once more than ``cut_after`` bytes went up, or ``cut_down_after`` came down; after
    ``silent_after`` bytes it takes everything and passes nothing on; ``bytes_per_s`` bounds its speed upwards.
    """

    def __init__(self, port: int, *, cut_after: int | None = None, bytes_per_s: float | None = None) -> None:
        self.target, self.cut_after, self.bytes_per_s = port, cut_after, bytes_per_s
        self.cut_down_after: int | None = None
        self.silent_after: int | None = None
        self.sent = self.received = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Hang up, and take no more calls."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.silent_after = None
        self._hang_up()
        for thread in self._threads:
            thread.join(timeout=10)
        for side in self._open:
            side.close()

    def _hang_up(self) -> None:
        for side in self._open:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self._open += [client, server]
            for ends in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._carry, args=ends, daemon=True)
                thread.start()
                self._threads.append(thread)

    def _carry(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if not self._pass_on(len(data), upwards):
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _pass_on(self, count: int, upwards: bool) -> bool:
        if upwards:
            self.sent += count
        else:
            self.received += count
        if upwards and self.bytes_per_s:
            time.sleep(count / self.bytes_per_s)
        while self.silent_after is not None and self.sent > self.silent_after:
            time.sleep(0.05)
        limit, so_far = (self.cut_after, self.sent) if upwards else (self.cut_down_after, self.received)
        if limit is None or so_far <= limit:
            return True
        self.cut_after = self.cut_down_after = None
        self._hang_up()
        return False


def needed_ssh() -> None:
    """Skip where there is no OpenSSH."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no OpenSSH here: sudo apt install openssh-server")


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def ssh_server(folder: Path, *, shell: str = "", extra: str = "", path: str = "") -> Iterator[SSHServer]:
    """A server for a block."""
    server = SSHServer(folder, shell=shell, extra=extra, path=path)
    try:
        yield server
    finally:
        server.stop()
