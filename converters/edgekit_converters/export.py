"""A model in memory, or on disk, as one float32 .tflite with static shapes: what every other precision is made from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._tf import import_tensorflow
from .errors import ConverterError, UnsupportedModelError
from .load import ORDER_FILE, LoadedModel, is_keras_model
from .reorder import reorder_interface

__all__ = ["FloatExport", "export_float", "export_saved_model"]

CHECK_SEED = 0


@dataclass(frozen=True)
class FloatExport:
    """``tflite`` and how far its outputs are from the model's own on one random sample (None where not compared)."""

    tflite: bytes
    framework: str
    max_abs_diff: float | None


@dataclass(frozen=True)
class _Traced:
    """A concrete function with named inputs and outputs, and the variables it reads."""

    function: Any
    module: Any
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    original: Any


def export_float(
    loaded: LoadedModel, *, batch: int = 1, shapes: Mapping[str, Sequence[int]] | None = None
) -> FloatExport:
    """Convert to float32 with TFLite builtin ops only and static shapes (``batch`` rows; -1 leaves it free).

    ``shapes`` gives sample shapes (without the batch) for inputs whose own are unknown, by input name, or under ``x``
    for a single input. Raises UnsupportedModelError with the converter's reason.
    """
    tensorflow = import_tensorflow()
    traced = _trace(loaded, batch, shapes or {})
    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([traced.function], traced.module)
    try:
        tflite = bytes(converter.convert())
    except Exception as error:  # the converter raises its MLIR diagnostics as several kinds
        raise UnsupportedModelError(f"the model cannot be converted: {_reason(error)}") from error
    ordered = reorder_interface(tflite, traced.input_names, traced.output_names)
    return FloatExport(ordered, loaded.framework, _difference(traced, ordered) if batch != -1 else None)


def export_saved_model(
    model: Any, folder: Path, *, batch: int = 1, shapes: Mapping[str, Sequence[int]] | None = None
) -> None:
    """Write a Keras model in memory as a SavedModel, so that another process can convert it.

    Raises UnsupportedModelError for anything that is no Keras model.
    """
    framework = is_keras_model(model)
    if framework is None:
        raise UnsupportedModelError(
            f"expected a Keras model or a path, got {type(model).__module__}.{type(model).__name__}"
        )
    tensorflow = import_tensorflow()
    traced = _trace(LoadedModel(model, framework), batch, shapes or {})
    tensorflow.saved_model.save(traced.module, str(folder), signatures={"serving_default": traced.function})
    order = {"inputs": traced.input_names, "outputs": traced.output_names}
    (folder / ORDER_FILE).write_text(json.dumps(order), encoding="utf-8")


def _trace(loaded: LoadedModel, batch: int, shapes: Mapping[str, Sequence[int]]) -> _Traced:
    if loaded.framework == "saved_model":
        return _trace_saved_model(loaded, batch, shapes)
    tensorflow = import_tensorflow()
    model = loaded.model
    inputs = _keras_inputs(model, shapes)
    names = _unique([_identifier(item.name) for item in inputs])
    specs = [
        tensorflow.TensorSpec(_static_shape(name, item.shape, batch, shapes, len(inputs)), item.dtype, name=name)
        for name, item in zip(names, inputs, strict=True)
    ]
    structure = getattr(model, "input", None)
    keyed = list(structure) if isinstance(structure, dict) else None

    def call(*tensors: Any) -> Any:
        arguments = (
            dict(zip(keyed, tensors, strict=True)) if keyed else tensors[0] if len(tensors) == 1 else list(tensors)
        )
        return model(arguments, training=False)

    return _trace_call(call, specs, names, _output_names(model), _variables(loaded))


def _trace_saved_model(loaded: LoadedModel, batch: int, shapes: Mapping[str, Sequence[int]]) -> _Traced:
    tensorflow = import_tensorflow()
    model = loaded.model
    signatures = dict(getattr(model, "signatures", {}))
    if not signatures:
        raise UnsupportedModelError("expected a SavedModel with a serving signature, got one without: export it again")
    key = "serving_default" if "serving_default" in signatures else sorted(signatures)[0]
    signature = signatures[key]
    wanted = signature.structured_input_signature[1]
    names = tuple(name for name in (loaded.order.get("inputs") or wanted) if name in wanted)
    specs = [
        tensorflow.TensorSpec(
            _static_shape(name, wanted[name].shape, batch, shapes, len(names)), wanted[name].dtype, name=name
        )
        for name in names
    ]

    def call(*tensors: Any) -> Any:
        return signature(**dict(zip(names, tensors, strict=True)))

    outputs = tuple(loaded.order.get("outputs") or signature.structured_outputs)
    return _trace_call(call, specs, names, outputs, list(model.variables) if hasattr(model, "variables") else [], model)


