"""The devices a user has named: ``devices.json`` in edgekit's home, whole or absent, readable to its owner alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgekit_device.home import FOLDER
from edgekit_device.report import clean_text

from ..errors import StoreError, UsageError, suggest
from ..recipe import edgekit_home
from ..store import now, write_atomically
from .address import parse_address

__all__ = ["HOME_THERE", "LOCAL", "DeviceEntry", "Registry", "check_name"]

LOCAL = "local"
HOME_THERE = FOLDER  # below the user's home on the board
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
FORMAT = 1


@dataclass(frozen=True)
class DeviceEntry:
    """A device by its name; ``folder`` is where edgekit lives on it, ``seen`` when it last answered (UTC, or empty)."""

    name: str
    address: str
    folder: str = HOME_THERE
    added: str = ""
    seen: str = ""


class Registry:
    """The file of devices. Raises StoreError when it cannot be read or written, and never writes over one it cannot read."""

    def __init__(self, home: Path | None = None) -> None:
        self.path = (home or edgekit_home()) / "devices.json"

    def entries(self) -> dict[str, DeviceEntry]:
        """All devices by name, in alphabetical order."""
        return {entry.name: entry for entry in sorted(self._read(), key=lambda item: item.name)}

    def names(self) -> list[str]:
        """What ``--device`` takes."""
        return [LOCAL, *self.entries()]

    def entry(self, name: str) -> DeviceEntry:
        """The device called ``name``; raises UsageError with the known ones, and how to add one."""
        known = self.entries()
        if name not in known:
            hint = suggest(name, [LOCAL, *known])
            raise UsageError(
                f"unknown device {clean_text(name, 80)!r}{hint}. Add yours: edgekit device add NAME ssh://[user@]host"
            )
        return known[name]

    def add(self, name: str, address: str, *, force: bool = False) -> DeviceEntry:
        """Remember a device; raises UsageError for a name or address that cannot be, or a name that is taken."""
        check_name(name)
        entry = DeviceEntry(name, str(parse_address(address)), added=now())
        with self._changing() as known:
            taken = known.get(name)
            if taken is not None and not force:
                raise UsageError(
                    f"the device {name!r} is there already, at {taken.address}. Choose another name, or replace it: "
                    f"edgekit device add {name} {entry.address} --force"
                )
            known[name] = entry
        return entry

    def remove(self, name: str) -> None:
        """Forget a device."""
        self.entry(name)
        with self._changing() as known:
            known.pop(name, None)

    def saw(self, name: str) -> None:
        """Note that the device answered just now; a registry that cannot be written is no reason to stop a measurement."""
        with contextlib.suppress(StoreError):
            if name not in self.entries():
                return
            with self._changing() as known:
                if name in known:
                    known[name] = replace(known[name], seen=now())

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, DeviceEntry]]:
        """The devices, written back at the end if they changed, against every other edgekit that would do the same."""
        import fcntl

        with contextlib.ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                handle = stack.enter_context(open(self.path.parent / ".devices.lock", "a", encoding="utf-8"))
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                raise StoreError(
                    f"cannot write {self.path}: {error.strerror or error}. Name another place for edgekit's own files: "
                    "EDGEKIT_HOME"
                ) from error
            known = self.entries()
            before = dict(known)
            yield known
            if known != before:
                self._write(list(known.values()))

    def _write(self, entries: list[DeviceEntry]) -> None:
        text = json.dumps({"format": FORMAT, "devices": [asdict(entry) for entry in entries]}, indent=2)
        write_atomically(self.path, (text + "\n").encode())
        os.chmod(self.path, 0o600)

    def _read(self) -> list[DeviceEntry]:
        try:
            raw = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(
                f"cannot read {self.path}: {clean_text(str(error))}. Mend it, or move it away and add your devices again"
            ) from error
        listed = raw.get("devices") if isinstance(raw, dict) else None
        if not isinstance(listed, list) or not isinstance(raw.get("format"), int):
            raise StoreError(f"{self.path} is no list of devices. Mend it, or move it away and add your devices again")
        if raw["format"] > FORMAT:
            raise StoreError(f"{self.path} was written by a newer edgekit (format {raw['format']}): upgrade this one")
        return [_entry(item, self.path) for item in listed]


def check_name(name: str) -> None:
    """Raise UsageError unless a device can be called ``name``."""
    if name == LOCAL:
        raise UsageError("'local' is this machine itself: choose another name for the device")
    if not NAME.fullmatch(name):
        raise UsageError(
            f"expected a device's name in small letters, digits, '.', '_' and '-', such as pi4, got {clean_text(name, 80)!r}"
        )


def _entry(raw: Any, path: Path) -> DeviceEntry:
    """One device of the file, checked as if it had just been typed: the file may have been edited."""
    known = {field.name for field in fields(DeviceEntry)}
    facts = {key: value for key, value in raw.items() if key in known} if isinstance(raw, dict) else {}
    if not all(isinstance(value, str) for value in facts.values()) or not {"name", "address"} <= set(facts):
        raise StoreError(f"{path} holds a device without a name or an address. Mend it, or move it away")
    try:
        check_name(facts["name"])
        parse_address(facts["address"])
    except UsageError as error:
        raise StoreError(f"{path}: {error}") from error
    return DeviceEntry(**facts)
