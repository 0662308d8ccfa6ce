"""What a verb works on: a run folder, or one .tflite."""

from __future__ import annotations

import os
from pathlib import Path

from edgekit_converters import ModelFileError, detect_kind

from .errors import ModelInputError, UsageError
from .store import RunStore, is_run

__all__ = ["check_tflite", "open_subject"]

_KERAS_KINDS = {"keras": "a Keras model", "h5": "a Keras model", "saved_model": "a SavedModel"}


def open_subject(path: str | os.PathLike[str]) -> RunStore | Path:
    """The run at ``path``, or the path of the .tflite there; raises UsageError or ModelInputError for anything else."""
    if is_run(path):
        return RunStore.open(path)
    target = Path(path)
    if target.is_dir() and _kind(target) is None:
        raise UsageError(f"expected a run folder (one with run.json) or a .tflite, got the folder {target}")
    return check_tflite(target)


def check_tflite(path: Path) -> Path:
    """``path`` when it starts like a .tflite; raises ModelInputError, which says how to convert a Keras model."""
    kind = _kind(path)
    if kind == "tflite":
        return path
    if kind is not None:
        raise ModelInputError(
            f"expected a .tflite, got {_KERAS_KINDS[kind]}: {path}. Convert it first: edgekit convert {path} --out RUN"
        )
    if path.is_dir():
        raise ModelInputError(f"expected a .tflite, got the folder {path}")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ModelInputError(f"expected a .tflite, cannot read {path}: {error.strerror or error}") from error
    starts = f"starts with {head.hex()}" if head else "is empty"
    raise ModelInputError(f"expected a .tflite ('TFL3' at byte 4), got {path}, which {starts}: check the path")


def _kind(path: Path) -> str | None:
    try:
        return detect_kind(path)
    except ModelFileError:
        return None
