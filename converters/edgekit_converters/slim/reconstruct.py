"""Let the channels that stay say what the removed ones said, as far as a linear map can.

What reads a removed channel gets, instead, its best linear prediction from the channels that are kept: the regression's
coefficients are folded into the kernel, its intercept into the bias. The least squares of He et al. 2017
(arXiv:1707.06168), over single positions of the samples, for all layers at once on the original's activations. What is left
of the error shifts the activations: the statistics of each BatchNormalization are moved as its input moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_keras
from ..graph import walk
from ..training.samples import Samples, model_inputs
from .channels import Channels, Ids, Member, Slot

__all__ = ["Observed", "observe", "recalibrate", "reconstructed"]

BATCH = 64
MOST_SAMPLES = 1024
MOST_CHANNELS = 2048
# Of the mean variance: keeps channels that say almost the same from cancelling each other with large coefficients.
RIDGE = 1e-3

Array = npt.NDArray[Any]
Kept = npt.NDArray[np.bool_]


@dataclass
class _Moments:
    """Number, sum and sum of products of the values of the channels that an operation reads."""

    count: int = 0
    total: Array = field(default_factory=lambda: np.zeros(1))
    products: Array = field(default_factory=lambda: np.zeros((1, 1)))


@dataclass(frozen=True)
class Observed:
    """What flows through a model: ``read`` by ``id`` of the reading layer, mean and variance of what is ``normalized``.

    The latter are lists by path, one entry for each batch and call.
    """

    read: dict[int, _Moments]
    normalized: dict[str, list[tuple[Array, Array]]]


def observe(model: Any, channels: Channels, kept: Kept, samples: Samples, seed: int) -> Observed:
    """Run at most 1024 samples, drawn with ``seed``, and note what ``reconstructed`` and ``recalibrate`` need."""
    observed, readers = Observed({}, {}), set(_readers(channels, kept))

    def apply(operation: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = _first_tensor(args, kwargs)
        if id(operation) in readers:
            values = np.asarray(value, np.float64).reshape(-1, value.shape[-1])
            known = observed.read.setdefault(id(operation), _Moments())
            known.count += len(values)
            known.total = known.total + values.sum(axis=0)
            known.products = known.products + values.T @ values
        if _normalizes(operation, value):
            observed.normalized.setdefault("/".join(path), []).append(_statistics(value))
        return _inferred(operation, args, kwargs)

    _run(model, samples, seed, apply)
    return observed


def reconstructed(channels: Channels, kept: Kept, observed: Observed) -> dict[int, list[Array]]:
    """Weights in the original's shapes by ``id(layer)``, to be cut as any others; only of layers that lose inputs.

    Separable convolutions, and layers that read more than 2048 channels (a dense one behind a Flatten, say) are left as
    they are.
    """
    readers = _readers(channels, kept)
    return {number: _folded(readers[number], moments, kept) for number, moments in observed.read.items()}


def recalibrate(model: Any, kept: Mapping[str, Ids], samples: Samples, seed: int, observed: Observed) -> None:
    """Move mean and variance of each BatchNormalization of a slimmed ``model`` as much as its input has moved.

    ``kept`` holds the original's channels that are left, by path; ``observed`` are those of the original, same samples.
    """
    moved = dict[str, tuple[Any, tuple[Array, Array], list[tuple[Array, Array]]]]()

    def apply(operation: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value, name = _first_tensor(args, kwargs), "/".join(path)
        if _normalizes(operation, value):
            own = operation.moving_mean.numpy(), operation.moving_variance.numpy()
            _, own, known = moved.setdefault(name, (operation, own, []))
            before = [part[kept[name]] for part in observed.normalized[name][len(known)]]
            mean, variance = _statistics(value)
            least = np.finfo(np.float32).tiny
            known.append((own[0] + mean - before[0], own[1] * (variance + least) / (before[1] + least)))
            _set(operation, *known[-1])  # for what comes after it in this batch
        return _inferred(operation, args, kwargs)

    _run(model, samples, seed, apply)
    for operation, _, known in moved.values():
        _set(operation, *(np.mean(part, axis=0) for part in zip(*known, strict=True)))


def _readers(channels: Channels, kept: Kept) -> dict[int, Member]:
    """Layers that sum over channels of which some are gone, by ``id``."""
    found = ((member, _kernel_slot(member)) for member in channels.members)
    return {id(member.layer): member for member, slot in found if slot is not None and not kept[slot.ids].all()}


def _kernel_slot(member: Member) -> Slot | None:
    """The input axis of a kernel that sums over channels at every position."""
    reads = [slot for slot in member.slots if slot.role == "reads"]
    return reads[0] if len(reads) == 1 and len(reads[0].ids) <= MOST_CHANNELS else None


def _run(model: Any, samples: Samples, seed: int, apply: Callable[..., Any]) -> None:
    """Walk the model with batches of the samples drawn."""
    rows = np.sort(np.random.default_rng(seed).permutation(samples.count)[:MOST_SAMPLES])
    convert, arrays = import_keras().ops.convert_to_tensor, model_inputs(model, samples.take(rows))
    for start in range(0, len(rows), BATCH):
        batch = [values[start : start + BATCH] for values in arrays]
        walk(model, [convert(values, dtype=end.dtype) for values, end in zip(batch, model.inputs, strict=True)], apply)


def _inferred(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return operation(*args, **({**kwargs, "training": False} if "training" in kwargs else kwargs))


def _first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    keras = import_keras()
    return next((item for item in keras.tree.flatten((args, kwargs)) if keras.ops.is_tensor(item)), None)


def _normalizes(operation: Any, value: Any) -> bool:
    kind = import_keras().layers.BatchNormalization
    return type(operation) is kind and operation.axis in (-1, len(value.shape) - 1)


def _statistics(value: Any) -> tuple[Array, Array]:
    values = np.asarray(value, np.float64).reshape(-1, value.shape[-1])
    return values.mean(axis=0), values.var(axis=0)


def _set(operation: Any, mean: Array, variance: Array) -> None:
    operation.moving_mean.assign(mean)
    operation.moving_variance.assign(variance)


def _folded(member: Member, moments: _Moments, kept: Kept) -> list[Array]:
    weights, slot = [weight.numpy() for weight in member.layer.weights], _kernel_slot(member)
    assert slot is not None
    kernel = np.moveaxis(weights[slot.weight].astype(np.float64), slot.axis, 0)
    stays, goes = kept[slot.ids], ~kept[slot.ids]
    biases = [other for other in member.slots if other.role == "follows"]
    # A bias can take the intercept where each output sums over all taps of the kernel once.
    centred = len(biases) == 1 and "Transpose" not in type(member.layer).__name__
    mean = moments.total / moments.count if centred else np.zeros(len(slot.ids))
    covariance = moments.products / moments.count - np.outer(mean, mean)
    inner = covariance[np.ix_(stays, stays)]
    ridge = RIDGE * float(np.trace(inner)) / len(inner) + np.finfo(np.float64).tiny
    coefficients = np.linalg.solve(inner + ridge * np.eye(len(inner)), covariance[np.ix_(stays, goes)])
    lost = kernel[goes]
    if centred:
        intercept = mean[goes] - coefficients.T @ mean[stays]
        per_tap = np.tensordot(intercept, lost, axes=(0, 0))
        weights[biases[0].weight] = weights[biases[0].weight] + per_tap.reshape(-1, per_tap.shape[-1]).sum(axis=0)
    kernel[stays] += np.tensordot(coefficients, lost, axes=(1, 0))
    weights[slot.weight] = np.moveaxis(kernel, 0, slot.axis).astype(weights[slot.weight].dtype)
    return weights
