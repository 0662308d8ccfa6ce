"""How variants run fastest where they were tuned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..run_with import kept_way
from . import figures
from .summary import plain

if TYPE_CHECKING:
    from ..records import Comparison

__all__ = ["run_with_facts", "run_with_lines", "way_text"]


def way_text(facts: Mapping[str, Any]) -> str:
    """A way that ``kept_way`` gave: ``litert, xnnpack, 4 threads (3.91 ms)``."""
    median, threads = facts.get("median_ms"), facts["threads"]
    measured = f" ({figures.milliseconds(median)})" if isinstance(median, float) else ""
    return f"{facts['runtime']}, {plain(facts['delegate'])}, {threads} thread{'' if threads == 1 else 's'}{measured}"


def run_with_facts(run_with: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each device a variant was tuned on, and the way."""
    for device in sorted(run_with):
        facts = kept_way(run_with, device)
        if facts is not None:
            yield plain(device), way_text(facts)


def run_with_lines(comparison: Comparison) -> Iterator[str]:
    """A line for each variant that was tuned."""
    for variant in comparison.variants:
        ways = [f"on {device} with {way}" for device, way in run_with_facts(variant.run_with)]
        if ways:
            yield f"{plain(variant.name)} runs best {'; '.join(ways)}"
