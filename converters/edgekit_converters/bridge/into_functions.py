"""Operations of keras.ops on symbolic tensors as TensorFlow functions in a tf_keras model."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._tf import import_keras, import_tensorflow, import_tf_keras
from ..errors import UnsupportedModelError
from ..reason import first_line
from . import activations
from .equivalents import ALIASES, BY_OPERATION
from .shapes import resolved

__all__ = ["into_tf_keras"]

# Operations that Keras also has as activation functions, of which TensorFlow has no single function.
ACTIVATIONS = {
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "TanhShrink": "tanh_shrink",
    "HardTanh": "hard_tanh",
}
# Their tensors share a dtype in TensorFlow; keras.ops promotes them.
PROMOTED = """
Add Arctan2 Divide DivideNoNan Equal FloorDivide Greater GreaterEqual Less LessEqual Maximum Minimum Mod Multiply NotEqual Power
Subtract Where Matmul Concatenate Stack Dot Einsum Tensordot
""".split()  # noqa: SIM905 - a line for twenty names


def into_tf_keras(operation: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What ``operation`` of Keras 3 gives for tf_keras tensors, as a TensorFlow function that is a layer called ``name``.

    Raises UnsupportedModelError, naming the operation, for one that has no counterpart here.
    """
    kind = ALIASES.get(type(operation).__name__, type(operation).__name__)
    tensors = [_plain(value) for value in inspect.signature(operation.call).bind(*args, **kwargs).arguments.values()]
    if kind in PROMOTED:
        tensors = _promoted(tensors, name)
    make = SPECIAL.get(kind) or (_activation if kind in ACTIVATIONS else _equivalent if kind in BY_OPERATION else None)
    if make is None:
        raise _no_counterpart(operation, kind, "")
    try:
        return make(operation, name, *tensors)
    except UnsupportedModelError:
        raise
    except Exception as error:  # whatever TensorFlow raises for what keras.ops takes
        raise _no_counterpart(operation, kind, f" as it is called here ({first_line(error)})") from error


def _activation(operation: Any, name: str, x: Any) -> Any:
    function = getattr(import_keras().activations, ACTIVATIONS[type(operation).__name__])
    return import_tf_keras().layers.Activation(activations.cross(function, "tf_keras", name), name=name)(x)


def _equivalent(operation: Any, name: str, *tensors: Any) -> Any:
    kind = type(operation).__name__
    equivalent = BY_OPERATION[ALIASES.get(kind, kind)]
    options = {theirs: _option(getattr(operation, ours)) for ours, theirs in equivalent.options.items()}
    return _call(name, equivalent.symbol, *tensors, **options)


def _no_counterpart(operation: Any, kind: str, why: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"the operation {operation.name!r} (keras.ops, {kind}) has no counterpart in tf_keras{why}. Write it with others (add, "
        "multiply, mean, reshape, concatenate, matmul, relu and the like have one), or leave this technique out for this model"
    )


def _call(name: str, symbol: str, *args: Any, **kwargs: Any) -> Any:
    """A TensorFlow function on symbolic tensors, as the layer that tf_keras would make of it, but with our name."""
    function: Any = import_tensorflow()
    for part in symbol.split("."):
        function = getattr(function, part)
    return import_tf_keras().src.layers.core.tf_op_layer.TFOpLambda(function, name=name)(*args, **kwargs)


def _plain(value: Any) -> Any:
    """Keras' and TensorFlow's constants as numpy arrays, also inside a list."""
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    symbolic = isinstance(value, import_tf_keras().src.engine.keras_tensor.KerasTensor)
    return np.asarray(value) if hasattr(value, "numpy") and not symbolic else value


