"""Where errors of the two other packages become edgekit's own, the cause chained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import edgekit_converters as converters
import edgekit_device as device

from .errors import (
    ConversionError,
    DataError,
    DeviceError,
    EdgekitError,
    MissingExtraError,
    ModelInputError,
    UsageError,
)

__all__ = ["host_error", "translated"]

# First match wins: subclasses before their bases.
_KINDS: tuple[tuple[type[Exception], type[EdgekitError]], ...] = (
    (converters.ModelFileError, ModelInputError),
    (converters.UnsupportedModelError, ModelInputError),
    (converters.CalibrationError, DataError),
    (converters.TrainingError, DataError),
    (converters.TechniqueError, UsageError),
    (converters.UnknownTargetError, UsageError),
    (converters.MissingPackageError, MissingExtraError),
    (converters.ConverterError, ConversionError),
    (device.ModelError, ModelInputError),
    (device.InputError, DataError),
    (device.DataError, DataError),
    (device.RuntimeMissingError, MissingExtraError),
    (device.DeviceRuntimeError, DeviceError),
)


def host_error(error: Exception) -> EdgekitError:
    """``error`` of the converters or the device package as one of edgekit's."""
    kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), ConversionError)
    if isinstance(error, converters.TargetError):
        kind = UsageError if error.refused else ConversionError
    ours = kind(str(error))
    ours.log = getattr(error, "log", "")
    return ours


@contextmanager
def translated() -> Iterator[None]:
    """Translate what the block raises."""
    try:
        yield
    except (converters.ConverterError, device.DeviceRuntimeError) as error:
        raise host_error(error) from error
