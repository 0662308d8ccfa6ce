"""A model measured in a process of its own, which does what it is told over a pipe and is still in between.

Memory, threads and crashes of one model stay apart from the others'. Commands and answers are lines of JSON: a command is
``{"do": NAME, …}``, an answer ``{"ok": …}`` or ``{"error": …, "exit_code": …}``. Durations are taken inside; the pipe
carries them when a block is over.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn, Optional

from .errors import DeviceRuntimeError, ModelCrashError
from .loading import ModelSource
from .plan import Plan
from .probe import fork, no_core_dump, signal_name
from .subject import Subject, loaded_subject
from .supervise import last_line
from .text import first_line

__all__ = ["Answers", "Worker"]

CHUNK = 1 << 16
PARENT_DIED = 1  # PR_SET_PDEATHSIG, man 2 prctl

Answers = Mapping[str, Callable[[Subject, Mapping[str, Any]], Any]]


class Worker:
    """Forks a process that loads ``model`` and answers commands; ``name`` is for messages.

    Its process has ``plan.deadline_s`` seconds for all it is asked; the time it is left alone does not count.
    """

    def __init__(self, model: ModelSource, name: str, plan: Plan, answers: Answers, clock: Callable[[], int]) -> None:
        self.name = name
        self._left_s = plan.deadline_s
        self._buffer = b""
        self._chatter = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        hears, self._commands = os.pipe()
        self._answers, says = os.pipe()
        self.pid: Optional[int] = fork()
        if self.pid == 0:
            os.close(self._commands)
            os.close(self._answers)
            _be_the_worker(
                hears, says, self._chatter.fileno(), lambda: loaded_subject(model, plan, clock, probe=False), answers
            )
        os.close(hears)
        os.close(says)

    def ask(self, name: str, *, more_s: float = 0.0, **facts: Any) -> Any:
        """Send a command and wait for its answer; ``more_s`` seconds are granted for what takes long on purpose.

        Raises DeviceRuntimeError for what it raised, with the exit code of that, and ModelCrashError when it died or the
        deadline passed; it is ended then.
        """
        self._left_s += more_s
        with suppress(BrokenPipeError):  # it has died: the answer tells how
            os.write(self._commands, json.dumps({"do": name, **facts}).encode() + b"\n")
        started = time.monotonic()
        answer = json.loads(self._read_line())
        self._left_s -= time.monotonic() - started
        if "error" in answer:
            self.close()
            error = DeviceRuntimeError(answer["error"])
            error.exit_code = answer["exit_code"]
            raise error
        return answer.get("ok")

    def close(self) -> None:
        """End the process, whatever it does, and let go of its pipes; twice is fine."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._bury()
        self._chatter.close()

    def _bury(self) -> int:
        """Wait for the process, which has ended or was killed; returns its wait status."""
        assert self.pid is not None
        status = os.waitpid(self.pid, 0)[1]
        self.pid = None
        os.close(self._commands)
        os.close(self._answers)
        return status

    def _read_line(self) -> bytes:
        until = time.monotonic() + self._left_s
        while b"\n" not in self._buffer:
            if not select.select([self._answers], [], [], max(0.0, until - time.monotonic()))[0]:
                self.close()
                raise ModelCrashError(
                    f"{self.name} did not finish in the time it was given: it hangs, or needs a longer --deadline",
                    signal_name="SIGKILL",
                )
            piece = os.read(self._answers, CHUNK)
            if not piece:
                raise self._crash(self._bury())
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _crash(self, status: int) -> ModelCrashError:
        words = last_line(self._chatter)
        if not os.WIFSIGNALED(status):
            return ModelCrashError(f"the process that measured {self.name} ended by itself{words}")
        name = signal_name(os.WTERMSIG(status))
        why = ": the board ran out of memory" if name == "SIGKILL" else ""
        return ModelCrashError(f"the runtime crashed ({name}) on {self.name}{why}{words}", signal_name=name)


def _be_the_worker(hears: int, says: int, chatter: int, load: Callable[[], Any], answers: Answers) -> NoReturn:
    """Answer until the commands end; leave through ``_exit``, for nothing of the parent's may be flushed or cleaned here."""
    try:
        _die_with_the_parent()
        if "faulthandler" in sys.modules:  # its traceback would stand for the runtime's last words
            sys.modules["faulthandler"].disable()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process
        no_core_dump()
        os.dup2(chatter, 2)
        with os.fdopen(says, "w") as out, os.fdopen(hears, "rb") as commands:

            def say(answer: Any) -> None:
                out.write(json.dumps(answer) + "\n")
                out.flush()

            _serve(say, commands, load, answers)
    finally:
        os._exit(0)


def _serve(say: Callable[[Any], object], commands: Any, load: Callable[[], Any], answers: Answers) -> None:
    try:
        with load() as subject:
            for line in commands:
                command = json.loads(line)
                say({"ok": _plain(answers[str(command["do"])](subject, command))})
    except DeviceRuntimeError as error:
        say({"error": str(error), "exit_code": error.exit_code})
    except MemoryError:
        say({"error": "not enough memory for this model or this data", "exit_code": 3})
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        say({"error": f"{place}{error.strerror or error}", "exit_code": 3})
    except BaseException as error:
        say({"error": f"unexpected: {first_line(error)}", "exit_code": 3})


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _die_with_the_parent() -> None:
    """On Linux, however the parent ends; elsewhere the commands end, and so does this process when it looks."""
    with suppress(Exception):  # a Python without ctypes, or another system
        import ctypes

        ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)
