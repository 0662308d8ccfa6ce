"""From what a user types after ``--device`` to the machine."""

from __future__ import annotations

from ..errors import UsageError
from .address import Address, SSHAddress, is_address, parse_address
from .connection import Connection
from .local import LocalTransport
from .registry import LOCAL, DeviceEntry, Registry
from .remote import RemoteTransport
from .ssh import SSHConnection
from .transport import Transport

__all__ = ["known_device", "open_connection", "open_transport"]


def known_device(name: str) -> DeviceEntry:
    """What is known of the device ``name``: one of the registry, or an address as it is.

    Raises UsageError for a name that is not known, with a suggestion, and for an address that is none.
    """
    if is_address(name):
        return DeviceEntry(name, str(parse_address(name)))
    return Registry().entry(name)


def open_transport(name: str) -> Transport:
    """The transport of the device ``name``, reached and found set up; raises DeviceError when it is not."""
    if name == LOCAL:
        return LocalTransport()
    entry = known_device(name)
    address = parse_address(entry.address)
    if not isinstance(address, SSHAddress):
        from .emulated import EmulatedTransport

        return EmulatedTransport(address.path, name=entry.name)
    transport = RemoteTransport(SSHConnection(address, entry.name), entry.folder, setup_line=_setup_line(entry))
    Registry().saw(entry.name)
    return transport


def open_connection(entry: DeviceEntry) -> Connection:
    """A connection to a device that need not be set up; raises UsageError for one that commands cannot be run on."""
    address: Address = parse_address(entry.address)
    if not isinstance(address, SSHAddress):
        raise UsageError(
            f"{entry.name} is emulated ({entry.address}): there is no machine to connect to, and none to set up"
        )
    return SSHConnection(address, entry.name)


def _setup_line(entry: DeviceEntry) -> str:
    if is_address(entry.name):
        return f"edgekit device add NAME {entry.address} && edgekit device setup NAME"
    return f"edgekit device setup {entry.name}"
