"""The proof that a rebuilt model computes what the original does, and the search for the layer that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
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

# Of every output of every row: absolute up to values of 1, beyond that relative to the row's largest absolute value.
TOLERANCE = 1e-5
# Of every layer, relative to the largest absolute value that goes in or comes out: rounding adds up to 1e-5 in the deepest
# models, a swapped weight makes 1e-1; an output that is all but constant (a softmax over a thousand classes) hides both.
LAYER_TOLERANCE = 1e-3
# How many values of a layer's output are compared.
SKETCHED = 4096
REDUCED = ("float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Sketch:
    """One call of a step: values drawn from its outputs, the same ones for equal shapes.

    ``largest`` is for each of them the largest that goes in or comes out, in its row.
    """

    shapes: tuple[tuple[int, ...], ...]
    values: Array
    largest: Array

    def agrees(self, other: Sketch, tolerance: float) -> bool:
        """Whether both came from the same computation, but for ``tolerance`` of the largest value."""
        if self.shapes != other.shapes:
            return False
        with np.errstate(invalid="ignore"):
            near = np.abs(self.values - other.values) <= tolerance * np.maximum(self.largest, other.largest)
        return bool(np.all(near | ~np.isfinite(self.values)))


@dataclass(frozen=True)
class Step:
    """A layer or operation: what to call it in a message, and its calls."""

    what: str
    calls: list[Sketch]


Steps = dict[str, Step]


def prove(model: Any, made: Any, side: Side, names: Names) -> float:
    """The largest ``distance`` between the outputs of ``model``, of the Keras ``side``, and of ``made``, its counterpart.

    Both compute in float32 on the same random samples, whatever the precision policy of the original. Raises
    UnsupportedModelError, naming the first layer that differs, where the distance is above ``TOLERANCE`` or the outputs of
    any layer differ by more than rounding can.
    """
    worst, where = 0.0, ""
    for samples, expected in _answers(model, side):
        got = _answer(made, other(side), samples)
        worst = max((distance(left, right) for left, right in zip(expected, got, strict=True)), default=0.0)
        ours = _steps(model, side, samples, names.of)
        theirs = _steps(made, other(side), samples, lambda item, path: path[-1])
        culprit = _first_difference(ours, theirs, LAYER_TOLERANCE)
        if culprit is None and worst <= TOLERANCE:
            return worst
        known = culprit or _first_difference(ours, theirs, TOLERANCE)
        where = f"first in {known}" if known else "though no single layer does: rounding adds up"
        if culprit is not None:
            break
        # Rounding alone: of outputs in the hundreds, which pixels in 0..255 give a model of -1..1. Darker ones decide.
    raise UnsupportedModelError(
        f"the {other(side).name} model rebuilt from {model.name!r} is not the same: its outputs differ by {worst:.2g} (at most "
        f"{TOLERANCE:g} is allowed), {where}. Replace that layer by others, or leave this technique out for this model"
    )


def distance(expected: Array, got: Array) -> float:
    """How far two outputs (rows, …) are apart: the largest difference, each row's over max(1, its largest absolute value).

    Infinite for other shapes, and for NaN.
    """
    if expected.shape != got.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    rows = expected.shape[0] if expected.ndim else 1
    left, right = (value.astype(np.float64).reshape(rows, -1) for value in (expected, got))
    apart = np.abs(left - right).max(axis=1) / np.maximum(1.0, np.abs(left).max(axis=1))
    return float(apart.max()) if np.all(np.isfinite(apart)) else float("inf")


def _answers(model: Any, side: Side) -> Iterator[tuple[list[Array], list[Array]]]:
    """Samples the model takes and answers with finite numbers, and its outputs on them; raises where there are none."""
    found = False
    problem: Exception | None = None
    answer: list[Array] = []
    for samples in draws(model, side):
        try:
            answer = _answer(model, side, samples)
        except Exception as error:  # a size of an unknown dimension may not do: TensorFlow raises many kinds
            problem = error
            continue
        if all(value.size and np.all(np.isfinite(value)) for value in answer):
            found = True
            yield samples, answer
    if found:
        return
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


def _first_difference(ours: Steps, theirs: Steps, tolerance: float) -> str | None:
    """The first step that computes something else on the other side; None where all agree.

    A step that is shared may be called in another order there: each of its calls must agree with one of theirs. What only
    one of the two has (masks that tf_keras carries by itself) is compared by what follows from it.
    """
    for name, step in ours.items():
        calls = theirs[name].calls if name in theirs else step.calls
        if not all(any(call.agrees(candidate, tolerance) for candidate in calls) for call in step.calls):
            return step.what
    return None


def _steps(
    model: Any, side: Side, samples: Sequence[Array], name: Callable[[Any, tuple[str, ...]], str]
) -> dict[str, Step]:
    """The outputs of every step of the graph in the order of the data, by its name in the flat model."""
    found: Steps = {}

    def apply(item: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = side.infer(item, args, kwargs)
        kind = "layer" if side.is_layer(item) else "operation"
        step = found.setdefault(name(item, path), Step(f"the {kind} {'/'.join(path)!r} ({type(item).__name__})", []))
        step.calls.append(_sketch(side.flatten((args, kwargs)), side.flatten(result)))
        return result

    tensors = [import_tensorflow().convert_to_tensor(value) for value in samples]
    with _plainly(model, side):
        side.walk(model, tensors, apply)
    return found


def _sketch(given: Sequence[Any], results: Sequence[Any]) -> Sketch:
    arrays = [np.asarray(value) for value in results]
    around = [*arrays, *(np.asarray(value) for value in given if hasattr(value, "shape"))]
    around = [value for value in around if value.dtype.kind == "f" and value.size]
    values, largest = [np.zeros(0)], [np.zeros(0)]
    for array in (value for value in arrays if value.dtype.kind == "f" and value.size):
        drawn = np.arange(array.size)
        if array.size > SKETCHED:
            drawn = np.random.default_rng(0).integers(0, array.size, SKETCHED)
        rows = array.shape[0] if array.ndim else 1
        values.append(array.ravel()[drawn].astype(np.float64))
        largest.append(_largest(around, rows)[drawn * rows // array.size])
    return Sketch(tuple(value.shape for value in arrays), np.concatenate(values), np.concatenate(largest))


def _largest(arrays: Sequence[Array], rows: int) -> Array:
    """The largest finite absolute value of each row of all arrays; of the whole of one that has other rows."""
    found = np.zeros(rows)
    for array in arrays:
        size = np.where(np.isfinite(array), np.abs(array), 0)
        whole = not array.ndim or array.shape[0] != rows
        found = np.maximum(found, size.max() if whole else size.reshape(rows, -1).max(axis=1))
    return found
