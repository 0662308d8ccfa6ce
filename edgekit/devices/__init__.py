"""Devices: concrete machines a variant is measured on, behind one Transport contract."""

from .device import DEVICES, Device, open_device
from .fake import FakeTransport
from .local import LocalTransport
from .request import BenchRequest
from .transport import Completed, Transport

__all__ = [
    "DEVICES",
    "BenchRequest",
    "Completed",
    "Device",
    "FakeTransport",
    "LocalTransport",
    "Transport",
    "open_device",
]
