"""Measure models in turns with those of a baseline: what the board does meanwhile touches both alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgekit_device import BenchmarkReport
from edgekit_device.report import clean_text

from .baseline import Baseline
from .devices import BenchItem, BenchRequest, Device, open_device
from .errors import EdgekitError, UsageError
from .progress import Progress, Silent
from .results import Results
from .runnable import on_processors
from .store import RunStore
from .subject import open_subject

__all__ = ["bench_beside"]


def bench_beside(
    model: str | os.PathLike[str],
    against: str | os.PathLike[str],
    *,
    device: str | Device = "local",
    variants: Sequence[str] = (),
    progress: Progress | None = None,
    **how: Any,
) -> tuple[Results[BenchmarkReport], Baseline]:
    """The reports of ``model`` and of ``against``, each a run folder or a .tflite, measured in one session.

    Variants are paired by name, a single model with a single model; a variant that ``against`` has not is measured too.
    ``how`` are the fields of BenchRequest. Nothing is kept in a run. Raises UsageError when nothing is in common, and the
    error that a model of ``against`` failed with.
    """
    request = BenchRequest(**how)
    new, old = _files(model, variants), _files(against, ())
    if len(new) == len(old) == 1:
        old = dict(zip(new, old.values(), strict=True))
    if not new.keys() & old.keys():
        raise UsageError(
            f"{against} has {', '.join(old)}, and {model} {', '.join(new)}: expected a variant of the same name"
        )
    asked = [(name, files) for name in new for files in (old, new) if name in files]
    with ExitStack() as stack:
        opened = device if isinstance(device, Device) else stack.enter_context(open_device(device))
        (progress or Silent()).step(f"measuring {', '.join(new)} in turns with {against} on {opened.name}")
        outcomes = opened.bench_together([BenchItem(files[name], name) for name, files in asked], request)
    before: dict[str, BenchmarkReport] = {}
    now: dict[str, BenchmarkReport] = {}
    failures: dict[str, EdgekitError] = {}
    for (name, files), outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, BenchmarkReport):
            (before if files is old else now)[name] = outcome
        elif files is old:
            raise outcome
        else:
            failures[name] = outcome
    return Results(now, failures).or_raise(), Baseline(clean_text(str(against)), before)


def _files(path: str | os.PathLike[str], variants: Sequence[str]) -> dict[str, Path]:
    subject = open_subject(path)
    if isinstance(subject, RunStore):
        return {variant.name: Path(variant.path) for variant in on_processors(subject.variants(variants), variants)}
    if variants:
        raise UsageError("--variant chooses among the variants of a run folder, got a single model")
    return {subject.stem: subject}
