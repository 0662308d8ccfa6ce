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

    ``to`` is the fraction of ``of`` ("macs", "parameters" or "bytes" of int8 weights; "macs+bytes": of each) that may
    remain, 0 < to < 1. ``branches`` removes whole residual branches first, while no less than that remains (branches.py);
    with samples, the kernels that are left are then fitted anew to what the original's gave (refit.py).
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
    branches: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """What ``of`` names, one by one."""
        return tuple(self.of.split("+"))

    def __post_init__(self) -> None:
        number = isinstance(self.to, (int, float)) and not isinstance(self.to, bool)
        if not number or not 0 < self.to < 1:
            raise TechniqueError(f"expected to as the fraction between 0 and 1 that remains, got {self.to!r}")
        for kind in self.kinds if isinstance(self.of, str) else (self.of,):
            _ensure_one_of("of", kind, KINDS)
        if len(set(self.kinds)) < len(self.kinds):
            raise TechniqueError(f"expected each of {', '.join(KINDS)} once in of, got {self.of!r}")
        _ensure_one_of("importance", self.importance, IMPORTANCES)
        _ensure_one_of("scope", self.scope, SCOPES)
        for name in ("rounds", "divisor", "least"):
            given = getattr(self, name)
            if not isinstance(given, int) or isinstance(given, bool) or given < 1:
                raise TechniqueError(f"expected {name} as a whole number of at least 1, got {given!r}")
        for name in ("reconstruct", "branches"):
            given = getattr(self, name)
            if not isinstance(given, bool):
                raise TechniqueError(f"expected {name} to be true or false, got {given!r}")


def _ensure_one_of(name: str, given: object, choices: tuple[str, ...]) -> None:
    if given not in choices:
        near = difflib.get_close_matches(str(given), choices, 1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise TechniqueError(f"expected {name} to be one of {', '.join(choices)}, got {given!r}{hint}")
