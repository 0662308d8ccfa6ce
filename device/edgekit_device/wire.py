"""Records out of JSON that anybody may have written: what does not fit a field falls back to its default."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

from .text import clean_text

__all__ = ["NOTES_CAP", "SAMPLES_CAP", "read_integer", "read_record"]

SAMPLES_CAP = 2000
NOTES_CAP = 50
Record = TypeVar("Record")


def read_record(record: type[Record], raw: Mapping[str, Any]) -> Record:
    """Build the dataclass ``record`` from ``raw`` field by field: the annotation says how a value is read.

    Unknown keys are ignored; strings are capped and stripped; numbers are finite; lists are cut at SAMPLES_CAP
    (texts at NOTES_CAP), and items of a wrong kind are left out of them.
    """
    values = {}
    kind: Any = record  # a type is hashable, whatever the checker thinks
    for name, (hint, default) in _fields(kind).items():
        if name in raw:
            values[name] = _read(hint, raw[name], default)
    return record(**values)


def read_integer(value: object, default: int) -> int:
    """A whole number of at most 64 bits, or ``default``."""
    if isinstance(value, bool) or not isinstance(value, int):
        return default
    return value if abs(value) < 2**63 else default


@functools.cache
def _fields(record: Any) -> dict[str, tuple[Any, Any]]:
    hints = get_type_hints(record)
    return {item.name: (hints[item.name], item.default) for item in dataclasses.fields(record)}


def _read(hint: Any, value: Any, default: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return read_record(hint, value if isinstance(value, Mapping) else {})
    if get_origin(hint) is tuple:
        return _items(get_args(hint)[0], value)
    if get_origin(hint) is Union:
        hint = get_args(hint)[0]
    if hint is int:
        return read_integer(value, default)
    if hint is float:
        return _number(value, default)
    if hint is bool:
        return value if isinstance(value, bool) else default
    return clean_text(value) if isinstance(value, str) else default


def _items(kind: Any, value: Any) -> tuple[Any, ...]:
    items = value if isinstance(value, (list, tuple)) else ()
    if kind is str:
        return tuple(clean_text(item) for item in items[:NOTES_CAP] if isinstance(item, str))
    if kind is float:
        numbers = (_number(item, None) for item in items[:SAMPLES_CAP])
        return tuple(number for number in numbers if number is not None)
    return tuple(read_record(kind, item) for item in items[:SAMPLES_CAP] if isinstance(item, Mapping))


def _number(value: object, default: Optional[float]) -> Optional[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    try:
        number = float(value)
    except OverflowError:
        return default
    return number if math.isfinite(number) else default
