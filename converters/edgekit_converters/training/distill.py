"""A teacher beside the labels: its outputs and the attention maps inside it as a loss, for every technique's fine-tuning.

And the student, where distillation is a step of its own: the model as it is, one of the zoo, or the user's.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import zoo
from .._tf import import_keras, import_tensorflow, import_tf_keras
from ..errors import TechniqueError
from ..graph import functional, walk
from ..load import is_keras_model, load_model
from .descent import answers
from .losses import Objective, attention_loss, output_activation, soft_target_loss
from .samples import packed

if TYPE_CHECKING:
    from .finetune import FineTuning

__all__ = ["CURRENT", "DistillSettings", "Teacher", "Tutor", "ensure_alike", "student_for"]

Array = npt.NDArray[Any]
# What the teacher says is kept for all samples up to this size; beyond, it is asked again for each batch.
KEPT_BYTES = 2**30
# Samples at a time: always the same, for the last digits of an answer depend on it.
ASKED_AT_ONCE = 256
CURRENT, ZOO = "current", "zoo:"
# Inputs whose values lie within this many units of 0 need no scaling before a network of the zoo.
MILD = 8.0


@dataclass(frozen=True)
class DistillSettings:
    """Into what, and how: ``student`` is ``current`` (the model after the steps before), ``zoo:NAME`` or a model file.

    ``temperature``, ``alpha`` and ``features`` are those of ``FineTuning``, and its own where they are None. The teacher is
    the original model unless the fine-tuning names another. Raises TechniqueError for an unknown student.
    """

    student: str = CURRENT
    temperature: float | None = None
    alpha: float | None = None
    features: float | None = None

    def __post_init__(self) -> None:
        name = self.student.removeprefix(ZOO)
        if self.student.startswith(ZOO) and name not in zoo.ARCHITECTURES:
            close = difflib.get_close_matches(name, zoo.ARCHITECTURES, n=1)
            hint = f"; did you mean {ZOO}{close[0]}?" if close else "."
            raise TechniqueError(
                f"unknown student {self.student!r}{hint} Choose {CURRENT!r}, the path of a Keras model, or one of: "
                + ", ".join(f"{ZOO}{each}" for each in sorted(zoo.ARCHITECTURES))
            )
        if not self.student:
            raise TechniqueError(f"expected a student: {CURRENT!r}, '{ZOO}NAME' or the path of a Keras model, got ''")


def student_for(
    settings: DistillSettings, teacher: Any, inputs: Sequence[Array], *, tuning: FineTuning, trust: bool
) -> Any:
    """A Keras 3 student for the samples and outputs of ``teacher``; None for ``current``, which is there already.

    One of the zoo starts from random weights of the tuning's seed; samples far from 0 are scaled first, by a layer of its
    own. Raises TechniqueError where Tutor would, and what load_model and the bridge raise.
    """
    if settings.student == CURRENT:
        return None
    if settings.student.startswith(ZOO):
        student = _of_zoo(settings.student.removeprefix(ZOO), teacher, inputs, tuning.seed)
    else:
        from ..bridge import ensure_keras

        if not Path(settings.student).exists():
            raise TechniqueError(
                f"expected the student to be {CURRENT!r}, '{ZOO}NAME' or the path of a Keras model, got a path that is not "
                f"there: {settings.student!r}"
            )
        student = ensure_keras(load_model(settings.student, trust=trust))
    ensure_alike(student, teacher)
    if tuning.features:
        _tapped(student, teacher)
    return student


def _of_zoo(name: str, teacher: Any, inputs: Sequence[Array], seed: int) -> Any:
    shape = tuple(teacher.outputs[0].shape)[1:]
    if len(inputs) != 1 or len(shape) != 1:
        raise TechniqueError(
            f"expected a teacher with one input and an output of shape (classes,) for the student {ZOO}{name}, got "
            f"{len(inputs)} inputs and the output {shape}: give the path of a student of your own"
        )
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    values = inputs[0]
    student = zoo.build(name, values.shape[1:], shape[0])
    if not values.size or float(np.abs(values).max()) <= MILD:
        return student
    mean, spread = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)) or 1.0
    raw = keras.Input(values.shape[1:], name=student.inputs[0].name)
    scaled = keras.layers.Rescaling(1 / spread, offset=-mean / spread, name="scaled")(raw)

    def again(layer: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return type(layer).from_config(layer.get_config())(*args, **kwargs)

    # Layer by layer: a nested model would hide its inner tensors from the feature loss.
    return keras.Model(raw, walk(student, [scaled], again)[0], name=student.name)


class Teacher:
    """A model of either Keras that students are trained by, and what it said of the samples of the last training.

    Its weights must not change: its outputs serve every fine-tuning on the same arrays.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._inputs: list[Array] = []
        self._answers: Array | None = None

    def answers(self, inputs: Sequence[Array]) -> Array | None:
        """The first output for all samples; None where that would be more than KEPT_BYTES."""
        known = len(inputs) == len(self._inputs) and all(a is b for a, b in zip(inputs, self._inputs, strict=True))
        if not known:
            size = 4 * len(inputs[0]) * int(np.prod([side or 1 for side in self.model.outputs[0].shape[1:]]))
            self._inputs = list(inputs)
            self._answers = self.ask(inputs, np.arange(len(inputs[0]))) if size <= KEPT_BYTES else None
        return self._answers

    def ask(self, inputs: Sequence[Array], rows: Array) -> Array:
        """The first output for these rows of ``inputs``."""
        tf = import_tensorflow()
        call = tf.autograph.experimental.do_not_convert(lambda batch: tf.cast(self.told(batch)[0], tf.float32))
        return answers(tf.function(call, reduce_retracing=True), list(inputs), rows, min(ASKED_AT_ONCE, len(rows)))

    def told(self, inputs: Sequence[Any], guide: Any | None = None) -> list[Any]:
        """The outputs for a batch of tensors, of the model or of ``guide``, which has its inputs; without a gradient."""
        tf = import_tensorflow()
        cast = [tf.cast(values, tensor.dtype) for values, tensor in zip(inputs, self.model.inputs, strict=True)]
        model = self.model if guide is None else guide
        found = tf.nest.flatten(model(packed(self.model, cast), training=False))
        return [tf.stop_gradient(value) for value in found]


