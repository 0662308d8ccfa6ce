"""The Edge TPU's cycles for an operator: 16 tiles in 4 x 4 share an image, each multiplies 4 inputs with 16 outputs at a time.

Compilers up to 14 left their own count in what they compiled. Over chains of equal convolutions this formula gives it to within
16 cycles; over other networks the compiler's count is 0.99 to 1.39 times this one (docs/edgetpu-compiled.md). It counted no
fully connected layer; the cycles of one here are its multiplications over 1,024.
"""

from __future__ import annotations

from ..operators import Operator

__all__ = ["MACS_PER_CYCLE", "count_cycles"]

MACS_PER_CYCLE = 1024


def count_cycles(op: Operator) -> int:
    """Cycles of a convolution, a depthwise one, or a fully connected layer; 0 for every other operator."""
    weights = op.inputs[1].shape if len(op.inputs) > 1 and op.inputs[1] is not None else ()
    image = op.outputs[0].shape if op.outputs and op.outputs[0] is not None else ()
    if min((*weights, *image), default=0) < 1:
        return 0
    if op.type == "FULLY_CONNECTED" and len(weights) == 2:
        return _steps(weights[1], 4) * _outputs(weights[0]) // 16
    if len(weights) != 4 or len(image) != 4:
        return 0
    pixels = _steps(image[1], 4) * _steps(image[2], 4)
    taps = weights[1] * weights[2]
    if op.type == "CONV_2D":
        cycles = pixels * taps * _steps(weights[3], 4) * _outputs(weights[0])
        # A single pixel has nothing to share among the tiles but its outputs, as a fully connected layer has.
        return cycles if image[1] * image[2] > 1 else -(-cycles // 16)
    if op.type == "DEPTHWISE_CONV_2D":
        return pixels * _steps(taps, 4) * _outputs(weights[3])
    return 0


def _outputs(channels: int) -> int:
    """Groups of 16 outputs; more than 64 come four groups at a time, as the compiler packs them."""
    return _steps(channels, 16) if channels <= 64 else 4 * _steps(channels, 64)


def _steps(size: int, at_a_time: int) -> int:
    return -(-size // at_a_time)
