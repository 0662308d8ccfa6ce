"""Measure models: load, first inference, warm-up, then every inference timed by itself, in blocks; and the report of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from .board import read_board
from .conditions import Watch, remarks
from .emulation import find_emulator, strip_times
from .energy import EnergyMeter, find_meter
from .evaluation import Samples
from .loading import ModelSource
from .plan import Plan
from .report import (
    AccuracyFacts,
    BenchmarkReport,
    BoardFacts,
    ConditionsFacts,
    EnergyFacts,
    LatencyFacts,
    MemoryFacts,
    SessionFacts,
    SustainedFacts,
)
from .rounds import Player, play
from .series import Series
from .stats import noise_floor, summarize
from .subject import Profiled, Start, loaded_subject
from .timing import Clock

__all__ = ["Extras", "Setting", "compose", "measure", "measure_one"]


def measure(
    model: ModelSource,
    *,
    threads: int = 1,
    runtime: str = "auto",
    delegate: str = "auto",
    runs: Optional[int] = None,
    warmup: int = 5,
    precision: float = Plan.precision,
    budget_s: float = Plan.budget_s,
    sustained_s: float = 0.0,
    profile: bool = False,
    samples: Optional[Samples] = None,
    outputs_path: Optional[str] = None,
    probe: bool = True,
    clock: Clock = time.perf_counter_ns,
) -> BenchmarkReport:
    """Load ``model``, time its inferences and, given ``samples``, its accuracy.

    ``import`` is the runtime's (absent where it was imported before), ``init`` what Model() takes to read, verify, load
    and allocate; the rest is the runtime's invoke alone. Inputs are seeded random values within [-1, 1] (floats) or the
    dtype's range (integers), set once. ``runs`` is the exact number of timed inferences; by default there are at least
    50 and one second of them, and more until the 95 % interval of the median is narrower than ``precision`` of it,
    ``budget_s`` seconds of inference are spent (ten inferences at least), or 100,000 were run. ``warmup`` inferences at
    least, and 0.2 s of them (none for 0), come before and are kept apart, as is the first; they go on for up to two
    seconds until they settle. ``sustained_s`` seconds without a pause follow, and with ``profile`` the time of every
    operator. The board is read right after the last timed run: that is the temperature and the throttling of the
    figures. On an emulated processor nothing is timed: one run, and a report without times (``emulation``).

    Raises what Model raises; InputError for counts and times out of range.
    """
    plan = Plan(threads, runtime, delegate, runs, warmup, precision, budget_s, sustained_s, profile=profile)
    return measure_one(model, plan, samples=samples, outputs_path=outputs_path, probe=probe, clock=clock)


def measure_one(
    model: ModelSource,
    plan: Plan,
    *,
    samples: Optional[Samples] = None,
    outputs_path: Optional[str] = None,
    probe: bool = False,
    clock: Clock = time.perf_counter_ns,
) -> BenchmarkReport:
    """As ``measure``, by ``plan``: in this process, a session of one."""
    setting = Setting(plan)
    plan = setting.plan
    with loaded_subject(model, plan, clock, probe=probe) as subject:
        start = subject.start()
        series = Series(plan, start.typical_ns)
        setting.begin()
        player = Player(series, lambda count, rouse_ns: subject.block(count, rouse_ns=rouse_ns))
        play([player])
        setting.end()
        if player.failure is not None:
            raise player.failure
        # The accuracy resizes the model: whatever is timed comes before.
        extras = Extras(
            subject.sustain(plan.sustained_s) if plan.sustained_s else SustainedFacts(),
            subject.energy(setting.meter, setting.idle_w) if setting.meter else EnergyFacts(),
            subject.profile() if plan.profile else Profiled(),
            AccuracyFacts() if samples is None else subject.accuracy(samples, outputs_path),
        )
        return compose(setting, start, series, extras)


@dataclass(frozen=True)
class Extras:
    """What is measured beside the latency."""

    sustained: SustainedFacts = field(default_factory=SustainedFacts)
    energy: EnergyFacts = field(default_factory=EnergyFacts)
    profiled: Profiled = field(default_factory=Profiled)
    accuracy: AccuracyFacts = field(default_factory=AccuracyFacts)


class Setting:
    """What the models of one session have in common: the board, its state before and after, and the plan.

    The plan of an emulated processor is one run, for its times are thrown away.
    """

    def __init__(self, plan: Plan) -> None:
        self.emulator = find_emulator()
        self.plan = replace(plan, runs=1, warmup=0, sustained_s=0.0, profile=False) if self.emulator else plan
        self.id = uuid.uuid4().hex
        self.watch = Watch()
        self.meter: Optional[EnergyMeter] = None if self.emulator else find_meter()
        self.idle_w = self.meter.idle() if self.meter else None
        self.before = self.after = ConditionsFacts()
        self.board = BoardFacts()

    def begin(self) -> None:
        """The timed runs are about to start."""
        self.before = self.watch.look()

    def end(self) -> None:
        """The last timed run is over."""
        self.board = read_board()
        self.after = self.watch.look()


def compose(
    setting: Setting,
    start: Start,
    series: Series,
    extras: Extras,
    *,
    position: int = 0,
    variants: int = 1,
    notes: Sequence[str] = (),
) -> BenchmarkReport:
    """The report of one model of a session; without times where the processor is emulated."""
    report = BenchmarkReport(
        id=uuid.uuid4().hex,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        model=start.model,
        runtime=start.runtime,
        latency=_latency(start, series),
        memory=MemoryFacts(start.peak_rss_mb),
        board=setting.board,
        accuracy=extras.accuracy,
        before=setting.before,
        after=setting.after,
        session=_session(setting.id, series, position, variants),
        sustained=extras.sustained,
        energy=extras.energy,
        profile=extras.profiled.facts,
        notes=(
            *notes,
            *filter(None, [extras.profiled.remark]),
            *_remarks(start),
            *(() if setting.emulator else remarks(setting.before, setting.after)),
        ),
    )
    return strip_times(report, setting.emulator)


def _latency(start: Start, series: Series) -> LatencyFacts:
    bounds = series.bounds_ns()
    samples = [duration for block in series.blocks for duration in block]
    latency = summarize(
        samples, first_ns=start.first_ns, init_ns=start.init_ns, import_ns=start.import_ns, bounds_ns=bounds
    )
    return replace(
        latency,
        warmup_count=start.warmup_count,
        warmup_mean_ms=None if start.warmup_mean_ns is None else start.warmup_mean_ns / 1e6,
        warmup_stable=start.warmup_stable,
        stop=series.stop(bounds),
    )


def _session(session: str, series: Series, position: int, variants: int) -> SessionFacts:
    medians = [round(median / 1e6, 6) for median in series.medians_ns]
    return SessionFacts(session, position, variants, tuple(medians), noise_floor(medians))


def _remarks(start: Start) -> list[str]:
    said = []
    if start.warmup_stable is False:
        said.append(
            "the durations had not settled when warm-up ended: something else is at work on this board, or it gets hot"
        )
    if "took nothing" in start.runtime.delegate_options:
        said.append(f"all of it ran on the CPU: {start.runtime.delegate_options}")
    if start.runtime.delegate == "edgetpu":
        from .accelerators.edgetpu import edgetpu_conditions

        said += edgetpu_conditions().notes
    return said
