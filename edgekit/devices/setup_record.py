"""What a board's environment is: the record that setup leaves beside it, read back as hostile text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgekit_device.text import clean_text

__all__ = ["MARKER", "SetupRecord", "read_record"]

MARKER = "edgekit-device.json"
KIND = "edgekit-device"
FORMAT = 1
MOST = 100
WORDS = (
    *("home", "edgekit_device", "python", "python_version", "architecture", "libc", "key", "created", "created_by"),
    *("asked_runtime", "asked_python"),
)


@dataclass(frozen=True)
class SetupRecord:
    """An environment on a board: ``wheels`` are file names with their SHA-256, ``runtimes`` names with versions.

    ``key`` is a hash of what decides it; ``system_packages`` whether numpy is the board's own. ``created`` is the host's
    clock, UTC. ``asked_runtime`` and ``asked_python`` are what the user named: kept by the next setup that names none.
    ``change`` says what this call did: ``installed``, ``upgraded`` or ``unchanged``; it is not stored.
    """

    home: str
    edgekit_device: str
    python: str
    python_version: str
    architecture: str
    libc: str
    runtimes: Mapping[str, str] = field(default_factory=dict)
    wheels: Mapping[str, str] = field(default_factory=dict)
    system_packages: bool = False
    key: str = ""
    created: str = ""
    created_by: str = ""
    asked_runtime: str = ""
    asked_python: str = ""
    change: str = ""

    def to_json_value(self) -> dict[str, Any]:
        """As it is stored on the board."""
        stored = asdict(self)
        stored.pop("change")
        return {"kind": KIND, "format": FORMAT, **stored}

    @staticmethod
    def key_of(python: str, python_version: str, wheels: Mapping[str, str], system_packages: bool) -> str:
        """A hash of what decides an environment."""
        facts = json.dumps([FORMAT, python, python_version, sorted(wheels.items()), system_packages])
        return hashlib.sha256(facts.encode()).hexdigest()


def read_record(value: object) -> SetupRecord | None:
    """The record in parsed JSON; None when it is none, or of an environment that is not finished."""
    if not isinstance(value, dict) or value.get("kind") != KIND or not value.get("key"):
        return None
    text = {name: clean_text(value.get(name), 1000) for name in WORDS}
    return SetupRecord(
        **text,
        runtimes=_names(value.get("runtimes")),
        wheels=_names(value.get("wheels")),
        system_packages=value.get("system_packages") is True,
    )


def _names(value: object) -> dict[str, str]:
    items = list(value.items())[:MOST] if isinstance(value, dict) else []
    return {clean_text(name): clean_text(text) for name, text in items if isinstance(text, str)}
