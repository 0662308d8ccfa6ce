"""Several models measured in turns, each in a process of its own: one session, whose reports may be compared in pairs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple, Optional, Union

from .conditions import available_mb
from .errors import DeviceRuntimeError
from .evaluation import Samples
from .loading import ModelSource
from .measurement import Extras, Setting, compose, measure_one
from .plan import Plan
from .probe import CAN_FORK
from .report import AccuracyFacts, BenchmarkReport, EnergyFacts, SustainedFacts
from .rounds import Player, play
from .series import Series
from .subject import Profiled, Start
from .text import clean_text
from .wire import read_record
from .worker import Answers, Worker

__all__ = ["Job", "Outcome", "measure_in_turns"]

Outcome = Union[BenchmarkReport, DeviceRuntimeError]

RESERVE_MB = 48.0  # for the system and this process
RUNTIME_MB = 40.0  # what a process with a runtime needs before it has a model …
FILE_TIMES = 3.0  # … and what a model needs, in sizes of its file: its bytes, repacked weights, activations


@dataclass(frozen=True)
class Job:
    """One model of a session, and the samples to measure its accuracy on."""

    model: ModelSource
    samples: Optional[Samples] = None
    outputs_path: Optional[str] = None

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        if isinstance(self.model, (str, os.PathLike)):
            return clean_text(os.path.basename(os.fspath(self.model)))
        return "the model"

    @property
    def needs_mb(self) -> float:
        """A guess at the memory its process will take, in mebibytes."""
        try:
            size = os.path.getsize(self.model) if isinstance(self.model, (str, os.PathLike)) else len(self.model)
        except OSError:
            size = 0
        return RUNTIME_MB + FILE_TIMES * size / 2**20


def measure_in_turns(
    jobs: Sequence[Job], plan: Plan, *, free_mb: Callable[[], Optional[float]] = available_mb
) -> Iterator[tuple[int, Outcome]]:
    """Measure every job; yields its position and its report, or the error that it alone has failed with, as they come.

    All models are loaded at once where ``free_mb()`` mebibytes of memory suffice for them; else they are measured in groups,
    and the notes say so. Where processes cannot be forked each is measured by itself.
    """
    if not CAN_FORK:
        yield from _one_by_one(jobs, plan)
        return
    left = list(range(len(jobs)))
    while left:
        with ExitStack() as stack:
            group = _Group(Setting(plan), stack)
            tried = 0
            while left and (tried == 0 or _has_room(jobs[left[0]], free_mb())):
                at, tried = left.pop(0), tried + 1
                failure = group.add(at, jobs[at])
                if failure is not None:
                    yield at, failure
            yield from group.measured(_memory_note(tried, len(jobs)))


class _Member(NamedTuple):
    at: int
    job: Job
    worker: Worker
    start: Start
    player: Player


class _Group:
    """Models that are loaded at the same time."""

    def __init__(self, setting: Setting, stack: ExitStack) -> None:
        self._setting, self._stack = setting, stack
        self._members: list[_Member] = []

    def add(self, at: int, job: Job) -> Optional[DeviceRuntimeError]:
        """Load and warm up a model in a process of its own; returns the error where that fails."""
        plan = self._setting.plan
        worker = Worker(job.model, job.name, plan, _answers(job, self._setting), time.perf_counter_ns)
        self._stack.callback(worker.close)
        self._setting.watch.own.add(worker.pid or 0)
        try:
            start = read_record(Start, worker.ask("start"))
        except DeviceRuntimeError as error:
            return error
        player = Player(
            Series(plan, start.typical_ns),
            lambda count, rouse_ns: worker.ask("block", count=count, rouse_ns=rouse_ns),
        )
        self._members.append(_Member(at, job, worker, start, player))
        return None

    def measured(self, notes: Sequence[str]) -> Iterator[tuple[int, Outcome]]:
        """Play the rounds; then finish one after the other, so that nobody else runs meanwhile."""
        self._setting.begin()
        play([member.player for member in self._members])
        self._setting.end()
        for position, member in enumerate(self._members):
            outcome: Outcome
            try:
                outcome = self._finish(position, member, notes)
            except DeviceRuntimeError as error:
                outcome = error
            member.worker.close()
            yield member.at, outcome

    def _finish(self, position: int, member: _Member, notes: Sequence[str]) -> BenchmarkReport:
        if member.player.failure is not None:
            raise member.player.failure
        setting, ask = self._setting, member.worker.ask
        seconds = setting.plan.sustained_s
        extras = Extras(
            read_record(SustainedFacts, ask("sustain", more_s=seconds) if seconds else {}),
            read_record(EnergyFacts, ask("energy") if setting.meter else {}),
            read_record(Profiled, ask("profile") if setting.plan.profile else {}),
            read_record(AccuracyFacts, ask("accuracy") if member.job.samples is not None else {}),
        )
        variants = len(self._members)
        series = member.player.series
        return compose(setting, member.start, series, extras, position=position, variants=variants, notes=notes)


def _answers(job: Job, setting: Setting) -> Answers:
    """What a worker can be asked; it has all this from the fork."""
    meter, samples = setting.meter, job.samples
    return {
        "start": lambda subject, _: subject.start(),
        "block": lambda subject, asked: subject.block(asked["count"], rouse_ns=asked["rouse_ns"]).tolist(),
        "sustain": lambda subject, _: subject.sustain(setting.plan.sustained_s),
        "energy": lambda subject, _: EnergyFacts() if meter is None else subject.energy(meter, setting.idle_w),
        "profile": lambda subject, _: subject.profile(),
        "accuracy": lambda subject, _: (
            AccuracyFacts() if samples is None else subject.accuracy(samples, job.outputs_path)
        ),
    }


def _has_room(job: Job, free: Optional[float]) -> bool:
    """Whether one more model may be loaded beside others; where the system does not tell, it may."""
    return free is None or free >= RESERVE_MB + job.needs_mb


def _memory_note(tried: int, of: int) -> list[str]:
    if tried == of:
        return []
    beside = f"{tried} of {of} models" if tried > 1 else "this model alone"
    return [f"memory did not suffice for all models at once: {beside} measured in this session"]


def _one_by_one(jobs: Sequence[Job], plan: Plan) -> Iterator[tuple[int, Outcome]]:
    for at, job in enumerate(jobs):
        try:
            yield at, measure_one(job.model, plan, samples=job.samples, outputs_path=job.outputs_path)
        except DeviceRuntimeError as error:
            yield at, error
