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
from .data import Dataset, Preprocessing, Split, load_data
from .errors import DataError, UsageError
from .metrics import class_scores, confusion_matrix, top_k_accuracy
from .progress import Progress, Silent
from .records import Evaluation
from .store import RunStore

__all__ = ["evaluate", "evaluate_outputs", "evaluate_run", "outputs_of", "test_split"]

Array = npt.NDArray[Any]
Outputs = tuple[Array, ...]


def evaluate(
    model: str | os.PathLike[str] | bytes,
    data: Any,
    *,
    reference: str | os.PathLike[str] | bytes | None = None,
    preprocessing: Preprocessing | None = None,
    name: str | None = None,
    threads: int = 1,
    runtime: str = "auto",
) -> Evaluation:
    """Evaluate one .tflite on the test split of ``data`` (anything ``load_data`` takes).

    ``reference`` is the float .tflite to agree with. ``preprocessing`` overrides what the file says of itself.
    Raises DataError when the data does not fit, ModelInputError when the model cannot be loaded.
    """
    split, labels = test_split(load_data(data))
    outputs, sha256, used = outputs_of(model, split, preprocessing=preprocessing, threads=threads, runtime=runtime)
    wanted = None
    if reference is not None:
        wanted = outputs_of(reference, split, preprocessing=preprocessing, threads=threads, runtime=runtime)[0]
    label = name or (Path(model).stem if not isinstance(model, bytes) else "model")
    return evaluate_outputs(label, outputs, split, labels, reference=wanted, model_sha256=sha256, runtime=used)


def evaluate_run(
    store: RunStore,
    data: Any,
    *,
    names: Sequence[str] = (),
    threads: int = 1,
    runtime: str = "auto",
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Evaluate every variant of a run (or those named), keeping what is known already."""
    shown = progress or Silent()
    split, labels = test_split(load_data(data))
    variants = [item for item in store.variants() if not names or item.name in names]
    if not variants:
        raise UsageError(
            f"{store.folder} has no variants to evaluate. Make some: edgekit convert MODEL --out {store.folder}"
        )
    wanted: Outputs | None = None
    found = []
    for variant in variants:
        known = store.evaluation(variant, split.sha256)
        if known is None:
            shown.step(f"evaluating {variant.name} on {split.count} samples")
            if wanted is None:
                wanted = _reference_outputs(store, split, variant.preprocessing, threads)
            outputs, sha256, used = outputs_of(variant.path, split, threads=threads, runtime=runtime)
            known = evaluate_outputs(
                variant.name, outputs, split, labels, reference=wanted, model_sha256=sha256, runtime=used
            )
            store.save_evaluation(known)
        else:
            shown.note(f"{variant.name}: evaluated before, kept")
        found.append(known)
    return found


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
        wanted = preprocessing or noted_preprocessing(loaded.note)
        resize = Preprocessing(size=wanted.size)
        inputs = {name: resize.apply(values) for name, values in split.inputs.items()}
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
    """An Evaluation from outputs; figures that the labels do not allow stay None."""
    facts: dict[str, Any] = {"count": split.count, "data_sha256": split.sha256, "model_sha256": model_sha256}
    truth = split.labels
    scores = outputs[0]
    if not np.isfinite(scores).all():
        raise DataError(
            f"{name} answers NaN or infinity on this data: check the scale of its inputs (--scale, --offset)"
        )
    if truth is not None and truth.ndim == 1 and truth.dtype.kind in "iu":
        facts.update(_classification(name, scores, truth, labels))
    elif truth is not None and truth.shape == scores.shape:
        facts["mean_absolute_error"] = float(np.abs(truth - scores).mean())
    if reference is not None:
        facts["agreement"] = _agreement(scores, reference[0])
    return Evaluation(variant=name, runtime=runtime, **facts)


def noted_preprocessing(note: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that edgekit's note in a model asks for; none where it says nothing."""
    return Preprocessing.from_dict(note.get("preprocessing") or {})


def test_split(dataset: Dataset) -> tuple[Split, tuple[str, ...]]:
    """The test split and the class names; raises DataError when there is no test split."""
    if dataset.test is None:
        raise DataError(f"{dataset.name} has no test samples: give x_test and y_test, or a test/ folder")
    return dataset.test, dataset.labels


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
    confusion = confusion_matrix(truth.astype(np.int64), answered, classes)
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
        return float((answers(scores) == answers(reference)).mean())
    except device_errors.DataError:
        return None


def _reference_outputs(store: RunStore, split: Split, preprocessing: Mapping[str, Any], threads: int) -> Outputs | None:
    path = store.folder / "float.tflite"
    if not path.is_file():
        return None
    return outputs_of(path, split, preprocessing=Preprocessing.from_dict(preprocessing), threads=threads)[0]
