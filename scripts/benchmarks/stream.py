"""`edgekit-device stream` against bare invoke on an int8 MobileNetV2, in turn, and its memory over 100,000 frames.

Both run in .venv-device. `--frames`, `--pairs` and `--long` make it shorter, for a look at it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import DEVICE_PYTHON, ROOT, heading, in_turn, row

MAKE = """
import sys
import keras, numpy
import edgekit
from edgekit.data.preprocess import Preprocessing
from edgekit_converters.zoo import build
keras.utils.set_random_seed(0)
rng = numpy.random.default_rng(0)
folder = sys.argv[1]
for name, model, side, channels in (
    ("mobilenet", keras.applications.MobileNetV2(weights=None), 224, 3),
    ("tiny", build("classic-cnn", (28, 28, 1), 10), 28, 1),
):
    x = rng.integers(0, 256, (16, side, side, channels), dtype=numpy.uint8)
    numpy.savez(f"{folder}/{name}.npz", x_train=x, y_train=numpy.arange(16) % 10, x_test=x[:4], y_test=numpy.arange(4))
    [made] = edgekit.convert(
        model, data=f"{folder}/{name}.npz", recipes=("int8",), input_type="int8", output_type="int8",
        preprocessing=Preprocessing(scale=1 / 127.5, offset=-1.0),
    )
    open(f"{folder}/{name}.tflite", "wb").write(made.tflite)
for size, (width, height) in {"same": (224, 224), "vga": (640, 480)}.items():
    for number in range(8):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=numpy.uint8)
        with open(f"{folder}/{size}{number}.ppm", "wb") as file:
            file.write(b"P6 %d %d 255\\n" % (width, height) + pixels.tobytes())
"""
BARE = """
import sys, time
import numpy
from edgekit_device import Model
path, frames = sys.argv[1], int(sys.argv[2])
with Model(path, probe=False) as model:
    spec = model.inputs[0]
    model.set_inputs([numpy.random.default_rng(0).integers(-128, 128, spec.shape, dtype=spec.dtype)])
    with model.bare_invoke() as invoke:
        for _ in range(20):
            invoke()
        started = time.perf_counter()
        for _ in range(frames):
            invoke()
        print(frames / (time.perf_counter() - started))
"""


def _device(*arguments: object) -> str:
    command = [str(DEVICE_PYTHON), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def stream(folder: Path, model: str, source: object, *options: object) -> dict[str, Any]:
    """The summary of one stream, its lines written to a file."""
    lines = folder / "lines.jsonl"
    command = ["-m", "edgekit_device", "stream", folder / f"{model}.tflite", "--source", source]
    _device(*command, "--output", lines, "--quiet", *options)
    with lines.open("rb") as file:
        file.seek(max(0, lines.stat().st_size - 20_000))
        summary: dict[str, Any] = json.loads(file.read().splitlines()[-1])["summary"]
    return summary


def bare_fps(folder: Path, frames: int) -> float:
    """Invocations a second with the input set once."""
    return float(_device("-c", BARE, folder / "mobilenet.tflite", frames))


def compare(folder: Path, what: str, frames: int, pairs: int, source: str, *options: object, bar: float | None) -> None:
    """A row: the stream's frames a second as a share of bare invoke's."""

    def streamed() -> float:
        return float(stream(folder, "mobilenet", source, *options, "--frames", frames)["fps"])

    ours, bare, ratio = in_turn(streamed, lambda: bare_fps(folder, frames), pairs)
    bound = "–" if bar is None else f"≥ {bar:.0%}"
    row(what, f"{ratio:.1%} ({ours:.1f} of {bare:.1f} fps)", bound, None if bar is None else ratio >= bar)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1000, help="of each run")
    parser.add_argument("--pairs", type=int, default=7, help="runs of each kind")
    parser.add_argument("--long", type=int, default=100_000, help="frames of the run whose memory is watched")
    arguments = parser.parse_args()
    heading("edgekit-device stream, MobileNetV2 224 int8, one thread")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", MAKE, name], check=True, cwd=ROOT, capture_output=True)
        given = arguments.frames, arguments.pairs
        compare(folder, "frames from memory, of bare invoke", *given, "random", bar=0.95)
        compare(folder, "PPM 224 x 224, of bare invoke", *given, f"{folder}/same*.ppm", "--loop", bar=0.95)
        compare(folder, "PPM 640 x 480, resized, of bare invoke", *given, f"{folder}/vga*.ppm", "--loop", bar=None)
        memory = stream(folder, "tiny", "random", "--frames", arguments.long)["memory"]
        early, late = memory["rss_mb_at_1000"], memory["rss_mb"]
        shown = f"{late - early:+.2f} MiB ({early:.1f} to {late:.1f})"
        row(f"memory from frame 1,000 to {arguments.long:,}", shown, "≤ 1 MiB", late - early <= 1.0)


if __name__ == "__main__":
    main()
