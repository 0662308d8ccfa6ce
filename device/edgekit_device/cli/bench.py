"""``edgekit-device bench``: latency, memory and, with data, accuracy; of several models in turns."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

from ..errors import DeviceRuntimeError, InputError
from ..text import clean_text
from .options import Verbs, add_json, add_runtime
from .outbox import add_belonging, keep
from .printing import complain, print_json

if TYPE_CHECKING:
    from ..plan import Plan
    from ..report import BenchmarkReport
    from ..turns import Job, Outcome

__all__ = ["add"]

LABELS = ("import", "init", "first", "median", "mean", "std", "min", "max", "p5", "p90", "p95", "p99")


def add(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = verbs.add_parser(
        "bench",
        help="measure latency, memory and, with --data, accuracy",
        description="Measure a model; several are measured in turns, each in a process of its own, and what one of them fails "
        "with is its own. With --json one line for each: its report, or its error, exit code and model.",
    )
    parser.add_argument("model", nargs="+", help="a .tflite")
    parser.add_argument(
        "--runs", type=int, metavar="N", help="exactly so many timed inferences (default: see --precision)"
    )
    parser.add_argument(
        "--warmup",
        type=int,
        default=5,
        metavar="N",
        help="inferences before: at least so many and 0.2 s, then until they settle, for at most 2 s (default 5; 0: none)",
    )
    parser.add_argument(
        "--precision",
        type=float,
        default=0.02,
        metavar="F",
        help="after 50 runs and 1 s, go on until the 95%% interval of the median is narrower than this fraction of it "
        "(default 0.02) …",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=10.0,
        metavar="S",
        help="… or so many seconds of inference are spent (default 10)",
    )
    parser.add_argument("--sustained", type=float, default=0.0, metavar="S", help="then run S seconds without a pause")
    parser.add_argument("--profile", action="store_true", help="then measure the time of every operator, apart")
    parser.add_argument(
        "--deadline",
        type=float,
        default=900.0,
        metavar="S",
        help="of several models, one that takes longer in all counts as hanging (default 900)",
    )
    parser.add_argument(
        "--data", action="append", default=[], metavar="F.npz", help="samples x and labels y to measure accuracy on"
    )
    parser.add_argument(
        "--outputs",
        action="append",
        default=[],
        metavar="F.npz",
        help="keep the outputs for --data here, one per model",
    )
    add_belonging(parser)
    add_json(parser)
    add_runtime(parser)
    parser.set_defaults(verb=_bench)


def _bench(arguments: argparse.Namespace) -> None:
    from ..lock import board_held

    plan, jobs = _plan(arguments), _jobs(arguments)
    failure: Optional[DeviceRuntimeError] = None
    with board_held("bench"):
        for at, outcome in _outcomes(jobs, plan):
            variant = arguments.variant[at] if at < len(arguments.variant) else ""
            if isinstance(outcome, DeviceRuntimeError):
                _show_failure(outcome, jobs[at], variant, arguments.json, first=failure is None)
                failure = failure or outcome
            else:
                _show(keep(outcome, arguments.run, variant), arguments.json)
    if failure is not None:
        raise failure


def _outcomes(jobs: list[Job], plan: Plan) -> Iterator[tuple[int, Outcome]]:
    from ..measurement import measure_one
    from ..turns import measure_in_turns

    if len(jobs) > 1:
        yield from measure_in_turns(jobs, plan)
    else:  # this process is supervised already, and can be the one model's own
        yield 0, measure_one(jobs[0].model, plan, samples=jobs[0].samples, outputs_path=jobs[0].outputs_path)


def _plan(arguments: argparse.Namespace) -> Plan:
    from ..plan import Plan

    return Plan(
        arguments.threads,
        arguments.runtime,
        arguments.delegate,
        arguments.runs,
        arguments.warmup,
        arguments.precision,
        arguments.budget,
        arguments.sustained,
        arguments.deadline,
        arguments.profile,
    )


def _jobs(arguments: argparse.Namespace) -> list[Job]:
    from ..evaluation import read_samples
    from ..turns import Job

    models, data, outputs = arguments.model, arguments.data, arguments.outputs
    if outputs and not data:
        raise InputError("--outputs keeps the outputs for --data: give both")
    for option, values, counts in (
        ("--data", data, {0, 1, len(models)}),
        ("--outputs", outputs, {0, len(models)}),
        ("--variant", arguments.variant, {0, len(models)}),
    ):
        if len(values) not in counts:
            raise InputError(f"expected {option} once for each of {len(models)} model(s), got it {len(values)} times")
    read = {path: read_samples(path) for path in dict.fromkeys(data)}  # mapped, not loaded
    paths = data if len(data) == len(models) else data * len(models)
    return [
        Job(model, read[paths[at]] if data else None, outputs[at] if outputs else None)
        for at, model in enumerate(models)
    ]


def _show_failure(error: DeviceRuntimeError, job: Job, variant: str, as_json: bool, *, first: bool) -> None:
    """One model's error; the first is also the command's, which says it at the end."""
    if as_json:
        model = clean_text(os.path.basename(str(job.model)))
        print_json({"error": str(error), "exit_code": error.exit_code, "model": model, "variant": clean_text(variant)})
    elif not first:
        complain(str(error), error.exit_code)


def _show(report: BenchmarkReport, as_json: bool) -> None:
    if as_json:
        print(report.to_json(), flush=True)
        return
    latency, runtime = report.latency, report.runtime
    used = f"{runtime.name} {runtime.version}, delegate {runtime.delegate or 'unknown'}"
    print(f"{report.model.name}: {used}, {runtime.threads} thread(s)")
    for label in LABELS:
        value = getattr(latency, label + "_ms")
        if value is not None:
            print(f"  {label:8} {value:.4g} ms{_interval(report) if label == 'median' else ''}")
    if latency.count:
        print(f"  {'runs':8} {latency.count}")
    for line in _extras(report):
        print(line)
    for note in report.notes:
        print(f"  {'note':8} {note}", flush=True)


def _interval(report: BenchmarkReport) -> str:
    low, high = report.latency.median_low_ms, report.latency.median_high_ms
    return "" if low is None or high is None else f" (95 %: {low:.4g} to {high:.4g})"


def _extras(report: BenchmarkReport) -> Iterator[str]:
    sustained, energy, accuracy = report.sustained, report.energy, report.accuracy
    if report.memory.peak_rss_mb is not None:
        yield f"  {'peak':8} {report.memory.peak_rss_mb:.1f} MiB resident"
    if sustained.slowdown is not None:
        slow = f", {sustained.throttling}" if sustained.throttling else ""
        yield f"  {'slowdown':8} {sustained.slowdown:.3f} over {sustained.duration_s:.0f} s{slow}"
    if energy.per_inference_mj is not None:
        yield f"  {'energy':8} {energy.per_inference_mj:.4g} mJ for one inference ({energy.source})"
    for operator in sorted(report.profile.operators, key=lambda item: -(item.mean_ms or 0.0))[:5]:
        yield f"  {'operator':8} {operator.type} {operator.name}: {operator.mean_ms or 0.0:.4g} ms"
    if accuracy.accuracy is not None:
        yield f"  {'accuracy':8} {accuracy.accuracy:.4f} on {accuracy.count} samples"
