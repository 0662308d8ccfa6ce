"""``python -m edgekit`` is ``edgekit``."""

from .cli.main import run

run()
