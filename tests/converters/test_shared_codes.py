"""Clusters that stay clusters in int8: against numpy, and against what the runtime makes of the changed file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgekit_converters._tf import import_tf_keras
from edgekit_converters.export import export_float
from edgekit_converters.int8.shared_codes import find_codebook, share_codes
from edgekit_converters.load import LoadedModel
from edgekit_converters.model_card import TensorCard, read_model_card
from edgekit_converters.quantize import quantize
from edgekit_converters.tensor_facts import kernel_tensors, stored_values, weight_facts, zipped_bytes

from tests.converters.conftest import run_tflite

CLUSTERS = 8


def clustered_model(values: np.ndarray | None) -> Any:
    """A convolution whose kernel has these values (None: random ones), batch normalization with a factor per channel."""
    tf_keras = import_tf_keras()
    layers = tf_keras.layers
    rng = np.random.default_rng(0)
    image = layers.Input((6, 6, 8), name="image")
    conv, norm = layers.Conv2D(24, 3, use_bias=False, name="conv"), layers.BatchNormalization(name="norm")
    model = tf_keras.Model(image, norm(conv(image)))
    shape = (3, 3, 8, 24)
    if values is None:
        kernel = rng.normal(size=shape)
    else:  # large values are rare, as in a trained kernel: most channels lack the largest
        rarity = np.exp(-6 * np.abs(values) / np.abs(values).max())
        kernel = rng.choice(values, shape, p=rarity / rarity.sum())
    conv.set_weights([kernel.astype(np.float32)])
    gamma = rng.uniform(0.2, 2, 24) * np.where(np.arange(24) % 5, 1, -1)
    norm.set_weights([gamma, rng.normal(size=24), rng.normal(size=24), rng.uniform(0.5, 2, 24)])
    return model


def both_files(values: np.ndarray | None) -> tuple[bytes, bytes]:
    float_model = export_float(LoadedModel(clustered_model(values), "tf_keras")).tflite
    images = np.random.default_rng(1).random((16, 6, 6, 8), np.float32)
    return float_model, quantize(float_model, precision="int8", samples={"image": images}).tflite


def dequantized(tflite: bytes, tensor: TensorCard) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite)
    interpreter.allocate_tensors()
    shape = [1] * len(tensor.shape)
    shape[tensor.quantized_dimension] = -1
    return interpreter.get_tensor(tensor.index) * np.reshape(tensor.scales, shape).astype(np.float64)


@pytest.mark.keras
def test_codes_are_shared_and_the_runtime_agrees() -> None:
    """Few codes over all channels, each weight within half a new step, bias and scales fitting, size as before."""
    values = np.append(np.random.default_rng(2).normal(size=CLUSTERS - 1), 0)
    float_model, quantized = both_files(values)
    shared = share_codes(float_model, quantized)
    assert len(shared) == len(quantized)
    assert zipped_bytes(shared) < zipped_bytes(quantized)
    # Channels with a negative factor use the same codes with the other sign.
    assert weight_facts(shared).largest_clusters <= 2 * CLUSTERS < weight_facts(quantized).largest_clusters
    (kernel,), (original,) = kernel_tensors(shared), kernel_tensors(float_model)
    weights, wanted = dequantized(shared, kernel), stored_values(float_model, original)
    steps = np.reshape(kernel.scales, (-1, 1, 1, 1))
    # Half a step, and the rounding of scales to 12 bits in the 127 steps to the largest weight.
    assert np.all(np.abs(weights - wanted) <= (0.5 + 127 * 2.0**-12) * steps)
    assert np.all(weights[wanted == 0] == 0)

    card = read_model_card(shared)
    conv = next(op for op in card.ops if op.type == "CONV_2D")
    source, bias, result = card.tensors[conv.inputs[0]], card.tensors[conv.inputs[2]], card.tensors[conv.outputs[0]]
    np.testing.assert_allclose(bias.scales, source.scales[0] * np.array(kernel.scales), rtol=1e-6)
    image = np.random.default_rng(3).random((1, 6, 6, 8), np.float32)
    codes = np.clip(np.rint(image / source.scales[0]) + source.zero_points[0], -128, 127)
    windows = np.lib.stride_tricks.sliding_window_view(codes - source.zero_points[0], (3, 3), axis=(1, 2))[0]
    sums = np.einsum("yxchw,ohwc->yxo", windows * source.scales[0], weights) + dequantized(shared, bias)
    limits = (np.array([-128, 127]) - result.zero_points[0]) * result.scales[0]
    # The runtime rounds once to the output's step, and may be one off where two roundings meet.
    found = run_tflite(shared, [image])[0][0]
    assert np.abs(found - np.clip(sums, *limits)).max() <= 1.01 * result.scales[0]


@pytest.mark.keras
def test_what_is_not_clustered_stays_as_it_is() -> None:
    """Random weights, or a float file of another network: the same bytes come back."""
    float_model, quantized = both_files(None)
    assert share_codes(float_model, quantized) is quantized
    clustered, codes = both_files(np.linspace(-1, 1, CLUSTERS))
    assert share_codes(float_model, codes) is codes
    assert share_codes(clustered, clustered) is clustered


@pytest.mark.parametrize("clusters", [2, 5, 16, 32])
def test_the_codebook_is_found_under_factors(clusters: int) -> None:
    """Values times a factor per channel, also a negative one, in float32; channels with one value, or only zeros, too."""
    rng = np.random.default_rng(clusters)
    values = rng.normal(size=clusters).astype(np.float32)
    kernel = rng.choice(values, (20, 3, 3, 16))
    kernel[3], kernel[4] = values[0], 0
    factors = (rng.uniform(0.01, 3, 20) * rng.choice([-1, 1], 20)).astype(np.float32).reshape(-1, 1, 1, 1)
    channels = kernel * factors
    book = find_codebook(channels)
    assert book is not None
    assert len(book.values) <= clusters + 2  # and zero, and the one value of a channel that fits any factor
    assert np.abs(book.values).max() == 1
    again = book.values[book.indices] * book.factors.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(again, channels, rtol=1e-6)


def test_a_codebook_whose_largest_value_a_channel_lacks() -> None:
    """Channels that use different values of the codebook still share one."""
    values = np.array([-3.1, -1.7, -0.4, 0.9, 1.3, 2.2, 4.7], np.float32)
    rows = [values, values[:5], values[2:], values[[0, 2, 4, 6]]]
    channels = np.stack(
        [np.resize(row, 12) * np.float32(factor) for row, factor in zip(rows, (1, 0.37, 5.1, 2.3), strict=True)]
    )
    book = find_codebook(channels)
    assert book is not None
    assert len(book.values) == len(values) + 1


def test_kernels_without_a_codebook() -> None:
    """Many values, or none at all."""
    assert find_codebook(np.random.default_rng(0).normal(size=(4, 3, 3, 16))) is None
    assert find_codebook(np.random.default_rng(0).normal(size=(40, 3, 3, 1))) is None
    assert find_codebook(np.zeros((4, 3))) is None
