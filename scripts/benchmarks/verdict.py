"""Verdicts on a busy machine: how often one model is called different from itself, and how often 10 % more work is found.

Every session measures three files in turns on the device: a model, a copy of it, and one with two more of the same
layers, beside a neighbour of our own making that works in bursts. What the tenth truly costs is measured at length while
the neighbour is away, before and after. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from measuring import DEVICE_PYTHON, ROOT, heading, row

sys.path.insert(0, str(ROOT))

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from edgekit_device import BenchmarkReport

from edgekit.difference import FASTER, NOT_COMPARABLE, SLOWER, difference
from edgekit.intervals import Interval, paired_ratio
from tests.tflite_builder import Graph, Op, Tensor, build

LAYERS, MORE_LAYERS = 21, 23  # measured: two more take 10 % longer, a little more than their share
SIDE, CHANNELS = 24, 32
TRUE_S = 20.0
# One process, busy half of the time in bursts of 0.15 s on average, that computes and sweeps 32 MB in turns.
NEIGHBOUR = """
import random, time
import numpy
draw, memory = random.Random(0), numpy.zeros(4_000_000)
while True:
    until = time.monotonic() + draw.expovariate(1 / 0.15)
    while time.monotonic() < until:
        if draw.random() < 0.3:
            memory += 1
        else:
            sum(range(20_000))
    time.sleep(draw.expovariate(1 / 0.15))
