"""A model as one float32 .tflite with static shapes: what every other precision is made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._tf import import_tensorflow
from .errors import PromiseError, UnsupportedModelError
from .layers import Origin, layer_names, name_layers
from .load import ORDER_FILE, LoadedModel, is_keras_model
from .products import write_products
from .reason import conversion_reason, first_line
from .reorder import reorder_interface
from .trace import Shapes, Traced, trace

__all__ = ["FloatExport", "export_float", "export_saved_model"]

CHECK_SEED = 0


@dataclass(frozen=True)
class FloatExport:
    """``tflite`` and how far its outputs are from the model's own on one random sample.

    ``max_abs_diff`` is None where nothing was compared: a free batch, no float output, or an output that is no number.
    ``layers`` names the Keras layer of every operator of subgraph 0, None for one that the converter inserted.
    """

    tflite: bytes
    framework: str
    max_abs_diff: float | None
    layers: tuple[str | None, ...] = ()


def export_float(loaded: LoadedModel, *, batch: int = 1, shapes: Shapes | None = None) -> FloatExport:
    """Convert to float32 with TFLite builtin ops only and static shapes (``batch`` rows; -1 leaves it free).

    ``shapes`` gives sample shapes (without the batch) for dimensions the model leaves open, by input name; a single one
    may have any name. Inputs, outputs and their names are as in ``trace``.

    Raises UnsupportedModelError with the converter's reason, PromiseError when the result does not load.
    """
    tensorflow = import_tensorflow()
    traced = trace(loaded, batch=batch, shapes=shapes or {})
    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([traced.function], traced.module)
    try:
        tflite = bytes(converter.convert())
    except Exception as error:  # the converter raises its MLIR diagnostics as several kinds
        raise UnsupportedModelError(f"the model cannot be converted: {conversion_reason(error)}") from error
    ordered = write_products(reorder_interface(tflite, traced.input_names, traced.output_names))
    origin = Origin.from_dict(loaded.origin) if loaded.framework == "saved_model" else _origin(loaded, traced)
    named = name_layers(ordered, origin.layers, framework=origin.framework, producers=origin.producers)
    return FloatExport(ordered, loaded.framework, _difference(traced, ordered) if batch != -1 else None, named)


def export_saved_model(model: Any, folder: Path, *, batch: int = 1, shapes: Shapes | None = None) -> None:
    """Write a Keras model in memory as a SavedModel, so that another process can convert it.

    Raises UnsupportedModelError for anything that is no Keras model, or that cannot be traced or saved.
    """
    framework = is_keras_model(model)
    if framework is None:
        raise UnsupportedModelError(
            f"expected a Keras model or a path, got {type(model).__module__}.{type(model).__name__}"
        )
    tensorflow = import_tensorflow()
    loaded = LoadedModel(model, framework)
    traced = trace(loaded, batch=batch, shapes=shapes or {})
    try:
        tensorflow.saved_model.save(traced.module, str(folder), signatures={"serving_default": traced.function})
    except (AssertionError, ValueError, TypeError) as error:  # a lookup table or another resource of a layer
        raise UnsupportedModelError(
            f"the model cannot be handed to the converter: {first_line(error)}. Look words up before the model, in your "
            "own code: TFLite has no operator for it"
        ) from error
    origin = _origin(loaded, traced).to_dict()
    order = {"inputs": traced.input_names, "outputs": traced.output_names, "origin": origin}
    (folder / ORDER_FILE).write_text(json.dumps(order), encoding="utf-8")


def _origin(loaded: LoadedModel, traced: Traced) -> Origin:
    """What a Keras model knows of its layers; the scopes say the rest where it cannot be walked."""
    return Origin(tuple(layer_names(loaded.model)), traced.producers, loaded.framework)


def _difference(traced: Traced, tflite: bytes) -> float | None:
    """The largest difference between the model and its float .tflite on one random sample."""
    from ai_edge_litert.interpreter import Interpreter

    rng = np.random.default_rng(CHECK_SEED)
    try:
        interpreter = Interpreter(model_content=tflite)
        interpreter.allocate_tensors()
        samples = [_sample(rng, raw) for raw in interpreter.get_input_details()]
        for raw, sample in zip(interpreter.get_input_details(), samples, strict=True):
            interpreter.set_tensor(raw["index"], sample)
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise PromiseError(f"the float model was made but does not run: {first_line(error)}") from error
    found = [interpreter.get_tensor(raw["index"]) for raw in interpreter.get_output_details()]
    results = traced.function(*(import_tensorflow().constant(sample) for sample in samples))
    expected = [np.asarray(results[name]) for name in traced.output_names]
    gaps = [
        float(np.max(np.abs(ours - theirs)))
        for ours, theirs in zip(found, expected, strict=True)
        if ours.shape == theirs.shape and ours.dtype.kind == "f" and ours.size
    ]
    return max(gaps) if gaps and np.isfinite(gaps).all() else None


def _sample(rng: np.random.Generator, raw: Any) -> Any:
    """One sample for an input: uniform in [0, 1) for floats, zeros for anything else."""
    if np.dtype(raw["dtype"]).kind == "f":
        return rng.uniform(0, 1, raw["shape"]).astype(raw["dtype"])
    return np.zeros(raw["shape"], raw["dtype"])
