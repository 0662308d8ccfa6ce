"""The Edge TPU against what its compiler made: rules, compiled files and logs, each a script of its own."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

PARTS = ("edgetpu_rules", "edgetpu_container", "edgetpu_logs")


def main() -> None:
    """Run every part; each reads --data-dir itself."""
    for part in PARTS:
        if find_spec(part) is not None:
            import_module(part).main()


if __name__ == "__main__":
    main()
