"""Run a command in a child process, so that a model that kills its process ends in a message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

from .probe import CAN_FORK, fork, no_core_dump, signal_name

__all__ = ["EXIT_INTERRUPTED", "EXIT_WORLD", "last_line", "supervise"]

EXIT_WORLD = 3
EXIT_INTERRUPTED = 130
STOPS = (signal.SIGINT, signal.SIGTERM)


def supervise(command: Callable[[], int], about: str) -> int:
    """The exit code of ``command`` run in a fork; 3 with a message about ``about`` when a signal killed it.

    An interrupt is passed on to the child, a second one kills it; both end with 130. The runtimes' own chatter on
    standard error is held back, and its last line shown only after a crash.
    """
    if not CAN_FORK:
        return command()
    sys.stdout.flush()
    stops: list[int] = []
    with tempfile.TemporaryFile() as chatter, _blocked():
        child = fork()
        if child == 0:
            _be_the_child(command, chatter.fileno())
        with _passed_on(child, stops):
            status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            return os.WEXITSTATUS(status)
        name = signal_name(os.WTERMSIG(status))
        if stops or name in ("SIGINT", "SIGTERM"):
            return EXIT_INTERRUPTED
        print(_epitaph(name, about, chatter), file=sys.stderr)
        return EXIT_WORLD


def _epitaph(name: str, about: str, chatter: IO[bytes]) -> str:
    advice = (
        "The board ran out of memory: try a smaller model, or stop other programs."
        if name == "SIGKILL"
        else "The file is damaged, or holds what this runtime mishandles: check it with 'edgekit inspect', convert it "
        "again, or try --runtime."
    )
    return f"edgekit-device: error: the runtime crashed ({name}) on {about}{last_line(chatter)}\n  {advice}"


def _be_the_child(command: Callable[[], int], chatter: int) -> None:
    """Keep our own words on the real standard output and error; what C code writes to their descriptors goes to ``chatter``."""
    code = EXIT_WORLD
    try:
        signal.signal(signal.SIGINT, _interrupt_once)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        no_core_dump()
        sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
        sys.stderr = os.fdopen(os.dup(2), "w")
        for descriptor in (1, 2):
            os.dup2(chatter, descriptor)
        result = command()
        sys.stdout.flush()
        code = result
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except OSError as error:
        print(f"edgekit-device: error: cannot write the result: {error.strerror or error}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(code)


def _leave(code: int) -> None:
    try:
        sys.stderr.flush()
    finally:
        os._exit(code)


def _interrupt_once(*_: object) -> None:
    """A terminal interrupts parent and child alike, and the parent passes its own on: one of them is enough."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _blocked() -> Iterator[None]:
    """Hold interrupts back until there is a child to pass them on to."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _passed_on(child: int, stops: list[int]) -> Iterator[None]:
    """Pass the signals that ask us to stop on to ``child``, the second as SIGKILL, and note them in ``stops``."""

    def pass_on(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(child, signal.SIGKILL if stops else number)
        stops.append(number)

    before = {number: signal.signal(number, pass_on) for number in STOPS}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_line(chatter: IO[bytes]) -> str:
    """The last words of a process that died, after ``: ``; empty where it left none."""
    chatter.seek(0, os.SEEK_END)
    chatter.seek(max(0, chatter.tell() - 4000))
    text = chatter.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("INFO")]
    return f": {lines[-1][:300]}" if lines else ""
