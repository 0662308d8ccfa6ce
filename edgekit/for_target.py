"""The end of ``convert --target``: what the target makes of every variant, and the compiled files where its tool is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit_converters.targets.compiling import missing_tool
from edgekit_converters.targets.preflight import preflight
from edgekit_converters.targets.records import TargetReport
from edgekit_converters.targets.target import CPU, EDGETPU, Target

from .boundary import translated
from .compiling import Compiled, compile_run
from .errors import EdgekitError
from .progress import Progress
from .records import Variant
from .results import Results
from .store import RunStore

__all__ = ["finish_for_target", "report_on", "warn_early"]

MOST_WARNED = 8


def warn_early(float_model: Path, layers: Sequence[str | None], target: Target, progress: Progress) -> None:
    """Say which layers of a float model an Edge TPU will leave out once it is int8, before it is calibrated or trained."""
    if target.kind != EDGETPU:
        return
    from edgekit_converters.targets.edgetpu.statuses import LATER
    from edgekit_converters.targets.edgetpu_map import predict
    from edgekit_converters.targets.operators import read_operators

    with translated():
        report = predict(read_operators(float_model.read_bytes()), target, layers=layers, assume_int8=True)
    if report.refusal:
        progress.note(f"{target.name} will refuse this model: {report.refusal}. {report.remedy}".rstrip(". "))
    groups: dict[tuple[str, str], list[str]] = {}
    for op in report.ops:
        # What is only lost behind another operator is won back with that one.
        if op.is_left and op.remedy and op.reason != LATER:
            groups.setdefault((op.reason, op.remedy), []).append(op.layer or op.type)
    for (reason, remedy), lost in list(groups.items())[:MOST_WARNED]:
        named = list(dict.fromkeys(lost))
        more = f" and {len(named) - 1} more" if len(named) > 1 else ""
        progress.note(f"{target.name}: {named[0]}{more} will stay on the processor ({reason}): {remedy}")
    if len(groups) > MOST_WARNED:
        progress.note(
            f"{target.name}: and {len(groups) - MOST_WARNED} more reasons: edgekit inspect --target {target.name}"
        )
    if groups and not report.refusal:
        progress.note(f"{target.name}: {report.on_target} of {len(report.ops)} operators would run on the Edge TPU")


def report_on(tflite: bytes, target: Target) -> TargetReport:
    """What ``target`` makes of a variant; raises EdgekitError."""
    with translated():
        return preflight(tflite, target)


def finish_for_target(
    store: RunStore, variants: Sequence[Variant], target: Target, progress: Progress
) -> Results[Compiled]:
    """Compile ``variants`` where the target's tool is installed, and keep in the run what the target makes of them.

    Without the tool an Edge TPU's prediction is kept all the same, and a note says how to get the compiler. A variant that is
    refused is in ``failures``. Variants of a precision the target does not run are left alone: they are the baseline.
    """
    variants = [item for item in variants if item.precision in target.precisions]
    if target.kind == CPU:
        return _reports(store, variants, target)
    missing = missing_tool(target)
    if missing:
        progress.note(f"not compiled: {missing}")
        return _reports(store, variants, target) if target.kind == EDGETPU else Results()
    return compile_run(store, variants, target, progress)


def _reports(store: RunStore, variants: Sequence[Variant], target: Target) -> Results[Compiled]:
    made: dict[str, Compiled] = {}
    failures: dict[str, EdgekitError] = {}
    for variant in variants:
        try:
            report = report_on(Path(variant.path).read_bytes(), target)
        except EdgekitError as error:
            failures[variant.name] = error
            continue
        store.save_target_report(variant.name, report)
        made[variant.name] = Compiled(variant.name, report, ())
    return Results(made, failures)
