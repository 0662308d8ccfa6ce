"""Every kind of layer to tf_keras and back, with the other Keras as the oracle."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_converters import bridge
from edgekit_converters._tf import import_keras, import_tf_keras
from edgekit_converters.bridge import activations
from edgekit_converters.errors import UnsupportedModelError
from edgekit_converters.load import load_model

from tests.converters.bridge_models import shake

pytestmark = pytest.mark.keras
Layers = Callable[[Any], list[Any]]

IMAGE, SERIES, VOLUME, FILM = (6, 6, 4), (7, 4), (6, 6, 6, 2), (3, 5, 5, 2)
PHOTO = (16, 16, 3)
# What a layer's input is, and some layers, each applied to it.
KINDS: dict[str, tuple[tuple[int, ...], Layers]] = {
    "convolution": (
        IMAGE,
        lambda layers: [
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", groups=2),
            layers.Conv2D(3, 3, dilation_rate=2, use_bias=False),
            layers.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=1),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.SeparableConv2D(3, 3, depth_multiplier=2, activation="tanh"),
        ],
    ),
    "convolution in one dimension": (
        SERIES,
        lambda layers: [
            layers.Conv1D(4, 3, padding="causal", dilation_rate=2),
            layers.Conv1DTranspose(3, 3, strides=2),
            layers.DepthwiseConv1D(3),
            layers.SeparableConv1D(3, 3),
        ],
    ),
    "convolution in three dimensions": (
        VOLUME,
        lambda layers: [layers.Conv3D(3, 3), layers.Conv3DTranspose(2, 3, strides=2, padding="same")],
    ),
    "pooling": (
        IMAGE,
        lambda layers: [
            layers.MaxPooling2D(3, 2, "same"),
            layers.AveragePooling2D(3, 2, "same"),
            layers.GlobalMaxPooling2D(keepdims=True),
            layers.GlobalAveragePooling2D(),
        ],
    ),
    "pooling in one dimension": (
        SERIES,
        lambda layers: [
            layers.MaxPooling1D(2),
            layers.AveragePooling1D(2, padding="same"),
            layers.GlobalMaxPooling1D(),
            layers.GlobalAveragePooling1D(keepdims=True),
        ],
    ),
    "pooling in three dimensions": (
        VOLUME,
        lambda layers: [layers.MaxPooling3D(2), layers.AveragePooling3D(2), layers.GlobalAveragePooling3D()],
    ),
    "sizes": (
        IMAGE,
        lambda layers: [
            layers.UpSampling2D(2, interpolation="bilinear"),
            layers.ZeroPadding2D(((1, 0), (2, 1))),
            layers.Cropping2D(1),
            layers.Reshape((-1, 4)),
            layers.Permute((2, 1, 3)),
            layers.Flatten(),
        ],
    ),
    "sizes in other dimensions": (
        SERIES,
        lambda layers: [layers.UpSampling1D(2), layers.ZeroPadding1D(1), layers.Cropping1D((1, 2))],
    ),
    "normalization": (
        IMAGE,
        lambda layers: [
            layers.BatchNormalization(momentum=0.9, epsilon=1e-2),
            layers.BatchNormalization(scale=False),
            layers.BatchNormalization(center=False, axis=1),
            layers.LayerNormalization(axis=[1, 2], epsilon=0.1),
            layers.GroupNormalization(2),
            layers.UnitNormalization(),
            layers.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 4]),
            layers.Normalization(axis=None, mean=1.0, variance=2.0, invert=True),
        ],
    ),
    "activation": (
        IMAGE,
        lambda layers: [
            layers.ReLU(6.0, 0.1, 0.5),
            layers.LeakyReLU(0.2),
            layers.PReLU(shared_axes=[1, 2]),
            layers.ELU(0.5),
            layers.Softmax(axis=1),
            layers.Dense(3, activation=layers.LeakyReLU(0.1)),
        ],
    ),
    "nothing at inference": (
        IMAGE,
        lambda layers: [
            layers.Dropout(0.5),
            layers.SpatialDropout2D(0.2),
            layers.GaussianNoise(0.1),
            layers.GaussianDropout(0.1),
            layers.AlphaDropout(0.1),
            layers.ActivityRegularization(0.1),
            layers.Identity(),
        ],
    ),
    "preprocessing": (
        PHOTO,
        lambda layers: [
            layers.Rescaling([1.0, 2, 3], [0.1, 0.2, 0.3]),
            layers.Resizing(8, 12, crop_to_aspect_ratio=True),
            layers.Resizing(7, 9, interpolation="nearest"),
            layers.CenterCrop(6, 7),
            layers.Discretization(bin_boundaries=[-1.0, 0.0, 100.0]),
        ],
    ),
    "augmentation": (
        PHOTO,
        lambda layers: [
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.RandomZoom(0.1),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomContrast(0.1),
            layers.RandomErasing(),
        ],
    ),
    "recurrent": (
        SERIES,
        lambda layers: [
            layers.LSTM(3, return_sequences=True, go_backwards=True, recurrent_activation="hard_sigmoid"),
            layers.GRU(3, reset_after=False, dropout=0.1),
            layers.SimpleRNN(3),
            layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)]),
        ],
    ),
    "bidirectional": (
        SERIES,
        lambda layers: [
            layers.Bidirectional(layers.GRU(2, return_sequences=True), merge_mode="sum"),
            layers.Bidirectional(layers.LSTM(3), backward_layer=layers.GRU(3, go_backwards=True, name="back")),
        ],
    ),
    "over time": (
        FILM,
        lambda layers: [
            layers.TimeDistributed(layers.Conv2D(2, 3)),
            layers.TimeDistributed(
                import_keras().Sequential([layers.Input((5, 5, 2)), layers.Conv2D(2, 3), layers.BatchNormalization()])
            ),
            layers.ConvLSTM2D(2, 3),
        ],
    ),
    "dense": (
        SERIES,
        lambda layers: [
            layers.Dense(3, kernel_regularizer="l2", kernel_constraint="max_norm", activity_regularizer="l1"),
            layers.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d"),
        ],
    ),
    "vector": ((6,), lambda layers: [layers.RepeatVector(3), layers.Reshape((2, 3))]),
}
ACTIVATIONS = """
relu sigmoid tanh softmax softplus softsign elu selu exponential gelu linear mish silu relu6 leaky_relu hard_sigmoid hard_silu
log_softmax log_sigmoid celu tanh_shrink hard_tanh
""".split()  # noqa: SIM905 - a line for twenty names


def assert_same(model: Any, *others: Any, seed: int = 1, low: float = -1, high: float = 1) -> None:
    """All models give the outputs of the first, but for what float32 rounds: 1e-5 of 1, or of the largest output."""
    random = np.random.default_rng(seed)
    samples = [random.uniform(low, high, (3, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    given = samples if len(samples) > 1 else samples[0]
    expected = [np.asarray(value) for value in import_keras().tree.flatten(model(given, training=False))]
    for other in others:
        got = [np.asarray(value) for value in import_keras().tree.flatten(other(given, training=False))]
        for left, right in zip(expected, got, strict=True):
            np.testing.assert_allclose(right, left, rtol=0, atol=1e-5 * max(1.0, float(np.abs(left).max())))


@pytest.mark.parametrize("kind", KINDS)
def test_layers_cross_both_ways(kind: str) -> None:
    """Layers of this kind, in tf_keras and back in Keras 3, compute what they did and have the names they had."""
    keras = import_keras()
    shape, make = KINDS[kind]
    source = keras.layers.Input(shape, name="source")
    model = shake(keras.Model(source, [layer(source) for layer in make(keras.layers)]))

    there = bridge.to_tf_keras(model)
    back = bridge.to_keras(there)

    assert_same(model, there, back)
    names = sorted(bridge.flat_names(model).values())
    assert sorted(bridge.flat_names(there).values()) == names
    assert sorted(bridge.flat_names(back).values()) == names
    assert [type(layer).__name__ for layer in back.layers if "Random" not in type(layer).__name__] == [
        {"RandomErasing": "Identity"}.get(kind_, kind_)
        for kind_ in (type(layer).__name__ for layer in model.layers)
        if kind_ == "RandomErasing" or "Random" not in kind_
    ]


def test_activations_keep_their_definition() -> None:
    """hard_sigmoid, silu and the others mean in the one Keras what they mean in the other, whatever they are called there."""
    keras = import_keras()
    source = keras.layers.Input((5,), name="source")
    model = keras.Model(source, [keras.layers.Activation(name, name=f"a_{name}")(source) for name in ACTIVATIONS])

    there = bridge.to_tf_keras(model)
    back = bridge.to_keras(there)

    assert_same(model, there, back, low=-5, high=5)
    before, after = ([layer.get_config()["activation"] for layer in one.layers[1:]] for one in (model, back))
    assert after == before


def test_hard_sigmoid_of_keras_2(tmp_path: Path) -> None:
    """Keras 2 has another hard_sigmoid: it stays what it is in Keras 3, and on the way back."""
    tf_keras = import_tf_keras()
    layers = tf_keras.layers
    source = layers.Input((4, 3))
    hidden = layers.LSTM(3, recurrent_activation="hard_sigmoid")(source)
    model = tf_keras.Model(source, layers.Dense(2, activation="hard_sigmoid")(hidden))

    back = bridge.to_keras(model)
    there = bridge.to_tf_keras(back)

    assert_same(back, model, there)
    assert there.layers[-1].get_config()["activation"] == "hard_sigmoid"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras and numpy 2
        back.save(tmp_path / "saved.keras")
    import_keras().saving.get_custom_objects().clear()  # as in a fresh process
    activations._hard_sigmoid_of_keras2.cache_clear()
    assert_same(back, load_model(tmp_path / "saved.keras").model)


def test_layers_only_keras_2_has() -> None:
    """ThresholdedReLU, and the batch normalization that synchronizes, have their like in Keras 3."""
    tf_keras = import_tf_keras()
    source = tf_keras.layers.Input((5,))
    hidden = tf_keras.layers.ThresholdedReLU(0.5)(source)
    model = shake(tf_keras.Model(source, tf_keras.layers.BatchNormalization(synchronized=True)(hidden)))

    assert_same(bridge.to_keras(model), model)


def test_options_and_flags_are_kept() -> None:
    """Momentum, regularizers and whether a layer trains survive the way there and back."""
    keras = import_keras()
    layers = keras.layers
    source = layers.Input((5,))
    dense = layers.Dense(3, kernel_regularizer=keras.regularizers.L1L2(0.5, 0.25), kernel_constraint="non_neg")
    norm = layers.BatchNormalization(momentum=0.75, trainable=False)
    model = keras.Model(source, norm(dense(source)))

    there = bridge.to_tf_keras(model)
    back = bridge.to_keras(there)

    for one in (there, back):
        assert [layer.trainable for layer in one.layers] == [True, True, False]
        assert one.layers[2].momentum == 0.75
        assert one.layers[1].kernel_regularizer.get_config() == {"l1": 0.5, "l2": 0.25}
        assert type(one.layers[1].kernel_constraint).__name__ == "NonNeg"


def test_lora_is_merged() -> None:
    """A low-rank update becomes part of the weights it was added to."""
    keras = import_keras()
    source = keras.layers.Input((6,))
    dense = keras.layers.Dense(4)
    model = keras.Model(source, dense(source))
    dense.enable_lora(2)
    for variable in dense.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))

    assert_same(model, bridge.to_tf_keras(model))


def own_layer(keras: Any) -> Any:
    """A class that is nobody else's."""

    class Mine(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

    return Mine(name="mine")


def quantized(keras: Any) -> Any:
    layer = keras.layers.Dense(4, name="small")
    layer.build((None, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras and numpy 2
        layer.quantize("int8")
    return layer


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a class of the user's": (own_layer, r"'mine' \(Mine\) is a class of its own.*Replace it"),
    "code": (lambda keras: keras.layers.Lambda(lambda x: x, name="code"), r"'code' \(Lambda\).*keras.ops"),
    "no such layer": (lambda keras: keras.layers.RMSNormalization(name="rms"), r"'rms' \(RMSNorm.*no counterpart"),
    "a wrapper": (
        lambda keras: keras.layers.SpectralNormalization(keras.layers.Dense(2), name="spectral"),
        r"'spectral'.*put the layer it wraps",
    ),
    "an option": (
        lambda keras: keras.layers.TimeDistributed(
            keras.layers.Dense(2, activation=lambda x: x, name="dense"), name="time"
        ),
        r"'dense' \(Dense\) has the activation '<lambda>'.*Use one of",
    ),
    "a regularizer of the user's": (
        lambda keras: keras.layers.Dense(2, name="dense", kernel_regularizer=OwnRegularizer()),
        r"'dense' \(Dense\) has the kernel_regularizer 'OwnRegularizer'.*set it to None",
    ),
    "quantized by Keras": (quantized, r"'small' \(Dense\) was quantized by Keras \(int8\).*before model.quantize"),
}


class OwnRegularizer:
    """Looks like a regularizer, as Keras asks no more of one."""

    def __call__(self, x: Any) -> Any:
        """No penalty."""
        return 0.0

    def get_config(self) -> dict[str, Any]:
        """No options."""
        return {}


@pytest.mark.parametrize("what", REFUSED)
def test_layers_without_a_counterpart(what: str) -> None:
    """The error names the layer, its class, and what to do instead."""
    keras = import_keras()
    make, message = REFUSED[what]
    source = keras.layers.Input((4, 4) if what != "quantized by Keras" else (4,))
    model = keras.Model(source, make(keras)(source))

    with pytest.raises(UnsupportedModelError, match=message):
        bridge.to_tf_keras(model)


def test_an_option_the_other_keras_lacks() -> None:
    """An option that only one Keras has is refused by its name where it changes something."""
    keras = import_keras()
    source = keras.layers.Input((8, 6, 3))
    model = keras.Model(source, keras.layers.Resizing(4, 4, pad_to_aspect_ratio=True, name="fit")(source))

    with pytest.raises(
        UnsupportedModelError, match=r"'fit' \(Resizing\) has pad_to_aspect_ratio=True.*default is False"
    ):
        bridge.to_tf_keras(model)


@pytest.mark.parametrize("what", ["own", "code", "local", "renorm", "training"])
def test_keras_2_layers_without_a_counterpart(what: str) -> None:
    """The same quality of message the other way."""
    tf_keras = import_tf_keras()
    layers = tf_keras.layers
    made = {
        "own": (lambda: own_layer(tf_keras), {}, r"'mine' \(Mine\) is a class of its own"),
        "code": (lambda: layers.Lambda(lambda x: x, name="code"), {}, r"'code' \(Lambda\).*keras.ops"),
        "local": (lambda: layers.LocallyConnected1D(2, 3, name="local"), {}, r"'local'.*no counterpart in keras"),
        "renorm": (lambda: old_norm(tf_keras), {}, r"'norm'.*renorm=False"),
        "training": (lambda: layers.Dropout(0.5, name="drop"), {"training": True}, r"'drop'.*training=True"),
    }
    make, options, message = made[what]
    source = layers.Input((6, 3))
    model = tf_keras.Model(source, make()(source, **options))

    with pytest.raises(UnsupportedModelError, match=message):
        bridge.to_keras(model)


def old_norm(tf_keras: Any) -> Any:
    return tf_keras.src.layers.normalization.batch_normalization_v1.BatchNormalization(renorm=True, name="norm")
