"""Train a classifier of the zoo on arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import zoo
from .._tf import import_keras, import_tensorflow
from ..errors import TrainingError

__all__ = ["TrainingSettings", "train"]

Array = npt.NDArray[Any]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train: the same settings, seed and data give the same weights on the same machine."""

    architecture: str = "classic-cnn"
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    validation_fraction: float = 0.1
    seed: int = 0


def train(inputs: Array, labels: Array, settings: TrainingSettings, progress: Progress | None = None) -> Any:
    """A Keras 3 model trained with Adam and cross-entropy, the weights of the best validation loss kept.

    ``inputs`` are preprocessed floats of shape (N, …), ``labels`` integers of shape (N,). Raises TrainingError when
    they do not fit each other, or when the loss is no longer finite.
    """
    _check(inputs, labels, settings)
    keras = import_keras()
    keras.utils.set_random_seed(settings.seed)
    import_tensorflow().config.experimental.enable_op_determinism()
    classes = int(labels.max()) + 1
    model = zoo.build(settings.architecture, inputs.shape[1:], classes)
    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    order = np.random.default_rng(settings.seed).permutation(len(inputs))
    held_out = _held_out(len(inputs), settings)
    fit, hold = order[held_out:], order[:held_out]
    callbacks: list[Any] = [_watcher(keras, settings.epochs, progress)]
    if held_out:
        callbacks.append(keras.callbacks.EarlyStopping(patience=settings.epochs, restore_best_weights=True))
    model.fit(
        inputs[fit],
        labels[fit],
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        validation_data=(inputs[hold], labels[hold]) if held_out else None,
        callbacks=callbacks,
        verbose=0,
    )
    return model


def _check(inputs: Array, labels: Array, settings: TrainingSettings) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
        raise TrainingError(f"expected integer labels from 0, shape (N,), got {labels.dtype} of shape {labels.shape}")
    if len(inputs) != len(labels) or len(inputs) < 2:
        raise TrainingError(f"expected as many labels as samples, at least 2, got {len(labels)} for {len(inputs)}")
    if inputs.dtype.kind not in "biuf" or not np.isfinite(inputs).all():
        raise TrainingError(f"expected finite training samples, got {inputs.dtype} with NaN, infinity or no numbers")
    if settings.epochs < 1 or settings.batch_size < 1 or not 0 < settings.learning_rate < np.inf:
        raise TrainingError(
            "expected epochs and batch_size of at least 1 and a positive learning_rate, "
            f"got {settings.epochs}, {settings.batch_size} and {settings.learning_rate}"
        )
    if not 0 <= settings.validation_fraction < 1 or _held_out(len(inputs), settings) == len(inputs):
        raise TrainingError(
            f"expected a validation_fraction from 0 that leaves samples to train on, got {settings.validation_fraction} "
            f"of {len(inputs)}"
        )


def _held_out(samples: int, settings: TrainingSettings) -> int:
    return round(samples * settings.validation_fraction)


def _watcher(keras: Any, epochs: int, progress: Progress | None) -> Any:
    """A callback that reports each epoch and stops at a loss that is no number."""

    class Watcher(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            figures = logs or {}
            if not np.isfinite(figures.get("loss", 0.0)):
                raise TrainingError(f"the loss is {figures['loss']} after epoch {epoch + 1}: lower the learning_rate")
            if progress is not None:
                accuracy = figures.get("val_accuracy", figures.get("accuracy", float("nan")))
                progress(epoch + 1, epochs, f"accuracy {accuracy:.3f}")

    return Watcher()
