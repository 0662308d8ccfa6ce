"""Try something that may kill the process, in a child, and learn how it went."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Optional

from .errors import ModelCrashError, ModelError
from .text import first_line

try:
    import resource
except ImportError:  # Windows has none, and no fork either
    resource = None  # type: ignore[assignment]

__all__ = ["CAN_FORK", "fork", "no_core_dump", "probe", "signal_name"]

DEADLINE_S = 120.0
MESSAGE_CAP = 600
# Frameworks on macOS do not survive a fork without exec.
CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"

_forking = threading.Lock()


def probe(action: Callable[[], object], context: str, *, deadline_s: Optional[float] = None) -> None:
    """Run ``action`` in a forked child.

    Raises ModelError with the message of an exception it raised, ModelCrashError when the child died of a signal or
    outlived the deadline (DEADLINE_S). Where processes cannot be forked nothing is tried.
    """
    if not CAN_FORK:
        return
    limit_s = DEADLINE_S if deadline_s is None else deadline_s
    reader, writer = os.pipe()
    child = fork()
    if child == 0:
        os.close(reader)
        _in_child(action, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        status = _wait(child, limit_s)
        if status is None:
            raise ModelCrashError(f"{context}: it did not finish within {limit_s:g} s", signal_name="SIGKILL")
        if os.WIFSIGNALED(status):
            raise _crash(os.WTERMSIG(status), context)
        if os.WEXITSTATUS(status) != 0:
            message = pipe.read(MESSAGE_CAP).decode("utf-8", "replace")
            raise ModelError(f"{context}: {message or 'it was refused without a reason'}")


def fork() -> int:
    """``os.fork`` without Python 3.12's warning about other threads.

    Forking beside threads is safe for what the children here do: they make an interpreter of their own, wait for no
    lock that another thread may have held (glibc and Python reset theirs), and leave through ``_exit``.
    """
    if sys.version_info < (3, 12):
        return os.fork()
    with _forking, warnings.catch_warnings():  # the lock: catch_warnings is not made for several threads
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def no_core_dump() -> None:
    """Let a crash of this process leave no core file on the board's card."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _crash(number: int, context: str) -> ModelCrashError:
    name = signal_name(number)
    # A signal from outside is no fault of the file; SIGKILL is what Linux sends when memory runs out.
    reason = "it ran out of memory" if name == "SIGKILL" else "it is damaged, or holds what this runtime mishandles"
    return ModelCrashError(f"{context}: it kills the process ({name}); {reason}", signal_name=name)


def _in_child(action: Callable[[], object], writer: int) -> None:
    code = 1
    try:
        if "faulthandler" in sys.modules:  # its traceback would look like a crash of the parent
            sys.modules["faulthandler"].disable()
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)
        no_core_dump()
        _cap_memory()
        action()
        code = 0
    except BaseException as error:
        os.write(writer, first_line(error).encode("utf-8", "replace")[:MESSAGE_CAP])
    finally:
        os._exit(code)


def _cap_memory() -> None:
    """Let a damaged shape fail to allocate in the child instead of exhausting the board; where the system tells."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        with open("/proc/self/statm", "rb") as file:
            mapped = int(file.read().split()[0]) * page
        limit = mapped + page * os.sysconf("SC_PHYS_PAGES") * 3 // 4
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
    except (OSError, ValueError, OverflowError):  # no /proc, or a 32-bit board with more memory than addresses
        return


def _wait(child: int, deadline_s: float) -> Optional[int]:
    """The child's wait status, or None after killing it at the deadline; an interrupt does not leave it behind."""
    until = time.monotonic() + deadline_s
    pause = 0.0005
    try:
        while time.monotonic() <= until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status
            time.sleep(pause)
            pause = min(pause * 2, 0.02)
    except BaseException:
        _kill(child)
        raise
    _kill(child)
    return None


def _kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
