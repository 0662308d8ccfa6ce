"""An estimate of the latency on an Edge TPU, from published measurements of others."""

from __future__ import annotations

from collections.abc import Sequence

from ..operators import Operator
from ..records import Estimate
from ..target import Target
from .container import Package
from .memory import Memory

__all__ = ["estimate_latency", "estimate_packages"]


def estimate_latency(operators: Sequence[Operator], memory: Memory, target: Target) -> Estimate | None:
    """Estimate the milliseconds of one inference of ``operators``, those that map, in one piece; None where it were a guess."""
    return None


def estimate_packages(packages: Sequence[Package], target: Target) -> Estimate | None:
    """Estimate an inference of compiled packages from the compiler's own count of cycles; None where it left none."""
    return None
