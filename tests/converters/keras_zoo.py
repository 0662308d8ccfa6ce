"""Small models of both Kerases, each with a sample and with Keras' own answer to it: the oracle of every conversion."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from edgekit_converters._tf import import_keras, import_tensorflow, import_tf_keras

Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """A model and one row of samples, positional in the model's order, and its outputs, in its order too."""

    model: Any
    samples: list[Array]
    expected: list[Array]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    framework: str = "keras"
    shapes: dict[str, list[int]] = field(default_factory=dict)
    rounding: float = np.finfo(np.float32).eps


def uniform(*shape: int, seed: int = 0) -> Array:
    """Samples in [-1, 1)."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def flat(results: Any) -> list[Array]:
    """Keras' outputs as a list of arrays; those of a dict sorted by key, as Keras itself flattens them."""
    if isinstance(results, dict):
        return [np.asarray(results[key]) for key in sorted(results)]
    return [np.asarray(item) for item in (results if isinstance(results, (list, tuple)) else [results])]


def image_model(keras: Any) -> Any:
    """Convolution, depthwise convolution, dense, softmax: input ``image``, output ``scores``; the same in both Kerases."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((8, 8, 3), name="image"),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Flatten(name="flat"),
            layers.Dense(5, activation="softmax", name="scores"),
        ]
    )


def subclassed(keras: Any, takes: str) -> Any:
    """A model without symbolic inputs that takes a tensor, a list or a dict (``takes``)."""

    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = keras.layers.Dense(3)
            self.second = keras.layers.Dense(2)

        def call(self, inputs: Any, training: bool = False) -> Any:
            if takes == "tensor":
                return {"b": self.first(inputs), "a": self.second(inputs)}
            left, right = (inputs["u"], inputs["v"]) if takes == "dict" else inputs
            return [self.first(left), self.second(right)]

    return Subclassed()


def multi_model(keras: Any) -> Any:
    """Three inputs and three outputs whose alphabetical order is not the model's, one shared layer."""
    layers = keras.layers
    zeta, alpha, mid = (layers.Input((size,), name=name) for name, size in (("zeta", 3), ("alpha", 4), ("mid", 2)))
    shared = layers.Dense(6, name="shared")
    both = layers.Concatenate()([shared(layers.Dense(4)(zeta)), shared(alpha)])
    outputs = [
        layers.Dense(2, name="z_out")(both),
        layers.Dense(3, name="a_out")(layers.Concatenate()([alpha, mid])),
        layers.Dense(1, name="m_out")(mid),
    ]
    return keras.Model([zeta, alpha, mid], outputs)


def dict_model(keras: Any) -> Any:
    """Inputs and outputs as dicts, whose keys are not the layers' names and not in alphabetical order."""
    layers = keras.layers
    left, right = layers.Input((3,), name="zeta"), layers.Input((4,), name="alpha")
    joined = layers.Concatenate()([left, right])
    inputs = {"zeta": left, "alpha": right} if keras.__name__ == "tf_keras" else {"q": left, "p": right}
    return keras.Model(inputs, {"y2": layers.Dense(2)(left), "y1": layers.Dense(3)(joined)})


def nested_model(keras: Any) -> Any:
    """A functional model that holds a functional and a sequential one, the latter used twice."""
    layers = keras.layers
    inner = keras.Sequential([layers.Input((4,)), layers.Dense(3, activation="tanh")], name="inner")
    source = layers.Input((4,), name="features")
    middle = keras.Model(source, [layers.Dense(2, name="d")(inner(source)), inner(source)], name="middle")
    outer = layers.Input((4,), name="outer")
    left, right = middle(outer)
    return keras.Model(outer, [layers.Dense(1, name="left")(left), layers.Dense(2, name="right")(right)])