"""

Session = tuple[BenchmarkReport, BenchmarkReport, BenchmarkReport]


def convolutions(layers: int) -> bytes:
    """A float model of ``layers`` equal 3 x 3 convolutions, one after the other: work in proportion to their number."""
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    draw = np.random.default_rng(0)
    shape, kernel = (1, SIDE, SIDE, CHANNELS), (CHANNELS, 3, 3, CHANNELS)
    tensors, ops = [Tensor("input", "float32", shape)], []
    for layer in range(layers):
        at = len(tensors)
        weights = draw.normal(0, 0.05, kernel).astype("float32")
        tensors += [
            Tensor(f"kernel_{layer}", "float32", kernel, weights),
            Tensor(f"bias_{layer}", "float32", (CHANNELS,), np.zeros(CHANNELS, "float32")),
            Tensor(f"output_{layer}", "float32", shape),
        ]
        ops.append(Op("CONV_2D", (at - 1, at, at + 1), (at + 2,), options, version=3))
    return build(Graph(tensors, ops, (0,), (len(tensors) - 1,), signature_key="serving_default"))


def measure(models: Sequence[Path], budget_s: float, *options: str) -> Session:
    """One session of the device over the three models."""
    command = [str(DEVICE_PYTHON), "-m", "edgekit_device", "bench", *map(str, models), "--json"]
    answer = subprocess.run(
        [*command, "--budget", str(budget_s), *options], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        sys.exit(f"the device failed (exit {answer.returncode}): {answer.stdout}{answer.stderr}")
    reports = {report.model.name: report for report in map(BenchmarkReport.from_json, answer.stdout.splitlines())}
    model, copy, slower = (reports[path.name] for path in models)
    return model, copy, slower


@contextmanager
def neighbour() -> Iterator[None]:
    """Somebody else at work on this machine."""
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR])
    try:
        time.sleep(1)
        yield
    finally:
        process.kill()
        process.wait()


def true_ratio(models: Sequence[Path], precision_s: float) -> Interval:
    """What the slower one truly takes, measured for longer and undisturbed."""
    model, _, slower = measure(models, precision_s, "--precision", "0.001")
    return paired_ratio(model.session.block_medians_ms, slower.session.block_medians_ms)


def tell(title: str, verdicts: Counter[str], wrong: Sequence[str], bar: float) -> None:
    """Rows on comparisons of a model with itself: how many were called other than they are, and how many not at all."""
    total = sum(verdicts.values())
    alarms = sum(verdicts[name] for name in wrong) / total
    refused = verdicts[NOT_COMPARABLE] / total
    row(f"{title}: false alarms of {total}", f"{100 * alarms:.1f} %", f"≤ {100 * bar:.0f} %", alarms <= bar)
    row(f"{title}: not comparable", f"{100 * refused:.1f} %", "< 10 %", refused < 0.1)


def tell_found(title: str, verdicts: Counter[str], bar: float) -> None:
    """Rows on comparisons with the slower model: how many found it."""
    total = sum(verdicts.values())
    found, refused = verdicts[SLOWER] / total, verdicts[NOT_COMPARABLE] / total
    row(f"{title}: found of {total}", f"{100 * found:.1f} %", f"≥ {100 * bar:.0f} %", found >= bar)
    row(f"{title}: called faster", f"{100 * verdicts[FASTER] / total:.1f} %", "0 %", verdicts[FASTER] == 0)
    row(f"{title}: not comparable", f"{100 * refused:.1f} %", "< 10 %", refused < 0.1)


def tell_sessions(sessions: Sequence[Session]) -> None:
    """What the sessions were like, and every comparison in them and between neighbours of them."""
    rounds = [len(model.session.block_medians_ms) for model, *_ in sessions]
    busy = [model.after.busy_others or 0.0 for model, *_ in sessions]
    row("rounds of a session, median (least)", f"{statistics.median(rounds):.0f} ({min(rounds)})", "–", None)
    row("cores that others kept busy, median (most)", f"{statistics.median(busy):.2f} ({max(busy):.2f})", "–", None)
    tell("one file twice, in turns", _verdicts((a, b) for a, b, _ in sessions), (FASTER, SLOWER), 0.02)
    tell_found("a tenth more work, in turns", _verdicts((a, c) for a, _, c in sessions), 0.95)
    pairs = list(itertools.pairwise(sessions))
    if pairs:
        apart = Counter(_verdicts((first[0], second[0]) for first, second in pairs))
        found = Counter(_verdicts((first[0], second[2]) for first, second in pairs))
        row("one file in two sessions: verdicts", _listed(apart), "–", None)
        row("a tenth more work in another session: verdicts", _listed(found), "–", None)


def _verdicts(pairs: Iterator[tuple[BenchmarkReport, BenchmarkReport]]) -> Counter[str]:
    return Counter(difference(before, after).verdict for before, after in pairs)


def _listed(verdicts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in verdicts.most_common())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=200, help="of each kind (default 200)")
    parser.add_argument("--budget", type=float, default=1.0, help="seconds of inference of each model (default 1)")
    parser.add_argument("--keep", type=Path, help="a file for the reports of all sessions, as JSON lines")
    asked = parser.parse_args()
    heading(f"Verdicts: {asked.comparisons} sessions of {asked.budget:g} s a model, beside a noisy neighbour")
    with tempfile.TemporaryDirectory() as folder:
        models = [Path(folder, f"{name}.tflite") for name in ("model", "copy", "slower")]
        for path, layers in zip(models, (LAYERS, LAYERS, MORE_LAYERS), strict=True):
            path.write_bytes(convolutions(layers))
        long_s = min(TRUE_S, 10 * asked.budget)
        ratios = [true_ratio(models, long_s)]
        sessions = []
        with neighbour():
            for _ in range(asked.comparisons):
                sessions.append(measure(random.sample(models[:2], 2) + models[2:], asked.budget))
        ratios.append(true_ratio(models, long_s))
    for when, found in zip(("before", "after"), ratios, strict=True):
        text = f"{found.ratio:.3f}× ({found.low:.3f} to {found.high:.3f})"
        row(f"what a tenth more truly takes, {when}", text, "1.09× to 1.11×", abs(found.ratio - 1.1) <= 0.01)
    tell_sessions(sessions)
    if asked.keep is not None:
        lines = (json.dumps([report.to_dict() for report in session]) for session in sessions)
        asked.keep.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
