"""A small MobileNet on Fashion-MNIST whose channels are skewed, so that plain int8 costs it points of accuracy.

Networks in the wild lose accuracy in int8 where the channels of one activation differ by orders of magnitude. Which
they are cannot be told beforehand, so here is one made so: trained, then each channel behind a ReLU scaled by a power
of two, and the layer after it scaled back. The function is the same to the bit; its int8 is not.

    from skewed import build, skew, train
    model = skew(train(build(seed=0), x_train, y_train, seed=0), seed=0)

Alone it prints what each way to make int8 loses: ``skewed.py --data-dir FOLDER`` with fashion-mnist/ in it.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from edgekit_converters._tf import import_keras, import_tensorflow

BLOCKS = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1))
CALIBRATION, TRAINING = 200, 20_000
POWERS = 3
ONE_THREAD = 1


def build(*, seed: int = 0, classes: int = 10) -> Any:
    """An untrained MobileNet (arXiv 1704.04861) of depthwise separable blocks for images of 28 x 28 x 1 in 0 to 1."""
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    image = layers.Input((28, 28, 1), name="image")
    x = _normalized(layers, layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="stem")(image), "stem")
    for number, (channels, strides) in enumerate(BLOCKS, 1):
        depthwise = layers.DepthwiseConv2D(
            3, strides=strides, padding="same", use_bias=False, name=f"block{number}_depthwise"
        )
        x = _normalized(layers, depthwise(x), f"block{number}_depthwise")
        x = layers.Conv2D(channels, 1, use_bias=False, name=f"block{number}_pointwise")(x)
        x = _normalized(layers, x, f"block{number}_pointwise")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, activation="softmax", name="scores")(x), name="skewed_mobilenet")


def train(model: Any, x: np.ndarray, y: np.ndarray, *, epochs: int = 5, seed: int = 0) -> Any:
    """``model`` fitted in place to images in 0 to 1 and integer labels; the same seed gives the same weights."""
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    import_tensorflow().config.experimental.enable_op_determinism()
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


def skew(model: Any, *, seed: int = 0, powers: int = POWERS) -> Any:
    """A copy of ``model`` with every channel behind a ReLU 2**k times as large, k from -powers to powers at random.

    Its outputs equal those of ``model`` to the bit before BatchNorm is folded, and to rounding after.
    """
    keras = import_keras()
    skewed = keras.models.clone_model(model)
    skewed.set_weights(model.get_weights())
    random = np.random.default_rng(seed)
    chain = [layer for layer in skewed.layers if layer.weights]
    for layer, after in pairwise(chain):
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, *moments = layer.get_weights()
            scales = (2.0 ** random.integers(-powers, powers + 1, gamma.shape)).astype(np.float32)
            layer.set_weights([gamma * scales, beta * scales, *moments])
            kernel, *bias = after.get_weights()
            after.set_weights([kernel / scales.reshape(-1, 1), *bias])
    return skewed


def _normalized(layers: Any, x: Any, name: str) -> Any:
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x))


def _accuracy(tflite: bytes, x: np.ndarray, y: np.ndarray) -> float:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite, num_threads=ONE_THREAD)
    interpreter.allocate_tensors()
    given, taken = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    right = 0
    for image, label in zip(x, y, strict=True):
        interpreter.set_tensor(given, image[None])
        interpreter.invoke()
        right += int(interpreter.get_tensor(taken)[0].argmax() == label)
    return right / len(y)


def _data(folder: Path) -> tuple[np.ndarray, ...]:
    from edgekit.data.builtin import load_builtin

    data = load_builtin("fashion-mnist", folder=folder)
    arrays = []
    for split, count in ((data.train, TRAINING), (data.test, None)):
        arrays += [split.inputs["x"][:count].astype(np.float32) / 255, split.labels[:count]]
    return tuple(arrays)


def main() -> None:
    """Train, skew, and print a table."""
    from edgekit_converters.export import export_float
    from edgekit_converters.int8.observations import Observations
    from edgekit_converters.load import LoadedModel
    from edgekit_converters.quantize import QuantizeOptions, quantize
    from measuring import heading

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder with fashion-mnist/")
    parser.add_argument("--powers", type=int, default=POWERS)
    arguments = parser.parse_args()
    heading("A MobileNet with skewed channels to int8")
    if arguments.data_dir is None or not (arguments.data_dir / "fashion-mnist").is_dir():
        print("| not measured: name the data with --data-dir FOLDER (fashion-mnist/) | – | – | – |")
        return
    x, y, x_test, y_test = _data(arguments.data_dir / "fashion-mnist")
    model = skew(train(build(), x, y), powers=arguments.powers)
    float_model = export_float(LoadedModel(model, "keras")).tflite
    seen = Observations(float_model, {"image": x[:CALIBRATION]})
    reference = _accuracy(float_model, x_test, y_test)
    print(f"| float32 | {reference:.2%} | – | – |", flush=True)
    for name, options in TRIES.items():
        started = time.perf_counter()
        made = quantize(
            float_model, precision="int8", samples=seen.samples, options=QuantizeOptions(**options), observations=seen
        )
        seconds = time.perf_counter() - started
        lost = 100 * (reference - _accuracy(made.tflite, x_test, y_test))
        print(f"| {name} | {lost:.2f} points lost, made in {seconds:.2f} s by {made.quantizer} | – | – |", flush=True)


TRIES: dict[str, dict[str, Any]] = {
    "int8, extremes": {},
    "TFLite's own quantizer": {"quantizer": "tflite-converter"},
    "percentile 99.99": {"calibration": "percentile"},
    "percentile 99.9": {"calibration": "percentile", "percentile": 99.9},
    "mse": {"calibration": "mse"},
    "entropy": {"calibration": "entropy"},
    "bias correction": {"correct_bias": True},
    "mse, bias correction": {"calibration": "mse", "correct_bias": True},
    "equalized": {"equalize": True},
    "equalized, bias correction": {"equalize": True, "correct_bias": True},
    "equalized, mse": {"equalize": True, "calibration": "mse"},
    "equalized, mse, bias correction": {"equalize": True, "calibration": "mse", "correct_bias": True},
    "first three operators in float": {"keep_float": (0, 1, 2)},
    "first three operators in int16": {"keep_int16": (0, 1, 2)},
}


if __name__ == "__main__":
    main()
