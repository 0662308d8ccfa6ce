"""From raw samples to model inputs, and from model outputs to answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from .errors import DataError, InputError
from .model import Model

if TYPE_CHECKING:
    from .model import Array, Outputs

__all__ = ["answers", "model_input", "predict_all", "predict_batches", "preprocess"]

AT_ONCE = 256


def preprocess(raw: Array, note: Mapping[str, Any]) -> Array:
    """``raw * scale + offset`` in float32, as edgekit's note in the model says; ``raw`` itself where it says nothing.

    Raises DataError when the note, which came with the file, holds no numbers there.
    """
    settings = note.get("preprocessing")
    settings = settings if isinstance(settings, Mapping) else {}
    scale, offset = _finite(settings, "scale", 1.0), _finite(settings, "offset", 0.0)
    if scale == 1.0 and offset == 0.0:
        return raw
    return raw.astype(np.float32) * np.float32(scale) + np.float32(offset)


def predict_all(
    model: Model, inputs: Mapping[str, Array], *, note: Optional[Mapping[str, Any]] = None, at_once: int = AT_ONCE
) -> tuple[Array, ...]:
    """Real-world float outputs for every row of raw ``inputs``: what ``predict_batches`` gives, put together."""
    return tuple(np.concatenate(parts) for parts in zip(*predict_batches(model, inputs, note=note, at_once=at_once)))


def predict_batches(
    model: Model, inputs: Mapping[str, Array], *, note: Optional[Mapping[str, Any]] = None, at_once: int = AT_ONCE
) -> Iterator[tuple[Array, ...]]:
    """Real-world float outputs for ``at_once`` rows of raw ``inputs`` after the other, preprocessed as ``note`` or the
    model's own note says: no more than these are held in memory.

    A single input is given by position whatever its name; several are matched to the model's signature by name.
    Raises DataError when they do not fit.
    """
    note = model.note if note is None else note
    rows = len(next(iter(inputs.values())))
    for at in range(0, rows, at_once):
        batch = {name: model_input(value[at : at + at_once], note) for name, value in inputs.items()}
        try:
            result: Outputs = model.predict(next(iter(batch.values())) if len(batch) == 1 else batch)
        except InputError as error:
            raise DataError(f"the data does not fit {model.name}: {error}") from error
        yield _as_tuple(result)


def answers(scores: Array) -> Array:
    """The class a classifier answers, as int64 of shape (N,): the largest of C scores, or 1 where the one score is > 0.5.

    Raises DataError for outputs that are no classification.
    """
    flat = scores.reshape(len(scores), -1)
    if flat.shape[1] == 1:
        return (flat[:, 0] > 0.5).astype(np.int64)
    if scores.ndim > 2 and any(size != 1 for size in scores.shape[1:-1]):
        raise DataError(f"expected one row of class scores per sample, got outputs of shape {scores.shape}")
    return np.asarray(flat.argmax(axis=1), np.int64)


def _finite(settings: Mapping[str, Any], name: str, default: float) -> float:
    try:
        value = float(settings.get(name, default))
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"expected a number as preprocessing.{name} in the model's note, got {type(settings[name]).__name__}: "
            "convert the model again"
        )
    return value


def model_input(raw: Array, note: Mapping[str, Any]) -> Array:
    """``raw`` as ``Model.predict`` takes it: preprocessed as ``note`` says, small integers (pixels) as floats, so that they are
    never taken for native steps; token ids stay. Raises what ``preprocess`` raises."""
    values = preprocess(raw, note)
    return values.astype(np.float32) if values.dtype in (np.uint8, np.int8, np.uint16, np.int16, np.bool_) else values


def _as_tuple(result: Outputs) -> tuple[Array, ...]:
    if isinstance(result, Mapping):
        return tuple(result.values())
    return result if isinstance(result, tuple) else (result,)
