"""The operators the Edge TPU has, as Google documents them, with the runtime that brought each.

Sources: the table of supported operations of coral.ai/docs/edgetpu/models-intro (its copy in Axis' documentation of ARTPEC-7
from Add to ResizeBilinear, older copies for the rest); runtime versions as far as they are known. ``seen`` says that a
compiled model or a compiler's log has the operator on the Edge TPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["COMPILER_RUNTIME", "KNOWN_CUSTOM", "KNOWN_UNMAPPED", "SUPPORTED", "Supported"]

COMPILER_RUNTIME = 14  # compiler 16 writes this into every package it makes, unless it is told otherwise
# Custom operators the compiler's interpreter knows: they stay on the processor. Any other makes it refuse the model.
KNOWN_CUSTOM = frozenset(("TFLite_Detection_PostProcess", "PosenetDecoderOp", "AudioSpectrogram", "Mfcc"))
# Of these the compiler says that the data type is not supported, of others that the operator is not
# (google-coral/edgetpu#409, logs).
KNOWN_UNMAPPED = frozenset(("ARG_MAX", "ARG_MIN", "CAST", "DEQUANTIZE"))


@dataclass(frozen=True)
class Supported:
    """An operator of the Edge TPU: the runtime that brought it, what the document says of it, and whether it was seen mapped."""

    runtime: int
    says: str = ""
    seen: bool = True


SUPPORTED: Mapping[str, Supported] = {
    "ADD": Supported(10),
    "AVERAGE_POOL_2D": Supported(10, "no fused activation"),
    "CONCATENATION": Supported(10, "no fused activation; a constant only beside one other input, and all zero"),
    "CONV_2D": Supported(10, "dilated both ways alike"),
    "DEPTHWISE_CONV_2D": Supported(10, "dilated both ways alike"),
    "EXPAND_DIMS": Supported(13, seen=False),
    "FULLY_CONNECTED": Supported(10, "weights in the default format; one row (not so with compiler 16)"),
    "L2_NORMALIZATION": Supported(10),
    "LOGISTIC": Supported(10),
    "MAXIMUM": Supported(10),
    "MAX_POOL_2D": Supported(10, "no fused activation"),
    "MEAN": Supported(10, "not over the batch"),
    "MINIMUM": Supported(10),
    "MUL": Supported(10),
    "PACK": Supported(13, "not along the batch"),
    "PAD": Supported(10, "not the batch"),
    "PRELU": Supported(13, "alpha has one dimension: shared_axes=[1, 2]"),
    "QUANTIZE": Supported(13, "between int8 and uint8"),
    "REDUCE_MAX": Supported(14, "not over the batch", seen=False),
    "REDUCE_MIN": Supported(14, "not over the batch", seen=False),
    "RELU": Supported(10),
    "RELU6": Supported(10),
    "RELU_N1_TO_1": Supported(10, seen=False),
    "RESHAPE": Supported(10, "certain reshapes might not be mapped for large tensor sizes"),
    "RESIZE_BILINEAR": Supported(10, "three dimensions; may be refused, by its size, to avoid loss of precision"),
    "RESIZE_NEAREST_NEIGHBOR": Supported(
        10, "three dimensions; may be refused, by its size, to avoid loss of precision"
    ),
    "RSQRT": Supported(14),
    "SLICE": Supported(10, seen=False),
    "SOFTMAX": Supported(10, "one row of at most 16,000 elements (more rows map)"),
    "SPACE_TO_DEPTH": Supported(10, seen=False),
    "SPLIT": Supported(10, "not along the batch"),
    "SQUARED_DIFFERENCE": Supported(14),
    "SQUEEZE": Supported(10, seen=False),
    "STRIDED_SLICE": Supported(10, "strides of 1 (rows and columns may have others), no ellipsis, no new axis"),
    "SUB": Supported(10),
    "SUM": Supported(13, "not over the batch", seen=False),
    "TANH": Supported(10),
    "TRANSPOSE": Supported(14),
    "TRANSPOSE_CONV": Supported(13),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Supported(12),
}
