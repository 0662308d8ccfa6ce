"""Tune variants on a device: how each runs fastest there is kept in its record, and measured so from then on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit_device import BenchmarkReport
from edgekit_device.report import TuningFacts

from .collecting import acknowledge_measured
from .devices import BenchRequest, Device
from .errors import EdgekitError, StoreError
from .progress import Progress, Silent
from .records import Variant
from .render.run_with import way_text
from .results import Results
from .run_with import kept_way
from .store import RunStore, now

__all__ = ["BUDGET_S", "tune_variants", "tuned_facts", "tuned_request", "tuned_requests"]

BUDGET_S = 8.0


def tune_variants(
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
    it and list every trial; they go into the history alone: a benchmark that follows measures all variants alike. A variant that
    fails is in ``failures`` and said; its error is raised when all fail.
    """
    shown = progress or Silent()
    done: dict[str, BenchmarkReport] = {}
    failures: dict[str, EdgekitError] = {}
    for number, variant in enumerate(variants):
        shown.step(f"tuning {variant.name} on {device.name}")
        shown.update(number, len(variants))
        try:
            belongs = ("--run", store.run_id(), "--variant", variant.name)
            report = device.tune(Path(variant.path), budget_s=budget_s, deadline_s=request.deadline_s, options=belongs)
            store.save_run_with(variant.name, device.name, tuned_facts(report))
            store.keep_report(variant.name, report, now())
            done[variant.name] = report
        except StoreError:
            raise
        except EdgekitError as error:
            failures[variant.name] = error
            shown.note(f"{variant.name}: not tuned ({error})")
    shown.update(len(variants), len(variants))
    acknowledge_measured(device, done.values(), shown)
    return Results(done, failures).or_raise()


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


def tuned_request(model: Path, device: Device, request: BenchRequest) -> tuple[BenchRequest, TuningFacts]:
    """Tune one .tflite: ``request`` with the best way, and what was tried. Raises what ``Device.tune`` raises."""
    report = device.tune(model, budget_s=BUDGET_S, deadline_s=request.deadline_s)
    acknowledge_measured(device, [report])
    return _as_tuned(request, tuned_facts(report)), report.tuning


def tuned_requests(
    variants: Sequence[Variant], device: str, request: BenchRequest, progress: Progress | None = None
) -> list[tuple[list[Variant], BenchRequest]]:
    """``variants`` in groups that run alike on ``device``, each with ``request`` made its own: as tuned there, and where a
    variant was not, as it stands. Says what was taken from tuning.

    Only what runs with the same threads, runtime and delegate can be measured in one session.
    """
    groups: dict[BenchRequest, list[Variant]] = {}
    for variant in variants:
        facts = kept_way(variant.run_with, device)
        own = request
        if facts is not None:
            own = _as_tuned(request, facts)
            (progress or Silent()).note(f"{variant.name}: as tuned on {device}, {way_text(facts)}")
        groups.setdefault(own, []).append(variant)
    return [(group, own) for own, group in groups.items()]


def _as_tuned(request: BenchRequest, facts: Mapping[str, Any]) -> BenchRequest:
    """``request`` with the threads, runtime and delegate of ``facts``."""
    return replace(request, runtime=facts["runtime"], delegate=facts["delegate"], threads=facts["threads"])
