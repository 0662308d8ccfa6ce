"""Limits nobody documents: what is known of each, from models whose compilation was seen, and where the limit is put.

A *limit* is one number. Evidence holds it from both sides: an operator of some size that the compiler mapped, another that it
refused. In between it is put where a reason says, where there is one, and in the middle (of the logarithms) otherwise.
``Limit.without`` leaves out what one source says and puts the limit anew: so the rules are held against models they have not
seen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["NARROW_BYTES", "Evidence", "Limit"]

# Each of the Edge TPU's 16 tiles has this much memory for activations: the largest use of it in any compiled model seen is
# 196,596 bytes (``used_narrow_memory_bytes_per_tile``).
NARROW_BYTES = 192 * 1024


@dataclass(frozen=True)
class Evidence:
    """An operator that was seen: its ``size`` in the measure of the limit, whether it mapped, and where (a repository, an
    issue, a log). ``what`` are its shapes."""

    size: int
    mapped: bool
    what: str
    source: str


@dataclass(frozen=True)
class Limit:
    """The largest size that maps. ``measure`` says of what; ``suggested`` is where a reason puts it, ``because`` the reason."""

    name: str
    measure: str
    evidence: tuple[Evidence, ...]
    suggested: int | None = None
    because: str = ""

    @property
    def largest_mapped(self) -> int:
        """The largest size that was seen to map; 0 where none was."""
        return max((seen.size for seen in self.evidence if seen.mapped), default=0)

    @property
    def smallest_refused(self) -> int | None:
        """The smallest size that was seen to be refused, of those larger than any that mapped."""
        refused = (seen.size for seen in self.evidence if not seen.mapped and seen.size > self.largest_mapped)
        return min(refused, default=None)

    @property
    def value(self) -> float:
        """The largest size taken to map; infinite where nothing says that there is a limit."""
        low, high = self.largest_mapped, self.smallest_refused
        if self.suggested is not None:
            return max(low, self.suggested if high is None else min(self.suggested, high - 1))
        if high is None:
            return math.inf
        return high - 1 if not low else int(math.sqrt(low * high))

    def exceeded_by(self, size: int) -> bool:
        """Whether an operator of ``size`` is taken to be refused."""
        return size > self.value

    def with_evidence(self, more: Iterable[Evidence]) -> Limit:
        """The limit with more of it."""
        return dataclasses.replace(self, evidence=(*self.evidence, *more))

    def without(self, source: str) -> Limit:
        """The limit as it were if nothing of ``source`` were known."""
        return dataclasses.replace(self, evidence=tuple(seen for seen in self.evidence if seen.source != source))
