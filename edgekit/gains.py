"""What a recipe brings: held against the same precision without its techniques, on what was measured, or said to be nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .candidate import EPSILON, Candidate, drop_against, is_slower, latency_difference
from .difference import SLOWER

__all__ = ["FASTER", "SMALLER", "ZIPPED", "counterpart", "gains", "nothing_gained"]

SMALLER, ZIPPED, FASTER, ACCURATE = "size", "zip", "latency", "accuracy"
# Sizes nearer than this are called equal: names and scales alone differ by as much.
EQUAL_SIZE = 0.01
CONFIDENT = 1.96


def counterpart(item: Candidate, candidates: Sequence[Candidate], base: Candidate) -> Candidate | None:
    """What ``item`` is to be better than: the same precision without its techniques, else the baseline; None for that."""
    plain = next((other for other in candidates if other.name == _plain_precision(item)), None)
    if plain is not None and plain is not item:
        return plain
    return None if item is base else base


def gains(item: Candidate, against: Candidate | None) -> tuple[str, ...]:
    """What ``item`` is better in, as far as both were measured and the difference is no noise."""
    if against is None:
        return ()
    return tuple(_gains(item, against))


def nothing_gained(candidates: Sequence[Candidate], base: Candidate) -> Iterable[str]:
    """Sentences on those that bring nothing, or only a smaller download."""
    for item in candidates:
        against = counterpart(item, candidates, base)
        if against is None:
            continue
        found = gains(item, against)
        if found and found != (ZIPPED,):
            continue
        same = "the same size" if abs(_share(item, against) - 1) <= EQUAL_SIZE else "no smaller"
        speed = _speed(item, against)
        if found:
            shrunk = item.variant.zipped_bytes / against.variant.zipped_bytes
            yield f"{item.name} brings only a smaller download ({shrunk:.2f}× zipped) over {against.name}: {same}{speed}"
        else:
            yield f"{item.name} brings nothing over {against.name}: {same}, raw and zipped{speed}, no more accurate"


def _gains(item: Candidate, against: Candidate) -> Iterable[str]:
    if _share(item, against) < 1 - EQUAL_SIZE:
        yield SMALLER
    zipped = against.variant.zipped_bytes
    if zipped and item.variant.zipped_bytes and item.variant.zipped_bytes < zipped * (1 - EQUAL_SIZE):
        yield ZIPPED
    if is_slower(against, item):
        yield FASTER
    if _is_more_accurate(item, against):
        yield ACCURATE


def _is_more_accurate(item: Candidate, against: Candidate) -> bool:
    """Whether ``item`` answers more samples right than chance explains: beyond the 95 % interval of the difference of two
    shares of as many samples. Which samples each got right is not kept, so none of the pairing is used: this errs to no."""
    drop, evaluation = drop_against(against, item), item.evaluation
    if drop is None or item.accuracy is None or evaluation is None or not evaluation.count:
        return False
    middle = item.accuracy + drop / 2
    return -drop > CONFIDENT * math.sqrt(max(0.0, 2 * middle * (1 - middle)) / evaluation.count) + EPSILON


def _speed(item: Candidate, against: Candidate) -> str:
    found = latency_difference(against, item)
    if found is None:
        return ", latency not measured for both"
    if not found.comparable:
        return ", latency not comparable"
    return ", slower here" if found.verdict == SLOWER else ", no faster here"


def _share(item: Candidate, against: Candidate) -> float:
    return item.variant.size_bytes / max(against.variant.size_bytes, 1)


def _plain_precision(item: Candidate) -> str:
    """The recipe without any technique: mixed-int8 is held against int8."""
    return item.variant.precision.removeprefix("mixed-")
