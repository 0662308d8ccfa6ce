"""Operations that keras.ops and TensorFlow both have under one meaning, and what each calls them.

Where one has no such function, or other arguments, ``into_functions`` and ``into_operations`` say what to write instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ALIASES", "BY_OPERATION", "BY_SYMBOL", "COMPARING", "Equivalent"]


@dataclass(frozen=True)
class Equivalent:
    """``operation`` is a class of Keras 3, ``function`` its name in keras.ops, ``symbol`` the name in tf of the same thing.

    Tensors come first and in the same order; ``options`` maps attributes of the operation, which are arguments of the
    function too, to arguments in tf.
    """

    operation: str
    function: str
    symbol: str
    options: Mapping[str, str] = field(default_factory=dict)


REDUCED = {"axis": "axis", "keepdims": "keepdims"}
COMPARING = ("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual")
# Operation, function of keras.ops, symbol of tf.
_PLAIN = """
Absolute abs math.abs
Add add math.add
Arccos arccos math.acos
Arcsin arcsin math.asin
Arctan arctan math.atan
Arctan2 arctan2 math.atan2
Ceil ceil math.ceil
Copy copy identity
Cos cos math.cos
Cosh cosh math.cosh
Divide divide math.truediv
DivideNoNan divide_no_nan math.divide_no_nan
Equal equal math.equal
Erf erf math.erf
Exp exp math.exp
Expm1 expm1 math.expm1
Floor floor math.floor
FloorDivide floor_divide math.floordiv
Greater greater math.greater
GreaterEqual greater_equal math.greater_equal
Isfinite isfinite math.is_finite
Isinf isinf math.is_inf
Isnan isnan math.is_nan
Less less math.less
LessEqual less_equal math.less_equal
Log log math.log
Log1p log1p math.log1p
LogicalAnd logical_and math.logical_and
LogicalNot logical_not math.logical_not
LogicalOr logical_or math.logical_or
LogicalXor logical_xor math.logical_xor
LogSigmoid log_sigmoid math.log_sigmoid
Maximum maximum math.maximum
Minimum minimum math.minimum
Mod mod math.floormod
Multiply multiply math.multiply
Negative negative math.negative
NotEqual not_equal math.not_equal
OnesLike ones_like ones_like
Power power math.pow
Reciprocal reciprocal math.reciprocal
Relu relu nn.relu
Relu6 relu6 nn.relu6
Rsqrt rsqrt math.rsqrt
Selu selu nn.selu
Sigmoid sigmoid math.sigmoid
Sign sign math.sign
Silu silu nn.silu
Sin sin math.sin
Sinh sinh math.sinh
Softplus softplus math.softplus
Softsign softsign nn.softsign
Sqrt sqrt math.sqrt
Square square math.square
StopGradient stop_gradient stop_gradient
Subtract subtract math.subtract
Tan tan math.tan
Tanh tanh math.tanh
Where where where
ZerosLike zeros_like zeros_like
"""
_WITH_OPTIONS = (
    Equivalent("All", "all", "math.reduce_all", REDUCED),
    Equivalent("Any", "any", "math.reduce_any", REDUCED),
    Equivalent("BroadcastTo", "broadcast_to", "broadcast_to", {"shape": "shape"}),
    Equivalent("Clip", "clip", "clip_by_value", {"x_min": "clip_value_min", "x_max": "clip_value_max"}),
    Equivalent("Concatenate", "concatenate", "concat", {"axis": "axis"}),
    Equivalent("Cumsum", "cumsum", "math.cumsum", {"axis": "axis"}),
    Equivalent("ExpandDims", "expand_dims", "expand_dims", {"axis": "axis"}),
    Equivalent("Flip", "flip", "reverse", {"axis": "axis"}),
    Equivalent("Gelu", "gelu", "nn.gelu", {"approximate": "approximate"}),
    Equivalent("LeakyRelu", "leaky_relu", "nn.leaky_relu", {"negative_slope": "alpha"}),
    Equivalent("LogSoftmax", "log_softmax", "nn.log_softmax", {"axis": "axis"}),
    Equivalent("Logsumexp", "logsumexp", "math.reduce_logsumexp", REDUCED),
    Equivalent("Max", "max", "math.reduce_max", REDUCED),
    Equivalent("Mean", "mean", "math.reduce_mean", REDUCED),
    Equivalent("Min", "min", "math.reduce_min", REDUCED),
    Equivalent("Prod", "prod", "math.reduce_prod", REDUCED),
    Equivalent("Repeat", "repeat", "repeat", {"repeats": "repeats", "axis": "axis"}),
    Equivalent("Roll", "roll", "roll", {"shift": "shift", "axis": "axis"}),
    Equivalent("Softmax", "softmax", "nn.softmax", {"axis": "axis"}),
    Equivalent("Squeeze", "squeeze", "squeeze", {"axis": "axis"}),
    Equivalent("Stack", "stack", "stack", {"axis": "axis"}),
    Equivalent("Std", "std", "math.reduce_std", REDUCED),
    Equivalent("Sum", "sum", "math.reduce_sum", REDUCED),
    Equivalent("Take", "take", "gather", {"axis": "axis"}),
    Equivalent("Tile", "tile", "tile", {"repeats": "multiples"}),
    Equivalent("Transpose", "transpose", "transpose", {"axes": "perm"}),
    Equivalent("Unstack", "unstack", "unstack", {"num": "num", "axis": "axis"}),
    Equivalent("Var", "var", "math.reduce_variance", REDUCED),
)
_ROWS = (line.split() for line in _PLAIN.strip().splitlines())
_ALL = (*(Equivalent(operation, function, symbol) for operation, function, symbol in _ROWS), *_WITH_OPTIONS)
BY_OPERATION: Mapping[str, Equivalent] = {item.operation: item for item in _ALL}
BY_SYMBOL: Mapping[str, Equivalent] = {item.symbol: item for item in _ALL}
# Other names of the same functions: of operations in Keras 3, of symbols in TensorFlow (Python's operators, old names).
ALIASES: Mapping[str, str] = {
    "Abs": "Absolute",
    "Amax": "Max",
    "Amin": "Min",
    "TrueDivide": "Divide",
    "__operators__.add": "math.add",
    "__operators__.eq": "math.equal",
    "__operators__.ne": "math.not_equal",
    "div": "math.truediv",
    "floor_div": "math.floordiv",
    "math.divide": "math.truediv",
    "math.mod": "math.floormod",
    "math.softmax": "nn.softmax",
    "nn.swish": "nn.silu",
}
