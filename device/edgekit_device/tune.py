"""Which way of running a model is fastest on this board: runtimes × delegates × threads, each tried in a child of its own.

Two rungs of successive halving (Jamieson and Talwalkar, Non-stochastic Best Arm Identification, AISTATS 2016): every way is
run for a moment, one after the other; those that come near the fastest are then measured in turns, block by block, so that
heat and other processes touch them alike. Of those that cannot be told apart the simplest is kept: fewest threads, the
runtime's own delegate, the maintained runtime.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ._runtime import RUNTIMES, installed_runtimes, load_runtime
from .accelerators.litert import find_accelerators
from .bootstrap import ratio_interval
from .delegates import choose_delegate, parse_delegate
from .emulation import find_emulator
from .errors import DeviceRuntimeError, InputError
from .loading import ModelSource, read_model
from .plan import Plan
from .report import RuntimeFacts, TuningFacts, TuningTrial
from .rounds import Player, play
from .series import Series
from .subject import Subject
from .timing import no_collection, time_once
from .wire import read_record
from .worker import Worker

__all__ = ["BUDGET_S", "Way", "tune", "ways_to_run"]

BUDGET_S = 8.0
SCREEN_NS = 100_000_000
SCREEN_RUNS = 3
NEAR = 1.5  # the fastest of a moment's inferences is not off by so much: what is slower cannot win
FINALISTS = 4  # as many are loaded at once
SAME = 0.02  # a difference that is not worth another thread
TRIAL_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Way:
    """One way to run a model, as the options of the command name it."""

    runtime: str
    delegate: str
    threads: int

    @property
    def effort(self) -> tuple[int, bool, int]:
        """What is taken of two that are equally fast: the smaller."""
        return self.threads, self.delegate == "none", list(RUNTIMES).index(self.runtime)


@dataclass
class _Trial:
    """A way and what became of it. ``ran`` is what the runtime says of itself, ``typical_ns`` and ``least_ns`` the median and
    the fastest of its moment, ``medians_ns`` the medians of its blocks in turns."""

    way: Way
    ran: RuntimeFacts = field(default_factory=RuntimeFacts)
    typical_ns: Optional[float] = None
    least_ns: float = float("inf")
    medians_ns: Sequence[float] = ()
    error: str = ""

    @property
    def median_ns(self) -> float:
        """The best estimate there is; infinite where it could not be run."""
        if self.medians_ns:
            return float(statistics.median(self.medians_ns))
        return float("inf") if self.typical_ns is None else self.typical_ns

    def facts(self) -> TuningTrial:
        """As the report holds it."""
        median = None if self.error else round(self.median_ns / 1e6, 6)
        asked = self.way.delegate  # what LiteRT's accelerators are asked for by is no name of what took over
        delegate = asked if asked.startswith("litert:") else self.ran.delegate or asked
        return TuningTrial(self.way.runtime, self.ran.version, delegate, self.way.threads, median, self.error)


def tune(
    model: ModelSource,
    *,
    runtime: str = "auto",
    delegate: str = "auto",
    most_threads: Optional[int] = None,
    budget_s: float = BUDGET_S,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[Way, TuningFacts]:
    """Try every way to run ``model`` and return the best with all that were tried, fastest first.

    ``runtime`` and ``delegate`` other than ``auto`` are kept to, and ``most_threads`` (the number of cores) is the most.
    ``budget_s`` seconds is about how long it takes; what it does not reach is listed as not tried. A way that crashes or hangs
    is listed with why.

    Raises ModelError for bytes that are no model, InputError for options out of range or an emulated processor, whose times
    mean nothing, and DeviceRuntimeError when no way works.
    """
    if not 0 < budget_s <= 3600:
        raise InputError(f"expected a budget (--budget) of seconds above 0 and at most 3600, got {budget_s:g}")
    emulator = find_emulator()
    if emulator:
        raise InputError(
            f"expected a real processor to tune on, and this one is emulated by {emulator}: its times mean nothing"
        )
    content, name = read_model(model)
    until = time.monotonic() + budget_s
    trials = _screened(
        ways_to_run(content, name, runtime, delegate, most_threads, _accelerators(runtime, delegate)),
        content,
        name,
        until - budget_s / 4,
        clock,
    )
    working = [trial for trial in trials if not trial.error]
    if not working:
        raise DeviceRuntimeError(f"no way to run {name} works here: {trials[0].error}")
    _play_finals(_nearest(working), content, name, max(1.0, until - time.monotonic()), clock)
    best = _best(working)
    listed = sorted(trials, key=lambda trial: (trial is not best, trial.error != "", trial.median_ns))
    return _named(best), TuningFacts(tuple(trial.facts() for trial in listed))


def ways_to_run(
    content: bytes,
    name: str,
    runtime: str = "auto",
    delegate: str = "auto",
    most_threads: Optional[int] = None,
    accelerators: Sequence[str] = (),
) -> list[Way]:
    """The ways that are tried, the likely ones first: the runtimes' own delegates with one thread and up, LiteRT's
    ``accelerators`` (``litert:gpu``: threads are nothing to it; ``litert:cpu``), then none.

    Runtimes are those installed; TensorFlow, whose kernels LiteRT has too, only where there is no other or it is named.
    A model compiled for the Edge TPU has one delegate, and threads are nothing to it.
    """
    compiled = choose_delegate(parse_delegate(delegate), content, name).kind == "edgetpu"
    runtimes = [load_runtime(runtime).name] if runtime != "auto" else [n for n in installed_runtimes() if n != "tf"]
    cores = os.cpu_count() or 1
    most = cores if most_threads is None else most_threads
    if not isinstance(most, int) or most < 1:
        raise InputError(f"expected threads (--threads) of at least 1, got {most!r}")
    delegates = [delegate] if delegate != "auto" or compiled else ["auto", "none"]
    threads = [1] if compiled else sorted({*(2**n for n in range(8) if 2**n <= most), most})
    ways = [Way(r, d, t) for d in delegates for r in runtimes or [load_runtime("auto").name] for t in threads]
    if delegate != "auto" or compiled or "litert" not in runtimes:
        return ways
    own = [Way("litert", name, t) for name in accelerators for t in (threads if name == "litert:cpu" else [1])]
    plain = [way for way in ways if way.delegate == "none"]
    return [*(way for way in ways if way not in plain), *own, *plain]


def _accelerators(runtime: str, delegate: str) -> list[str]:
    """LiteRT's accelerators that work here, those that are real first; none where others are asked for."""
    if delegate != "auto" or runtime not in ("auto", "litert") or "litert" not in installed_runtimes():
        return []
    found = find_accelerators(load_runtime("litert"))
    return [it.name for it in reversed(found) if it.available and not it.software]


