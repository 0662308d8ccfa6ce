"""Measure one model: load, first inference, warm-up, then every inference timed by itself."""

from __future__ import annotations

import gc
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Optional

from ._runtime import load_runtime
from .board import peak_rss_mb, read_board
from .emulation import find_emulator, strip_times
from .errors import InputError
from .evaluation import Samples, measure_accuracy
from .loading import ModelSource, check_threads, probe_model, read_model
from .model import Model
from .report import AccuracyFacts, BenchmarkReport, MemoryFacts, ModelFacts
from .stats import summarize
from .tensors import random_input

__all__ = ["measure"]

Clock = Callable[[], int]
Invoke = Callable[[], object]

LEAST_RUNS = 50
MOST_RUNS = 20_000
STEADY_NS = 1_000_000_000  # without an explicit count: at least this long and at least LEAST_RUNS
LONGEST_NS = 30_000_000_000  # … but no longer than this once there are ENOUGH_RUNS
ENOUGH_RUNS = 10
WARMUP_NS = 200_000_000
MOST_ASKED = 1_000_000


def measure(
    model: ModelSource,
    *,
    threads: int = 1,
    runtime: str = "auto",
    runs: Optional[int] = None,
    warmup: int = 5,
    samples: Optional[Samples] = None,
    outputs_path: Optional[str] = None,
    probe: bool = True,
    clock: Clock = time.perf_counter_ns,
) -> BenchmarkReport:
    """Load ``model``, time its inferences and, given ``samples``, its accuracy.

    ``init`` is what Model() takes to read, verify, load and allocate; the rest is the runtime's invoke alone. Inputs
    are seeded random values within [-1, 1] (floats) or the dtype's range (integers), set once. ``runs`` is the exact
    number of timed inferences; by default at least 50 and one second (at most 20,000). ``warmup`` inferences, and at
    least 0.2 s of them (none for 0), come before and are kept apart, as is the first. The board is read right after
    the last one: that is the temperature and the throttling of the figures. On an emulated processor nothing is timed:
    one run, and a report without times (``emulation``).

    Raises what Model raises; InputError for counts out of range.
    """
    _check_counts(runs, warmup)
    check_threads(threads)
    emulator = find_emulator()
    if emulator:  # its times are thrown away: one run is enough
        runs, warmup = 1, 0
    chosen = load_runtime(runtime)  # importing it is no part of loading a model, and neither is the trial
    if probe:
        content, name = read_model(model)
        probe_model(chosen, content, threads, name)
    started = clock()
    with Model(model, threads=threads, runtime=chosen.name, probe=False) as loaded:
        init_ns = clock() - started
        loaded.set_inputs([random_input(spec) for spec in loaded.inputs])
        with loaded.bare_invoke() as invoke, _no_collection():
            first_ns = _timed(invoke, clock)
            warmup_ns = list(_warm_up(invoke, warmup, clock))
            durations = _repeat(invoke, runs, clock)
        # Before the accuracy, which resizes the model: these belong to what was timed.
        board, memory, facts = read_board(), MemoryFacts(peak_rss_mb()), loaded.runtime
        latency = summarize(durations, init_ns=init_ns, first_ns=first_ns, warmup_ns=warmup_ns)
        accuracy = AccuracyFacts()
        if samples is not None:
            accuracy = measure_accuracy(loaded, samples, outputs_path=outputs_path)
        report = BenchmarkReport(
            id=uuid.uuid4().hex,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            model=ModelFacts(loaded.sha256, loaded.size_bytes, os.path.basename(loaded.name)),
            runtime=facts,
            latency=latency,
            memory=memory,
            board=board,
            accuracy=accuracy,
        )
        return strip_times(report, emulator)


def _check_counts(runs: Optional[int], warmup: int) -> None:
    if runs is not None and not 1 <= runs <= MOST_ASKED:
        raise InputError(f"expected runs (--runs) from 1 to {MOST_ASKED}, got {runs}")
    if not 0 <= warmup <= MOST_ASKED:
        raise InputError(f"expected warm-up runs (--warmup) from 0 to {MOST_ASKED}, got {warmup}")


def _timed(invoke: Invoke, clock: Clock) -> int:
    started = clock()
    invoke()
    return clock() - started


def _warm_up(invoke: Invoke, least: int, clock: Clock) -> Iterator[int]:
    started = clock()
    for done in range(max(MOST_RUNS, least)):
        if done >= least and (least == 0 or clock() - started >= WARMUP_NS):
            return
        yield _timed(invoke, clock)


def _repeat(invoke: Invoke, runs: Optional[int], clock: Clock) -> Sequence[int]:
    durations: list[int] = []
    started = clock()
    while not _done(len(durations), runs, clock() - started if runs is None else 0):
        durations.append(_timed(invoke, clock))
    return durations


def _done(count: int, runs: Optional[int], elapsed_ns: int) -> bool:
    if runs is not None:
        return count >= runs
    steady = count >= LEAST_RUNS and elapsed_ns >= STEADY_NS
    return steady or count >= MOST_RUNS or (count >= ENOUGH_RUNS and elapsed_ns >= LONGEST_NS)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's cycle collector out of the timed runs."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
