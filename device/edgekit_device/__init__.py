"""edgekit_device: run a .tflite model on a board and report what it cost. Importing this loads no runtime, nor numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    ClosedError,
    DataError,
    DelegateError,
    DeviceRuntimeError,
    InferenceError,
    InputError,
    ModelCrashError,
    ModelError,
    ReportError,
    RuntimeMissingError,
)

if TYPE_CHECKING:
    from .measurement import measure
    from .model import Model
    from .report import BenchmarkReport
    from .tensors import TensorSpec

__version__ = "0.1.0"

__all__ = [
    "BenchmarkReport",
    "ClosedError",
    "DataError",
    "DelegateError",
    "DeviceRuntimeError",
    "InferenceError",
    "InputError",
    "Model",
    "ModelCrashError",
    "ModelError",
    "ReportError",
    "RuntimeMissingError",
    "TensorSpec",
    "__version__",
    "measure",
]


_HOMES = {"BenchmarkReport": "report", "Model": "model", "TensorSpec": "tensors", "measure": "measurement"}


def __getattr__(name: str) -> Any:
    """What is large is imported when asked for: a command that only hands out reports does not wait for numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
