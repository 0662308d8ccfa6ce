"""FlatBuffers and FlexBuffers from strangers, read within bounds: no offset leads out of the bytes, none is read for ever.

The formats are Google's, documented at flatbuffers.dev (internals, flexbuffers). A FlatBuffer table begins with the distance back
to its vtable, which holds a 16-bit place for each field; a FlexBuffer is read from its end, where the root's type and width are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import ModelFileError

__all__ = ["Budget", "FlatTable", "read_flex_strings", "root_table"]

DAMAGED = "the file is damaged: download it again, or compile the model again"
FLEX_KEY, FLEX_STRING, FLEX_BLOB, FLEX_MAP = 4, 5, 25, 9
MOST_FLEX_ENTRIES = 64
MOST_KEY_BYTES = 16


class Budget:
    """How many tables and vector elements may still be read: a small file cannot make the reader work for long.

    An honest file spends at least 4 bytes on each of them.
    """

    def __init__(self, size_bytes: int) -> None:
        self.left = min(1_000_000, 64 + size_bytes // 4)

    def spend(self, count: int) -> None:
        """Pay for ``count`` elements. Raises ModelFileError where nothing is left."""
        self.left -= count
        if self.left < 0:
            raise ModelFileError(
                f"expected each part of an Edge TPU package to be used about once, got more: {DAMAGED}"
            )


@dataclass(frozen=True)
class FlatTable:
    """A table of the FlatBuffer ``data`` at byte ``at``; fields go by their place in the schema, counted from 0.

    Every method raises ModelFileError where the table leads outside ``data``.
    """

    data: memoryview
    at: int
    budget: Budget

    def number(self, field: int, code: str, default: int = 0) -> int:
        """The scalar in ``field``, of the struct code ``code`` (i, q, Q, h, ?)."""
        place = self._place(field)
        return default if place is None else int(_unpack(self.data, place, code))

    def blob(self, field: int) -> memoryview:
        """The bytes of a string or of a vector of bytes; empty where the field is left out."""
        place = self._place(field)
        if place is None:
            return self.data[:0]
        return _sized(self.data, _follow(self.data, place))

    def table(self, field: int) -> FlatTable | None:
        """The table in ``field``, None where it is left out."""
        place = self._place(field)
        if place is None:
            return None
        self.budget.spend(1)
        return FlatTable(self.data, _follow(self.data, place), self.budget)

    def count(self, field: int) -> int:
        """How many elements the vector in ``field`` has."""
        place = self._place(field)
        return 0 if place is None else _unpack(self.data, _follow(self.data, place), "I")

    def tables(self, field: int) -> Iterator[FlatTable]:
        """The tables of the vector in ``field``."""
        for place in self._elements(field):
            yield FlatTable(self.data, _follow(self.data, place), self.budget)

    def blobs(self, field: int) -> Iterator[memoryview]:
        """The strings of the vector in ``field``, as bytes."""
        for place in self._elements(field):
            yield _sized(self.data, _follow(self.data, place))

    def _elements(self, field: int) -> range:
        """Where the offsets of a vector of offsets are."""
        place = self._place(field)
        if place is None:
            return range(0)
        vector = _follow(self.data, place)
        count = _unpack(self.data, vector, "I")
        self.budget.spend(count)
        if vector + 4 + 4 * count > len(self.data):
            raise ModelFileError(f"expected a vector inside an Edge TPU package, got {count} elements: {DAMAGED}")
        return range(vector + 4, vector + 4 + 4 * count, 4)

    def _place(self, field: int) -> int | None:
        """Where ``field`` is in the data; None where it is left out, and has its default."""
        vtable = self.at - _unpack(self.data, self.at, "i")
        slot = 4 + 2 * field
        if slot + 2 > _unpack(self.data, vtable, "H"):
            return None
        offset = _unpack(self.data, vtable + slot, "H")
        return self.at + offset if offset else None


def root_table(data: memoryview, budget: Budget, identifier: bytes = b"") -> FlatTable:
    """The root of a FlatBuffer. Raises ModelFileError where the file identifier is not the one expected."""
    if identifier and bytes(data[4:8]) != identifier:
        begin = bytes(data[:8]).hex()
        raise ModelFileError(
            f"expected an Edge TPU package ({identifier.decode()} at byte 4), got {begin!r}: {DAMAGED}"
        )
    budget.spend(1)
    return FlatTable(data, _follow(data, 0), budget)


def read_flex_strings(data: memoryview) -> dict[str, memoryview]:
    """The strings and blobs of a FlexBuffer whose root is a map, by key; values of other types are left out.

    Raises ModelFileError for bytes that are no such map.
    """
    if len(data) < 3:
        raise ModelFileError(f"expected the options of an Edge TPU operator, got {len(data)} bytes: {DAMAGED}")
    width, packed = data[-1], data[-2]
    if packed >> 2 != FLEX_MAP or width not in (1, 2, 4, 8):
        raise ModelFileError(
            f"expected a FlexBuffer map as an Edge TPU operator's options, got type {packed >> 2}: {DAMAGED}"
        )
    at = _back(data, len(data) - 2 - width, width)
    width = 1 << (packed & 3)
    count = _unsigned(data, at - width, width)
    if count > MOST_FLEX_ENTRIES:
        raise ModelFileError(
            f"expected at most {MOST_FLEX_ENTRIES} options of an Edge TPU operator, got {count}: {DAMAGED}"
        )
    keys, key_width = _back(data, at - 3 * width, width), _unsigned(data, at - 2 * width, width)
    if key_width not in (1, 2, 4, 8):
        raise ModelFileError(f"expected FlexBuffer keys of 1 to 8 bytes, got {key_width}: {DAMAGED}")
    found = {}
    for i in range(count):
        name = _key(data, _back(data, keys + i * key_width, key_width))
        kind = _unsigned(data, at + count * width + i, 1)
        if kind >> 2 in (FLEX_STRING, FLEX_BLOB):
            start, size_width = _back(data, at + i * width, width), 1 << (kind & 3)
            size = _unsigned(data, start - size_width, size_width)
            found[name] = _slice(data, start, size)
    return found


def _key(data: memoryview, at: int) -> str:
    raw = bytes(_slice(data, at, min(MOST_KEY_BYTES, len(data) - at)))
    return raw.split(b"\0")[0].decode("latin-1")


def _back(data: memoryview, at: int, width: int) -> int:
    """A FlexBuffer's offset at ``at`` says how far back its object is."""
    target = at - _unsigned(data, at, width)
    if not 0 <= target < at:
        raise ModelFileError(f"expected offsets inside an Edge TPU operator's options, got one to {target}: {DAMAGED}")
    return target


def _unsigned(data: memoryview, at: int, width: int) -> int:
    return int.from_bytes(_slice(data, at, width), "little")


def _follow(data: memoryview, at: int) -> int:
    """A FlatBuffer's offset at ``at`` says how far ahead its object is."""
    return at + int(_unpack(data, at, "I"))


def _sized(data: memoryview, at: int) -> memoryview:
    return _slice(data, at + 4, _unpack(data, at, "I"))


def _slice(data: memoryview, at: int, size: int) -> memoryview:
    if at < 0 or size < 0 or at + size > len(data):
        raise ModelFileError(f"expected {size} bytes at byte {at} of {len(data)} in an Edge TPU package: {DAMAGED}")
    return data[at : at + size]


def _unpack(data: memoryview, at: int, code: str) -> int:
    value: int = struct.unpack("<" + code, _slice(data, at, struct.calcsize("<" + code)))[0]
    return value
