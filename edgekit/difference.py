"""Is one latency really another than the other? Two reports in, a verdict out, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from edgekit_device import BenchmarkReport

from .comparable import are_paired, obstacles
from .intervals import LEAST_BLOCKS, LEAST_ROUNDS, Interval, paired_ratio, unpaired_ratio, wander
from .plausible import is_plausible
from .render import figures

__all__ = [
    "FASTER",
    "NOT_COMPARABLE",
    "NO_DIFFERENCE",
    "PAIRED_FLOOR",
    "SLOWER",
    "UNPAIRED_FLOOR",
    "Difference",
    "difference",
]

FASTER, SLOWER, NO_DIFFERENCE, NOT_COMPARABLE = "faster", "slower", "no difference", "not comparable"
# Two copies of one file in one process differ by up to this much for as long as they live, by where their memory
# happens to lie; between two sessions everything else that is not recorded comes on top.
PAIRED_FLOOR = 0.02
UNPAIRED_FLOOR = 0.03
# Samples of one session are taken in so many blocks where the device has made none.
BLOCKS = 30
# An interval whose ends differ by more than this says little.
VAGUE = 1.25


@dataclass(frozen=True)
class Difference:
    """How the latency of ``after`` stands to that of ``before``; ``ratio`` is after / before, above 1 is slower.

    ``low`` to ``high`` is its 99 % interval, in which an unpaired comparison has the floor between sessions already;
    None where nothing could be worked out. ``noise_floor`` is the fraction that a difference has to exceed to be called
    one, ``paired`` whether both were measured in turns in one session, ``blocks`` how many blocks each side had, ``reasons``
    each cause why the two do not compare.
    """

    verdict: str
    reason: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    noise_floor: float = 0.0
    paired: bool = False
    blocks: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def comparable(self) -> bool:
        """Whether anything can be said at all."""
        return self.verdict != NOT_COMPARABLE


def difference(
    before: BenchmarkReport, after: BenchmarkReport, *, names: tuple[str, str] = ("before", "after")
) -> Difference:
    """Whether ``after`` is faster or slower than ``before``, no different, or not comparable, and why.

    Called different only when the interval excludes equality and the ratio exceeds the noise floor. In pairs that is
    PAIRED_FLOOR: the interval knows the session's noise already, and its A/A bound on top (``session.noise_floor``) would
    hide a quarter of true differences of 10 % on a busy machine. Unpaired it is UNPAIRED_FLOOR, or how far either session
    wandered by itself where that is more, and the interval is widened by it. ``names`` is what the reason calls the two.
    """
    paired = are_paired(before, after) and min(map(_rounds, (before, after))) >= LEAST_ROUNDS
    found = _ratio(before, after, paired)
    floor = _floor(before, after, paired)
    hindered = [*_missing(before, after, names, found), *obstacles(before, after, names)]
    if found is None or hindered:
        return Difference(
            NOT_COMPARABLE, "; ".join(hindered), noise_floor=floor, paired=paired, reasons=tuple(hindered)
        )
    low, high = found.low, found.high
    if not paired:
        low, high = low / (1 + floor), high * (1 + floor)
    verdict = NO_DIFFERENCE
    if low > 1 and found.ratio > 1 + floor:
        verdict = SLOWER
    elif high < 1 and found.ratio < 1 / (1 + floor):
        verdict = FASTER
    how = f"{found.blocks} rounds in turns" if paired else f"{found.blocks} blocks of each session"
    reason = f"{figures.slowdown(found.ratio)} ({figures.slowdown(low)} to {figures.slowdown(high)}) over {how}"
    if verdict == NO_DIFFERENCE:
        reason += f", within the noise{_blurred(low, high, floor)}"
    return Difference(verdict, reason, found.ratio, low, high, floor, paired, found.blocks)


def _blurred(low: float, high: float, floor: float) -> str:
    """What the noise may hide."""
    if not low <= 1 <= high:
        return f": differences up to {figures.percent(floor)} are"
    return ": measure longer to tell more" if high > VAGUE * low else ""


def _ratio(before: BenchmarkReport, after: BenchmarkReport, paired: bool) -> Interval | None:
    if paired:
        return paired_ratio(before.session.block_medians_ms, after.session.block_medians_ms)
    blocks = [_blocks(report) for report in (before, after)]
    return None if min(map(len, blocks)) < LEAST_BLOCKS else unpaired_ratio(*blocks)


def _rounds(report: BenchmarkReport) -> int:
    medians = report.session.block_medians_ms
    return len(medians) if all(map(is_plausible, medians)) else 0


def _blocks(report: BenchmarkReport) -> tuple[float, ...]:
    """Medians of blocks: the session's own, else made of the samples.

    A sketch has lost the order of its samples, and with it what a run of slow ones would tell: it is taken as BLOCKS
    values, however many there were.
    """
    if _rounds(report) >= LEAST_BLOCKS:
        return report.session.block_medians_ms
    samples = np.asarray(report.latency.samples_ms, np.float64)
    if not samples.size or not all(map(is_plausible, (samples.min(), samples.max()))):
        return ()
    if report.latency.samples_kind != "all":
        shuffled = np.quantile(samples, (np.arange(BLOCKS) * 0.6180339887) % 1)
        return tuple(float(value) for value in shuffled)
    return tuple(float(np.median(block)) for block in np.array_split(samples, min(BLOCKS, samples.size)))


def _floor(before: BenchmarkReport, after: BenchmarkReport, paired: bool) -> float:
    blocks = [] if paired else [_blocks(report) for report in (before, after)]
    return max(
        [PAIRED_FLOOR if paired else UNPAIRED_FLOOR, *(wander(part) for part in blocks if len(part) >= LEAST_BLOCKS)]
    )


def _missing(
    before: BenchmarkReport, after: BenchmarkReport, names: tuple[str, str], found: Interval | None
) -> Iterator[str]:
    for name, report in zip(names, (before, after), strict=True):
        if report.latency.median_ms is None:
            yield f"{name} has no latency"
        elif found is None and len(_blocks(report)) < LEAST_BLOCKS:
            yield (
                f"{name} has too few samples ({figures.count(report.latency.count)} inferences, at least {LEAST_BLOCKS} "
                "are needed)"
            )
