"""How right a .tflite is: through the very Model that runs it on the device."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from edgekit_device import Model
from edgekit_device import errors as device_errors
from edgekit_device.tasks import answers, predict_all

from .boundary import translated
from .data import Preprocessing, Split, load_data, resize
from .errors import DataError, EdgekitError, StoreError, UsageError
from .metrics import class_scores, confusion_matrix, top_k_accuracy
from .progress import Progress, Silent
from .records import Evaluation, Variant
from .results import Results
from .runnable import on_processors
from .store import FLOAT_FILE, RunStore
from .subject import open_subject

__all__ = ["Reference", "common_size", "evaluate", "evaluate_outputs", "evaluate_run", "load_test", "outputs_of"]

Array = npt.NDArray[Any]
Outputs = tuple[Array, ...]


def evaluate(
    model: str | os.PathLike[str] | bytes,
    data: Any,
    *,
    variants: Sequence[str] = (),
    reference: str | os.PathLike[str] | bytes | None = None,
    preprocessing: Preprocessing | None = None,
    data_folder: str | os.PathLike[str] | None = None,
    threads: int = 1,
    runtime: str = "auto",
    progress: Progress | None = None,
) -> Results[Evaluation]:
    """Evaluate every variant of a run folder (or those in ``variants``), or one .tflite, on the test split of ``data``.

    ``data`` is anything ``load_data`` takes. For one model, ``reference`` is the float .tflite to agree with, and
    ``preprocessing`` overrides what the file says of itself; the variants of a run know both. What a run knows already of
    exactly this file and this data is kept. A variant that fails is in ``failures``; its error is raised when all fail. What was
    compiled for an accelerator is left out unless it is in ``variants``.

    Raises DataError when the data does not fit, ModelInputError when the model cannot be loaded.
    """
    subject = model if isinstance(model, bytes) else open_subject(model)
    if isinstance(subject, RunStore):
        if preprocessing is not None or reference is not None:
            raise UsageError(
                "the variants of a run know their preprocessing and reference: leave --scale, --offset, --size and "
                "--reference out"
            )
        with subject.locked():
            known = on_processors(subject.variants(variants), variants, progress)
            test = load_test(data, common_size(known), data_folder)
            return evaluate_run(subject, known, *test, threads=threads, runtime=runtime, progress=progress).or_raise()
    if variants:
        raise UsageError("--variant chooses among the variants of a run folder, got a single model")
    wanted = preprocessing or noted_preprocessing(subject)
    test = load_test(data, wanted.size, data_folder)
    return Results(_evaluate_one(subject, *test, reference, wanted, threads=threads, runtime=runtime))


def _evaluate_one(
    model: Path | bytes,
    split: Split,
    labels: tuple[str, ...],
    reference: str | os.PathLike[str] | bytes | None,
    preprocessing: Preprocessing,
    **how: Any,
) -> dict[str, Evaluation]:
    """The evaluation of one model by its name; ``how`` is threads and runtime."""
    outputs, sha256, used = outputs_of(model, split, preprocessing=preprocessing, **how)
    wanted = None if reference is None else outputs_of(reference, split, preprocessing=preprocessing, **how)[0]
    name = model.stem if isinstance(model, Path) else "model"
    return {name: evaluate_outputs(name, outputs, split, labels, reference=wanted, model_sha256=sha256, runtime=used)}


def evaluate_run(
    store: RunStore,
    variants: Sequence[Variant],
    split: Split,
    labels: tuple[str, ...] = (),
    *,
    threads: int = 1,
    runtime: str = "auto",
    reference: Reference | None = None,
    progress: Progress | None = None,
) -> Results[Evaluation]:
    """Evaluate ``variants`` of a run whose lock is held, keeping what is known already.

    ``reference`` from an earlier call on the same split spares running the float model again.
    """
    shown = progress or Silent()
    reference = reference or Reference(store, split, threads)
    found: dict[str, Evaluation] = {}
    failures: dict[str, EdgekitError] = {}
    for variant in variants:
        known = store.evaluation(variant, split.sha256)
        if known is not None and (runtime == "auto" or known.runtime.startswith(f"{runtime} ")):
            shown.note(f"{variant.name}: evaluated before, kept")
            found[variant.name] = known
            continue
        shown.step(f"evaluating {variant.name} on {split.count} samples")
        try:
            outputs, sha256, used = outputs_of(variant.path, split, threads=threads, runtime=runtime)
            wanted = reference.outputs(variant)
            made = evaluate_outputs(
                variant.name, outputs, split, labels, reference=wanted, model_sha256=sha256, runtime=used
            )
            store.save_evaluation(made)
            found[variant.name] = made
        except StoreError:
            raise
        except EdgekitError as error:
            failures[variant.name] = error
    return Results(found, failures)


def outputs_of(
    model: str | os.PathLike[str] | bytes,
    split: Split,
    *,
    preprocessing: Preprocessing | None = None,
    threads: int = 1,
    runtime: str = "auto",
) -> tuple[Outputs, str, str]:
    """Float outputs for every sample, the model's SHA-256 and the runtime used."""
    with translated(), Model(model, threads=threads, runtime=runtime) as loaded:
        wanted = preprocessing or _noted(loaded.note)
        inputs = resize(split, wanted.size).inputs
        outputs = predict_all(loaded, inputs, note={"preprocessing": wanted.to_dict()})
        return outputs, loaded.sha256, f"{loaded.runtime.name} {loaded.runtime.version}"


