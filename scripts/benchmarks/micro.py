"""TFLM on three real models: the arena against what TFLM prints itself, the outputs against LiteRT's, and the sizes."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from edgekit_converters import read_model_card
from edgekit_converters.targets.micro.check import check_micro
from edgekit_converters.targets.micro.export import export_micro
from edgekit_converters.targets.micro.interpret import Session
from edgekit_converters.targets.micro.samples import prepare
from edgekit_converters.targets.target import find_target
from images import images
from measuring import heading, row

MICRO = find_target("micro")
SAMPLES, CALIBRATION = 1000, 200
SIDE = 96
# TFLM asked directly: what it prints of its arena, and whether it runs in one of a size.
ORACLE = """
import sys
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_file(sys.argv[1], arena_size=int(sys.argv[2]))
interpreter.invoke()
interpreter.print_allocations()
"""
# Weights it begins with, and batch statistics of real images: without them nothing is left of a signal after 50 layers.
KERAS = """
import sys, keras, numpy as np
images = np.load(sys.argv[2])["x_train"]
model = keras.applications.MobileNetV2(weights=None, input_shape=images.shape[1:], classes=10)
for layer in model.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.0
model(images, training=True)
model.save(sys.argv[1])
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder with mlperf-tiny/ and cifar10/")
    folder = parser.parse_args().data_dir
    heading("Microcontrollers: TFLM's interpreter on this machine")
    if folder is None or not (folder / "mlperf-tiny").is_dir():
        print("| not measured: name the data with --data-dir FOLDER (mlperf-tiny/ and cifar10/) | – | – | – |")
        return
    pixels, labels = images(folder / "cifar10" / "cifar10_test_jpg.zip", SAMPLES)
    models = folder / "mlperf-tiny"
    resnet = (models / "image_classification" / "pretrainedResnet_quant.tflite").read_bytes()
    _measure("ResNet-8 (reference int8)", resnet, list(pixels.astype(np.float32)), f"{SAMPLES} CIFAR-10 test JPEGs")
    _accuracy("ResNet-8 (reference int8)", resnet, pixels, labels)
    autoencoder = (models / "anomaly_detection" / "ad01_int8.tflite").read_bytes()
    spectra = np.random.default_rng(0).normal(-20, 15, (SAMPLES, 640)).astype(np.float32)
    _measure(
        "autoencoder (reference int8)", autoencoder, list(spectra), f"{SAMPLES} random spectra: no recordings here"
    )
    mobilenet, small = _mobilenet(folder)
    what = f"{len(small)} CIFAR-10 test JPEGs at {SIDE} x {SIDE}; weights not trained"
    _measure(f"MobileNetV2 {SIDE} (int8)", mobilenet, list(small), what)


def _measure(name: str, model: bytes, samples: list[np.ndarray], what: str) -> None:
    begun = time.perf_counter()
    made = export_micro(model, MICRO, name="net", samples=samples[:1])
    seconds = time.perf_counter() - begun
    report = check_micro(model, MICRO, samples=samples)
    memory, figures = report.memory, report.figures
    printed, starts = _asked_directly(model, memory["arena_bytes"])
    ours = [memory[f"arena_{key}_bytes"] for key in ("used", "head", "tail")]
    shown = ", ".join(f"{value:,}" for value in ours)
    row(f"{name}: arena used, head, tail (bytes)", shown, "what TFLM prints itself", ours == printed)
    least = f"{memory['arena_bytes']:,}"
    row(f"{name}: smallest arena that runs (bytes)", least, "runs; one byte less does not", starts == (True, False))
    share = f"{figures['parity_identical']:.2%}, at most {figures['parity_max_abs_diff']:.3g} apart"
    row(f"{name}: output values equal to LiteRT's to the bit ({what})", share, "–", None)
    reference = f"{figures['parity_reference_identical']:.2%}"
    row(f"{name}: equal to LiteRT's reference kernels", reference, "–", None)
    row(f"{name}: .tflite, C source (bytes)", f"{len(model):,}, {len(made.files['net_model.cc']):,}", "–", None)
    equal = _compiled(made.files, model)
    said = "no g++ here" if equal is None else "equal" if equal else "differ"
    row(f"{name}: the array as g++ compiles it", said, "the .tflite's bytes", equal)
    row(f"{name}: check and export, one sample", f"{seconds:.2f} s", "–", None)


