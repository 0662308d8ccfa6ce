"""Five precisions of MobileNetV2 224: `edgekit convert` against five plain TFLiteConverter runs in one process."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from measuring import heading, row, run_measured

SAMPLES = 50
MAKE = """
import keras, numpy
keras.utils.set_random_seed(0)
keras.applications.MobileNetV2(weights=None).save({model!r})
x = numpy.random.default_rng(0).uniform(-1, 1, ({count}, 224, 224, 3)).astype("float32")
numpy.savez({data!r}, x_train=x)
"""
PLAIN = """
import sys, numpy, tensorflow as tf, keras
model = keras.models.load_model({model!r}, compile=False)
samples = numpy.load({data!r})["x_train"]
def feed():
    for sample in samples:
        yield [sample[None]]
def converter():
    return tf.lite.TFLiteConverter.from_keras_model(model)
made = [converter().convert()]
c = converter(); c.optimizations = [tf.lite.Optimize.DEFAULT]; c.target_spec.supported_types = [tf.float16]
made.append(c.convert())
c = converter(); c.optimizations = [tf.lite.Optimize.DEFAULT]; made.append(c.convert())
for ops in (tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8):
    c = converter(); c.optimizations = [tf.lite.Optimize.DEFAULT]; c.representative_dataset = feed
    c.target_spec.supported_ops = [ops]; made.append(c.convert())
assert len(made) == 5 and all(made)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    heading("Conversion: five precisions of MobileNetV2 224, 50 calibration samples")
    with tempfile.TemporaryDirectory() as folder:
        model, data = str(Path(folder, "mobilenet_v2.keras")), str(Path(folder, "samples.npz"))
        run_measured([sys.executable, "-c", MAKE.format(model=model, data=data, count=SAMPLES)])
        ours, plain = [], []
        for repeat in range(repeats):
            recipes = [f"--recipe={name}" for name in ("float32", "float16", "dynamic-int8", "int8", "int16x8")]
            out = str(Path(folder, f"run{repeat}"))
            command = [sys.executable, "-m", "edgekit", "convert", model, "--data", data, *recipes, "--out", out]
            ours.append(run_measured([*command, "--calibration-samples", str(SAMPLES)]))
            plain.append(run_measured([sys.executable, "-c", PLAIN.format(model=model, data=data)]))
    wall = statistics.median(a[0] / b[0] for a, b in zip(ours, plain, strict=True))
    memory = statistics.median(a[1] / b[1] for a, b in zip(ours, plain, strict=True))
    seconds = [statistics.median(item[0] for item in side) for side in (ours, plain)]
    peaks = [statistics.median(item[1] for item in side) for side in (ours, plain)]
    row("wall time", f"{wall:.2f}× ({seconds[0]:.1f} s against {seconds[1]:.1f} s)", "≤ 0.6×", wall <= 0.6)
    row("peak memory", f"{memory:.2f}× ({peaks[0]:.0f} MiB against {peaks[1]:.0f} MiB)", "≤ 1.1×", memory <= 1.1)


if __name__ == "__main__":
    main()
