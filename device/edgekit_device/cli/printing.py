"""What the verbs print: JSON that is JSON, and errors as one line."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

__all__ = ["complain", "number", "print_json"]


def complain(message: str, code: int) -> int:
    """One line on standard error; returns ``code``."""
    print(f"edgekit-device: error: {message}", file=sys.stderr)
    return code


def number(value: object) -> str:
    """A float with six digits, anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def print_json(facts: object) -> None:
    """One JSON object; NaN and infinity, which JSON has no words for, become null."""
    print(json.dumps(_finite(facts), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
