"""Time per operator, by the Keras layer each operator came from."""

from __future__ import annotations

import os
from pathlib import Path

from edgekit_converters import ConverterError
from edgekit_converters.layers import name_layers

from .store import is_run

__all__ = ["operator_layers"]


def operator_layers(model: str | os.PathLike[str], variant: str = "") -> tuple[str | None, ...]:
    """The Keras layer behind every operator of a .tflite, or of a ``variant`` of a run, as far as its own names tell.

    Empty where the file cannot be read as one: a profile is shown without layers then.
    """
    path = Path(model)
    if is_run(path):
        path = path / "variants" / f"{variant}.tflite"
    try:
        return name_layers(path.read_bytes())
    except (OSError, ConverterError):
        return ()