def _screened(ways: Sequence[Way], content: bytes, name: str, until: float, clock: Callable[[], int]) -> list[_Trial]:
    """Each way run for a moment; once one works, nothing is tried after ``until``."""
    trials: list[_Trial] = []
    for way in ways:
        if _is_known(way, trials):
            continue
        trial = _Trial(way)
        if time.monotonic() >= until and any(not done.error for done in trials):
            trial.error = "not tried: the time was spent"  # what is left is for the finals
        else:
            _screen(trial, content, name, clock)
        trials.append(trial)
    return trials


def _is_known(way: Way, trials: Sequence[_Trial]) -> bool:
    """Whether this is a way that was tried under another name: where a runtime applies nothing by itself, ``none``."""
    plain = {trial.way.runtime for trial in trials if trial.way.delegate == "auto" and trial.ran.delegate == "none"}
    return way.delegate == "none" and way.runtime in plain


def _screen(trial: _Trial, content: bytes, name: str, clock: Callable[[], int]) -> None:
    """Run it for a moment, alone in a process of its own."""
    worker = _worker(trial.way, content, name, clock)
    try:
        answer = worker.ask("screen")
        trial.ran = read_record(RuntimeFacts, answer["runtime"])
        trial.typical_ns, trial.least_ns = float(answer["typical_ns"]), float(answer["least_ns"])
    except DeviceRuntimeError as error:
        trial.error = str(error)
    finally:
        worker.close()


