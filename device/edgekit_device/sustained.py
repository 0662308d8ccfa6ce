"""Inference without a pause for seconds or minutes: a board that gets hot gets slower, and here is the curve."""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from .report import SustainedFacts
from .sensors import cpu_temperature, frequencies, throttling
from .timing import Clock, Invoke, time_once

__all__ = ["slowdown", "sustain"]

SLICES = 120
MINUTE_S = 60.0
BASE = Path("/")

Heat = tuple[Optional[float], Optional[float], str]


def _heat() -> Heat:
    """Temperature in Celsius, mean frequency in MHz, and what slows the processor now."""
    return cpu_temperature(BASE), frequencies(BASE)[0], throttling(BASE)[0]


def sustain(invoke: Invoke, seconds: float, clock: Clock, heat: Callable[[], Heat] = _heat) -> SustainedFacts:
    """Run for ``seconds`` in 120 slices, at least one inference each, and look at the board after every slice."""
    times: list[float] = []
    medians: list[float] = []
    seen: list[Heat] = []
    started = clock()
    while clock() - started < seconds * 1e9:
        durations = array("q", [time_once(invoke, clock)])
        until = started + (len(times) + 1) * seconds * 1e9 / SLICES
        while clock() < until:
            durations.append(time_once(invoke, clock))
        times.append((clock() - started) / 1e9)
        medians.append(statistics.median(durations) / 1e6)
        seen.append(heat())
    flags = dict.fromkeys(flag for _, _, text in seen for flag in text.split(", ") if flag not in ("", "none"))
    told = any(text for _, _, text in seen)
    return SustainedFacts(
        duration_s=times[-1] if times else 0.0,
        times_s=tuple(times),
        medians_ms=tuple(medians),
        temperatures_c=_all_or_none([temperature for temperature, _, _ in seen]),
        frequencies_mhz=_all_or_none([frequency for _, frequency, _ in seen]),
        slowdown=slowdown(times, medians),
        throttling=", ".join(flags) or ("none" if told else ""),
    )


def slowdown(times_s: list[float], medians_ms: list[float]) -> Optional[float]:
    """The last minute's median over the first's, of a curve whose slices end at ``times_s``; of shorter curves, a quarter.

    None below four slices.
    """
    if len(times_s) < 4:
        return None
    window = min(MINUTE_S, times_s[-1] / 4)
    first = [median for end, median in zip(times_s, medians_ms) if end <= window] or medians_ms[:1]
    last = [median for end, median in zip(times_s, medians_ms) if end > times_s[-1] - window] or medians_ms[-1:]
    before = statistics.median(first)
    return statistics.median(last) / before if before > 0 else None


def _all_or_none(values: list[Optional[float]]) -> tuple[float, ...]:
    """One value for every slice, or nothing: a gap would shift the curve."""
    known = [value for value in values if value is not None]
    return tuple(known) if len(known) == len(values) else ()
