"""How a variant runs fastest on a device, as its record holds it after tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .choices import RUNTIMES

__all__ = ["kept_way"]


def kept_way(run_with: Mapping[str, Any], device: str) -> Mapping[str, Any] | None:
    """What ``run_with`` (``Variant.run_with``) keeps for ``device``: runtime, delegate, threads and median_ms.

    None where there is nothing, or where it makes no sense: a run folder may be edited by anybody, and what comes out goes
    onto a command line.
    """
    facts = run_with.get(device)
    if not isinstance(facts, Mapping) or facts.get("runtime") not in RUNTIMES:
        return None
    threads, delegate = facts.get("threads"), facts.get("delegate")
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 256:
        return None
    return facts if isinstance(delegate, str) and delegate and delegate.isprintable() else None
