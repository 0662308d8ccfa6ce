"""Weight clustering: few values per kernel, trained, in a plain model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgekit_converters._tf import import_tf_keras
from edgekit_converters.errors import TechniqueError
from edgekit_converters.tfmot.cluster import ClusterSettings, cluster

from tests.converters.tfmot_models import kernels, samples, small_model, training

pytestmark = pytest.mark.keras


def distinct(model: Any) -> dict[str, int]:
    return {name: len(np.unique(values)) for name, values in kernels(model).items()}


def test_kernels_share_the_values_asked_for() -> None:
    """Each kernel gets at most its number of values, by name or the common one; depthwise ones stay; predictions are kept."""
    model, seen = small_model(), []
    before = model.get_weights()
    made = cluster(model, ClusterSettings(8, layers={"scores": 4}), training(seen))
    found = distinct(made.model)
    assert found["conv/kernel:0"] <= 8
    assert found["separable/pointwise_kernel:0"] <= 8
    assert found["scores/kernel:0"] <= 4
    assert found["depthwise/depthwise_kernel:0"] == kernels(model)["depthwise/depthwise_kernel:0"].size
    assert made.facts.largest_clusters == max(found["conv/kernel:0"], found["separable/pointwise_kernel:0"])
    assert {item.layer + "/" + item.kernel + ":0": item.distinct for item in made.facts.kernels} == found
    assert list(made.facts.left) == ["depthwise"]
    images, _ = samples(1)
    np.testing.assert_allclose(made.model(images), seen[0](images, training=False), atol=1e-6)
    assert seen[0].output_names == model.output_names
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("initialization", ["linear", "density", "random", "kmeans++"])
def test_every_initialization_gives_shared_values_and_the_same_twice(initialization: str) -> None:
    """Without training: the centroids it starts with."""
    settings = ClusterSettings(6, initialization=initialization)
    first, second = (cluster(small_model(), settings, lambda *_: None).model for _ in range(2))
    assert 2 <= distinct(first)["conv/kernel:0"] <= 6
    assert all(np.array_equal(one, other) for one, other in zip(first.get_weights(), second.get_weights(), strict=True))


def entropy(values: np.ndarray) -> float:
    """Bits of one weight whose values occur this often."""
    shares = np.unique(values, return_counts=True)[1] / values.size
    return float(-shares @ np.log2(shares))


def test_wide_centroids_save_bits_where_weights_are_small() -> None:
    """Against linear ones: the kernel with the smallest range is spaced further, that with the largest as before."""
    model = small_model()
    conv, scores = model.get_layer("conv").kernel, model.get_layer("scores").kernel
    conv.assign(conv * 0.1)
    scores.assign(scores * 4)
    linear, wide = (
        kernels(cluster(model, ClusterSettings(16, initialization=name), lambda *_: None).model)
        for name in ("linear", "wide")
    )
    assert entropy(wide["conv/kernel:0"]) < entropy(linear["conv/kernel:0"]) - 0.25
    assert np.array_equal(wide["scores/kernel:0"], linear["scores/kernel:0"])


def test_zeros_of_a_pruned_model_stay_zeros() -> None:
    """With preserve_sparsity every zero is kept, also in training; a kernel without zeros is clustered as usual."""
    model = small_model()
    kernel = model.get_layer("scores").kernel
    mask = (np.random.default_rng(0).random(kernel.shape) < 0.3).astype(np.float32)
    kernel.assign(kernel * mask)
    made = cluster(model, ClusterSettings(8, preserve_sparsity=True), training())
    values = kernels(made.model)["scores/kernel:0"]
    assert np.all(values[mask == 0] == 0)
    assert len(np.unique(values)) <= 8
    assert next(item for item in made.facts.kernels if item.layer == "scores").sparsity >= np.mean(mask == 0)


def test_layers_that_cannot_be_clustered_are_left_with_a_reason() -> None:
    """A kernel no larger than the number of clusters, a frozen layer; attention and a nested model take part."""
    tf_keras = import_tf_keras()
    layers = tf_keras.layers
    steps = layers.Input((4, 8), name="steps")
    x = layers.MultiHeadAttention(1, 4, name="attention")(steps, steps)
    x = layers.Dense(8, name="frozen", trainable=False)(x)
    x = tf_keras.Sequential([layers.Input((4, 8)), layers.Dense(6, name="dense")], name="inner")(x)
    model = tf_keras.Model(steps, layers.Dense(1, name="small")(layers.Dense(4, name="free")(x)))
    made = cluster(model, ClusterSettings(5), lambda *_: None)
    taking_part = [item for item in made.facts.kernels if item.layer not in made.facts.left]
    assert [item.layer for item in taking_part] == ["attention"] * 4 + ["inner/dense", "free"]
    assert all(item.distinct <= 5 for item in taking_part)
    assert made.facts.left == {
        "frozen": "its weights are frozen",
        "small": "its kernel has 4 weights, no more than there are clusters",
    }
    assert made.facts.largest_clusters == 5


def test_the_record_of_a_long_short_term_memory() -> None:
    """Both kernels of a recurrent layer share values."""
    tf_keras = import_tf_keras()
    layers = tf_keras.layers
    model = tf_keras.Sequential([layers.Input((4, 3)), layers.LSTM(5, name="lstm"), layers.Dense(2, name="dense")])
    made = cluster(model, ClusterSettings(4), lambda *_: None)
    assert [item.distinct <= 4 for item in made.facts.kernels] == [True] * 3
    assert made.facts.kernels[0].kernel == "lstm_cell/kernel"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 1}, "2 to 256 clusters, got 1"),
        ({"clusters": 2, "preserve_sparsity": True}, "3 to 256"),
        ({"layers": {"conv": 1}}, "for 'conv', or 0 to leave the layer alone"),
        ({"initialization": "kmeans"}, r"wide, linear, density, random, kmeans\+\+"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """Each message says what is valid."""
    with pytest.raises(TechniqueError, match=message):
        ClusterSettings(**options)


def test_named_layers_must_exist_and_be_able() -> None:
    """A name that matches nothing, a depthwise layer, and a model of which nothing is left."""
    with pytest.raises(TechniqueError, match="did you mean 'conv'"):
        cluster(small_model(), ClusterSettings(layers={"conf": 4}), training())
    with pytest.raises(TechniqueError, match=r"'depthwise' .*loses too much"):
        cluster(small_model(), ClusterSettings(layers={"depthwise": 4}), training())
    with pytest.raises(TechniqueError, match="a layer to cluster"):
        cluster(small_model(), ClusterSettings(layers={"*": 0}), training())
