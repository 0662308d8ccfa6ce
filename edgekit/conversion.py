"""Convert one model by several recipes: one float export, one pass over the calibration samples, verified variants."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import edgekit_converters as converters
import numpy as np
from edgekit_converters import ConverterError, Worker
from edgekit_device.embedded import append_note

from .boundary import host_error, translated
from .data import Calibration, Dataset, Preprocessing, draw_calibration, load_data
from .errors import ConversionError, EdgekitError, UsageError
from .progress import Progress, Silent
from .recipe import Recipe, find_recipes
from .records import Variant
from .store import RunStore, file_sha256, write_atomically

__all__ = ["IO_TYPES", "Conversion", "ConversionRequest", "Conversions", "convert"]

IO_TYPES = ("float32", "int8", "uint8")
FLOAT_FILE = "float.tflite"


@dataclass(frozen=True)
class Conversion:
    """The bytes of one variant and its record."""

    variant: Variant
    tflite: bytes = field(repr=False)


@dataclass(frozen=True)
class Conversions(Sequence[Conversion]):
    """What was made, in the order asked for, and the error of every recipe that failed."""

    made: tuple[Conversion, ...]
    failures: Mapping[str, EdgekitError] = field(default_factory=dict)

    def __getitem__(self, index: Any) -> Any:
        return self.made[index]

    def __len__(self) -> int:
        return len(self.made)

    def named(self, name: str) -> Conversion:
        """The conversion called ``name``; raises KeyError."""
        return {item.variant.name: item for item in self.made}[name]


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
    out: str | os.PathLike[str] | RunStore | None = None,
    input_type: str = "float32",
    output_type: str = "float32",
    preprocessing: Preprocessing | None = None,
    calibration_count: int | None = None,
    seed: int = 0,
    batch: int = 1,
    trust: bool = False,
    progress: Progress | None = None,
) -> Conversions:
    """Convert ``model`` by every recipe and return bytes with records.

    ``model`` is a Keras 3 or Keras 2 model in memory, or the path of a ``.keras``, ``.h5``, SavedModel folder or float
    ``.tflite``. ``data`` is anything ``load_data`` takes; calibration samples are drawn, seeded, from its training split.
    With ``out`` the variants are kept in that run folder, and what is there already and still right is not made again.

    A recipe that fails does not stop the others: its error is in ``failures``. Raises that error when all failed,
    UsageError for unknown names, DataError for data that does not fit, ModelInputError for an unreadable model.
    """
    request = ConversionRequest(
        find_recipes(recipes),
        input_type,
        output_type,
        preprocessing or Preprocessing(),
        calibration_count,
        seed,
        batch,
        trust,
    )
    dataset = None if data is None else load_data(data)
    store = out if isinstance(out, RunStore) or out is None else RunStore.create(out)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch, translated():
        job = _Job(model, request, dataset, store, Path(scratch), progress or Silent())
        result = job.run()
    if not result.made:
        raise next(iter(result.failures.values()))
    return result


class _Job:
    """One call of ``convert``: its scratch folder, and what is worked out once for all recipes."""

    def __init__(
        self,
        model: Any,
        request: ConversionRequest,
        dataset: Dataset | None,
        store: RunStore | None,
        scratch: Path,
        progress: Progress,
    ) -> None:
        self.model, self.request, self.dataset = model, request, dataset
        self.store, self.scratch, self.progress = store, scratch, progress
        self.kind = _kind(model)
        self.source: dict[str, Any] = {
            "kind": self.kind,
            "sha256": _source_sha256(model, self.kind),
            "name": _source_name(model),
        }
        self.calibration = self._draw()
        self.export_s = 0.0

    def run(self) -> Conversions:
        made: dict[str, Conversion] = {}
        for recipe in self.request.recipes:
            kept = self._kept(recipe)
            if kept is not None:
                self.progress.note(f"{recipe.name}: made before, kept")
                made[recipe.name] = kept
        wanted = [recipe for recipe in self.request.recipes if recipe.name not in made]
        failures: dict[str, EdgekitError] = {}
        if wanted:
            float_model = self._float_model()
            for recipe, outcome in self._quantized(float_model, wanted):
                if isinstance(outcome, Conversion):
                    made[recipe.name] = outcome
                else:
                    failures[recipe.name] = outcome
        ordered = tuple(made[recipe.name] for recipe in self.request.recipes if recipe.name in made)
        return Conversions(ordered, failures)

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
        if split is None:
            return {}
        first = split.take([0])
        applied = {name: self.request.preprocessing.apply(values) for name, values in first.inputs.items()}
        return {name: list(values.shape[1:]) for name, values in applied.items()}

    # -- the float model ----------------------------------------------------------------------------------------

    def _float_model(self) -> Path:
        """The one float export all recipes start from; kept in the run with the key of what made it."""
        if self.kind == "tflite":
            return Path(os.fspath(self.model))
        key = _digest(
            {"source": self.source["sha256"], "batch": self.request.batch, "shapes": self._shapes(), **_versions()}
        )
        if self.store is not None and self.store.read_json("float.json") is not None:
            known = self.store.read_json("float.json")
            path = self.store.folder / FLOAT_FILE
            if known.get("key") == key and path.is_file() and file_sha256(path) == known.get("sha256"):
                self.progress.note("float export: made before, kept")
                return path
        return self._export(key)

    def _export(self, key: str) -> Path:
        started = time.perf_counter()
        self.progress.step("exporting the float model")
        model = self._on_disk()
        out = self.scratch / FLOAT_FILE
        with Worker() as worker:
            result = worker.call(
                "export",
                model=str(model),
                out=str(out),
                batch=self.request.batch,
                shapes=self._shapes(),
                trust=self.request.trust,
            )
        self.export_s = time.perf_counter() - started
        self.source["framework"] = result.get("framework")
        if self.store is None:
            return out
        path = write_atomically(self.store.folder / FLOAT_FILE, out.read_bytes())
        facts = {
            "key": key,
            "sha256": file_sha256(path),
            "max_abs_diff": result.get("max_abs_diff"),
            "source": self.source,
        }
        self.store.write_json("float.json", facts)
        return path

    def _on_disk(self) -> Path:
        """The model's path; one in memory is traced into the scratch folder, where another process can read it."""
        if self.kind != "memory":
            return Path(os.fspath(self.model))
        from edgekit_converters.export import export_saved_model

        folder = self.scratch / "saved_model"
        export_saved_model(self.model, folder, batch=self.request.batch, shapes=self._shapes())
        return folder

    # -- the variants -------------------------------------------------------------------------------------------

    def _quantized(
        self, float_model: Path, wanted: Sequence[Recipe]
    ) -> Iterator[tuple[Recipe, Conversion | EdgekitError]]:
        with Worker() as worker:
            for number, recipe in enumerate(wanted):
                self.progress.step(f"converting to {recipe.name}")
                self.progress.update(number, len(wanted))
                started = time.perf_counter()
                try:
                    yield recipe, self._one(worker, float_model, recipe, started)
                except (ConverterError, ConversionError) as error:
                    failure = host_error(error) if isinstance(error, ConverterError) else error
                    self.progress.note(f"{recipe.name}: failed: {failure}")
                    yield recipe, failure
            self.progress.update(len(wanted), len(wanted))

    def _one(self, worker: Worker, float_model: Path, recipe: Recipe, started: float) -> Conversion:
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
            source={**self.source, "export_s": round(self.export_s, 4)},
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
        return {**note, "labels": list(labels)} if 0 < len(labels) <= 2000 else note


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
    for name in ("tensorflow", "keras", "tf_keras", "ai-edge-quantizer", "ai-edge-litert", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _edgekit_version() -> str:
    from edgekit import __version__

    return __version__
