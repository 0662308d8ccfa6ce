"""Devices: concrete machines a variant is measured on, behind one Transport contract."""

from .device import Device, open_device
from .fake import FakeTransport
from .local import LocalTransport
from .transport import Completed, Transport

__all__ = ["Completed", "Device", "FakeTransport", "LocalTransport", "Transport", "open_device"]
