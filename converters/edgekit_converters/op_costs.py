"""What one operator costs: its multiply-accumulates (MACs), counted from shapes alone.

A multiply and the addition that follows it count as one. Bias additions, activations, pooling, softmax and every
operator not listed here count as 0, as is the custom of the mobile-network papers (MobileNet, arXiv:1704.04861).
Shapes are TensorFlow Lite's own: activations NHWC, kernels as named below. A dynamic (negative) dimension counts as 1,
so the figure of a model with a free batch is that of one sample.

===============================  ==========================================================  =========================
operator                         MACs                                                        kernel layout
===============================  ==========================================================  =========================
CONV_2D                          output elements x kh x kw x cin                             [cout, kh, kw, cin/groups]
DEPTHWISE_CONV_2D                output elements x kh x kw                                   [1, kh, kw, cout]
CONV_3D                          output elements x kd x kh x kw x cin                        [kd, kh, kw, cin, cout]
FULLY_CONNECTED                  output elements x cin                                       [cout, cin]
TRANSPOSE_CONV                   input elements x kh x kw x cout (what SAME padding crops    [cout, kh, kw, cin]
                                 is counted too: an upper bound)
BATCH_MATMUL                     output elements x length of the contracted dimension        either operand
UNIDIRECTIONAL_SEQUENCE_LSTM     batch x time x elements of the gate and projection kernels  [units, cin] each
===============================  ==========================================================  =========================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

__all__ = ["Shape", "count_elements", "count_macs"]

Shape = tuple[int, ...]
_Shapes = Sequence["Shape | None"]

_LSTM_KERNELS = (1, 2, 3, 4, 5, 6, 7, 8, 16)


def count_elements(shape: Shape) -> int:
    """Elements of a tensor of ``shape``; a dynamic (negative) dimension counts as 1, a scalar has one element."""
    return math.prod(1 if size < 0 else size for size in shape)


def count_macs(op_type: str, inputs: _Shapes, outputs: _Shapes) -> int:
    """MACs of one run of ``op_type`` (a builtin operator's name) on operands of these shapes; None is no operand.

    0 for an operator that is not in the module's table, and for operands too few or of a rank the table does not know.
    """
    count = _COUNTERS.get(op_type)
    if count is None:
        return 0
    return count(inputs, _shape(outputs, 0))


def _shape(shapes: _Shapes, position: int, rank: int | None = None) -> Shape | None:
    """The shape at ``position`` when it is there and has ``rank`` dimensions, dynamic ones as 1."""
    shape = shapes[position] if position < len(shapes) else None
    if shape is None or (rank is not None and len(shape) != rank):
        return None
    return tuple(1 if size < 0 else size for size in shape)


def _by_kernel(rank: int, per_output: slice) -> Callable[[_Shapes, Shape | None], int]:
    """A counter: output elements times the kernel's dimensions in ``per_output``."""

    def count(inputs: _Shapes, output: Shape | None) -> int:
        kernel = _shape(inputs, 1, rank)
        return 0 if kernel is None or output is None else math.prod(output) * math.prod(kernel[per_output])

    return count


def _transpose_conv(inputs: _Shapes, output: Shape | None) -> int:
    kernel, activation = _shape(inputs, 1, 4), _shape(inputs, 2, 4)
    return 0 if kernel is None or activation is None else math.prod(activation) * math.prod(kernel[:3])


def _batch_matmul(inputs: _Shapes, output: Shape | None) -> int:
    left = _shape(inputs, 0)
    if left is None or output is None or len(left) < 2 or len(output) < 2:
        return 0
    # The left side is [.., rows, depth], or [.., depth, rows] when adjoint; a square one has one answer either way.
    depth = left[-1] if left[-2] == output[-2] else left[-2]
    return math.prod(output) * depth


def _lstm(inputs: _Shapes, output: Shape | None) -> int:
    sequence = _shape(inputs, 0, 3)
    if sequence is None:
        return 0
    kernels = (_shape(inputs, position, 2) for position in _LSTM_KERNELS)
    return sequence[0] * sequence[1] * sum(math.prod(kernel) for kernel in kernels if kernel is not None)


_COUNTERS: dict[str, Callable[[_Shapes, Shape | None], int]] = {
    "CONV_2D": _by_kernel(4, slice(1, 4)),
    "DEPTHWISE_CONV_2D": _by_kernel(4, slice(1, 3)),
    "CONV_3D": _by_kernel(5, slice(0, 4)),
    "FULLY_CONNECTED": _by_kernel(2, slice(1, 2)),
    "TRANSPOSE_CONV": _transpose_conv,
    "BATCH_MATMUL": _batch_matmul,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
}
