"""The conditions of the rules: each says of one operator whether it breaks a rule.

Values of constants may be missing (a record of a model holds shapes and options): a condition on one then does not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from ...model_card import TensorCard
from ..operators import Operator
from .limits import Limits
from .op_table import KNOWN_UNMAPPED, SUPPORTED
from .shapes import CHANNEL_STEP, elements, planes, tile_bytes

__all__ = [
    "activations",
    "breaks_concatenation",
    "computes_weights",
    "exceeds_reshape_size",
    "exceeds_row_size",
    "exceeds_size",
    "has_batch",
    "has_float",
    "has_groups",
    "has_mixed_dilation",
    "has_other_dtype",
    "has_rank",
    "has_stride",
    "has_unknown_format",
    "is_activated",
    "is_custom",
    "is_not_supported",
    "is_spread",
    "is_unmapped",
    "keeps_alpha_apart",
    "measure",
    "reduces_batch",
    "reduces_odd_channels",
    "splits_batch",
]

EIGHT_BITS = frozenset(("int8", "uint8"))
FLOATS = frozenset(("float16", "bfloat16", "float32", "float64"))
# Operators whose constants are values like those computed, not weights, sizes or axes.
_ELEMENTWISE = frozenset(
    ("ADD", "CONCATENATION", "MAXIMUM", "MINIMUM", "MUL", "PACK", "SQUARED_DIFFERENCE", "SUB", "PRELU")
)
_WEIGHED = frozenset(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"))
_RECURRENT = frozenset(("UNIDIRECTIONAL_SEQUENCE_LSTM",))
_ON_ONE_TILE = frozenset(("resize-nearest-size", "reshape-size", "row-tensor-size", "transpose-conv-size"))
MANY_CHANNELS = 1024  # a tensor of one row with so many channels comes from a model that had its channels first


def activations(operator: Operator) -> tuple[TensorCard, ...]:
    """The tensors of values that flow: what is computed, and constants it is computed with element by element.

    Of a recurrent layer only what goes in and comes out: its state may have 16 bits.
    """
    if operator.type in _RECURRENT:
        return tuple(tensor for tensor in (*operator.inputs[:1], *operator.outputs) if tensor is not None)
    made = tuple(tensor for tensor in operator.outputs if tensor is not None)
    return (*(operator.constant_inputs if operator.type in _ELEMENTWISE else ()), *operator.computed_inputs, *made)


def is_custom(operator: Operator, limits: Limits) -> bool:
    """A custom operator."""
    return operator.custom


def is_unmapped(operator: Operator, limits: Limits) -> bool:
    """One the compiler knows, and maps in no form."""
    return operator.type in KNOWN_UNMAPPED


def is_not_supported(operator: Operator, limits: Limits) -> bool:
    """One the Edge TPU does not have."""
    return operator.type not in SUPPORTED


def has_batch(operator: Operator, limits: Limits) -> bool:
    """A tensor of four dimensions or more with several rows, and with nothing else beyond the innermost three."""
    leading = [tensor.shape[:-3] for tensor in activations(operator) if len(tensor.shape) > 3]
    return any(sizes[0] != 1 for sizes in leading) and all(prod(sizes[1:]) == 1 for sizes in leading)


def has_rank(operator: Operator, limits: Limits) -> bool:
    """A tensor with more than the innermost three dimensions larger than 1."""
    return any(prod(tensor.shape[:-3]) != 1 for tensor in activations(operator))


def has_float(operator: Operator, limits: Limits) -> bool:
    """A float tensor."""
    return any(tensor.dtype in FLOATS for tensor in activations(operator))


def has_other_dtype(operator: Operator, limits: Limits) -> bool:
    """Something that flows, or weights, in anything but 8 bits."""
    weights = operator.inputs[1:2] if operator.type in _WEIGHED else ()
    return any(tensor is not None and tensor.dtype not in EIGHT_BITS for tensor in (*activations(operator), *weights))


def computes_weights(operator: Operator, limits: Limits) -> bool:
    """Weights or a bias that another operator computes."""
    place = 0 if operator.type == "TRANSPOSE_CONV" else 1  # its first input is the size, its third what goes in
    operands = (*operator.inputs[place : place + 2], *operator.inputs[3:4]) if place == 0 else operator.inputs[1:3]
    return any(tensor is not None and not tensor.constant for tensor in operands)


def has_groups(operator: Operator, limits: Limits) -> bool:
    """A kernel that reads only some of the channels."""
    given, kernel = _shape(operator.inputs, 0), _shape(operator.inputs, 1)
    return bool(given and kernel) and given[-1] != kernel[-1]


def has_mixed_dilation(operator: Operator, limits: Limits) -> bool:
    """Dilated by one factor down and another across, by a kernel that extends both ways: along one pixel nothing is dilated."""
    differ = _option(operator, "DilationHFactor", 1) != _option(operator, "DilationWFactor", 1)
    return differ and all(size > 1 for size in _shape(operator.inputs, 1)[1:3])


def has_unknown_format(operator: Operator, limits: Limits) -> bool:
    """Weights that are shuffled in the file."""
    return _option(operator, "WeightsFormat", 0) != 0


def is_activated(operator: Operator, limits: Limits) -> bool:
    """A fused activation."""
    return _option(operator, "FusedActivationFunction", 0) != 0


def breaks_concatenation(operator: Operator, limits: Limits) -> bool:
    """Constants, except for one of zeros (quantized ones: of the zero point) beside one computed tensor."""
    constants = [place for place, tensor in enumerate(operator.inputs) if tensor is not None and tensor.constant]
    if not constants:
        return False
    if len(operator.inputs) != 2 or len(constants) != 1:
        return True
    values, tensor = operator.constants.get(constants[0]), operator.inputs[constants[0]]
    zero = tensor.zero_points[0] if tensor is not None and tensor.zero_points else 0
    return values is not None and bool(np.any(values != zero))


def keeps_alpha_apart(operator: Operator, limits: Limits) -> bool:
    """Slopes that differ from pixel to pixel."""
    return any(size != 1 for size in _shape(operator.inputs, 1)[:-1])


def has_stride(operator: Operator, limits: Limits) -> bool:
    """An ellipsis, a new axis, channels left out, or a stride backwards."""
    if _option(operator, "EllipsisMask", 0) or _option(operator, "NewAxisMask", 0):
        return True
    strides = operator.constants.get(3)
    if strides is None or not strides.size:
        return False
    whole = strides.size == len(_shape(operator.inputs, 0))
    return bool(np.any(strides < 1)) or (whole and bool(strides[-1] != 1))


def splits_batch(operator: Operator, limits: Limits) -> bool:
    """A tensor of two dimensions or more that begins with anything but 1."""
    shape = _shape(operator.inputs, 1)
    return len(shape) > 1 and shape[0] != 1


def reduces_batch(operator: Operator, limits: Limits) -> bool:
    """Reduced over the first of four dimensions, though it is 1."""
    return len(_shape(operator.inputs, 0)) > 3 and 0 in _axes(operator)


def reduces_odd_channels(operator: Operator, limits: Limits) -> bool:
    """Reduced over channels whose number is no multiple of 4."""
    shape = _shape(operator.inputs, 0)
    return len(shape) - 1 in _axes(operator) and shape[-1] % CHANNEL_STEP != 0


def is_spread(operator: Operator, limits: Limits) -> bool:
    """One pixel that is made into several."""
    given, made = _shape(operator.inputs, 0), _shape(operator.outputs, 0)
    return len(given) == 4 and given[1:3] == (1, 1) and made[1:3] != (1, 1)


def exceeds_size(limit: str) -> Callable[[Operator, Limits], bool]:
    """The condition that an operator's size, in the measure of ``limit``, exceeds it."""

    def exceeds(operator: Operator, limits: Limits) -> bool:
        return limits[limit].exceeded_by(measure(operator, limit))

    return exceeds


