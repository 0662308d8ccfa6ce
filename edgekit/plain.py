"""Values as JSON can hold them, and names as files can have them; imports nothing heavy."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["is_file_name", "plain_json"]


def plain_json(value: Any) -> Any:
    """``value`` as what JSON can hold: mappings as objects, sequences as arrays, None for what is no finite number."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def is_file_name(text: str) -> bool:
    """Whether ``text`` can name one file or folder: no path, nothing hidden."""
    return re.fullmatch(r"\w[\w.+-]{0,99}", text, re.ASCII) is not None
