"""Quantization-aware training: every layer kind takes part, the rounding is that of int8, a plain model comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgekit_converters._tf import import_tf_keras
from edgekit_converters.errors import TechniqueError
from edgekit_converters.tfmot.qat import QatSettings, qat

from tests.converters.tfmot_models import kernels, samples, small_model, training

pytestmark = pytest.mark.keras


def rounded(values: np.ndarray, axis: int) -> np.ndarray:
    """int8 with one symmetric scale per slice of ``axis``, as the quantizer of a .tflite rounds weights."""
    others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    scales = np.abs(values).max(axis=others, keepdims=True) / 127
    return np.rint(values / scales) * scales


def test_training_sees_int8_and_gives_a_plain_model() -> None:
    """Fused outputs are not rounded, others are; the weights that come out are the trained ones, unrounded."""
    model, seen = small_model(), []
    before = model.get_weights()
    made = qat(model, QatSettings(), training(seen, epochs=3))
    wrapped = {layer.name: layer for layer in seen[0].layers}
    assert [name for name in made.facts.rounded if getattr(wrapped[name], "_output_quantizers", None)] == [
        "relu",
        "depthwise",
        "separable",
    ]
    assert made.facts.rounded == ("conv", "relu", "depthwise", "separable", "scores")
    assert made.facts.left == {}
    assert [type(layer) for layer in made.model.layers] == [type(layer) for layer in model.layers]
    assert made.model.output_names == seen[0].output_names == model.output_names
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))
    moved = [not np.array_equal(one, other) for one, other in zip(before, made.model.get_weights(), strict=True)]
    assert all(moved)
    images, labels = samples()
    assert np.mean(made.model(images).numpy().argmax(1) == labels) > 0.6
    agreed = made.model(images).numpy().argmax(1) == seen[0](images, training=False).numpy().argmax(1)
    assert np.mean(agreed) > 0.9


def test_kernels_are_rounded_per_output_channel() -> None:
    """A dense, a depthwise and a transposed convolution against numpy, on inputs that pick single weights."""
    tf_keras = import_tf_keras()
    layers = tf_keras.layers
    source = {name: layers.Input(shape) for name, shape in (("flat", (4,)), ("tall", (2, 1, 3)), ("wide", (1, 1, 2)))}
    both = np.eye(2, dtype=np.float32)[:, None, None]
    ones = np.ones((1, 2, 1, 3), np.float32)
    cases = [
        ("flat", layers.Dense(3), np.eye(4, dtype=np.float32), -1, lambda kernel: kernel),
        ("tall", layers.DepthwiseConv2D((2, 1)), ones, -2, lambda kernel: kernel.sum(axis=(0, 1)).reshape(1, 1, 1, 3)),
        ("wide", layers.Conv2DTranspose(3, 1), both, -2, lambda kernel: np.moveaxis(kernel, -1, 0).reshape(2, 1, 1, 3)),
    ]
    for name, layer, inputs, axis, by_numpy in cases:
        model = tf_keras.Model(source[name], layer(source[name]))
        seen: list[Any] = []
        qat(model, QatSettings(), lambda wrapped, _, seen=seen: seen.append(wrapped))
        outputs = seen[0](inputs, training=True).numpy()
        expected = by_numpy(rounded(next(iter(kernels(model).values())), axis))
        # The output is rounded as well, to 255 steps over its range.
        step = (max(expected.max(), 0) - min(expected.min(), 0)) / 255
        assert np.abs(outputs - expected).max() <= 0.51 * step


def test_layers_tfmot_leaves_out_take_part() -> None:
    """1-D and separable convolutions, normalizations, recurrent, embedding and attention layers, a shared and a nested one."""
    tf_keras = import_tf_keras()
    layers = tf_keras.layers
    tokens = layers.Input((6,), dtype="int32", name="tokens")
    x = layers.Embedding(9, 8, mask_zero=True, name="embedding")(tokens)
    x = layers.LSTM(8, return_sequences=True, name="lstm")(x)
    x = layers.Conv1D(8, 3, padding="same", activation="swish", name="conv1d")(x)
    x = layers.BatchNormalization(name="norm")(layers.SeparableConv1D(8, 3, padding="same", name="separable")(x))
    x = layers.LayerNormalization(name="layernorm")(x * 2.0)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.TimeDistributed(layers.Dense(8), name="each")(x)
    x = layers.PReLU(name="prelu")(layers.Rescaling(0.5, name="rescaling")(layers.Bidirectional(layers.GRU(4))(x)))
    x = layers.LeakyReLU(name="leaky")(
        tf_keras.Sequential([layers.Input((8,)), layers.Dense(8, name="dense")], name="in")(x)
    )
    shared = layers.Dense(8, activation="tanh", name="shared")
    model = tf_keras.Model(
        tokens, {"a": layers.Dense(2, name="a")(shared(shared(x))), "b": layers.Dense(1, name="b")(x)}
    )

    def train(wrapped: Any, callbacks: Any) -> None:
        wrapped.compile("adam", "mse", run_eagerly=True)
        rng = np.random.default_rng(0)
        wrapped.fit(rng.integers(0, 9, (8, 6)), {"a": rng.random((8, 2)), "b": rng.random((8, 1))}, 4, verbose=0)

    made = qat(model, QatSettings(), train)
    taking_part = {"embedding", "lstm", "conv1d", "separable", "norm", "layernorm", "attention", "rescaling", "prelu"}
    assert taking_part | {"leaky", "each", "in/dense", "shared", "a", "b"} <= set(made.facts.rounded)
    assert set(made.facts.left.values()) == {"an operator outside any layer: its output is not rounded in training"}
    moved = [not np.array_equal(a, b) for a, b in zip(model.get_weights(), made.model.get_weights(), strict=True)]
    assert all(moved)


def test_sparsity_is_preserved() -> None:
    """Zeros of a pruned kernel stay zeros in training, and the others are trained."""
    model = small_model()
    kernel = model.get_layer("scores").kernel
    mask = np.random.default_rng(0).random(kernel.shape) < 0.3
    kernel.assign(kernel * mask)
    before = kernel.numpy()
    made = qat(model, QatSettings(), training(), preserve="sparsity")
    after = kernels(made.model)["scores/kernel:0"]
    assert np.array_equal(after != 0, before != 0)
    assert not np.array_equal(after, before)
    assert made.facts.preserved == ("scores",)


def test_clusters_are_preserved() -> None:
    """Weights that were equal stay equal, zeros stay zero, and the shared values are trained, in every kind of kernel."""
    model = small_model()
    variables = [model.get_layer("scores").kernel, model.get_layer("separable").pointwise_kernel]
    for variable in variables:
        variable.assign(np.round(variable.numpy() * 8) / 8)
    made = qat(model, QatSettings(), training(), preserve="clusters")
    for variable in variables:
        before, after = variable.numpy(), kernels(made.model)[variable.name]
        values = [np.unique(after[before == value]) for value in np.unique(before)]
        assert [len(items) for items in values] == [1] * len(values)
        assert np.array_equal(after == 0, before == 0)
        assert not np.array_equal(after, before)
    assert {"scores", "separable"} <= set(made.facts.preserved)


def test_layers_by_name() -> None:
    """A layer that is named False is trained as it is, and reported."""
    seen: list[Any] = []
    made = qat(small_model(), QatSettings({"conv": False, "depth*": False}), lambda model, _: seen.append(model))
    assert made.facts.left == {"conv": "left alone as asked", "depthwise": "left alone as asked"}
    assert type(seen[0].get_layer("conv")).__name__ == "Conv2D"
    with pytest.raises(TechniqueError, match="did you mean 'conv'"):
        qat(small_model(), QatSettings({"comv": False}), training())
    with pytest.raises(TechniqueError, match=r"a layer to train for int8.*left alone as asked"):
        qat(small_model(), QatSettings({"*": False}), training())
    with pytest.raises(TechniqueError, match="sparsity, clusters"):
        qat(small_model(), QatSettings(), training(), preserve="zeros")
