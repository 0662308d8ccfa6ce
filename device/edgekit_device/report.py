"""The report: what a device measured, as it crosses the wire.

Every record is frozen, every field has a default, unknown fields are ignored and values of the wrong kind fall back
to the default, so that an old host reads a new device and the other way round. Strings come from a device and are
capped and stripped of control characters before anybody prints them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from .errors import ReportError
from .text import clean_text
from .wire import SAMPLES_CAP, read_integer, read_record

__all__ = [
    "SAMPLES_CAP",
    "SCHEMA",
    "AccuracyFacts",
    "BenchmarkReport",
    "BoardFacts",
    "ConditionsFacts",
    "EnergyFacts",
    "LatencyFacts",
    "MemoryFacts",
    "ModelFacts",
    "OperatorTime",
    "ProfileFacts",
    "RuntimeFacts",
    "SessionFacts",
    "SustainedFacts",
    "TuningFacts",
    "TuningTrial",
    "clean_text",
]

SCHEMA = 1


@dataclass(frozen=True)
class ModelFacts:
    """Which file was measured."""

    sha256: str = ""
    size_bytes: int = 0
    name: str = ""


@dataclass(frozen=True)
class RuntimeFacts:
    """What ran it: a latency without these means nothing."""

    name: str = ""
    version: str = ""
    delegate: str = ""
    threads: int = 1
    delegate_library: str = ""
    delegate_options: str = ""


@dataclass(frozen=True)
class LatencyFacts:
    """Durations of one inference in milliseconds (``std_ms`` is the population's); None where not measured.

    A cold start is ``import_ms`` (the runtime), ``init_ms`` (reading, checking and allocating the model) and ``first_ms``;
    the rest is the steady state. ``median_low_ms`` to ``median_high_ms`` is a 95 % confidence interval of the median.
    ``stop`` says what ended the measurement: ``count`` (as many as asked), ``narrow`` (the interval is narrow enough) or
    ``budget`` (the time was spent). ``warmup_stable`` is whether warm-up ended because durations had settled.
    ``samples_ms`` holds every sample in the order measured when ``samples_kind`` is ``all``; above 2,000 samples it
    holds 2,000 evenly spaced quantiles, ascending, and ``samples_kind`` is ``sketch``.
    """

    count: int = 0
    import_ms: Optional[float] = None
    init_ms: Optional[float] = None
    first_ms: Optional[float] = None
    warmup_count: int = 0
    warmup_mean_ms: Optional[float] = None
    warmup_stable: Optional[bool] = None
    mean_ms: Optional[float] = None
    median_ms: Optional[float] = None
    median_low_ms: Optional[float] = None
    median_high_ms: Optional[float] = None
    std_ms: Optional[float] = None
    min_ms: Optional[float] = None
    max_ms: Optional[float] = None
    p5_ms: Optional[float] = None
    p90_ms: Optional[float] = None
    p95_ms: Optional[float] = None
    p99_ms: Optional[float] = None
    stop: str = ""
    samples_kind: str = "all"
    samples_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class MemoryFacts:
    """Memory of the measuring process, in mebibytes."""

    peak_rss_mb: Optional[float] = None


@dataclass(frozen=True)
class BoardFacts:
    """What the board says of itself; absent facts stay empty or None, nothing is guessed.

    ``id`` tells two boards of one model apart (a hash, not the serial number); ``emulator`` names what emulates the
    processor, whose times are no latencies.
    """

    model: str = ""
    cpu: str = ""
    architecture: str = ""
    cores: int = 0
    governor: str = ""
    frequency_mhz: Optional[float] = None
    temperature_c: Optional[float] = None
    throttling: str = ""
    memory_mb: Optional[float] = None
    system: str = ""
    python: str = ""
    numpy: str = ""
    id: str = ""
    emulator: str = ""


@dataclass(frozen=True)
class AccuracyFacts:
    """Top-1 accuracy measured on the device, and the data it was measured on."""

    accuracy: Optional[float] = None
    correct: int = 0
    count: int = 0
    data_sha256: str = ""
    outputs_sha256: str = ""


@dataclass(frozen=True)
class ConditionsFacts:
    """The state of the board at one moment; None and empty where it does not tell.

    ``frequency_mhz`` is the mean over the cores, ``frequency_max_mhz`` the highest any may run at, ``throttling`` what
    holds now and ``throttled_before`` what happened since boot; ``busy_others`` is how many cores other processes kept
    busy, and ``others`` names the busiest.
    """

    governor: str = ""
    frequency_mhz: Optional[float] = None
    frequency_max_mhz: Optional[float] = None
    temperature_c: Optional[float] = None
    throttling: str = ""
    throttled_before: str = ""
    load_1m: Optional[float] = None
    busy_others: Optional[float] = None
    others: tuple[str, ...] = ()
    memory_available_mb: Optional[float] = None
    swap_used_mb: Optional[float] = None


@dataclass(frozen=True)
class SessionFacts:
    """Variants measured together, in turns: A B A B.

    Reports with the same ``id`` come from one session, and entry i of ``block_medians_ms`` was measured right beside
    entry i of the others: they are compared in pairs. ``noise_floor`` is the largest difference, as a fraction, that
    this variant showed against itself (A/A).
    """

    id: str = ""
    position: int = 0
    variants: int = 0
    block_medians_ms: tuple[float, ...] = ()
    noise_floor: Optional[float] = None


@dataclass(frozen=True)
class SustainedFacts:
    """Minutes of inference without a pause: the curve of the medians of ``times_s``, with heat and frequency.

    ``slowdown`` is the last minute's median over the first's; 1.0 is a board that keeps its pace.
    """

    duration_s: Optional[float] = None
    times_s: tuple[float, ...] = ()
    medians_ms: tuple[float, ...] = ()
    temperatures_c: tuple[float, ...] = ()
    frequencies_mhz: tuple[float, ...] = ()
    slowdown: Optional[float] = None
    throttling: str = ""


@dataclass(frozen=True)
class EnergyFacts:
    """What the board's own sensor ``source`` says of the power drawn; all None where it has none."""

    source: str = ""
    idle_w: Optional[float] = None
    power_w: Optional[float] = None
    per_inference_mj: Optional[float] = None


@dataclass(frozen=True)
class OperatorTime:
    """Time of one operator: its position in the graph, its type, and the mean milliseconds of one inference."""

    index: int = 0
    type: str = ""
    name: str = ""
    mean_ms: Optional[float] = None
    share: Optional[float] = None


@dataclass(frozen=True)
class ProfileFacts:
    """Time per operator, measured apart from the latency, which profiling slows; ``source`` is what measured it."""

    source: str = ""
    total_ms: Optional[float] = None
    operators: tuple[OperatorTime, ...] = ()


@dataclass(frozen=True)
class TuningTrial:
    """One way to run the model, and its median latency or why it could not be run."""

    runtime: str = ""
    version: str = ""
    delegate: str = ""
    threads: int = 1
    median_ms: Optional[float] = None
    error: str = ""


@dataclass(frozen=True)
class TuningFacts:
    """Ways to run the model that were tried on the board, fastest first."""

    trials: tuple[TuningTrial, ...] = ()


@dataclass(frozen=True)
class BenchmarkReport:
    """One model measured once on one device. ``run`` and ``variant`` say whose it is, where the host told the device."""

    schema: int = SCHEMA
    id: str = ""
    created: str = ""
    model: ModelFacts = field(default_factory=ModelFacts)
    runtime: RuntimeFacts = field(default_factory=RuntimeFacts)
    latency: LatencyFacts = field(default_factory=LatencyFacts)
    memory: MemoryFacts = field(default_factory=MemoryFacts)
    board: BoardFacts = field(default_factory=BoardFacts)
    accuracy: AccuracyFacts = field(default_factory=AccuracyFacts)
    run: str = ""
    variant: str = ""
    before: ConditionsFacts = field(default_factory=ConditionsFacts)
    after: ConditionsFacts = field(default_factory=ConditionsFacts)
    session: SessionFacts = field(default_factory=SessionFacts)
    sustained: SustainedFacts = field(default_factory=SustainedFacts)
    energy: EnergyFacts = field(default_factory=EnergyFacts)
    profile: ProfileFacts = field(default_factory=ProfileFacts)
    tuning: TuningFacts = field(default_factory=TuningFacts)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """The report as one line of JSON; floats are finite by construction."""
        return json.dumps(self.to_dict(), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_dict(cls, raw: object) -> BenchmarkReport:
        """Read a report of any schema version; raises ReportError when it is not an object with a schema number."""
        if not isinstance(raw, Mapping) or read_integer(raw.get("schema"), 0) < 1:
            keys = f" with {clean_text(', '.join(map(str, list(raw)[:5])), 80)}" if isinstance(raw, Mapping) else ""
            raise ReportError(
                f"expected a benchmark report (an object with 'schema', now {SCHEMA}), got {type(raw).__name__}{keys}"
            )
        report = read_record(cls, raw)
        if report.schema > SCHEMA:
            note = f"written by a newer edgekit-device (schema {report.schema}, this reads {SCHEMA}): new fields are left out"
            report = dataclasses.replace(report, notes=(*report.notes, note))
        return report

    @classmethod
    def from_json(cls, text: str) -> BenchmarkReport:
        """Read a report from JSON text; raises ReportError when it is not one."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ReportError(f"expected a benchmark report as JSON, got {clean_text(text, 80)!r}") from error
        return cls.from_dict(raw)
