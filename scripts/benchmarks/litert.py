"""LiteRT's CompiledModel (`--delegate litert:cpu`) against its Interpreter, in .venv-device, in turn; and what is there."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import DEVICE_PYTHON, ROOT, heading, row

MAKE = """
from tests.tflite_builder import conv_model
open({path!r}, "wb").write(conv_model("int8"))
"""
MEASURE = """
import json, statistics, sys, time
from edgekit_device import Model
from edgekit_device.tensors import random_input
clock, sides = time.perf_counter_ns, []
for delegate in ("xnnpack", "litert:cpu"):
    started = clock()
    model = Model(sys.argv[1], delegate=delegate, probe=False)
    loaded = clock() - started
    model.set_inputs([random_input(spec) for spec in model.inputs])
    model.invoke()
    sides.append((model, loaded, model.predict([random_input(spec) for spec in model.inputs])))
def block(model, count):
    with model.bare_invoke() as invoke:
        started = clock()
        for _ in range(count):
            invoke()
        return (clock() - started) / count
count = max(1, int(2e6 / block(sides[0][0], 20)))
pairs = []
for turn in range(201):
    order = (0, 1) if turn % 2 == 0 else (1, 0)
    times = {at: block(sides[at][0], count) for at in order}
    pairs.append((times[0], times[1]))
outputs = [side[2] if isinstance(side[2], tuple) else (side[2],) for side in sides]
print(json.dumps({
    "interpreter_us": statistics.median(a for a, _ in pairs) / 1e3,
    "compiled_us": statistics.median(b for _, b in pairs) / 1e3,
    "ratio": statistics.median(b / a for a, b in pairs),
    "load_ms": [side[1] / 1e6 for side in sides],
    "equal": all((a == b).all() for a, b in zip(*outputs)),
}))
"""


def _in_device(*arguments: str) -> str:
    command = [str(DEVICE_PYTHON), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return done.stdout.splitlines()[-1]


def _compare(what: str, model: Path) -> None:
    found = json.loads(_in_device("-c", MEASURE, str(model)))
    figure = f"{found['ratio']:.3f}× ({found['compiled_us']:.1f} µs against {found['interpreter_us']:.1f} µs)"
    loads = "{:.0f} ms against {:.0f} ms".format(*reversed(found["load_ms"]))
    row(f"{what}: one inference, CompiledModel over Interpreter", figure, "–", None)
    row(f"{what}: loading", loads, "–", None)
    row(f"{what}: outputs", "equal to the bit" if found["equal"] else "DIFFERENT", "equal", found["equal"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder with mlperf-tiny/")
    folder = parser.parse_args().data_dir
    heading("LiteRT's CompiledModel and Interpreter, 1 thread")
    with tempfile.TemporaryDirectory() as scratch:
        tiny = Path(scratch, "tiny.tflite")
        code = MAKE.format(path=str(tiny))
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
        _compare("tiny int8 convolution", tiny)
    models = None if folder is None else folder / "mlperf-tiny" / "image_classification"
    if models is None or not models.is_dir():
        print("| ResNet-8: not measured, name the data with --data-dir FOLDER (mlperf-tiny/) | – | – | – |")
    else:
        _compare("ResNet-8 float32", models / "pretrainedResnet.tflite")
        _compare("ResNet-8 int8", models / "pretrainedResnet_quant.tflite")
    for accelerator in json.loads(_in_device("-m", "edgekit_device", "accelerators", "--json"))["litert"]:
        state = "available" if accelerator["available"] else accelerator["reason"]
        row(accelerator["name"], state + (" (a program)" if accelerator["software"] else ""), "–", None)


if __name__ == "__main__":
    main()
