"""``edgekit-device tune``: every way to run a model tried on this board, and a report measured with the best."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from .._runtime import RUNTIMES
from .options import Verbs, add_json
from .outbox import add_belonging, keep

if TYPE_CHECKING:
    from ..report import BenchmarkReport

__all__ = ["add"]


def add(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = verbs.add_parser("tune", help="try runtimes, delegates and threads, and measure with the best")
    parser.add_argument("model", help="a .tflite")
    parser.add_argument(
        "--budget", type=float, default=8.0, metavar="S", help="about how many seconds to try for (default 8)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="at most so many threads (default: the cores)")
    parser.add_argument("--runtime", choices=["auto", *RUNTIMES], default="auto", help="keep to this one")
    parser.add_argument("--delegate", default="auto", metavar="D", help="keep to this one")
    add_belonging(parser)
    add_json(parser)
    parser.set_defaults(verb=_tune)


def _tune(arguments: argparse.Namespace) -> None:
    from ..lock import board_held
    from ..measurement import measure
    from ..tune import tune

    with board_held("tune"):
        best, tuning = tune(
            arguments.model,
            runtime=arguments.runtime,
            delegate=arguments.delegate,
            most_threads=arguments.threads,
            budget_s=arguments.budget,
        )
        report = measure(
            arguments.model, threads=best.threads, runtime=best.runtime, delegate=best.delegate, probe=False
        )
    report = keep(dataclasses.replace(report, tuning=tuning), arguments.run, *arguments.variant[:1])
    if arguments.json:
        print(report.to_json())
        return
    _show(report)


def _show(report: BenchmarkReport) -> None:
    best = report.runtime
    print(f"{'runtime':18} {'delegate':10} {'threads':>7} {'median':>12}")
    for number, trial in enumerate(report.tuning.trials):
        ran = f"{trial.runtime} {trial.version}".strip()
        median = trial.error if trial.median_ms is None else f"{trial.median_ms:9.4g} ms"
        mark = "  <- best" if number == 0 else ""
        print(f"{ran:18} {trial.delegate:10} {trial.threads:7} {median:>12}{mark}")
    latency = report.latency
    print(
        f"measured with the best: median {latency.median_ms:.4g} ms, p95 {latency.p95_ms:.4g} ms, first {latency.first_ms:.4g} ms"
    )
    print(f"run it so: --runtime {best.name} --delegate {report.tuning.trials[0].delegate} --threads {best.threads}")
