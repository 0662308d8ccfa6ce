"""What a Keras user can type so that an operator maps to the Edge TPU: one sentence for each cause, about the operator at hand.

A remedy names only what exists, and a test converts the model it is for before and after. That the compiler itself then
takes it nobody can check without the compiler: what is known of it is in the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from ..operators import Operator, OperatorGraph

__all__ = ["remedy_for"]

Remedy = Callable[[Operator, OperatorGraph], str]
MOST_MEAN_ELEMENTS = 7 * 7


def remedy_for(cause: str, operator: Operator, graph: OperatorGraph) -> str:
    """What to change so that ``operator`` of ``graph`` maps, given the rule it breaks (its name in the table of rules).

    One sentence with the numbers of this operator; empty where no honest remedy is known, and for a cause it does not know.
    """
    remedy = _BY_CAUSE.get(cause)
    return remedy(operator, graph) if remedy is not None else ""


def _float(operator: Operator, graph: OperatorGraph) -> str:
    """A float operator: a boundary, an island in an int8 model, or a model that never was quantized."""
    boundary = _boundary(operator, graph)
    if boundary:
        return boundary
    if not any(tensor.dtype in ("int8", "uint8") for tensor in graph.card.tensors if not tensor.constant):
        return (
            "quantize the model: edgekit convert MODEL --data DATA --recipe int8 --input-type int8 --output-type int8"
        )
    return _operator(operator, graph)


def _boundary(operator: Operator, graph: OperatorGraph) -> str:
    """What takes away the conversion at the model's float ends."""
    inputs = {tensor.index for tensor in graph.card.inputs}
    outputs = {tensor.index for tensor in graph.card.outputs}
    if operator.type == "QUANTIZE" and any(tensor.index in inputs for tensor in operator.computed_inputs):
        return "give the model int8 inputs: edgekit convert MODEL --recipe int8 --input-type int8"
    if operator.type == "DEQUANTIZE" and any(tensor.index in outputs for tensor in operator.operands):
        return "give the model int8 outputs: edgekit convert MODEL --recipe int8 --output-type int8"
    return ""


def _dtype(operator: Operator, graph: OperatorGraph) -> str:
    boundary = _boundary(operator, graph)
    if boundary:
        return boundary
    if operator.type in ("ARG_MAX", "ARG_MIN", "TOPK_V2", "CAST"):
        return _operator(operator, graph)
    if any(tensor.dtype in ("int16", "int64") and tensor.scales for tensor in operator.operands):
        return (
            "quantize to 8 bits: edgekit convert MODEL --data DATA --recipe int8 --input-type int8 --output-type int8"
        )
    return _operator(operator, graph)


def _operator(operator: Operator, graph: OperatorGraph) -> str:
    remedy = _BY_TYPE.get(operator.type)
    return remedy(operator, graph) if remedy is not None else ""


def _version(operator: Operator, graph: OperatorGraph) -> str:
    if operator.type == "CONV_2D":
        return _grouped(operator, graph)
    if operator.type == "TRANSPOSE_CONV":
        return "put the activation of this Conv2DTranspose behind a BatchNormalization or a Conv2D of its own, so that it is not fused"
    return _operator(operator, graph)


def _dynamic_shape(operator: Operator, graph: OperatorGraph) -> str:
    return "fix the batch: keras.Input(shape=…, batch_size=1), or edgekit convert MODEL --batch 1"


def _batch(operator: Operator, graph: OperatorGraph) -> str:
    return "convert with one row: edgekit convert MODEL --batch 1"


def _rank(operator: Operator, graph: OperatorGraph) -> str:
    """Leading dimensions folded into the third from the end."""
    shape = next((tensor.shape for tensor in operator.operands if sum(size > 1 for size in tensor.shape[:-3])), ())
    if not shape:
        return ""
    folded = (prod(shape[:-2]), *shape[-2:])
    sizes = "×".join(map(str, shape))
    return f"only the last three dimensions may be larger than 1, got {sizes}: fold them with layers.Reshape({folded}) before it"


def _activation(operator: Operator, graph: OperatorGraph) -> str:
    if operator.type == "CONCATENATION":
        return "activate the branches before layers.Concatenate, not its result: the answer is the same"
    if operator.type == "MAX_POOL_2D":
        return "put the activation before layers.MaxPooling2D, not behind it: the answer is the same"
    if operator.type == "AVERAGE_POOL_2D":
        return "put the activation before layers.AveragePooling2D, not behind it, and fine-tune"
    return ""


def _dilation(operator: Operator, graph: OperatorGraph) -> str:
    height, width = (operator.options.get(f"Dilation{axis}Factor", 1) for axis in "HW")
    both = max(int(height), int(width))
    return f"dilate both ways alike: dilation_rate=({both}, {both}) instead of ({height}, {width})"


