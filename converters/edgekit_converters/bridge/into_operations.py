"""TensorFlow functions on symbolic tensors of tf_keras as operations of keras.ops in a Keras 3 model."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._tf import import_keras, import_tensorflow
from ..errors import UnsupportedModelError
from ..reason import first_line
from .equivalents import ALIASES, BY_SYMBOL
from .shapes import Sizes, resolved

__all__ = ["into_keras"]

# What no operation of Keras 3 asks for, where TensorFlow's function has it at its default.
IDLE = (None, False, 0, "NHWC", "NDHWC", "NWC")


def into_keras(layer: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What ``layer``, a TensorFlow function in a tf_keras model, gives for Keras 3 tensors: an operation called ``name``.

    Raises UnsupportedModelError, naming the function, for one that has no counterpart here.
    """
    plain = _symbol(layer)
    make = SPECIAL.get(plain) or (_equivalent if plain in BY_SYMBOL else None)
    if make is None:
        raise no_counterpart(layer)
    try:
        result = make(layer, _arguments(layer, args, kwargs))
    except UnsupportedModelError:
        raise
    except Exception as error:  # whatever keras.ops raises for what TensorFlow takes
        raise no_counterpart(layer, f" as it is called here ({first_line(error)})") from error
    _rename(result, name, import_tensorflow().nest.flatten((args, kwargs)))
    return result


def _symbol(layer: Any) -> str:
    """The name of the function in tf, one of those it has."""
    symbol = str(getattr(layer, "symbol", None) or type(layer).__name__)
    plain = symbol.removeprefix("compat.v1.").removeprefix("raw_ops.")
    return ALIASES.get(plain, plain)


def no_counterpart(layer: Any, why: str = "") -> UnsupportedModelError:
    """The error for a TensorFlow function that keras.ops lacks, or has in another form (``why``)."""
    symbol = getattr(layer, "symbol", None) or type(layer).__name__
    return UnsupportedModelError(
        f"the operation {layer.name!r} (tf.{symbol}) has no counterpart in keras.ops{why}. Write it with others "
        "(tf.math.add, multiply, reduce_mean, reshape, concat, matmul, nn.relu and the like have one), or leave this technique "
        "out for this model"
    )


