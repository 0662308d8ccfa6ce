"""Measure one model: load, first inference, warm-up, then every inference timed by itself."""

from __future__ import annotations

import gc
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

from ._runtime import load_runtime
from .board import peak_rss_mb, read_board
from .errors import InputError
from .evaluation import Samples, measure_accuracy
from .model import Model, TensorSpec
from .report import AccuracyFacts, BenchmarkReport, MemoryFacts, ModelFacts
from .stats import summarize

__all__ = ["measure", "random_input"]

Array = npt.NDArray[Any]
Clock = Callable[[], int]

LEAST_RUNS = 50
MOST_RUNS = 20_000
STEADY_NS = 1_000_000_000  # without an explicit count: at least this long and at least LEAST_RUNS
LONGEST_NS = 30_000_000_000  # … but no longer than this once there are ENOUGH_RUNS
ENOUGH_RUNS = 10
WARMUP_NS = 200_000_000


def measure(
    model: Union[str, os.PathLike[str], bytes],
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

    Only the runtime's invoke is timed; inputs are seeded random values within [-1, 1] (floats) or the dtype's range
    (integers), set once. ``runs`` is the exact number of timed inferences; by default at least 50 and at least one
    second. ``warmup`` inferences, and at least 0.2 s of them, come before and are kept apart, as is the first.

    Raises what Model raises; InputError for counts below 1.
    """
    if (runs is not None and not 1 <= runs <= 10_000_000) or not 0 <= warmup <= 1_000_000:
        raise InputError(f"expected runs of at least 1 and warmup of at least 0, got runs={runs}, warmup={warmup}")
    board = read_board()
    load_runtime(runtime)  # importing it is no part of loading a model
    started = clock()
    with Model(model, threads=threads, runtime=runtime, probe=probe) as loaded:
        init_ns = clock() - started
        loaded.set_inputs([random_input(spec) for spec in loaded.inputs])
        first_ns = _timed(loaded, clock)
        with _no_collection():
            warmup_ns = list(_warm_up(loaded, warmup, clock))
            durations = _repeat(loaded, runs, clock)
        latency = summarize(durations, init_ns=init_ns, first_ns=first_ns, warmup_ns=warmup_ns)
        memory = MemoryFacts(peak_rss_mb())
        accuracy = AccuracyFacts()
        if samples is not None:
            accuracy = measure_accuracy(loaded, samples, outputs_path=outputs_path)
        return BenchmarkReport(
            id=uuid.uuid4().hex,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            model=ModelFacts(loaded.sha256, loaded.size_bytes, os.path.basename(loaded.name)),
            runtime=loaded.runtime,
            latency=latency,
            memory=memory,
            board=board,
            accuracy=accuracy,
        )


def _timed(model: Model, clock: Clock) -> int:
    started = clock()
    model.invoke()
    return clock() - started


def _warm_up(model: Model, least: int, clock: Clock) -> Iterator[int]:
    started = clock()
    for done in range(MOST_RUNS):
        if done >= least and (least == 0 or clock() - started >= WARMUP_NS):
            return
        yield _timed(model, clock)


def _repeat(model: Model, runs: Optional[int], clock: Clock) -> Sequence[int]:
    durations: list[int] = []
    started = clock()
    while not _done(len(durations), runs, clock() - started if runs is None else 0):
        durations.append(_timed(model, clock))
    return durations


def _done(count: int, runs: Optional[int], elapsed_ns: int) -> bool:
    if runs is not None:
        return count >= runs
    steady = count >= LEAST_RUNS and elapsed_ns >= STEADY_NS
    return steady or count >= MOST_RUNS or (count >= ENOUGH_RUNS and elapsed_ns >= LONGEST_NS)


def random_input(spec: TensorSpec) -> Array:
    """A seeded input of the tensor's shape and dtype; zeros where an integer is an index or a token."""
    rng = np.random.default_rng(0)
    if spec.dtype.kind == "f":
        return rng.uniform(-1, 1, spec.shape).astype(spec.dtype)
    if spec.dtype.kind == "b":
        return rng.integers(0, 2, spec.shape).astype(spec.dtype)
    if spec.quantized:
        limits = np.iinfo(spec.dtype)
        return rng.integers(limits.min, limits.max, spec.shape, dtype=spec.dtype, endpoint=True)
    return np.zeros(spec.shape, spec.dtype)  # token ids and indices: zero is the one value always in range


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
