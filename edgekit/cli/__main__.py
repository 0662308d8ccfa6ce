"""``python -m edgekit.cli`` is ``edgekit``."""

from .main import run

run()
