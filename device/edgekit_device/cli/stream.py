"""``edgekit-device stream``: a model over a camera, a video, pictures, sound or a pipe, one JSON line for each frame."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import signal
import sys
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Optional

from ..errors import InputError
from .options import Verbs, add_runtime

if TYPE_CHECKING:
    from ..model import Model
    from ..stream.output import Lines
    from ..stream.pipeline import Pipeline

__all__ = ["add"]

TASKS = ("auto", "classify", "detect", "raw", "audio")
STATUS_EVERY_S = 0.5
CLEAR_LINE = "\r\x1b[K"


def add(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = verbs.add_parser("stream", help="run a model over a camera, video, pictures, sound or a pipe")
    option = parser.add_argument
    parser.add_argument("model", help="a .tflite")
    option(
        "--source", required=True, metavar="S", help="camera:/dev/video0, video, picture, folder, glob, WAV, -, random"
    )
    option("--task", choices=TASKS, default="auto", help="default: as the outputs are")
    option("--labels", metavar="F", help="names, one a line (default: those in the model's note)")
    option("--top", type=_positive, metavar="K", help="at most K classes (default 5) or boxes (default 100)")
    option("--threshold", type=_number, metavar="X", help="lowest score (default 0.5 for boxes)")
    option("--iou", type=_number, default=0.5, metavar="X", help="overlap above which the lesser box goes (0.5)")
    option("--letterbox", action="store_true", help="keep the picture's ratio, grey around it")
    option("--scale", type=_number, metavar="X", help="value = pixel * scale + offset (default: the model's note)")
    option("--offset", type=_number, metavar="X", help="see --scale")
    option(
        "--format", default="", metavar="F", help="rgb24 bgr24 gray yuyv nv12 i420, u8 s16 s24 s32 f32; cameras: mjpg"
    )
    option("--size", type=_size, metavar="WxH", help="of the camera, of raw frames or of random ones")
    option("--rate", type=_rate, default=16_000, metavar="HZ", help="sound is brought to this rate (default 16000)")
    option("--window", type=_duration, metavar="S", help="seconds of sound at a time (default: the model's input)")
    option("--hop", type=_duration, metavar="S", help="seconds from one window to the next (default: half a window)")
    option("--loop", action="store_true", help="begin anew after the last picture")
    queue = parser.add_mutually_exclusive_group()
    queue.add_argument("--drop", action="store_true", default=None, help="only the newest frame waits (cameras)")
    queue.add_argument("--every-frame", dest="drop", action="store_false", help="none is dropped (all else)")
    option("--frames", type=_positive, metavar="N", help="stop after N results")
    option("--seconds", type=_duration, metavar="S", help="stop after S seconds")
    option("--output", metavar="F", help="where the lines go (default: standard output)")
    option("--quiet", action="store_true", help="nothing on standard error")
    add_runtime(parser)
    parser.set_defaults(verb=_stream)


def _stream(arguments: argparse.Namespace) -> None:
    from ..model import Model

    chosen = {"threads": arguments.threads, "runtime": arguments.runtime, "delegate": arguments.delegate}
    opened = Model(arguments.model, **chosen, probe=False)
    with opened as model, _output(arguments.output) as file, _stops() as stops:
        _run(arguments, model, file, stops)
    if stops:
        raise KeyboardInterrupt


def _run(arguments: argparse.Namespace, model: Model, file: IO[bytes], stops: list[str]) -> None:
    from ..stream.output import Lines, summarize

    lines = Lines(file)
    pipeline = _pipeline(arguments, model, lines)
    drawing = sys.stderr.isatty() and not arguments.quiet
    started_s = time.perf_counter()
    try:
        pipeline.run(lambda: stops[0] if stops else "", _status(lines, pipeline) if drawing else lambda: None)
    finally:
        if drawing:
            print(CLEAR_LINE, end="", file=sys.stderr, flush=True)
    summary = summarize(lines, pipeline, time.perf_counter() - started_s)
    about = {"model": model.name, "task": pipeline.task, "runtime": vars(model.runtime)}
    with contextlib.suppress(BrokenPipeError):
        if not pipeline.hangs:
            lines.write({"summary": {**about, **summary}})
    if not arguments.quiet:
        print(f"{lines.status(pipeline.dropped)}, {pipeline.skipped} skipped; ended: {pipeline.ended}", file=sys.stderr)


def _pipeline(arguments: argparse.Namespace, model: Model, lines: Lines) -> Pipeline:
    from ..stream.answer import Answer, read_labels
    from ..stream.frames import SourceOptions
    from ..stream.pipeline import Pipeline
    from ..stream.prepare import Preparation
    from ..stream.sources import open_source

    if len(model.inputs) != 1:
        raise InputError(f"expected a model with one input to stream, got {len(model.inputs)} in {model.name}")
    (spec,), note = model.inputs, _note(arguments, model.note)
    labels = read_labels(arguments.labels) if arguments.labels else _noted_labels(note)
    rows, columns = (*spec.shape[1:3], 1, 1)[:2]
    answer = Answer(
        model.outputs,
        (rows, columns),
        task=arguments.task,
        labels=labels,
        top=arguments.top,
        threshold=arguments.threshold,
        iou=arguments.iou,
    )
    prepare = Preparation(spec, note, letterbox=arguments.letterbox)
    given = (arguments.format, arguments.size, arguments.loop, arguments.rate, arguments.window, arguments.hop)
    source = open_source(arguments.source, spec, SourceOptions(*given))
    latest = source.live if arguments.drop is None else arguments.drop
    limits = {"frames": arguments.frames, "seconds": arguments.seconds}
    return Pipeline(source, model, prepare, answer, lines, latest=latest, **limits)


def _note(arguments: argparse.Namespace, note: dict[str, Any]) -> dict[str, Any]:
    """The model's note, its preprocessing as the command line has it where it says so."""
    given = {name: getattr(arguments, name) for name in ("scale", "offset") if getattr(arguments, name) is not None}
    noted = note.get("preprocessing")
    return {**note, "preprocessing": {**(noted if isinstance(noted, dict) else {}), **given}} if given else note


