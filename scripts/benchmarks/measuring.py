"""What the benchmarks share: processes timed with their whole tree's memory, pairs in turn, and a table."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
DEVICE_PYTHON = ROOT / ".venv-device" / "bin" / "python"


def run_measured(command: Sequence[str], *, env: dict[str, str] | None = None) -> tuple[float, float]:
    """Wall seconds and peak MiB (resident sets of the whole process tree, added up, sampled every 20 ms)."""
    started = time.perf_counter()
    child = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )
    peak = 0
    while child.poll() is None:
        peak = max(peak, _tree_rss(child.pid))
        time.sleep(0.02)
    if child.returncode != 0:
        sys.exit(f"failed with exit code {child.returncode}: {' '.join(map(str, command))}")
    return time.perf_counter() - started, peak / 2**20


def _tree_rss(pid: int) -> int:
    try:
        root = psutil.Process(pid)
        return sum(process.memory_info().rss for process in [root, *root.children(recursive=True)])
    except psutil.Error:
        return 0


def in_turn(first: Callable[[], float], second: Callable[[], float], pairs: int) -> tuple[float, float, float]:
    """Medians of both and of their ratios first/second, measured A B B A A B …, so that a drift favours neither."""
    a, b = [], []
    for pair in range(pairs):
        for side, values in ((first, a), (second, b)) if pair % 2 == 0 else ((second, b), (first, a)):
            values.append(side())
    return statistics.median(a), statistics.median(b), statistics.median(x / y for x, y in zip(a, b, strict=True))


def row(what: str, value: str, bar: str, reached: bool | None) -> None:
    """A line of a Markdown table: what, the figure, the bar, and whether it was reached."""
    verdict = "–" if reached is None else "yes" if reached else "NO"
    print(f"| {what} | {value} | {bar} | {verdict} |", flush=True)


def heading(title: str) -> None:
    """A section with an empty table."""
    print(f"\n### {title}\n\n| what | measured | bar | reached |\n| :-- | --: | --: | :-: |", flush=True)
