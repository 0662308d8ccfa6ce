"""The device package: size of its wheel, and what importing it adds to numpy and the runtime."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import DEVICE_PYTHON, ROOT, heading, in_turn, row

BARE = "import numpy, ai_edge_litert.interpreter"
PROBE = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
PAIRS = 31


def _import_seconds(statement: str) -> float:
    timed = f"import time; t = time.perf_counter()\n{statement}\nprint(time.perf_counter() - t)"
    answer = subprocess.run([str(DEVICE_PYTHON), "-c", timed], capture_output=True, text=True, check=True, cwd="/")
    return float(answer.stdout)


def _peak_mb(statement: str) -> float:
    answer = subprocess.run([str(DEVICE_PYTHON), "-c", statement + PROBE], capture_output=True, text=True, check=True)
    return float(answer.stdout) / 1024


def _help_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "edgekit", "--help"], capture_output=True, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    heading("The device package")
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(ROOT / "device")]
        subprocess.run(build, check=True, capture_output=True)
        size_kb = next(Path(folder).glob("*.whl")).stat().st_size / 1024
    row("wheel", f"{size_kb:.1f} KB", "< 200 KB", size_kb < 200)
    with_package = f"{BARE}\nfrom edgekit_device import Model"
    a, b, ratio = in_turn(lambda: _import_seconds(with_package), lambda: _import_seconds(BARE), PAIRS)
    row("import", f"{ratio:.2f}× ({a * 1e3:.0f} ms against {b * 1e3:.0f} ms)", "≤ 1.15×", ratio <= 1.15)
    a, b, _ = in_turn(lambda: _peak_mb(with_package), lambda: _peak_mb(BARE), 9)
    row("memory", f"{a - b:+.1f} MiB ({a:.1f} MiB against {b:.1f} MiB)", "≤ +3 MB", a - b <= 3)
    heading("The command line")
    seconds = statistics.median(_help_seconds() for _ in range(9))
    row("edgekit --help", f"{seconds * 1e3:.0f} ms", "< 300 ms", seconds < 0.3)


if __name__ == "__main__":
    main()
