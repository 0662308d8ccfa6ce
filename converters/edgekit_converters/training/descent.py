"""One step of gradient descent and one pass forward, as TensorFlow functions for models of either Keras."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._tf import import_keras, import_tensorflow, import_tf_keras
from ..errors import TrainingError
from ..reason import short
from .losses import Objective
from .samples import packed

if TYPE_CHECKING:
    from .distill import Tutor

__all__ = ["adam", "answers", "functions", "tensorflow_errors"]

Array = npt.NDArray[Any]


def adam(model: Any, framework: str, learning_rate: float, steps: int) -> Any:
    """Adam for the weights of ``model``, its rate falling to 0 along a cosine of ``steps``.

    The loss of a model that computes in float16 is scaled.
    """
    keras = import_keras() if framework == "keras" else import_tf_keras()
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, decay_steps=steps)
    optimizer = keras.optimizers.Adam(schedule)
    if framework == "tf_keras":
        model.compile(optimizer=optimizer)  # techniques look for it there
        optimizer = model.optimizer
    elif any(getattr(layer.dtype_policy, "name", "") == "mixed_float16" for layer in model.layers):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def functions(
    model: Any, optimizer: Any, framework: str, objective: Objective, tutor: Tutor | None, alpha: float
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``step(inputs, target, soft) -> loss`` trains on a batch; ``forward(inputs)`` gives the first output."""
    tf = import_tensorflow()
    learner = model if tutor is None else tutor.learner
    variables = model.trainable_variables
    alpha = 0.0 if tutor is None else (1.0 if objective.of is None else alpha)
    types = [tf.as_dtype(tensor.dtype) for tensor in model.inputs]
    plain = tf.autograph.experimental.do_not_convert  # what is ours is no control flow to trace; a layer's may be
    pack, of, teach = plain(packed), objective.of and plain(objective.of), None if tutor is None else plain(tutor.loss)

    def cast(inputs: list[Any]) -> list[Any]:
        return [tf.cast(values, kind) for values, kind in zip(inputs, types, strict=True)]

    def step(inputs: list[Any], target: Any, soft: Any) -> Any:
        inputs = cast(inputs)
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(learner(pack(model, inputs), training=True))
            loss = tf.add_n([tf.cast(term, tf.float32) for term in learner.losses] or [tf.constant(0.0)])
            if of is not None and alpha < 1:
                loss += (1 - alpha) * of(outputs[0], target)
            if teach is not None:
                loss += teach(inputs, outputs, soft, alpha)
            scaled = _scaled(optimizer, framework, loss)
        _descend(optimizer, framework, tape.gradient(scaled, variables), variables)
        return loss

    def forward(inputs: list[Any]) -> Any:
        return tf.cast(tf.nest.flatten(model(pack(model, cast(inputs)), training=False))[0], tf.float32)

    return _traced(step), _traced(forward)


def _traced(function: Callable[..., Any]) -> Callable[..., Any]:
    made: Callable[..., Any] = import_tensorflow().function(function)
    made._omit_frequent_tracing_warning = True  # type: ignore[attr-defined]  # a new one for each run is meant
    return made


def _descend(optimizer: Any, framework: str, gradients: list[Any], variables: list[Any]) -> None:
    """Move the variables that the loss depends on: those of another output have no gradient."""
    pairs = [pair for pair in zip(gradients, variables, strict=True) if pair[0] is not None]
    if framework == "tf_keras" and hasattr(optimizer, "get_unscaled_gradients"):
        found = optimizer.get_unscaled_gradients([gradient for gradient, _ in pairs])
        pairs = list(zip(found, (variable for _, variable in pairs), strict=True))
    optimizer.apply_gradients(pairs)


def _scaled(optimizer: Any, framework: str, loss: Any) -> Any:
    if framework == "keras":
        return optimizer.scale_loss(loss)
    return optimizer.get_scaled_loss(loss) if hasattr(optimizer, "get_scaled_loss") else loss


def answers(forward: Callable[..., Any], inputs: list[Array], rows: Array, batch: int) -> Array:
    """The first output for these rows; batches of one size, so that one trace serves them all."""
    parts = []
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        parts.append(forward([values[np.resize(some, batch)] for values in inputs]).numpy()[: len(some)])
    return np.concatenate(parts)


@contextlib.contextmanager
def tensorflow_errors() -> Iterator[None]:
    """What TensorFlow finds wrong with the data (a token past the end of an embedding) as TrainingError."""
    errors = import_tensorflow().errors
    try:
        yield
    except (errors.InvalidArgumentError, errors.UnimplementedError, errors.ResourceExhaustedError) as error:
        # Its first lines list the frames of a stack; the reason comes last, before the name of the node.
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and "[[{{" not in line]
        raise TrainingError(f"the model cannot be trained on these samples: {short(lines[-1])}") from error
