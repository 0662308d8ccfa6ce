"""edgekit-device: the command, and the one place where an error becomes a message and an exit code.

Exit codes: 0 fine, 2 wrong usage or input, 3 the world failed (no runtime, a crash), 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

from .. import __version__
from ..errors import DeviceRuntimeError
from ..supervise import EXIT_INTERRUPTED, EXIT_WORLD, supervise
from ..text import clean_text
from . import accelerators, bench, info, outbox, push, run, stream, tune
from .printing import complain

__all__ = ["main", "run_and_exit"]

EXAMPLES = """examples:
  edgekit-device info
  edgekit-device bench int8.tflite --threads 2 --json
  edgekit-device bench float32.tflite int8.tflite
  edgekit-device run int8.tflite --input image.npy --output scores.npy
  edgekit-device stream int8.tflite --source camera:/dev/video0
"""
VERBS = (info, accelerators, run, bench, tune, outbox, stream, push)


def run_and_exit() -> None:
    """Entry point of the ``edgekit-device`` command."""
    sys.exit(main())


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Parse ``argv`` and run its verb in a supervised child; returns the exit code."""
    try:
        arguments = _parser().parse_args(argv)
        return supervise(lambda: _guarded(arguments), _about(arguments))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SystemExit as stop:  # argparse leaves this way, having said why
        return stop.code if isinstance(stop.code, int) else 0


def _about(arguments: argparse.Namespace) -> str:
    """The model or models, for the message after a crash."""
    models = getattr(arguments, "model", "")
    return clean_text(", ".join(models) if isinstance(models, list) else models) or "no model"


def _guarded(arguments: argparse.Namespace) -> int:
    try:
        arguments.verb(arguments)
    except DeviceRuntimeError as error:
        return complain(str(error), error.exit_code)
    except MemoryError:
        return complain("not enough memory for this model or this data", EXIT_WORLD)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return complain(f"{place}{error.strerror or error}", EXIT_WORLD)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgekit-device",
        description="Run and measure .tflite models on this board.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgekit-device {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    return parser
