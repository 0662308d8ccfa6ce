"""What to do about an operator that vela leaves to the CPU: one line of a table per known cause.

The rules are vela's own (``vela --supported-ops-report`` of 5.2.0). The remedies were tried with it, except where a line says
otherwise: a Keras model with the cause, converted to int8 and compiled for ethos-u55-128, then the same with the remedy,
which left nothing on the CPU.
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
    """``text`` helps where an operator of one of ``types`` (all where empty) that works on ``dtype`` (any where empty) is
    refused for a reason with ``reason`` in it."""

    types: tuple[str, ...]
    reason: str
    text: str
    dtype: str = ""

    def helps(self, op: Operator, reason: str) -> bool:
        """Whether this is the remedy for ``op``."""
        dtypes = {tensor.dtype for tensor in op.operands}
        return (
            (not self.types or op.type in self.types)
            and (not self.dtype or self.dtype in dtypes)
            and re.search(self.reason, reason) is not None
        )


REMEDIES = (
    # Tried on a .tflite built by hand.
    Remedy((), "Dynamic non-batch dimension", "give Input() a whole shape, such as (96, 96, 3), and convert again"),
    Remedy(
        ("GELU", "BATCH_MATMUL", "MEAN"),
        "Int16|IFM precision must be Int8",
        "take the recipe int8, which vela limits less than int16x8",
        dtype="int16",
    ),
    Remedy(
        ("MEAN",), "depth-reduction", "replace the mean over channels by a 1 × 1 Conv2D with the weights 1/channels"
    ),
    Remedy(("AVERAGE_POOL_2D", "CONV_2D"), "kernel stride", 'use strides of at most 3, or padding="valid"'),
    Remedy(("DEPTHWISE_CONV_2D",), "kernel stride", "use strides of at most 3"),
    Remedy(("AVERAGE_POOL_2D",), "kernel (width|height)", 'pool over 8 × 8 at most, or with padding="valid"'),
    Remedy(
        ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
        "scale-factor",
        "enlarge by 2 in both directions, twice for 4 (one Resizing after the other); make smaller with AveragePooling2D",
    ),
    Remedy(("TRANSPOSE_CONV",), "stride", "use Conv2DTranspose with strides=2, one after the other for 4"),
    Remedy(
        ("SELECT", "SELECT_V2", "GREATER"),
        "Unsupported opType",
        "write the condition with relu or keras.ops.maximum; Keras' selu is made of one: take relu or LeakyReLU",
    ),
    # Not tried: what vela's rule says.
    Remedy(("ARG_MAX",), "depth axis", "take it over the last axis, or outside the model"),
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
    return next((remedy.text for remedy in REMEDIES if remedy.helps(op, reason)), "")
