"""A Keras model to int8 by edgekit's own converter, and what the pre-flight makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from edgekit_converters.export import export_float
from edgekit_converters.load import LoadedModel
from edgekit_converters.model_card import read_model_card
from edgekit_converters.quantize import QuantizeOptions, quantize
from edgekit_converters.targets.edgetpu_map import predict
from edgekit_converters.targets.operators import read_operators
from edgekit_converters.targets.records import TargetReport
from edgekit_converters.targets.target import find_target

ROWS = 8


def trained(model: Any, seed: int = 1) -> Any:
    """``model`` with weights as training leaves them: biases are not zero (the converter would leave those out)."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed" in weight.path:
            continue
        values = rng.normal(0, 0.3, weight.shape).astype(np.float32)
        positive = any(part in weight.path for part in ("variance", "gamma"))
        weight.assign(np.abs(values) + 0.5 if positive else values)
    return model


def samples_of(float_model: bytes, rows: int = ROWS) -> np.ndarray:
    """Samples for the one input: normal for floats, small numbers for words."""
    rng, tensor = np.random.default_rng(0), read_model_card(float_model).inputs[0]
    shape = (rows, *tensor.shape[1:])
    if tensor.dtype.startswith("int"):
        return rng.integers(0, 50, shape).astype(tensor.dtype)
    return rng.normal(0.5, 0.5, shape).astype(np.float32)


def float_of(model: Any, batch: int = 1) -> bytes:
    """The float .tflite of a Keras model."""
    return export_float(LoadedModel(model, "keras"), batch=batch).tflite


def int8_of(
    float_model: bytes,
    *,
    precision: str = "int8",
    input_type: str = "int8",
    output_type: str = "int8",
    options: QuantizeOptions | None = None,
) -> bytes:
    """As ``convert --target coral`` makes it, unless told otherwise."""
    made = quantize(
        float_model,
        precision=precision,
        input_type=input_type,
        output_type=output_type,
        samples={"x": samples_of(float_model)},
        options=options or QuantizeOptions(),
    )
    return made.tflite


def preflight(tflite: bytes, *, early: bool = False) -> TargetReport:
    """What the rules make of a model; ``early`` reads a float model as if it were int8."""
    return predict(read_operators(tflite), find_target("coral"), assume_int8=early)
