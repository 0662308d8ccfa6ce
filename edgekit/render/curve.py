"""The picture of a sustained run, laid out in pixels: latency, temperature and frequency over time, one above the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit_device.report import SustainedFacts

from . import figures
from .chart import Box, decimate, fit, ticks
from .pictures import Axis

__all__ = ["Curve", "Panel", "sustained_curve"]

HEAD, GAP, FOOT = 6.0, 34.0, 46.0
TALL, LOW = 120.0, 64.0
LEFT, RIGHT = 52.0, 14.0
MINUTES_FROM_S = 180.0
# The least range of an axis, so that a board that keeps its pace is not drawn as a mountain: a fifth, and plain units.
LEAST = (0.2, 10.0, 200.0)


@dataclass(frozen=True)
class Panel:
    """One figure over time: its own scale upwards, and the line as an SVG path."""

    plot: Box
    axis: Axis
    path: str


@dataclass(frozen=True)
class Curve:
    """The panels, latency first, over one axis of time; ``full`` says the curve in words."""

    width: float
    height: float
    x: Axis
    panels: tuple[Panel, ...]
    full: str


def sustained_curve(facts: SustainedFacts, width: float) -> Curve | None:
    """The curve of ``facts``; figures the board does not tell have no panel. None below two points."""
    times = facts.times_s
    factor, unit = figures.latency_unit(max(facts.medians_ms, default=0.0))
    series = (
        (f"Median latency ({unit})", [value * factor for value in facts.medians_ms]),
        ("Temperature (°C)", list(facts.temperatures_c)),
        ("Frequency (MHz)", list(facts.frequencies_mhz)),
    )
    drawn = [(title, values, least) for (title, values), least in zip(series, LEAST, strict=True) if len(values) > 1]
    if len(times) < 2 or len(facts.medians_ms) < 2:
        return None
    scale, unit = (1 / 60, "min") if times[-1] > MINUTES_FROM_S else (1.0, "s")
    x = fit([0.0, times[-1] * scale], LEFT, width - RIGHT, log=False)
    marks = [tick for tick in ticks(x, max(3, round(width / 110))) if tick >= 0]
    panels: list[Panel] = []
    top = HEAD
    for title, values, least in drawn:
        top += GAP - HEAD
        plot = Box(LEFT, top, width - LEFT - RIGHT, LOW if panels else TALL)
        floor = least * max(values) if not panels else least
        panels.append(_panel(title, plot, [x.at(time * scale) for time in times], values, floor))
        top = plot.bottom
    axis = Axis(f"Time ({unit})", x, tuple(zip(map(x.at, marks), figures.ticks(marks), strict=True)))
    return Curve(width, top + FOOT, axis, tuple(panels), _in_words(facts))


def _panel(title: str, plot: Box, across: Sequence[float], values: Sequence[float], least: float) -> Panel:
    scale = fit(values, plot.bottom, plot.y, margin=6, least=least, log=False)
    marks = ticks(scale, 4 if plot.height >= TALL else 2)
    axis = Axis(title, scale, tuple(zip(map(scale.at, marks), figures.ticks(marks), strict=True)))
    points = zip(across, map(scale.at, values), strict=False)
    path = " ".join(f"{'L' if place else 'M'}{x:.1f} {y:.1f}" for place, (x, y) in enumerate(points))
    return Panel(plot, axis, path)


def _in_words(facts: SustainedFacts) -> str:
    fastest, slowest = decimate(facts.medians_ms, 2)
    parts = [
        f"{figures.seconds(facts.duration_s or facts.times_s[-1])} without a pause",
        f"medians from {figures.milliseconds(fastest)} to {figures.milliseconds(slowest)}",
    ]
    if facts.temperatures_c:
        parts.append(f"from {figures.celsius(facts.temperatures_c[0])} to {figures.celsius(max(facts.temperatures_c))}")
    if facts.slowdown is not None:
        parts.append(f"the end {figures.slowdown(facts.slowdown)} against the beginning")
    return ", ".join(parts)
