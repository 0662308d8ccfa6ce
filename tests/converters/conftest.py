"""Models that are built once for all tests of the converters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from edgekit_converters import Worker

from tests.converters.keras_zoo import Case, build_cases, build_files


@dataclass(frozen=True)
class Zoo:
    """Models in memory, and files of them with the name of the model each holds."""

    cases: dict[str, Case]
    files: dict[str, tuple[Path, str]]
    folder: Path


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Every model of keras_zoo, in this process: TensorFlow is imported here."""
    folder = tmp_path_factory.mktemp("zoo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras on what it writes: old formats are what these files are for
        cases = build_cases()
        return Zoo(cases, build_files(folder, cases), folder)


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    """One converter process for all tests that need no process of their own."""
    with Worker() as shared:
        yield shared


def run_tflite(tflite: bytes, rows: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of one run, in order; floats go in and come out of quantized ends by their scale and zero-point."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite)
    interpreter.allocate_tensors()
    for raw, value in zip(interpreter.get_input_details(), rows, strict=True):
        scale, zero_point = raw["quantization"]
        if scale:
            limits = np.iinfo(raw["dtype"])
            value = np.clip(np.round(value.astype(np.float32) / scale) + zero_point, limits.min, limits.max)
        interpreter.set_tensor(raw["index"], value.astype(raw["dtype"]))
    interpreter.invoke()
    results = []
    for raw in interpreter.get_output_details():
        value, (scale, zero_point) = interpreter.get_tensor(raw["index"]), raw["quantization"]
        results.append((value.astype(np.float32) - zero_point) * np.float32(scale) if scale else value)
    return results