def _grouped(operator: Operator, graph: OperatorGraph) -> str:
    kernel, given = operator.inputs[1], operator.inputs[0]
    if kernel is None or given is None or len(kernel.shape) != 4 or not kernel.shape[3]:
        return ""
    groups, channels, filters = given.shape[-1] // kernel.shape[3], kernel.shape[3], kernel.shape[0]
    return (
        f"leave out groups={groups} of this layers.Conv2D, or slice its input into {groups} times {channels} channels, convolve "
        f"each with layers.Conv2D({filters // max(groups, 1)}, …) and join them with layers.Concatenate"
    )


def _transpose_size(operator: Operator, graph: OperatorGraph) -> str:
    sizes = "×".join(map(str, operator.outputs[0].shape)) if operator.outputs and operator.outputs[0] else "?"
    return f"transpose where the tensor is smaller than {sizes}, or leave layers.Permute out and transpose with numpy"


def _resize_size(operator: Operator, graph: OperatorGraph) -> str:
    given, made = operator.inputs[0], operator.outputs[0]
    if given is None or made is None or len(given.shape) != 4:
        return ""
    if given.shape[1:3] == (1, 1):
        return "leave the resizing of 1×1 out and let layers.Add or layers.Multiply broadcast it instead of layers.Concatenate"
    height, width = made.shape[1:3]
    return f"resize to less than {height}×{width}, or end the model before it and resize its answer yourself"


def _reshape_size(operator: Operator, graph: OperatorGraph) -> str:
    return "end the model before layers.Reshape and reshape its answer with numpy: it costs nothing there"


def _mean(operator: Operator, graph: OperatorGraph) -> str:
    given = operator.inputs[0]
    if given is None or len(given.shape) != 4:
        return ""
    height, width = given.shape[1:3]
    pool = tuple(_divisor(size) for size in (height, width))
    if pool == (1, 1):
        return ""
    return (
        f"split the mean over {height}×{width}: layers.AveragePooling2D({pool}) before layers.GlobalAveragePooling2D()"
    )


def _divisor(size: int) -> int:
    """The smallest divisor of ``size`` that leaves at most the square root of MOST_MEAN_ELEMENTS; 1 where there is none."""
    side = int(MOST_MEAN_ELEMENTS**0.5)
    return next((divisor for divisor in range(1, size) if size % divisor == 0 and size // divisor <= side), 1)


def _softmax_size(operator: Operator, graph: OperatorGraph) -> str:
    return "end the model before layers.Softmax and take the softmax of its answer with numpy"


def _split_batch(operator: Operator, graph: OperatorGraph) -> str:
    return "convert with one row: edgekit convert MODEL --batch 1"


def _slice_strides(operator: Operator, graph: OperatorGraph) -> str:
    strides = operator.constants.get(3)
    if strides is None or len(strides) != 4:
        return ""
    height, width = (int(stride) for stride in strides[1:3])
    return (
        f"layers.MaxPooling2D(pool_size=1, strides=({height}, {width})) instead of x[:, ::{height}, ::{width}]: it takes the same "
        "values"
    )


def _concatenation(operator: Operator, graph: OperatorGraph) -> str:
    return "layers.ZeroPadding2D, or a constant of zeros, instead of joining constants with layers.Concatenate"


def _weights_format(operator: Operator, graph: OperatorGraph) -> str:
    return "convert again from Keras: edgekit convert MODEL --data DATA --recipe int8"


def _say(sentence: str) -> Remedy:
    return lambda operator, graph: sentence


def _upsampling(operator: Operator, graph: OperatorGraph) -> str:
    """TILE and BROADCAST_TO, by which Keras 3 repeats pixels."""
    given = operator.inputs[0]
    if given is None:
        return ""
    return "layers.Resizing(height, width, interpolation='nearest') instead of layers.UpSampling2D"


_RELU6 = "activation='relu6' instead of {} here, and fine-tune"
_BY_TYPE: Mapping[str, Remedy] = {
    "HARD_SWISH": _say(_RELU6.format("hard_swish (hard_silu)")),
    "GELU": _say(_RELU6.format("gelu")),
    "ELU": _say(_RELU6.format("elu")),
    "LEAKY_RELU": _say("layers.PReLU(shared_axes=[1, 2]) or layers.ReLU() instead of layers.LeakyReLU"),
    "TILE": _upsampling,
    "BROADCAST_TO": _upsampling,
    "ARG_MAX": _say("end the model before it and take numpy.argmax of its answer"),
    "ARG_MIN": _say("end the model before it and take numpy.argmin of its answer"),
    "SHAPE": _dynamic_shape,
}
_BY_CAUSE: Mapping[str, Remedy] = {
    "float": _float,
    "dtype": _dtype,
    "operator": _operator,
    "version": _version,
    "rank": _rank,
    "dynamic-shape": _dynamic_shape,
    "batch": _batch,
    "activation": _activation,
    "dilation": _dilation,
    "grouped-conv": _grouped,
    "transpose-size": _transpose_size,
    "resize-size": _resize_size,
    "reshape-size": _reshape_size,
    "mean-axes": _mean,
    "softmax-size": _softmax_size,
    "split-batch": _split_batch,
    "slice-strides": _slice_strides,
    "concatenation": _concatenation,
    "weights-format": _weights_format,
}