def _option(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else list(value) if isinstance(value, tuple) else value


def _dtype(value: Any) -> str | None:
    return import_tensorflow().dtypes.as_dtype(value.dtype).name if hasattr(value, "dtype") else None


def _promoted(values: Sequence[Any], name: str) -> list[Any]:
    """The tensors, also those in a list, cast to the dtype that keras.ops computes in; plain numbers stay."""
    flat = [item for value in values for item in (value if isinstance(value, (list, tuple)) else [value])]
    kinds = {kind for kind in map(_dtype, flat) if kind not in (None, "bool")}
    if any(type(item) is float for item in flat):
        kinds.add("float32")
    if not kinds:
        return list(values)
    common = import_keras().backend.result_type(*sorted(kinds))

    casts = (f"{name}.cast{number or ''}" for number in itertools.count())

    def cast(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [cast(item) for item in value]
        if type(value) is int and "float" in common:
            return float(value)
        if _dtype(value) in (None, "bool", common):
            return value
        return value.astype(common) if isinstance(value, np.ndarray) else _call(next(casts), "cast", value, common)

    return [cast(value) for value in values]


def _get_item(operation: Any, name: str, x: Any, key: Any) -> Any:
    """Slices travel as dicts: that is how tf_keras keeps them."""
    layers, tf = import_tf_keras().src.layers.core.tf_op_layer, import_tensorflow()
    return layers.SlicingOpLambda(tf.__operators__.getitem, name=name)(
        x, tf.nest.map_structure(layers._slice_to_dict, key)
    )


def _reshape(operation: Any, name: str, x: Any) -> Any:
    shape = resolved(operation.newshape, x.shape)
    if shape is None:
        raise _no_counterpart(operation, "Reshape", f": its shape {operation.newshape} has more than one unknown size")
    return _call(name, "reshape", x, shape)


def _cast(operation: Any, name: str, x: Any) -> Any:
    """Floats of any width are float32: so the whole model computes."""
    dtype = import_tensorflow().dtypes.as_dtype(operation.dtype)
    return _call(name, "cast", x, "float32" if dtype.is_floating else dtype.name)


def _matmul(operation: Any, name: str, left: Any, right: Any) -> Any:
    if min(len(left.shape), len(right.shape)) < 2:
        raise _no_counterpart(operation, "Matmul", " for vectors")
    return _call(name, "linalg.matmul", left, right)


def _dot(operation: Any, name: str, left: Any, right: Any) -> Any:
    axes = [[len(left.shape) - 1], [max(len(right.shape) - 2, 0)]]
    return _call(name, "tensordot", left, right, axes)


def _split(operation: Any, name: str, x: Any) -> Any:
    """keras.ops takes a number of parts, or where to cut; TensorFlow a number of parts, or their sizes."""
    cuts, axis = operation.indices_or_sections, operation.axis
    if not isinstance(cuts, int):
        edges = [0, *(int(cut) for cut in cuts), x.shape[axis]]
        cuts = [after - before for before, after in itertools.pairwise(edges)]
    return _call(name, "split", x, cuts, axis)


def _moved(operation: Any, name: str, x: Any) -> Any:
    """Swapaxes and Moveaxis are transpositions."""
    rank = len(x.shape)
    axes = np.arange(rank)
    if hasattr(operation, "axis1"):
        axes[[operation.axis1, operation.axis2]] = axes[[operation.axis2, operation.axis1]]
    else:
        shape = np.moveaxis(np.empty(range(1, rank + 1)), operation.source, operation.destination).shape
        axes = np.asarray(shape) - 1
    return _call(name, "transpose", x, axes.tolist())


def _pad(operation: Any, name: str, x: Any, value: Any = None) -> Any:
    modes = {"constant": "CONSTANT", "reflect": "REFLECT", "symmetric": "SYMMETRIC"}
    if operation.mode not in modes:
        raise _no_counterpart(operation, "Pad", f" with mode {operation.mode!r}")
    width = np.broadcast_to(np.asarray(operation.pad_width), (len(x.shape), 2)).tolist()
    return _call(name, "pad", x, width, mode=modes[operation.mode], constant_values=0 if value is None else value)


def _arg(operation: Any, name: str, x: Any) -> Any:
    if operation.keepdims or operation.axis is None:
        raise _no_counterpart(operation, type(operation).__name__, " without an axis, or with keepdims")
    symbol = f"math.{type(operation).__name__.lower()}"
    return _call(name, symbol, x, axis=operation.axis, output_type=import_tensorflow().int32)


def _one_hot(operation: Any, name: str, x: Any) -> Any:
    axis, dtype = operation.axis, import_tensorflow().dtypes.as_dtype(operation.dtype or "float32")
    return _call(
        name, "one_hot", x, operation.num_classes, axis=axis, dtype="float32" if dtype.is_floating else dtype.name
    )


def _elu(operation: Any, name: str, x: Any) -> Any:
    return import_tf_keras().layers.ELU(operation.alpha, name=name)(x)


def _resize(operation: Any, name: str, x: Any) -> Any:
    plain = not (operation.antialias or operation.crop_to_aspect_ratio or operation.pad_to_aspect_ratio)
    if not plain or operation.data_format == "channels_first":
        raise _no_counterpart(operation, "Resize", " with antialiasing, a kept aspect ratio, or channels first")
    return _call(name, "image.resize", x, list(operation.size), method=operation.interpolation)


def _blocks(operation: Any, name: str, x: Any) -> Any:
    symbol = "nn.depth_to_space" if type(operation).__name__ == "DepthToSpace" else "nn.space_to_depth"
    return _call(name, symbol, x, operation.block_size)


def _take(operation: Any, name: str, x: Any, indices: Any) -> Any:
    return _call(
        name, "gather", x, np.asarray(indices) if isinstance(indices, (int, list)) else indices, axis=operation.axis
    )


def _pooled(operation: Any, name: str, x: Any) -> Any:
    symbol = "nn.max_pool" if type(operation).__name__ == "MaxPool" else "nn.avg_pool"
    size, strides = operation.pool_size, operation.strides or operation.pool_size
    return _call(name, symbol, x, ksize=size, strides=strides, padding=operation.padding.upper())


def _normalize(operation: Any, name: str, x: Any) -> Any:
    if operation.order != 2:
        raise _no_counterpart(operation, "Normalize", f" for the order {operation.order}")
    epsilon = operation.epsilon or import_keras().config.epsilon()
    return _call(name, "math.l2_normalize", x, axis=operation.axis, epsilon=epsilon**2)


def _flip(operation: Any, name: str, x: Any) -> Any:
    axes = range(len(x.shape)) if operation.axis is None else np.ravel(operation.axis).tolist()
    return _call(name, "reverse", x, list(axes))


def _tile(operation: Any, name: str, x: Any) -> Any:
    repeats = np.ravel(operation.repeats).tolist()
    if len(repeats) > len(x.shape):
        raise _no_counterpart(operation, "Tile", " to a higher rank")
    return _call(name, "tile", x, [1] * (len(x.shape) - len(repeats)) + repeats)


def _expand(operation: Any, name: str, x: Any) -> Any:
    axes = np.ravel(operation.axis).tolist()
    if len(axes) != 1:
        raise _no_counterpart(operation, "ExpandDims", " for more than one axis")
    return _call(name, "expand_dims", x, axes[0])


def _round(operation: Any, name: str, x: Any) -> Any:
    if operation.decimals:
        raise _no_counterpart(operation, "Round", " to decimals")
    return _call(name, "math.round", x)


Special = Callable[..., Any]
SPECIAL: Mapping[str, Special] = {
    "Argmax": _arg,
    "Argmin": _arg,
    "AveragePool": _pooled,
    "Cast": _cast,
    "DepthToSpace": _blocks,
    "Dot": _dot,
    "Einsum": lambda operation, name, *operands: _call(name, "einsum", operation.subscripts, *operands[0]),
    "Elu": _elu,
    "ExpandDims": _expand,
    "Flip": _flip,
    "GetItem": _get_item,
    "Matmul": _matmul,
    "MaxPool": _pooled,
    "Moveaxis": _moved,
    "Normalize": _normalize,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Ravel": lambda operation, name, x: _call(name, "reshape", x, [-1]),
    "Reshape": _reshape,
    "Resize": _resize,
    "Round": _round,
    "SpaceToDepth": _blocks,
    "Split": _split,
    "Swapaxes": _moved,
    "Take": _take,
    "Tensordot": lambda operation, name, left, right: _call(name, "tensordot", left, right, operation.axes),
    "Tile": _tile,
}
