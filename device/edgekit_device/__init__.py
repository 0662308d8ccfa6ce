"""edgekit_device: run a .tflite model on a board and report what it cost. Importing this loads no TFLite runtime."""

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
from .model import Model
from .tensors import TensorSpec

if TYPE_CHECKING:
    from .measurement import measure
    from .report import BenchmarkReport

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


def __getattr__(name: str) -> Any:
    """What only a benchmark needs is imported when asked for: running a model stays cheap to start."""
    if name == "BenchmarkReport":
        from .report import BenchmarkReport

        return BenchmarkReport
    if name == "measure":
        from .measurement import measure

        return measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