def _arguments(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by the names TensorFlow has for them, constants as numpy arrays."""
    bound = inspect.signature(layer.function).bind(*args, **kwargs).arguments
    return {key: _plain(value) for key, value in bound.items() if key != "name"}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    symbolic = isinstance(value, import_keras().KerasTensor)
    return np.asarray(value) if hasattr(value, "numpy") and not symbolic else value


def _rename(result: Any, name: str, given: Sequence[Any]) -> None:
    """Call the operation that made ``result`` ``name``; what only passes a tensor on makes none."""
    first = result[0] if isinstance(result, (list, tuple)) else result
    if isinstance(first, import_keras().KerasTensor) and all(first is not item for item in given):
        first._keras_history.operation.name = name


def _equivalent(layer: Any, given: dict[str, Any]) -> Any:
    equivalent = BY_SYMBOL[_symbol(layer)]
    options = {ours: given.pop(theirs) for ours, theirs in equivalent.options.items() if theirs in given}
    parameters = list(inspect.signature(layer.function).parameters)
    tensors = [given.pop(key) for key in parameters if key in given and _is_tensor(given[key], key)]
    left = {key: value for key, value in given.items() if not _idle(value)}
    if left:
        raise no_counterpart(layer, f" with {', '.join(f'{key}={value!r}' for key, value in left.items())}")
    function = getattr(import_keras().ops, equivalent.function)
    return function(*map(_array, tensors), **{key: _option(value) for key, value in options.items()})


def _idle(value: Any) -> bool:
    return isinstance(value, (str, bool, int, type(None))) and value in IDLE


def _is_tensor(value: Any, key: str) -> bool:
    """Whether an argument is one of the function's operands: a tensor, a list of them, or a plain number."""
    return key not in NO_OPERANDS and not isinstance(value, (bool, str, type(None)))


# Options of TensorFlow's functions that no equivalent names.
NO_OPERANDS = ("batch_dims", "exclusive", "reverse", "validate_indices", "output_type", "dtype", "layout", "is_strict")


def _array(value: Any) -> Any:
    """Lists of numbers, as a model file keeps constants, as arrays; keras.ops would not see their shape."""
    if isinstance(value, (list, tuple)) and not _symbolic(value):
        array = np.asarray(value)
        return array.astype(np.float32) if array.dtype == np.float64 else array
    return value


def _symbolic(value: Any) -> bool:
    return any(isinstance(item, import_keras().KerasTensor) for item in import_tensorflow().nest.flatten(value))


def _option(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return tuple(value) if isinstance(value, list) else value


def _ops() -> Any:
    return import_keras().ops


def _get_item(layer: Any, given: dict[str, Any]) -> Any:
    x, key = given["tensor"], given["slice_spec"]

    def back(item: Any) -> Any:
        return slice(item["start"], item["stop"], item["step"]) if isinstance(item, dict) else item

    if isinstance(x, Sizes):
        picked = x.sizes[back(key[0] if isinstance(key, list) else key)]
        return Sizes(picked) if isinstance(picked, tuple) else picked
    return x[tuple(map(back, key)) if isinstance(key, list) else back(key)]


def _reshape(layer: Any, given: dict[str, Any]) -> Any:
    wanted = given["shape"]
    wanted = wanted.sizes if isinstance(wanted, Sizes) else wanted
    shape = None if _symbolic(wanted) else resolved(np.ravel(wanted).tolist(), given["tensor"].shape)
    if shape is None:
        raise no_counterpart(layer, ": its shape is computed in the graph; give numbers, and -1 for the batch")
    return _ops().reshape(given["tensor"], tuple(shape))


def _sizes(layer: Any, given: dict[str, Any]) -> Sizes:
    return Sizes(tuple(-1 if size is None else size for size in given["input"].shape))


def _cast(layer: Any, given: dict[str, Any]) -> Any:
    dtype = import_tensorflow().dtypes.as_dtype(given["dtype"])
    return _ops().cast(given["x"], "float32" if dtype.is_floating else dtype.name)


def _matmul(layer: Any, given: dict[str, Any]) -> Any:
    left, right = given["a"], given["b"]

    def turned(x: Any, flag: str) -> Any:
        return _ops().swapaxes(x, -1, -2) if given.get(flag) else x

    return _ops().matmul(turned(left, "transpose_a"), turned(right, "transpose_b"))


def _split(layer: Any, given: dict[str, Any]) -> Any:
    sizes, axis = given["num_or_size_splits"], given.get("axis", 0)
    if isinstance(sizes, (list, np.ndarray)):
        sizes = np.cumsum(sizes)[:-1].tolist()
    return _ops().split(given["value"], sizes, axis=axis)


def _pad(layer: Any, given: dict[str, Any]) -> Any:
    mode = str(given.get("mode", "CONSTANT")).lower()
    value = given.get("constant_values", 0) if mode == "constant" else None
    return _ops().pad(given["tensor"], np.asarray(given["paddings"]).tolist(), mode=mode, constant_values=value)


def _arg(function: str) -> Callable[[Any, dict[str, Any]], Any]:
    def make(layer: Any, given: dict[str, Any]) -> Any:
        axis = given.get("axis", given.get("dimension"))
        return getattr(_ops(), function)(given["input"], axis=0 if axis is None else axis)

    return make


def _sum_all(layer: Any, given: dict[str, Any]) -> Any:
    values = given["inputs"]
    total = values[0]
    for value in values[1:]:
        total = _ops().add(total, value)
    return total


def _one_hot(layer: Any, given: dict[str, Any]) -> Any:
    if any(given.get(key) not in (None, 0, 1) for key in ("on_value", "off_value")):
        raise no_counterpart(layer, " with values of its own")
    axis = given.get("axis")
    return _ops().one_hot(given["indices"], given["depth"], axis=-1 if axis is None else axis)


def _resize(layer: Any, given: dict[str, Any]) -> Any:
    if given.get("antialias") or given.get("preserve_aspect_ratio"):
        raise no_counterpart(layer, " with antialiasing or a kept aspect ratio")
    size = tuple(np.ravel(given["size"]).tolist())
    method = given.get("method", "bilinear")
    return _ops().image.resize(given["images"], size, interpolation=method, data_format="channels_last")


def _pooled(function: str) -> Callable[[Any, dict[str, Any]], Any]:
    def make(layer: Any, given: dict[str, Any]) -> Any:
        size, strides = (_window(layer, given[key]) for key in ("ksize", "strides"))
        return getattr(_ops(), function)(
            given["input"], size, strides, str(given["padding"]).lower(), data_format="channels_last"
        )

    return make


def _window(layer: Any, value: Any) -> int | tuple[int, ...]:
    """TensorFlow also takes a size for every axis: those of batch and channels must be 1."""
    sizes = np.ravel(value).tolist()
    return sizes[0] if len(sizes) == 1 else tuple(sizes[1:-1] if len(sizes) > 3 else sizes)


def _normalize(layer: Any, given: dict[str, Any]) -> Any:
    epsilon = float(given.get("epsilon", 1e-12)) ** 0.5
    return _ops().normalize(given["x"], axis=_option(given.get("axis")), order=2, epsilon=epsilon)


def _bias(layer: Any, given: dict[str, Any]) -> Any:
    if given.get("data_format") not in (None, "NHWC"):
        raise no_counterpart(layer, " with channels first")
    return _ops().add(given["value"], _array(given["bias"]))


def _elu(layer: Any, given: dict[str, Any]) -> Any:
    return _ops().elu(given["features"], alpha=given.get("alpha", 1.0))


def _tensordot(layer: Any, given: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras compares sizes that are None with a number
        return _ops().tensordot(given["a"], given["b"], axes=given["axes"])


def _einsum(layer: Any, given: dict[str, Any]) -> Any:
    return _ops().einsum(given["equation"], *given["inputs"])


def _gather(layer: Any, given: dict[str, Any]) -> Any:
    if given.get("batch_dims"):
        raise no_counterpart(layer, " with batch_dims")
    return _ops().take(given["params"], _array(given["indices"]), axis=given.get("axis") or 0)


def _squeeze(layer: Any, given: dict[str, Any]) -> Any:
    axis = given.get("axis", given.get("squeeze_dims"))
    return _ops().squeeze(given["input"], axis=_option(axis))


Special = Callable[[Any, dict[str, Any]], Any]
SPECIAL: Mapping[str, Special] = {
    "__operators__.getitem": _get_item,
    "cast": _cast,
    "einsum": _einsum,
    "gather": _gather,
    "image.resize": _resize,
    "linalg.matmul": _matmul,
    "math.add_n": _sum_all,
    "math.argmax": _arg("argmax"),
    "math.argmin": _arg("argmin"),
    "math.l2_normalize": _normalize,
    "math.round": lambda layer, given: _ops().round(given["x"]),
    "nn.avg_pool": _pooled("average_pool"),
    "nn.avg_pool2d": _pooled("average_pool"),
    "nn.bias_add": _bias,
    "nn.depth_to_space": lambda layer, given: _ops().depth_to_space(given["input"], given["block_size"]),
    "nn.elu": _elu,
    "nn.max_pool": _pooled("max_pool"),
    "nn.max_pool2d": _pooled("max_pool"),
    "nn.space_to_depth": lambda layer, given: _ops().space_to_depth(given["input"], given["block_size"]),
    "one_hot": _one_hot,
    "pad": _pad,
    "reshape": _reshape,
    "shape": _sizes,
    "split": _split,
    "squeeze": _squeeze,
    "tensordot": _tensordot,
}
