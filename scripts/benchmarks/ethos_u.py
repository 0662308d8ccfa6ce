"""Arm Ethos-U: our record of ResNet-8, the autoencoder and MobileNetV2 beside what vela prints and writes when run by hand."""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from edgekit_converters.targets.ethos_u.vela import compile_ethos_u, model_ethos_u
from edgekit_converters.targets.operators import Operator, read_operators
from edgekit_converters.targets.records import TargetReport
from edgekit_converters.targets.target import Target, targets
from measuring import heading, row

OURS = {
    "MLPerf Tiny ResNet-8": "mlperf-tiny/image_classification/pretrainedResnet_quant.tflite",
    "MLPerf Tiny autoencoder": "mlperf-tiny/anomaly_detection/ad01_int8.tflite",
    "MobileNetV2 (uint8, 2018)": "edgetpu/pairs/google-coral+edgetpu/test_data/mobilenet_v2_1.0_224_quant.tflite",
}
# What vela prints, by the name in our record: the unit it prints in, and half of its last digit.
PRINTED = {
    "cycles_npu": (r"^NPU cycles +(\d+)", 1, 0),
    "cycles_sram_access": (r"^SRAM Access cycles +(\d+)", 1, 0),
    "cycles_dram_access": (r"^DRAM Access cycles +(\d+)", 1, 0),
    "cycles_on_chip_flash_access": (r"^On-chip Flash Access cycles +(\d+)", 1, 0),
    "cycles_off_chip_flash_access": (r"^Off-chip Flash Access cycles +(\d+)", 1, 0),
    "cycles_total": (r"^Total cycles +(\d+)", 1, 0),
    "macs": (r"^Neural network macs +(\d+)", 1, 0),
    "core_clock_hz": (r"^Accelerator clock +(\d+) MHz", 1e6, 0),
    "cpu_operators": (r"^CPU operators = (\d+)", 1, 0),
    "npu_operators": (r"^NPU operators = (\d+)", 1, 0),
    "inference_time_s": (r"^Batch Inference time +([\d.]+) ms", 1e-3, 0.005),
    "inferences_per_s": (r"^Batch Inference time .* ([\d.]+) inferences/s", 1, 0.005),
    "tops": (r"^Network Tops/s +([\d.]+)", 1, 0.005),
    "original_weights_bytes": (r"^Original Weights Size +([\d.]+) KiB", 1024, 0.005),
    "encoded_weights_bytes": (r"^NPU Encoded Weights Size +([\d.]+) KiB", 1024, 0.005),
    "sram_bytes": (r"^Total SRAM used +([\d.]+) KiB", 1024, 0.005),
    "dram_bytes": (r"^Total DRAM used +([\d.]+) KiB", 1024, 0.005),
    "on_chip_flash_bytes": (r"^Total On-chip Flash used +([\d.]+) KiB", 1024, 0.005),
    "off_chip_flash_bytes": (r"^Total Off-chip Flash used +([\d.]+) KiB", 1024, 0.005),
}
# Columns of vela's summary that our record calls otherwise, and in what unit they are there.
RENAMED = {
    "core_clock": ("core_clock_hz", 1),
    "arena_cache_size": ("arena_cache_bytes", 1024),
    "inferences_per_second": ("inferences_per_s", 1),
    "inference_time": ("inference_time_s", 1),
    "total_original_weights": ("original_weights_bytes", 1),
    "total_npu_encoded_weights": ("encoded_weights_bytes", 1),
    "nn_macs": ("macs", 1),
    "nn_tops": ("tops", 1),
}


