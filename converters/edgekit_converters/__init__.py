"""edgekit_converters: Keras models to .tflite at every precision, verified. Importing this loads no TensorFlow."""

from .errors import (
    CalibrationError,
    ConverterCrashError,
    ConverterError,
    MissingPackageError,
    ModelFileError,
    PromiseError,
    TargetError,
    TechniqueError,
    TrainingError,
    UnknownTargetError,
    UnsupportedModelError,
)
from .isolate import Worker
from .load import detect_kind, is_keras_model
from .model_card import ModelCard, read_model_card
from .quantize import needs_calibration, quantize
from .verify import PRECISIONS, verify

__all__ = [
    "PRECISIONS",
    "CalibrationError",
    "ConverterCrashError",
    "ConverterError",
    "MissingPackageError",
    "ModelCard",
    "ModelFileError",
    "PromiseError",
    "TargetError",
    "TechniqueError",
    "TrainingError",
    "UnknownTargetError",
    "UnsupportedModelError",
    "Worker",
    "detect_kind",
    "is_keras_model",
    "needs_calibration",
    "quantize",
    "read_model_card",
    "verify",
]
