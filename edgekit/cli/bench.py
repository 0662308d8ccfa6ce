"""``edgekit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .options import data_options, device_options, emit_json, json_option, variant_option

if TYPE_CHECKING:
    from edgekit_device import BenchmarkReport

    from ..gate import RegressionGate
    from ..results import Results

__all__ = ["command"]

DEFAULT_REGRESSION = "5%"


@click.command("bench")
@click.argument("model", type=click.Path(), metavar="RUN|M.tflite")
@device_options
@data_options
@variant_option
@click.option(
    "--tune",
    is_flag=True,
    help="First find the fastest threads, runtime and delegate; kept in the run for this device.",
)
@click.option(
    "--against", type=click.Path(), metavar="B", help="A baseline: an earlier bench's JSON, a run, a .tflite."
)
@click.option("--remeasure", is_flag=True, help="Measure the baseline's own files again, in turns with the new ones.")
@click.option("--max-regression", metavar="P", help=f"Slowdown allowed, as 5% or 0.05. [default: {DEFAULT_REGRESSION}]")
@click.option("--allow-not-comparable", is_flag=True, help="Let pass what does not compare with the baseline.")
@click.option("--markdown", type=click.Path(dir_okay=False), metavar="F.md", help="Write the gate for a pull request.")
@click.option("--junit", type=click.Path(dir_okay=False), metavar="F.xml", help="Write the gate as JUnit XML.")
@json_option
def command(
    model: str,
    as_json: bool,
    against: str | None,
    remeasure: bool,
    max_regression: str | None,
    allow_not_comparable: bool,
    markdown: str | None,
    junit: str | None,
    **how: Any,
) -> None:
    """Measure the variants of a run folder, or one .tflite, on a device; with --data their accuracy there too.

    With --against it is a gate: exit 1 when a variant became slower than allowed for certain, 3 when one does not compare.

    \b
    Example:
      edgekit bench runs/mine --threads 2
      edgekit bench int8.tflite --json > baseline.json
      edgekit bench int8.tflite --against baseline.json --max-regression 5% --junit gate.xml
    """
    from ..baseline import read_baseline
    from ..benchmark import bench
    from ..beside import bench_beside
    from ..gate import judge, parse_regression
    from .chatter import chatter_held
    from .outcome import exit_with, failures_json, report_failures
    from .progress import ShownProgress

    asked = {"--max-regression": max_regression, "--markdown": markdown, "--junit": junit}
    flags = {"--allow-not-comparable": allow_not_comparable or None, "--remeasure": remeasure or None}
    _check(against, {**asked, **flags}, (markdown, junit))
    allowed = parse_regression(max_regression or DEFAULT_REGRESSION)
    beside = against is not None and (remeasure or _is_model(against))
    # Read before anything is measured: a run may be its own baseline.
    baseline = None if against is None or beside else read_baseline(against)
    with chatter_held(), ShownProgress() as progress:
        if against is not None and beside:
            reports, baseline = bench_beside(model, against, progress=progress, **_without_data(how))
        else:
            reports = bench(model, progress=progress, **_without_defaults(how))
    gate = None
    if baseline is not None:
        gate = judge(
            reports.by_variant,
            baseline,
            max_regression=allowed,
            allow_not_comparable=allow_not_comparable,
            failures=reports.failures,
        )
        _write(gate, markdown, junit, str(how["device"]))
    if as_json:
        found = [{**report.to_dict(), "variant": name} for name, report in reports.by_variant.items()]
        judged = {} if gate is None else {"gate": gate.to_dict()}
        emit_json({"reports": found, "failures": failures_json(reports.failures), **judged})
    else:
        _show(model, reports, gate)
    report_failures(reports.failures)
    exit_with(reports.failures, code=0 if gate is None else gate.exit_code)


def _check(against: str | None, asked: dict[str, Any], files: tuple[str | None, ...]) -> None:
    """Refuse before a minute is spent what could not be answered after it."""
    from ..errors import UsageError

    alone = [name for name, value in asked.items() if value is not None]
    if against is None and alone:
        raise UsageError(f"{', '.join(alone)} judges against a baseline: name one with --against B")
    for file in files:
        if file is not None and not Path(file).parent.is_dir():
            raise UsageError(f"expected a file in a folder that is there, got {file}: make {Path(file).parent} first")


def _is_model(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(8)[4:] == b"TFL3"
    except OSError:
        return False


def _without_data(how: dict[str, Any]) -> dict[str, Any]:
    """The options of a measurement in turns with the baseline, which is one of latency alone."""
    from ..errors import UsageError

    data, _, separately, tune = (how.pop(name, None) for name in ("data", "data_folder", "separately", "tune"))
    if data is not None or separately or tune:
        raise UsageError(
            "the baseline's files are measured in turns for their latency alone: leave out --data, --separately and --tune"
        )
    return how


def _without_defaults(how: dict[str, Any]) -> dict[str, Any]:
    """The options without what was not said of how to run a model: a variant that was tuned knows better."""
    source = click.get_current_context().get_parameter_source
    left = [name for name in ("threads", "runtime", "delegate") if source(name) is ParameterSource.DEFAULT]
    return {name: value for name, value in how.items() if name not in left}


def _write(gate: RegressionGate, markdown: str | None, junit: str | None, device: str) -> None:
    from ..render.gate_markdown import render_gate_markdown
    from ..render.junit import render_junit
    from ..store import write_atomically

    if markdown is not None:
        write_atomically(Path(markdown), render_gate_markdown(gate).encode())
    if junit is not None:
        write_atomically(Path(junit), render_junit(gate, device=device).encode())


def _show(model: str, reports: Results[BenchmarkReport], gate: RegressionGate | None) -> None:
    from ..profiling import operator_layers
    from ..render.bench import bench_lines, gate_lines, session_lines
    from ..render.profile import profile_lines

    for name, report in reports.by_variant.items():
        layers = operator_layers(model, name) if report.profile.operators else ()
        for line in (*bench_lines(name, reports.by_variant), *profile_lines(report.profile, layers)):
            click.echo(line)
    for line in (*session_lines(reports.by_variant), *(() if gate is None else gate_lines(gate))):
        click.echo(line)