def _by_hand(model: Path, target: Target, folder: Path) -> tuple[str, dict[str, str], list[dict[str, str]], float]:
    """What vela prints, its summary, its table by layer, and the seconds it took."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "ethosu.vela", str(model), "--accelerator-config", target.config]
    said = ["--verbose-performance", "--verbose-cycle-estimate", "--verbose-weights", "--output-dir", str(folder)]
    printed = subprocess.run([*command, *said], capture_output=True, text=True, check=True, cwd=folder).stdout
    seconds = time.perf_counter() - started
    (summary,) = folder.glob("*_summary_*.csv")
    (layers,) = folder.glob("*_per-layer.csv")
    with summary.open() as text, layers.open() as table:
        return printed, next(csv.DictReader(text)), list(csv.DictReader(table)), seconds


def _differences(
    report: TargetReport, printed: str, summary: dict[str, str], layers: list[dict[str, str]]
) -> list[bool]:
    """Whether each figure vela prints, each number of its summary and each sum of its table is in our record."""
    known = {**report.figures, **report.memory}
    same = []
    for name, (pattern, unit, half) in PRINTED.items():
        found = re.search(pattern, printed, re.M)
        if found is not None:
            same.append(abs(known.get(name, 0) - float(found[1]) * unit) <= half * unit * 1.0001)
    for column, value in summary.items():
        if re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", value):
            name, unit = _ours(column)
            same.append(abs(known.get(name, 0) - float(value) * unit) <= 1e-9 * abs(float(value) * unit))
    for figure, column in (("cycles", "Op Cycles"), ("macs", "MAC Count")):
        whole = sum(int(line[column]) for line in layers)
        same.append(sum(layer.figures.get(figure, 0) for layer in report.layers) == whole)
    return same


def _ours(column: str) -> tuple[str, float]:
    if column.endswith("_memory_used"):
        return column.replace("_memory_used", "_bytes"), 1024
    if column.endswith("_bandwidth"):
        return f"{column}_gib_per_s", 1
    return RENAMED.get(column, (column, 1))


def _models(folder: Path | None, scratch: Path) -> Iterator[tuple[str, Path]]:
    """The models there are; MobileNetV2 is also made here, by edgekit, with random weights: its time does not hang on them."""
    for title, path in OURS.items():
        if folder is None or not (folder / path).is_file():
            print(f"\n{title}: not measured; name the data with --data-dir FOLDER ({path})")
        else:
            yield title, folder / path
    code = (
        "import keras, sys; keras.utils.set_random_seed(0); "
        "keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3)).save(sys.argv[1])"
    )
    keras_file, data = scratch / "mobilenet.keras", scratch / "data.npz"
    subprocess.run([sys.executable, "-c", code, str(keras_file)], check=True, capture_output=True)
    images = np.random.default_rng(0).random((32, 96, 96, 3), np.float32)
    classes = np.arange(32) % 1000
    np.savez(data, x_train=images, y_train=classes, x_test=images[:8] / 2, y_test=classes[:8])
    ends = ["--input-type", "int8", "--output-type", "int8"]
    command = [
        sys.executable,
        "-m",
        "edgekit",
        "convert",
        str(keras_file),
        "--data",
        str(data),
        "--recipe",
        "int8",
        *ends,
    ]
    subprocess.run([*command, "--out", str(scratch / "run")], check=True, capture_output=True)
    yield "MobileNetV2 96 × 96 (Keras, edgekit's int8)", next((scratch / "run").rglob("*int8*.tflite"))


def _placed(folder: Path) -> tuple[int, int, int, int]:
    """Models and operators of edgetpu/pairs; those placed as the file that vela wrote has them; those on the CPU that come
    with a reason. What stays in that file, by type and output, is on the CPU."""
    target = targets()["ethos-u55-128"]
    models = [path for path in sorted((folder / "edgetpu" / "pairs").rglob("*.tflite")) if "_edgetpu" not in path.name]
    operators = agreed = silent = 0
    for path in models:
        tflite = path.read_bytes()
        made = compile_ethos_u(tflite, target, name="m")
        left = {_key(op) for op in read_operators(made.files["m_vela.tflite"]).operators}
        for op, found in zip(read_operators(tflite).operators, made.report.ops, strict=True):
            stays = _key(op) in left
            operators += 1
            agreed += found.placement == ("cpu" if stays else "ethos-u")
            silent += found.placement == "cpu" and "does not say" in found.reason
    return len(models), operators, agreed, silent


def _key(op: Operator) -> tuple[str, str]:
    return op.type, next((tensor.name for tensor in op.outputs if tensor is not None), "")


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder with mlperf-tiny/ and edgetpu/")
    folder = parser.parse_args().data_dir
    same: list[bool] = []
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for title, path in _models(folder, Path(scratch)):
            print(f"\n### {title}, modelled by vela\n")
            print("| target | ms | cycles | MACs | SRAM | flash | DRAM | operators there | figures equal |")
            print("| :-- | --: | --: | --: | --: | --: | --: | --: | --: |")
            for target in (target for target in targets().values() if target.kind == "ethos-u"):
                with tempfile.TemporaryDirectory() as by_hand:
                    printed, summary, layers, seconds = _by_hand(path, target, Path(by_hand))
                started = time.perf_counter()
                report = model_ethos_u(path.read_bytes(), target)
                ours.append(time.perf_counter() - started)
                theirs.append(seconds)
                found = _differences(report, printed, summary, layers)
                same += found
                _line(target, report, found)
    heading("Arm Ethos-U through vela")
    row("figures equal to vela's own", f"{sum(same):,} of {len(same):,}", "all", all(same))
    if folder is not None and (folder / "edgetpu" / "pairs").is_dir():
        models, operators, agreed, silent = _placed(folder)
        value = f"{agreed:,} of {operators:,} of {models} models"
        row("operators placed as in the file vela wrote", value, "all", agreed == operators)
        row("operators on the CPU without vela's reason", str(silent), "0", silent == 0)
    row("seconds of a report, vela's own", f"{sum(ours) / len(ours):.2f}, {sum(theirs) / len(theirs):.2f}", "–", None)


def _line(target: Target, report: TargetReport, found: list[bool]) -> None:
    memory = [report.memory.get(name, 0) / 1024 for name in ("sram_bytes", "off_chip_flash_bytes", "dram_bytes")]
    used = " | ".join(f"{size:,.1f} KiB" if size else "–" for size in memory)
    latency = "–" if report.estimate is None else f"{report.estimate.latency_ms:.3f}"
    print(
        f"| {target.name} | {latency} | {report.figures['cycles_total']:,.0f} | {report.figures['macs']:,.0f} | {used} | "
        f"{report.on_target} of {len(report.ops)} | {sum(found)} of {len(found)} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
