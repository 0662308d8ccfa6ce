"""How to measure: what every device is asked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from ..choices import RUNTIMES
from ..errors import UsageError, suggest

__all__ = ["DEADLINE_S", "BenchItem", "BenchRequest", "parse_precision"]

DEADLINE_S = 900.0
MOST_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class BenchRequest:
    """``runs`` timed inferences after ``warmup`` others; None leaves both to the device: at least 50 and one second, until
    the interval of the median is narrower than ``precision`` (a fraction of it) or ``budget_s`` seconds are spent, after at
    least 5 and 0.2 seconds that have settled. ``sustained_s`` seconds without a pause follow, and with ``profile`` the time
    of every operator. ``deadline_s`` is for one variant, without the sustained run. Raises UsageError for what no device can
    do."""

    threads: int = 1
    runtime: str = "auto"
    runs: int | None = None
    warmup: int | None = None
    deadline_s: float = DEADLINE_S
    delegate: str = "auto"
    precision: float | None = None
    budget_s: float | None = None
    sustained_s: float | None = None
    profile: bool = False

    def __post_init__(self) -> None:
        """Refuse it here, not after a minute on the device."""
        if self.runtime not in RUNTIMES:
            raise UsageError(f"unknown runtime {self.runtime!r}{suggest(self.runtime, RUNTIMES)}")
        _check("threads", self.threads, 1, 256)
        if self.runs is not None:
            _check("runs", self.runs, 1, 10_000_000)
        if self.warmup is not None:
            _check("warmup", self.warmup, 0, 1_000_000)
        for name, seconds in (
            ("deadline", self.deadline_s),
            ("budget", self.budget_s),
            ("sustained run", self.sustained_s),
        ):
            if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= MOST_SECONDS):
                raise UsageError(f"expected a {name} in seconds above 0, at most {MOST_SECONDS:g}, got {seconds}")
        if self.precision is not None and not 0 < self.precision <= 1:
            raise UsageError(f"expected a precision above 0 and at most 1, 0.02 being 2 %, got {self.precision}")
        if not self.delegate or not self.delegate.isprintable():
            raise UsageError(f"expected a delegate such as auto, none, xnnpack or edgetpu:usb:0, got {self.delegate!r}")

    @property
    def arguments(self) -> list[str]:
        """As options of ``edgekit-device bench``."""
        options = {
            "runs": self.runs,
            "warmup": self.warmup,
            "precision": self.precision,
            "budget": self.budget_s,
            "sustained": self.sustained_s,
        }
        counts = [text for name, value in options.items() if value is not None for text in (f"--{name}", str(value))]
        return [*self.runtime_arguments, *counts, *(["--profile"] if self.profile else [])]

    @property
    def runtime_arguments(self) -> list[str]:
        """What runs the model, as options of every verb of ``edgekit-device`` that runs one."""
        delegate = [] if self.delegate == "auto" else [f"--delegate={self.delegate}"]
        return ["--threads", str(self.threads), "--runtime", self.runtime, *delegate]

    @property
    def decides(self) -> dict[str, object]:
        """What a report depends on: as stored beside it. What was left to the device is not in it, but for the oldest keys."""
        always = {"threads": self.threads, "runtime": self.runtime, "runs": self.runs, "warmup": self.warmup}
        asked = {name: getattr(self, name) for name in ("precision", "budget_s", "sustained_s")}
        said = {name: value for name, value in asked.items() if value is not None}
        delegate = {} if self.delegate == "auto" else {"delegate": self.delegate}
        return {**always, **said, **delegate, **({"profile": True} if self.profile else {})}

    def deadline_for(self, variants: int) -> float:
        """Seconds for so many variants in one command."""
        return variants * (self.deadline_s + (self.sustained_s or 0.0))


@dataclass(frozen=True)
class BenchItem:
    """One model to measure: ``data`` are samples for its accuracy, ``outputs`` where the device's outputs for them go;
    ``variant`` is its name in a run."""

    model: Path
    variant: str = ""
    data: Path | None = None
    outputs: Path | None = None


def parse_precision(text: str) -> float:
    """``2%`` or ``0.02`` as the fraction 0.02; raises UsageError for anything else, also for 2: it could be either."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
    value = math.nan if match is None else float(match[1]) / (100 if match[2] else 1)
    if not 0 < value <= 1 or (match is not None and not match[2] and value == 1):
        raise UsageError(f"expected --precision as 2% or 0.02, got {text!r}")
    return value


def _check(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"expected {name} as a whole number from {low} to {high}, got {value!r}")
