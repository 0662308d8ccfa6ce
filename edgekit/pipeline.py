"""The main job: data, training, conversion, measurement, comparison, report; it resumes from what is done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from edgekit_converters import Worker

from .benchmark import bench_run
from .boundary import translated
from .budget import SearchLimits
from .comparison import compare
from .config import RunConfig, load_config
from .conversion import convert_run
from .data import Dataset, Split, load_data, resize
from .devices import Device, open_device
from .errors import DataError, EdgekitError
from .evaluation import evaluate_run, load_test
from .progress import Progress, Silent
from .records import Comparison, Variant
from .render import render_html, render_markdown
from .searching import search_run
from .store import RunStore, file_sha256, write_atomically

__all__ = ["RunResult", "run", "write_report"]


@dataclass(frozen=True)
class RunResult:
    """A finished run: where it lies, the comparison, and the error of every variant that failed on the way."""

    folder: Path
    comparison: Comparison
    failures: Mapping[str, EdgekitError] = field(default_factory=dict)


def run(
    config: str | os.PathLike[str] | RunConfig,
    *,
    out: str | os.PathLike[str] | None = None,
    data_folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run an ``edgekit.toml`` from data to report; ``out`` overrides its run folder, ``data_folder`` where its data lies.

    What an earlier call finished, and whose inputs have not changed, is kept. Raises EdgekitError; a recipe or a
    measurement that fails alone is in ``failures`` instead.
    """
    settings = config if isinstance(config, RunConfig) else load_config(Path(config))
    shown = progress or Silent()
    shown.step("loading the data")
    dataset = _limited(_load(settings, data_folder), settings.data.test_limit, settings.seed)
    test, labels = load_test(dataset)
    store = RunStore.create(out or settings.out or Path("runs") / settings.name)
    with open_device(settings.bench.device) as device, store.locked():
        model = _model(settings, dataset, store, shown)
        variants, failures = _variants(settings, model, dataset, store, device, shown)
        evaluated = evaluate_run(store, variants, test, labels, progress=shown)
        measured = bench_run(store, variants, device, settings.bench.request, split=test, again=False, progress=shown)
        comparison = compare(
            store,
            variants=[variant.name for variant in variants],
            baseline=settings.compare.baseline or None,
            limits=settings.compare.limits,
            title=settings.name,
        )
        write_report(store, comparison)
    return RunResult(store.folder, comparison, {**failures, **evaluated.failures, **measured.failures})


def _variants(
    settings: RunConfig, model: str, dataset: Dataset, store: RunStore, device: Device, progress: Progress
) -> tuple[list[Variant], Mapping[str, EdgekitError]]:
    """What is to be compared: the recipes' variants, with those of the search for one that keeps its accuracy."""
    max_drop = settings.compare.max_drop
    if not settings.convert.search or max_drop is None:
        made = convert_run(store, model, settings.conversion, dataset, progress)
        return [item.variant for item in made], made.failures
    found = search_run(store, model, settings.conversion, dataset, SearchLimits(max_drop), device, progress)
    return list(found.variants), found.failures


def write_report(store: RunStore, comparison: Comparison) -> tuple[Path, Path, Path]:
    """Write report.json, report.md and report.html into the run folder."""
    return (
        store.write_json("report.json", asdict(comparison)),
        write_atomically(store.folder / "report.md", render_markdown(comparison).encode()),
        write_atomically(store.folder / "report.html", render_html(comparison).encode()),
    )


def _load(settings: RunConfig, data_folder: str | os.PathLike[str] | None) -> Dataset:
    folder = data_folder or (settings.beside(settings.data.folder) if settings.data.folder else None)
    return load_data(settings.beside(settings.data.source), size=settings.preprocessing.size, folder=folder)


def _limited(dataset: Dataset, limit: int, seed: int) -> Dataset:
    """``dataset`` with at most ``limit`` test samples, drawn with the seed; 0 keeps them all."""
    if not limit or dataset.test is None or dataset.test.count <= limit:
        return dataset
    rows = np.sort(np.random.default_rng(seed).choice(dataset.test.count, limit, replace=False))
    return Dataset(dataset.name, dataset.train, dataset.test.take(rows), dataset.labels)


def _model(settings: RunConfig, dataset: Dataset, store: RunStore, progress: Progress) -> str:
    """The path of the model to convert; one of the zoo is trained first, unless the run has exactly it already."""
    if settings.model.path:
        return settings.beside(settings.model.path)
    train = dataset.train
    if train is None or train.labels is None:
        raise DataError(f"{dataset.name} has no labelled training samples: give x_train and y_train, or a [model] path")
    path = store.folder / "model.keras"
    recipe = _training(settings, train)
    known = store.read_facts("model.json")
    if known.get("training") == recipe and path.is_file() and file_sha256(path) == known.get("sha256"):
        progress.note("model: trained before, kept")
        return str(path)
    progress.step(f"training {settings.model.architecture} on {train.count} samples")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch, Worker() as worker, translated():
        data, made = Path(scratch) / "train.npz", Path(scratch) / "model.keras"
        np.savez(data, x=_only_input(settings, train), y=train.labels)
        worker.call(
            "train",
            progress=progress.update,
            data=str(data),
            scale=settings.preprocessing.scale,
            offset=settings.preprocessing.offset,
            settings=recipe["settings"],
            out=str(made),
        )
        write_atomically(path, made.read_bytes())
    store.write_json("model.json", {"training": recipe, "sha256": file_sha256(path)})
    return str(path)


def _training(settings: RunConfig, train: Split) -> dict[str, Any]:
    """Everything that decides the trained weights."""
    model = settings.model
    chosen = {
        "architecture": model.architecture,
        "epochs": model.epochs,
        "batch_size": model.batch_size,
        "learning_rate": model.learning_rate,
        "seed": settings.seed,
    }
    return {"settings": chosen, "data_sha256": train.sha256, "preprocessing": settings.preprocessing.to_dict()}


def _only_input(settings: RunConfig, train: Split) -> Any:
    if len(train.inputs) != 1:
        raise DataError(f"expected one input to train a classifier on, got {sorted(train.inputs)}")
    return next(iter(resize(train, settings.preprocessing.size).inputs.values()))
