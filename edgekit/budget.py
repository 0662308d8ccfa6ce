"""The search for the smallest, fastest variant that keeps its accuracy: try, measure, stop or go on.

Rungs of a ladder, from cheap to dear. Each holds recipes; each is converted and evaluated on the test split, and the first
rung with one that loses no more than allowed is the last:

asked         the recipes that were asked for, int8 by default
correction    the same after cross-layer equalization and with bias correction: costs no speed, and often all it takes
calibration   ranges from percentiles, least squared error, least divergence; the best of them corrected; TFLite's quantizer
mixed         the layers that ``diagnose`` finds guilty kept in float: 1, 2, 4 …, then as few as will do
training      quantization-aware training, where there is training data

What then meets the budget is timed on the device, and the fastest is chosen; of those as fast, the smallest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .benchmark import bench_run
from .candidate import EPSILON, Candidate
from .comparison import fastest_smallest
from .conversion import ConversionJob
from .data import Split
from .devices import BenchRequest, Device
from .errors import EdgekitError, StoreError, UsageError
from .evaluation import Reference, evaluate_run
from .guilt import guilty_layers
from .progress import Progress
from .quality import Metric, find_metric
from .recipe import Recipe, Step, find_recipe
from .records import Evaluation, Variant
from .store import RunStore, now

__all__ = ["BASELINE", "Budget", "BudgetStep", "Search", "SearchLimits"]

BASELINE = "float32"
CALIBRATIONS = ("percentile", "mse", "entropy")
# Keeping more than this share of the layers in float is no int8 model any more.
MOST_KEPT = 0.5


@dataclass(frozen=True)
class SearchLimits:
    """``max_drop`` in the metric's own unit (a fraction for accuracy); ``metric`` None takes the task's own.

    ``max_search_s`` bounds the trying: no new try begins after it.
    """

    max_drop: float
    metric: str | None = None
    max_search_s: float | None = None


@dataclass(frozen=True)
class BudgetStep:
    """One try. ``value`` and ``drop`` are None where it could not be made or evaluated; ``note`` says why, or what was kept."""

    rung: str
    variant: str
    value: float | None = None
    drop: float | None = None
    met: bool = False
    seconds: float = 0.0
    size_bytes: int | None = None
    median_ms: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Budget:
    """How the search went. ``drop`` is that of the choice, or of the best that was found when none met the budget."""

    met: bool
    drop: float | None
    baseline: float
    metric: str
    max_drop: float
    choice: str | None
    best: str | None
    reason: str
    steps: tuple[BudgetStep, ...] = ()
    samples: int = 0
    seconds: float = 0.0
    seed: int = 0
    created: str = field(default_factory=now)


class Search:
    """One search in a run whose lock is held; ``job`` is open. ``made`` collects every variant it made or kept."""

    def __init__(
        self,
        job: ConversionJob,
        store: RunStore,
        test: Split,
        labels: tuple[str, ...],
        limits: SearchLimits,
        progress: Progress,
    ) -> None:
        self.job, self.store, self.test, self.labels = job, store, test, labels
        self.limits, self.progress = limits, progress
        self.made: dict[str, Variant] = {}
        self.failures: dict[str, EdgekitError] = {}
        self.steps: list[BudgetStep] = []
        self._started = time.monotonic()
        self._recipes: dict[str, Recipe] = {}
        self._evaluations: dict[str, Evaluation] = {}
        self._reference = Reference(store, test)
        self._out_of_time = False
        self.metric: Metric
        self.baseline = 0.0

    def run(self, asked: Sequence[Recipe], device: Device | None, threads: int = 1) -> Budget:
        """Search from ``asked``; raises EdgekitError for what would stop every try, such as data that does not fit."""
        base = self._convert(find_recipe(BASELINE))
        evaluation = self._evaluate(base)
        self.metric = find_metric(self.limits.metric, evaluation)
        self.baseline = self.metric.value(evaluation)
        self.progress.note(f"baseline {BASELINE}: {self.metric.name} {self.baseline:.4f}")
        for _ in self._rungs([recipe for recipe in asked if recipe.name != BASELINE] or [find_recipe("int8")]):
            if self._passing() or self._out_of_time:
                break
        if device is not None:
            self._measure(device, threads)
        return self._budget()

    # -- the ladder ---------------------------------------------------------------------------------------------

    def _rungs(self, asked: Sequence[Recipe]) -> Iterator[str]:
        """Climb; every yield is a place where the search may stop."""
        for recipe in asked:
            self._try("asked", recipe)
        failed = [self.failures[recipe.name] for recipe in asked if recipe.name in self.failures]
        if len(failed) == len(asked) and isinstance(failed[0], UsageError):
            raise failed[0]  # what was asked for cannot be, and so can nothing that is made from it
        yield "asked"
        start = next((recipe for recipe in asked if recipe.precision == "int8"), None)
        if start is None:
            return
        self._try("correction", _with(start, equalize=True, correct_bias=True))
        yield "correction"
        for calibration in CALIBRATIONS:
            self._try("calibration", _with(start, calibration=calibration))
            yield "calibration"
        self._try("calibration", _with(self._best_of(start), equalize=True, correct_bias=True))
        yield "calibration"
        self._try("calibration", _with(start, quantizer="tflite-converter"))
        yield "calibration"
        best = self._best_of(start)
        yield from self._mixed("mixed", best)
        if not any(step.technique == "qat" for step in start.steps):
            trained = _with(replace(start, steps=(*start.steps, Step("qat"))))
            trained = replace(trained, finetune={"teacher": "original", **trained.finetune})
            self._try("training", trained)
            yield "training"
            if trained.name in self.failures:
                return
            self._try("training", _with(trained, **self._recipe_quantize(best)))
            yield "training"
            yield from self._mixed("training", self._best_of(trained))

    def _mixed(self, rung: str, start: Recipe) -> Iterator[str]:
        """Keep 1, 2, 4 … guilty layers in float until the budget holds, then as few as will do."""
        if self._over():
            return
        # TFLite's own quantizer cannot leave operators out.
        start = _with(replace(start, quantize={k: v for k, v in start.quantize.items() if k != "quantizer"}))
        try:
            ranked, total = guilty_layers(self.job, start, remaining_s=self._remaining())
        except StoreError:
            raise
        except EdgekitError as error:
            self.steps.append(BudgetStep(rung, f"{start.name}-keep", note=str(error)))
            return
        most = min(len(ranked), max(1, round(MOST_KEPT * total)))
        kept, failed = 1, 0
        while True:
            if self._keep(rung, start, ranked[:kept]):
                break
            failed = kept
            yield rung
            if kept == most or self._over():
                return
            kept = min(2 * kept, most)
        while kept - failed > 1 and not self._over():
            middle = (kept + failed) // 2
            if self._keep(rung, start, ranked[:middle]):
                kept = middle
            else:
                failed = middle
        yield rung

    def _keep(self, rung: str, start: Recipe, groups: Sequence[tuple[str, ...]]) -> bool:
        layers = dict.fromkeys(layer for group in groups for layer in group)
        recipe = _with(start, keep_float=list(layers))
        return self._try(rung, recipe, note=f"in float: {', '.join(layers)}")

    # -- one try ------------------------------------------------------------------------------------------------

    def _try(self, rung: str, recipe: Recipe, note: str = "") -> bool:
        """Convert and evaluate ``recipe``, unless that was done or time is up; returns whether it meets the budget."""
        known = next((step for step in self.steps if step.variant == recipe.name), None)
        if known is not None:
            return known.met
        if self._over():
            return False
        started = time.monotonic()
        step = BudgetStep(rung, recipe.name, note=note)
        try:
            variant = self._convert(recipe)
            value = self.metric.value(self._evaluate(variant))
        except StoreError:
            raise
        except EdgekitError as error:
            self.failures[recipe.name] = error
            step = replace(step, note=str(error))
        else:
            drop = self.metric.drop(self.baseline, value)
            met = drop <= self.limits.max_drop + EPSILON
            step = replace(step, value=value, drop=drop, met=met, size_bytes=variant.size_bytes)
            self.progress.note(
                f"{recipe.name}: {self.metric.name} {value:.4f}, {'meets' if met else 'misses'} the budget"
            )
        self.steps.append(replace(step, seconds=round(time.monotonic() - started, 3)))
        return step.met

    def _convert(self, recipe: Recipe) -> Variant:
        self._recipes[recipe.name] = recipe
        conversion = self.job.kept(recipe) or self.job.make(recipe)
        self.made[recipe.name] = conversion.variant
        return conversion.variant

    def _evaluate(self, variant: Variant) -> Evaluation:
        found = evaluate_run(
            self.store, [variant], self.test, self.labels, reference=self._reference, progress=self.progress
        ).or_raise()
        self._evaluations[variant.name] = found[0]
        return found[0]

    def _best_of(self, start: Recipe) -> Recipe:
        """Of the tries that differ from ``start`` only in how they are quantized, the one that loses least."""
        same = [
            step for step in self.steps if step.drop is not None and self._recipes[step.variant].steps == start.steps
        ]
        whole = [step for step in same if not self._recipes[step.variant].quantize.get("keep_float")]
        best = min(whole, key=_loss, default=None)
        return start if best is None else self._recipes[best.variant]

    @staticmethod
    def _recipe_quantize(recipe: Recipe) -> dict[str, Any]:
        return {key: value for key, value in recipe.quantize.items() if key not in ("keep_float", "keep_int16")}

    def _passing(self) -> list[BudgetStep]:
        return [step for step in self.steps if step.met]

    def _remaining(self) -> float | None:
        limit = self.limits.max_search_s
        return None if limit is None else max(0.0, limit - (time.monotonic() - self._started))

    def _over(self) -> bool:
        self._out_of_time = self._out_of_time or self._remaining() == 0.0
        return self._out_of_time

    # -- the end ------------------------------------------------------------------------------------------------

    def _measure(self, device: Device, threads: int) -> None:
        """Time the baseline, the first try and everything that meets the budget, on the device."""
        wanted = [BASELINE, *(step.variant for step in self.steps[:1]), *(step.variant for step in self._passing())]
        variants = [self.made[name] for name in dict.fromkeys(wanted) if name in self.made]
        request = BenchRequest(threads=threads)
        measured = bench_run(self.store, variants, device, request, again=False, progress=self.progress)
        self.failures.update(measured.failures)
        medians = {name: report.latency.median_ms for name, report in measured.by_variant.items()}
        self.steps = [replace(step, median_ms=medians.get(step.variant)) for step in self.steps]

    def _budget(self) -> Budget:
        passing = self._passing()
        candidates = [self._candidate(step.variant) for step in passing]
        choice = fastest_smallest(candidates)
        known = [step for step in self.steps if step.drop is not None]
        best = min(known, key=_loss, default=None)
        chosen = next((step for step in passing if choice is not None and step.variant == choice.name), best)
        return Budget(
            met=choice is not None,
            drop=None if chosen is None else chosen.drop,
            baseline=self.baseline,
            metric=self.metric.name,
            max_drop=self.limits.max_drop,
            choice=None if choice is None else choice.name,
            best=None if best is None else best.variant,
            reason=self._reason(choice, best),
            steps=tuple(self.steps),
            samples=self.test.count,
            seconds=round(time.monotonic() - self._started, 3),
            seed=self.job.request.seed,
        )

    def _candidate(self, name: str) -> Candidate:
        variant = self.made[name]
        return Candidate(variant, self._evaluations.get(name), self.store.report(variant))

    def _reason(self, choice: Candidate | None, best: BudgetStep | None) -> str:
        allowed = f"{self.limits.max_drop:g} of {self.metric.name}"
        if choice is not None:
            among = len(self._passing())
            which = "the only one tried that does" if among == 1 else f"the fastest or smallest of {among} that do"
            return f"it loses no more than {allowed}, {which}"
        stopped = "the time for the search was up" if self._out_of_time else "nothing more is left to try"
        if best is None or best.drop is None:
            return f"nothing could be made that keeps its {self.metric.name}: {stopped}"
        return (
            f"no variant loses {allowed} or less: the best, {best.variant}, loses {best.drop:.4g}, and {stopped}. Allow more "
            "(--max-drop), give more calibration or training data, or ship float16"
        )


def _with(recipe: Recipe, **quantize: Any) -> Recipe:
    """``recipe`` quantized otherwise, called by what it then does."""
    made = replace(recipe, quantize={**recipe.quantize, **quantize}, origin="budget")
    label = recipe.name.partition("+")[2]
    return replace(
        made, name=f"{made.spec}+{label}" if label else made.spec, summary=f"From {recipe.name}, by the search."
    )


def _loss(step: BudgetStep) -> float:
    """What to go by: of equal ones the first, which is the cheapest."""
    assert step.drop is not None
    return step.drop
