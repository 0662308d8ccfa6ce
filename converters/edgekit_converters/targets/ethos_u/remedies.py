"""What to do about an operator that vela leaves to the CPU: one line of a table per known cause.

The rules are vela's own (``vela --supported-ops-report`` of 5.2.0). Those marked with a star were tried: a Keras model with
the cause, converted and compiled, then with the remedy, which put the operator on the NPU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..operators import Operator

__all__ = ["REMEDIES", "Remedy", "remedy_for"]

FLOAT_ENDS = "give the model integer ends: edgekit convert … --recipe int8 --input-type int8 --output-type int8"
TO_INT8 = "quantize the whole model: edgekit convert … --recipe int8 --data …"


@dataclass(frozen=True)
class Remedy:
    """``text`` helps where an operator of one of ``types`` (all where empty) is refused for a reason with ``reason`` in it."""

    types: tuple[str, ...]
    reason: str
    text: str


REMEDIES = (
    Remedy((), "Dynamic non-batch dimension", "give Input() a whole shape, such as (96, 96, 3), and convert again"),
    Remedy(
        ("GELU", "BATCH_MATMUL", "MEAN", "SUM"),
        r"\bInt16\b|IFM precision must be Int8",
        "take the recipe int8, which vela limits less",
    ),  # *
    Remedy(
        ("AVERAGE_POOL_2D", "MAX_POOL_2D"),
        "kernel (width|height|size)?.*out of range",
        'pool over 8 × 8 at most, or with padding="valid"',
    ),  # *
    Remedy(
        ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
        "scale-factor",
        "scale by 2, 4 or 8, the same in both directions",
    ),  # *
    Remedy(
        ("TRANSPOSE_CONV",), "stride", "use strides of 1 or 2 (Conv2DTranspose(strides=2)), twice where more is needed"
    ),  # *
    Remedy(("CONV_2D", "DEPTHWISE_CONV_2D"), "[Ss]tride", "use strides of at most 3"),
    Remedy(("ARG_MAX",), "depth axis|[Ll]ast axis", "take it over the last axis, or outside the model"),
    Remedy(
        ("SELECT", "SELECT_V2", "GREATER"), "Unsupported opType", "if it is Keras' selu, take relu or leaky_relu"
    ),  # *
    Remedy(("DIV",), "Unsupported opType", "divide by a constant as a multiplication with its reciprocal (Rescaling)"),
)


def remedy_for(op: Operator, reason: str, *, at_an_end: bool = False) -> str:
    """What to type instead, empty where nothing is known. ``at_an_end``: the operator reads an input of the model, or writes
    an output."""
    if op.type in ("QUANTIZE", "DEQUANTIZE") and at_an_end:
        return FLOAT_ENDS
    if "DataType Float" in reason or (op.type == "DEQUANTIZE" and not at_an_end):
        return TO_INT8
    if op.custom:
        return "register it with the interpreter on the device, or replace the layer behind it by builtin ones"
    for remedy in REMEDIES:
        if (not remedy.types or op.type in remedy.types) and re.search(remedy.reason, reason):
            return remedy.text
    return ""
