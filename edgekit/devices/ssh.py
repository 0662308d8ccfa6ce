"""A machine reached by the system's own OpenSSH client: the user's keys, agent, config and jump hosts, one connection."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from ..errors import UsageError
from .address import SSHAddress
from .remote_scripts import execute_script, new_mark
from .ssh_copy import fetch_file, send_file
from .ssh_errors import lost_error, start_error
from .ssh_master import Master, end_process
from .transport import OUTPUT_CAP_BYTES, Completed

__all__ = ["SSHConnection"]

LOOK_EVERY_S = 0.2
ENDING_S = 5.0  # for the other side to end the command and to say so
TAIL_BYTES = 4096
MOST_SIGNALS = 64
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class SSHConnection:
    """A Connection; connects at its first use, and again when the link was lost meanwhile."""

    def __init__(self, address: SSHAddress, name: str | None = None) -> None:
        self.address = address
        self.name = name or str(address)
        self._master: Master | None = None

    @property
    def home(self) -> str:
        """The user's home folder there, absolute."""
        return self._connected().home

    def execute(
        self,
        command: Sequence[str],
        *,
        deadline_s: float,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        folder: str = "",
    ) -> Completed:
        """Run ``command`` there; see ``remote_scripts`` for how it is ended with its children.

        A command that cannot be started ends with 126 or 127, as in a shell; one that a signal ended has the negative of
        the signal. Raises DeviceError when ``folder`` is not there or the link is lost, UsageError for what no system can
        take as an argument.
        """
        _check(command, environment or {}, folder)
        master = self._connected()
        mark = new_mark()
        script = execute_script(
            mark,
            command,
            folder=folder,
            environment=environment or {},
            bytes_in=len(stdin),
            deadline_s=deadline_s,
        )
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = master.start(script, err, out)
            try:
                why = _feed_and_wait(process, stdin, (out, err), mark, deadline_s)
            finally:
                _let_go(process, 0.1 if _has_ended(out, mark) else ENDING_S)
            said, complaints = _read(out), _read(err)
        return self._completed(master, process.returncode, mark, (said, complaints), why, _program(command))

    def send(self, local: Path, remote: str) -> None:
        """Copy a file there; a copy that was interrupted goes on with what arrived of the same content. The SHA-256 is
        checked there. A file that is there already, the same to the byte, is left as it is."""
        send_file(self._connected(), local, remote)

    def fetch(self, remote: str, local: Path) -> None:
        """Copy a file from there, its SHA-256 checked."""
        fetch_file(self._connected(), remote, local)

    def close(self) -> None:
        """End the connection, and with it whatever still runs in it."""
        master, self._master = self._master, None
        if master is not None:
            master.close()

    def __enter__(self) -> SSHConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self) -> Master:
        if self._master is not None and not self._master.alive:
            self.close()
        if self._master is None:
            self._master = Master(self.address, self.name)
        return self._master

    def _completed(
        self, master: Master, code: int, mark: str, texts: tuple[bytes, bytes], why: str, program: str
    ) -> Completed:
        out, ended = _between(texts[0], mark)
        err, _ = _between(texts[1], mark)
        shown = out[:OUTPUT_CAP_BYTES].decode("utf-8", "replace"), err[:OUTPUT_CAP_BYTES].decode("utf-8", "replace")
        if why:
            return Completed(-9, *shown, timed_out=why == "deadline", flooded=why == "flood")
        words = ended.split()
        if words[:1] == ["ended"] and words[1:] and words[1].isdecimal():
            return Completed(_exit_code(int(words[1])), *shown)
        complaints = texts[1].decode("utf-8", "replace")
        if words[:1] == ["failed"]:
            raise start_error(self.name, program, words[1], complaints)
        raise lost_error(self.name, self.address, f"it ran {program}", f"{complaints}\n{master.why_lost()}", code)


def _check(command: Sequence[str], environment: Mapping[str, str], folder: str) -> None:
    if not command:
        raise UsageError("expected a command to run, got none")
    for text in (*command, *environment.values(), folder):
        if "\0" in text:
            raise UsageError(f"no command can hold a NUL character: {text[:80]!r}")
    for name in environment:
        if not VARIABLE.fullmatch(name):
            raise UsageError(f"expected the name of an environment variable, got {name[:80]!r}")


def _program(command: Sequence[str]) -> str:
    """What to call a command in a message."""
    return command[0].rpartition("/")[2][:60]


def _feed_and_wait(
    process: subprocess.Popen[bytes], stdin: bytes, outputs: tuple[IO[bytes], IO[bytes]], mark: str, deadline_s: float
) -> str:
    """Give the command its input and wait. Empty when it ended by itself; else why it must be: ``deadline``, ``flood``."""
    until = time.monotonic() + deadline_s
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    left = memoryview(stdin)
    while True:
        if left:
            left = left[_write(process.stdin, left) :]
        pause = 0.01 if left else LOOK_EVERY_S
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.0, min(pause, until - time.monotonic())))
            return ""
        if any(os.fstat(file.fileno()).st_size > OUTPUT_CAP_BYTES for file in outputs):
            return "flood"
        if _has_ended(outputs[0], mark):  # what it left behind may hold the output open for ever
            return ""
        if time.monotonic() >= until:
            return "deadline"


def _write(pipe: IO[bytes], data: memoryview) -> int:
    """As much as the pipe takes now; all of it when nobody reads any more."""
    try:
        return os.write(pipe.fileno(), data[: 1 << 16])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(data)


def _let_go(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Close the link, by which the other side ends the command and its children, and wait until it has said so."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    end_process(process, patience_s=patience_s)


def _has_ended(output: IO[bytes], mark: str) -> bool:
    size = os.fstat(output.fileno()).st_size
    return f"\n{mark} ended ".encode() in os.pread(output.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(OUTPUT_CAP_BYTES + TAIL_BYTES)


def _between(text: bytes, mark: str) -> tuple[bytes, str]:
    """What the command printed, without what a login shell said before it; and our script's last word."""
    _, began, printed = text.partition(f"\n{mark} begin\n".encode())
    body, ended, last = (printed if began else text).rpartition(f"\n{mark} ".encode())
    if not ended:
        return (last if began else b""), ""
    return (body if began else b""), last.decode("utf-8", "replace").strip()


def _exit_code(code: int) -> int:
    """A shell says 128 + n for signal n."""
    return 128 - code if 128 < code <= 128 + MOST_SIGNALS else code
