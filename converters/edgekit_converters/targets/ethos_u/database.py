"""Vela's debug database, read: where each operator of the file went, and what the chip does for it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...reason import short
from .run import unreadable

__all__ = ["Commands", "Database", "read_database"]

ON_CPU = "Passthrough"  # what vela calls an operator that it hands through to the CPU
MOST_ROWS, ROW_CAP = 2_000_000, 16_384
COLUMNS = {"source": ("id", "ext_key"), "perf": ("source_id", "operator")}
_TABLE = re.compile(r'<table name="(\w+)">')
# Vela quotes what is no number, and escapes nothing: names of tensors come from the file and may hold quotes and lines.
_FIELD, _NAME = r'(\d+|"[^"\n]*")', r'(\d+|".*")'
_LAYER_FIGURES = {
    "op_cycles": "cycles",
    "mac_count": "macs",
    "Sram_ac": "sram_cycles",
    "Dram_ac": "dram_cycles",
    "OnChipFlash_ac": "on_chip_flash_cycles",
    "OffChipFlash_ac": "off_chip_flash_cycles",
    "shram_ac": "shram_cycles",
}


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


def read_database(path: Path, operators: int) -> Database:
    """Read the debug database of a model with so many operators in its first subgraph.

    Vela numbers the operators of all subgraphs, the first subgraph's first; ``ext_key`` is the place in its subgraph.
    Raises TargetError for a file that does not say where each of them is.
    """
    tables = _tables(path)
    places = {row["id"]: _count(row["ext_key"]) for row in tables["source"][:operators]}
    if sorted(places.values()) != list(range(operators)):
        raise unreadable(f"expected {operators} operators in its debug database, got {len(tables['source'])} others")
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


def _tables(path: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of the tables we want; the others, which may be long, are only passed over."""
    found: dict[str, list[dict[str, str]]] = {}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in lines:
                table = _TABLE.match(line)
                if table is None or table[1] not in COLUMNS:
                    continue
                if table[1] in found:
                    raise unreadable(f"expected one table {table[1]} in its debug database, got two")
                found[table[1]] = _rows(lines, table[1])
    except OSError as error:
        raise unreadable(f"expected a debug database: {error.strerror}") from error
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise unreadable(f"expected a table {' and '.join(missing)} in its debug database")
    return found


def _rows(lines: Iterator[str], table: str) -> list[dict[str, str]]:
    """The rows of the table that begins here, by column. A row ends with its line, or lines later where a name has some."""
    next(lines, "")  # <![CDATA[
    header = [name.strip('"') for name in next(lines, "")[:ROW_CAP].strip().split(",")]
    if not set(COLUMNS[table]) <= set(header):
        raise unreadable(f"expected the columns {', '.join(COLUMNS[table])} in the table {table} of its debug database")
    whole = re.compile(",".join(_NAME if name == "name" else _FIELD for name in header), re.S)
    rows: list[dict[str, str]] = []
    begun = ""
    for line in lines:
        if line.startswith("]]>") and not begun:
            return rows
        begun = f"{begun}{line}"
        values = whole.fullmatch(begun.rstrip("\n"))
        if values is not None:
            rows.append({name: value.strip('"') for name, value in zip(header, values.groups(), strict=True)})
            begun = ""
        if len(begun) > ROW_CAP or len(rows) > MOST_ROWS:
            break
    raise unreadable(f"expected a table {table} in its debug database that ends, and rows of {len(header)} columns")


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text):
        raise unreadable(f"expected a count in its debug database, got {short(text)!r}")
    return int(text)
