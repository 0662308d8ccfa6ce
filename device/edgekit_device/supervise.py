"""Run a command in a child process, so that a model that kills its process ends in a message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable

from .probe import signal_name

__all__ = ["supervise"]

EXIT_WORLD = 3
EXIT_INTERRUPTED = 130


def supervise(command: Callable[[], int], about: str) -> int:
    """The exit code of ``command`` run in a fork; 3 with a message about ``about`` when a signal killed it.

    The runtimes' own chatter on standard error is held back, and its last line shown only after a crash.
    """
    if not hasattr(os, "fork") or sys.platform == "darwin":
        return command()
    sys.stdout.flush()
    with tempfile.TemporaryFile() as chatter:
        child = os.fork()
        if child == 0:
            _be_the_child(command, chatter.fileno())
        status = _wait(child)
        if not os.WIFSIGNALED(status):
            return os.WEXITSTATUS(status)
        name = signal_name(os.WTERMSIG(status))
        if name in ("SIGINT", "SIGTERM"):
            return EXIT_INTERRUPTED
        print(f"edgekit-device: error: the runtime crashed ({name}) on {about}{_last_line(chatter)}", file=sys.stderr)
        print(
            "  The file is damaged, or holds what this runtime mishandles: check it with 'edgekit inspect', convert it "
            "again, or try --runtime.",
            file=sys.stderr,
        )
        return EXIT_WORLD


def _be_the_child(command: Callable[[], int], chatter: int) -> None:
    """Keep our own messages on the real standard error; what C code writes to descriptor 2 goes to ``chatter``."""
    code = EXIT_WORLD
    try:
        sys.stderr = os.fdopen(os.dup(2), "w")
        os.dup2(chatter, 2)
        code = command()
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        code = EXIT_WORLD
    finally:
        os._exit(code)


def _wait(child: int) -> int:
    """The child's wait status; signals that ask us to stop are passed on to it."""

    def pass_on(number: int, _frame: object) -> None:
        os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    return os.waitpid(child, 0)[1]


def _last_line(chatter: object) -> str:
    chatter.seek(0)  # type: ignore[attr-defined]
    text = chatter.read()[-4000:].decode("utf-8", "replace")  # type: ignore[attr-defined]
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("INFO")]
    return f": {lines[-1][:300]}" if lines else ""
