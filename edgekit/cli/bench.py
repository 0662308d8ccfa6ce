"""``edgekit bench``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import data_options, device_options, emit_json, json_option, variant_option

if TYPE_CHECKING:
    from edgekit_device import BenchmarkReport

__all__ = ["command"]


@click.command("bench")
@click.argument("model", type=click.Path(), metavar="RUN|M.tflite")
@device_options
@data_options
@variant_option
@json_option
def command(model: str, as_json: bool, **how: Any) -> None:
    """Measure the variants of a run folder, or one .tflite, on a device; with --data their accuracy there too.

    \b
    Example:
      edgekit bench runs/mine --threads 2
      edgekit bench int8.tflite --json
    """
    from ..benchmark import bench
    from .chatter import chatter_held
    from .outcome import exit_with, failures_json, report_failures
    from .progress import ShownProgress

    with chatter_held(), ShownProgress() as progress:
        reports = bench(model, progress=progress, **how)
    if as_json:
        found = [{**report.to_dict(), "variant": name} for name, report in reports.by_variant.items()]
        emit_json({"reports": found, "failures": failures_json(reports.failures)})
    else:
        for name, report in reports.by_variant.items():
            click.echo(_line(name, report))
    report_failures(reports.failures)
    exit_with(reports.failures)


def _line(name: str, report: BenchmarkReport) -> str:
    from ..render import figures

    latency, ran, accuracy = report.latency, report.runtime, report.accuracy.accuracy
    measured = "" if accuracy is None else f"  accuracy {figures.percent(accuracy)}"
    if report.board.emulator:
        return (
            f"{name:14} emulated by {report.board.emulator}: no latency{measured}  {ran.name} {ran.version}, "
            f"{ran.delegate or 'no delegate named'}, {ran.threads} thread(s)"
        )
    return (
        f"{name:14} median {figures.milliseconds(latency.median_ms):>8}  p95 {figures.milliseconds(latency.p95_ms):>8}  "
        f"first {figures.milliseconds(latency.first_ms):>8}{measured}  {figures.count(latency.count)} runs, "
        f"{ran.name} {ran.version}, {ran.delegate or 'no delegate named'}, {ran.threads} thread(s)"
    )
