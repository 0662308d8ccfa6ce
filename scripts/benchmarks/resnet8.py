"""MLPerf Tiny's trained ResNet-8 (.h5) to int8, against the reference int8 .tflite, on the CIFAR-10 test JPEGs."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from images import images
from measuring import heading, row

TRAIN_SAMPLES = 2000


def _edgekit(*arguments: str) -> dict:
    command = [sys.executable, "-m", "edgekit", *arguments, "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(answer.stderr)
    return json.loads(answer.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder with mlperf-tiny/ and cifar10/")
    folder = parser.parse_args().data_dir
    heading("ResNet-8 to int8")
    if folder is None or not (folder / "mlperf-tiny").is_dir():
        print("| not measured: name the data with --data-dir FOLDER (mlperf-tiny/ and cifar10/) | – | – | – |")
        return
    models = folder / "mlperf-tiny" / "image_classification"
    reference = models / "pretrainedResnet_quant.tflite"
    with tempfile.TemporaryDirectory() as scratch:
        data, run = str(Path(scratch, "cifar10.npz")), str(Path(scratch, "run"))
        x_train, y_train = images(folder / "cifar10" / "cifar10_train_jpg.zip", TRAIN_SAMPLES)
        x_test, y_test = images(folder / "cifar10" / "cifar10_test_jpg.zip")
        np.savez(data, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
        made = _edgekit(
            "convert", str(models / "pretrainedResnet.h5"), "--data", data, "--recipe", "int8", "--out", run
        )
        ours = _edgekit("evaluate", run, "--data", data)["evaluations"][0]
        theirs = _edgekit("evaluate", str(reference), "--data", data)["evaluations"][0]
    difference = 100 * (ours["accuracy"] - theirs["accuracy"])
    accuracies = (
        f"({ours['accuracy']:.2%} against {theirs['accuracy']:.2%}, agreement with float {ours['agreement']:.2%})"
    )
    row("accuracy", f"{difference:+.2f} points {accuracies}", "within 0.5 point", difference >= -0.5)
    ratio = made["variants"][0]["size_bytes"] / reference.stat().st_size
    row("size", f"{ratio:.3f}× ({made['variants'][0]['size_bytes']:,} bytes)", "≤ 1.05×", ratio <= 1.05)


if __name__ == "__main__":
    main()
