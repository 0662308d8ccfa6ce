"""Shapes as the Edge TPU sees them: three dimensions, y, x and z, spread over four by four tiles."""

from __future__ import annotations

from math import prod

from ...model_card import TensorCard

__all__ = ["CHANNEL_STEP", "elements", "planes", "tile_bytes"]

TILE_SIDE = 4  # the chip is four by four tiles: rows and columns of a tensor are dealt out, channels are not
CHANNEL_STEP = 4


def elements(tensor: TensorCard) -> int:
    """How many values a tensor holds."""
    return prod(tensor.shape)


def planes(tensor: TensorCard) -> tuple[int, int, int]:
    """The innermost three dimensions: rows y, columns x, channels z; 1 where the tensor has fewer."""
    y, x, z = (1, 1, 1, *tensor.shape)[-3:]
    return y, x, z


def tile_bytes(tensor: TensorCard) -> int:
    """About how many bytes of an 8-bit tensor one tile holds when rows and columns are dealt out evenly."""
    y, x, z = planes(tensor)
    return -(-y // TILE_SIDE) * -(-x // TILE_SIDE) * -(-z // CHANNEL_STEP) * CHANNEL_STEP
