"""What a board posted: one report or a list of them, out of bytes that anybody may have sent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NoReturn

from edgekit_device import BenchmarkReport, ReportError
from edgekit_device.outbox import is_report_id
from edgekit_device.report import SCHEMA, clean_text

__all__ = ["MOST_AT_ONCE", "Incoming", "Posted", "Refusal", "read_posted"]

MOST_AT_ONCE = 200


@dataclass(frozen=True)
class Incoming:
    """A report to keep: ``body`` is its canonical JSON (keys sorted, ASCII), ``sha256`` that text's."""

    id: str
    run: str
    sha256: str
    body: str
    note: str = ""


@dataclass(frozen=True)
class Refusal:
    """What was posted and is no report; ``id`` where it has a readable one."""

    reason: str
    id: str = ""


@dataclass(frozen=True)
class Posted:
    """The items of one request in their order, and whether they came as a list."""

    items: tuple[Incoming | Refusal, ...]
    is_list: bool = False


def read_posted(body: bytes) -> Posted | Refusal:
    """The reports in ``body``; a Refusal when the whole of it is unreadable.

    Reports of a newer schema are taken as they are. NaN and infinity, which JSON has no words for, are refused.
    """
    try:
        raw = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return Refusal(
            f"expected a report as JSON, or a list of them: {clean_text(str(error), 120) or 'it is nested too deep'}"
        )
    if not isinstance(raw, list):
        return Posted((_read_one(raw),))
    if len(raw) > MOST_AT_ONCE:
        return Refusal(f"expected at most {MOST_AT_ONCE} reports at once, got {len(raw)}")
    return Posted(tuple(_read_one(item) for item in raw), is_list=True)


def _read_one(raw: Any) -> Incoming | Refusal:
    report_id = raw.get("id") if isinstance(raw, dict) else None
    readable = isinstance(report_id, str) and is_report_id(report_id)
    known = report_id if isinstance(report_id, str) and readable else ""
    try:
        report = BenchmarkReport.from_dict(raw)
        body = json.dumps(raw, sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (ReportError, ValueError, RecursionError) as error:
        return Refusal(clean_text(str(error), 200) or "the report is nested too deep", known)
    if not known:
        return Refusal("expected a report with an id of at most 64 letters, digits, - and _")
    newer = report.schema > SCHEMA
    note = f"schema {report.schema} is newer than this hub's ({SCHEMA}): kept whole" if newer else ""
    return Incoming(known, report.run, hashlib.sha256(body.encode()).hexdigest(), body, note)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
