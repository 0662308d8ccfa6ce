"""The ``edgekit`` command: one verb per file, each imported only when it runs.

Exit codes: 0 fine, 1 a gate said no, 2 wrong usage or input, 3 the world failed, 130 interrupted.
"""

from .main import main, run

__all__ = ["main", "run"]
