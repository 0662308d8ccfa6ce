"""Tune variants on a device: how each runs fastest there is kept in its record, and measured so from then on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit_device import BenchmarkReport
from edgekit_device.report import clean_text

from .choices import RUNTIMES
from .devices import BenchRequest, Device
from .errors import EdgekitError, StoreError
from .progress import Progress, Silent
from .records import Variant
from .results import Results
from .store import RunStore

__all__ = ["BUDGET_S", "describe_run_with", "run_with", "tune", "tuned_facts"]

BUDGET_S = 8.0


def tune(
    store: RunStore,
    variants: Sequence[Variant],
    device: Device,
    request: BenchRequest,
    *,
    budget_s: float = BUDGET_S,
    progress: Progress | None = None,
) -> Results[BenchmarkReport]:
    """Let ``device`` try runtimes, delegates and threads for each of ``variants`` of a run whose lock is held.

    The best is kept in the variant's record under the device's name (``Variant.run_with``). The reports were measured with
    it and list every trial; they are not kept here: a benchmark that follows measures all variants alike. A variant that
    fails is in ``failures``.
    """
    shown = progress or Silent()
    done: dict[str, BenchmarkReport] = {}
    failures: dict[str, EdgekitError] = {}
    for number, variant in enumerate(variants):
        shown.step(f"tuning {variant.name} on {device.name}")
        shown.update(number, len(variants))
        try:
            report = device.tune(Path(variant.path), budget_s=budget_s, deadline_s=request.deadline_s)
            store.save_run_with(variant.name, device.name, tuned_facts(report))
            done[variant.name] = report
        except StoreError:
            raise
        except EdgekitError as error:
            failures[variant.name] = error
    shown.update(len(variants), len(variants))
    return Results(done, failures)


def tuned_facts(report: BenchmarkReport) -> dict[str, Any]:
    """What a report of ``edgekit-device tune`` found best, by the names its options have."""
    ran = report.runtime
    best = report.tuning.trials[0] if report.tuning.trials else None
    delegate = ran.delegate if best is None else best.delegate
    return {
        "runtime": ran.name,
        "version": ran.version,
        "delegate": delegate or "auto",
        "threads": ran.threads,
        "median_ms": report.latency.median_ms,
    }


def run_with(variant: Variant, device: str) -> Mapping[str, Any] | None:
    """How ``variant`` was found to run fastest on ``device``; None where it was not tuned, or the record makes no sense."""
    facts = variant.run_with.get(device)
    if not isinstance(facts, Mapping) or facts.get("runtime") not in RUNTIMES:
        return None
    threads, delegate = facts.get("threads"), facts.get("delegate")
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 256:
        return None
    return facts if isinstance(delegate, str) else None


def describe_run_with(variant: Variant, devices: Iterable[str] = ()) -> str:
    """As a person reads it: ``pi4: litert, xnnpack, 4 threads (3.91 ms)``, of ``devices`` or of all; empty where none."""
    from .render import figures

    found = []
    for device in devices or sorted(variant.run_with):
        facts = run_with(variant, device)
        if facts is not None:
            median = facts.get("median_ms")
            measured = f" ({figures.milliseconds(median)})" if isinstance(median, float) else ""
            threads = f"{facts['threads']} thread{'' if facts['threads'] == 1 else 's'}"
            found.append(
                f"{clean_text(device)}: {facts['runtime']}, {clean_text(facts['delegate'])}, {threads}{measured}"
            )
    return "; ".join(found)
