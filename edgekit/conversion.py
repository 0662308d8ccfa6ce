"""Convert one model by several recipes: one float export, one pass over the calibration samples, verified variants."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import edgekit_converters as converters
import numpy as np
from edgekit_converters import ConverterError, Worker
from edgekit_device.embedded import append_note

from .boundary import host_error, translated
from .choices import IO_TYPES
from .data import Calibration, Dataset, Preprocessing, draw_calibration, load_data
from .errors import ConversionError, EdgekitError, UsageError
from .progress import Progress, Silent
from .recipe import Recipe, find_recipes
from .records import Variant
from .results import Results
from .store import FLOAT_FILE, RunStore, file_sha256, write_atomically

__all__ = ["Conversion", "ConversionRequest", "convert", "convert_run"]

MOST_LABELS = 2000  # class names that travel inside a variant
VERSIONED = ("tensorflow", "keras", "tf_keras", "ai-edge-quantizer", "ai-edge-litert", "numpy")


@dataclass(frozen=True)
class Conversion:
    """The bytes of one variant and its record."""

    variant: Variant
    tflite: bytes = field(repr=False)


@dataclass(frozen=True)
class ConversionRequest:
    """Everything that decides what comes out, apart from the model and the data.

    ``batch`` is the static number of rows (-1: free). ``input_type`` and ``output_type`` are float32, int8 or uint8, and
    apply to the int8 recipe. ``calibration_count`` None takes 200 samples, or all where there are fewer.
    """

    recipes: tuple[Recipe, ...]
    input_type: str = "float32"
    output_type: str = "float32"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    calibration_count: int | None = None
    seed: int = 0
    batch: int = 1
    trust: bool = False

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
    recipes: Sequence[str] = ("float32", "int8"),
    out: str | os.PathLike[str] | None = None,
    input_type: str = "float32",
    output_type: str = "float32",
    preprocessing: Preprocessing | None = None,
    calibration_count: int | None = None,
    seed: int = 0,
    batch: int = 1,
    trust: bool = False,
    data_folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Results[Conversion]:
    """Convert ``model`` by every recipe and return bytes with records.

    ``model`` is a Keras 3 or Keras 2 model in memory, or the path of a ``.keras``, ``.h5``, SavedModel folder or float
    ``.tflite``. ``data`` is anything ``load_data`` takes; calibration samples are drawn, seeded, from its training split.
    With ``out`` the variants are kept in that run folder, and what is there already and still right is not made again.

    A recipe that fails does not stop the others: its error is in ``failures``. Raises that error when all failed,
    UsageError for unknown names, DataError for data that does not fit, ModelInputError for an unreadable model.
    """
    wanted = preprocessing or Preprocessing()
    request = ConversionRequest(
        find_recipes(recipes), input_type, output_type, wanted, calibration_count, seed, batch, trust
    )
    _kind(model)  # a wrong model is said before the data is read and a folder made
    dataset = None if data is None else load_data(data, size=wanted.size, folder=data_folder)
    job = _Job(model, request, dataset, progress or Silent())
    store = None if out is None else RunStore.create(out)
    with nullcontext() if store is None else store.locked():
        return job.run(store).or_raise()


def convert_run(
    store: RunStore, model: Any, request: ConversionRequest, dataset: Dataset | None, progress: Progress
) -> Results[Conversion]:
    """Convert ``model`` into a run whose lock is held; raises like ``convert``."""
    return _Job(model, request, dataset, progress).run(store).or_raise()


class _Job:
    """One conversion: what is worked out once for all recipes, and where it goes."""

    def __init__(self, model: Any, request: ConversionRequest, dataset: Dataset | None, progress: Progress) -> None:
        self.model, self.request, self.dataset, self.progress = model, request, dataset, progress
        self.kind = _kind(model)
        self.source: dict[str, Any] = {
            "kind": self.kind,
            "sha256": _source_sha256(model, self.kind),
            "name": _source_name(model),
        }
        self.calibration = self._draw()
        self.store: RunStore | None = None
        self.scratch = Path()

    def run(self, store: RunStore | None) -> Results[Conversion]:
        """Make what ``store`` does not have yet; raises only what stops every recipe."""
        with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch, translated():
            self.store, self.scratch = store, Path(scratch)
            made = {recipe.name: kept for recipe in self.request.recipes if (kept := self._kept(recipe)) is not None}
            wanted = [recipe for recipe in self.request.recipes if recipe.name not in made]
            failures = self._make(wanted, made) if wanted else {}
        return Results(
            {recipe.name: made[recipe.name] for recipe in self.request.recipes if recipe.name in made}, failures
        )

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

    def _samples_file(self) -> Path | None:
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

    def _shapes(self) -> dict[str, list[int]]:
        """Sample shapes, for models that leave some dimensions open."""
        split = None if self.dataset is None else self.dataset.train or self.dataset.test
        first = {} if split is None else split.take([0]).inputs
        return {name: list(self.request.preprocessing.apply(values).shape[1:]) for name, values in first.items()}

    # -- the float model ----------------------------------------------------------------------------------------

    def _float_model(self) -> Path:
        """The one float model all recipes start from; kept in the run with the key of what made it."""
        key = _digest(
            {"source": self.source["sha256"], "batch": self.request.batch, "shapes": self._shapes(), **_versions()}
        )
        known = {} if self.store is None else self.store.read_facts("float.json")
        if self.store is not None and known.get("key") == key:
            path = self.store.folder / FLOAT_FILE
            if path.is_file() and file_sha256(path) == known.get("sha256"):
                if self.kind != "tflite":
                    self.progress.note("float export: made before, kept")
                self.source.update(known.get("source") or {})
                return path
        made = Path(os.fspath(self.model)) if self.kind == "tflite" else self._export()
        if self.store is None:
            return made
        path = write_atomically(self.store.folder / FLOAT_FILE, made.read_bytes())
        self.store.write_json("float.json", {"key": key, "sha256": file_sha256(path), "source": self.source})
        return path

    def _export(self) -> Path:
        started = time.perf_counter()
        self.progress.step("exporting the float model")
        out = self.scratch / FLOAT_FILE
        with Worker() as worker:
            result = worker.call(
                "export",
                model=str(self._on_disk()),
                out=str(out),
                batch=self.request.batch,
                shapes=self._shapes(),
                trust=self.request.trust,
            )
        self.source["framework"] = result.get("framework")
        self.source["max_abs_diff"] = result.get("max_abs_diff")
        self.source["export_s"] = round(time.perf_counter() - started, 4)
        return out

    def _on_disk(self) -> Path:
        """The model's path; one in memory is traced into the scratch folder, where another process can read it."""
        if self.kind != "memory":
            return Path(os.fspath(self.model))
        from edgekit_converters.export import export_saved_model

        folder = self.scratch / "saved_model"
        export_saved_model(self.model, folder, batch=self.request.batch, shapes=self._shapes())
        return folder

    # -- the variants -------------------------------------------------------------------------------------------

    def _make(self, wanted: Sequence[Recipe], made: dict[str, Conversion]) -> dict[str, EdgekitError]:
        """Add every variant of ``wanted`` to ``made``; returns the errors of those that fail."""
        failures: dict[str, EdgekitError] = {}
        float_model = self._float_model()
        with Worker() as worker:
            for number, recipe in enumerate(wanted):
                self.progress.step(f"converting to {recipe.name}")
                self.progress.update(number, len(wanted))
                try:
                    made[recipe.name] = self._one(worker, float_model, recipe)
                except ConverterError as error:
                    failures[recipe.name] = host_error(error)
                except ConversionError as error:
                    failures[recipe.name] = error
            self.progress.update(len(wanted), len(wanted))
        return failures

    def _one(self, worker: Worker, float_model: Path, recipe: Recipe) -> Conversion:
        started = time.perf_counter()
        out = self.scratch / f"{recipe.name}.tflite"
        samples = self._samples_file() if recipe.calibrated else None
        result = worker.call(
            "quantize",
            model=str(float_model),
            out=str(out),
            precision=recipe.precision,
            input_type=self.request.input_type,
            output_type=self.request.output_type,
            samples=None if samples is None else str(samples),
        )
        tflite = append_note(out.read_bytes(), self._note(recipe))
        variant = Variant(
            name=recipe.name,
            recipe=recipe.name,
            sha256=hashlib.sha256(tflite).hexdigest(),
            size_bytes=len(tflite),
            zipped_bytes=len(zlib.compress(tflite, 9)),
            convert_s=round(time.perf_counter() - started, 4),
            precision=recipe.precision,
            input_type=str(result["input_type"]),
            output_type=str(result["output_type"]),
            quantizer=str(result["quantizer"]),
            source=dict(self.source),
            calibration=self._calibration_facts(recipe),
            preprocessing=self.request.preprocessing.to_dict(),
            versions=_versions(),
            key=self._key(recipe),
        )
        if self.store is not None:
            variant = self.store.save_variant(variant, tflite)
        return Conversion(variant, tflite)

    def _kept(self, recipe: Recipe) -> Conversion | None:
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
        return _digest(
            {
                "source": self.source["sha256"],
                "precision": recipe.precision,
                "types": [request.input_type, request.output_type] if recipe.precision == "int8" else [],
                "batch": request.batch,
                "preprocessing": request.preprocessing.to_dict(),
                "calibration": self._calibration_facts(recipe),
                "versions": _versions(),
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
            "edgekit": _edgekit_version(),
            "recipe": recipe.name,
            "preprocessing": self.request.preprocessing.to_dict(),
            "source_sha256": self.source["sha256"],
            "calibration": self._calibration_facts(recipe),
        }
        labels = self.dataset.labels if self.dataset is not None else ()
        return {**note, "labels": list(labels)} if 0 < len(labels) <= MOST_LABELS else note


def _kind(model: Any) -> str:
    if isinstance(model, (str, os.PathLike)):
        with translated():
            return converters.detect_kind(model)
    if isinstance(model, bytes):
        raise UsageError("expected a model in memory or a path, got bytes: write them to a .tflite file first")
    if converters.is_keras_model(model) is None:
        raise UsageError(f"expected a Keras model or a path, got {type(model).__module__}.{type(model).__name__}")
    return "memory"


def _source_name(model: Any) -> str:
    return (
        Path(os.fspath(model)).name if isinstance(model, (str, os.PathLike)) else str(getattr(model, "name", "model"))
    )


def _source_sha256(model: Any, kind: str) -> str:
    """Of the file or folder; of a model in memory, of its configuration and weights."""
    if kind != "memory":
        return file_sha256(Path(os.fspath(model)))
    digest = hashlib.sha256()
    try:
        digest.update(model.to_json().encode())
    except Exception:  # a subclassed model without get_config: its weights and type must do
        digest.update(type(model).__qualname__.encode())
    for weight in model.get_weights():
        digest.update(str((weight.dtype, weight.shape)).encode() + np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _versions() -> dict[str, str]:
    from importlib import metadata

    found = {"edgekit": _edgekit_version(), "python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _edgekit_version() -> str:
    from edgekit import __version__

    return __version__
