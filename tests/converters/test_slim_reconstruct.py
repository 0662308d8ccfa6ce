"""The channels that stay stand in for those that are gone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgekit_converters import TechniqueError
from edgekit_converters._tf import import_keras
from edgekit_converters.slim import SlimSettings, slim
from edgekit_converters.training.samples import Samples

from tests.converters.slim_zoo import ARCHITECTURES, randomized, rows

pytestmark = pytest.mark.keras


def duplicated(reader: str) -> Any:
    """A convolution whose last two channels are a tenth and a fifth of its first two, and something that reads it."""
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = layers.Input((6, 6, 3), name="image")
    flow = layers.Conv2D(6, 3, activation="relu", name="maker")(image)
    if reader == "normalized":
        flow = layers.BatchNormalization()(layers.Conv2D(4, 2, use_bias=False, name="reader")(flow))
    elif reader == "dense":
        flow = layers.Dense(4, name="reader")(layers.Flatten()(flow))
    else:
        flow = getattr(layers, reader)(4, 2, name="reader")(flow)
    model = randomized(keras.Model(image, flow))
    kernel, bias = (weight.numpy() for weight in model.get_layer("maker").weights)
    kernel[..., 4:], bias[4:] = kernel[..., :2] * [0.1, 0.2], bias[:2] * [0.1, 0.2]
    model.get_layer("maker").set_weights([kernel, bias])
    return model


@pytest.mark.parametrize("reader", ["Conv2D", "Conv2DTranspose", "dense"])
def test_what_the_kept_channels_can_say_is_not_lost(reader: str) -> None:
    """Channels that are multiples of others are removed without a trace; without samples the outputs change."""
    model = duplicated(reader)
    (images,) = rows(model, 64)
    settings = SlimSettings(to=4 / 6 + 0.1, least=4, divisor=1)
    blind = slim(model, settings)
    seeing = slim(model, settings, samples=Samples({"image": images}))
    expected = np.asarray(model(images))

    assert list(seeing.kept["maker"]) == [0, 1, 2, 3]
    # The ridge takes a thousandth off coefficients that are a tenth or a fifth: next to nothing beside the whole.
    assert np.abs(np.asarray(seeing.model(images)) - expected).max() < 2e-3 * np.abs(expected).max()
    assert np.abs(np.asarray(blind.model(images)) - expected).max() > 2e-2 * np.abs(expected).max()


def test_statistics_move_as_the_input_of_a_normalization_does() -> None:
    """What slimming adds to the mean of its input is added to the mean; the variance is scaled likewise."""
    keras, model = import_keras(), duplicated("normalized")
    (images,) = rows(model, 60)  # one batch
    slimmed = slim(model, SlimSettings(to=0.4, protect=("reader",)), samples=Samples({"image": images})).model
    read, statistics = [], []
    for each in (model, slimmed):
        read.append(np.asarray(keras.Model(each.inputs[0], each.get_layer("reader").output)(images), np.float64))
        statistics.append([weight.numpy() for weight in each.layers[-1].non_trainable_weights])

    axes = (0, 1, 2)
    assert np.abs(read[1].mean(axes) - read[0].mean(axes)).max() > 1e-5  # there is no bias to take it
    expected = statistics[0][0] + read[1].mean(axes) - read[0].mean(axes)
    np.testing.assert_allclose(statistics[1][0], expected, atol=1e-5)
    np.testing.assert_allclose(statistics[1][1], statistics[0][1] * read[1].var(axes) / read[0].var(axes), rtol=1e-4)


@pytest.mark.parametrize("name", ["sequential", "resnet", "several", "shared", "nested", "series", "mixed"])
def test_every_kind_of_layer_is_reconstructed_or_left(name: str) -> None:
    """Shared, nested, recurrent and separable layers come through it, nearer to the original than without."""
    model = randomized(ARCHITECTURES[name]())
    inputs = rows(model, 40)
    names = [tensor.name for tensor in getattr(model, "_functional", model).inputs]
    samples = Samples(dict(zip(names, inputs, strict=True)))

    def outputs(of: Any) -> Any:
        results = import_keras().tree.flatten(of(inputs if len(inputs) > 1 else inputs[0], training=False))
        return np.concatenate([np.asarray(value).ravel() for value in results])

    original = outputs(model)
    errors = [
        np.linalg.norm(
            outputs(slim(model, SlimSettings(to=0.7, reconstruct=how, divisor=1), samples=samples).model) - original
        )
        for how in (True, False)
    ]
    assert errors[0] < errors[1] or (name == "sequential" and errors[0] == errors[1])  # its one reader is separable


def test_a_switch_that_is_none_is_refused() -> None:
    """``reconstruct`` is true or false."""
    with pytest.raises(TechniqueError, match="reconstruct"):
        SlimSettings(to=0.5, reconstruct="yes")  # type: ignore[arg-type]
