"""The model under measurement: loaded, warmed up, then run block by block, in this process."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Optional

from ._runtime import RUNTIMES, Runtime, load_runtime
from .board import peak_rss_mb
from .delegates import choose_delegate, parse_delegate
from .energy import EnergyMeter, measure_energy
from .errors import ProfileError
from .evaluation import Samples, measure_accuracy
from .loading import ModelSource, probe_model, read_model
from .model import Model
from .plan import Plan
from .report import AccuracyFacts, EnergyFacts, ModelFacts, ProfileFacts, RuntimeFacts, SustainedFacts
from .sustained import sustain
from .tensors import random_input
from .timing import Clock, Durations, no_collection, time_once, time_runs
from .warmup import warm_up

__all__ = ["Profiled", "Start", "Subject", "loaded_subject"]

ROUSE_NS = 5_000_000
ROUSE_BELOW_NS = (
    25_000_000  # of a slower model one cold inference is no more than its noise, and a block is hardly more
)


@dataclass(frozen=True)
class Start:
    """A model before its timed runs, and how it came there. Durations in nanoseconds, None where not measured."""

    model: ModelFacts = field(default_factory=ModelFacts)
    runtime: RuntimeFacts = field(default_factory=RuntimeFacts)
    import_ns: Optional[float] = None
    init_ns: Optional[float] = None
    first_ns: Optional[float] = None
    warmup_count: int = 0
    warmup_mean_ns: Optional[float] = None
    warmup_stable: Optional[bool] = None
    typical_ns: float = 0.0
    peak_rss_mb: Optional[float] = None


@dataclass(frozen=True)
class Profiled:
    """The time of every operator; or nothing, and a ``remark`` on why there is none."""

    facts: ProfileFacts = field(default_factory=ProfileFacts)
    remark: str = ""


class Subject:
    """One loaded model. Its inputs are seeded random values, within [-1, 1] or the integers' range, set once."""

    def __init__(
        self, source: ModelSource, model: Model, plan: Plan, clock: Clock, *, import_ns: Optional[int], init_ns: int
    ) -> None:
        self._source, self.model, self.plan, self.clock = source, model, plan, clock
        self._import_ns, self._init_ns = import_ns, init_ns

    def start(self) -> Start:
        """Run the first inference and the warm-up. The peak of memory is read here: what comes later is the figures' own."""
        with self.model.bare_invoke() as invoke, no_collection():
            first_ns = time_once(invoke, self.clock)
            warmth = warm_up(invoke, self.plan.warmup, self.clock)
        model = self.model
        return Start(
            ModelFacts(model.sha256, model.size_bytes, os.path.basename(model.name)),
            model.runtime,
            self._import_ns,
            self._init_ns,
            first_ns,
            warmth.count,
            warmth.mean_ns,
            warmth.stable,
            warmth.typical_ns or float(first_ns),
            peak_rss_mb(),
        )

    def block(self, count: int, *, rouse_ns: float = 0.0) -> Durations:
        """``count`` durations in nanoseconds, one after the other.

        Where other models have run meanwhile ``rouse_ns`` is about how long an inference takes: one, and 5 ms of them, are
        run before and not counted, to bring caches and threads back. Slow models are not roused.
        """
        with self.model.bare_invoke() as invoke, no_collection():
            if 0 < rouse_ns < ROUSE_BELOW_NS:
                for _ in range(max(1, math.ceil(ROUSE_NS / rouse_ns))):
                    invoke()
            return time_runs(invoke, self.clock, count)

    def sustain(self, seconds: float) -> SustainedFacts:
        """Run without a pause for so long."""
        with self.model.bare_invoke() as invoke, no_collection():
            return sustain(invoke, seconds, self.clock)

    def energy(self, meter: EnergyMeter, idle_w: Optional[float]) -> EnergyFacts:
        """Run for a moment and see what the board draws."""
        with self.model.bare_invoke() as invoke, no_collection():
            return measure_energy(meter, invoke, idle_w)

    def profile(self) -> Profiled:
        """The time of every operator, measured in a child."""
        from .profile import profile_model

        plan, model = self.plan, self.model
        try:
            found = profile_model(
                self._source, runtime=model.runtime.name, threads=plan.threads, delegate=plan.delegate
            )
        except ProfileError as error:
            return Profiled(remark=f"no profile: {error}")
        return Profiled(found)

    def accuracy(self, samples: Samples, outputs_path: Optional[str]) -> AccuracyFacts:
        """Run every sample. It resizes the model: nothing may be timed afterwards."""
        return measure_accuracy(self.model, samples, outputs_path=outputs_path)


@contextmanager
def loaded_subject(model: ModelSource, plan: Plan, clock: Clock, *, probe: bool) -> Iterator[Subject]:
    """Import the runtime, try the model in a child where asked, load it. Raises what Model raises.

    The import is timed when it happens here, the load is what Model() takes to read, verify, load and allocate; the trial
    is no part of either.
    """
    runtime, import_ns = _timed_import(plan.runtime, clock)
    _try_first(model, plan, runtime, probe)
    started = clock()
    loaded = Model(model, threads=plan.threads, runtime=runtime.name, delegate=plan.delegate, probe=False)
    with loaded:
        init_ns = clock() - started
        loaded.set_inputs([random_input(spec) for spec in loaded.inputs])
        yield Subject(model, loaded, plan, clock, import_ns=import_ns, init_ns=init_ns)


def _timed_import(name: str, clock: Clock) -> tuple[Runtime, Optional[int]]:
    there = {key for key, candidate in RUNTIMES.items() if candidate.module in sys.modules}
    started = clock()
    runtime = load_runtime(name)
    took = clock() - started
    return runtime, None if runtime.name in there else took


def _try_first(model: ModelSource, plan: Plan, runtime: Runtime, probe: bool) -> None:
    """A library of somebody else's is always tried, and what passed here is not tried again by Model()."""
    asked = parse_delegate(plan.delegate)
    content, name = read_model(model)
    delegate = choose_delegate(asked, content, name)
    if delegate.loads_code:
        from .trial import try_delegate

        try_delegate(runtime, content, plan.threads, name, delegate)
    elif probe or delegate.kind == "litert":  # whose libraries may be built for another processor
        probe_model(runtime, content, plan.threads, name, delegate=delegate)
