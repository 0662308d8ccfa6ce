"""Architectures by name, each a function from an input shape and a number of classes to a Keras 3 model."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from ..errors import TrainingError
from .classic_cnn import classic_cnn

__all__ = ["ARCHITECTURES", "build"]

ARCHITECTURES: dict[str, Callable[..., Any]] = {"classic-cnn": classic_cnn}


def build(name: str, input_shape: tuple[int, ...], classes: int) -> Any:
    """The architecture called ``name``; raises TrainingError listing the known ones."""
    if name not in ARCHITECTURES:
        close = difflib.get_close_matches(name, ARCHITECTURES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise TrainingError(f"unknown architecture {name!r}{hint} Choose from: {', '.join(sorted(ARCHITECTURES))}")
    return ARCHITECTURES[name](input_shape, classes)
