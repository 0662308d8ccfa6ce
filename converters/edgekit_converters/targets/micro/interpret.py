"""TFLM's interpreter, and LiteRT's beside it, in a child process with a deadline: what each of them makes of a model."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import MissingPackageError, TargetError
from ...reason import short

__all__ = ["CRASHED", "DONE", "INITIALISE", "INVOKE", "Session", "Trial", "find_tflm"]

Array = npt.NDArray[Any]
INITIALISE, INVOKE, DONE, CRASHED = "initialise", "invoke", "done", "crashed"
PRINT_CAP = 20_000
ANSWERS_CAP = 16 * 2**20


@dataclass(frozen=True)
class Trial:
    """How far one model came in TFLM.

    ``stage`` is where it ended (INITIALISE, INVOKE, CRASHED) or DONE; ``printed`` what TFLM said, ``death`` how the process
    died. ``used`` is the arena after an inference by TFLM's own names (total, head, tail, 'Persistent buffer data' …), and
    ``needed_bytes`` the smallest arena with which the model initialises and runs; both where they were asked for.
    """

    stage: str
    printed: str = ""
    death: str = ""
    used: Mapping[str, int] = field(default_factory=dict)
    needed_bytes: int = 0

    @property
    def ran(self) -> bool:
        """Whether an inference was made."""
        return self.stage == DONE


def find_tflm() -> str:
    """The name and version of the installed TFLM. Raises MissingPackageError without it."""
    if importlib.util.find_spec("tflite_micro") is None:
        raise MissingPackageError(
            "checking a model for a microcontroller needs TFLM's interpreter (its wheels are for Linux on x86-64 alone), got "
            "no package tflite_micro: "
            "pip install 'edgekit[micro]'"
        )
    return f"tflite-micro {metadata.version('tflite-micro')}"


class Session:
    """A private folder and the child processes that work in it, all within ``deadline_s`` from the start.

    A context manager: leaving it ends what still runs and removes the folder.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._ends_at = time.monotonic() + deadline_s
        self._scratch = tempfile.TemporaryDirectory(prefix="edgekit-micro-")
        self._folder = Path(self._scratch.name)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.cleanup()

    def try_models(
        self, models: Sequence[bytes], arena_bytes: int, *, measure: bool = False, fresh: bool = False
    ) -> tuple[Trial, ...]:
        """Initialise each model in an arena of ``arena_bytes`` and run it on zeros; with ``measure`` find the arena it needs and
        run it on the samples too, with ``fresh`` each in an interpreter of its own.

        A model that takes the process down is CRASHED, and the next one begins in a new process. Raises TargetError when the
        deadline passes.
        """
        names = [f"{number}.tflite" for number in range(len(models))]
        for name, model in zip(names, models, strict=True):
            (self._folder / name).write_bytes(model)
        self._write_job(names, arena_bytes=arena_bytes, measure=measure, fresh=fresh)
        trials: list[Trial] = []
        while len(trials) < len(models):
            before = len(trials)
            death = self._run("micro", first=before)
            trials = [_trial(answer) for answer in self._answers("micro")]
            if death:
                trials.append(Trial(CRASHED, self._printed(), death))
                with (self._folder / "micro.jsonl").open("a", encoding="utf-8") as answers:
                    answers.write(json.dumps({"stage": CRASHED, "print": trials[-1].printed, "death": death}) + "\n")
            elif len(trials) == before:
                raise TargetError("TFLM's process ended without an answer", log=self._printed())
        (self._folder / "micro.jsonl").unlink()
        return tuple(trials)

    def write_samples(self, samples: Sequence[Mapping[int, Array]]) -> None:
        """Keep samples for the runs to come: arrays of the inputs' own types and shapes, by the input's number."""
        if samples:
            stacked: dict[str, Any] = {str(i): np.stack([sample[i] for sample in samples]) for i in samples[0]}
            np.savez(self._folder / "samples.npz", **stacked)

    def run_litert(self, model: bytes, *, fresh: bool = False) -> str:
        """Run the samples in LiteRT, with ``fresh`` each in an interpreter of its own; why it failed, or nothing."""
        (self._folder / "0.tflite").write_bytes(model)
        self._write_job(["0.tflite"], fresh=fresh)
        death = self._run("litert", first=0)
        answers = self._answers("litert")
        return death or short(str(answers[0].get("error", "")) if answers else "it gave no answer")

    def outputs(self, who: str) -> dict[int, Array]:
        """The outputs of ``who`` (micro, litert, reference) for all samples, stacked, by the output's number."""
        path = self._folder / f"{who}.npz"
        if not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as stored:
            return {int(name): stored[name] for name in stored.files}

    def _write_job(self, names: Sequence[str], **facts: Any) -> None:
        job = {"models": list(names), "deadline_s": self._deadline_s, **facts}
        (self._folder / "job.json").write_text(json.dumps(job), encoding="utf-8")

    def _run(self, task: str, *, first: int) -> str:
        """One child from model ``first`` on; how it died, or nothing."""
        command = [sys.executable, "-m", f"{__package__}.child", task, str(self._folder), str(first)]
        with (self._folder / "print").open("ab") as printed:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=printed,
                cwd=self._folder,  # python -m looks for modules where it is started
                env=_environment(),
                start_new_session=True,
            )
        try:
            code = process.wait(timeout=max(0.0, self._ends_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TargetError(
                f"expected TFLM to be done within {self._deadline_s:g} s, it was not and was ended: the model may loop for "
                "ever, or be too large for this machine",
                log=self._printed(),
            ) from None
        finally:
            # Also after Ctrl-C, and also what it may have started itself.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return "" if code == 0 else _death(code)

    def _answers(self, task: str) -> list[dict[str, Any]]:
        path = self._folder / f"{task}.jsonl"
        if not path.exists():
            return []
        lines = path.read_bytes()[:ANSWERS_CAP].decode("utf-8", "replace").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]  # the last may have been cut by a crash

    def _printed(self) -> str:
        path = self._folder / "print"
        return path.read_bytes()[-PRINT_CAP:].decode("utf-8", "replace") if path.exists() else ""


def _trial(answer: Mapping[str, Any]) -> Trial:
    return Trial(
        stage=str(answer["stage"]),
        printed=str(answer.get("print", "")) or str(answer.get("error", "")),
        death=str(answer.get("death", "")),
        used={str(name): int(value) for name, value in answer.get("used", {}).items()},
        needed_bytes=int(answer.get("needed", 0)),
    )


def _death(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _environment() -> dict[str, str]:
    """The caller's environment, plus where this package was imported from when it is not installed."""
    here = str(Path(__file__).resolve().parents[3])
    paths = [here, *(os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    # One thread, because the child forks.
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **alone, "PYTHONPATH": os.pathsep.join(paths)}
