"""Errors of the host SDK. A limit that is not met is no error: ``Comparison.gate`` says so, and the command exits with 1.

EdgekitError
├── UsageError              what was asked for cannot be: an unknown name, a contradiction, a missing option   (exit 2)
│   ├── DataError           the data is missing, empty, of the wrong shape or dtype, or not finite             (exit 2)
│   └── ModelInputError     the model file is missing, of an unknown kind, or broken                           (exit 2)
├── ConversionError         the converter failed, or what it made is not what was promised                     (exit 3)
├── StoreError              the run folder cannot be written or read                                           (exit 3)
├── DeviceError             the device process crashed, hung or answered rubbish                               (exit 3)
└── MissingExtraError       an optional package is needed and not installed                                    (exit 3)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConversionError",
    "DataError",
    "DeviceError",
    "EdgekitError",
    "MissingExtraError",
    "ModelInputError",
    "StoreError",
    "UsageError",
    "suggest",
]


class EdgekitError(Exception):
    """Base of everything edgekit raises on purpose; ``exit_code`` is what the command line ends with.

    ``log`` keeps the end of what a tool printed, where one was run.
    """

    exit_code = 3
    log = ""


class UsageError(EdgekitError):
    """The request itself cannot be served."""

    exit_code = 2


class DataError(UsageError):
    """The data does not fit."""


class ModelInputError(UsageError):
    """The model given cannot be read."""


class ConversionError(EdgekitError):
    """A variant could not be made, or was not what its name promises."""


class StoreError(EdgekitError):
    """The run folder cannot be read or written."""


class DeviceError(EdgekitError):
    """The device did not answer as one; ``output`` keeps the end of what it printed."""

    def __init__(self, message: str, *, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class MissingExtraError(EdgekitError):
    """An optional package is not installed; the message ends with the line that installs it."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'int8'? Choose from: …"`` for a misspelt ``name``."""
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Choose from: {', '.join(known)}"
