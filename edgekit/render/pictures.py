"""The two pictures of a comparison, laid out in pixels: the trade-off and the spread of the latencies."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgekit_device.report import BenchmarkReport, LatencyFacts

from ..records import ComparedVariant, Comparison
from . import figures
from .chart import Box, Circle, Point, Scale, decimate, fit, leader, place_labels, radius, skyline, text_width, ticks
from .summary import plain

__all__ = ["Axis", "Bubble", "Label", "Marks", "Spread", "Strip", "TradeOff", "latency_spread", "trade_off"]

FONT = 13.0
LINE = 17.0
SPOT = 9.0
DOTS = 400
GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Axis:
    """A titled scale; ``ticks`` are (pixel, text)."""

    title: str
    scale: Scale
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Label:
    """A name beside its bubble; ``leader`` is a line to it (x1, y1, x2, y2) where it could not sit close."""

    text: str
    anchor: str
    x: float
    y: float
    box: Box
    leader: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Bubble:
    """One variant in the trade-off; ``index`` is its place in the comparison, ``role`` choice, front or other."""

    index: int
    circle: Circle
    role: str
    missed: bool
    label: Label | None = None


@dataclass(frozen=True)
class TradeOff:
    """The trade-off picture; ``undrawn`` names the variants that lack a figure, ``unlabelled`` counts dropped names."""

    width: float
    height: float
    plot: Box
    x: Axis
    y: Axis
    bubbles: tuple[Bubble, ...]
    front: str
    y_better: str
    by_area: bool
    with_accuracy: bool
    with_latency: bool
    undrawn: tuple[str, ...] = ()
    unlabelled: int = 0


@dataclass(frozen=True)
class Marks:
    """Where the figures of a latency stand, in pixels; None where not measured."""

    low: float | None = None
    p5: float | None = None
    median: float | None = None
    p95: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Strip:
    """The latencies of one report; ``dots`` is the path of the samples, ``full`` says the figures in words."""

    title: str
    role: str
    y: float
    label_y: float
    median_text: str
    full: str
    dots: str
    marks: Marks


@dataclass(frozen=True)
class Spread:
    """The picture of latency samples; ``aside`` tells whether names stand left of the plot or above each strip."""

    width: float
    height: float
    plot: Box
    axis: Axis
    strips: tuple[Strip, ...]
    aside: bool


@dataclass(frozen=True)
class _Measure:
    value: Callable[[ComparedVariant], float | None]
    title: str
    more_is_better: bool
    unit: Callable[[float], tuple[float, str]]
    least: float = 0.0
    linear: bool = False


def _per_cent(_largest: float) -> tuple[float, str]:
    return 100.0, "%"


_LATENCY = _Measure(lambda it: it.median_ms, "Median latency", False, figures.latency_unit)
_SIZE = _Measure(lambda it: it.size_bytes or None, "Size", False, figures.size_unit)


def trade_off(comparison: Comparison, width: float, height: float, *, biggest: float = 26.0) -> TradeOff | None:
    """Accuracy over median latency, with size as the area; size takes the place of whichever was not measured.

    None when no variant has two figures to draw.
    """
    x, y = _measures(comparison)
    pairs = [(x.value(it), y.value(it)) for it in comparison.variants]
    drawn = [(i, across, up) for i, (across, up) in enumerate(pairs) if across is not None and up is not None]
    if not drawn or x is y:
        return None
    variants = [comparison.variants[i] for i, _, _ in drawn]
    plot = Box(52, 30, width - 52 - 14, height - 30 - 46)
    margin = biggest + 8
    x_axis, lefts = _axis(x, [across for _, across, _ in drawn], plot.x, plot.right, margin)
    y_axis, tops = _axis(y, [up for _, _, up in drawn], plot.bottom, plot.y, margin)
    by_area = _SIZE not in (x, y)
    largest = max(it.size_bytes for it in variants)
    radii = [radius(it.size_bytes, largest, biggest) if by_area else SPOT for it in variants]
    circles = [Circle(*place) for place in zip(lefts, tops, radii, strict=True)]
    roles = [_role(comparison, it) for it in variants]
    front = _front(
        [circle for circle, role in zip(circles, roles, strict=True) if role != "other"], plot, y.more_is_better
    )
    labels = _labels(
        [plain(it.name, 22) for it in variants], circles, roles, Box(plot.x, plot.y, width - plot.x, plot.height), front
    )
    bubbles = [
        Bubble(index, circle, role, bool(variant.failures), label)
        for (index, _, _), variant, circle, role, label in zip(drawn, variants, circles, roles, labels, strict=True)
    ]
    shown = {bubble.index for bubble in bubbles}
    return TradeOff(
        width=width,
        height=height,
        plot=plot,
        x=x_axis,
        y=y_axis,
        bubbles=tuple(sorted(bubbles, key=lambda bubble: -bubble.circle.r)),
        front=_path(front),
        y_better="up" if y.more_is_better else "down",
        by_area=by_area,
        with_accuracy=y.unit is _per_cent,
        with_latency=x is _LATENCY,
        undrawn=tuple(plain(it.name, 40) for i, it in enumerate(comparison.variants) if i not in shown),
        unlabelled=sum(label is None for label in labels),
    )


def latency_spread(comparison: Comparison, width: float, *, aside: bool, dots: int = DOTS) -> Spread | None:
    """Every report's samples with 5 %, median and 95 % marks; at most ``dots`` samples each. None without latencies.

    ``aside`` puts the names left of the plot, otherwise they stand above each strip.
    """
    reports = [(name, report) for name, report in comparison.reports if _extent(report.latency)]
    if not reports:
        return None
    extents = [value for _, report in reports for value in _extent(report.latency)]
    row, head = (40.0, 8.0) if aside else (54.0, 4.0)
    plot = (
        Box(170, head, width - 170 - 92, row * len(reports)) if aside else Box(14, head, width - 28, row * len(reports))
    )
    axis, _ = _axis(replace(_LATENCY, title="Latency of one inference"), extents, plot.x, plot.right, 10)
    factor = figures.latency_unit(max(extents))[0]
    strips = []
    for place, (title, (name, report)) in enumerate(zip(_titles(reports), reports, strict=True)):
        top = plot.y + place * row
        middle = top + (row / 2 if aside else row - 17)
        strips.append(
            Strip(
                title=plain(title, 22 if aside else 30),
                role=_role_of(comparison, name),
                y=middle,
                label_y=middle + 4 if aside else top + 16,
                median_text=figures.milliseconds(report.latency.median_ms),
                full=_spread_text(title, report.latency),
                dots=_dots(report.latency.samples_ms, axis.scale, factor, middle, dots),
                marks=_marks(report.latency, axis.scale, factor),
            )
        )
    return Spread(width, plot.bottom + 46, plot, axis, tuple(strips), aside)


def _measures(comparison: Comparison) -> tuple[_Measure, _Measure]:
    metric = plain(comparison.metric, 30).replace("_", " ") or "accuracy"
    accuracy = _Measure(lambda it: it.accuracy, metric[:1].upper() + metric[1:], True, _per_cent, 0.01, linear=True)
    timed = any(it.median_ms is not None for it in comparison.variants)
    scored = any(it.accuracy is not None for it in comparison.variants)
    return _LATENCY if timed else _SIZE, accuracy if scored else _SIZE


def _axis(
    measure: _Measure, values: Sequence[float], start: float, end: float, margin: float
) -> tuple[Axis, list[float]]:
    """The axis that shows ``values``, and the pixel of each of them."""
    factor, unit = measure.unit(max(values))
    scaled = [value * factor for value in values]
    least = measure.least * factor
    scale = fit(scaled, start, end, margin=margin, least=least, log=not measure.linear)
    wanted = max(3, round(abs(end - start) / (110 if end > start else 65)))
    possible = [tick for tick in ticks(scale, wanted) if tick >= 0 and not (measure.linear and tick > 100)]
    texts = figures.ticks(possible, even=not scale.logarithmic)
    marks = tuple(zip(map(scale.at, possible), texts, strict=True))
    spaced = ", log scale" if scale.logarithmic else ""
    return Axis(f"{measure.title} ({unit}{spaced})", scale, marks), [scale.at(value) for value in scaled]


def _role(comparison: Comparison, variant: ComparedVariant) -> str:
    if variant.name == comparison.choice:
        return "choice"
    return "front" if variant.on_front or variant.name in comparison.front else "other"


def _role_of(comparison: Comparison, name: str) -> str:
    return next((_role(comparison, it) for it in comparison.variants if it.name == name), "other")


def _front(circles: Sequence[Circle], plot: Box, upwards: bool) -> list[Point]:
    """The corners of the stairs under which everything is beaten by a variant of the front, in pixels."""
    turn = 1 if upwards else -1
    best = skyline([(circle.x, turn * circle.y) for circle in circles])
    if len(best) < 2:
        return []
    corners: list[Point] = [(best[0][0], plot.bottom if upwards else plot.y)]
    for (x, y), following in zip(best, [*(x for x, _ in best[1:]), plot.right], strict=True):
        corners += [(x, turn * y), (following, turn * y)]
    return corners


def _path(corners: Sequence[Point]) -> str:
    return " ".join(f"{'L' if place else 'M'}{x:.1f} {y:.1f}" for place, (x, y) in enumerate(corners))


def _labels(
    names: Sequence[str], circles: Sequence[Circle], roles: Sequence[str], bounds: Box, front: Sequence[Point]
) -> list[Label | None]:
    sizes = [
        (text_width(name, FONT) * (1.08 if role == "choice" else 1), LINE)
        for name, role in zip(names, roles, strict=True)
    ]
    lines = [
        Box(min(x1, x2) - 1, min(y1, y2) - 1, abs(x2 - x1) + 2, abs(y2 - y1) + 2)
        for (x1, y1), (x2, y2) in itertools.pairwise(front)
    ]
    ringed = [replace(it, r=it.r + 4) if role == "choice" else it for it, role in zip(circles, roles, strict=True)]
    order = sorted(range(len(names)), key=lambda i: ("choice", "front", "other").index(roles[i]))
    boxes = place_labels(ringed, sizes, bounds, order=order, avoid=lines)
    return [
        None if box is None else _label(name, box, circle)
        for name, box, circle in zip(names, boxes, circles, strict=True)
    ]


def _label(name: str, box: Box, circle: Circle) -> Label:
    """The label in its box, its text set on the side of the bubble."""
    centre = box.x + box.width / 2
    anchor, x = "middle", centre
    if box.x >= circle.x:
        anchor, x = "start", box.x
    elif box.right <= circle.x:
        anchor, x = "end", box.right
    return Label(name, anchor, x, box.y + 0.75 * box.height, box, leader(circle, box))


def _extent(latency: LatencyFacts) -> list[float]:
    known = (latency.min_ms, latency.p5_ms, latency.median_ms, latency.p95_ms, latency.max_ms)
    return [value for value in (*known, *latency.samples_ms) if value is not None and value >= 0]


def _titles(reports: Sequence[tuple[str, BenchmarkReport]]) -> list[str]:
    """The name of each report's variant, numbered where a variant was measured more than once."""
    total = Counter(name for name, _ in reports)
    seen: Counter[str] = Counter()
    titles = []
    for name, _ in reports:
        seen[name] += 1
        titles.append(f"{plain(name, 40)} #{seen[name]}" if total[name] > 1 else plain(name, 40))
    return titles


