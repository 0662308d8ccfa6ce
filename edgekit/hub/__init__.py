"""The hub: an inbox on the network that boards post their reports to, and that a host collects them from.

The only room that imports FastAPI, SQLAlchemy and uvicorn; importing this package imports none of them.
"""

from __future__ import annotations

import importlib.util

from ..errors import MissingExtraError

__all__ = ["require_hub"]

PACKAGES = ("fastapi", "sqlalchemy", "uvicorn")


def require_hub() -> None:
    """Raise MissingExtraError, with the line that installs them, where a package of the hub is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f'the hub needs {", ".join(missing)}: pip install "edgekit[hub]"')
