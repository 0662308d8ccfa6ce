"""Texts in C++: identifiers, strings, numbers and comments that cannot be anything else, whatever they were made from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

__all__ = ["C_TYPES", "MEMBERS", "array_lines", "c_float", "c_string", "comment", "identifier"]

C_TYPES = {
    "int8": "std::int8_t",
    "uint8": "std::uint8_t",
    "int16": "std::int16_t",
    "int32": "std::int32_t",
    "int64": "std::int64_t",
    "float32": "float",
    "bool": "bool",
}
# The members of TfLitePtrUnion (tensorflow/lite/c/common.h).
MEMBERS = {
    "int8": "int8",
    "uint8": "uint8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "float32": "f",
    "bool": "b",
}

NAME_CAP = 60
LABEL_CAP_BYTES = 200
BYTES_A_LINE = 16
_PLAIN = frozenset(range(0x20, 0x7F)) - {ord(character) for character in '"\\?'}


def identifier(name: str) -> str:
    """``name`` as an identifier that no keyword is and no implementation reserves: ``8-bit net`` is ``model_8_bit_net``."""
    words = re.sub(r"[^0-9A-Za-z]+", "_", name)[:NAME_CAP].strip("_")
    if not words or words[0].isdigit():
        words = f"model_{words}".strip("_")
    return words if "_" in words or any(character.isdigit() for character in words) else f"{words}_net"


def comment(text: str) -> str:
    """``text`` within a line of a comment: nothing that ends or continues it."""
    return re.sub(r"[^0-9A-Za-z_./:;,()+= -]", "_", text)[:200]


def c_string(text: str) -> str:
    """``text`` as a string literal of its UTF-8 bytes.

    What is not plain ASCII is written in octal, of three digits so that no digit behind it joins in; question marks too,
    because two of them begin a trigraph. Control characters become spaces: the text ends on somebody's terminal. Longer
    than 200 bytes is cut between characters.
    """
    text = "".join(character if character.isprintable() else " " for character in text)
    raw = text.encode("utf-8", "replace")[:LABEL_CAP_BYTES].decode("utf-8", "ignore").encode("utf-8")
    return '"' + "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in raw) + '"'


def c_float(value: float) -> str:
    """A float32 as a literal that reads back to the bit: nine digits are enough for every one of them."""
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value}")
    digits = f"{value:.9g}"
    return f"{digits}f" if set(digits) & set(".e") else f"{digits}.0f"


def array_lines(data: bytes) -> Iterator[str]:
    """``data`` as lines of an initialiser."""
    for start in range(0, len(data), BYTES_A_LINE):
        yield "    0x" + data[start : start + BYTES_A_LINE].hex(",").replace(",", ", 0x") + ","
