"""Targets: where a model will run, as data. One table each in ``targets.toml``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from ..errors import UnknownTargetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["CPU", "EDGETPU", "ETHOS_U", "KINDS", "MICRO", "Target", "find_target", "targets"]

CPU, EDGETPU, ETHOS_U, MICRO = "cpu", "edgetpu", "ethos-u", "micro"
KINDS = (CPU, EDGETPU, ETHOS_U, MICRO)


@dataclass(frozen=True)
class Target:
    """A kind of board or chip. ``extends`` in the file gives what a table leaves out.

    ``precisions`` are those it runs at all, the best first; ``input_types`` and ``output_types`` likewise. ``static`` means
    that every shape has to be known, with ``batch`` rows. ``runtimes`` are the runtimes there are for it. ``compiler`` is the
    tool of its compile step, empty where the .tflite itself is what runs; ``config`` is what that tool calls the target.
    ``parameter_memory_bytes`` is the on-chip memory for parameters, ``ram_bytes`` the board's memory, None where it varies.
    ``link`` is how an accelerator is attached (usb, pcie). ``sources`` say where the facts are from.
    """

    name: str
    title: str
    kind: str
    precisions: tuple[str, ...] = ("int8", "float32", "float16", "dynamic-int8", "int16x8")
    input_types: tuple[str, ...] = ("float32", "int8", "uint8")
    output_types: tuple[str, ...] = ("float32", "int8", "uint8")
    static: bool = False
    batch: int = 1
    runtimes: tuple[str, ...] = ()
    machine: str = ""
    operators: str = ""
    compiler: str = ""
    config: str = ""
    link: str = ""
    parameter_memory_bytes: int | None = None
    ram_bytes: int | None = None
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    aliases: tuple[str, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The target as plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def targets() -> Mapping[str, Target]:
    """Every target by its name, in the order of the file."""
    return _read()


def find_target(name: str) -> Target:
    """The target called ``name``, or by one of its aliases. Raises UnknownTargetError with what was probably meant."""
    known = targets()
    wanted = name.strip().lower()
    for target in known.values():
        if wanted == target.name or wanted in target.aliases:
            return target
    close = difflib.get_close_matches(wanted, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise UnknownTargetError(f"unknown target {name!r}{hint} Choose from: {', '.join(known)}", choices=tuple(known))


@cache
def _read() -> dict[str, Target]:
    text = resources.files(__package__).joinpath("targets.toml").read_text(encoding="utf-8")
    tables: dict[str, dict[str, Any]] = tomllib.loads(text)
    found = {}
    for name, table in tables.items():
        whole = _extended(table, tables)
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in whole.items()
        }
        found[name] = Target(name=name, **values)
    return found


def _extended(table: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """``table`` over the table it extends; aliases are its own."""
    own = {key: value for key, value in table.items() if key != "extends"}
    if "extends" not in table:
        return own
    base = _extended(tables[table["extends"]], tables)
    base.pop("aliases", None)
    return {**base, **own}
