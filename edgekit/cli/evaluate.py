"""``edgekit evaluate``."""

from __future__ import annotations

import click

from .options import data_option, emit_json, json_option, load, preprocessing_options, single_model

__all__ = ["command"]


@click.command("evaluate")
@click.argument("target", type=click.Path())
@data_option
@click.option("--variant", "names", multiple=True, help="Only this variant of the run; repeat for several.")
@click.option("--reference", type=click.Path(), help="The float .tflite a single model should agree with.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--runtime", type=click.Choice(["auto", "litert", "tflite", "tf"]), default="auto", show_default=True)
@click.option("--data-folder", type=click.Path(), help="Where the files of the named data lie.")
@preprocessing_options
@json_option
def command(
    target: str,
    data: str | None,
    names: tuple[str, ...],
    reference: str | None,
    threads: int,
    runtime: str,
    data_folder: str | None,
    scale: float | None,
    offset: float | None,
    size: str | None,
    as_json: bool,
) -> None:
    """Measure how right the variants of a run folder, or one .tflite, are on the test split of --data.

    \b
    Example:
      edgekit evaluate runs/mine --data digits.npz
      edgekit evaluate int8.tflite --data digits.npz --scale 0.0625 --json
    """
    from ..errors import UsageError
    from ..evaluation import evaluate, evaluate_run
    from ..records import to_dict
    from ..store import RunStore
    from .progress import ShownProgress

    if data is None:
        raise UsageError("evaluating needs data with a test split: --data digits.npz")
    path = single_model(target)
    dataset, preprocessing = load(data, scale, offset, size, data_folder)
    with ShownProgress() as progress:
        if path is not None:
            found = [
                evaluate(
                    path, dataset, reference=reference, preprocessing=preprocessing, threads=threads, runtime=runtime
                )
            ]
        else:
            if preprocessing is not None or reference is not None:
                raise UsageError(
                    "the variants of a run know their preprocessing and reference: "
                    "leave --scale, --offset, --size and --reference out"
                )
            store = RunStore.open(target)
            with store.locked():
                found = evaluate_run(store, dataset, names=names, threads=threads, runtime=runtime, progress=progress)
    if as_json:
        emit_json({"evaluations": [to_dict(item) for item in found]})
        return
    from ..render import figures

    for item in found:
        line = f"{item.variant:14} accuracy {figures.percent(item.accuracy):>7}  agreement {figures.percent(item.agreement):>7}"
        click.echo(f"{line}  top-5 {figures.percent(item.top5):>7}  {figures.count(item.count)} samples")
