"""Options that several verbs share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .._runtime import RUNTIMES

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Verbs = Any

__all__ = ["Verbs", "add_json", "add_runtime"]


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """``--runtime``, ``--threads`` and ``--delegate``."""
    parser.add_argument("--runtime", choices=["auto", *RUNTIMES], default="auto", help="default: the first installed")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the runtime (default 1)")
    parser.add_argument(
        "--delegate",
        default="auto",
        metavar="D",
        help="auto (default), none (plain kernels), xnnpack, edgetpu, edgetpu:usb:0, edgetpu:pci:0 (options behind it: "
        "'edgetpu:usb:0;performance=Medium'), external:PATH.so, or litert:cpu, litert:gpu, litert:npu, litert:gpu+cpu",
    )
