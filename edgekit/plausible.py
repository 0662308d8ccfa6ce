"""What a report can mean: figures come from devices, hubs and files, and may be anything that is a number."""

from __future__ import annotations

from dataclasses import fields, replace

from edgekit_device.report import BenchmarkReport, LatencyFacts, SustainedFacts

__all__ = ["is_plausible", "without_nonsense"]

LEAST_MS, MOST_MS = 1e-6, 1e9
NOTE = "its latency was left out: the report holds times that nothing can take"


def is_plausible(duration_ms: float) -> bool:
    """Whether an inference can take so long: between a nanosecond and eleven days."""
    return LEAST_MS <= duration_ms <= MOST_MS


def without_nonsense(report: BenchmarkReport) -> BenchmarkReport:
    """``report`` without a latency, or a curve, that holds times nothing can take; a note says so."""
    latency, sustained = report.latency, report.sustained
    times = [getattr(latency, item.name) for item in fields(latency) if item.name.endswith("_ms")]
    known = [time for time in times if isinstance(time, (int, float))]
    if not all(time == 0 or is_plausible(time) for time in (*known, *latency.samples_ms)) or latency.median_ms == 0:
        report = replace(report, latency=LatencyFacts(), notes=(*report.notes, NOTE))
    series = (*sustained.times_s, *sustained.medians_ms, *sustained.temperatures_c, *sustained.frequencies_mhz)
    if not all(abs(value) <= MOST_MS for value in series) or not all(map(is_plausible, sustained.medians_ms)):
        report = replace(report, sustained=SustainedFacts())
    return report
