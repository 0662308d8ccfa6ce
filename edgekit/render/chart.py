"""Geometry of a chart: scales, ticks and labels that do not overlap. Pure functions over pixels; y grows downwards."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = [
    "Box",
    "Circle",
    "Point",
    "Scale",
    "decimate",
    "fit",
    "place_labels",
    "radius",
    "skyline",
    "text_width",
    "ticks",
]

Point = tuple[float, float]
Segment = tuple[float, float, float, float]
LEADER_FROM = 12.0


@dataclass(frozen=True)
class Box:
    """An upright rectangle."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x of its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y of its lower edge."""
        return self.y + self.height

    def overlaps(self, other: Box) -> bool:
        """Whether the two share more than an edge."""
        return self.x < other.right and other.x < self.right and self.y < other.bottom and other.y < self.bottom

    def contains(self, other: Box) -> bool:
        """Whether ``other`` lies wholly inside."""
        return self.x <= other.x and other.right <= self.right and self.y <= other.y and other.bottom <= self.bottom

    def nearest(self, x: float, y: float) -> Point:
        """The point of the box closest to (x, y)."""
        return min(max(x, self.x), self.right), min(max(y, self.y), self.bottom)


@dataclass(frozen=True)
class Circle:
    """A bubble."""

    x: float
    y: float
    r: float

    def overlaps(self, box: Box) -> bool:
        """Whether the disc reaches into ``box``."""
        x, y = box.nearest(self.x, self.y)
        return math.hypot(x - self.x, y - self.y) < self.r

    def touches(self, other: Circle) -> bool:
        """Whether the two discs share a point; a disc touches itself."""
        return math.hypot(other.x - self.x, other.y - self.y) <= self.r + other.r


@dataclass(frozen=True)
class Scale:
    """Maps ``low``..``high`` onto the pixels ``start``..``end``, evenly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The pixel of ``value``; values outside of the range fall outside of the pixels."""
        low, high = self._measure(self.low), self._measure(self.high)
        return self.start + (self._measure(value) - low) / (high - low) * (self.end - self.start)

    def _measure(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def fit(
    values: Sequence[float], start: float, end: float, *, margin: float = 0.0, least: float = 0.0, log: bool = True
) -> Scale:
    """A scale that shows all ``values`` with ``margin`` pixels to spare at both ends.

    It is logarithmic when all values are positive, the largest is over ten times the smallest and ``log`` allows.
    ``least`` is the smallest range shown, so that equal values do not become a cliff.
    """
    low, high = min(values), max(values)
    logarithmic = log and low > 0 and high > 10 * low
    if logarithmic:
        low, high = math.log10(low), math.log10(high)
    missing = (least or (0.4 * abs(high) if high == low else 0.0)) - (high - low)
    if not logarithmic and (missing > 0 or high == low):
        missing = missing if missing > 0 else 1.0
        low, high = low - missing / 2, high + missing / 2
    room = max(1.0, abs(end - start) - 2 * margin)
    spare = (high - low) * margin / room
    low, high = low - spare, high + spare
    return Scale(10**low, 10**high, start, end, True) if logarithmic else Scale(low, high, start, end)


def ticks(scale: Scale, wanted: int = 6) -> tuple[float, ...]:
    """Round values inside of the scale's range, ascending: about ``wanted`` of them, and at least two."""
    if scale.logarithmic:
        return _log_ticks(scale.low, scale.high, wanted)
    rough = (scale.high - scale.low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= 0.8 * rough)
    while True:
        first, last = math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9)
        found = tuple(index * step for index in range(first, last + 1))
        if len(found) >= 2:
            return found
        step /= 2


