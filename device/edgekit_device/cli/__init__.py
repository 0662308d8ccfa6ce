"""The ``edgekit-device`` command: one verb per file."""

from .main import main
from .main import run_and_exit as run

__all__ = ["main", "run"]
