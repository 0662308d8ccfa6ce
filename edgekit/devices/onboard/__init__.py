"""What a setup does on the board itself: these modules as one text, run by the board's own Python, which has nothing
installed. Standard library alone, Python 3.9 and newer."""

from __future__ import annotations

import ast
from functools import cache
from importlib import resources

__all__ = ["MARK", "onboard_script"]

MARK = "edgekit-setup"
PARTS = ("files", "home", "environment", "actions")  # each may import from those before it


@cache
def onboard_script() -> str:
    """The modules one after the other, without the imports between them: the standard input of ``python -I -``."""
    texts = [resources.files(__package__).joinpath(f"{name}.py").read_text(encoding="utf-8") for name in PARTS]
    return "from __future__ import annotations\n" + "\n".join(_alone(text) for text in texts)


def _alone(text: str) -> str:
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and (node.level or node.module == "__future__"):
            lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    return "\n".join(lines)
