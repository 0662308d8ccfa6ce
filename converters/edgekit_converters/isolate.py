"""``Worker``: conversions in a child process, whose death becomes an error with the cause."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from . import errors
from .reason import crash_reason

__all__ = ["Worker"]

Progress = Callable[[int, int, str], None]
DEADLINE_S = 4 * 3600.0
CHATTER_TAIL = 20_000


class _Limit:
    """Until when something must be done, counted from now."""

    def __init__(self, text: str, seconds: float) -> None:
        self.text, self.seconds = text, seconds
        self.at = time.monotonic() + seconds

    def shortened(self, text: str, seconds: float | None) -> _Limit:
        """The limit of a stage of the work; the whole one where it ends sooner, or where ``seconds`` is None."""
        stage = self if seconds is None else _Limit(text, seconds)
        return stage if stage.at < self.at else self


class Worker:
    """A child process that trains, exports and quantizes; started at the first call, restarted after a crash.

    A context manager: leaving it ends the child. Not for use from several threads.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader: threading.Thread | None = None
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

        Raises the ConverterError the job raised, or ConverterCrashError when the child died, or was not done
        ``deadline_s`` after the call. Whatever else interrupts the call (Ctrl-C, an error in ``progress``) ends the
        child too, so that the next call cannot receive this one's answer.
        """
        whole = _Limit(f"finish '{job}'", deadline_s)
        limit = whole
        process = self._started()
        try:
            self._send(process, job, arguments)
            while True:
                event = self._next(job, limit)
                kind = event["event"]
                if kind == "progress" and progress is not None:
                    progress(int(event["done"]), int(event["total"]), str(event["text"]))
                elif kind == "stage":
                    limit = whole.shortened(str(event["text"]), event["deadline_s"])
                elif kind in ("result", "error"):
                    break
        except BaseException:
            self.close()
            raise
        if kind == "error":
            raise _translated(event)
        return event

    def close(self) -> None:
        """End the child; harmless when there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if self._reader is not None:
            self._reader.join()
        for stream in (process.stdin, process.stdout, self._chatter):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was never sent to a child that died
                    stream.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._chatter = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._lines = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._chatter,
            text=True,
            env=_environment(),
            start_new_session=True,
        )
        self._reader = threading.Thread(target=_pump, args=(self._process.stdout, self._lines), daemon=True)
        self._reader.start()
        return self._process

    def _send(self, process: subprocess.Popen[str], job: str, arguments: Mapping[str, Any]) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"job": job, **arguments}) + "\n")
            process.stdin.flush()
        except OSError:
            raise self._crashed(job) from None

    def _next(self, job: str, limit: _Limit) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=max(0.0, limit.at - time.monotonic()))
        except queue.Empty:
            raise errors.ConverterCrashError(
                f"expected the converter to {limit.text} within {limit.seconds:g} s, it did not and was ended: "
                "the model may be damaged, or too large for this machine"
            ) from None
        if line is None:
            raise self._crashed(job)
        event: dict[str, Any] = json.loads(line)
        return event

    def _crashed(self, job: str) -> errors.ConverterCrashError:
        """The child's end as an error: its signal or exit code, and the last telling line it printed."""
        assert self._process is not None
        code = self._process.wait()
        self._chatter.seek(0, os.SEEK_END)
        self._chatter.seek(max(0, self._chatter.tell() - CHATTER_TAIL))
        text = self._chatter.read().decode("utf-8", "replace")
        name = _signal_name(-code) if code < 0 else None
        how = f"was killed by {name}" if name else f"ended with exit code {code}"
        cause = crash_reason(text)
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
    """The error that the job raised, with its facts."""
    message, problems = str(event["message"]), event.get("problems")
    if problems:
        return errors.PromiseError(message, problems=problems)
    kind = getattr(errors, str(event["kind"]), None)
    known = isinstance(kind, type) and issubclass(kind, errors.ConverterError)
    return kind(message) if known else errors.ConverterError(message)  # type: ignore[misc]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
