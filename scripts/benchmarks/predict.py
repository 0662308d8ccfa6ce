"""`Model.predict` on native integers against set_tensor + invoke + get_tensor, in .venv-device, in turn."""

from __future__ import annotations

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
import statistics, sys, time
from edgekit_device import Model
import numpy
model = Model(sys.argv[1], probe=False)
spec, out = model.inputs[0], model.outputs[0].index
interpreter = model._interpreter
x = numpy.zeros(spec.shape, spec.dtype)
set_tensor, invoke, get_tensor, predict = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor, model.predict
def bare(n, clock=time.perf_counter_ns):
    started = clock()
    for _ in range(n):
        set_tensor(spec.index, x); invoke(); get_tensor(out)
    return (clock() - started) / n
def ours(n, clock=time.perf_counter_ns):
    started = clock()
    for _ in range(n):
        predict(x)
    return (clock() - started) / n
bare(2000), ours(2000)
pairs = [(bare(1000), ours(1000)) for _ in range(201)]
print(statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), statistics.median(b - a for a, b in pairs))
"""


def main() -> None:
    """Measure and print."""
    heading("Overhead of Model.predict on native integers")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "tiny.tflite"))
        subprocess.run([sys.executable, "-c", MAKE.format(path=path)], check=True, cwd=ROOT, capture_output=True)
        answer = subprocess.run(
            [str(DEVICE_PYTHON), "-c", MEASURE, path], capture_output=True, text=True, check=True, cwd=folder
        )
    bare, ours, extra = (float(value) / 1000 for value in answer.stdout.split())
    row("predict over the bare calls", f"{extra:+.2f} µs ({ours:.2f} µs against {bare:.2f} µs)", "≤ 1 µs", extra <= 1.0)


if __name__ == "__main__":
    main()