def preprocessing_model(keras: Any) -> Any:
    """Rescaling, normalization, augmentation, resizing and batch normalization, on uint8 images."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((8, 8, 3), dtype="uint8", name="pixels"),
            layers.Rescaling(1 / 255),
            layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1, 2, 3]),
            layers.RandomFlip(),
            layers.Resizing(4, 4),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.BatchNormalization(),
            layers.Dense(2, name="out"),
        ]
    )


def sequence_model(keras: Any, layer: str, unroll: bool) -> Any:
    """A recurrent layer over 5 steps of 3 features."""
    recurrent = getattr(keras.layers, layer)(6, unroll=unroll)
    return keras.Sequential(
        [keras.layers.Input((5, 3), name="steps"), recurrent, keras.layers.Dense(2, name="out")], name="sequence"
    )


def mixed_model(keras: Any) -> Any:
    """Trained under mixed_float16: float32 weights, float16 computation and output."""
    layers = keras.layers
    stack = [
        layers.Input((8, 8, 3), name="image"),
        layers.Conv2D(4, 3, dtype="mixed_float16"),
        layers.Flatten(dtype="mixed_float16"),
        layers.Dense(5, dtype="mixed_float16", name="scores"),
    ]
    return keras.Sequential(stack)


def build_cases() -> dict[str, Case]:
    """Every model by name."""
    keras, keras2 = import_keras(), import_tf_keras()
    layers = keras.layers
    keras.utils.set_random_seed(7)
    image, multi = uniform(1, 8, 8, 3), [uniform(1, 3), uniform(1, 4), uniform(1, 2)]
    steps, row = uniform(1, 5, 3), uniform(1, 4)
    names = (("zeta", "alpha", "mid"), ("z_out", "a_out", "m_out"))
    cases: dict[str, Case] = {}

    def add(name: str, model: Any, samples: list[Array], *more: Any, feed: Any = None, **facts: Any) -> None:
        argument = feed if feed is not None else samples if len(samples) > 1 else samples[0]
        cases[name] = Case(model, samples, flat(model(argument, training=False)), *more, **facts)

    add("image", image_model(keras), [image], ("image",), ("scores",))
    add("image of Keras 2", image_model(keras2), [image], ("image",), ("scores",), framework="tf_keras")
    add("multi", multi_model(keras), multi, *names)
    add("multi of Keras 2", multi_model(keras2), multi, *names, framework="tf_keras")
    fed = [multi[1], multi[0]]
    pairs = {"q": multi[0], "p": multi[1]}
    add("dict", dict_model(keras), fed, ("p", "q"), ("y1", "y2"), feed=pairs)
    pairs = {"zeta": multi[0], "alpha": multi[1]}
    more = {"feed": pairs, "framework": "tf_keras"}
    add("dict of Keras 2", dict_model(keras2), fed, ("alpha", "zeta"), ("y1", "y2"), **more)
    add("nested", nested_model(keras), [row], ("outer",), ("left", "right"))
    pixels = np.random.default_rng(2).integers(0, 256, (1, 8, 8, 3), np.uint8)
    add("preprocessing", preprocessing_model(keras), [pixels], ("pixels",), ("out",))
    more = {"framework": "tf_keras"}
    add("preprocessing of Keras 2", preprocessing_model(keras2), [pixels], ("pixels",), ("out",), **more)
    tokens = layers.Input((6,), dtype="int32", name="tokens")
    pooled = layers.GlobalAveragePooling1D()(layers.Embedding(200, 8)(tokens))
    embedding = keras.Model(tokens, layers.Dense(2, name="out")(pooled))
    add("embedding", embedding, [np.array([[1, 2, 3, 199, 0, 4]], np.int32)], ("tokens",), ("out",))
    for layer in ("LSTM", "GRU"):
        for unroll in (False, True):
            add(
                f"{layer} {'unrolled' if unroll else 'loop'}", sequence_model(keras, layer, unroll), [steps], ("steps",)
            )
    add("LSTM of Keras 2", sequence_model(keras2, "LSTM", False), [steps], ("steps",), framework="tf_keras")
    # What Keras computed in float16 is right to a relative 2 ** -11 at each of a hundred additions or so.
    add("mixed precision", mixed_model(keras), [image], ("image",), ("scores",), rounding=np.finfo(np.float16).eps)
    more = {"framework": "tf_keras", "rounding": np.finfo(np.float16).eps}
    add("mixed precision of Keras 2", mixed_model(keras2), [image], ("image",), ("scores",), **more)
    open_ends = keras.Sequential(
        [
            layers.Input((None, None, 3), name="picture"),
            layers.Conv2D(4, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="out"),
        ]
    )
    add("open shape", open_ends, [image], ("picture",), ("out",), shapes={"x": [8, 8, 3]})
    add("called", subclassed(keras, "tensor"), [row], ("x",), ("a", "b"))
    add("called of Keras 2", subclassed(keras2, "tensor"), [row], ("x",), ("a", "b"), framework="tf_keras")
    add("called with a list", subclassed(keras, "list"), [row, row + 1], ("u", "v"), shapes={"u": [4], "v": [4]})
    pairs = {"u": row, "v": row + 1}
    more = {"feed": pairs, "shapes": {"u": [4], "v": [4]}}
    add("called with a dict", subclassed(keras, "dict"), [row, row + 1], ("u", "v"), **more)
    doubled = layers.Input((4,), dtype="float64", name="my-input")
    add("float64", keras.Model(doubled, layers.Dense(2, name="out")(doubled)), [row], ("my_input",), ("out",))
    through = layers.Input((4,), name="through")
    add("input as output", keras.Model(through, [through, layers.Dense(2, name="d")(through)]), [row], ("through",))
    return cases


def build_files(folder: Path, cases: dict[str, Case]) -> dict[str, tuple[Path, str]]:
    """Files of every kind by name, each with the name of the case whose outputs it must give."""
    tensorflow = import_tensorflow()
    image, image2, multi = cases["image"].model, cases["image of Keras 2"].model, cases["multi"].model
    image.save(folder / "keras3.keras")
    image.save(str(folder / "keras3.h5"))
    image2.save(str(folder / "keras2.keras"))
    image2.save(str(folder / "keras2.h5"))
    edit_h5(folder / "keras2.h5", folder / "old.h5", age)
    multi.save(folder / "multi.keras")
    image.export(str(folder / "exported"), verbose=False)
    multi.export(str(folder / "multi-exported"), verbose=False)
    image2.save(str(folder / "keras2-saved"), save_format="tf")
    cases["dict"].model.save(folder / "dict.keras")
    cases["mixed precision"].model.save(folder / "mixed.keras")
    image.save_weights(str(folder / "only.weights.h5"))
    image2.save_weights(str(folder / "only-weights.h5"))
    signatures(tensorflow, folder)
    named = {
        "keras3.keras": "image",
        "keras3.h5": "image",
        "keras2.keras": "image of Keras 2",
        "keras2.h5": "image of Keras 2",
        "old.h5": "image of Keras 2",
        "multi.keras": "multi",
        "dict.keras": "dict",
        "mixed.keras": "mixed precision",
        "exported": "image",
        "multi-exported": "multi",
        "keras2-saved": "image of Keras 2",
    }
    return {name: (folder / name, case) for name, case in named.items()}


def signatures(tensorflow: Any, folder: Path) -> None:
    """SavedModels of tf.Modules: two inputs and outputs with a free batch, and various sets of signatures."""
    specs = [
        tensorflow.TensorSpec([None, size], tensorflow.float32, name=name) for name, size in (("zz", 3), ("aa", 4))
    ]

    class Module(tensorflow.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.u = tensorflow.Variable(uniform(3, 2)), tensorflow.Variable(uniform(4, 2, seed=1))

        @tensorflow.function(input_signature=specs)
        def two(self, zz: Any, aa: Any) -> Any:
            return {"z": zz @ self.w + aa @ self.u, "a": aa @ self.u}

        @tensorflow.function(input_signature=specs[:1])
        def one(self, zz: Any) -> Any:
            return {"g": zz @ self.w}

    module = Module()
    for name, chosen in {
        "module": {"serving_default": module.two, "other": module.one},
        "single": {"encode": module.one},
        "undecided": {"encode": module.two, "other": module.one},
        "unsigned": {},
    }.items():
        tensorflow.saved_model.save(module, str(folder / name), signatures=chosen or None)


def edit_h5(source: Path, target: Path, edit: Callable[[Any], Any]) -> None:
    """Copy an HDF5 model with its configuration edited."""
    import h5py

    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        file.attrs["model_config"] = json.dumps(edit(json.loads(file.attrs["model_config"]))).encode()


def age(config: Any) -> Any:
    """What files of 2020 look like: DepthwiseConv2D with ``groups``, which Keras 3 refuses."""
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "DepthwiseConv2D":
            layer["config"]["groups"] = 1
    return config


def edit_keras(source: Path, target: Path, member: str, edit: Callable[[bytes], bytes]) -> None:
    """Copy a .keras archive with one member edited."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, edit(old.read(name)) if name == member else old.read(name))
