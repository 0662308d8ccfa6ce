"""What a compiled model is known by, its custom operator; what runs an Edge TPU's; and the signature of the main graph."""

from __future__ import annotations

import os
import struct
import sys
from typing import Optional

from ..text import clean_text

__all__ = ["EDGETPU_OPERATOR", "LIBRARY_VARIABLE", "custom_operators", "edgetpu_library", "main_signature"]

EDGETPU_OPERATOR = "edgetpu-custom-op"
LIBRARY_VARIABLE = "EDGEKIT_EDGETPU_LIBRARY"
# Field numbers in Model, OperatorCode and SignatureDef (tensorflow/lite/schema/schema.fbs).
OPERATOR_CODES, CUSTOM_CODE, SIGNATURES, SIGNATURE_KEY, SIGNATURE_GRAPH = 1, 1, 7, 2, 4


def custom_operators(content: bytes) -> frozenset[str]:
    """Names of the custom operators of a .tflite whose layout was verified (``edgekit_device.flatbuffer``)."""
    names = set()
    codes = _follow(content, _field(content, _u32(content, 0), OPERATOR_CODES))
    for number in range(_u32(content, codes) if codes else 0):
        name = _follow(content, _field(content, _follow(content, codes + 4 + 4 * number), CUSTOM_CODE))
        if name:
            names.add(clean_text(content[name + 4 : name + 4 + _u32(content, name)].decode("utf-8", "replace")))
    return frozenset(names)


def main_signature(content: bytes) -> Optional[str]:
    """The key of the signature that runs subgraph 0 of a verified .tflite, None where none does."""
    signatures = _follow(content, _field(content, _u32(content, 0), SIGNATURES))
    for number in range(_u32(content, signatures) if signatures else 0):
        signature = _follow(content, signatures + 4 + 4 * number)
        graph, key = (
            _field(content, signature, SIGNATURE_GRAPH),
            _follow(content, _field(content, signature, SIGNATURE_KEY)),
        )
        if key and not (graph and _u32(content, graph)):
            return content[key + 4 : key + 4 + _u32(content, key)].decode("utf-8", "replace")
    return None


def edgetpu_library() -> str:
    """What to load: the file EDGEKIT_EDGETPU_LIBRARY names, else the name the dynamic linker knows libedgetpu by."""
    named = os.environ.get(LIBRARY_VARIABLE)
    names = {"darwin": "libedgetpu.1.dylib", "win32": "edgetpu.dll"}
    return named or names.get(sys.platform, "libedgetpu.so.1")


def _follow(content: bytes, at: int) -> int:
    """Where the offset at ``at`` leads; 0, an absent field, stays 0."""
    return at + _u32(content, at) if at else 0


def _field(content: bytes, table: int, number: int) -> int:
    """Where a table's field lies, 0 where it is absent."""
    layout = table - struct.unpack_from("<i", content, table)[0]
    length = struct.unpack_from("<H", content, layout)[0]
    if 4 + 2 * number >= length:
        return 0
    offset = struct.unpack_from("<H", content, layout + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _u32(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", content, at)[0])