def _trace_call(
    call: Any, specs: list[Any], names: tuple[str, ...], wanted: tuple[str, ...], variables: list[Any], keep: Any = None
) -> _Traced:
    """Trace ``call`` over ``specs``; its outputs become a dict so that the signature carries their names."""
    tensorflow = import_tensorflow()
    used: list[tuple[str, ...]] = []

    def flat(*tensors: Any) -> Any:
        result = call(*tensors)
        if isinstance(result, Mapping):
            keys = tuple(name for name in wanted if name in result) or tuple(map(str, result))
            used.append(_unique([_identifier(key) for key in keys]))
            return dict(zip(used[-1], (result[key] for key in keys), strict=True))
        outputs = list(tensorflow.nest.flatten(result))
        labels = wanted if len(wanted) == len(outputs) else [f"output_{index}" for index in range(len(outputs))]
        used.append(_unique([_identifier(label) for label in labels]))
        return dict(zip(used[-1], outputs, strict=True))

    try:
        function = tensorflow.function(flat, input_signature=specs).get_concrete_function()
    except ConverterError:
        raise
    except Exception as error:  # a layer's own error, of any kind
        raise UnsupportedModelError(f"the model cannot be traced with static shapes: {_reason(error)}") from error
    module = tensorflow.Module()
    module.kept = variables
    module.origin = keep
    return _Traced(function, module, names, used[-1], call)


def _keras_inputs(model: Any, shapes: Mapping[str, Sequence[int]]) -> list[Any]:
    """The model's symbolic inputs; an unbuilt model is built from the sample shape first."""
    try:
        inputs = model.inputs
    except (AttributeError, ValueError):
        inputs = None
    if not inputs and len(shapes) == 1:
        try:
            model(np.zeros((1, *next(iter(shapes.values()))), np.float32))
            inputs = model.inputs
        except Exception as error:  # a layer's own error, of any kind
            raise UnsupportedModelError(
                f"the model cannot be built from samples of shape {shapes}: {_reason(error)}"
            ) from error
    if not inputs and len(shapes) == 1:  # a subclassed model: callable, but without symbolic inputs
        tensorflow = import_tensorflow()
        shape = (None, *next(iter(shapes.values())))
        return [tensorflow.TensorSpec(shape, tensorflow.float32, name="x")]
    if not inputs:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no known input shape: give it data (--data), or build it with an Input layer"
        )
    return list(inputs)


def _static_shape(
    name: str, shape: Any, batch: int, shapes: Mapping[str, Sequence[int]], count: int
) -> tuple[int | None, ...]:
    sizes: list[int | None] = [None if size is None else int(size) for size in shape]
    sample = shapes.get(name, shapes.get("x") if count == 1 else None)
    if sample is not None and len(sample) == len(sizes) - 1:
        sizes[1:] = [size if size is not None else int(given) for size, given in zip(sizes[1:], sample, strict=True)]
    if None in sizes[1:]:
        raise UnsupportedModelError(
            f"input {name!r} has unknown dimensions {tuple(sizes)}: give data of the wanted shape (--data), or rebuild the "
            "model with a fixed Input shape"
        )
    return (None if batch == -1 else batch, *sizes[1:]) if sizes else ()


def _output_names(model: Any) -> tuple[str, ...]:
    structure = getattr(model, "output", None) if hasattr(model, "outputs") else None
    if isinstance(structure, dict):
        return tuple(structure)
    names = tuple(getattr(model, "output_names", None) or ())
    return names if len(set(names)) == len(names) else ()


def _variables(loaded: LoadedModel) -> list[Any]:
    """The tf.Variables behind the model: Keras 3 wraps them."""
    return [variable.value if loaded.framework == "keras" else variable for variable in loaded.model.variables]


def _difference(traced: _Traced, tflite: bytes) -> float | None:
    """The largest difference between the model and its float .tflite on one random sample."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(CHECK_SEED)
    details = interpreter.get_input_details()
    samples = [
        rng.uniform(0, 1, raw["shape"]).astype(raw["dtype"])
        if np.dtype(raw["dtype"]).kind == "f"
        else np.zeros(raw["shape"], raw["dtype"])
        for raw in details
    ]
    for raw, value in zip(details, samples, strict=True):
        interpreter.set_tensor(raw["index"], value)
    interpreter.invoke()
    expected = traced.function(*[import_tensorflow().constant(value) for value in samples])
    found = [interpreter.get_tensor(raw["index"]) for raw in interpreter.get_output_details()]
    pairs = [(np.asarray(expected[name]), value) for name, value in zip(traced.output_names, found, strict=True)]
    floats = [float(np.max(np.abs(a - b))) for a, b in pairs if a.shape == b.shape and a.dtype.kind == "f" and a.size]
    return max(floats) if floats else None


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", str(name).split(":")[0]) or "x"


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        unique.append(f"{name}_{count}" if count else name)
    return tuple(unique)


def _reason(error: BaseException) -> str:
    """The telling line of a converter's message, which may be hundreds of lines of MLIR."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    flex = [line for line in lines if "Select TF ops" in line or line.startswith("Flex ops") or "Custom ops:" in line]
    telling = flex or [line for line in lines if "error:" in line or "rror" in line] or lines
    return "; ".join(telling[:2])[:500] if telling else type(error).__name__
