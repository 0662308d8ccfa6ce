"""``search``: convert until the accuracy budget holds; the Python side of ``edgekit convert --max-drop``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from .budget import BASELINE, Budget, Search, SearchLimits
from .compiling import Compiled
from .conversion import ConversionJob, ConversionRequest
from .data import Dataset, Preprocessing, load_data
from .devices import Device, open_device
from .errors import DataError, EdgekitError, UsageError, suggest
from .for_target import finish_for_target
from .progress import Progress, Silent
from .quality import METRICS
from .recipe import Recipe, find_recipe, find_recipes
from .records import Variant, to_dict
from .source import Source
from .store import RunStore
from .target_plan import plan_for

__all__ = ["SearchResult", "search", "search_run"]

BUDGET_FILE = "budget.json"


@dataclass(frozen=True)
class SearchResult:
    """Every variant the search made, the budget, and what failed on the way (which ends no search).

    ``targets`` holds, where a target was named, what it makes of each variant it runs, and what was compiled.
    """

    variants: tuple[Variant, ...]
    budget: Budget
    failures: Mapping[str, EdgekitError]
    targets: Mapping[str, Compiled] = field(default_factory=dict)

    @property
    def choice(self) -> str | None:
        """The variant to ship; None when none keeps its accuracy."""
        return self.budget.choice


def search(
    model: Any,
    *,
    data: Any,
    max_drop: float,
    out: str | os.PathLike[str],
    recipes: Sequence[str] = ("int8",),
    metric: str | None = None,
    max_search_s: float | None = None,
    target: str | None = None,
    input_type: str | None = None,
    output_type: str | None = None,
    preprocessing: Preprocessing | None = None,
    calibration_count: int | None = None,
    seed: int = 0,
    trust: bool = False,
    finetune: Mapping[str, Any] | None = None,
    device: str | Device | None = "local",
    threads: int = 1,
    data_folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """The smallest, fastest variant of ``model`` that loses no more than ``max_drop`` of ``metric``, or word that none does.

    ``model`` and ``data`` are as for ``convert``; accuracy is measured on the test split, calibration and training draw
    from the training split. ``metric`` is one of METRICS; None takes accuracy for class labels, mean absolute error for
    float targets. ``recipes`` are tried first; when none keeps its accuracy, the first int8 one is made better step by step
    (see ``edgekit.budget``), until ``max_search_s`` seconds are over. What keeps it is timed on ``device`` (None: size
    alone decides). The run folder ``out`` keeps everything: the same call again goes on from there. ``target`` is as for
    ``convert``: what it makes of every variant it can run is in ``targets``.

    Raises UsageError, DataError and ModelInputError for what cannot be searched at all. A budget nobody meets is no error.
    """
    limits = SearchLimits(max_drop, metric, max_search_s)
    _check(limits)
    wanted = preprocessing or Preprocessing()
    plan = plan_for(target, recipes=recipes, input_type=input_type, output_type=output_type)
    request = ConversionRequest(
        find_recipes(plan.recipes),
        plan.input_type,
        plan.output_type,
        wanted,
        calibration_count,
        seed,
        1,
        trust,
        finetune or {},
        device if isinstance(device, str) else "local",
        threads,
        plan.target,
    )
    Source(model)  # a wrong model is said before the data is read
    dataset = load_data(data, size=wanted.size, folder=data_folder)
    job = _job(model, request, dataset, progress or Silent())
    job.store = RunStore.create(out)
    with ExitStack() as stack:
        opened = stack.enter_context(open_device(device)) if isinstance(device, str) else device
        stack.enter_context(job.store.locked())
        return _searched(job, job.store, request.recipes, limits, opened)


def search_run(
    store: RunStore,
    model: Any,
    request: ConversionRequest,
    dataset: Dataset,
    limits: SearchLimits,
    device: Device | None,
    progress: Progress,
) -> SearchResult:
    """Search in a run whose lock is held; raises like ``search``."""
    _check(limits)
    job = _job(model, request, dataset, progress)
    job.store = store
    return _searched(job, store, request.recipes, limits, device)


def _job(model: Any, request: ConversionRequest, dataset: Dataset, progress: Progress) -> ConversionJob:
    """A job that can make whatever the search may try; raises DataError without a test split."""
    if dataset.test is None:
        raise DataError(
            f"{dataset.name} has no test samples to measure accuracy on: give x_test and y_test, or a test/ folder"
        )
    # int8 is among them for its calibration samples, which every rung needs.
    every = {recipe.name: recipe for recipe in (find_recipe(BASELINE), *request.recipes, find_recipe("int8"))}
    return ConversionJob(model, replace(request, recipes=tuple(every.values())), dataset, progress)


def _searched(
    job: ConversionJob, store: RunStore, asked: Sequence[Recipe], limits: SearchLimits, device: Device | None
) -> SearchResult:
    assert job.dataset is not None
    assert job.dataset.test is not None
    with job:
        found = Search(job, store, job.dataset.test, job.dataset.labels, limits, job.progress)
        budget = found.run(asked, device, job.request.threads)
        store.write_json(BUDGET_FILE, to_dict(budget))
    variants = tuple(found.made.values())
    if job.request.target is None:
        return SearchResult(variants, budget, found.failures)
    finished = finish_for_target(store, variants, job.request.target, job.progress)
    return SearchResult(variants, budget, {**found.failures, **finished.failures}, finished.by_variant)


def _check(limits: SearchLimits) -> None:
    if limits.metric is not None and limits.metric not in METRICS:
        raise UsageError(f"unknown metric {limits.metric!r}{suggest(limits.metric, METRICS)}")
    fraction = limits.metric != "mean-absolute-error"
    if not math.isfinite(limits.max_drop) or (fraction and not -1 <= limits.max_drop <= 1):
        raise UsageError(f"expected --max-drop as a fraction such as 0.01 for one point, got {limits.max_drop}")
    if limits.max_search_s is not None and not (math.isfinite(limits.max_search_s) and limits.max_search_s > 0):
        raise UsageError(f"expected --max-search-s as seconds above 0, got {limits.max_search_s}")
