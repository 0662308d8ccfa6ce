"""What fine-tuning minimizes and measures: losses of labels, of a teacher's outputs, and of its features.

Everything here works on TensorFlow tensors, so that it serves the models of both Kerases.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_keras, import_tensorflow
from ..errors import TrainingError

__all__ = [
    "Objective",
    "attention_loss",
    "loss_names",
    "objective_for",
    "output_activation",
    "score",
    "soft_target_loss",
]

Array = npt.NDArray[Any]
Tensor = Any
Loss = Callable[[Tensor, Tensor], Tensor]
Shape = tuple[Any, ...]
# The smallest probability whose logarithm is taken: any larger bound would bend the soft targets of a sure teacher.
TINY = 1e-30
# Layers that hand on what the layer before them made.
PASSING = ("Reshape", "Flatten", "Identity", "Dropout", "QuantizeLayer", "Squeeze", "ExpandDims", "Cast")
NO_LOSSES = ("get", "serialize", "deserialize", "Loss", "CTC", "ctc")


@dataclass(frozen=True)
class Objective:
    """``loss`` by name; ``of(outputs, target)`` the mean loss of labels; ``activation`` of the model's first output.

    ``metric`` is ``accuracy``, ``agreement`` (with the teacher) or ``loss``; ``reconstruct`` tells that the target is the
    input. ``of`` is None where only a teacher's outputs are learned from.
    """

    loss: str
    metric: str
    activation: str
    of: Loss | None = None
    reconstruct: bool = False


def loss_names() -> list[str]:
    """The names that ``FineTuning.loss`` takes beside ``auto``: the losses of Keras."""
    losses = import_keras().losses
    names = (name for name in dir(losses) if name[0] != "_" and name not in NO_LOSSES)
    return sorted(name for name in names if callable(getattr(losses, name)))


def objective_for(model: Any, labels: Array | None, loss: str, *, taught: bool) -> Objective:
    """How ``model`` (of either Keras) is to learn ``labels``; ``taught`` tells that there is a teacher beside them.

    ``auto`` takes cross-entropy for classes (from logits unless the last layer is a softmax or sigmoid), the mean squared
    error for other targets of the output's shape, and without labels the reconstruction of the input, when the output has
    its shape. Several outputs: the first. Raises TrainingError where labels, outputs and loss do not fit.
    """
    shape = _output_shape(model)
    activation = output_activation(model)
    _ensure_known(loss)
    if labels is None:
        return _unlabelled(model, shape, activation, loss, taught)
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biuf" or (labels.dtype.kind == "f" and not np.isfinite(labels).all()):
        raise TrainingError(f"expected finite numbers as labels, got {labels.dtype} with NaN, infinity or no numbers")
    name = loss if loss != "auto" else _automatic(shape, labels, activation)
    if _is_sparse(name):
        _ensure_classes(labels, shape)
    else:
        _ensure_targets(labels, shape, name)
    plain = name.lower().replace("_", "")
    metric = "accuracy" if "crossentropy" in plain else "loss"
    return Objective(name, metric, activation, _named(name, activation))


def _ensure_known(loss: str) -> None:
    if loss != "auto" and loss not in loss_names():
        shown = [name for name in loss_names() if name.islower()]  # the classes have the same names, in another case
        close = difflib.get_close_matches(loss, shown, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise TrainingError(f"unknown loss {loss!r}{hint} Choose 'auto' or one of: {', '.join(shown)}")


def _automatic(shape: Shape, labels: Array, activation: str) -> str:
    """The loss for these labels: one label for each row of outputs tells classes, a target for each output values."""
    integer, got = labels.dtype.kind in "iub", labels.shape[1:]
    if integer and got in (shape[:-1], (*shape[:-1], 1)) and shape[-1] != 1:
        return "sparse_categorical_crossentropy"
    low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
    two = low >= 0 and high <= 1 and bool(np.all((labels == 0) | (labels == 1)))
    if (integer and shape[-1:] == (1,) and (two or activation == "sigmoid")) or (two and activation == "sigmoid"):
        return "binary_crossentropy"
    if activation == "softmax" and got == shape and low >= 0 and np.allclose(labels.sum(axis=-1), 1, atol=1e-3):
        return "categorical_crossentropy"
    # Integers that are neither: classes out of range, which the check of classes explains best.
    return "sparse_categorical_crossentropy" if integer and got == () and shape[-1] != 1 else "mean_squared_error"


def _unlabelled(model: Any, shape: Shape, activation: str, loss: str, taught: bool) -> Objective:
    if taught:
        return Objective("soft targets", "loss" if activation == "linear" else "agreement", activation)
    inputs = list(getattr(model, "inputs", None) or [])
    if len(inputs) == 1 and tuple(inputs[0].shape)[1:] == shape:
        name = "mean_squared_error" if loss == "auto" else loss
        return Objective(name, "loss", activation, _named(name, activation), reconstruct=True)
    raise TrainingError(
        "expected labels beside the training samples, or a teacher: without labels only a model whose output has the "
        f'shape of its input can be trained, and this one gives {shape}. Add labels, or set teacher = "original"'
    )


def _is_sparse(name: str) -> bool:
    return "sparse" in name.lower()


def _ensure_classes(labels: Array, shape: Shape) -> None:
    if labels.dtype.kind not in "iub" or labels.shape[1:] not in (shape[:-1], (*shape[:-1], 1)):
        raise TrainingError(
            f"expected integer labels of shape (N{''.join(f', {size}' for size in shape[:-1])}), "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    classes = shape[-1]
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0 or (classes is not None and high >= classes):
        raise TrainingError(
            f"expected labels from 0 to {classes - 1}, as the model has {classes} outputs, got labels from {low} to {high}"
        )


def _ensure_targets(labels: Array, shape: Shape, loss: str) -> None:
    got = labels.shape[1:]
    single = shape == (1,) and got == ()
    fits = len(got) == len(shape) and all(want in (None, have) for want, have in zip(shape, got, strict=True))
    if not (fits or single):
        raise TrainingError(
            f"expected targets of the shape of the model's output, {shape}, for the loss {loss}, got {got} "
            f"({labels.dtype}); integer labels of shape (N,) are for a classifier"
        )
    if "binary" in loss.lower() and labels.size and not 0 <= labels.min() <= labels.max() <= 1:
        raise TrainingError(
            f"expected labels from 0 to 1 for the loss {loss}, got labels from {labels.min()} to {labels.max()}"
        )


def _named(name: str, activation: str) -> Loss:
    """The Keras loss called ``name`` as a mean over the batch, told whether it gets logits."""
    tf = import_tensorflow()
    function = import_keras().losses.get(name)
    if inspect.isclass(function):
        function = function()
    takes_logits = "from_logits" in inspect.signature(getattr(function, "fn", function)).parameters
    options = {"from_logits": activation not in ("softmax", "sigmoid")} if takes_logits else {}
    call = getattr(function, "fn", function)

    def mean(outputs: Tensor, target: Tensor) -> Tensor:
        outputs = tf.cast(outputs, tf.float32)
        if _is_sparse(name):
            target = tf.reshape(target, tf.shape(outputs)[:-1])
        else:
            target = tf.reshape(tf.cast(target, tf.float32), tf.shape(outputs))
        return tf.reduce_mean(call(target, outputs, **options))

    return mean


def score(objective: Objective, outputs: Array, target: Array) -> float:
    """The share of samples whose class in ``outputs`` (N, …, C) is that of ``target``: classes, or values for each output."""
    if outputs.shape[-1] == 1:
        return float(np.mean((outputs > _middle(objective)).reshape(-1) == (target.reshape(-1) > 0.5)))
    if target.shape != outputs.shape:
        return float(np.mean(outputs.argmax(axis=-1).reshape(-1) == target.reshape(-1)))
    if objective.activation == "sigmoid" or "binary" in objective.loss.lower():  # labels that do not exclude each other
        return float(np.mean((outputs > _middle(objective)) == (target > 0.5)))
    return float(np.mean(outputs.argmax(axis=-1) == target.argmax(axis=-1)))


def _middle(objective: Objective) -> float:
    """The output at which a yes begins."""
    return 0.0 if objective.activation == "linear" else 0.5


def soft_target_loss(
    student: Tensor, teacher: Tensor, *, activations: tuple[str, str], temperature: float, classes: bool = True
) -> Tensor:
    """The mean loss of a student's outputs (N, …, C) against its teacher's, each made by its own last activation.

    Temperature² × the Kullback-Leibler divergence of the student's softened distribution from the teacher's: 0 for equal
    ones, and of the gradient that Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015) derive.
    Where one of the ``activations`` is a sigmoid, or there is one output: the same of yes and no, for each output. Not
    ``classes`` (regression): the mean squared error.
    """
    tf = import_tensorflow()
    student, teacher = tf.cast(student, tf.float32), tf.cast(teacher, tf.float32)
    if not classes:
        return tf.reduce_mean(tf.square(student - teacher))
    pair = [_logits(value, how) / temperature for value, how in zip((student, teacher), activations, strict=True)]
    if "sigmoid" in activations or student.shape[-1] == 1:
        pair = [tf.stack([value, tf.zeros_like(value)], axis=-1) for value in pair]
    mine, theirs = (tf.nn.log_softmax(value) for value in pair)
    return temperature**2 * tf.reduce_mean(tf.reduce_sum(tf.exp(theirs) * (theirs - mine), axis=-1))


def _logits(values: Tensor, activation: str) -> Tensor:
    tf = import_tensorflow()
    if activation == "linear":
        return values
    found = tf.math.log(tf.maximum(values, TINY))
    # 1 − p has no more digits than float32 has beside 1.
    return found if activation == "softmax" else found - tf.math.log(tf.maximum(1 - values, 1e-7))


def attention_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """The mean squared distance of normalized attention maps, pair by pair: of shapes (N, …, C) that agree but for C.

    A map is the mean over channels of the squared activations, which asks for no projection where the numbers of channels
    differ: Zagoruyko and Komodakis, "Paying More Attention to Attention" (2017). From 0 to 2.
    """
    tf = import_tensorflow()
    distances = [
        tf.reduce_mean(tf.reduce_sum(tf.square(_attention(mine) - _attention(theirs)), axis=-1))
        for mine, theirs in zip(student, teacher, strict=True)
    ]
    return tf.add_n(distances) / len(distances)


def _attention(values: Tensor) -> Tensor:
    tf = import_tensorflow()
    energy = tf.reduce_mean(tf.square(tf.cast(values, tf.float32)), axis=-1)
    return tf.math.l2_normalize(tf.reshape(energy, (tf.shape(energy)[0], -1)), axis=-1)


def output_activation(model: Any) -> str:
    """``softmax``, ``sigmoid`` or ``linear``: what makes the first output of a model of either Keras."""
    outputs = list(getattr(model, "outputs", None) or [])
    if not outputs:
        return "linear"
    tensor, seen = outputs[0], 0
    while seen < 20:  # a tail of reshapes this long does not exist; a cycle would be one
        seen += 1
        history = getattr(tensor, "_keras_history", None)
        operation = getattr(history, "layer", None) or getattr(history, "operation", None)
        if getattr(operation, "outputs", None) and hasattr(operation, "layers"):  # a nested model
            return output_activation(operation)
        if not type(operation).__name__.startswith(PASSING):
            return _activation(operation)
        before = getattr(operation, "input", None)
        if before is None or isinstance(before, (list, dict)):
            return "linear"
        tensor = before
    return "linear"


def _activation(operation: Any) -> str:
    while hasattr(operation, "layer"):  # a wrapper of TFMOT or a TimeDistributed
        operation = operation.layer
    found: Any = getattr(operation, "activation", None)
    while hasattr(found, "activation"):  # TFMOT's quantize-aware activation around the true one
        found = found.activation
    kind, name = type(operation).__name__.lower(), str(getattr(operation, "symbol", ""))
    for activation in ("softmax", "sigmoid"):
        if activation in (kind, getattr(found, "__name__", "")) or name.endswith(f".{activation}"):
            return activation
    return "linear"


def _output_shape(model: Any) -> Shape:
    outputs = list(getattr(model, "outputs", None) or [])
    if not outputs:
        raise TrainingError(
            f"expected a functional or sequential model that is built, got {type(model).__name__}: rebuild it with "
            "keras.Model(inputs, outputs), or give a sequential one an Input"
        )
    return tuple(outputs[0].shape)[1:]
