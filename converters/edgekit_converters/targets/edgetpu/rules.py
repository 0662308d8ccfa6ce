"""What keeps an operator off the Edge TPU: the rules, as a table.

A rule has a *cause* (its name), the operators it is about, what it asks for, and what the compiler says of those that break
it, in its own words. The first rule in the table that an operator breaks gives the reason. Rules with a ``limit`` are about
sizes that no document states; ``limits`` holds what is known of each. An operator that breaks no rule can map; whether it
does depends on its place in the graph (``partition``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..operators import Operator
from .conditions import (
    breaks_concatenation,
    computes_weights,
    exceeds_reshape_size,
    exceeds_row_size,
    exceeds_size,
    has_batch,
    has_float,
    has_groups,
    has_mixed_dilation,
    has_other_dtype,
    has_rank,
    has_stride,
    has_unknown_format,
    is_activated,
    is_custom,
    is_not_supported,
    is_spread,
    is_unmapped,
    keeps_alpha_apart,
    reduces_batch,
    reduces_odd_channels,
    splits_batch,
)
from .limits import LIMITS, Limits
from .statuses import STATUSES

__all__ = ["RULES", "Rule", "broken_rule"]

Condition = Callable[[Operator, Limits], bool]

_SAID = {status.name: status.text for status in STATUSES}

_DOCUMENT = "coral.ai/docs/edgetpu/models-intro"
_ISSUE = "google-coral/edgetpu#{}"
_ORACLE = "compiled models"


@dataclass(frozen=True)
class Rule:
    """A rule: ``asks`` says what an operator must be like, ``breaks`` whether one is not.

    ``operators`` are those it is about, all where it names none. ``reason`` is what the compiler writes.
    ``examples`` are operators that break it, or just do not; ``limits`` the names of the limits it asks.
    """

    name: str
    operators: tuple[str, ...]
    asks: str
    breaks: Condition
    reason: str
    source: str
    examples: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    def is_about(self, operator: Operator) -> bool:
        """Whether the rule says anything of such an operator."""
        return not self.operators or operator.type in self.operators


_WEIGHED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")

RULES: Sequence[Rule] = (
    Rule(
        "custom",
        (),
        "no custom operator",
        is_custom,
        _SAID["dtype"],
        "compiler logs",
        ("TFLite_Detection_PostProcess and PosenetDecoderOp stay on the processor",),
    ),
    Rule(
        "dtype",
        ("ARG_MAX", "ARG_MIN", "CAST", "DEQUANTIZE"),
        "an operator that makes 8-bit integers",
        is_unmapped,
        _SAID["dtype"],
        _ISSUE.format(409),
        ("ARG_MAX", "DEQUANTIZE at a float output"),
    ),
    Rule(
        "operator",
        (),
        "an operator of the Edge TPU",
        is_not_supported,
        _SAID["operator"],
        _DOCUMENT,
        ("LEAKY_RELU", "HARD_SWISH", "TILE", "BATCH_MATMUL", "DIV", "GATHER", "UNPACK", "DEPTH_TO_SPACE"),
    ),
    Rule(
        "batch",
        (),
        "one row: tensors of four dimensions begin with 1",
        has_batch,
        _SAID["rank"],
        f"{_DOCUMENT}; {_ISSUE.format(30)}",
        ("CONV_2D 30x64x64x3",),
    ),
    Rule(
        "rank",
        (),
        "only the innermost three dimensions of a tensor are larger than 1",
        has_rank,
        _SAID["rank"],
        f"{_DOCUMENT}; {_ISSUE.format(708)}",
        ("TRANSPOSE 1x8x8x4x4", "SOFTMAX 1x4x2100x16 maps"),
    ),
    Rule(
        "float",
        ("QUANTIZE",),
        "8-bit integers in, 8-bit integers out",
        has_float,
        _SAID["limitation"],
        "compiler logs",
        ("QUANTIZE float32 to int8 at a float input", "QUANTIZE uint8 to int8 maps"),
    ),
    Rule(
        "float",
        (),
        "no float tensor",
        has_float,
        _SAID["dtype"],
        f"{_DOCUMENT}; {_ISSUE.format(609)}",
        ("CONV_2D of a model that was not quantized", "the float islands of a LayerNormalization"),
    ),
    Rule(
        "dtype",
        (),
        "int8 or uint8 in, out, and as constants",
        has_other_dtype,
        _SAID["dtype"],
        f"{_DOCUMENT}; {_ORACLE}",
        ("MUL int32", "FULLY_CONNECTED int16", "PACK int32"),
    ),
    Rule(
        "weights-computed",
        _WEIGHED,
        "weights and biases in the file",
        computes_weights,
        _SAID["weights-computed"],
        f"{_DOCUMENT}; {_ISSUE.format(25)}",
        ("FULLY_CONNECTED of two computed tensors",),
    ),
    Rule(
        "grouped-conv",
        ("CONV_2D",),
        "one group: the kernel reads all channels",
        has_groups,
        _SAID["limitation"],
        _ISSUE.format(631),
        ("CONV_2D 1x8x8x16 with a kernel 16x3x3x4",),
    ),
    Rule(
        "dilation",
        ("CONV_2D", "DEPTHWISE_CONV_2D"),
        "dilated both ways alike, where its kernel extends both ways",
        has_mixed_dilation,
        _SAID["limitation"],
        _DOCUMENT,
        ("CONV_2D 3x3 dilated by 2 and 1", "CONV_2D 1x3 (a Conv1D) dilated by 1 and 2 maps"),
    ),
    Rule(
        "weights-format",
        ("FULLY_CONNECTED",),
        "weights in the default format",
        has_unknown_format,
        _SAID["limitation"],
        _DOCUMENT,
    ),
    Rule(
        "activation",
        (*_POOLS, "CONCATENATION"),
        "no fused activation",
        is_activated,
        _SAID["limitation"],
        _DOCUMENT,
        ("MAX_POOL_2D with RELU",),
    ),
    Rule(
        "concatenation",
        ("CONCATENATION",),
        "no constant, or one beside one computed tensor, all zero",
        breaks_concatenation,
        _SAID["limitation"],
        _DOCUMENT,
    ),
    Rule(
        "alpha",
        ("PRELU",),
        "one slope a channel: shared_axes=[1, 2]",
        keeps_alpha_apart,
        _SAID["limitation"],
        f"{_DOCUMENT}; {_ISSUE.format(597)}",
    ),
    Rule(
        "slice-strides",
        ("STRIDED_SLICE",),
        "no ellipsis, no new axis, every channel, no stride backwards",
        has_stride,
        _SAID["limitation"],
        f"{_DOCUMENT}, which asks for strides of 1; YOLOv5's Focus (x[:, ::2, ::2]) maps all the same",
        ("STRIDED_SLICE x[..., ::2]",),
    ),
    Rule(
        "split-batch",
        ("SPLIT",),
        "a first dimension of 1",
        splits_batch,
        _SAID["limitation"],
        f"{_DOCUMENT}; {_ORACLE}; {_ISSUE.format(219)}",
        ("SPLIT 2x8x8", "SPLIT 1x96x64x1 maps"),
    ),
    Rule(
        "mean-axes",
        ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"),
        "axes without the batch",
        reduces_batch,
        _SAID["limitation"],
        _DOCUMENT,
        ("MEAN 1x8x8x16 over all four",),
    ),
    Rule(
        "mean-axes",
        ("MEAN",),
        "a multiple of 4 channels where it is over channels",
        reduces_odd_channels,
        _SAID["limitation"],
        _DOCUMENT,
        ("MEAN 1x8x8x3 over the last axis", "MEAN 1x8x8x16 over the last axis maps"),
    ),
    Rule(
        "mean-axes",
        ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"),
        "a window that is not too large",
        exceeds_size("mean-window"),
        _SAID["limitation"],
        _ISSUE.format(461),
        ("MEAN 1x256x128x3", "MEAN 1x64x128x3 maps"),
        ("mean-window",),
    ),
    Rule(
        "softmax-size",
        ("SOFTMAX",),
        "rows that are not too long",
        exceeds_size("softmax-size"),
        _SAID["limitation"],
        _DOCUMENT,
        (),
        ("softmax-size",),
    ),
    Rule(
        "resize-size",
        ("RESIZE_BILINEAR",),
        "more than one pixel to begin with",
        is_spread,
        _SAID["limitation"],
        f"{_DOCUMENT}; {_ORACLE}",
        ("RESIZE_BILINEAR 1x1x1x256 to 1x33x33x256 (DeepLabv3)",),
    ),
    Rule(
        "resize-size",
        ("RESIZE_BILINEAR",),
        "an output that is not too large",
        exceeds_size("resize-bilinear-size"),
        _SAID["limitation"],
        f"{_DOCUMENT}; {_ISSUE.format(31)}",
        ("RESIZE_BILINEAR 1x33x33x21 to 1x513x513x21 (DeepLabv3)",),
        ("resize-bilinear-size",),
    ),
    Rule(
        "resize-size",
        ("RESIZE_NEAREST_NEIGHBOR",),
        "what fits the tiles",
        exceeds_size("resize-nearest-size"),
        _SAID["limitation"],
        f"{_DOCUMENT}; {_ISSUE.format(597)}",
        (),
        ("resize-nearest-size",),
    ),
    Rule(
        "transpose-size",
        ("TRANSPOSE",),
        "a tensor that is not too large",
        exceeds_size("transpose-size"),
        _SAID["limitation"],
        f"compiler logs; {_ISSUE.format(433)}",
        ("TRANSPOSE 1x3x224x224 at the head of a model from PyTorch", "TRANSPOSE 1x20x20x144 maps"),
        ("transpose-size",),
    ),
    Rule(
        "reshape-size",
        ("RESHAPE",),
        "a tensor that is not too large, by what is regrouped",
        exceeds_reshape_size,
        _SAID["limitation"],
        f"{_DOCUMENT}; compiler logs",
        (
            "RESHAPE 1x1600x3x85 to 1x4800x85",
            "RESHAPE 1x40x40x255 to 1x1600x3x85 maps",
            "RESHAPE 1x40x40x810 to 1x14400x90 maps",
        ),
        ("reshape-size", "reshape-fold-size"),
    ),
    Rule(
        "large-tensor",
        ("TRANSPOSE_CONV",),
        "an output that is not too large",
        exceeds_size("transpose-conv-size"),
        _SAID["limitation"],
        _ISSUE.format(684),
        (),
        ("transpose-conv-size",),
    ),
    Rule(
        "large-tensor",
        ("CONCATENATION", "LOGISTIC", "STRIDED_SLICE", "SLICE", "SPLIT", "QUANTIZE"),
        "tensors of a single row (1xBxC) that are not too large",
        exceeds_row_size,
        _SAID["limitation"],
        "compiler logs of YOLOv8",
        ("CONCATENATION to 1x144x2100", "CONCATENATION to 1x84x2100 maps"),
        ("row-tensor-size",),
    ),
)


def broken_rule(operator: Operator, limits: Limits = LIMITS) -> Rule | None:
    """The first rule that ``operator`` breaks; None where it can map."""
    return next((rule for rule in RULES if rule.is_about(operator) and rule.breaks(operator, limits)), None)