def exceeds_reshape_size(operator: Operator, limits: Limits) -> bool:
    """A larger tensor than the limit of its kind of regrouping."""
    kind = _regrouping(operator)
    return kind is not None and limits[kind].exceeded_by(measure(operator, kind))


def exceeds_row_size(operator: Operator, limits: Limits) -> bool:
    """A tensor of one row with many channels, and more bytes on a tile than the limit."""
    return _is_row(operator) and limits["row-tensor-size"].exceeded_by(measure(operator, "row-tensor-size"))


def measure(operator: Operator, limit: str) -> int:
    """The size of ``operator`` in the measure of a limit; 0 where its tensors are not there."""
    given, made = (next(iter(cards), None) for cards in (operator.computed_inputs, operator.outputs))
    if given is None or made is None:
        return 0
    if limit == "mean-window":
        return elements(given) // max(1, elements(made))
    if limit == "softmax-size":
        return planes(given)[2]
    if limit in _ON_ONE_TILE:
        return sum(tile_bytes(tensor) for tensor in activations(operator))
    return elements(made)


def _regrouping(operator: Operator) -> str | None:
    """The limit of a reshape by what it regroups; None where no size was ever refused."""
    given, made = next(iter(operator.computed_inputs), None), next(iter(operator.outputs), None)
    if given is None or made is None:
        return None
    before, after = planes(given), planes(made)
    if before == after:
        return None
    if after[2] > before[2]:
        return None if after[:2] == (1, 1) else "reshape-fold-size"
    if after[2] < before[2] and after[0] == 1:
        return None  # the heads of SSD and EfficientDet: 1x40x40x810 to 1x14400x90 maps
    return "reshape-size"


def _is_row(operator: Operator) -> bool:
    shapes = [planes(tensor) for tensor in activations(operator)]
    return all(y == 1 for y, _, _ in shapes) and any(x > 1 and z >= MANY_CHANNELS for _, x, z in shapes)


def _axes(operator: Operator) -> set[int]:
    """The axes of a reduction, counted from the front; empty where they are not known."""
    rank = len(_shape(operator.inputs, 0))
    axes = operator.constants.get(1)
    return {int(axis) % rank for axis in axes} if axes is not None and rank else set()


def _shape(tensors: tuple[TensorCard | None, ...], place: int) -> tuple[int, ...]:
    tensor = tensors[place] if place < len(tensors) else None
    return () if tensor is None else tensor.shape


def _option(operator: Operator, name: str, default: int) -> int:
    return int(operator.options.get(name, default))
