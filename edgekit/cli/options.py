"""Options that several verbs share, and what they mean together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..errors import UsageError
from ..store import RunStore, is_run

__all__ = [
    "compare_options",
    "data_option",
    "device_options",
    "emit_json",
    "json_option",
    "load",
    "preprocessing_options",
    "single_model",
]

Verb = TypeVar("Verb", bound=Callable[..., Any])

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on standard output, nothing else there."
)

data_option = click.option(
    "--data",
    metavar="D",
    help="An .npz with x_train, y_train, x_test, y_test; a folder train/ and test/ of class folders of images; "
    "module:function; or digits, fashion-mnist.",
)


def preprocessing_options(verb: Verb) -> Verb:
    """``--scale``, ``--offset`` and ``--size``: the preprocessing that belongs to the model."""
    for option in (
        click.option("--size", metavar="HxW", help="Resize images, such as 224x224."),
        click.option("--offset", type=float, help="Model input = raw * scale + offset. [default: 0]"),
        click.option("--scale", type=float, help="Model input = raw * scale + offset. [default: 1]"),
    ):
        verb = option(verb)
    return verb


def device_options(verb: Verb) -> Verb:
    """Where and how to measure."""
    for option in (
        click.option(
            "--deadline",
            type=click.FloatRange(min=0.001),
            default=900.0,
            show_default=True,
            help="Seconds for one variant.",
        ),
        click.option("--warmup", type=click.IntRange(0, 1_000_000), help="Inferences before. [default: 5 and 0.2 s]"),
        click.option(
            "--runs", type=click.IntRange(1, 10_000_000), help="Timed inferences. [default: at least 50 and 1 s]"
        ),
        click.option(
            "--runtime", type=click.Choice(["auto", "litert", "tflite", "tf"]), default="auto", show_default=True
        ),
        click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True),
        click.option("--device", default="local", show_default=True, help="The device to measure on."),
    ):
        verb = option(verb)
    return verb


def compare_options(verb: Verb) -> Verb:
    """The baseline and the limits."""
    for option in (
        click.option("--max-size-kb", type=float, help="Largest file, in KB of 1024 bytes."),
        click.option("--max-latency-ms", type=float, help="Largest median latency, in milliseconds."),
        click.option("--max-drop", type=float, help="Largest accuracy lost, as a fraction: 0.01 is one point."),
        click.option("--baseline", help="The variant to compare with. [default: float32]"),
    ):
        verb = option(verb)
    return verb


def load(
    data: str, scale: float | None, offset: float | None, size: str | None, folder: str | None = None
) -> tuple[Any, Any]:
    """The dataset and its preprocessing; the latter is None when no option asks for one."""
    from ..data import Preprocessing, load_data, parse_size

    wanted = parse_size(size) if size else None
    given = scale is not None or offset is not None or size is not None
    preprocessing = Preprocessing(1.0 if scale is None else scale, offset or 0.0, wanted) if given else None
    return load_data(data, size=wanted, folder=folder), preprocessing


def single_model(target: str) -> Path | None:
    """The path when ``target`` is one model, None when it is a run folder; raises UsageError for neither."""
    if is_run(target):
        RunStore.open(target)
        return None
    path = Path(target)
    if path.is_dir():
        raise UsageError(f"expected a run folder (one with run.json) or a .tflite, got the folder {target}")
    if not path.is_file():
        raise UsageError(f"expected a run folder or a .tflite, got {target}, which does not exist")
    return path


def emit_json(value: Any) -> None:
    """One JSON object on standard output."""
    click.echo(
        json.dumps(value, allow_nan=False, default=lambda item: dict(item) if hasattr(item, "items") else str(item))
    )
