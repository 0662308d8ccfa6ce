"""The state of the board around a measurement, and what is worth saying about it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Optional, Union

from .report import ConditionsFacts
from .sensors import cpu_temperature, frequencies, governor, read_text, throttling
from .text import clean_text

__all__ = ["Watch", "available_mb", "remarks"]

MOST_NAMED = 3
LEAST_TICKS = 20  # of 10 ms, as a rule: within fewer the kernel's accounting says nothing of how busy anybody was
LEAST_SHARE = 0.05  # of a core: what keeps less busy is not named
BUSY_OTHERS = 0.2
SWAP_GREW_MB = 1.0
FREQUENCY_KEPT = 0.9
STAT_CAP = 100_000
NAME_CAP = 16


class _Process(NamedTuple):
    """Processor time of a process in clock ticks, and that of its children that ended and were waited for."""

    name: str = ""
    ticks: int = 0
    ticks_of_children: int = 0


@dataclass(frozen=True)
class _Ticks:
    """Processor time so far: of all cores, in clock ticks, and of every process by its id."""

    at_s: float
    busy: Optional[float] = None
    processes: dict[int, _Process] = field(default_factory=dict)


class Watch:
    """Looks at the board now and then; how busy others were is counted from one look to the next.

    ``own`` are the processes that belong to the measurement: this one and those it has made.
    """

    def __init__(self, root: Union[str, Path] = "/", own: Iterable[int] = ()) -> None:
        self._base = Path(root)
        self.own = {os.getpid(), os.getppid(), *own}
        self._last = _ticks(self._base)

    def look(self) -> ConditionsFacts:
        """The conditions now; ``busy_others`` and ``others`` are since the last look, and absent where that was just now."""
        before, self._last = self._last, _ticks(self._base)
        busy, names = self._others(before, self._last)
        now, since_boot = throttling(self._base)
        frequency, most = frequencies(self._base)
        memory = _memory_kb(self._base)
        swap = memory.get("SwapTotal", 0) - memory.get("SwapFree", 0) if "SwapTotal" in memory else None
        return ConditionsFacts(
            governor=governor(self._base),
            frequency_mhz=frequency,
            frequency_max_mhz=most,
            temperature_c=cpu_temperature(self._base),
            throttling=now,
            throttled_before=since_boot,
            load_1m=_load(self._base),
            busy_others=busy,
            others=names,
            memory_available_mb=_mb(memory.get("MemAvailable")),
            swap_used_mb=_mb(swap),
        )

    def _others(self, before: _Ticks, after: _Ticks) -> tuple[Optional[float], tuple[str, ...]]:
        elapsed = (after.at_s - before.at_s) * os.sysconf("SC_CLK_TCK")
        if before.busy is None or after.busy is None or elapsed < LEAST_TICKS:
            return None, ()
        mine = sum(self._own_ticks(ticks) * sign for ticks, sign in ((after, 1), (before, -1)))
        used = {
            pid: process.ticks - before.processes.get(pid, _Process()).ticks
            for pid, process in after.processes.items()
            if pid not in self.own
        }
        busiest = sorted(used, key=lambda pid: -used[pid])
        named = [after.processes[pid].name for pid in busiest if used[pid] / elapsed >= LEAST_SHARE]
        return max(0.0, (after.busy - before.busy - mine) / elapsed), tuple(dict.fromkeys(named))[:MOST_NAMED]

    def _own_ticks(self, ticks: _Ticks) -> int:
        own = (process for pid, process in ticks.processes.items() if pid in self.own)
        return sum(process.ticks + process.ticks_of_children for process in own)


def available_mb(root: Union[str, Path] = "/") -> Optional[float]:
    """Memory that can be had without swapping, in mebibytes; None where the system does not tell."""
    return _mb(_memory_kb(Path(root)).get("MemAvailable"))


def remarks(before: ConditionsFacts, after: ConditionsFacts) -> tuple[str, ...]:
    """What was wrong with the conditions, in plain words; empty when nothing is known to have been."""
    found = []
    if after.governor and after.governor != "performance":
        found.append(
            f"the frequency governor is {after.governor}, not performance: the processor's pace depends on its load"
        )
    if after.throttling not in ("", "none"):
        found.append(f"the processor is slowed down: {after.throttling}")
    elif after.throttled_before != before.throttled_before:
        found.append(f"the processor was slowed down during the runs: {after.throttled_before}")
    if after.busy_others is not None and after.busy_others >= BUSY_OTHERS:
        names = f" ({', '.join(after.others)})" if after.others else ""
        found.append(f"other processes kept {after.busy_others:.1f} cores busy{names}")
    if before.swap_used_mb is not None and after.swap_used_mb is not None:
        grew = after.swap_used_mb - before.swap_used_mb
        if grew >= SWAP_GREW_MB:
            found.append(f"memory ran short: {grew:.0f} MiB more were swapped out during the runs")
    if before.frequency_mhz and after.frequency_mhz and after.frequency_mhz < FREQUENCY_KEPT * before.frequency_mhz:
        drop, fell = 1 - after.frequency_mhz / before.frequency_mhz, f"to {after.frequency_mhz:.0f} MHz"
        found.append(f"the frequency dropped by {drop:.0%} during the runs, from {before.frequency_mhz:.0f} {fell}")
    return tuple(found)


def _ticks(base: Path) -> _Ticks:
    first = read_text(base / "proc/stat", cap=STAT_CAP, lines=True).partition("\n")[0].split()
    try:
        # user nice system idle iowait irq softirq steal; guest time is within user's (man 5 proc).
        numbers = [int(word) for word in first[1:9]]
    except ValueError:
        numbers = []
    busy = None if len(numbers) < 4 else float(sum(numbers) - sum(numbers[3:5]))
    return _Ticks(time.monotonic(), busy, {} if busy is None else _processes(base))


def _processes(base: Path) -> dict[int, _Process]:
    try:
        folders = [path for path in (base / "proc").iterdir() if path.name.isdecimal()]
    except OSError:
        return {}
    found = {}
    for folder in folders:
        head, _, rest = read_text(folder / "stat", cap=1000, lines=True).rpartition(")")
        try:
            user, system, of_children, in_children = (int(word) for word in rest.split()[11:15])
        except ValueError:  # it has just ended
            continue
        name = clean_text(head.partition("(")[2], NAME_CAP)
        found[int(folder.name)] = _Process(name, user + system, of_children + in_children)
    return found


def _memory_kb(base: Path) -> dict[str, int]:
    found = {}
    for line in read_text(base / "proc/meminfo", cap=STAT_CAP, lines=True).splitlines():
        name, _, value = line.partition(":")
        if value.split()[:1] and value.split()[0].isdecimal():
            found[name.strip()] = int(value.split()[0])
    return found


def _load(base: Path) -> Optional[float]:
    try:
        return float(read_text(base / "proc/loadavg").split()[0])
    except (ValueError, IndexError):
        return None


def _mb(kb: Optional[int]) -> Optional[float]:
    return None if kb is None else kb / 1024
