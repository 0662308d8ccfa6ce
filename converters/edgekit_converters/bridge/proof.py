"""The proof that a rebuilt model computes what the original does, and the search for the layer that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_tensorflow
from ..errors import UnsupportedModelError
from ..float32 import computing_in_float32
from ..reason import first_line
from .draw import draws
from .layers import other
from .names import Names
from .sides import KERAS, Side

__all__ = ["TOLERANCE", "distance", "prove"]

Array = npt.NDArray[Any]
Steps = dict[tuple[str, int], tuple[str, list[Array]]]

# Of every output of every row: absolute up to values of 1, beyond that relative to the row's largest absolute value.
TOLERANCE = 1e-5
# And never more than this of a row's largest value: an output whose values are all tiny hides no other model.
RELATIVE = 1e-3
REDUCED = ("float16", "bfloat16")


def prove(model: Any, made: Any, side: Side, names: Names) -> float:
    """The largest ``distance`` between the outputs of ``model``, of the Keras ``side``, and of ``made``, its counterpart.

    Both compute in float32 on the same random samples, whatever the precision policy of the original. Raises
    UnsupportedModelError, naming the first layer whose outputs differ, above ``TOLERANCE``.
    """
    samples, expected = _first_answer(model, side)
    got = _answer(made, other(side), samples)
    worst = max((distance(left, right) for left, right in zip(expected, got, strict=True)), default=0.0)
    if not worst <= TOLERANCE:
        raise UnsupportedModelError(_difference(model, made, side, names, samples, worst))
    return worst


def distance(expected: Array, got: Array) -> float:
    """How far two outputs (rows, …) are apart: the largest difference, each row's over max(1, its largest absolute value).

    Infinite for other shapes, NaN, or a row that differs by more than ``RELATIVE`` of its own largest value.
    """
    if expected.shape != got.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    left, right = (value.astype(np.float64).reshape(len(value), -1) if value.ndim else value.reshape(1, 1).astype(np.float64)
                   for value in (expected, got))  # fmt: skip
    largest = np.abs(left).max(axis=1)
    differences = np.abs(left - right).max(axis=1)
    if not np.all(differences <= RELATIVE * np.maximum(largest, np.finfo(np.float32).tiny)):
        return float("inf") if np.any(differences) else 0.0
    return float((differences / np.maximum(1.0, largest)).max())


def _first_answer(model: Any, side: Side) -> tuple[list[Array], list[Array]]:
    """The first samples the model takes and answers with finite numbers, and its outputs on them."""
    problem: Exception | None = None
    answer: list[Array] = []
    for samples in draws(model, side):
        try:
            answer = _answer(model, side, samples)
        except Exception as error:  # a size of an unknown dimension may not do: TensorFlow raises many kinds
            problem = error
            continue
        if all(value.size and np.all(np.isfinite(value)) for value in answer):
            return samples, answer
    if any(value.size for value in answer):
        raise UnsupportedModelError(
            f"the model {model.name!r} gives NaN or infinity on random samples, so nothing can be proven about a rebuilt one: "
            "look for weights that are not finite"
        )
    reason = f": {first_line(problem)}" if problem else ", whose outputs would be empty"
    raise UnsupportedModelError(f"the model {model.name!r} does not take random samples{reason}") from problem


def _answer(model: Any, side: Side, samples: Sequence[Array]) -> list[Array]:
    structure, _ = side.ends(model)
    tensors = [import_tensorflow().convert_to_tensor(value) for value in samples]
    with _plainly(model, side):
        return [np.asarray(value) for value in side.flatten(model(side.pack(structure, tensors), training=False))]


@contextmanager
def _plainly(model: Any, side: Side) -> Iterator[None]:
    """Computing in float32, whatever the policies of the model's layers, and from states that are reset, before and after."""
    layers = list(model._flatten_layers())
    reduced = any(getattr(layer, "compute_dtype", None) in REDUCED for layer in layers)
    stateful = [layer for layer in layers if getattr(layer, "stateful", False) and hasattr(layer, "cell")]
    casts = _casts(model) if side is KERAS and reduced else []
    with computing_in_float32(model, side.name) if reduced else nullcontext():
        for item, _ in casts:
            item.dtype = "float32"
        _reset(stateful, side)
        try:
            yield
        finally:
            for item, dtype in casts:
                item.dtype = dtype
            _reset(stateful, side)


def _reset(layers: Sequence[Any], side: Side) -> None:
    for layer in layers:
        layer.reset_state() if side is KERAS else layer.reset_states()


def _casts(model: Any) -> list[tuple[Any, str]]:
    """The operations of a Keras 3 model that cast to a reduced precision, as the layers around them compute in it."""
    found: dict[int, Any] = {}

    def note(item: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
        if type(item).__name__ == "Cast" and str(item.dtype) in REDUCED:
            found[id(item)] = item
        return [0] * KERAS.results(item)

    KERAS.walk(model, [0 for _ in model.inputs], note)
    return [(item, item.dtype) for item in found.values()]


def _difference(model: Any, made: Any, side: Side, names: Names, samples: Sequence[Array], worst: float) -> str:
    """What to say of two models that differ by ``worst``."""
    target = other(side)
    theirs = _steps(made, target, samples, lambda item, path: path[-1])
    culprit = ""
    for key, (what, values) in _steps(model, side, samples, names.of).items():
        if key in theirs and any(
            not distance(left, right) <= TOLERANCE for left, right in zip(values, theirs[key][1], strict=True)
        ):
            culprit = what
            break
    first = f"first in {culprit}" if culprit else "though no single layer does: rounding adds up"
    return (
        f"the {target.name} model rebuilt from {model.name!r} is not the same: its outputs differ by {worst:.2g} where "
        f"{TOLERANCE:g} is allowed, {first}. Replace that layer by others, or leave this technique out for this model"
    )


def _steps(model: Any, side: Side, samples: Sequence[Array], name: Callable[[Any, tuple[str, ...]], str]) -> Steps:
    """The outputs of every step of the graph, by its name and the number of its call; what to call it in a message."""
    found: Steps = {}
    calls: dict[str, int] = {}

    def apply(item: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = item(*args, **kwargs)
        here = name(item, path)
        calls[here] = calls.get(here, 0) + 1
        kind = "layer" if side.is_layer(item) else "operation"
        what = f"the {kind} {'/'.join(path)!r} ({type(item).__name__})"
        found[here, calls[here]] = (what, [np.asarray(value) for value in side.flatten(result)])
        return result

    tensors = [import_tensorflow().convert_to_tensor(value) for value in samples]
    with _plainly(model, side):
        side.walk(model, tensors, apply)
    return found
