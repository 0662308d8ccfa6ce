"""A stream's results as JSON lines, what it cost as a summary, and a line that tells how it goes."""

from __future__ import annotations

import json
import math
import os
from typing import IO, Any, Optional

from ..board import peak_rss_mb
from ..emulation import find_emulator
from .pipeline import STAGES, Pipeline, Work

__all__ = ["Durations", "Lines", "rss_mb", "summarize", "to_json"]

EARLY_FRAME = 1000
BINS_PER_E = 200  # neighbouring bins are half a percent apart: a percentile is at most a quarter of a percent off
BINS = BINS_PER_E * 28  # up to e^28 ns, 24 minutes


class Durations:
    """Percentiles of any number of durations, counted in bins of equal ratio: memory that does not grow."""

    def __init__(self) -> None:
        self._counts = [0] * BINS
        self._total = 0

    def add(self, duration_ns: int) -> None:
        """Count one."""
        self._counts[min(int(math.log(max(duration_ns, 1)) * BINS_PER_E), BINS - 1)] += 1
        self._total += 1

    def percentile_ms(self, percent: float) -> Optional[float]:
        """The duration in milliseconds that ``percent`` of them do not exceed; None where there are none."""
        rank = math.ceil(self._total * percent / 100) or 1
        for place, count in enumerate(self._counts):
            rank -= count
            if rank <= 0:
                return round(math.exp((place + 0.5) / BINS_PER_E) / 1e6, 6)
        return None


class Lines:
    """Writes a JSON line for each result to ``file``, an unbuffered binary file, and keeps the durations.

    A write that nobody reads blocks its thread alone; BrokenPipeError when the reader is gone. On an emulated processor no
    durations are kept and none written: they say nothing of a board's.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.durations = {stage: Durations() for stage in STAGES}
        self.first_ns: Optional[int] = None
        self.first_done_ns = self.last_done_ns = 0
        self.count = 0
        self.early_rss_mb: Optional[float] = None
        self.emulator = find_emulator()

    def __call__(self, work: Work) -> None:
        """Write the line of one frame: its number, seconds since the first, milliseconds of each stage, the result."""
        if self.first_ns is None:
            self.first_ns = work.captured_ns
        ms = {}
        for stage, spent_ns in () if self.emulator else zip(STAGES, work.spent_ns):
            self.durations[stage].add(spent_ns)
            ms[stage] = round(spent_ns / 1e6, 3)
        seconds = round((work.captured_ns - self.first_ns) / 1e9, 6)
        self.write({"frame": work.number, "t": seconds, **work.place, "ms": ms, **work.content})
        self.last_done_ns = work.captured_ns + work.spent_ns[-1]
        self.first_done_ns = self.first_done_ns or self.last_done_ns
        self.count += 1
        if self.count == EARLY_FRAME:
            self.early_rss_mb = rss_mb()

    def write(self, facts: dict[str, Any]) -> None:
        """One line, whole, in as many writes as the system wants."""
        line = memoryview(to_json(facts).encode() + b"\n")
        while line:
            line = line[self._file.write(line) :]

    @property
    def fps(self) -> Optional[float]:
        """Results a second, from the first to the last; None below two, and where the processor is emulated."""
        lasted_ns = self.last_done_ns - self.first_done_ns
        return (self.count - 1) * 1e9 / lasted_ns if lasted_ns > 0 and not self.emulator else None

    def status(self, dropped: int) -> str:
        """How it goes, in one short line."""
        if self.emulator:
            return f"{self.count} frames, {dropped} dropped; emulated by {self.emulator}: no latency"
        infer, total = self.durations["infer"], self.durations["total"]
        p50, p95, age = infer.percentile_ms(50), infer.percentile_ms(95), total.percentile_ms(50)
        if p50 is None or p95 is None or age is None:
            return "waiting for the first frame"
        return (
            f"{self.count} frames, {self.fps or 0:.1f} fps, infer p50 {p50:.2f} p95 {p95:.2f} ms, "
            f"from capture to result {age:.2f} ms, {dropped} dropped"
        )


def summarize(lines: Lines, pipeline: Pipeline, lasted_s: float) -> dict[str, Any]:
    """The last line's object: counts, rate, percentiles of each stage in milliseconds, memory in mebibytes."""
    return {
        "ended": pipeline.ended,
        "frames": lines.count,
        "captured": pipeline.captured,
        "dropped": pipeline.dropped,
        "skipped": pipeline.skipped,
        "skip_reason": pipeline.skip_reason,
        "seconds": round(lasted_s, 3),
        "fps": None if lines.fps is None else round(lines.fps, 3),
        "ms": {
            stage: {f"p{percent}": durations.percentile_ms(percent) for percent in (50, 95, 99)}
            for stage, durations in lines.durations.items()
        },
        "memory": {"rss_mb_at_1000": lines.early_rss_mb, "rss_mb": rss_mb(), "peak_rss_mb": peak_rss_mb()},
        "emulator": lines.emulator,
    }


def rss_mb(statm: str = "/proc/self/statm") -> Optional[float]:
    """The resident set now, in mebibytes; None where the system does not tell."""
    try:
        with open(statm, "rb") as file:
            return int(file.read(200).split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, IndexError):
        return None


def to_json(facts: object) -> str:
    """``facts`` as JSON on one line; NaN and infinity, which JSON has no words for, become null."""
    try:
        return json.dumps(facts, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(facts), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