def _spread_text(title: str, latency: LatencyFacts) -> str:
    named = {
        "min": latency.min_ms,
        "5 %": latency.p5_ms,
        "median": latency.median_ms,
        "95 %": latency.p95_ms,
        "max": latency.max_ms,
    }
    figures_of = ", ".join(f"{name} {figures.milliseconds(value)}" for name, value in named.items())
    return f"{title}: {figures_of}; {figures.count(latency.count)} inferences"


def _marks(latency: LatencyFacts, scale: Scale, factor: float) -> Marks:
    def at(value: float | None) -> float | None:
        return None if value is None or (scale.logarithmic and value <= 0) else scale.at(value * factor)

    return Marks(at(latency.min_ms), at(latency.p5_ms), at(latency.median_ms), at(latency.p95_ms), at(latency.max_ms))


def _dots(samples: Sequence[float], scale: Scale, factor: float, middle: float, most: int) -> str:
    """The samples as one path of dots, scattered over the strip's height by the golden ratio, the same every time."""
    kept = [value for value in decimate(samples, most) if value > 0 or not scale.logarithmic]
    return "".join(
        f"M{scale.at(value * factor):.1f} {middle + 18 * ((place * GOLDEN) % 1 - 0.5):.1f}h0"
        for place, value in enumerate(kept)
    )
