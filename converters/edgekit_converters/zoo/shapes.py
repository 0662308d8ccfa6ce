"""What architectures ask of their samples."""

from __future__ import annotations

from ..errors import TrainingError

__all__ = ["ensure_image"]


def ensure_image(architecture: str, input_shape: tuple[int, ...], least: int) -> None:
    """Raise TrainingError unless samples have the shape (H, W, C) with H and W of at least ``least``."""
    if len(input_shape) != 3 or min(input_shape[:2]) < least:
        raise TrainingError(
            f"expected images of shape (H, W, C), at least {least} by {least}, for {architecture}, "
            f"got samples of shape {input_shape}"
        )
