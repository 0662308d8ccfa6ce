"""The float models that variants are quantized from: the one given, and one for each way its Keras model is changed.

Each is made once and kept in the run with the key of what made it; recipes that differ only in precision share it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from edgekit_converters import TechniqueError, Worker

from .data import Dataset, Split, resize
from .errors import UsageError
from .latency_target import LATENCY_KEYS, ratio_for_latency, wants_latency
from .progress import Progress
from .recipe import Recipe, Step
from .recipe_name import encode
from .source import Source
from .store import FLOAT_FILE, RunStore, file_sha256, write_atomically

if TYPE_CHECKING:
    from .conversion import ConversionRequest

__all__ = ["FloatModel", "FloatModels", "digest", "versions"]

VERSIONED = ("tensorflow", "keras", "tf_keras", "ai-edge-quantizer", "ai-edge-litert", "numpy")
TRAINING_VERSIONED = ("tensorflow-model-optimization",)
# Of what the converters make: raised when the same inputs give other bytes, so that a run makes its variants again.
REVISION = "2"
# A large model on a small machine may train for days; it can be interrupted and gone on with at any time.
TRAINING_DEADLINE_S = 30 * 24 * 3600.0


@dataclass(frozen=True)
class FloatModel:
    """A float32 ``.tflite``; the Keras layer of each of its operators, where it was exported here; and how it was made.

    ``facts`` has framework, max_abs_diff and export_s; ``achieved`` what the techniques measured on their results.
    """

    path: Path
    layers: tuple[str | None, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    achieved: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()


class FloatModels:
    """Makes them when they are first asked for. ``store`` None keeps them in ``scratch`` alone.

    ``median_ms`` quantizes a float model as a recipe says and measures it on the device: recipes may slim to a latency.
    """

    def __init__(
        self,
        source: Source,
        request: ConversionRequest,
        dataset: Dataset | None,
        progress: Progress,
        *,
        store: RunStore | None,
        scratch: Path,
        median_ms: Callable[[FloatModel, Recipe], float],
    ) -> None:
        self.source, self.request, self.dataset, self.progress = source, request, dataset, progress
        self.store, self.scratch, self.median_ms = store, scratch, median_ms
        self.trainer = Worker()  # starts at its first call, and serves every recipe that trains
        self.unfinished: set[str] = set()  # keys of compressions that were begun
        self._known: dict[str, FloatModel] = {}

    def of(self, recipe: Recipe) -> FloatModel:
        """The float model ``recipe`` starts from; raises EdgekitError and ConverterError."""
        key = self.key(recipe)
        if key not in self._known:
            self._known[key] = self._compressed(recipe, key) if recipe.trains else self._original(key)
        return self._known[key]

    def key(self, recipe: Recipe) -> str:
        """A hash of everything that decides the float model of ``recipe``."""
        facts = {"source": self.source.sha256, "batch": self.request.batch, "shapes": self.shapes(), **versions()}
        return digest({**facts, **self._training(recipe)} if recipe.trains else facts)

    def shapes(self) -> dict[str, list[int]]:
        """Sample shapes, for models that leave some dimensions open."""
        split = None if self.dataset is None else self.dataset.train or self.dataset.test
        first = {} if split is None else split.take([0]).inputs
        return {name: list(self.request.preprocessing.apply(values).shape[1:]) for name, values in first.items()}

    # -- the model as it was given ------------------------------------------------------------------------------

    def _original(self, key: str) -> FloatModel:
        found = self._kept("float.json", FLOAT_FILE, key)
        if found is not None:
            if self.source.kind != "tflite":
                self.progress.note("float export: made before, kept")
            return found
        if self.source.kind == "tflite":
            made = FloatModel(self.source.to_export(self.scratch, batch=1, shapes={}))
        else:
            self.progress.step("exporting the float model")
            given = self.source.to_export(self.scratch, batch=self.request.batch, shapes=self.shapes())
            with Worker() as worker:  # TensorFlow's memory is given back before anything is quantized
                made = self._export(worker, given, self.scratch / FLOAT_FILE)
        return self._keep(made, "float.json", FLOAT_FILE, key)

    def _export(self, worker: Worker, model: Path, out: Path) -> FloatModel:
        started = time.perf_counter()
        result = worker.call(
            "export",
            model=str(model),
            out=str(out),
            batch=self.request.batch,
            shapes=self.shapes(),
            trust=self.request.trust,
        )
        facts = {name: result.get(name) for name in ("framework", "max_abs_diff")}
        facts["export_s"] = round(time.perf_counter() - started, 4)
        return FloatModel(out, tuple(result.get("layers") or ()), facts)

    # -- changed by a recipe's steps ----------------------------------------------------------------------------

    def _compressed(self, recipe: Recipe, key: str) -> FloatModel:
        stem = f"models/{encode('float32', recipe.steps).removesuffix('-float32')}-{key[:12]}"
        found = self._kept(f"{stem}.json", f"{stem}.tflite", key)
        if found is not None:
            self.progress.note(f"{recipe.name}: the compressed model was made before, kept")
            return found
        self.unfinished.add(key)
        made = self.scratch / f"{key[:12]}.keras"
        steps, measured = self._resolved(recipe)
        result = self._compress(recipe, steps, made)
        if self.store is not None:
            write_atomically(self.store.folder / f"{stem}.keras", made.read_bytes())
        exported = self._export(self.trainer, made, made.with_suffix(".tflite"))
        whole = FloatModel(exported.path, exported.layers, exported.facts, {**measured, **result["facts"]}, steps)
        kept = self._keep(whole, f"{stem}.json", f"{stem}.tflite", key)
        self.unfinished.discard(key)
        return kept

    def _compress(self, recipe: Recipe, steps: tuple[Step, ...], out: Path, *, trained: bool = True) -> dict[str, Any]:
        """Run the steps in a worker. It goes on from the checkpoints of an interrupted run, and from steps that another
        recipe began with too; without training none are left."""
        self.progress.step(f"compressing for {recipe.name}")
        shared = self.scratch / "checkpoints" if self.store is None else self.store.checkpoints()
        checkpoints = str(shared) if trained else None
        return self.trainer.call(
            "compress",
            deadline_s=TRAINING_DEADLINE_S,
            progress=self.progress.update,
            model=str(self.source.to_compress(self.scratch)),
            out=str(out),
            steps=[{"technique": step.technique, "options": dict(step.options)} for step in steps],
            data=str(self._training_file()) if trained else None,
            scale=self.request.preprocessing.scale,
            offset=self.request.preprocessing.offset,
            fine_tuning=self._fine_tuning(recipe),
            seed=self.request.seed,
            trust=self.request.trust,
            checkpoints=checkpoints,
        )

    def _resolved(self, recipe: Recipe) -> tuple[tuple[Step, ...], dict[str, Any]]:
        """The steps with a latency to reach turned into the ratio that reaches it on the device, and what was measured."""
        wanting = [number for number, step in enumerate(recipe.steps) if wants_latency(step)]
        if not wanting:
            return recipe.steps, {}
        if wanting != [0]:
            raise UsageError(f"{recipe.name}: expected the slimming to a latency as the first step, and once")
        step, facts = ratio_for_latency(recipe.steps[0], lambda ratio: self._latency_at(recipe, ratio))
        self.progress.note(f"{recipe.name}: {step.options['to']:.0%} of the MACs take {facts['reached_ms']:.4g} ms")
        return (step, *recipe.steps[1:]), {"latency": facts}

    def _latency_at(self, recipe: Recipe, ratio: float) -> float | None:
        """Median milliseconds, on the device, of ``recipe``'s precision slimmed to ``ratio`` of the MACs, untrained; None
        where so few channels cannot be left."""
        plain = replace(recipe, steps=())
        if ratio == 1.0:
            return self.median_ms(self.of(plain), plain)
        options = {key: value for key, value in recipe.steps[0].options.items() if key not in LATENCY_KEYS}
        step = Step("slim", {**options, "to": ratio})
        made = self.scratch / "slimmed.keras"
        try:
            self._compress(plain, (step,), made, trained=False)
        except TechniqueError:
            return None
        return self.median_ms(self._export(self.trainer, made, made.with_suffix(".tflite")), plain)

    def _training(self, recipe: Recipe) -> dict[str, Any]:
        """Everything that decides the compressed model, beside the model it starts from."""
        return {
            "steps": [asdict(step) for step in recipe.steps],
            "finetune": self._fine_tuning(recipe),
            "data": self.training_split(recipe).sha256,
            "preprocessing": self.request.preprocessing.to_dict(),
            "models": self._learned_from(recipe),
            "device": [self.request.device, self.request.threads] if any(map(wants_latency, recipe.steps)) else [],
            "versions": {name: _version(name) for name in TRAINING_VERSIONED},
        }

    def _learned_from(self, recipe: Recipe) -> dict[str, str]:
        """The fingerprints of the files a recipe names as teachers and students."""
        tables = [self._fine_tuning(recipe), *(step.options for step in recipe.steps)]
        tables += [step.options["finetune"] for step in recipe.steps if "finetune" in step.options]
        named = {str(table[key]) for table in tables for key in ("teacher", "student") if table.get(key)}
        return {name: file_sha256(Path(name)) for name in sorted(named) if Path(name).is_file()}

    def _fine_tuning(self, recipe: Recipe) -> dict[str, Any]:
        return {**recipe.finetune, **self.request.finetune, "seed": self.request.seed}

    def training_split(self, recipe: Recipe) -> Split:
        """The samples techniques train on; raises UsageError when there are none."""
        train = None if self.dataset is None else self.dataset.train
        if train is None:
            raise UsageError(
                f"{recipe.name} trains: give data with training samples (--data digits.npz with x_train and y_train), or "
                "convert by recipes that only quantize"
            )
        return train

    def _training_file(self) -> Path:
        path = self.scratch / "training.npz"
        if not path.exists():
            assert self.dataset is not None
            assert self.dataset.train is not None
            split = resize(self.dataset.train, self.request.preprocessing.size)
            single = len(split.inputs) == 1
            arrays = {"x" if single else f"x.{name}": values for name, values in split.inputs.items()}
            labels = {} if split.labels is None else {"y": split.labels}
            np.savez(path, **arrays, **labels)  # type: ignore[arg-type]
        return path

    # -- kept in the run ----------------------------------------------------------------------------------------

    def _kept(self, record: str, file: str, key: str) -> FloatModel | None:
        known = {} if self.store is None else self.store.read_facts(record)
        if self.store is None or known.get("key") != key:
            return None
        path = self.store.folder / file
        if not path.is_file() or file_sha256(path) != known.get("sha256"):
            return None
        facts, achieved, layers = (known.get(name) for name in ("facts", "achieved", "layers"))
        steps = tuple(Step(str(item["technique"]), item["options"]) for item in known.get("steps") or ())
        return FloatModel(path, tuple(layers or ()), facts or {}, achieved or {}, steps)

    def _keep(self, made: FloatModel, record: str, file: str, key: str) -> FloatModel:
        if self.store is None:
            return made
        path = write_atomically(self.store.folder / file, made.path.read_bytes())
        self.store.write_json(
            record,
            {
                "key": key,
                "sha256": file_sha256(path),
                "source": self.source.facts,
                "facts": made.facts,
                "achieved": made.achieved,
                "steps": [asdict(step) for step in made.steps],
                "layers": made.layers,
            },
        )
        return FloatModel(path, made.layers, made.facts, made.achieved, made.steps)


def digest(facts: Mapping[str, Any]) -> str:
    """A hash of plain facts, in hexadecimal."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of everything that decides a conversion."""
    from edgekit import __version__

    found = {"edgekit": __version__, "converters": REVISION, "python": platform.python_version()}
    return {**found, **{name: version for name in VERSIONED if (version := _version(name))}}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
