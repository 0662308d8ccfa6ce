"""Architectures by name, each a function from an input shape and a number of classes to a Keras 3 model."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from ..errors import TrainingError
from .classic_cnn import classic_cnn
from .mlp import mlp
from .resnet8 import resnet8
from .separable import ds_cnn, mobilenet_tiny

__all__ = ["ARCHITECTURES", "build"]

ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "classic-cnn": classic_cnn,
    "ds-cnn": ds_cnn,
    "mlp": mlp,
    "mobilenet-tiny": mobilenet_tiny,
    "resnet8": resnet8,
}


def build(name: str, input_shape: tuple[int, ...], classes: int) -> Any:
    """The architecture called ``name``; raises TrainingError listing the known ones."""
    if name not in ARCHITECTURES:
        close = difflib.get_close_matches(name, ARCHITECTURES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise TrainingError(f"unknown architecture {name!r}{hint} Choose from: {', '.join(sorted(ARCHITECTURES))}")
    return ARCHITECTURES[name](input_shape, classes)
