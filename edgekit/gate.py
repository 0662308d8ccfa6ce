"""Has anything become slower than it may? Reports now against those of a baseline, one outcome a variant."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgekit_device import BenchmarkReport

from .baseline import Baseline
from .difference import NO_DIFFERENCE, SLOWER, Difference, difference
from .errors import EdgekitError, UsageError
from .render import figures

__all__ = [
    "FAILED",
    "MISSING",
    "NEW",
    "NOT_COMPARABLE",
    "PASSED",
    "REGRESSED",
    "GateLine",
    "RegressionGate",
    "judge",
    "parse_regression",
]

PASSED, REGRESSED, NOT_COMPARABLE = "passed", "regressed", "not comparable"
NEW, MISSING, FAILED = "new", "missing", "failed"
NAMES = ("the baseline", "the new one")
EXIT_GATE, EXIT_WORLD = 1, 3


@dataclass(frozen=True)
class GateLine:
    """One variant: ``outcome`` is passed, regressed, not comparable, new, missing (not measured now) or failed."""

    variant: str
    outcome: str
    message: str
    before: BenchmarkReport | None = None
    after: BenchmarkReport | None = None
    difference: Difference | None = None


@dataclass(frozen=True)
class RegressionGate:
    """Every variant's outcome. ``max_regression`` is a fraction; ``allow_not_comparable`` lets what does not compare pass."""

    baseline: str
    max_regression: float
    allow_not_comparable: bool = False
    lines: tuple[GateLine, ...] = field(default=())

    @property
    def regressed(self) -> tuple[GateLine, ...]:
        """The variants that became slower than they may."""
        return tuple(line for line in self.lines if line.outcome == REGRESSED)

    @property
    def undecided(self) -> tuple[GateLine, ...]:
        """The variants nobody can tell of."""
        return tuple(line for line in self.lines if line.outcome == NOT_COMPARABLE)

    @property
    def exit_code(self) -> int:
        """0 when nothing became slower than it may, 1 when something did, 3 when something could not be compared."""
        if self.regressed:
            return EXIT_GATE
        return EXIT_WORLD if self.undecided and not self.allow_not_comparable else 0

    def to_dict(self) -> dict[str, Any]:
        """The gate as plain JSON values, the reports left out."""
        return {
            "passed": self.exit_code == 0,
            "baseline": self.baseline,
            "max_regression": self.max_regression,
            "lines": [
                {
                    "variant": line.variant,
                    "outcome": line.outcome,
                    "message": line.message,
                    "difference": None if line.difference is None else asdict(line.difference),
                }
                for line in self.lines
            ],
        }


def judge(
    reports: Mapping[str, BenchmarkReport],
    baseline: Baseline,
    *,
    max_regression: float = 0.05,
    allow_not_comparable: bool = False,
    failures: Mapping[str, EdgekitError] | None = None,
) -> RegressionGate:
    """Hold each report against the baseline's of the same variant; where both have but one, those two.

    A variant has regressed when it is slower and even the low end of the interval of its slowdown lies above
    ``max_regression``: then the difference is real, and more than may be. Raises UsageError when they have no variant in
    common.
    """
    failed = dict(failures or {})
    before, renamed = dict(baseline.reports), ""
    if len(reports) == len(before) == 1 and not failed and list(reports) != list(before):
        (old,), (name,) = before, reports
        before, renamed = {name: before[old]}, f"; the baseline calls it {old}"
    if not before.keys() & (reports.keys() | failed.keys()):
        raise UsageError(
            f"the baseline {baseline.source} has {', '.join(sorted(before))}, and what was measured is "
            f"{', '.join(sorted(reports))}: expected a variant of the same name"
        )
    lines = [
        *(_line(name, before.get(name), report, max_regression, renamed) for name, report in reports.items()),
        *(GateLine(name, FAILED, str(error), before.get(name)) for name, error in failed.items()),
        *_missing(before, reports.keys() | failed.keys()),
    ]
    return RegressionGate(baseline.source, max_regression, allow_not_comparable, tuple(lines))


def parse_regression(text: str) -> float:
    """``5%`` or ``0.05`` as the fraction 0.05; raises UsageError for anything else, also for 5: it could be either."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
    value = math.nan if match is None else float(match[1]) / (100 if match[2] else 1)
    ambiguous = match is not None and not match[2] and value >= 1
    if not 0 <= value <= 10 or ambiguous:
        hint = f": {text.strip()} could be a fraction or per cent" if ambiguous else ""
        raise UsageError(f"expected --max-regression as 5% or 0.05, got {text!r}{hint}")
    return value


def _line(name: str, before: BenchmarkReport | None, after: BenchmarkReport, allowed: float, renamed: str) -> GateLine:
    if before is None:
        return GateLine(name, NEW, "not in the baseline", None, after)
    found = difference(before, after, names=NAMES)
    if not found.comparable:
        return GateLine(name, NOT_COMPARABLE, f"not comparable: {found.reason}{renamed}", before, after, found)
    over = found.verdict == SLOWER and found.low is not None and found.low > 1 + allowed
    return GateLine(name, REGRESSED if over else PASSED, _said(found, allowed, over) + renamed, before, after, found)


def _said(found: Difference, allowed: float, over: bool) -> str:
    limit = figures.limit("max_regression", 100 * allowed, "%")
    if over:
        return f"slower: {found.reason}, and {limit} is allowed"
    doubtful = found.verdict == SLOWER and found.ratio is not None and found.ratio > 1 + allowed
    if doubtful:
        return f"slower: {found.reason}; whether by more than the {limit} allowed is not certain: measure longer"
    return found.reason if found.verdict == NO_DIFFERENCE else f"{found.verdict}: {found.reason}"


def _missing(before: Mapping[str, BenchmarkReport], seen: set[str]) -> Iterator[GateLine]:
    for name, report in before.items():
        if name not in seen:
            yield GateLine(name, MISSING, "in the baseline, and not measured now", report)
