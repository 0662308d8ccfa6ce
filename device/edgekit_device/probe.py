"""Try something that may kill the process, in a child, and learn how it went."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Optional

from .errors import ModelCrashError, ModelError

__all__ = ["probe", "signal_name"]

DEADLINE_S = 120.0
MESSAGE_CAP = 600


def probe(action: Callable[[], object], context: str, *, deadline_s: float = DEADLINE_S) -> None:
    """Run ``action`` in a forked child.

    Raises ModelError with the message of an exception it raised, ModelCrashError when the child died of a signal or
    outlived the deadline. Where processes cannot be forked nothing is tried.
    """
    if not hasattr(os, "fork") or sys.platform == "darwin":  # frameworks on macOS do not survive a fork
        return
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # The child only calls the runtime and leaves through _exit: it takes no lock another thread may hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(reader)
        _in_child(action, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        status = _wait(child, deadline_s)
        message = pipe.read(MESSAGE_CAP).decode("utf-8", "replace") if status is not None else ""
    if status is None:
        raise ModelCrashError(f"{context}: it did not finish within {deadline_s:g} s", signal_name="SIGKILL")
    if os.WIFSIGNALED(status):
        name = signal_name(os.WTERMSIG(status))
        raise ModelCrashError(
            f"{context}: it kills the process ({name}); the file is damaged, or holds what this runtime mishandles",
            signal_name=name,
        )
    if os.WEXITSTATUS(status) != 0:
        raise ModelError(f"{context}: {message or 'it was refused without a reason'}")


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _in_child(action: Callable[[], object], writer: int) -> None:
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 2)
        _cap_memory()
        action()
        code = 0
    except BaseException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        os.write(writer, (lines[0] if lines else type(error).__name__).encode()[:MESSAGE_CAP])
    finally:
        os._exit(code)


def _cap_memory() -> None:
    """Let a damaged shape fail to allocate in the child instead of exhausting the board."""
    import resource

    page = os.sysconf("SC_PAGE_SIZE")
    with open("/proc/self/statm", "rb") as file:
        mapped = int(file.read().split()[0]) * page
    limit = mapped + page * os.sysconf("SC_PHYS_PAGES") * 3 // 4
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))


def _wait(child: int, deadline_s: float) -> Optional[int]:
    """The child's wait status, or None after killing it at the deadline."""
    until = time.monotonic() + deadline_s
    pause = 0.0005
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
