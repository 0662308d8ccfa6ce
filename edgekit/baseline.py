"""What a measurement is held against: reports by variant, out of whatever edgekit wrote them to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit_device import BenchmarkReport, ReportError
from edgekit_device.report import clean_text

from .errors import UsageError
from .store import is_run

__all__ = ["Baseline", "read_baseline"]

CAP_BYTES = 64 * 1024 * 1024
EXPECTED = "what `edgekit bench --json` printed, a run folder, or its report.json"


@dataclass(frozen=True)
class Baseline:
    """Reports by variant, and where they were read from."""

    source: str
    reports: Mapping[str, BenchmarkReport] = field(default_factory=dict)


def read_baseline(path: str | os.PathLike[str]) -> Baseline:
    """The reports at ``path``: a run folder, its report.json, what ``edgekit bench`` or ``compare --json`` printed, or one
    report. Raises UsageError when it is none of them or holds no report."""
    target = Path(path)
    try:
        found = dict(_in_run(target) if is_run(target) else _in_file(target))
    except (ReportError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"expected a baseline ({EXPECTED}), cannot read {target}: {reason}") from error
    if not found:
        raise UsageError(f"{target} holds no report to compare with. Measure the baseline first: edgekit bench")
    return Baseline(clean_text(str(target)), found)


Named = Iterator[tuple[str, BenchmarkReport]]


def _in_run(folder: Path) -> Named:
    for path in sorted((folder / "reports").glob("*.json")):
        yield from _in_file(path)


def _in_file(path: Path) -> Named:
    if path.is_dir():
        raise UsageError(f"expected a baseline ({EXPECTED}), got the folder {path}, which has no run.json")
    if path.stat().st_size > CAP_BYTES:
        raise UsageError(f"expected a baseline of at most {CAP_BYTES // 2**20} MB, got {path}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"expected a baseline ({EXPECTED}), got {path}, which is no JSON: {error}") from error
    if not isinstance(raw, Mapping):
        raise UsageError(f"expected a baseline ({EXPECTED}), got a JSON {type(raw).__name__} in {path}")
    yield from _in_object(raw, path)


def _in_object(raw: Mapping[str, Any], path: Path) -> Named:
    if isinstance(raw.get("reports"), list):
        for item in raw["reports"]:
            yield _named(item)
    elif "report" in raw:
        yield _name(path.stem), BenchmarkReport.from_dict(raw["report"])
    else:
        report = BenchmarkReport.from_dict(raw)
        yield _name(report.variant or Path(report.model.name).stem or path.stem), report


def _named(item: Any) -> tuple[str, BenchmarkReport]:
    """A report with its variant's name inside, as ``bench`` prints it, or beside it, as a comparison does."""
    if isinstance(item, list) and len(item) == 2:
        return _name(item[0]), BenchmarkReport.from_dict(item[1])
    report = BenchmarkReport.from_dict(item)
    return _name(report.variant or Path(report.model.name).stem), report


def _name(value: object) -> str:
    return clean_text(value, 120) if isinstance(value, str) else ""
