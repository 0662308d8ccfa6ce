"""A tool run in a process group of its own: a deadline that ends all of it, and output that cannot fill the memory."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OUTPUT_CAP", "Outcome", "run_tool"]

OUTPUT_CAP = 2 * 2**20  # bytes kept: half from the beginning, half from the end
LAST_WORDS_S = 1.0  # what a dead tool's pipe is still read for
PIECE = 2**16


@dataclass(frozen=True)
class Outcome:
    """How a process ended. ``returncode`` is negative for a signal, None where the deadline ended it."""

    returncode: int | None
    text: str
    dropped_bytes: int
    seconds: float

    @property
    def timed_out(self) -> bool:
        """Whether it was still running at its deadline."""
        return self.returncode is None

    @property
    def signal_name(self) -> str:
        """The signal that ended it, also where a shell around it says so by 128 and more; empty for none."""
        code = self.returncode or 0
        number = -code if code < 0 else code - 128 if 128 < code < 128 + 65 else 0
        with contextlib.suppress(ValueError):
            return signal.Signals(number).name if number else ""
        return f"signal {number}"


def run_tool(command: Sequence[str], *, folder: Path, deadline_s: float) -> Outcome:
    """Run ``command`` in ``folder`` without a standard input; what it prints, errors too, is one text.

    After ``deadline_s`` seconds, and after any error or Ctrl-C, the whole process group is killed and reaped: a tool that
    ignores SIGTERM is ended too, and so are its children. Children that outlive the tool are ended with it. Raises OSError
    where it cannot be started.
    """
    started, output = time.monotonic(), _Kept(OUTPUT_CAP)
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C"},
        start_new_session=True,
    )
    try:
        finished = _read_until(process, output, started + deadline_s)
        if finished:
            _kill_group(process)  # what it left behind may hold the pipe open for ever
            _read_rest(process, output)
    finally:
        if process.returncode is None:  # else the group's number may be another's by now
            _kill_group(process)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    return Outcome(process.returncode if finished else None, output.text(), output.dropped, time.monotonic() - started)


class _Kept:
    """The beginning and the end of what is printed."""

    def __init__(self, cap: int) -> None:
        self.half, self.head, self.tail, self.dropped = cap // 2, bytearray(), bytearray(), 0

    def add(self, piece: bytes) -> None:
        """Keep ``piece``, dropping from the middle."""
        room = self.half - len(self.head)
        self.head += piece[:room]
        self.tail += piece[room:]
        if len(self.tail) > 2 * self.half:  # not at every piece: each time the rest is moved
            self._trim()

    def _trim(self) -> None:
        self.dropped += max(0, len(self.tail) - self.half)
        del self.tail[: -self.half]

    def text(self) -> str:
        """What was kept, with a line where something is missing."""
        self._trim()
        gap = f"\n… {self.dropped:,} bytes are left out here …\n".encode() if self.dropped else b""
        return bytes(self.head + gap + self.tail).decode("utf-8", "replace")


def _read_until(process: subprocess.Popen[bytes], output: _Kept, until: float) -> bool:
    """Read what ``process`` prints until it ends; False when ``until`` comes first."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while process.poll() is None:
            left = until - time.monotonic()
            if left <= 0:
                return False
            if not selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(left, 1.0))
            elif selector.select(min(left, 0.05)):
                piece = os.read(process.stdout.fileno(), PIECE)
                output.add(piece)
                if not piece:  # it closed its output and goes on
                    selector.unregister(process.stdout)
    return True


def _read_rest(process: subprocess.Popen[bytes], output: _Kept) -> None:
    """What is still in the pipe of a process that ended; not for ever, as a grandchild may have left the group."""
    assert process.stdout is not None
    until = time.monotonic() + LAST_WORDS_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, until - time.monotonic())):
            piece = os.read(process.stdout.fileno(), PIECE)
            if not piece:
                return
            output.add(piece)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
