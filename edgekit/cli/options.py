"""Options that several verbs share. They are named as the parameters of the Python verbs, and handed to them as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..choices import AUGMENTATIONS, RUNTIMES
from ..plain import plain_json

if TYPE_CHECKING:
    from ..data import Preprocessing

__all__ = [
    "compare_options",
    "data_options",
    "device_options",
    "emit_json",
    "finetune_from",
    "finetune_options",
    "json_option",
    "preprocessing_from",
    "preprocessing_options",
    "runtime_options",
    "variant_option",
]

Verb = TypeVar("Verb", bound=Callable[..., Any])

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on standard output, nothing else there."
)
variant_option = click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    help="Only this variant of the run; repeat for several.",
)


def data_options(verb: Verb) -> Verb:
    """``--data`` and where its files lie."""
    return _with(
        verb,
        click.option(
            "--data",
            metavar="D",
            help="An .npz with x_train, y_train, x_test, y_test; a folder train/ and test/ of class folders of images; "
            "module:function; or digits, fashion-mnist.",
        ),
        click.option("--data-folder", type=click.Path(), help="Where the files of fashion-mnist lie."),
    )


def preprocessing_options(verb: Verb) -> Verb:
    """``--scale``, ``--offset`` and ``--size``: the preprocessing that belongs to the model."""
    return _with(
        verb,
        click.option("--scale", type=float, help="Model input = raw * scale + offset. [default: 1]"),
        click.option("--offset", type=float, help="Model input = raw * scale + offset. [default: 0]"),
        click.option("--size", metavar="HxW", help="Resize images, such as 224x224."),
    )


def runtime_options(verb: Verb) -> Verb:
    """Threads and runtime."""
    return _with(
        verb,
        click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True),
        click.option("--runtime", type=click.Choice(RUNTIMES), default="auto", show_default=True),
    )


def device_options(verb: Verb) -> Verb:
    """Where and how to measure."""
    return _with(
        verb,
        click.option("--device", default="local", show_default=True, help="The device to measure on."),
        runtime_options,
        click.option(
            "--delegate",
            default="auto",
            show_default=True,
            metavar="D",
            help="auto, none, xnnpack, edgetpu:usb:0, litert:gpu, …",
        ),
        click.option(
            "--runs", type=int, metavar="N", help="Exactly so many timed inferences. [default: see --precision]"
        ),
        click.option("--warmup", type=int, metavar="N", help="Inferences before. [default: at least 5 and 0.2 s]"),
        click.option(
            "--precision",
            metavar="P",
            callback=_precision,
            help="After 50 runs and 1 s, go on until the 95 % interval of the median is narrower than this. [default: 2%]",
        ),
        click.option(
            "--budget", "budget_s", type=float, metavar="S", help="Seconds of inference for that at most. [default: 10]"
        ),
        click.option(
            "--sustained",
            "sustained_s",
            type=float,
            metavar="S",
            help="Then run so long without a pause: does it slow down?",
        ),
        click.option("--profile", is_flag=True, help="Then measure the time of every operator, apart."),
        click.option(
            "--separately", is_flag=True, help="Measure the variants of a run one after the other, not in turns."
        ),
        click.option(
            "--deadline", "deadline_s", type=float, default=900.0, show_default=True, help="Seconds for one variant."
        ),
    )


def _precision(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    from ..devices.request import parse_precision

    return None if text is None else parse_precision(text)


def compare_options(verb: Verb) -> Verb:
    """The baseline and the limits."""
    return _with(
        verb,
        click.option("--baseline", metavar="NAME", help="The variant to compare with. [default: float32]"),
        click.option("--max-drop", type=float, help="Largest accuracy lost, as a fraction: 0.01 is one point."),
        click.option("--max-latency-ms", type=float, help="Largest median latency, in milliseconds."),
        click.option("--max-size-kb", type=float, help="Largest file, in KB of 1024 bytes."),
    )


FINETUNE = ("epochs", "learning_rate", "batch_size", "loss", "teacher", "augment")


def finetune_options(verb: Verb) -> Verb:
    """How recipes that train do it; what is not said stays as the recipe has it."""
    return _with(
        verb,
        click.option("--epochs", type=click.IntRange(1), help="Epochs of each fine-tuning. [default: the recipe's]"),
        click.option("--learning-rate", type=float, help="Of each fine-tuning. [default: the recipe's]"),
        click.option("--batch-size", type=click.IntRange(1), help="Of each fine-tuning. [default: the recipe's]"),
        click.option("--loss", metavar="NAME", help="A Keras loss by name. [default: the task's own]"),
        click.option(
            "--teacher", metavar="M", help="none, original (the model given), or a Keras file to learn from as well."
        ),
        click.option(
            "--augment",
            type=click.Choice(AUGMENTATIONS),
            help="Images shifted by a few pixels, mirrored, or both. [default: the recipe's]",
        ),
    )


def finetune_from(options: dict[str, Any]) -> dict[str, Any]:
    """Take the fine-tuning options out of ``options``; those that were said."""
    taken = {name: options.pop(name) for name in FINETUNE}
    return {name: value for name, value in taken.items() if value is not None}


def preprocessing_from(scale: float | None, offset: float | None, size: str | None) -> Preprocessing | None:
    """The preprocessing that the options ask for, or None when they say nothing."""
    if scale is None and offset is None and size is None:
        return None
    from ..data import Preprocessing, parse_size

    wanted = None if size is None else parse_size(size)
    return Preprocessing(1.0 if scale is None else scale, 0.0 if offset is None else offset, wanted)


def emit_json(value: Any) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(plain_json(value), allow_nan=False))


def _with(verb: Verb, *options: Callable[[Any], Any]) -> Verb:
    for option in reversed(options):
        verb = option(verb)
    return verb
