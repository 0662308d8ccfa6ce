"""What to slim to, and how: checked when it is written down, before anything heavy starts."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from ..errors import TechniqueError
from .costs import KINDS

__all__ = ["SlimSettings"]

IMPORTANCES = ("l1", "l2", "batch-norm", "taylor")
SCOPES = ("global", "uniform")


@dataclass(frozen=True)
class SlimSettings:
    """What to slim to, and how; raises TechniqueError for a value that is none.

    ``to`` is the fraction of ``of`` ("macs", "parameters" or "bytes" of int8 weights) that may remain, 0 < to < 1.
    ``importance`` is "l1", "l2", "batch-norm" or "taylor" (see importance.py and taylor.py). ``scope`` "uniform" makes all
    layers narrower by the same fraction, "global" lets them compete. ``rounds`` goes there in equal ratios, with a
    fine-tuning between two rounds. ``divisor`` rounds the widths of slimmed layers to a multiple, as int8 kernels work on 8
    or 16 channels at once (1 keeps more accuracy for the same MACs); a layer less than twice as wide takes half of it, and
    so on. ``least`` is the smallest width. ``protect`` holds globs of the names of layers that
    keep all channels they make. ``reconstruct`` lets the channels that stay stand in for the removed ones (reconstruct.py);
    it needs samples, and is left out without.
    """

    to: float
    of: str = "macs"
    importance: str = "l2"
    rounds: int = 1
    divisor: int = 8
    least: int = 2
    protect: tuple[str, ...] = ()
    scope: str = "uniform"
    reconstruct: bool = True

    def __post_init__(self) -> None:
        number = isinstance(self.to, (int, float)) and not isinstance(self.to, bool)
        if not number or not 0 < self.to < 1:
            raise TechniqueError(f"expected to as the fraction between 0 and 1 that remains, got {self.to!r}")
        for name, choices in (("of", KINDS), ("importance", IMPORTANCES), ("scope", SCOPES)):
            given = getattr(self, name)
            if given not in choices:
                near = difflib.get_close_matches(str(given), choices, 1)
                hint = f": did you mean {near[0]!r}?" if near else ""
                raise TechniqueError(f"expected {name} to be one of {', '.join(choices)}, got {given!r}{hint}")
        for name in ("rounds", "divisor", "least"):
            given = getattr(self, name)
            if not isinstance(given, int) or isinstance(given, bool) or given < 1:
                raise TechniqueError(f"expected {name} as a whole number of at least 1, got {given!r}")
        if not isinstance(self.reconstruct, bool):
            raise TechniqueError(f"expected reconstruct to be true or false, got {self.reconstruct!r}")
