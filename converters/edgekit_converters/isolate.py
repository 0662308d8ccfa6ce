"""``Worker``: conversions in a child process, whose death becomes an error with the cause."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from . import errors

__all__ = ["Worker"]

Progress = Callable[[int, int, str], None]
DEADLINE_S = 4 * 3600.0
CHATTER_TAIL = 20_000


class Worker:
    """A child process that trains, exports and quantizes; started at the first call, restarted after a crash.

    A context manager: leaving it ends the child. Not for use from several threads.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._chatter: Any = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(
        self, job: str, *, progress: Progress | None = None, deadline_s: float = DEADLINE_S, **arguments: Any
    ) -> dict[str, Any]:
        """Run one job and return its result.

        Raises the ConverterError the job raised, or ConverterCrashError when the child died or missed the deadline.
        """
        process = self._started()
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"job": job, **arguments}) + "\n")
            process.stdin.flush()
        except OSError:
            raise self._crashed(job) from None
        while True:
            event = self._next(job, deadline_s)
            if event.get("event") == "progress" and progress is not None:
                progress(int(event["done"]), int(event["total"]), str(event["text"]))
            elif event.get("event") == "result":
                return event
            elif event.get("event") == "error":
                raise _translated(event)

    def close(self) -> None:
        """End the child; harmless when there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        self._chatter.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._chatter = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._lines = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._chatter,
            text=True,
            env=_environment(),
            start_new_session=True,
        )
        threading.Thread(target=_pump, args=(self._process.stdout, self._lines), daemon=True).start()
        return self._process

    def _next(self, job: str, deadline_s: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=deadline_s)
        except queue.Empty:
            self.close()
            raise errors.ConverterCrashError(f"the converter did not finish '{job}' within {deadline_s:g} s") from None
        if line is None:
            raise self._crashed(job)
        try:
            event = json.loads(line)
        except ValueError:
            return {}
        return event if isinstance(event, dict) else {}

    def _crashed(self, job: str) -> errors.ConverterCrashError:
        """The child's end as an error: its signal or exit code, and the last telling line it printed."""
        assert self._process is not None
        code = self._process.wait()
        self._chatter.seek(0, os.SEEK_END)
        self._chatter.seek(max(0, self._chatter.tell() - CHATTER_TAIL))
        text = self._chatter.read().decode("utf-8", "replace")
        self.close()
        name = _signal_name(-code) if code < 0 else None
        how = f"was killed by {name}" if name else f"ended with exit code {code}"
        cause = _cause(text)
        return errors.ConverterCrashError(
            f"the converter process {how} during '{job}'{': ' + cause if cause else ''}", signal_name=name
        )


def _environment() -> dict[str, str]:
    """The caller's environment, plus where these packages were imported from when they are not installed."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = [here, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path), "TF_CPP_MIN_LOG_LEVEL": "2"}


def _pump(stream: Any, lines: queue.Queue[str | None]) -> None:
    try:
        for line in stream:
            lines.put(line)
    except ValueError:  # the stream was closed while we waited for it
        pass
    lines.put(None)


def _translated(event: Mapping[str, Any]) -> errors.ConverterError:
    kind = getattr(errors, str(event.get("kind")), errors.ConverterError)
    kind = kind if isinstance(kind, type) and issubclass(kind, errors.ConverterError) else errors.ConverterError
    return kind(str(event.get("message", "")))


def _cause(text: str) -> str:
    """The last line that tells why, out of a compiler's chatter."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if any(word in line for word in ("error:", "Error", "Check failed", "assert", "F0000", "LLVM ERROR"))
    ]
    chosen = (telling or [line for line in lines if not line.startswith(("INFO", "I0000", "W0000", "WARNING"))])[-1:]
    return chosen[0][:400] if chosen else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