def _log_ticks(low: float, high: float, wanted: int) -> tuple[float, ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = tuple(
            digit * 10.0**decade for decade in decades for digit in digits if low <= digit * 10.0**decade <= high
        )
        if len(found) <= max(2, wanted):
            return found
    return found[:: math.ceil(len(found) / wanted)]


def radius(value: float, largest: float, biggest: float, smallest: float = 4.0) -> float:
    """The radius that makes a bubble's area proportional to ``value``; never too small to see."""
    return max(smallest, biggest * math.sqrt(max(0.0, value) / largest)) if largest > 0 else smallest


def text_width(text: str, font_size: float) -> float:
    """A generous estimate of the width of ``text`` in a sans-serif font."""
    ems = sum(1.0 if unicodedata.east_asian_width(character) in "WF" else 0.6 for character in text)
    return ems * font_size


def skyline(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other beats in both a smaller x and a smaller y (pixels: further up), by ascending x."""
    best: list[Point] = []
    for point in sorted(set(points)):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return tuple(best)


def decimate(samples: Sequence[float], most: int) -> tuple[float, ...]:
    """At most ``most`` of the samples, ascending and evenly spaced by rank; the smallest and largest are kept."""
    ordered = sorted(samples)
    if len(ordered) <= most:
        return tuple(ordered)
    return tuple(ordered[round(index * (len(ordered) - 1) / (most - 1))] for index in range(most))


def place_labels(
    circles: Sequence[Circle],
    sizes: Sequence[tuple[float, float]],
    bounds: Box,
    *,
    order: Sequence[int] | None = None,
    avoid: Sequence[Box] = (),
) -> tuple[Box | None, ...]:
    """Where the label (width, height) of each circle goes: beside it, clear of every circle and every other label.

    Labels are placed in ``order``. One that finds no room is None. Boxes in ``avoid`` are kept clear while that costs
    no label its place. A label set apart gets a leader line (see ``leader``), which crosses no
    other label and no circle that stands apart from its own.
    """
    placed: dict[int, Box] = {}
    lines: list[Segment] = []
    for index in order if order is not None else range(len(circles)):
        circle = circles[index]
        others = [other for other in circles if not other.touches(circle)]
        free = [
            box
            for box in _candidates(circle, *sizes[index])
            if bounds.contains(box)
            and not any(each.overlaps(box) for each in circles)
            and not any(box.overlaps(other) for other in placed.values())
            and not any(_crosses(line, box) for line in lines)
            and _is_open(leader(circle, box), others, placed.values())
        ]
        clear = (box for box in free if not any(box.overlaps(other) for other in avoid))
        best = next(clear, free[0] if free else None)
        if best is not None:
            placed[index] = best
            line = leader(circle, best)
            lines += [line] if line else []
    return tuple(placed.get(index) for index in range(len(circles)))


def leader(circle: Circle, box: Box) -> Segment | None:
    """The line from a circle's edge to its label (x1, y1, x2, y2), where the label is too far to speak for itself."""
    x, y = box.nearest(circle.x, circle.y)
    distance = math.hypot(x - circle.x, y - circle.y)
    if distance <= circle.r + LEADER_FROM:
        return None
    share = circle.r / distance
    return circle.x + (x - circle.x) * share, circle.y + (y - circle.y) * share, x, y


def _is_open(line: Segment | None, circles: Iterable[Circle], labels: Iterable[Box]) -> bool:
    if line is None:
        return True
    touched = any(math.hypot(x - circle.x, y - circle.y) < circle.r for x, y in _along(line) for circle in circles)
    return not touched and not any(_crosses(line, label) for label in labels)


def _crosses(line: Segment, box: Box) -> bool:
    return any(box.x < x < box.right and box.y < y < box.bottom for x, y in _along(line))


def _along(line: Segment) -> list[Point]:
    """Points of a short line, close enough together for nothing to slip between."""
    x1, y1, x2, y2 = line
    steps = max(1, math.ceil(math.hypot(x2 - x1, y2 - y1) / 2))
    return [(x1 + (x2 - x1) * step / steps, y1 + (y2 - y1) * step / steps) for step in range(steps + 1)]


def _candidates(circle: Circle, width: float, height: float) -> Iterator[Box]:
    """Boxes around a circle, the nearest and most natural to read first."""
    sides = ((1, 0), (0, -1), (0, 1), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1))
    for gap, (across, down) in itertools.product((6, 15, 26, 40), sides):
        reach = circle.r + gap
        if across and down:
            reach *= 0.75
        x = circle.x + across * reach - (width / 2 if not across else width if across < 0 else 0)
        y = circle.y + down * reach - (height / 2 if not down else height if down < 0 else 0)
        yield Box(x, y, width, height)
