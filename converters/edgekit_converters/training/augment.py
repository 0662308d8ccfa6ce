"""Images changed a little each time they are trained on, so that a network does not learn them by heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import TrainingError

__all__ = ["AUGMENTATIONS", "augmented", "ensure_images"]

Array = npt.NDArray[Any]
AUGMENTATIONS = ("none", "shift", "flip", "flip-shift")
# The share of height and width by which an image is moved at most.
MOST_SHIFT = 1 / 8


def augmented(images: Array, how: str, random: np.random.Generator) -> Array:
    """Copies of ``images`` (N, H, W, C), moved by up to an eighth and mirrored left to right by chance, as ``how`` says.

    What moves in at a border is the image mirrored there, which needs no value that stands for nothing.
    """
    count, height, width, _ = images.shape
    most = [max(1, round(size * MOST_SHIFT)) if "shift" in how else 0 for size in (height, width)]
    mirrored = random.integers(0, 2, count) == 1 if "flip" in how else np.zeros(count, bool)
    down: Array = random.integers(0, 2 * most[0] + 1, size=(count, 1))
    right: Array = random.integers(0, 2 * most[1] + 1, size=(count, 1))
    padded = np.pad(images, ((0, 0), (most[0], most[0]), (most[1], most[1]), (0, 0)), mode="symmetric")
    rows = down + np.arange(height)
    columns = right + np.arange(width)
    columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
    moved: Array = padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved


def ensure_images(inputs: Sequence[Array], how: str) -> None:
    """Raise TrainingError where ``how`` changes images and the samples are none: one input of shape (N, H, W, C)."""
    if how != "none" and (len(inputs) != 1 or inputs[0].ndim != 4 or min(inputs[0].shape[1:3]) < 2):
        shapes = ", ".join(str(values.shape[1:]) for values in inputs)
        raise TrainingError(f"expected images of shape (H, W, C) for augment = {how!r}, got {shapes}: set it to 'none'")
