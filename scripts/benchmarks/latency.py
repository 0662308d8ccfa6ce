"""`edgekit-device bench` against `python -m ai_edge_litert.tools.benchmark_litert_model`, in turn, in .venv-device."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import DEVICE_PYTHON, ROOT, heading, in_turn, row

MAKE = """
import keras
from edgekit_converters.export import export_float
from edgekit_converters.load import LoadedModel
from edgekit_converters.zoo import build
keras.utils.set_random_seed(0)
mobilenet = keras.applications.MobileNetV2
models = {{
    "tiny": build("classic-cnn", (28, 28, 1), 10),
    "small": mobilenet((96, 96, 3), weights=None),
    "large": mobilenet(weights=None),
}}
for name, model in models.items():
    open({folder!r} + "/" + name + ".tflite", "wb").write(export_float(LoadedModel(model, "keras")).tflite)
"""
# The tool as it is, but for the rounding of its figures to 0.01 ms, which is a tenth of the small model's latency.
REFERENCE = """
import ai_edge_litert.tools.benchmark_litert_model as tool
tool.round = lambda value, digits: value
tool.main()
"""

# What the two tools time, in one process and in turn: it tells their difference from that between two processes.
CALLS = """
import statistics, sys, time
import numpy
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import CpuOptions, Options
from edgekit_device import Model
path, threads, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=threads))
theirs = CompiledModel.from_file(path, options=options)
key = list(theirs.get_signature_list())[0]
ins = {name: theirs.create_input_buffer_by_name(key, name) for name in theirs.get_input_tensor_details(key)}
outs = {name: theirs.create_output_buffer_by_name(key, name) for name in theirs.get_output_tensor_details(key)}
def median(call, clock=time.perf_counter_ns):
    durations = []
    for _ in range(runs):
        started = clock(); call(); durations.append(clock() - started)
    return statistics.median(durations)
with Model(path, threads=threads, probe=False) as model, model.bare_invoke() as invoke:
    sample = numpy.random.default_rng(0).uniform(-1, 1, model.inputs[0].shape).astype("float32")
    model._interpreter.set_tensor(model.inputs[0].index, sample)
    for buffer in ins.values():
        buffer.write(sample)
    run = lambda: theirs.run_by_name(key, ins, outs)
    median(invoke), median(run)
    print(statistics.median(median(invoke) / median(run) for _ in range(15)))
"""


def ours(model: str, threads: int, runs: int) -> float:
    """The median, in milliseconds, that the device package measures."""
    command = [str(DEVICE_PYTHON), "-m", "edgekit_device", "bench", model, "--json"]
    command += ["--threads", str(threads), "--runs", str(runs)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(answer.stdout)["latency"]["median_ms"])


def reference(model: str, threads: int, runs: int, folder: str) -> float:
    """The median, in milliseconds, that the runtime's own tool measures."""
    result = Path(folder, "reference.json")
    command = [
        str(DEVICE_PYTHON),
        "-c",
        REFERENCE,
        "--model",
        model,
        "--num_runs",
        str(runs),
        "--warmup_runs",
        str(runs),
    ]
    command += ["--num_threads", str(threads), "--result_json", str(result)]
    subprocess.run(command, capture_output=True, check=True)
    return _median(json.loads(result.read_text()))


def _median(raw: object) -> float:
    """The median in milliseconds, wherever the reference tool's version puts it."""
    if isinstance(raw, dict):
        for key, value in raw.items():
            if "median" in key.lower() and isinstance(value, (int, float)):
                return float(value) / 1000 if key.lower().endswith("us") else float(value)
        for value in raw.values():
            found = _median(value)
            if found == found:
                return found
    return float("nan")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    heading("Latency: median of edgekit-device bench over that of benchmark_litert_model")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", MAKE.format(folder=folder)], check=True, cwd=ROOT, capture_output=True)
        for name, runs in (("tiny", 5000), ("small", 1000), ("large", 300)):
            for threads in (1, 2):
                model = str(Path(folder, f"{name}.tflite"))
                a, b, ratio = in_turn(
                    lambda m=model, t=threads, r=runs: ours(m, t, r),
                    lambda m=model, t=threads, r=runs: reference(m, t, r, folder),
                    pairs,
                )
                label = f"{name} model, {threads} thread(s)"
                figures = f"{ratio:.3f}× ({a:.4g} ms against {b:.4g} ms)"
                # A CompiledModel's call costs a few µs more than an Interpreter's: no bar where that is 3 %.
                bar, reached = ("–", None) if name == "tiny" else ("0.97× to 1.03×", abs(ratio - 1) <= 0.03)
                row(label, figures, bar, reached)
                command = [str(DEVICE_PYTHON), "-c", CALLS, model, str(threads), str(max(20, runs // 10))]
                answer = subprocess.run(command, capture_output=True, text=True, check=True)
                row(f"{label}, both calls in one process", f"{float(answer.stdout):.3f}×", "–", None)


if __name__ == "__main__":
    main()
