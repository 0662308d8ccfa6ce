"""How much each class of channels matters, from data: first-order Taylor expansion of the loss.

Removing a channel changes the loss of a sample by about the sum of activation x gradient over the places where it is read
(Molchanov et al. 2019, arXiv:1906.10771, with its gates at the inputs of the kernels, so that a channel with several readers
and makers is counted whole). The score is the mean of the absolute value over the samples; scores of different layers are
changes of the same loss and need no scaling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._tf import import_keras, import_tensorflow
from ..errors import TechniqueError
from ..graph import walk
from ..training.losses import objective_for
from ..training.samples import Samples, model_inputs
from .channels import Channels
from .importance import Scores

__all__ = ["taylor_scores"]

BATCH = 32
MOST_SAMPLES = 1024
NO_LABELS = (
    "expected samples with labels for the importance 'taylor', got none: give labelled data, or take the importance 'l2', "
    "which needs none"
)

Loss = Callable[[Any, Any], Any]


def taylor_scores(model: Any, channels: Channels, samples: Samples | None, loss: Any, seed: int) -> Scores:
    """One score per class from at most 1024 samples, drawn with ``seed``.

    ``loss`` is the name of a Keras loss, None for the one that fine-tuning would take (see ``objective_for``), or a function
    of (labels, outputs) that gives a mean or a value per sample: outputs are a list where the model has several, labels
    may be None. Raises TechniqueError without labels and for a loss that is no number, TrainingError where samples, labels
    and model do not fit.
    """
    if samples is None or samples.count == 0 or (samples.labels is None and not callable(loss)):
        raise TechniqueError(NO_LABELS)
    rows = np.random.default_rng(seed).permutation(samples.count)[:MOST_SAMPLES]
    drawn, call = samples.take(np.sort(rows)), _loss(model, samples, loss)
    totals = np.zeros(channels.count)
    for start in range(0, drawn.count, BATCH):
        totals += _batch(model, channels, drawn.take(np.arange(start, min(start + BATCH, drawn.count))), call)
    if not np.isfinite(totals).all():
        raise TechniqueError("the loss or its gradient is no number on these samples: check data, labels and loss")
    return totals / drawn.count


def _batch(model: Any, channels: Channels, samples: Samples, loss: Loss) -> Scores:
    """Sum over the samples of |sum of activation x gradient where the class is read|."""
    tensorflow, keras = import_tensorflow(), import_keras()
    gates: list[tuple[Any, Any]] = []
    with tensorflow.GradientTape() as tape:
        reads = iter(channels.read)

        def apply(operation: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            read = next(reads)
            if read is not None:  # such an operation has one input

                def gated(value: Any) -> Any:
                    if not keras.ops.is_tensor(value):
                        return value
                    gate = tensorflow.ones((samples.count, *[1] * (len(value.shape) - 2), len(read)), value.dtype)
                    tape.watch(gate)
                    gates.append((gate, read))
                    return value * gate

                args, kwargs = keras.tree.map_structure(gated, (args, kwargs))
            if "training" in kwargs:
                kwargs = {**kwargs, "training": False}
            return operation(*args, **kwargs)

        outputs = walk(model, _tensors(model, samples), apply)
        labels = None if samples.labels is None else keras.ops.convert_to_tensor(samples.labels)
        value = loss(labels, outputs[0] if len(outputs) == 1 else outputs)
        total = keras.ops.sum(value) if len(value.shape) else value * samples.count
    gradients = tape.gradient(total, [gate for gate, _ in gates], unconnected_gradients="zero")
    changes = np.zeros((channels.count, samples.count))
    for gradient, (_, read) in zip(gradients, gates, strict=True):
        values = np.asarray(gradient, np.float64).reshape(samples.count, -1, len(read)).sum(axis=1)
        np.add.at(changes, read, values.T)
    return np.asarray(np.abs(changes).sum(axis=1), np.float64)


def _tensors(model: Any, samples: Samples) -> list[Any]:
    convert = import_keras().ops.convert_to_tensor
    arrays = model_inputs(model, samples)
    return [convert(values, dtype=tensor.dtype) for values, tensor in zip(arrays, model.inputs, strict=True)]


def _loss(model: Any, samples: Samples, loss: Any) -> Loss:
    """The mean loss of (labels, outputs): of the first output, where there are several."""
    if callable(loss):
        return loss  # type: ignore[no-any-return]
    objective = objective_for(model, samples.labels, loss or "auto", taught=False)
    judge = objective.of
    assert judge is not None  # only where a teacher is
    return lambda labels, outputs: judge(outputs[0] if isinstance(outputs, list) else outputs, labels)
