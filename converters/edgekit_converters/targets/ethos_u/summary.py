"""Vela's summary (CSV) and what it prints, read."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...reason import short
from .run import unreadable

__all__ = ["Said", "Summary", "read_said", "read_summary"]

MOST_COLUMNS, TEXT_CAP = 500, 65_536
MOST_REASONS, REASON_CAP = 10_000, 160
_KIB = 1024
# Columns in KiB, and columns whose name hides the unit: ours, and what vela's number is multiplied by to get there.
_IN_BYTES = {"arena_cache_size": "arena_cache_bytes"}
_MEMORY = re.compile(r"(\w+)_memory_used")
_BANDWIDTH = re.compile(r"(\w+)_bandwidth")
_RENAMED = {
    "core_clock": "core_clock_hz",
    "inferences_per_second": "inferences_per_s",
    "inference_time": "inference_time_s",
    "total_original_weights": "original_weights_bytes",
    "total_npu_encoded_weights": "encoded_weights_bytes",
    "nn_macs": "macs",
    "nn_tops": "tops",
}
_COUNTS = re.compile(r"^(CPU|NPU) operators = (\d+) ", re.M)
# With quotes and commas since 5.1; 5.0 goes on with another message right behind the rule.
_REASON = re.compile(
    r"^Warning \(supported operators\) operator: ?(\w+),? ofm: ?(.*)\nReason: ((?:(?!CPU performance).+\n)+)", re.M
)
_TYPED = re.compile(r"(unsupported DataType \w+) \(.*")
_FREE_AXIS = re.compile(r"^Tensor '.*' has a dynamic signature in axis 0", re.M)
_WARNING = re.compile(r"^Warning: (.+)$", re.M)
_DEFAULTS = ("No configuration file", "No system configuration", "No memory mode")


@dataclass(frozen=True)
class Summary:
    """The one row of vela's summary: ``texts`` as they stand, ``figures`` in the unit their names end with, ``memory`` used
    in bytes by memory (sram_bytes, dram_bytes …). Figures that are no finite numbers (a time of nothing) are left out."""

    texts: Mapping[str, str]
    figures: Mapping[str, float]
    memory: Mapping[str, int]


@dataclass(frozen=True)
class Said:
    """What vela printed: ``reasons`` for operators left to the CPU, by type and name of the output; how many operators it
    counts on either side; tensors with a free first dimension; and its other warnings."""

    reasons: tuple[tuple[str, str, str], ...] = ()
    cpu_operators: int | None = None
    npu_operators: int | None = None
    free_axes: int = 0
    warnings: tuple[str, ...] = ()


def read_summary(text: str) -> Summary:
    """Read a summary CSV. Raises TargetError for a text that is none."""
    rows = list(csv.reader(io.StringIO(text[:TEXT_CAP])))
    if len(rows) != 2 or len(rows[0]) != len(rows[1]) or len(rows[0]) > MOST_COLUMNS:
        raise unreadable(f"expected a heading and one row of equal length in its summary, got {len(rows)} rows")
    texts: dict[str, str] = {}
    figures: dict[str, float] = {}
    memory: dict[str, int] = {}
    for name, value in zip(*rows, strict=True):
        number = _number(value)
        if number is None:
            texts[name] = short(value)
        elif not math.isfinite(number):
            continue
        elif used := _MEMORY.fullmatch(name):
            memory[f"{used[1]}_bytes"] = round(number * _KIB)
        else:
            figures[_figure_name(name)] = number * _KIB if name in _IN_BYTES else number
    for wanted in ("cycles_total", "core_clock_hz"):
        if wanted not in figures:
            raise unreadable(f"expected {wanted} in its summary, got {', '.join(sorted(figures))}")
    return Summary(texts, figures, memory)


def _figure_name(column: str) -> str:
    if bandwidth := _BANDWIDTH.fullmatch(column):
        return f"{bandwidth[1]}_bandwidth_gib_per_s"
    return _IN_BYTES.get(column) or _RENAMED.get(column, column)


def read_said(log: str) -> Said:
    """Read what vela printed. A log without the lines looked for says nothing: fields keep their defaults."""
    counts = {kind: int(count) for kind, count in _COUNTS.findall(log)}
    reasons = tuple(
        (kind, _unquoted(name), _reason(text))
        for _, (kind, name, text) in zip(range(MOST_REASONS), _REASON.findall(log), strict=False)
    )
    warnings = dict.fromkeys(short(text) for text in _WARNING.findall(log) if not text.startswith(_DEFAULTS))
    return Said(
        reasons=reasons,
        cpu_operators=counts.get("CPU"),
        npu_operators=counts.get("NPU"),
        free_axes=len(_FREE_AXIS.findall(log)),
        warnings=tuple(warnings)[:20],
    )


def _unquoted(name: str) -> str:
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] == "'" else name


def _reason(text: str) -> str:
    """The reason, then the rule it broke, on one line. The tensor that has a wrong type is left out: operators with the same
    reason then have the same words."""
    reason, _, rule = text.partition("\n")
    reason, rule = _TYPED.sub(r"\1", short(reason)), short(rule)
    if len(reason) > REASON_CAP:
        reason = f"{reason[: REASON_CAP - 1]}…"
    return f"{reason} ({rule})" if rule else reason


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