def _nearest(working: Sequence[_Trial]) -> list[_Trial]:
    """By the fastest inference of each, which other processes disturb least."""
    ranked = sorted(working, key=lambda trial: trial.least_ns)
    return [trial for trial in ranked[:FINALISTS] if trial.least_ns <= NEAR * ranked[0].least_ns]


def _play_finals(
    finalists: Sequence[_Trial], content: bytes, name: str, left_s: float, clock: Callable[[], int]
) -> None:
    """Measure the nearest in turns; one that fails now keeps its error, and is out."""
    if len(finalists) == 1:
        return
    plan = Plan(budget_s=left_s / len(finalists))
    with ExitStack() as stack:
        playing = []
        for trial in finalists:
            worker = _worker(trial.way, content, name, clock)
            stack.callback(worker.close)
            try:
                typical_ns = float(worker.ask("screen")["typical_ns"])
            except DeviceRuntimeError as error:
                trial.error = str(error)
                continue
            playing.append((trial, Player(Series(plan, typical_ns), _block_of(worker))))
        play([player for _, player in playing])
        for trial, player in playing:
            trial.medians_ns = tuple(player.series.medians_ns)
            trial.error = str(player.failure or "")


def _best(working: Sequence[_Trial]) -> _Trial:
    """The fastest, or the simplest of those that are no slower than it as far as anybody can tell."""
    alive = [trial for trial in working if not trial.error]
    if not alive:
        raise DeviceRuntimeError(f"no way to run the model works twice here: {working[0].error}")
    fastest = min(alive, key=lambda trial: trial.median_ns)
    return min((trial for trial in alive if _as_fast(trial, fastest)), key=lambda trial: trial.way.effort)


def _as_fast(trial: _Trial, fastest: _Trial) -> bool:
    if trial is fastest:
        return True
    if not (trial.medians_ns and fastest.medians_ns):
        return False
    bounds = ratio_interval(fastest.medians_ns, trial.medians_ns)
    return trial.median_ns <= (1 + SAME) * fastest.median_ns or (bounds is not None and bounds[0] <= 1)


def _named(best: _Trial) -> Way:
    """By the delegate that did the work, where it has a name to ask for it by."""
    taken = best.ran.delegate
    return (
        replace(best.way, delegate=taken) if taken in ("xnnpack", "none") and best.way.delegate == "auto" else best.way
    )


def _worker(way: Way, content: bytes, name: str, clock: Callable[[], int]) -> Worker:
    plan = Plan(threads=way.threads, runtime=way.runtime, delegate=way.delegate, deadline_s=TRIAL_DEADLINE_S)
    return Worker(content, name, plan, {"screen": _screening, "block": _block}, clock)


def _block_of(worker: Worker) -> Callable[[int, float], Any]:
    return lambda count, rouse_ns: worker.ask("block", count=count, rouse_ns=rouse_ns)


def _block(subject: Subject, command: Mapping[str, Any]) -> list[int]:
    return list(subject.block(int(command["count"]), rouse_ns=float(command["rouse_ns"])))


def _screening(subject: Subject, _command: Mapping[str, Any]) -> dict[str, Any]:
    """The first inference uncounted, then a moment's: the median of its second half."""
    with subject.model.bare_invoke() as invoke, no_collection():
        invoke()
        durations = list(_for_a_moment(lambda: time_once(invoke, subject.clock)))
    later = durations[len(durations) // 2 :]
    return {"runtime": vars(subject.model.runtime), "typical_ns": statistics.median(later), "least_ns": min(durations)}


def _for_a_moment(run: Callable[[], int]) -> Iterator[int]:
    spent = count = 0
    while count < SCREEN_RUNS or spent < SCREEN_NS:
        took = run()
        spent, count = spent + took, count + 1
        yield took
        if spent > 5 * SCREEN_NS and count >= 1:
            return
