"""Which layers an int8 model loses accuracy in, and whether its calibration samples are what they should be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .boundary import translated
from .data import Dataset, Preprocessing, Split, load_data
from .errors import UsageError
from .progress import Progress, Silent
from .quantization import quantize_options
from .recipe import Recipe, find_recipe
from .store import FLOAT_FILE, RunStore, is_run

if TYPE_CHECKING:
    from .conversion import ConversionJob

__all__ = ["DiagnosisReport", "diagnose", "diagnose_recipe"]

PRECISIONS = ("int8", "mixed-int8", "int16x8")
DEFAULT_SAMPLES = 256
DEFAULT_S = 120.0


@dataclass(frozen=True)
class DiagnosisReport:
    """What ``edgekit diagnose`` says: ``layers`` in graph order, ``calibration`` with its findings, and the whole models.

    ``summary`` has output_sqnr_db, float_accuracy, int8_accuracy, agreement, samples, and how many layers were measured.
    The keys of a layer are listed in docs/diagnose.md.
    """

    model: str
    recipe: str
    layers: tuple[Mapping[str, Any], ...]
    calibration: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "layers": [dict(layer) for layer in self.layers]}

    def worst_first(self) -> list[Mapping[str, Any]]:
        """The layers, the guiltiest first."""
        return sorted(self.layers, key=lambda layer: int(layer["rank"]))


def diagnose(
    model: Any,
    *,
    data: Any,
    recipe: str = "int8",
    preprocessing: Preprocessing | None = None,
    samples: int = DEFAULT_SAMPLES,
    max_s: float | None = DEFAULT_S,
    calibration_count: int | None = None,
    seed: int = 0,
    trust: bool = False,
    data_folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> DiagnosisReport:
    """Make the int8 model of ``recipe`` and say, layer by layer, what it loses; audit the samples that calibrate it.

    ``model`` is what ``convert`` takes, or a run folder, whose float model and preprocessing are used. Calibration samples
    are drawn as ``convert`` draws them; errors are measured on up to ``samples`` others of the training split. What leaving
    a layer at a higher precision wins is measured, from the layer with most error on, until ``max_s`` seconds are spent;
    None measures all.

    Raises UsageError for a recipe that has no int8 activations or data without a training split, DataError for data that
    does not fit, ModelInputError for an unreadable model, ConversionError when the model cannot be quantized.
    """
    from .conversion import ConversionJob, ConversionRequest

    wanted = _int8_recipe(recipe)
    if samples < 1:
        raise UsageError(f"expected at least 1 sample to measure on, got {samples}")
    if max_s is not None and max_s < 0:
        raise UsageError(f"expected 0 seconds or more to measure in, got {max_s:g}")
    if data is None:
        raise UsageError("diagnosing needs data with a training split: --data digits.npz")
    given, prepared, layers = _subject(model, preprocessing)
    request = ConversionRequest(
        (wanted,), preprocessing=prepared, calibration_count=calibration_count, seed=seed, trust=trust
    )
    dataset = load_data(data, size=prepared.size, folder=data_folder)
    with ConversionJob(given, request, dataset, progress or Silent()) as job:
        found = diagnose_recipe(job, wanted, budget_s=max_s, samples=samples, layers=layers, audited=True)
    diagnosis = found["diagnosis"]
    return DiagnosisReport(
        model=str(model) if isinstance(model, (str, os.PathLike)) else job.source.name,
        recipe=wanted.name,
        layers=tuple(diagnosis.pop("layers")),
        calibration=found["calibration"],
        summary=diagnosis,
    )


def diagnose_recipe(
    job: ConversionJob,
    recipe: Recipe,
    *,
    budget_s: float | None,
    samples: int = DEFAULT_SAMPLES,
    layers: tuple[str | None, ...] = (),
    wins: bool = True,
    audited: bool = False,
) -> dict[str, Any]:
    """The worker's ``diagnosis`` (and ``calibration`` when ``audited``) as JSON, inside a job that is entered.

    ``layers`` names the layer of every operator where the float model does not. Without ``wins`` all the time goes into the
    blame, which ranks. Raises EdgekitError.
    """
    with translated():
        float_model = job.floats.of(recipe)
        job.progress.step(f"diagnosing {recipe.name}")
        more: dict[str, Any] = {**_files(job, samples), **({"audited": _audited(job, samples)} if audited else {})}
        return job.worker.call(
            "diagnose",
            progress=job.progress.update,
            model=str(float_model.path),
            samples=str(job.samples_file()),
            precision=recipe.precision,
            options=quantize_options(recipe, float_model),
            layers=list(float_model.layers or layers),
            wins=wins,
            budget_s=budget_s,
            **more,
        )


def _int8_recipe(name: str) -> Recipe:
    recipe = find_recipe(name)
    if recipe.precision not in PRECISIONS:
        raise UsageError(
            f"expected a recipe with int8 or int16 activations to diagnose, got {name!r} ({recipe.precision}), which computes "
            "with floats: its layers lose nothing. Try --recipe int8"
        )
    return recipe


def _subject(model: Any, preprocessing: Preprocessing | None) -> tuple[Any, Preprocessing, tuple[str | None, ...]]:
    """The model to convert, how its samples are prepared, and the layers of its operators where a run knows them."""
    if not isinstance(model, (str, os.PathLike)) or not is_run(model):
        return model, preprocessing or Preprocessing(), ()
    store = RunStore.open(model)
    path = store.folder / FLOAT_FILE
    if not path.is_file():
        raise UsageError(
            f"expected a run with {FLOAT_FILE}, got {os.fspath(model)} without: convert the model into it first, or give the "
            "model itself"
        )
    known = store.variants()
    noted = Preprocessing.from_dict(known[0].preprocessing) if known and known[0].preprocessing else Preprocessing()
    layers = store.read_facts("float.json").get("layers")
    return path, preprocessing or noted, tuple(layers) if isinstance(layers, list) else ()


def _files(job: ConversionJob, samples: int) -> dict[str, str]:
    """The samples to measure on, where there are enough beside those that calibrate, and the labels of both."""
    assert job.calibration is not None
    assert job.dataset is not None
    given: dict[str, str] = {}
    labels = {"samples": job.calibration.split.labels}
    others = job.calibration.draw_others(job.dataset, samples)
    if others is not None and others.count >= min(samples, job.calibration.count):
        given["measured"] = _saved(job, "measured", others)
        labels["measured"] = others.labels
    known = {name: values for name, values in labels.items() if values is not None and values.ndim == 1}
    if known:
        path = job.scratch / "labels.npz"
        np.savez(path, **known)  # type: ignore[arg-type]
        given["labels"] = str(path)
    return given


def _audited(job: ConversionJob, samples: int) -> dict[str, Any]:
    assert job.calibration is not None
    assert job.dataset is not None
    preprocessing, test = job.request.preprocessing, job.dataset.test
    facts = {
        "rows": job.calibration.rows.tolist(),
        "classes": _classes(job.dataset),
        "scale": preprocessing.scale,
        "offset": preprocessing.offset,
    }
    if test is None:
        return facts
    few = test.take(np.random.default_rng(job.request.seed).permutation(test.count)[:samples])
    return {**facts, "others": _saved(job, "others", few)}


def _classes(dataset: Dataset) -> int | None:
    """How many classes there are, by their names, or by the labels of all training samples."""
    if dataset.labels:
        return len(dataset.labels)
    labels = None if dataset.train is None else dataset.train.labels
    return None if labels is None or labels.ndim != 1 else len(np.unique(labels))


def _saved(job: ConversionJob, name: str, split: Split) -> str:
    path = Path(job.scratch) / f"{name}.npz"
    arrays = {key: np.asarray(job.request.preprocessing.apply(values)) for key, values in split.inputs.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)
