"""Where a board keeps what outlives a command: its lock, its outbox, its environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

__all__ = ["FOLDER", "HOME_VARIABLE", "device_home"]

HOME_VARIABLE = "EDGEKIT_DEVICE_HOME"
FOLDER = ".edgekit-device"


def device_home() -> Optional[Path]:
    """The folder EDGEKIT_DEVICE_HOME names, else ``~/.edgekit-device`` where ``edgekit device setup`` has made one.

    None on a machine that is no board, where the variable is set to nothing, and for a user without a home: no state is
    kept then.
    """
    named = os.environ.get(HOME_VARIABLE)
    if named is not None:
        return Path(os.path.expanduser(named)) if named else None
    # expanduser leaves the tilde of a user without a home, as services and bare containers have.
    usual = Path(os.path.expanduser("~")) / FOLDER
    return usual if usual.is_absolute() and usual.is_dir() else None
