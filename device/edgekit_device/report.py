"""The report: what a device measured, as it crosses the wire.

Every record is frozen, every field has a default, unknown fields are ignored and values of the wrong kind fall back
to the default, so that an old host reads a new device and the other way round. Strings come from a device and are
capped and stripped of control characters before anybody prints them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from .errors import ReportError
from .text import clean_text

__all__ = [
    "SCHEMA",
    "AccuracyFacts",
    "BenchmarkReport",
    "BoardFacts",
    "LatencyFacts",
    "MemoryFacts",
    "ModelFacts",
    "RuntimeFacts",
    "clean_text",
]

SCHEMA = 1
SAMPLES_CAP = 2000
NOTES_CAP = 50


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


@dataclass(frozen=True)
class LatencyFacts:
    """Durations of one inference in milliseconds (``std_ms`` is the population's); None where not measured.

    ``samples_ms`` holds every sample in the order measured when ``samples_kind`` is ``all``; above 2,000 samples it
    holds 2,000 evenly spaced quantiles, ascending, and ``samples_kind`` is ``sketch``.
    """

    count: int = 0
    init_ms: Optional[float] = None
    first_ms: Optional[float] = None
    warmup_count: int = 0
    warmup_mean_ms: Optional[float] = None
    mean_ms: Optional[float] = None
    median_ms: Optional[float] = None
    std_ms: Optional[float] = None
    min_ms: Optional[float] = None
    max_ms: Optional[float] = None
    p5_ms: Optional[float] = None
    p90_ms: Optional[float] = None
    p95_ms: Optional[float] = None
    p99_ms: Optional[float] = None
    samples_kind: str = "all"
    samples_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class MemoryFacts:
    """Memory of the measuring process, in mebibytes."""

    peak_rss_mb: Optional[float] = None


@dataclass(frozen=True)
class BoardFacts:
    """What the board says of itself; absent facts stay empty or None, nothing is guessed."""

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


@dataclass(frozen=True)
class AccuracyFacts:
    """Top-1 accuracy measured on the device, and the data it was measured on."""

    accuracy: Optional[float] = None
    correct: int = 0
    count: int = 0
    data_sha256: str = ""
    outputs_sha256: str = ""


@dataclass(frozen=True)
class BenchmarkReport:
    """One model measured once on one device."""

    schema: int = SCHEMA
    id: str = ""
    created: str = ""
    model: ModelFacts = field(default_factory=ModelFacts)
    runtime: RuntimeFacts = field(default_factory=RuntimeFacts)
    latency: LatencyFacts = field(default_factory=LatencyFacts)
    memory: MemoryFacts = field(default_factory=MemoryFacts)
    board: BoardFacts = field(default_factory=BoardFacts)
    accuracy: AccuracyFacts = field(default_factory=AccuracyFacts)
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
        if not isinstance(raw, Mapping) or _integer(raw.get("schema"), 0) < 1:
            keys = f" with {clean_text(', '.join(map(str, list(raw)[:5])), 80)}" if isinstance(raw, Mapping) else ""
            raise ReportError(
                f"expected a benchmark report (an object with 'schema', now {SCHEMA}), got {type(raw).__name__}{keys}"
            )
        report: BenchmarkReport = _read(cls, raw)
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


def _integer(value: object, default: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        return default
    return value if abs(value) < 2**63 else default


def _number(value: object, default: Optional[float]) -> Optional[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    try:
        number = float(value)
    except OverflowError:
        return default
    return number if math.isfinite(number) else default


def _text(value: object, default: str) -> str:
    return clean_text(value) if isinstance(value, str) else default


def _numbers(value: object, _: object) -> tuple[float, ...]:
    items = value if isinstance(value, (list, tuple)) else ()
    return tuple(number for number in (_number(item, None) for item in items[:SAMPLES_CAP]) if number is not None)


def _texts(value: object, _: object) -> tuple[str, ...]:
    items = value if isinstance(value, (list, tuple)) else ()
    return tuple(clean_text(item) for item in items[:NOTES_CAP] if isinstance(item, str))


def _read(record: type, raw: Mapping[str, Any]) -> Any:
    """Build ``record`` from ``raw`` field by field: the annotation says how a value is read."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(record):
        if item.name not in raw:
            continue
        value, kind = raw[item.name], str(item.type)
        if kind in _NESTED:
            if isinstance(value, Mapping):
                values[item.name] = _read(_NESTED[kind], value)
        else:
            values[item.name] = _READERS[kind](value, item.default)
    return record(**values)


_READERS: dict[str, Callable[[object, Any], Any]] = {
    "str": _text,
    "int": _integer,
    "Optional[float]": _number,
    "tuple[float, ...]": _numbers,
    "tuple[str, ...]": _texts,
}

_NESTED: dict[str, type] = {
    record.__name__: record
    for record in (ModelFacts, RuntimeFacts, LatencyFacts, MemoryFacts, BoardFacts, AccuracyFacts)
}
