"""What vela leaves behind, read: the summary (CSV), the operators of its debug database, and what it says of the rest."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import TargetError
from ...reason import short

__all__ = ["Commands", "Database", "Said", "Summary", "read_database", "read_said", "read_summary"]

MOST_COLUMNS, MOST_ROWS, LINE_CAP = 500, 2_000_000, 65_536
MOST_REASONS, REASON_CAP = 10_000, 160
ON_CPU = "Passthrough"  # what vela calls an operator that it hands through to the CPU
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
_TABLE = re.compile(r'<table name="(\w+)">')
_COUNTS = re.compile(r"^(CPU|NPU) operators = (\d+) ", re.M)
_REASON = re.compile(r"^Warning \(supported operators\) operator: (\w+), ofm: '(.*)'\nReason: ((?:.+\n)+)", re.M)
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
class Commands:
    """What the chip does for one operator of the file: the number of vela's own operators, and their sums."""

    count: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Database:
    """Operators by their place in the file's first subgraph: ``on_cpu`` are left to the CPU, ``commands`` are those vela made
    something of. ``inserted`` is what it put in for none of them."""

    on_cpu: frozenset[int]
    commands: Mapping[int, Commands]
    inserted: Commands


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
    rows = list(csv.reader(io.StringIO(text[:LINE_CAP])))
    if len(rows) != 2 or len(rows[0]) != len(rows[1]) or len(rows[0]) > MOST_COLUMNS:
        raise _unreadable(f"expected a heading and one row of equal length in its summary, got {len(rows)} rows")
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
            raise _unreadable(f"expected {wanted} in its summary, got {', '.join(sorted(figures))}")
    return Summary(texts, figures, memory)


def _figure_name(column: str) -> str:
    if bandwidth := _BANDWIDTH.fullmatch(column):
        return f"{bandwidth[1]}_bandwidth_gib_per_s"
    return _IN_BYTES.get(column) or _RENAMED.get(column, column)


def read_database(path: Path, operators: int) -> Database:
    """Read the debug database of a model with so many operators in its first subgraph.

    Vela numbers the operators of all subgraphs, the first subgraph's first; ``ext_key`` is the place in its subgraph.
    Raises TargetError for a file that does not say where each of them is.
    """
    tables = _tables(path, ("source", "perf"))
    places = {row["id"]: _count(row["ext_key"]) for row in tables["source"][:operators]}
    if sorted(places.values()) != list(range(operators)):
        raise _unreadable(f"expected {operators} operators in its debug database, got {len(tables['source'])} others")
    on_cpu = set()
    rows: dict[int, list[dict[str, str]]] = defaultdict(list)
    for row in tables["perf"]:
        place = places.get(row["source_id"], -1)
        if row["operator"] == ON_CPU and place >= 0:
            on_cpu.add(place)
        else:
            rows[place].append(row)
    inserted = _summed(rows.pop(-1, []))
    return Database(frozenset(on_cpu), {place: _summed(found) for place, found in sorted(rows.items())}, inserted)


def _summed(rows: Iterable[Mapping[str, str]]) -> Commands:
    """Cycles, MACs and accesses added up, the staging memory at its peak."""
    figures: dict[str, float] = defaultdict(float)
    count = 0
    for row in rows:
        count += 1
        for name, value in row.items():
            if name == "staging_usage":
                figures["staging_bytes"] = max(figures["staging_bytes"], _count(value))
            elif name.endswith(("_cycles", "_count", "_ac")):
                figures[_LAYER_FIGURES.get(name, name)] += _count(value)
    return Commands(count, dict(figures))


_LAYER_FIGURES = {
    "op_cycles": "cycles",
    "mac_count": "macs",
    "Sram_ac": "sram_cycles",
    "Dram_ac": "dram_cycles",
    "OnChipFlash_ac": "on_chip_flash_cycles",
    "OffChipFlash_ac": "off_chip_flash_cycles",
    "shram_ac": "shram_cycles",
}


def _tables(path: Path, wanted: tuple[str, ...]) -> dict[str, list[dict[str, str]]]:
    """The rows of some tables of the database; the others, which may be long, are only passed over."""
    found: dict[str, list[dict[str, str]]] = {}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in lines:
                table = _TABLE.match(line)
                if table is None or table[1] not in wanted:
                    continue
                if table[1] in found:
                    raise _unreadable(f"expected one table {table[1]} in its debug database, got two")
                found[table[1]] = _rows(lines)
    except (OSError, csv.Error) as error:
        raise _unreadable(f"expected a debug database: {short(str(error))}") from error
    for name, columns in (("source", ("id", "ext_key")), ("perf", ("source_id", "operator"))):
        rows = found.setdefault(name, [])
        if any(column not in row for row in rows[:1] for column in columns):
            raise _unreadable(f"expected the columns {', '.join(columns)} in the table {name} of its debug database")
    return found


def _rows(lines: Iterator[str]) -> list[dict[str, str]]:
    next(lines, "")  # <![CDATA[
    rows: list[dict[str, str]] = []
    header = next(csv.reader([next(lines, "")[:LINE_CAP]]), [])
    begun = ""
    for line in lines:
        if line.startswith("]]>"):
            return rows
        begun = f"{begun}{line}"[:LINE_CAP]
        values = next(csv.reader([begun.rstrip("\n").replace("\n", " ")]), [])
        if len(values) < len(header) and len(begun) < LINE_CAP:
            continue  # a name of a tensor goes over several lines
        if len(rows) >= MOST_ROWS or len(values) < len(header):
            break
        rows.append(_row(header, values))
        begun = ""
    raise _unreadable("expected whole tables in its debug database, one is cut off, or too long")


def _row(header: list[str], values: list[str]) -> dict[str, str]:
    """One row by column, which are as many as in ``header`` or more. Names of tensors come from the file and may hold what
    separates columns: everything before the name is counted from the front, everything behind it from the back."""
    if "name" not in header or len(values) == len(header):
        return dict(zip(header, values, strict=False))
    place = header.index("name")
    behind = len(header) - place - 1
    return dict(
        zip(
            header,
            [*values[:place], ",".join(values[place : len(values) - behind]), *values[len(values) - behind :]],
            strict=True,
        )
    )


def read_said(log: str) -> Said:
    """Read what vela printed. A log without the lines looked for says nothing: fields keep their defaults."""
    counts = {kind: int(count) for kind, count in _COUNTS.findall(log)}
    reasons = tuple(
        (kind, name, _reason(text))
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


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text):
        raise _unreadable(f"expected a count in its debug database, got {short(text)!r}")
    return int(text)


def _unreadable(what: str) -> TargetError:
    return TargetError(f"vela's answer cannot be read: {what}. Is it version 5.0 or newer?")