def _noted_labels(note: dict[str, Any]) -> tuple[str, ...]:
    from ..text import clean_text

    labels = note.get("labels")
    return tuple(clean_text(label) for label in labels) if isinstance(labels, list) else ()


def _status(lines: Lines, pipeline: Pipeline) -> Any:
    """What draws the live line, over the one before, when it is time."""
    drawn_s = 0.0

    def draw() -> None:
        nonlocal drawn_s
        if time.monotonic() - drawn_s >= STATUS_EVERY_S:
            drawn_s = time.monotonic()
            print(f"{CLEAR_LINE}{lines.status(pipeline.dropped)}", end="", file=sys.stderr, flush=True)

    return draw


@contextlib.contextmanager
def _output(path: Optional[str]) -> Iterator[IO[bytes]]:
    """Unbuffered, so that a line is out when it is written, and that nothing is left to flush when the reader has gone."""
    if path is None:
        sys.stdout.flush()
        yield open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115 - not ours to close
        return
    with open(path, "wb", buffering=0) as file:
        yield file


@contextlib.contextmanager
def _stops() -> Iterator[list[str]]:
    """The names of the signals that asked us to stop, as they come; the stream ends in order and tells what it did."""
    stops: list[str] = []

    def note(number: int, _frame: object) -> None:
        stops.append(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _rate(text: str) -> int:
    if _positive(text) > 1_000_000:
        raise argparse.ArgumentTypeError(f"expected at most 1000000 Hz, got {text!r}")
    return int(text)


def _number(text: str) -> float:
    try:
        if math.isfinite(float(text)):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")


def _duration(text: str) -> float:
    if not 0 < _number(text) <= 1e9:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return float(text)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, e.g. 640x480, got {text!r}")
    return int(match[1]), int(match[2])