def evaluate_outputs(
    name: str,
    outputs: Outputs,
    split: Split,
    labels: Sequence[str] = (),
    *,
    reference: Outputs | None = None,
    model_sha256: str = "",
    runtime: str = "",
) -> Evaluation:
    """An Evaluation from outputs; figures that the labels do not allow stay None.

    Raises DataError for outputs that are not finite, and for labels the model has no class for.
    """
    facts: dict[str, Any] = {"count": split.count, "data_sha256": split.sha256, "model_sha256": model_sha256}
    truth = split.labels
    scores = outputs[0]
    if not np.isfinite(scores).all():
        raise DataError(
            f"{name} answers NaN or infinity on this data: check the scale of its inputs (--scale, --offset)"
        )
    if truth is not None and truth.dtype.kind == "f":
        facts["mean_absolute_error"] = _mean_absolute_error(name, truth, scores)
    else:
        facts.update({} if truth is None else _classification(name, scores, truth, labels))
        facts["agreement"] = None if reference is None else _agreement(scores, reference[0])
    return Evaluation(variant=name, runtime=runtime, **facts)


def noted_preprocessing(model: Path | bytes) -> Preprocessing:
    """The preprocessing that edgekit's note in a model asks for; none where it says nothing."""
    from edgekit_device.embedded import read_note

    return _noted(read_note(model if isinstance(model, bytes) else model.read_bytes()))


def load_test(
    data: Any, size: tuple[int, int] | None = None, folder: str | os.PathLike[str] | None = None
) -> tuple[Split, tuple[str, ...]]:
    """The test split of ``data``, images of a folder at ``size``, and the class names; raises DataError without one."""
    dataset = load_data(data, size=size, folder=folder)
    if dataset.test is None:
        raise DataError(f"{dataset.name} has no test samples: give x_test and y_test, or a test/ folder")
    return dataset.test, dataset.labels


def common_size(variants: Sequence[Variant]) -> tuple[int, int] | None:
    """The size all variants want their images at, or None where they differ or want none."""
    sizes = {Preprocessing.from_dict(variant.preprocessing).size for variant in variants}
    return sizes.pop() if len(sizes) == 1 else None


class Reference:
    """Outputs of the float model of a run, worked out once for each preprocessing."""

    def __init__(self, store: RunStore, split: Split, threads: int = 1) -> None:
        self._store, self._split, self._threads = store, split, threads
        self._known: dict[Preprocessing, Outputs] = {}

    def outputs(self, variant: Variant) -> Outputs | None:
        """None where the run has no float model, or only that of another source."""
        path = self._store.folder / FLOAT_FILE
        source = self._store.read_facts("float.json").get("source")
        if not path.is_file() or not isinstance(source, dict) or source.get("sha256") != variant.source.get("sha256"):
            return None
        wanted = Preprocessing.from_dict(variant.preprocessing)
        if wanted not in self._known:
            self._known[wanted] = outputs_of(path, self._split, preprocessing=wanted, threads=self._threads)[0]
        return self._known[wanted]


def _noted(note: Mapping[str, Any]) -> Preprocessing:
    return Preprocessing.from_dict(note.get("preprocessing") or {})


def _mean_absolute_error(name: str, truth: Array, scores: Array) -> float:
    if truth.shape != scores.shape:
        raise DataError(f"expected targets of shape {scores.shape}, as {name} answers, got {truth.shape}")
    return float(np.abs(truth - scores).mean())


def _classification(name: str, scores: Array, truth: Array, labels: Sequence[str]) -> Mapping[str, Any]:
    try:
        answered = answers(scores)
    except device_errors.DataError as error:
        raise DataError(f"{name} is no classifier for these labels: {error}") from error
    flat = scores.reshape(len(scores), -1)
    classes = max(flat.shape[1], 2)
    if truth.min() < 0 or truth.max() >= classes:
        raise DataError(
            f"expected labels from 0 to {classes - 1} ({name} has {classes} classes), got {truth.min()} to {truth.max()}"
        )
    confusion = confusion_matrix(truth, answered, classes)
    names = tuple(labels) if len(labels) == classes else tuple(str(index) for index in range(classes))
    return {
        "accuracy": float((answered == truth).mean()),
        "top5": top_k_accuracy(flat, truth, 5) if classes > 5 else None,
        "per_class": class_scores(confusion, names),
        "confusion": tuple(tuple(int(count) for count in row) for row in confusion),
    }


def _agreement(scores: Array, reference: Array) -> float | None:
    if scores.shape != reference.shape:
        raise DataError(f"expected a reference with outputs of shape {scores.shape}, got {reference.shape}")
    try:
        return float((answers(scores) == answers(reference)).mean()) if np.isfinite(reference).all() else None
    except device_errors.DataError:
        return None
