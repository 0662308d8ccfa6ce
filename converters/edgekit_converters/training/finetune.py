"""One fine-tuning loop for every technique and both Kerases: seeded, checkpointed, and never worse than before.

An epoch's order and random numbers depend on the seed and its number alone, and all else that changes (weights, optimizer)
is in the checkpoint written after it: a run that goes on from there ends with the weights of one never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_keras, import_tensorflow, import_tf_keras
from ..errors import TrainingError
from .augment import AUGMENTATIONS, augmented, ensure_images
from .checkpoint import Checkpoint, digest, read_checkpoint, write_checkpoint
from .descent import adam, answers, functions, tensorflow_errors
from .distill import Teacher, Tutor
from .losses import Objective, objective_for, score
from .random_numbers import own_random_numbers
from .samples import Samples, model_inputs

__all__ = ["FineTuning", "History", "fine_tune"]

Array = npt.NDArray[Any]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class FineTuning:
    """How to fine-tune; the same settings, data and model give the same weights on the same machine.

    ``learning_rate`` falls to 0 along a cosine. ``loss`` is ``auto`` or the name of a Keras loss. ``validation_fraction`` of
    the samples tells which epoch's weights are kept; 0 keeps the last. ``teacher`` is ``none``, ``original`` (the model
    before it was compressed) or the path of a model file; ``alpha`` weighs its outputs, softened by ``temperature``, against
    the labels, and ``features`` weighs the attention maps inside it. ``limit`` is the most samples an epoch takes (another
    draw each time), ``patience`` the epochs without improvement after which to stop; 0 for neither. ``augment`` changes
    images anew each time: ``shift`` (up to an eighth), ``flip`` (left to right) or ``flip-shift``; a teacher sees what the
    student sees. Raises TrainingError.
    """

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 1e-3
    loss: str = "auto"
    validation_fraction: float = 0.1
    seed: int = 0
    teacher: str = "none"
    temperature: float = 4.0
    alpha: float = 0.7
    features: float = 0.0
    limit: int = 0
    patience: int = 0
    augment: str = "none"

    def __post_init__(self) -> None:
        kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, kinds[str(each.type)]):
                raise TrainingError(f"expected {each.type} for {each.name} of the fine-tuning, got {value!r}")
        for name, (text, fits) in _LIMITS.items():
            if not fits(getattr(self, name)):
                raise TrainingError(f"expected {name} of the fine-tuning {text}, got {getattr(self, name)!r}")

    def steps(self, count: int) -> int:
        """How many optimizer steps a run on ``count`` samples takes."""
        rows = min(count - round(count * self.validation_fraction), self.limit or count)
        return self.epochs * math.ceil(rows / min(self.batch_size, max(1, rows)))


_LIMITS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "epochs": ("of at least 1", lambda value: value >= 1),
    "batch_size": ("of at least 1", lambda value: value >= 1),
    "learning_rate": ("above 0", lambda value: 0 < value < math.inf),
    "validation_fraction": ("from 0 to below 1", lambda value: 0 <= value < 1),
    "seed": ("from 0", lambda value: value >= 0),
    "teacher": ("to be 'none', 'original' or the path of a model", bool),
    "temperature": ("above 0", lambda value: 0 < value < math.inf),
    "alpha": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "features": ("from 0", lambda value: 0 <= value < math.inf),
    "limit": ("from 0 (all)", lambda value: value >= 0),
    "patience": ("from 0 (no early stop)", lambda value: value >= 0),
    "augment": (f"to be one of {', '.join(AUGMENTATIONS)}", lambda value: value in AUGMENTATIONS),
}


@dataclass(frozen=True)
class History:
    """What happened: mean training ``losses`` and ``validation`` figures by epoch, the ``metric`` these are in.

    ``metric`` is ``accuracy``, ``agreement`` (with the teacher) or ``loss``; ``before`` its value when fine-tuning began;
    ``best_epoch`` counts from 1, 0 being the weights it began with. ``seconds`` are those of all epochs, also of the
    ``resumed_from`` first ones that another run had made.
    """

    epochs: int
    losses: tuple[float, ...]
    validation: tuple[float, ...]
    metric: str
    before: float | None
    best_epoch: int
    seconds: float
    resumed_from: int


def fine_tune(
    model: Any,
    samples: Samples,
    settings: FineTuning,
    *,
    framework: str,
    teacher: Any | None = None,
    callbacks: Sequence[Any] = (),
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    keep_best: bool = True,
) -> History:
    """Train ``model`` (of the ``framework`` ``keras`` or ``tf_keras``) in place with Adam.

    ``teacher`` is a Teacher, or a model of either Keras, with the same inputs and outputs. ``callbacks`` are those of a
    technique (``on_train_begin``, ``on_train_batch_begin``, … with ``model`` set). The weights of the best epoch are kept,
    or those it began with where none was better; the last ones where ``keep_best`` is not set or nothing is held out.
    Several outputs: the labels are the first one's. An epoch's last batch is filled up with samples from its beginning.

    ``checkpoint`` is a folder: what a killed run with the same model, data and settings left there is gone on from.
    Raises TrainingError when data and model do not fit, or when the loss is no longer finite (the model then has the
    weights of the last good epoch), and TechniqueError when the teacher does not fit.
    """
    keras = import_keras() if framework == "keras" else import_tf_keras()
    import_tensorflow().config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(settings.seed)
    lesson = _lesson(model, samples, settings, teacher)
    run = _Run(model, framework, lesson, settings, list(callbacks), keep_best)
    key = run.key(teacher) if checkpoint is not None else ""
    with own_random_numbers(model, framework) as reseed, tensorflow_errors():
        run.begin(checkpoint, key)
        while run.goes_on():
            reseed(settings.seed, run.epoch)
            run.one_epoch()
            if checkpoint is not None:
                write_checkpoint(checkpoint, key, run.saved())
            if progress is not None:
                progress(run.epoch, settings.epochs, run.told())
    return run.finished()


def _lesson(model: Any, samples: Samples, settings: FineTuning, teacher: Any | None) -> _Lesson:
    """What ``model`` is to learn, once it is known that everything fits."""
    if teacher is None and settings.teacher != "none":
        raise TrainingError(f"expected the teacher {settings.teacher!r} as a model, got none: pass it as teacher=")
    inputs = model_inputs(model, samples)
    ensure_images(inputs, settings.augment)
    objective = objective_for(model, samples.labels, settings.loss, taught=teacher is not None)
    if not model.trainable_variables:
        raise TrainingError(
            "expected a model with weights to train, got one with none: set trainable = True on its layers"
        )
    tutor = None if teacher is None else Tutor(model, teacher, inputs, settings, objective)
    target = inputs[0] if objective.reconstruct else samples.labels
    return _Lesson(inputs, None if target is None else np.asarray(target), objective, tutor, settings)


class _Lesson:
    """What is taught: which samples in which order, and what the model's answers are worth."""

    def __init__(
        self, inputs: list[Array], target: Array | None, objective: Objective, tutor: Tutor | None, settings: FineTuning
    ) -> None:
        self.inputs, self.target, self.objective, self.tutor = inputs, target, objective, tutor
        self.seed, self.augment = settings.seed, settings.augment
        count = len(inputs[0])
        held_out = round(count * settings.validation_fraction)
        if held_out == count:
            raise TrainingError(
                f"expected a validation_fraction that leaves samples to train on, got {settings.validation_fraction} of "
                f"{count} samples"
            )
        order = np.random.default_rng(settings.seed).permutation(count)
        self.hold, self.fit = np.sort(order[:held_out]), np.sort(order[held_out:])
        self.rows = min(len(self.fit), settings.limit or count)
        self.batch = min(settings.batch_size, self.rows)
        self.steps = math.ceil(self.rows / self.batch)
        self.all_steps = settings.steps(count)

    def batches(self, epoch: int) -> Iterator[tuple[list[Any], Any, Any]]:
        """Inputs, target and the teacher's outputs (zeros where there is none of them) of each batch.

        All are of one size: every sample comes once, the first ones again to fill the last.
        """
        order = np.random.default_rng([self.seed, epoch]).permutation(self.fit)[: self.rows]
        for number, rows in enumerate(np.resize(order, (self.steps, self.batch))):
            inputs, target, soft = self._taken(rows)
            if self.augment != "none":
                inputs = [augmented(inputs[0], self.augment, np.random.default_rng([self.seed, epoch, number]))]
            yield inputs, inputs[0] if self.objective.reconstruct else target, soft

    def _taken(self, rows: Array) -> tuple[list[Any], Any, Any]:
        target = np.zeros(len(rows), np.float32) if self.target is None else self.target[rows]
        soft = None if self.tutor is None else self.tutor.known(rows)
        return [values[rows] for values in self.inputs], target, np.zeros(1, np.float32) if soft is None else soft

    def judged(self, outputs: Array) -> tuple[float, float]:
        """The metric and the loss of these outputs for the held-out samples."""
        if self.target is None:
            assert self.tutor is not None
            target = self.tutor.outputs(self.hold)
            loss = float(self.tutor.soft(outputs, target))
        else:
            assert self.objective.of is not None
            target = self.target[self.hold]
            loss = float(self.objective.of(outputs, target))
        return (loss if self.objective.metric == "loss" else score(self.objective, outputs, target)), loss


