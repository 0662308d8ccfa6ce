"""``python -m edgekit_device`` is ``edgekit-device``."""

from .cli import run

run()
