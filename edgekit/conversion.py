"""Convert one model by several recipes: one float export, one pass over the calibration samples, verified variants."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from edgekit_converters import Worker
from edgekit_converters.targets.records import TargetReport
from edgekit_converters.targets.target import Target
from edgekit_device.embedded import append_note

from .boundary import translated
from .choices import IO_TYPES
from .compiling import Compiled
from .data import Calibration, Dataset, Preprocessing, draw_calibration, load_data
from .devices import BenchRequest, open_device
from .errors import EdgekitError, StoreError, UsageError
from .float_models import FloatModel, FloatModels, digest, versions
from .for_target import finish_for_target, report_on, warn_early
from .progress import Progress, Silent
from .quantization import achieved, quantize_options
from .recipe import Recipe, find_recipes
from .recipe_file import recipe_toml
from .records import Variant, file_facts
from .results import Results
from .source import Source
from .store import RunStore
from .target_plan import plan_for

__all__ = ["Conversion", "ConversionJob", "ConversionRequest", "convert", "convert_run"]

MOST_LABELS = 2000  # class names that travel inside a variant


@dataclass(frozen=True)
class Conversion:
    """The bytes of one variant and its record; where a target was named, what it makes of it, and what was compiled."""

    variant: Variant
    tflite: bytes = field(repr=False)
    target_report: TargetReport | None = None
    compiled: Compiled | None = None


@dataclass(frozen=True)
class ConversionRequest:
    """Everything that decides what comes out, apart from the model and the data.

    ``batch`` is the static number of rows (-1: free). ``input_type`` and ``output_type`` are float32, int8 or uint8, and
    apply to the int8 recipe. ``calibration_count`` None takes 200 samples, or all where there are fewer. ``finetune``
    overrides the recipes' settings of training (epochs, learning_rate, loss, teacher …), all of which are seeded with
    ``seed``. ``device`` and ``threads`` are for recipes that slim to a latency: it is measured there. ``target`` is where the
    variants are to run, None anywhere: its words on each are kept in the run, and compiled files where its tool is installed.
    """

    recipes: tuple[Recipe, ...]
    input_type: str = "float32"
    output_type: str = "float32"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    calibration_count: int | None = None
    seed: int = 0
    batch: int = 1
    trust: bool = False
    finetune: Mapping[str, Any] = field(default_factory=dict)
    device: str = "local"
    threads: int = 1
    target: Target | None = None

    def __post_init__(self) -> None:
        """Refuse what no converter can do."""
        for side in (self.input_type, self.output_type):
            if side not in IO_TYPES:
                raise UsageError(f"expected an input or output type of {', '.join(IO_TYPES)}, got {side!r}")
        if self.batch != -1 and not 1 <= self.batch <= 4096:
            raise UsageError(f"expected a batch from 1 to 4096, or -1 for a free one, got {self.batch}")


def convert(
    model: Any,
    *,
    data: Any = None,
    recipes: Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    target: str | None = None,
    input_type: str | None = None,
    output_type: str | None = None,
    preprocessing: Preprocessing | None = None,
    calibration_count: int | None = None,
    seed: int = 0,
    batch: int = 1,
    trust: bool = False,
    finetune: Mapping[str, Any] | None = None,
    device: str = "local",
    threads: int = 1,
    data_folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Results[Conversion]:
    """Convert ``model`` by every recipe and return bytes with records.

    ``model`` is a Keras 3 or Keras 2 model in memory, or the path of a ``.keras``, ``.h5``, SavedModel folder or float
    ``.tflite``. ``data`` is anything ``load_data`` takes; calibration samples are drawn, seeded, from its training split.
    With ``out`` the variants are kept in that run folder, and what is there already and still right is not made again.

    ``target`` names where they are to run (see ``edgekit targets``): recipes, types and batch that it cannot run are refused,
    those not said are its own first choice (float32 and int8 with float ends where no target is named), and every result has
    ``target_report``. With ``out`` they are compiled too, where the target's tool is installed (``compiled``).

    A recipe that fails does not stop the others: its error is in ``failures``. Raises that error when all failed,
    UsageError for unknown names, DataError for data that does not fit, ModelInputError for an unreadable model.
    """
    wanted = preprocessing or Preprocessing()
    plan = plan_for(target, recipes=recipes, input_type=input_type, output_type=output_type, batch=batch)
    request = ConversionRequest(
        find_recipes(plan.recipes),
        plan.input_type,
        plan.output_type,
        wanted,
        calibration_count,
        seed,
        batch,
        trust,
        finetune or {},
        device,
        threads,
        plan.target,
    )
    Source(model)  # a wrong model is said before the data is read and a folder made
    dataset = None if data is None else load_data(data, size=wanted.size, folder=data_folder)
    job = ConversionJob(model, request, dataset, progress or Silent())
    job.store = None if out is None else RunStore.create(out)
    with nullcontext() if job.store is None else job.store.locked(), job:
        return job.run().or_raise()


def convert_run(
    store: RunStore, model: Any, request: ConversionRequest, dataset: Dataset | None, progress: Progress
) -> Results[Conversion]:
    """Convert ``model`` into a run whose lock is held; raises like ``convert``."""
    job = ConversionJob(model, request, dataset, progress)
    job.store = store
    with job:
        return job.run().or_raise()


class ConversionJob:
    """One conversion: what is worked out once for all recipes, and where it goes.

    A context manager: inside the block there is a scratch folder and a worker, which knows what it has calibrated. With a
    ``store``, whose lock is held, everything made is kept there.
    """

    def __init__(self, model: Any, request: ConversionRequest, dataset: Dataset | None, progress: Progress) -> None:
        self.request, self.dataset, self.progress = request, dataset, progress
        self.store: RunStore | None = None
        self.source = Source(model)
        self.calibration = self._draw()
        self.worker = Worker()
        self.scratch = Path()
        self.floats: FloatModels
        self._open = ExitStack()

    def __enter__(self) -> ConversionJob:
        self._open.enter_context(translated())
        self.scratch = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
        self._open.enter_context(self.worker)
        self.floats = FloatModels(
            self.source,
            self.request,
            self.dataset,
            self.progress,
            store=self.store,
            scratch=self.scratch,
            median_ms=self._median_ms,
        )
        self._open.enter_context(self.floats.trainer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is None and self.store is not None and not self.floats.unfinished:
            self.store.drop_checkpoints()
        return self._open.__exit__(kind, error, trace)

    def run(self) -> Results[Conversion]:
        """Every recipe of the request; raises only what stops every recipe."""
        wanted = self.request.recipes
        made = {recipe.name: kept for recipe in wanted if (kept := self.kept(recipe)) is not None}
        missing = [recipe for recipe in wanted if recipe.name not in made]
        failures = self._make(missing, made) if missing else {}
        if self.request.target is not None:
            failures.update(self._for_target(self.request.target, made))
        return Results({recipe.name: made[recipe.name] for recipe in wanted if recipe.name in made}, failures)

    # -- the data -----------------------------------------------------------------------------------------------

    def _draw(self) -> Calibration | None:
        if not any(recipe.calibrated for recipe in self.request.recipes):
            return None
        if self.dataset is None:
            names = ", ".join(recipe.name for recipe in self.request.recipes if recipe.calibrated)
            raise UsageError(
                f"{names} needs calibration samples: give data with a training split (--data digits.npz), or convert by "
                "recipes that need none (float32, float16, dynamic-int8)"
            )
        return draw_calibration(self.dataset, count=self.request.calibration_count, seed=self.request.seed)

    def samples_file(self) -> Path | None:
        """The preprocessed calibration samples as an ``.npz``; None where no recipe needs any."""
        if self.calibration is None:
            return None
        path = self.scratch / "calibration.npz"
        if not path.exists():
            arrays = {
                name: np.asarray(self.request.preprocessing.apply(values))
                for name, values in self.calibration.split.inputs.items()
            }
            np.savez(path, **arrays)  # type: ignore[arg-type]
        return path

    # -- the variants -------------------------------------------------------------------------------------------

    def _make(self, wanted: Sequence[Recipe], made: dict[str, Conversion]) -> dict[str, EdgekitError]:
        """Add every variant of ``wanted`` to ``made``; returns the errors of those that fail."""
        failures: dict[str, EdgekitError] = {}
        # The model as it was given comes first: what is wrong with it is wrong for every recipe.
        plain = [recipe for recipe in wanted if not recipe.trains]
        if plain:
            given = self.floats.of(plain[0])
            if self.request.target is not None:
                warn_early(given.path, given.layers, self.request.target, self.progress)
        for number, recipe in enumerate(wanted):
            self.progress.update(number, len(wanted))
            try:
                made[recipe.name] = self.make(recipe)
            except StoreError:
                raise
            except EdgekitError as error:
                failures[recipe.name] = error
        self.progress.update(len(wanted), len(wanted))
        return failures

    def _for_target(self, target: Target, made: dict[str, Conversion]) -> dict[str, EdgekitError]:
        """Add what ``target`` makes of each variant, and what was compiled; returns the errors of those it refuses."""
        if self.store is None:
            for name, item in made.items():
                if item.variant.precision in target.precisions:
                    made[name] = replace(item, target_report=report_on(item.tflite, target))
            return {}
        finished = finish_for_target(self.store, [item.variant for item in made.values()], target, self.progress)
        for name, done in finished.by_variant.items():
            made[name] = replace(made[name], target_report=done.report, compiled=done)
        return dict(finished.failures)

    def make(self, recipe: Recipe) -> Conversion:
        """The variant of ``recipe``, also when there is one already; raises EdgekitError."""
        with translated():
            float_model = self.floats.of(recipe)
            self.progress.step(f"converting to {recipe.name}")
            return self._one(float_model, recipe)

    def _one(self, float_model: FloatModel, recipe: Recipe) -> Conversion:
        started = time.perf_counter()
        out = self.scratch / f"{recipe.name}.tflite"
        result = self._quantized(float_model, recipe, out)
        tflite = append_note(out.read_bytes(), self._note(recipe))
        variant = Variant(
            name=recipe.name,
            recipe=recipe.name,
            spec=recipe.spec,
            **file_facts(tflite),
            convert_s=round(time.perf_counter() - started, 4),
            precision=str(result.get("precision") or recipe.precision),
            input_type=str(result["input_type"]),
            output_type=str(result["output_type"]),
            quantizer=str(result["quantizer"]),
            source={**self.source.facts, **float_model.facts},
            achieved=achieved(tflite, float_model, result),
            calibration=self._calibration_facts(recipe),
            preprocessing=self.request.preprocessing.to_dict(),
            versions=versions(),
            key=self._key(recipe),
        )
        if self.store is not None:
            self.store.write_text(f"recipes/{recipe.name}.toml", recipe_toml(recipe.to_dict()))
            variant = self.store.save_variant(variant, tflite)
        return Conversion(variant, tflite)

    def _quantized(self, float_model: FloatModel, recipe: Recipe, out: Path) -> dict[str, Any]:
        samples = self.samples_file() if recipe.calibrated else None
        return self.worker.call(
            "quantize",
            model=str(float_model.path),
            out=str(out),
            precision=recipe.precision,
            input_type=self.request.input_type,
            output_type=self.request.output_type,
            samples=None if samples is None else str(samples),
            options=quantize_options(recipe, float_model),
        )

    def _median_ms(self, float_model: FloatModel, recipe: Recipe) -> float:
        """What one inference of ``recipe``'s precision takes on the device."""
        out = self.scratch / "timed.tflite"
        self._quantized(float_model, recipe, out)
        with open_device(self.request.device) as device:
            report = device.bench(out, BenchRequest(threads=self.request.threads))
        if report.latency.median_ms is None:
            raise UsageError(
                f"{device.name} is emulated by {report.board.emulator} and has no latency to slim to: choose a board (--device), "
                "or slim to a fraction of the MACs"
            )
        return report.latency.median_ms

    def kept(self, recipe: Recipe) -> Conversion | None:
        """The variant of an earlier call, when nothing that decides it has changed and its file is whole."""
        known = None if self.store is None else self.store.variant(recipe.name)
        if self.store is None or known is None:
            return None
        if known.key != self._key(recipe):
            self.progress.note(f"{recipe.name}: made before from other inputs, made again")
            return None
        self.progress.note(f"{recipe.name}: made before, kept")
        return Conversion(replace(known, reused=True), self.store.variant_path(recipe.name).read_bytes())

    def _key(self, recipe: Recipe) -> str:
        request = self.request
        return digest(
            {
                "float": self.floats.key(recipe),
                "precision": recipe.precision,
                "quantize": dict(recipe.quantize),
                "types": [request.input_type, request.output_type] if recipe.precision == "int8" else [],
                "preprocessing": request.preprocessing.to_dict(),
                "calibration": self._calibration_facts(recipe),
                "versions": versions(),
            }
        )

    def _calibration_facts(self, recipe: Recipe) -> dict[str, Any] | None:
        drawn = self.calibration
        if drawn is None or not recipe.calibrated:
            return None
        return {"count": drawn.count, "seed": drawn.seed, "sha256": drawn.sha256, "excluded": drawn.excluded}

    def _note(self, recipe: Recipe) -> dict[str, Any]:
        """What travels inside the file: how to feed it, and where it came from."""
        note = {
            "edgekit": versions()["edgekit"],
            "recipe": recipe.name,
            "preprocessing": self.request.preprocessing.to_dict(),
            "source_sha256": self.source.sha256,
            "calibration": self._calibration_facts(recipe),
        }
        labels = self.dataset.labels if self.dataset is not None else ()
        return {**note, "labels": list(labels)} if 0 < len(labels) <= MOST_LABELS else note
