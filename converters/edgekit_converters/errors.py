"""Errors of the converters package.

ConverterError
├── ModelFileError          the bytes are no readable model
├── UnsupportedModelError   a model of a kind, or with a layer, edgekit cannot convert
├── CalibrationError        calibration data is missing, too small, or does not fit
├── TrainingError           training data does not fit, or the loss became NaN
├── TechniqueError          a compression technique cannot do what it is asked on this model
├── PromiseError            what was made is not what its name promises
├── ConverterCrashError     the converter process died
├── UnknownTargetError      no target is called so
├── TargetError             a target's tool refuses a model or fails on it
└── MissingPackageError     an optional package is not installed; the message ends with the install line
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CalibrationError",
    "ConverterCrashError",
    "ConverterError",
    "MissingPackageError",
    "ModelFileError",
    "PromiseError",
    "TargetError",
    "TechniqueError",
    "TrainingError",
    "UnknownTargetError",
    "UnsupportedModelError",
]


class ConverterError(Exception):
    """Base of everything this package raises on purpose.

    ``exit_code`` is what the command line ends with: 2 where the input must change, 3 where the world must.
    """

    exit_code = 3


class ModelFileError(ConverterError):
    """The bytes are no readable model."""

    exit_code = 2


class UnsupportedModelError(ConverterError):
    """A model of a kind, or with a layer, that edgekit cannot convert."""

    exit_code = 2


class CalibrationError(ConverterError):
    """Calibration data is missing, too small, or does not fit the model."""

    exit_code = 2


class TechniqueError(ConverterError):
    """A compression technique cannot do what it is asked: an option out of range, or a model it does not apply to."""

    exit_code = 2


class TrainingError(ConverterError):
    """Training data does not fit the model, or the loss became NaN."""

    exit_code = 2


class PromiseError(ConverterError):
    """What was made is not what its name promises; ``problems`` holds every broken promise, one sentence each."""

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ConverterCrashError(ConverterError):
    """The converter process died; ``signal_name`` says how, where it is known."""

    def __init__(self, message: str, *, signal_name: str | None = None) -> None:
        super().__init__(message)
        self.signal_name = signal_name


class UnknownTargetError(ConverterError):
    """No target is called so; ``choices`` are the names there are."""

    exit_code = 2

    def __init__(self, message: str, *, choices: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.choices = tuple(choices)


class TargetError(ConverterError):
    """A target's tool cannot be used, refuses a model, or fails on it.

    ``refused`` is true where the model has to change (exit code 2), false where the tool failed (3). ``log`` keeps the end
    of what the tool printed.
    """

    def __init__(self, message: str, *, refused: bool = False, log: str = "") -> None:
        super().__init__(message)
        self.refused, self.log = refused, log
        self.exit_code = 2 if refused else 3


class MissingPackageError(ConverterError):
    """An optional package is not installed; the message ends with the line that installs it."""
