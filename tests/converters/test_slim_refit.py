"""Kernels behind what is gone are fitted to what the original's gave there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgekit_converters._tf import import_keras
from edgekit_converters.slim import SlimSettings, slim
from edgekit_converters.slim.refit import refit
from edgekit_converters.training.samples import Samples

from tests.converters.slim_zoo import mobilenet, randomized, resnet

pytestmark = pytest.mark.keras


def images(count: int = 80) -> Samples:
    return Samples({"image": np.random.default_rng(0).uniform(-1, 1, (count, 12, 12, 3)).astype("float32")})


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import_keras().utils.set_random_seed(0)


def flat(layer: Any) -> Any:
    """Kernel and bias of a convolution as one matrix (taps + 1, outputs)."""
    kernel, bias = layer.get_weights()
    return np.concatenate([kernel.reshape(-1, kernel.shape[-1]), bias[None]])


def copy_of(model: Any) -> Any:
    copy = import_keras().models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def answers(model: Any, samples: Samples) -> Any:
    return np.asarray(model(samples.inputs["image"], training=False))


def everything(model: Any) -> dict[str, Any]:
    """All channels of every layer with a kernel or a scale."""
    return {layer.name: np.arange(layer.output.shape[-1]) for layer in model.layers if layer.weights}


def test_a_convolution_is_the_least_squares_solution() -> None:
    """Where half of what a 3x3 convolution read is gone, its kernel is numpy's own solution for the windows that are left."""
    layers, samples = import_keras().layers, images()
    image = layers.Input((12, 12, 3), name="image")
    maker = layers.Conv2D(6, 1, activation="relu", name="maker")(image)
    model = import_keras().Model(image, layers.Conv2D(4, 3, strides=2, padding="valid", name="reader")(maker))
    maker = layers.Conv2D(3, 1, activation="relu", name="maker")(image)
    slimmed = import_keras().Model(image, layers.Conv2D(4, 3, strides=2, padding="valid", name="reader")(maker))
    kernel, bias = model.get_layer("maker").get_weights()
    slimmed.get_layer("maker").set_weights([kernel[..., ::2], bias[::2]])

    reader = slimmed.get_layer("reader")
    before = flat(reader)

    refit(model, slimmed, {"maker": np.arange(0, 6, 2), "reader": np.arange(4)}, samples, seed=0)

    read = np.asarray(slimmed.get_layer("maker")(samples.inputs["image"]), np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(read, (3, 3), axis=(1, 2))[:, ::2, ::2]
    taps = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 27)
    taps = np.concatenate([taps, np.ones((len(taps), 1))], axis=1)
    pull = np.sqrt(
        1e-4 * np.square(taps).sum() / 28
    )  # the ridge, as rows of the system that ask for the weights before
    rows = np.concatenate([taps, pull * np.eye(28)])
    aims = np.concatenate([answers(model, samples).reshape(-1, 4), pull * before])
    expected = np.linalg.lstsq(rows, aims, rcond=None)[0]
    np.testing.assert_allclose(
        flat(reader), expected, atol=1e-4
    )  # activations are float32, the system a thousand times worse


@pytest.mark.parametrize("make", [resnet, mobilenet])
def test_weights_that_were_disturbed_come_back(make: Any) -> None:
    """Convolutions, depthwise and dense layers behind a disturbed first layer give again what the original's gave."""
    model, samples = randomized(make()), images()
    other = copy_of(model)
    stem = other.get_layer("stem")
    mixing = np.eye(stem.kernel.shape[-1]) + 0.1  # what a linear map undoes, but for the ReLU behind it
    stem.set_weights([weight @ mixing for weight in stem.get_weights()])
    for layer in other.layers:  # statistics of the disturbed model: refit is to set the original's
        if type(layer).__name__ == "BatchNormalization":
            layer.moving_mean.assign(layer.moving_mean + 0.3)
    before = np.square(answers(other, samples) - answers(model, samples)).mean()

    refit(model, other, everything(model), samples, seed=0)

    assert np.square(answers(other, samples) - answers(model, samples)).mean() < 1e-3 * before


def test_an_unchanged_model_stays_bit_for_bit() -> None:
    """Layers before which nothing changed keep their weights."""
    model = randomized(mobilenet())
    other = copy_of(model)
    refit(model, other, everything(model), images(8), seed=0)
    for expected, actual in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("make", [resnet, mobilenet])
def test_slimming_without_a_branch_comes_closer_to_the_original(make: Any) -> None:
    """On other samples, too, the model slimmed with samples is nearer to the original than the one slimmed without."""
    model, samples = randomized(make()), images()
    fresh = Samples({"image": np.random.default_rng(1).uniform(-1, 1, (40, 12, 12, 3)).astype("float32")})
    settings = SlimSettings(to=0.45, branches=True, divisor=1)
    seeing, blind = (slim(model, settings, samples=given) for given in (samples, None))
    assert seeing.facts["branches_removed"]
    errors = [np.square(answers(each.model, fresh) - answers(model, fresh)).mean() for each in (seeing, blind)]
    assert errors[0] < 0.5 * errors[1]