class Tutor:
    """What ``student`` learns from ``teacher``, a Teacher or a model of either Keras, with equal inputs and outputs.

    ``learner`` is the student to call in training: it gives the first output, then the tensors whose attention maps are
    compared. Raises TechniqueError when the shapes of inputs or outputs differ, or, where feature losses are asked for,
    when no inner tensors of the two have the same height and width.
    """

    def __init__(
        self, student: Any, teacher: Any, inputs: Sequence[Array], settings: FineTuning, objective: Objective
    ) -> None:
        self._teacher = teacher if isinstance(teacher, Teacher) else Teacher(teacher)
        self._inputs, self._settings = list(inputs), settings
        ensure_alike(student, self._teacher.model)
        self._activations = (objective.activation, output_activation(self._teacher.model))
        self._classes = objective.metric != "loss" or "linear" not in self._activations
        self.learner, self._guide = student, self._teacher.model
        self._pairs = 0
        if settings.features:
            self.learner, self._guide, self._pairs = _tapped(student, self._teacher.model)
        asked_anew = bool(self._pairs) or settings.augment != "none"
        self._kept = None if asked_anew else self._teacher.answers(self._inputs)

    def known(self, rows: Array) -> Array | None:
        """The teacher's outputs for these samples where they are kept."""
        return None if self._kept is None else self._kept[rows]

    def outputs(self, rows: Array) -> Array:
        """The teacher's first output for these samples."""
        kept = self.known(rows)
        return self._teacher.ask(self._inputs, rows) if kept is None else kept

    def soft(self, outputs: Any, theirs: Any) -> Any:
        """The mean loss of a student's outputs against the teacher's."""
        settings = self._settings
        return soft_target_loss(
            outputs, theirs, activations=self._activations, temperature=settings.temperature, classes=self._classes
        )

    def loss(self, inputs: Sequence[Any], outputs: Sequence[Any], soft: Any, alpha: float) -> Any:
        """``alpha`` × the soft loss, and the weighted feature loss, of the learner's ``outputs`` for ``inputs``."""
        theirs = [soft] if self._kept is not None else self._teacher.told(inputs, self._guide)
        total = alpha * self.soft(outputs[0], theirs[0]) if alpha else 0.0
        if self._pairs:
            total += self._settings.features * attention_loss(outputs[1:], theirs[1:])
        return total


def ensure_alike(student: Any, teacher: Any) -> None:
    """Raise TechniqueError unless both have inputs and a first output of the same shapes."""
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
    return keras.Model(packed(model, model.inputs), [model.outputs[0], *tensors])
