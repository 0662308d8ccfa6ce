"""A TOML file of the user's: read whole, capped, or one message that says why not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_toml"]


def read_toml(path: Path, what: str, *, cap_bytes: int, see: str) -> dict[str, Any]:
    """The table in ``path``, which is ``what``; raises UsageError, pointing to ``see`` where there is no such file."""
    try:
        if path.stat().st_size > cap_bytes:
            raise UsageError(f"expected a {what} under {cap_bytes} bytes, got {path.stat().st_size}: {path}")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}. See {see}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
