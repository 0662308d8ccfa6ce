"""Kernels fitted anew, layer by layer, behind a branch that is gone: each gives what the original's gave, as far as it can.

The least squares of He et al. 2017 (arXiv:1707.06168), on all taps of a kernel and in the order of the data, so that each
layer also makes up for the errors of those before it. Nothing is trained: one linear system for each layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_keras, import_tensorflow
from ..graph import walk
from ..training.samples import Samples, model_inputs
from .channels import Ids
from .costs import count_costs

__all__ = ["refit"]

Array = npt.NDArray[Any]

BATCH = 16  # nine taps of an early layer's activations are many numbers
MOST_SAMPLES = 1024
LEAST_SAMPLES = 32
# A pass through the model for each layer: large models see fewer samples.
MOST_MACS = 2e12
MOST_TAPS = 2500
# Of the mean energy of a tap: pulls what the samples do not tell towards the weights that are there.
RIDGE = 1e-4


def refit(original: Any, slimmed: Any, kept: Mapping[str, Ids], samples: Samples, seed: int) -> None:
    """Fit the kernels and biases of ``slimmed``, in place, to the activations of ``original`` on samples drawn with ``seed``.

    ``kept`` holds the channels of the original that its layers still give out, by path. Convolutions in two dimensions,
    depthwise ones and dense layers are fitted, each on at most 1024 samples; other layers, layers called more than once,
    and kernels with more than 2500 taps stay. Normalizations get the original's statistics, which the fitted layers aim at.
    """
    layers, theirs = _calls(slimmed), _calls(original)
    fitted = [path for path, layer in layers.items() if path in theirs and _fits(layer)]
    count = int(MOST_MACS / max(1, count_costs(original).macs * len(fitted)))
    most = min(MOST_SAMPLES, max(LEAST_SAMPLES, count))
    drawn = samples.take(np.sort(np.random.default_rng(seed).permutation(samples.count)[:most]))
    for path, layer in layers.items():
        if type(layer) is import_keras().layers.BatchNormalization and path in theirs and path in kept:
            layer.moving_mean.assign(theirs[path].moving_mean.numpy()[kept[path]])
            layer.moving_variance.assign(theirs[path].moving_variance.numpy()[kept[path]])
    for path in fitted:
        _fit(original, slimmed, path, theirs[path], layers[path], kept[path], drawn)


def _fit(original: Any, slimmed: Any, path: str, source: Any, layer: Any, kept: Ids, samples: Samples) -> None:
    """Solve for one layer's weights; it stays as it is where nothing has changed before it."""
    products: Array | float = 0.0
    aims: Array | float = 0.0
    for theirs, mine in zip(_arriving(original, path, samples), _arriving(slimmed, path, samples), strict=True):
        if theirs.shape == mine.shape and layer.kernel.shape == source.kernel.shape and np.array_equal(theirs, mine):
            return
        aim = _taps(source, theirs) @ _matrix(source)
        if not _is_depthwise(layer):
            aim = aim[..., kept]
        taps = _taps(layer, mine)
        if _is_depthwise(layer):
            aim = aim[kept]
        turned = np.swapaxes(taps, -1, -2)
        products, aims = products + turned @ taps, aims + turned @ aim
    known, size = _matrix(layer), np.shape(products)[-1]
    energy = np.trace(products, axis1=-2, axis2=-1)[..., None, None] / size
    ridge = (RIDGE * energy + np.finfo(np.float64).tiny) * np.eye(size)
    _set(layer, np.linalg.solve(products + ridge, aims + ridge @ known))


class _Arrived(Exception):
    """The walk has come to the layer."""


def _arriving(model: Any, path: str, samples: Samples) -> Iterator[Array]:
    """What flows into a layer, batch by batch."""
    keras, arrays = import_keras(), model_inputs(model, samples)
    came: list[Array] = []

    def apply(operation: Any, here: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if "/".join(here) == path:
            came.append(np.asarray(keras.tree.flatten((args, kwargs))[0], np.float32))
            raise _Arrived
        return operation(*args, **({**kwargs, "training": False} if "training" in kwargs else kwargs))

    for start in range(0, samples.count, BATCH):
        rows = [
            keras.ops.convert_to_tensor(values[start : start + BATCH], dtype=tensor.dtype)
            for values, tensor in zip(arrays, model.inputs, strict=True)
        ]
        try:
            walk(model, rows, apply)
        except _Arrived:
            yield came.pop()


def _calls(model: Any) -> dict[str, Any]:
    """The operations of a model that are called once, by path, in the order of the data."""
    calls: list[tuple[str, Any]] = []

    def apply(operation: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        calls.append(("/".join(path), operation))
        return operation.compute_output_spec(*args, **kwargs)

    walk(model, model.inputs, apply)
    times = Counter(path for path, _ in calls)
    return {path: operation for path, operation in calls if times[path] == 1}


def _is_depthwise(layer: Any) -> bool:
    return type(layer) is import_keras().layers.DepthwiseConv2D


def _fits(layer: Any) -> bool:
    layers = import_keras().layers
    if _is_depthwise(layer):
        return bool(layer.depth_multiplier == 1)
    if type(layer) not in (layers.Conv2D, layers.Dense) or getattr(layer, "groups", 1) > 1:
        return False
    return bool(np.prod(layer.kernel.shape[:-1]) <= MOST_TAPS)


def _taps(layer: Any, values: Array) -> Array:
    """What each kernel position sees: (rows, taps), for a depthwise kernel (channels, rows, taps); a last 1 for the bias."""
    if hasattr(layer, "kernel_size"):
        (height, width), steps, rates = layer.kernel_size, layer.strides, layer.dilation_rate
        values = np.asarray(
            import_tensorflow().image.extract_patches(
                values, [1, height, width, 1], [1, *steps, 1], [1, *rates, 1], layer.padding.upper()
            )
        )
    channels = layer.kernel.shape[-2] if _is_depthwise(layer) else 1
    rows: Array = values.reshape(-1, values.shape[-1]).astype(np.float64)
    if _is_depthwise(layer):
        rows = rows.reshape(len(rows), -1, channels).transpose(2, 0, 1)
    if layer.use_bias:
        rows = np.concatenate([rows, np.ones((*rows.shape[:-1], 1))], axis=-1)
    return rows


def _matrix(layer: Any) -> Array:
    """Kernel and bias as what ``_taps`` is multiplied with: (taps, outputs), depthwise (channels, taps, 1)."""
    kernel = layer.kernel.numpy().astype(np.float64)
    if _is_depthwise(layer):
        flat = kernel[..., 0].reshape(-1, kernel.shape[-2]).T[..., None]
        bias = layer.bias.numpy()[:, None, None] if layer.use_bias else None
    else:
        flat, bias = kernel.reshape(-1, kernel.shape[-1]), layer.bias.numpy()[None] if layer.use_bias else None
    return flat if bias is None else np.concatenate([flat, bias], axis=-2)


def _set(layer: Any, matrix: Array) -> None:
    """The inverse of ``_matrix``."""
    if layer.use_bias:
        layer.bias.assign(matrix[..., -1, :].reshape(-1))
        matrix = matrix[..., :-1, :]
    kernel = matrix[..., 0].T if _is_depthwise(layer) else matrix
    layer.kernel.assign(kernel.reshape(layer.kernel.shape))
