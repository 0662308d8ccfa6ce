"""Errors of the device package.

DeviceRuntimeError
├── RuntimeMissingError     no TFLite runtime, or not the one asked for, is installed
├── DelegateError           a delegate cannot be loaded, crashes, or takes over nothing it was asked to
├── ProfileError            the runtime or the delegate gives no time per operator
├── ModelError              the file is no model, or the runtime will not load it
│   └── ModelCrashError     loading or running it takes the whole process down
├── InputError              what was handed to ``predict`` does not fit the model
├── InferenceError          the runtime failed while running the model
├── DataError               the evaluation data cannot be read or does not fit
├── SourceError             a camera, a video or sound to stream from cannot be opened, or fails
├── BoardBusyError          another measurement holds the board
├── OutboxError             the outbox is full, or cannot be read or written
├── HubError                the hub cannot be reached, or refuses this board
├── ClosedError             the model was used after ``close()``
└── ReportError             a report cannot be read
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .accelerators.finding import Finding

__all__ = [
    "BoardBusyError",
    "ClosedError",
    "DataError",
    "DelegateError",
    "DeviceRuntimeError",
    "HubError",
    "InferenceError",
    "InputError",
    "ModelCrashError",
    "ModelError",
    "OutboxError",
    "ProfileError",
    "ReportError",
    "RuntimeMissingError",
    "SourceError",
]


class DeviceRuntimeError(Exception):
    """Base of everything this package raises on purpose.

    ``exit_code`` is what the command line ends with: 2 where the input must change, 3 where the world must.
    """

    exit_code = 3


class RuntimeMissingError(DeviceRuntimeError):
    """No TFLite runtime, or not the one asked for, can be imported."""


class DelegateError(DeviceRuntimeError):
    """A delegate could not do what it was asked to.

    ``findings`` says what is wrong with an accelerator, ``signal_name`` how the delegate killed its trial process.
    """

    def __init__(self, message: str, *, findings: Sequence[Finding] = (), signal_name: Optional[str] = None) -> None:
        super().__init__(message)
        self.findings = tuple(findings)
        self.signal_name = signal_name


class ProfileError(DeviceRuntimeError):
    """The runtime, or what takes operators over, gives no time per operator."""


class ModelError(DeviceRuntimeError):
    """The bytes are not a model this runtime can load."""

    exit_code = 2


class ModelCrashError(ModelError):
    """Loading or running the model killed a process; ``signal_name`` says how, where it is known."""

    def __init__(self, message: str, *, signal_name: Optional[str] = None) -> None:
        super().__init__(message)
        self.signal_name = signal_name


class InputError(DeviceRuntimeError, ValueError):
    """An input has the wrong number, name, shape, dtype or values."""

    exit_code = 2


class InferenceError(DeviceRuntimeError):
    """The runtime refused to run the model."""


class DataError(DeviceRuntimeError):
    """Evaluation data is missing, unreadable or does not fit the model."""

    exit_code = 2


class SourceError(DeviceRuntimeError):
    """Nothing can be streamed from where the frames should come from."""


class ClosedError(DeviceRuntimeError):
    """The model was closed before this call."""


class ReportError(DeviceRuntimeError):
    """A report is not readable as one."""


class BoardBusyError(DeviceRuntimeError):
    """Another measurement holds the board."""


class OutboxError(DeviceRuntimeError):
    """A report cannot be kept, found or removed."""


class HubError(DeviceRuntimeError):
    """A hub does not do what it was asked. ``passes`` when trying again may help, at the earliest in ``wait_s`` seconds."""

    def __init__(self, message: str, *, passes: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.passes = passes
        self.wait_s = wait_s