@dataclass
class _Record:
    """What a checkpoint remembers beside the arrays."""

    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    before: float | None = None
    best: list[float] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0


class _Run:
    """A fine-tuning in progress: the model, its optimizer, and what was achieved so far."""

    def __init__(
        self, model: Any, framework: str, lesson: _Lesson, settings: FineTuning, callbacks: list[Any], keep_best: bool
    ) -> None:
        self.model, self.lesson, self.settings, self.callbacks = model, lesson, settings, callbacks
        self.framework, self.keep_best = framework, keep_best and len(lesson.hold) > 0
        self.record = _Record()
        self.resumed_from = 0
        self.optimizer = adam(model, framework, settings.learning_rate, lesson.all_steps)
        self.step, self.forward = functions(
            model, self.optimizer, framework, lesson.objective, lesson.tutor, settings.alpha
        )
        self.good = self.best = _values(model.weights)

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.record.losses)

    def key(self, teacher: Any | None) -> str:
        """What this run is: no checkpoint of any other may continue it."""
        lesson = self.lesson
        layers = [type(layer).__name__ for layer in self.model.layers]
        told = [lesson.objective.loss, self.keep_best, [type(callback).__name__ for callback in self.callbacks]]
        taught = (
            [] if teacher is None else _values((teacher.model if isinstance(teacher, Teacher) else teacher).weights)
        )
        labels = [] if lesson.target is None else [lesson.target]
        return digest(
            2, self.framework, asdict(self.settings), layers, told, *self.good, *lesson.inputs, *labels, *taught
        )

    def begin(self, folder: Path | None, key: str) -> None:
        """Go on from the checkpoint in ``folder``, or from the start."""
        slots = self.optimizer.variables
        like = {"weights": self.good, "slots": _values(slots), "best": self.good}
        found = None if folder is None else read_checkpoint(folder, key, like)
        if found is not None:
            self.record = _Record(**found.facts)
            self.resumed_from = self.epoch
            self.good, self.best = list(found.arrays["weights"]), list(found.arrays["best"])
            _assign(self.model.weights, self.good)
            _assign(slots, found.arrays["slots"])
        elif self.keep_best:
            self.record.before, loss = self._judge()
            self.record.best = [self._rank(self.record.before), -loss]
        for callback in self.callbacks:
            callback.set_model(self.model)
            callback.set_params({"epochs": self.settings.epochs, "steps": self.lesson.steps, "verbose": 0})
        self._tell("on_train_begin")

    def goes_on(self) -> bool:
        """Whether another epoch is due."""
        waited = self.epoch - self.record.best_epoch
        return self.epoch < self.settings.epochs and not (self.keep_best and 0 < self.settings.patience <= waited)

    def one_epoch(self) -> None:
        """Train one epoch and judge it; TrainingError, and the last good weights back, when a number is not finite."""
        started = time.perf_counter()
        self._tell("on_epoch_begin", self.epoch)
        total, done = 0.0, 0
        for batch in self.lesson.batches(self.epoch):
            self._tell("on_train_batch_begin", done)
            loss = float(self.step(*batch))
            if not math.isfinite(loss):
                self._give_up(f"the loss is {loss}")
            total, done = total + loss, done + 1
            self._tell("on_train_batch_end", done - 1)
        self._tell("on_epoch_end", self.epoch)  # before anything is judged: techniques finish their work in it
        weights = _values(self.model.weights)
        if not all(np.isfinite(values).all() for values in weights if values.dtype.kind == "f"):
            self._give_up("a weight is no longer finite")
        self._judged(total / done, weights)
        self.record.seconds += time.perf_counter() - started

    def _judged(self, mean_loss: float, weights: list[Array]) -> None:
        figure = loss = None
        if len(self.lesson.hold):
            figure, loss = self._judge()
            if not math.isfinite(loss):
                self._give_up(f"the validation loss is {loss}")
        self.good = weights
        self.record.losses.append(mean_loss)
        if figure is None or loss is None:
            self.best, self.record.best_epoch = weights, self.epoch
            return
        self.record.validation.append(figure)
        rank = [self._rank(figure), -loss]
        if not self.keep_best or not self.record.best or rank > self.record.best:
            self.best, self.record.best, self.record.best_epoch = weights, rank, self.epoch

    def _judge(self) -> tuple[float, float]:
        return self.lesson.judged(answers(self.forward, self.lesson.inputs, self.lesson.hold, self.lesson.batch))

    def _rank(self, figure: float) -> float:
        """A figure so that more is better."""
        return -figure if self.lesson.objective.metric == "loss" else figure

    def _give_up(self, what: str) -> None:
        _assign(self.model.weights, self.good)
        raise TrainingError(
            f"{what} after {self.epoch} whole epochs, in epoch {self.epoch + 1} of {self.settings.epochs}: lower the "
            f"learning_rate (it is {self.settings.learning_rate:g}) or check the scale of the training data. "
            f"The model keeps the weights of epoch {self.epoch}"
        )

    def _tell(self, event: str, *numbers: int) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(*numbers)

    def saved(self) -> Checkpoint:
        """All that this run needs to go on."""
        slots = _values(self.optimizer.variables)
        return Checkpoint(asdict(self.record), {"weights": self.good, "slots": slots, "best": self.best})

    def told(self) -> str:
        """One line about the last epoch."""
        shown = f"loss {self.record.losses[-1]:.4g}"
        if not self.record.validation:
            return shown
        name = self.lesson.objective.metric
        return f"{shown}, {'validation loss' if name == 'loss' else name} {self.record.validation[-1]:.4g}"

    def finished(self) -> History:
        """The weights that are kept, in the model, and the history."""
        self._tell("on_train_end")
        _assign(self.model.weights, self.best if self.keep_best else self.good)
        record = self.record
        return History(
            epochs=self.epoch,
            losses=tuple(record.losses),
            validation=tuple(record.validation),
            metric=self.lesson.objective.metric,
            before=record.before,
            best_epoch=record.best_epoch,
            seconds=record.seconds,
            resumed_from=self.resumed_from,
        )


def _values(variables: Sequence[Any]) -> list[Array]:
    return [np.array(variable.numpy()) for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[Array]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
