"""``edgekit-device bench``: latency, memory and, with data, accuracy."""

from __future__ import annotations

import argparse

from ..errors import InputError
from .options import Verbs, add_json, add_runtime
from .outbox import add_belonging, keep

__all__ = ["add"]


def add(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = verbs.add_parser("bench", help="measure latency, memory and, with --data, accuracy")
    parser.add_argument("model", help="a .tflite")
    parser.add_argument(
        "--runs", type=int, metavar="N", help="timed inferences (default: at least 50 and 1 s, at most 20,000)"
    )
    parser.add_argument(
        "--warmup", type=int, default=5, metavar="N", help="inferences before (default 5, at least 0.2 s)"
    )
    parser.add_argument("--data", metavar="F.npz", help="samples x and labels y to measure accuracy on")
    parser.add_argument("--outputs", metavar="F.npz", help="keep the outputs for --data here")
    add_belonging(parser)
    add_json(parser)
    add_runtime(parser)
    parser.set_defaults(verb=_bench)


def _bench(arguments: argparse.Namespace) -> None:
    from ..evaluation import read_samples
    from ..measurement import measure

    if arguments.outputs and not arguments.data:
        raise InputError("--outputs keeps the outputs for --data: give both")
    samples = read_samples(arguments.data) if arguments.data else None
    report = measure(
        arguments.model,
        threads=arguments.threads,
        runtime=arguments.runtime,
        runs=arguments.runs,
        warmup=arguments.warmup,
        samples=samples,
        outputs_path=arguments.outputs,
        probe=False,
    )
    report = keep(report, arguments.run, *arguments.variant[:1])
    if arguments.json:
        print(report.to_json())
        return
    latency, runtime = report.latency, report.runtime
    used = f"{runtime.name} {runtime.version}, delegate {runtime.delegate or 'unknown'}"
    print(f"{report.model.name}: {used}, {runtime.threads} thread(s)")
    for label in ("init", "first", "median", "mean", "std", "min", "max", "p5", "p90", "p95", "p99"):
        if getattr(latency, label + "_ms") is not None:
            print(f"  {label:8} {getattr(latency, label + '_ms'):.4g} ms")
    if latency.count:
        print(f"  {'runs':8} {latency.count}")
    for note in report.notes:
        print(f"  {'note':8} {note}")
    if report.memory.peak_rss_mb is not None:
        print(f"  {'peak':8} {report.memory.peak_rss_mb:.1f} MiB resident")
    if report.accuracy.accuracy is not None:
        print(f"  {'accuracy':8} {report.accuracy.accuracy:.4f} on {report.accuracy.count} samples")
