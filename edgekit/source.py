"""The model that is given: what kind it is, its fingerprint, and where a child process can read it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import edgekit_converters as converters
import numpy as np

from .boundary import translated
from .errors import ModelInputError, UsageError
from .store import file_sha256

__all__ = ["Source"]

Shapes = Mapping[str, list[int]]


class Source:
    """A Keras model in memory, or the path of a ``.keras``, ``.h5``, SavedModel folder or ``.tflite``.

    ``kind`` is one of the converters' kinds, or ``memory``. Raises UsageError for anything else, ModelInputError for a file
    that is none of them.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.kind = _kind(model)
        self.name = (
            Path(os.fspath(model)).name if self.kind != "memory" else str(getattr(model, "name", None) or "model")
        )
        self.sha256 = _sha256(model, self.kind)

    @property
    def facts(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"kind": self.kind, "sha256": self.sha256, "name": self.name}

    def to_export(self, scratch: Path, *, batch: int, shapes: Shapes) -> Path:
        """The model as the export job reads it; one in memory is traced into ``scratch``."""
        if self.kind != "memory":
            return Path(os.fspath(self.model))
        from edgekit_converters.export import export_saved_model

        folder = scratch / "saved_model"
        if not folder.exists():
            export_saved_model(self.model, folder, batch=batch, shapes=shapes)
        return folder

    def to_compress(self, scratch: Path) -> Path:
        """The model as a Keras file, which is what techniques change; raises ModelInputError where there is none."""
        if self.kind in ("keras", "h5"):
            return Path(os.fspath(self.model))
        if self.kind != "memory":
            shown = "a SavedModel" if self.kind == "saved_model" else "a .tflite"
            raise ModelInputError(
                f"expected a Keras model (.keras or .h5) for recipes that slim, prune, cluster, distill or train, got {shown}: "
                "give the Keras model it was made from, or choose recipes that only quantize"
            )
        from edgekit_converters.load import ensure_movable

        ensure_movable(self.model)
        path = scratch / "given.keras"
        if not path.exists():
            try:
                self.model.save(str(path))
            except Exception as error:  # a layer or model without get_config raises what it likes
                raise ModelInputError(
                    f"the model in memory cannot be saved as a .keras file, which changing it needs: {error}. Build it with "
                    "keras.Model(inputs, outputs) from registered layers"
                ) from error
        return path


def _kind(model: Any) -> str:
    if isinstance(model, (str, os.PathLike)):
        with translated():
            return converters.detect_kind(model)
    if isinstance(model, bytes):
        raise UsageError("expected a model in memory or a path, got bytes: write them to a .tflite file first")
    if converters.is_keras_model(model) is None:
        raise UsageError(f"expected a Keras model or a path, got {type(model).__module__}.{type(model).__name__}")
    return "memory"


def _sha256(model: Any, kind: str) -> str:
    """Of the file or folder; of a model in memory, of its configuration and weights."""
    if kind != "memory":
        return file_sha256(Path(os.fspath(model)))
    digest = hashlib.sha256()
    try:
        digest.update(model.to_json().encode())
    except Exception:  # a subclassed model without get_config: its weights and type must do
        digest.update(type(model).__qualname__.encode())
    for weight in model.get_weights():
        digest.update(str((weight.dtype, weight.shape)).encode() + np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
