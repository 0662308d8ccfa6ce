"""How to measure: what every device is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..choices import RUNTIMES
from ..errors import UsageError, suggest

__all__ = ["DEADLINE_S", "BenchRequest"]

DEADLINE_S = 900.0


@dataclass(frozen=True)
class BenchRequest:
    """``runs`` timed inferences after ``warmup`` others; None leaves both to the device: at least 50 and one second,
    after at least 5 and 0.2 seconds. Raises UsageError for what no device can do."""

    threads: int = 1
    runtime: str = "auto"
    runs: int | None = None
    warmup: int | None = None
    deadline_s: float = DEADLINE_S

    def __post_init__(self) -> None:
        """Refuse it here, not after a minute on the device."""
        if self.runtime not in RUNTIMES:
            raise UsageError(f"unknown runtime {self.runtime!r}{suggest(self.runtime, RUNTIMES)}")
        _check("threads", self.threads, 1, 256)
        if self.runs is not None:
            _check("runs", self.runs, 1, 10_000_000)
        if self.warmup is not None:
            _check("warmup", self.warmup, 0, 1_000_000)
        if not (math.isfinite(self.deadline_s) and self.deadline_s > 0):
            raise UsageError(f"expected a deadline in seconds above 0, got {self.deadline_s}")

    @property
    def arguments(self) -> list[str]:
        """As options of ``edgekit-device bench``."""
        options = {"runs": self.runs, "warmup": self.warmup}
        counts = [text for name, value in options.items() if value is not None for text in (f"--{name}", str(value))]
        return [*self.runtime_arguments, *counts]

    @property
    def runtime_arguments(self) -> list[str]:
        """What runs the model, as options of every verb of ``edgekit-device`` that runs one."""
        return ["--threads", str(self.threads), "--runtime", self.runtime]


def _check(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"expected {name} as a whole number from {low} to {high}, got {value!r}")
