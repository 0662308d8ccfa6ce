"""edgekit_device: run a .tflite model on a board and report what it cost. Importing this loads no TFLite runtime."""

from .errors import (
    ClosedError,
    DataError,
    DeviceRuntimeError,
    InferenceError,
    InputError,
    ModelCrashError,
    ModelError,
    ReportError,
    RuntimeMissingError,
)
from .measure import measure
from .model import Model, TensorSpec
from .report import BenchmarkReport

__version__ = "0.1.0"

__all__ = [
    "BenchmarkReport",
    "ClosedError",
    "DataError",
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