def _accuracy(name: str, model: bytes, pixels: np.ndarray, labels: np.ndarray) -> None:
    """The same images in TFLM, in LiteRT, and in LiteRT's reference kernels."""
    card = read_model_card(model)
    with Session(600) as session:
        session.write_samples(prepare(list(pixels.astype(np.float32)), card))
        session.try_models([model], 2**26, measure=True)
        session.run_litert(model)
        found = {who: session.outputs(who)[0][:, 0].argmax(-1) for who in ("micro", "litert", "reference")}
    shares = ", ".join(f"{np.mean(classes == labels):.1%}" for classes in found.values())
    row(f"{name}: accuracy in TFLM, LiteRT, LiteRT's reference kernels ({len(labels)} JPEGs)", shares, "–", None)
    same = np.mean(found["micro"] == found["litert"])
    row(f"{name}: the same class in TFLM as in LiteRT", f"{same:.1%}", "–", None)


def _asked_directly(model: bytes, arena: int) -> tuple[list[int], tuple[bool, bool]]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "m.tflite")
        path.write_bytes(model)

        def ask(size: int) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", ORACLE, str(path), str(size)]
            return subprocess.run(command, capture_output=True, text=True, check=False)

        printed = ask(2**27).stderr
        starts = tuple(ask(size).returncode == 0 for size in (arena, arena - 1))
    found = dict(re.findall(r"Arena allocation (total|head|tail) (\d+) bytes", printed))
    return [int(found[key]) for key in ("total", "head", "tail")], (starts[0], starts[1])


def _compiled(files: dict[str, bytes], model: bytes) -> bool | None:
    """Whether the array, compiled, is the model's bytes in one piece; None without a compiler."""
    compiler = shutil.which("g++")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            Path(scratch, name).write_bytes(content)
        command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-c", "net_model.cc", "-o", "net.o"]
        subprocess.run(command, check=True, cwd=scratch)
        return model in Path(scratch, "net.o").read_bytes()


def _mobilenet(folder: Path) -> tuple[bytes, np.ndarray]:
    """MobileNetV2 with the weights it begins with, converted by edgekit for a microcontroller, and images of its size."""
    pixels, labels = images(folder / "cifar10" / "cifar10_test_jpg.zip", CALIBRATION + 50)
    side = SIDE // pixels.shape[1]
    large = (pixels.repeat(side, 1).repeat(side, 2) / 127.5 - 1).astype(np.float32)
    with tempfile.TemporaryDirectory() as scratch:
        keras, data, run = (str(Path(scratch, name)) for name in ("m.keras", "d.npz", "run"))
        train, test = slice(0, CALIBRATION), slice(CALIBRATION, None)
        np.savez(data, x_train=large[train], y_train=labels[train], x_test=large[test], y_test=labels[test])
        subprocess.run([sys.executable, "-c", KERAS, keras, data], check=True, capture_output=True)
        options = ["--data", data, "--recipe", "int8", "--target", "micro", "--out", run, "--json"]
        made = subprocess.run(
            [sys.executable, "-m", "edgekit", "convert", keras, *options], capture_output=True, text=True, check=False
        )
        if made.returncode:
            sys.exit(made.stderr)
        return _variant(Path(run), json.loads(made.stdout)), large[test]


def _variant(run: Path, said: dict) -> bytes:
    path = Path(said["variants"][0]["path"])
    return (path if path.is_absolute() or path.exists() else run / path).read_bytes()


if __name__ == "__main__":
    main()
