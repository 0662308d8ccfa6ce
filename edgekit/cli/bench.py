"""``edgekit bench``."""

from __future__ import annotations

import click

from .options import data_option, device_options, emit_json, json_option, single_model

__all__ = ["command"]


@click.command("bench")
@click.argument("target", type=click.Path())
@device_options
@data_option
@click.option("--data-folder", type=click.Path(), help="Where the files of the named data lie.")
@click.option("--variant", "names", multiple=True, help="Only this variant of the run; repeat for several.")
@json_option
def command(
    target: str,
    device: str,
    threads: int,
    runtime: str,
    runs: int | None,
    warmup: int | None,
    deadline: float,
    data: str | None,
    data_folder: str | None,
    names: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure the variants of a run folder, or one .tflite, on a device; with --data their accuracy there too.

    \b
    Example:
      edgekit bench runs/mine --threads 2
      edgekit bench int8.tflite --json
    """
    from ..benchmark import bench, bench_run
    from ..data import load_data
    from ..errors import EdgekitError
    from ..store import RunStore
    from .outcome import exit_with, report_failures
    from .progress import ShownProgress

    path = single_model(target)
    dataset = None if data is None else load_data(data, folder=data_folder)
    failures: dict[str, EdgekitError] = {}
    how = {
        "device": device,
        "threads": threads,
        "runtime": runtime,
        "runs": runs,
        "warmup": warmup,
        "deadline_s": deadline,
    }
    with ShownProgress() as progress:
        if path is not None:
            progress.step(f"measuring {path.name} on {device}")
            reports = [(path.stem, bench(path, data=dataset, **how))]  # type: ignore[arg-type]
        else:
            store = RunStore.open(target)
            with store.locked():
                done, failures = bench_run(store, names=names, data=dataset, progress=progress, **how)  # type: ignore[arg-type]
            reports = [(variant.name, report) for variant, report in done]
    if as_json:
        broken = [{"variant": name, "error": str(error)} for name, error in failures.items()]
        emit_json({"reports": [{**report.to_dict(), "variant": name} for name, report in reports], "failures": broken})
    else:
        from ..render import figures

        for name, report in reports:
            latency, ran = report.latency, report.runtime
            click.echo(
                f"{name:14} median {figures.milliseconds(latency.median_ms):>8}  p95 {figures.milliseconds(latency.p95_ms):>8}  "
                f"first {figures.milliseconds(latency.first_ms):>8}  {figures.count(latency.count)} runs, "
                f"{ran.name} {ran.version}, {ran.delegate or 'no delegate named'}, {ran.threads} thread(s)"
            )
    report_failures(failures)
    exit_with(failures)
