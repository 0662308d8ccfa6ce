"""Sizes that a graph computes from the batch, as far as the shapes known beforehand say what they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Sizes", "resolved"]


@dataclass(frozen=True)
class Sizes:
    """What ``tf.shape`` gives, with -1 for a size that is known at run time only."""

    sizes: tuple[int, ...]


def resolved(wanted: Sequence[int | None], given: Sequence[int | None]) -> list[int] | None:
    """The shape ``wanted`` of what has the shape ``given``, with one unknown size (-1) at most; None where it has more.

    A second unknown size is computed where the first one is the batch and the rest of ``given`` is known.
    """
    shape = [-1 if size is None else int(size) for size in wanted]
    if shape.count(-1) < 2:
        return shape
    rest = [size for size in given[1:] if size is not None]
    if shape.count(-1) > 2 or shape[0] != -1 or len(rest) != len(given) - 1:
        return None
    known = math.prod(size for size in shape if size != -1)
    second = shape.index(-1, 1)
    shape[second] = math.prod(rest) // max(known, 1)
    return shape
