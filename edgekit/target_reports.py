"""What targets make of the variants of a run, as the run keeps it: which of it still holds, and what was compiled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import StoreError
from .records import Variant, from_dict
from .store import TARGETS, RunStore

if TYPE_CHECKING:
    from edgekit_converters.targets.records import TargetReport

__all__ = ["TargetReports", "compiled_file", "read_target_reports", "storable"]


MOST_DEPTH, MOST_NUMBER = 32, 1e18


@dataclass(frozen=True)
class TargetReports:
    """Reports of a run by variant, in the order of their targets: those of the variants as they are now, and (variant, target)
    of those of files that are gone or were converted anew."""

    current: tuple[tuple[str, TargetReport], ...] = ()
    stale: tuple[tuple[str, str], ...] = ()


def storable(report: TargetReport) -> dict[str, Any]:
    """The report as JSON that reads back: without figures that are no finite numbers, as a tool may print them."""
    facts: dict[str, Any] = _finite(report.to_dict())
    estimate = facts.get("estimate")
    return facts if estimate is None or "latency_ms" in estimate else {**facts, "estimate": None}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items() if not _is_no_number(item)}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _is_sane(value: object, depth: int = 0) -> bool:
    """Whether JSON holds nothing that a number's text or a walk over it could stumble over."""
    if isinstance(value, (dict, list)):
        items = value.values() if isinstance(value, dict) else value
        return depth < MOST_DEPTH and all(_is_sane(item, depth + 1) for item in items)
    return not isinstance(value, (int, float)) or abs(value) <= MOST_NUMBER  # also false of what is no number


def _is_no_number(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def read_target_reports(store: RunStore) -> TargetReports:
    """The target reports of a run. A file that holds none, or one of another target or basis, is as if it were not there."""
    current: list[tuple[str, TargetReport]] = []
    stale: list[tuple[str, str]] = []
    known: dict[str, Variant | None] = {}
    for path in sorted(store.folder.glob(f"{TARGETS}/*/*.json")):
        report = _read(store, path)
        if report is None:
            continue
        name = path.stem
        if name not in known:
            known[name] = store.variant(name)
        variant = known[name]
        if variant is not None and report.model_sha256 == variant.sha256:
            current.append((name, report))
        else:
            stale.append((name, report.name))
    return TargetReports(tuple(current), tuple(stale))


def compiled_file(store: RunStore, target: str, variant: str) -> str:
    """What was compiled for ``target`` of a variant, relative to the run: the model first among several files; empty where
    there is none."""
    folder = store.folder / TARGETS / target / variant
    files = sorted(_files(folder), key=lambda path: (path.suffix != ".tflite", path.name))
    return files[0].relative_to(store.folder).as_posix() if files else ""


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError:
        return


def _read(store: RunStore, path: Path) -> TargetReport | None:
    from edgekit_converters.targets.records import BASES, TargetReport

    raw = store.read_json(path.relative_to(store.folder).as_posix())
    try:
        report = from_dict(TargetReport, raw) if raw is not None and _is_sane(raw) else None
    except StoreError:
        return None
    return report if report is not None and report.basis in BASES and report.name == path.parent.name else None
