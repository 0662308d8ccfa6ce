"""Devices: concrete machines a variant is measured on, behind one Transport contract."""

from .device import Device, open_device
from .fake import FakeTransport
from .local import LocalTransport
from .remote import RemoteTransport
from .request import BenchItem, BenchRequest
from .ssh import SSHConnection
from .transport import Completed, Transport

__all__ = [
    "BenchItem",
    "BenchRequest",
    "Completed",
    "Device",
    "FakeTransport",
    "LocalTransport",
    "RemoteTransport",
    "SSHConnection",
    "Transport",
    "open_device",
]
