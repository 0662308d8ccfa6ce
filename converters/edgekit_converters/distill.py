"""A teacher beside the labels: its outputs and the attention maps inside it as a loss, for every technique's fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._tf import import_keras, import_tensorflow, import_tf_keras
from .errors import TechniqueError
from .graph import functional
from .load import is_keras_model
from .losses import Objective, attention_loss, output_activation, soft_target_loss
from .samples import packed

if TYPE_CHECKING:
    from .finetune import FineTuning

__all__ = ["Tutor"]

Array = npt.NDArray[Any]
# What the teacher says is kept for all samples up to this size; beyond, it is asked again for each batch.
KEPT_BYTES = 2**30


class Tutor:
    """What ``student`` learns from ``teacher``, models of either Keras with equal inputs and outputs.

    ``learner`` is the student to call in training: it gives the first output, then the tensors whose attention maps are
    compared. Raises TechniqueError when the shapes of inputs or outputs differ, or, where feature losses are asked for,
    when no inner tensors of the two have the same height and width.
    """

    def __init__(
        self, student: Any, teacher: Any, inputs: Sequence[Array], settings: FineTuning, objective: Objective
    ) -> None:
        _ensure_alike(student, teacher)
        self._teacher, self._inputs, self._settings = teacher, list(inputs), settings
        self._activations = (objective.activation, output_activation(teacher))
        self._classes = objective.metric != "loss" or "linear" not in self._activations
        self.learner, self._guide = student, teacher
        self._pairs = 0
        if settings.features:
            self.learner, self._guide, self._pairs = _tapped(student, teacher)
        self._types = [import_tensorflow().as_dtype(tensor.dtype) for tensor in teacher.inputs]
        self._kept = self._all() if not self._pairs else None

    def known(self, rows: Array) -> Array | None:
        """The teacher's outputs for these samples where they are kept."""
        return None if self._kept is None else self._kept[rows]

    def outputs(self, rows: Array) -> Array:
        """The teacher's first output for these samples."""
        kept = self.known(rows)
        return self._ask(rows) if kept is None else kept

    def soft(self, outputs: Any, theirs: Any) -> Any:
        """The mean loss of a student's outputs against the teacher's."""
        settings = self._settings
        return soft_target_loss(
            outputs, theirs, activations=self._activations, temperature=settings.temperature, classes=self._classes
        )

    def loss(self, inputs: Sequence[Any], outputs: Sequence[Any], soft: Any, alpha: float) -> Any:
        """``alpha`` × the soft loss, and the weighted feature loss, of the learner's ``outputs`` for ``inputs``."""
        tf = import_tensorflow()
        theirs = [soft] if self._kept is not None else self._told(inputs)
        total = alpha * self.soft(outputs[0], theirs[0]) if alpha else 0.0
        if self._pairs:
            guide = [tf.stop_gradient(value) for value in theirs[1:]]
            total += self._settings.features * attention_loss(outputs[1:], guide)
        return total

    def _told(self, inputs: Sequence[Any]) -> list[Any]:
        tf = import_tensorflow()
        cast = [tf.cast(values, kind) for values, kind in zip(inputs, self._types, strict=True)]
        found = tf.nest.flatten(self._guide(packed(self._teacher, cast), training=False))
        return [tf.stop_gradient(value) for value in found]

    def _all(self) -> Array | None:
        count = len(self._inputs[0])
        size = 4 * count * int(np.prod([side or 1 for side in self._teacher.outputs[0].shape[1:]]))
        return self._ask(np.arange(count)) if size <= KEPT_BYTES else None

    def _ask(self, rows: Array) -> Array:
        tf = import_tensorflow()
        batch = min(self._settings.batch_size, len(rows))
        ask = tf.autograph.experimental.do_not_convert(lambda inputs: tf.cast(self._told(inputs)[0], tf.float32))
        first = tf.function(ask, reduce_retracing=True)
        parts = []
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            parts.append(first([values[np.resize(some, batch)] for values in self._inputs]).numpy()[: len(some)])
        return np.concatenate(parts)


def _ensure_alike(student: Any, teacher: Any) -> None:
    for side in ("inputs", "outputs"):
        mine, theirs = (
            [tuple(tensor.shape)[1:] for tensor in getattr(model, side, None) or []] for model in (student, teacher)
        )
        mine, theirs = (mine[:1], theirs[:1]) if side == "outputs" else (mine, theirs)
        if mine != theirs or not mine:
            raise TechniqueError(
                f"expected a student with the teacher's {side}, of shape {_shapes(theirs)}, got {_shapes(mine)}: distill "
                "into a model for the same samples and classes"
            )


def _shapes(shapes: Sequence[tuple[Any, ...]]) -> str:
    return ", ".join(str(shape) for shape in shapes) or "unknown"


def _tapped(student: Any, teacher: Any) -> tuple[Any, Any, int]:
    """Both models with their first output and the last tensors of every spatial shape that they share."""
    mine, theirs = _by_shape(student), _by_shape(teacher)
    shared = [shape for shape in mine if shape in theirs]
    if not shared:
        raise TechniqueError(
            f"expected student and teacher to share an inner height and width for the feature loss, got {_shapes(list(mine))} "
            f"and {_shapes(list(theirs))} (nested models are not looked into): set features = 0"
        )
    return _with(student, [mine[s] for s in shared]), _with(teacher, [theirs[s] for s in shared]), len(shared)


def _by_shape(model: Any) -> dict[tuple[Any, ...], Any]:
    """The last inner tensor of each spatial shape, in the order of the data; vectors and the output are left out."""
    found: dict[tuple[Any, ...], Any] = {}
    graph = functional(model) if is_keras_model(model) == "keras" else model
    for operation in getattr(graph, "operations", None) or model.layers:
        try:
            tensor = operation.output
        except (AttributeError, ValueError, RuntimeError):  # shared: which of its outputs is not said
            continue
        shape = tuple(getattr(tensor, "shape", ()))
        inner = len(shape) >= 3 and None not in shape[1:] and type(operation).__name__ != "InputLayer"
        if inner and tensor is not model.outputs[0] and int(np.prod(shape[1:-1])) > 1:
            found[shape[1:-1]] = tensor
    return found


def _with(model: Any, tensors: list[Any]) -> Any:
    keras = import_keras() if is_keras_model(model) == "keras" else import_tf_keras()
    graph = functional(model) if is_keras_model(model) == "keras" else model
    structure = getattr(graph, "_inputs_struct", None) or getattr(graph, "_nested_inputs", None) or model.inputs
    return keras.Model(structure, [model.outputs[0], *tensors])
