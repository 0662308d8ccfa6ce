"""Training samples as the techniques take them: preprocessed, by input name, with labels where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_keras, import_tensorflow
from ..errors import TrainingError

__all__ = ["Samples", "model_inputs", "packed"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Samples:
    """``inputs`` by name, arrays of shape (N, …) ready for the model; ``labels`` integers (N,), float targets (N, …) or None.

    A single input may have any name.
    """

    inputs: Mapping[str, Array]
    labels: Array | None = None

    @property
    def count(self) -> int:
        """How many samples there are."""
        return next((len(values) for values in self.inputs.values()), 0)

    def take(self, rows: Array) -> Samples:
        """The samples of these row numbers, in that order, as copies."""
        labels = None if self.labels is None else self.labels[rows]
        return Samples({name: np.asarray(values)[rows] for name, values in self.inputs.items()}, labels)


def model_inputs(model: Any, samples: Samples) -> list[Array]:
    """The arrays of ``samples`` in the order of the model's inputs, for a model of either Keras.

    Raises TrainingError, saying what was expected and what came, when names, counts, shapes or values do not fit.
    """
    tensors = list(getattr(model, "inputs", None) or [])
    names = [_input_name(tensor) for tensor in tensors]
    given = {name: np.asarray(values) for name, values in samples.inputs.items()}
    if not given or samples.count == 0:
        raise TrainingError("expected at least one training sample, got none")
    if len(tensors) > 1 and set(names) != set(given):
        raise TrainingError(f"expected training samples for the inputs {_listed(names)}, got {_listed(given)}")
    if len(given) != max(1, len(tensors)):
        raise TrainingError(f"expected training samples for one input, got {len(given)}: {_listed(given)}")
    arrays = [given[name] for name in names] if len(tensors) > 1 else list(given.values())
    _ensure_counts(given, samples.labels)
    for name, values in given.items():
        if values.dtype.kind not in "biuf" or (values.dtype.kind == "f" and not np.isfinite(values).all()):
            raise TrainingError(f"expected finite numbers for {name!r}, got {values.dtype} with NaN or infinity")
    for tensor, name, values in zip(tensors, names, arrays, strict=False):
        _ensure_shape(name, tuple(tensor.shape)[1:], values)
    return arrays


def packed(model: Any, tensors: Sequence[Any]) -> Any:
    """One value for each input of ``model``, in its order, as what it was built to be called with: a list, a dict, …"""
    graph = getattr(model, "_functional", None) or model
    structure = getattr(graph, "_inputs_struct", None)
    if structure is not None:
        return import_keras().tree.pack_sequence_as(structure, list(tensors))
    structure = getattr(graph, "_nested_inputs", None)
    if structure is not None:
        return import_tensorflow().nest.pack_sequence_as(structure, list(tensors))
    return tensors[0] if len(tensors) == 1 else list(tensors)


def _ensure_counts(given: Mapping[str, Array], labels: Array | None) -> None:
    counts = {name: len(values) for name, values in given.items()}
    if labels is not None:
        counts["labels"] = len(labels)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise TrainingError(f"expected as many of each as there are samples, got {listed}")


def _ensure_shape(name: str, expected: tuple[int | None, ...], values: Array) -> None:
    got = values.shape[1:]
    fits = len(got) == len(expected) and all(want in (None, have) for want, have in zip(expected, got, strict=True))
    if not fits:
        want = tuple("any" if size is None else size for size in expected)
        raise TrainingError(
            f"expected training samples of shape {_shape(want)} for the input {name!r}, got {_shape(got)}: "
            "give the data, size and layout that the model was trained with"
        )


def _shape(sizes: tuple[object, ...]) -> str:
    return f"({', '.join(str(size) for size in sizes)})"


def _input_name(tensor: Any) -> str:
    """The name of the input layer: Keras 2 calls the tensor after it, Keras 3 too."""
    history = getattr(tensor, "_keras_history", None)
    layer = getattr(history, "layer", None) or getattr(history, "operation", None)
    return str(getattr(layer, "name", None) or tensor.name)


def _listed(names: Any) -> str:
    return ", ".join(str(name) for name in names)
