"""What a Keras user can type so that an operator maps to the Edge TPU: one sentence for each cause, about the operator at hand.

A remedy names only what exists, and the tests convert a model with the problem and one without it. That the compiler then maps
it nobody can check without the compiler: what is known of it is in the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from ..operators import Operator, OperatorGraph
from .limits import LIMITS
from .op_table import SUPPORTED
from .substitutes import Remedy, fixed_shape, given_shape, made_shape, substitute_for
from .wiring import consumers, producer, run_start

__all__ = ["WITHOUT_REMEDY", "remedy_for"]

CONVERT = "edgekit convert MODEL --data DATA --target coral --out RUN"
_POINTWISE = frozenset(("ADD", "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "QUANTIZE", "RELU", "RELU6", "SUB", "TANH"))

# Causes nothing is known to help against, and why.
WITHOUT_REMEDY: Mapping[str, str] = {
    "custom": "a custom operator is a program of its own; one that ends a detector belongs on the processor",
    "weights-computed": "a product of two computed tensors (attention) is not what the Edge TPU multiplies",
    "later-subgraph": "what breaks the chain before it has the remedy",
}


def remedy_for(cause: str, operator: Operator, graph: OperatorGraph) -> str:
    """What to change so that ``operator`` of ``graph`` maps, given the rule it breaks (its name in the table of rules).

    One sentence with the numbers of this operator; empty where no honest remedy is known, and for a cause it does not know.
    """
    remedy = _BY_CAUSE.get(cause)
    return remedy(operator, graph) if remedy is not None else ""


def _float(operator: Operator, graph: OperatorGraph) -> str:
    """For an end of the model, an island in an int8 model, or a model that never was quantized."""
    at_end = _at_end(operator, graph)
    if at_end:
        return at_end
    if any(tensor.dtype in ("int8", "uint8") for tensor in graph.card.tensors if not tensor.constant):
        leave = f"quantize it too: {CONVERT} --recipe int8" if operator.type in SUPPORTED else ""
        return substitute_for(operator, graph) or leave
    return f"quantize the model: {CONVERT}"


def _at_end(operator: Operator, graph: OperatorGraph) -> str:
    """What takes away the conversion at a float end of the model."""
    inputs = {tensor.index for tensor in graph.card.inputs}
    outputs = {tensor.index for tensor in graph.card.outputs}
    if operator.type == "QUANTIZE" and any(tensor.index in inputs for tensor in operator.computed_inputs):
        return f"give the model int8 inputs: {CONVERT} --input-type int8"
    if operator.type == "DEQUANTIZE" and any(tensor.index in outputs for tensor in operator.operands):
        return f"give the model int8 outputs: {CONVERT} --output-type int8"
    return ""


def _dtype(operator: Operator, graph: OperatorGraph) -> str:
    at_end = _at_end(operator, graph)
    if at_end:
        return at_end
    if any(tensor.dtype == "int16" and tensor.scales for tensor in operator.operands):
        return f"quantize to 8 bits: {CONVERT} --recipe int8"
    if any(other.type == "GATHER" for other in graph.operators):
        gathers = (other for other in graph.operators if other.type == "GATHER")
        return next((text for text in (substitute_for(other, graph) for other in gathers) if text), "")
    return substitute_for(operator, graph)


def _version(operator: Operator, graph: OperatorGraph) -> str:
    if operator.type == "TRANSPOSE_CONV":
        return f"convert again from Keras: {CONVERT} takes out the fused activation, which int8 does not need"
    if operator.type == "TRANSPOSE":
        return _transpose(operator)
    return _grouped(operator, graph) if operator.type == "CONV_2D" else substitute_for(operator, graph)


def _batch(operator: Operator, graph: OperatorGraph) -> str:
    if any(tensor.shape[:1] != (1,) for tensor in graph.card.inputs):
        return f"convert with one row: {CONVERT}"
    return _one_at_a_time(operator, graph)


def _rank(operator: Operator, graph: OperatorGraph) -> str:
    if operator.type == "TRANSPOSE":
        return _transpose(operator)
    if operator.type == "RESHAPE":
        beside = (producer(operator.inputs[0], graph), *consumers(operator.outputs[0], graph))
        found = next((_transpose(op) for op in beside if op is not None and op.type == "TRANSPOSE"), "")
        return found or _one_at_a_time(operator, graph)
    if any(other.type == "RSQRT" for other in graph.operators):
        return "layers.LayerNormalization() or layers.BatchNormalization() instead of layers.GroupNormalization, and train again"
    shape = made_shape(operator)
    if operator.type not in _POINTWISE or len(shape) < 4 or any(other.type == "CONV_3D" for other in graph.operators):
        return _one_at_a_time(operator, graph)
    return f"fold {'×'.join(map(str, shape[1:]))} with layers.Reshape({(prod(shape[1:-1]), shape[-1])}) before it"


def _one_at_a_time(operator: Operator, graph: OperatorGraph) -> str:
    """For several pictures in one input."""
    start = run_start(operator, graph, ("RESHAPE",))
    given = next((t for t in graph.card.inputs if any(t.index == read.index for read in start.computed_inputs)), None)
    if given is None or len(given.shape) != 5:
        return ""
    count, one = given.shape[1], tuple(given.shape[2:])
    return f"keras.Input({one}), and run the model on each of the {count} instead of layers.TimeDistributed"


def _transpose(operator: Operator) -> str:
    """Leading axes that stay where they are folded into one."""
    order, shape = operator.constants.get(1), given_shape(operator)
    if order is None or len(order) != len(shape) or not shape or shape[0] != 1:
        return ""
    kept = next((place for place, axis in enumerate(order) if place != axis), 0)
    if kept < 2 or len(shape) - kept > 2:
        if len(shape) == 6:
            return (
                "layers.Conv2DTranspose, or layers.Resizing and layers.Conv2D, instead of moving channels into pixels (pixel "
                "shuffle), and train again"
            )
        return ""
    folded = (prod(shape[1:kept]), *shape[kept:])
    axes = (1, *(int(axis) - kept + 2 for axis in order[kept:]))
    return f"fold before permuting: layers.Reshape({folded}), layers.Permute({axes}), and the same layers.Reshape behind it"


def _activation(operator: Operator, graph: OperatorGraph) -> str:
    if operator.type == "CONCATENATION":
        return "put the activation before layers.Concatenate, in its branches: the same values"
    if operator.type == "MAX_POOL_2D":
        return "put the activation before layers.MaxPooling2D, not behind it: the same values"
    return "put the activation before layers.AveragePooling2D, not behind it, and fine-tune"


def _dilation(operator: Operator, graph: OperatorGraph) -> str:
    height, width = (int(operator.options.get(f"Dilation{axis}Factor", 1)) for axis in "HW")
    both = max(height, width)
    return f"dilation_rate=({both}, {both}) instead of ({height}, {width}), and train again"


def _grouped(operator: Operator, graph: OperatorGraph) -> str:
    kernel, given = operator.inputs[1], operator.inputs[0]
    if kernel is None or given is None or len(kernel.shape) != 4 or not 0 < kernel.shape[3] < given.shape[-1]:
        return ""
    groups, filters = given.shape[-1] // kernel.shape[3], kernel.shape[0]
    if kernel.shape[3] == 1 and filters == groups:
        size = kernel.shape[1:3]
        return f"layers.DepthwiseConv2D({size}) instead of layers.Conv2D({filters}, {size}, groups={groups}): the same function"
    return (
        f"keras.ops.split(x, {groups}, axis=-1), a layers.Conv2D({filters // groups}, …) for each part and layers.Concatenate() "
        f"instead of layers.Conv2D({filters}, …, groups={groups}): the same function"
    )


def _transpose_size(operator: Operator, graph: OperatorGraph) -> str:
    sizes = "×".join(map(str, made_shape(operator)[1:]))
    return f"layers.Permute where the tensor is smaller than {sizes}, or numpy.transpose outside of the model"


def _resize_size(operator: Operator, graph: OperatorGraph) -> str:
    given, made = given_shape(operator), made_shape(operator)
    if len(given) != 4 or len(made) != 4:
        return ""
    if given[1:3] == (1, 1):
        return (
            "let layers.Add broadcast the 1×1 branch, with a layers.Conv2D on each side of it, instead of "
            f"layers.Resizing({made[1]}, {made[2]}) and layers.Concatenate"
        )
    return f"layers.Resizing to fewer than {made[1]}×{made[2]} pixels, or end the model before it and resize its answer"


def _reshape_size(operator: Operator, graph: OperatorGraph) -> str:
    return "end the model before layers.Reshape, and numpy.reshape its answer: the values stay where they are"


def _mean_axes(operator: Operator, graph: OperatorGraph) -> str:
    shape = given_shape(operator)
    if len(shape) != 4:
        return ""
    if operator.type in ("REDUCE_MAX", "REDUCE_MIN"):
        return (
            ""
            if operator.type == "REDUCE_MIN"
            else f"layers.MaxPooling2D({shape[1:3]}) instead of layers.GlobalMaxPooling2D()"
        )
    pool = _even_pool(shape[1], shape[2])
    if pool is None or operator.type != "MEAN":
        return ""
    return f"layers.AveragePooling2D({pool}) before layers.GlobalAveragePooling2D(): the same mean over {shape[1]}×{shape[2]}"


def _even_pool(height: int, width: int) -> tuple[int, int] | None:
    """The smallest window that divides both sides evenly and leaves a mean as small as one seen to map; None without one."""
    most = LIMITS["mean-window"].largest_mapped
    windows = [(y, x) for y in range(1, height + 1) for x in range(1, width + 1) if height % y == width % x == 0]
    left = [(y * x, abs(y - x), (y, x)) for y, x in windows if height * width // (y * x) <= most]
    return min(left)[2] if left and min(left)[0] > 1 else None


def _softmax_size(operator: Operator, graph: OperatorGraph) -> str:
    return f"end the model before the softmax over {made_shape(operator)[-1]}, and take it of its answer with numpy"


def _alpha(operator: Operator, graph: OperatorGraph) -> str:
    shared = list(range(1, len(made_shape(operator)) - 1))
    return f"layers.PReLU(shared_axes={shared}): one slope for each channel"


def _slice_strides(operator: Operator, graph: OperatorGraph) -> str:
    strides, shape = operator.constants.get(3), given_shape(operator)
    if strides is None or len(strides) != 4 or len(shape) != 4 or min(strides) < 1:
        return ""
    if strides[3] == 1:
        height, width = (int(stride) for stride in strides[1:3])
        return f"layers.MaxPooling2D(1, strides=({height}, {width})) instead of x[:, ::{height}, ::{width}]: the same values"
    return (
        f"a layers.Conv2D({made_shape(operator)[-1]}, 1) that picks the channels instead of x[..., ::{int(strides[3])}]"
    )


def _concatenation(operator: Operator, graph: OperatorGraph) -> str:
    return "keras.ops.pad or layers.ZeroPadding2D with zeros instead of joining constants with layers.Concatenate"


def _large_tensor(operator: Operator, graph: OperatorGraph) -> str:
    shape = made_shape(operator)
    if operator.type != "TRANSPOSE_CONV" or len(shape) != 4:
        return ""
    return (
        f"layers.Resizing({shape[1]}, {shape[2]}, interpolation='nearest') and layers.Conv2D, or fewer filters than {shape[3]}, "
        "instead of layers.Conv2DTranspose, and train again"
    )


_BY_CAUSE: Mapping[str, Remedy] = {
    "activation": _activation,
    "alpha": _alpha,
    "batch": _batch,
    "concatenation": _concatenation,
    "dilation": _dilation,
    "dtype": _dtype,
    "dynamic-shape": fixed_shape,
    "float": _float,
    "grouped-conv": _grouped,
    "large-tensor": _large_tensor,
    "mean-axes": _mean_axes,
    "operator": substitute_for,
    "rank": _rank,
    "reshape-size": _reshape_size,
    "resize-size": _resize_size,
    "slice-strides": _slice_strides,
    "softmax-size": _softmax_size,
    "split-batch": _batch,
    "transpose-size": _transpose_size,
    "version": _version,
    "weights-format": lambda operator, graph: f"convert again from Keras: {CONVERT}",
}
