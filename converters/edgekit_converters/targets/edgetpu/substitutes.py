"""What to build a model of instead of an operator the Edge TPU has not, in Keras; by the operator's type."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...model_card import TensorCard
from ..operators import Operator, OperatorGraph
from .wiring import producer, run_end, run_start

__all__ = ["WITHOUT_SUBSTITUTE", "Remedy", "fixed_shape", "given_shape", "made_shape", "substitute_for"]

Remedy = Callable[[Operator, OperatorGraph], str]
_REPEATING = ("TILE", "BROADCAST_TO", "RESHAPE", "EXPAND_DIMS", "SQUEEZE")
_INTEGERS = ("int32", "int64", "bool")


def substitute_for(operator: Operator, graph: OperatorGraph) -> str:
    """What to use in place of ``operator``; empty where nothing does the same and maps."""
    if _computes_sizes(operator, graph):
        return fixed_shape(operator, graph)
    substitute = _BY_TYPE.get(operator.type)
    return substitute(operator, graph) if substitute is not None else ""


def fixed_shape(operator: Operator, graph: OperatorGraph) -> str:
    """For sizes that are worked out when the model runs, because its input leaves some open."""
    given = next(iter(graph.card.inputs), None)
    if given is None:
        return ""
    sizes = tuple(given.shape[1:])
    return f"fix the sizes: keras.Input(shape={sizes}, batch_size=1), or edgekit convert MODEL --batch 1"


def given_shape(operator: Operator) -> tuple[int, ...]:
    """The shape of its first computed input; empty where it has none."""
    return _shape(next(iter(operator.computed_inputs), None))


def made_shape(operator: Operator) -> tuple[int, ...]:
    """The shape of its first output; empty where it has none."""
    return _shape(next(iter(operator.outputs), None))


def _shape(tensor: TensorCard | None) -> tuple[int, ...]:
    return () if tensor is None else tensor.shape


def _computes_sizes(operator: Operator, graph: OperatorGraph) -> bool:
    """Whether it works out a shape, or reads one that was worked out: integers from SHAPE on."""
    if operator.type == "SHAPE":
        return True
    integers = any(tensor.dtype in _INTEGERS and not tensor.scales for tensor in operator.computed_inputs)
    return integers and any(other.type == "SHAPE" for other in graph.operators)


def _say(sentence: str) -> Remedy:
    return lambda operator, graph: sentence


def _leaky_relu(operator: Operator, graph: OperatorGraph) -> str:
    alpha = float(operator.options.get("Alpha", 0.0))
    shared = list(range(1, len(made_shape(operator)) - 1))
    how = f"alpha_initializer=keras.initializers.Constant({alpha:.6g})" + (f", shared_axes={shared}" if shared else "")
    return f"layers.PReLU({how}) instead of layers.LeakyReLU: the same function to begin with"


def _repeat(operator: Operator, graph: OperatorGraph) -> str:
    """What is repeated: the pixels of an upsampling, a vector, or the whole tensor side by side."""
    start, end = run_start(operator, graph, _REPEATING), run_end(operator, graph, _REPEATING)
    before, after = given_shape(start), made_shape(end)
    if operator.type == "TILE" and len(given_shape(operator)) == len(before) and before[1:3] != (1,) * len(before[1:3]):
        return "layers.Concatenate of the tensor with itself, axis by axis, instead of keras.ops.tile"
    if len(before) == 4 and len(after) == 4 and before[1:3] != (1, 1):
        height, width = after[1:3]
        return f"layers.Resizing({height}, {width}, interpolation='nearest') instead of layers.UpSampling2D: the same pixels"
    if len(before) == 4 and len(after) == 4:
        return "let layers.Add or layers.Multiply broadcast the 1×1 tensor instead of repeating it"
    if len(before) == 2 and len(after) == 3:
        count, size = after[1:]
        return f"layers.Concatenate(axis=1)([layers.Reshape((1, {size}))(x)] * {count}) instead of layers.RepeatVector({count})"
    if len(before) == 3 and len(after) == 3:
        (long, size), longer = before[1:], after[1]
        return (
            f"layers.Reshape(({long}, 1, {size})), layers.Resizing({longer}, 1, interpolation='nearest') and "
            f"layers.Reshape(({longer}, {size})) instead of layers.UpSampling1D"
        )
    return ""


def _depth_to_space(operator: Operator, graph: OperatorGraph) -> str:
    made = made_shape(operator)
    if len(made) != 4:
        return ""
    block = int(operator.options.get("BlockSize", 2))
    return (
        f"layers.Conv2DTranspose({made[3]}, {block}, strides={block}), or layers.Resizing({made[1]}, {made[2]}) and "
        f"layers.Conv2D({made[3]}, 3, padding='same'), instead of moving channels into pixels, and train again"
    )


def _gather(operator: Operator, graph: OperatorGraph) -> str:
    table = operator.inputs[0]
    if table is not None and table.constant and len(table.shape) == 2:
        return (
            f"look the words up before the model, and give it vectors of {table.shape[1]} (keras.Input) instead of "
            "layers.Embedding"
        )
    before = producer(next(iter(operator.computed_inputs), None), graph)
    pools = [] if before is None else [producer(tensor, graph) for tensor in before.computed_inputs]
    if any(pool is not None and pool.type in ("AVERAGE_POOL_2D", "QUANTIZE") for pool in pools):
        return "layers.AveragePooling2D of a fixed window instead of layers.AdaptiveAveragePooling2D"
    if any(pool is not None and pool.type == "MAX_POOL_2D" for pool in pools):
        return "layers.MaxPooling2D of a fixed window instead of layers.AdaptiveMaxPooling2D"
    return ""


def _mirror_pad(operator: Operator, graph: OperatorGraph) -> str:
    sizes = operator.constants.get(1)
    if sizes is None or len(sizes) != 8:
        return ""
    rows, columns = tuple(map(int, sizes[2:4])), tuple(map(int, sizes[4:6]))
    return f"layers.ZeroPadding2D(({rows}, {columns})) instead of padding with reflected pixels, and fine-tune"


def _unpack(operator: Operator, graph: OperatorGraph) -> str:
    count = len(operator.outputs)
    sliced = f"x[:, t] for t in range({count})"
    if any(other.type == "TANH" for other in graph.operators):
        return (
            f"step layers.LSTMCell, layers.GRUCell or layers.SimpleRNNCell over {sliced} instead of layers.LSTM, layers.GRU or "
            "layers.SimpleRNN with unroll=True: the same arithmetic"
        )
    return f"slice it ({sliced}) instead of keras.ops.unstack"


def _exponential(operator: Operator, graph: OperatorGraph) -> str:
    return _ACTIVATION.format("the activation with an exponential (elu, selu, softplus, mish)")


def _logarithm(operator: Operator, graph: OperatorGraph) -> str:
    if any(other.type == "EXP" for other in graph.operators):
        return _exponential(operator, graph)
    return "end the model before the logarithm, and take numpy.log of its answer"


def _absolute(operator: Operator, graph: OperatorGraph) -> str:
    """Alone, or as part of an activation that has more to it."""
    types = {other.type for other in graph.operators}
    if "DIV" in types:
        return "activation='tanh' instead of 'softsign' here, and fine-tune"
    return "" if "GREATER" in types else "layers.Maximum()([x, -1.0 * x]) instead of keras.ops.abs: the same values"


def _cast(operator: Operator, graph: OperatorGraph) -> str:
    inputs = {tensor.index for tensor in graph.card.inputs}
    if any(tensor.index in inputs for tensor in operator.computed_inputs):
        return "keras.Input(dtype='float32'): the converter makes int8 of it"
    return ""


_ACTIVATION = "activation='silu' or 'relu6' instead of {} here, and fine-tune"
_MULTIPLIES = "convert again from Keras: edgekit convert MODEL writes it as a product"
# Types nothing is known for, and why.
WITHOUT_SUBSTITUTE: Mapping[str, str] = {
    "BATCH_MATMUL": "the Edge TPU multiplies by constants only; attention has none",
    "CONV_3D": "no operator of the Edge TPU looks along a fifth axis",
    "CUMSUM": "no operator of the Edge TPU carries a sum along",
    "DIV": "a division by what was computed has no counterpart; by a constant, the converter multiplies already",
    "GREATER": "comparisons give booleans, which are not 8-bit integers",
    "LESS": "comparisons give booleans, which are not 8-bit integers",
    "SELECT": "a choice by booleans has no counterpart",
    "SELECT_V2": "a choice by booleans has no counterpart",
    "SQRT": "only its reciprocal, RSQRT, is there, and Keras gives no way to it that stays in int8",
}
_LOOP = (
    "step layers.LSTMCell, layers.GRUCell or layers.SimpleRNNCell over x[:, t] in a Python loop instead of layers.LSTM, "
    "layers.GRU or layers.SimpleRNN"
)
_BY_TYPE: Mapping[str, Remedy] = {
    "ABS": _absolute,
    "ARG_MAX": _say("end the model before it, and take numpy.argmax of its answer"),
    "ARG_MIN": _say("end the model before it, and take numpy.argmin of its answer"),
    "BATCH_TO_SPACE_ND": _say("convert again from Keras: edgekit convert MODEL keeps dilation_rate in the convolution"),
    "BROADCAST_TO": _repeat,
    "CAST": _cast,
    "DEPTH_TO_SPACE": _depth_to_space,
    "ELU": _say(_ACTIVATION.format("'elu'")),
    "EXP": _exponential,
    "GATHER": _gather,
    "GELU": _say(_ACTIVATION.format("'gelu'") + "; x * sigmoid(1.702 * x) is within 0.021 of it"),
    "HARD_SWISH": _say(_ACTIVATION.format("'hard_silu' (hard_swish)")),
    "LEAKY_RELU": _leaky_relu,
    "LOG": _logarithm,
    "LOG_SOFTMAX": _say("layers.Softmax() instead of 'log_softmax', and numpy.log of the model's answer"),
    "MIRROR_PAD": _mirror_pad,
    "NEG": _say(_MULTIPLIES),
    "SPACE_TO_BATCH_ND": _say("convert again from Keras: edgekit convert MODEL keeps dilation_rate in the convolution"),
    "SQUARE": _say(_MULTIPLIES),
    "TILE": _repeat,
    "TOPK_V2": _say("end the model before it, and sort its answer with numpy.argsort"),
    "UNPACK": _unpack,
    "WHILE": _say(_LOOP),
}
