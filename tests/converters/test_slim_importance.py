"""Which channels go: the orders of the four importances, each against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgekit_converters import TechniqueError
from edgekit_converters._tf import import_keras, import_tensorflow
from edgekit_converters.slim import SlimSettings, slim
from edgekit_converters.slim.importance import weight_scores
from edgekit_converters.slim.taylor import taylor_scores
from edgekit_converters.slim.trace import trace_channels
from edgekit_converters.training.samples import Samples

from tests.converters.slim_zoo import randomized, resnet

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def model() -> Any:
    """Two convolutions, the first of them normalized, and a classifier."""
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = layers.Input((8, 8, 3), name="image")
    flow = layers.ReLU()(layers.BatchNormalization(name="norm")(layers.Conv2D(8, 3, name="first")(image)))
    flow = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu", name="second")(flow))
    return randomized(keras.Model(image, layers.Dense(4, activation="softmax", name="scores")(flow)))


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Random images with random labels."""
    rng = np.random.default_rng(0)
    return Samples({"image": rng.uniform(-1, 1, (40, 8, 8, 3)).astype("float32")}, rng.integers(0, 4, 40))


@pytest.mark.parametrize("importance", ["l1", "l2", "batch-norm"])
def test_the_smallest_weights_go_first(model: Any, importance: str) -> None:
    """Of each layer those channels stay whose norm (or gamma) is the largest; without a gamma the l2 norm decides."""
    slimmed = slim(model, SlimSettings(to=0.4, importance=importance))
    for name in ("first", "second"):
        kernel = model.get_layer(name).kernel.numpy()
        order = 1 if importance == "l1" else 2
        expected = np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), order, axis=0)
        if importance == "batch-norm" and name == "first":
            expected = np.abs(model.get_layer("norm").gamma.numpy())
        kept = slimmed.kept[name]
        assert len(kept) < len(expected)
        assert sorted(kept) == sorted(np.argsort(expected)[len(expected) - len(kept) :])


def test_a_score_is_the_mean_over_the_layers_that_make_the_channel() -> None:
    """What a residual addition makes one is scored by both branches, each relative to its layer's mean."""
    model = randomized(resnet())
    channels = trace_channels(model)
    scores = weight_scores(channels, "l2")
    made = {member.path: member.made for member in channels.members}
    relative = {}
    for name in ("a12", "b12", "skip12"):
        norms = np.linalg.norm(model.get_layer(name).kernel.numpy().reshape(-1, 12), axis=0)
        relative[name] = norms / norms.mean()

    np.testing.assert_allclose(scores[made["a12"]], relative["a12"], rtol=1e-6)
    np.testing.assert_allclose(scores[made["b12"]], (relative["b12"] + relative["skip12"]) / 2, rtol=1e-6)


def test_taylor_scores_predict_the_change_of_the_loss(model: Any, samples: Samples) -> None:
    """For a channel that is scaled by 1 - e, the loss of a sample changes by e times what the score takes the mean of."""
    keras, tensorflow = import_keras(), import_tensorflow()
    channels = trace_channels(model)
    scores = taylor_scores(model, channels, samples, None, seed=0)
    made = next(member.made for member in channels.members if member.path == "second")
    inner = keras.Model(model.inputs[0], model.get_layer("second").output)
    pooled = keras.ops.mean(inner(samples.inputs["image"]), axis=(1, 2)).numpy().astype("float64")
    kernel, bias = (weight.numpy().astype("float64") for weight in model.get_layer("scores").weights)

    def losses(values: Any) -> Any:
        logits = values @ kernel + bias
        return tensorflow.keras.losses.sparse_categorical_crossentropy(samples.labels, logits, from_logits=True).numpy()

    step = 1e-4
    for channel, number in enumerate(made):
        more, less = (pooled * (1 + sign * step * (np.arange(6) == channel)) for sign in (1, -1))
        expected = np.abs((losses(more) - losses(less)) / (2 * step)).mean()
        assert scores[number] == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_a_channel_that_nothing_depends_on_goes_first(model: Any, samples: Samples) -> None:
    """Large weights do not help a channel that the next layer does not read."""
    keras = import_keras()
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    kernel = copy.get_layer("second").kernel.numpy()
    kernel[:, :, 5] = 0
    copy.get_layer("second").kernel.assign(kernel)
    settings = {"to": 0.9, "protect": ("second",), "divisor": 1}
    assert 5 not in slim(copy, SlimSettings(importance="taylor", **settings), samples=samples).kept["first"]


def test_the_same_seed_draws_the_same_samples(model: Any, samples: Samples) -> None:
    """Taylor scores repeat; a loss of the caller's own is asked as fine-tuning asks it."""
    keras, channels = import_keras(), trace_channels(model)
    one, other = (taylor_scores(model, channels, samples, None, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    for loss in ("sparse_categorical_crossentropy", keras.losses.sparse_categorical_crossentropy):
        np.testing.assert_allclose(taylor_scores(model, channels, samples, loss, seed=3), one, rtol=1e-4, atol=1e-8)


def test_samples_without_labels_or_with_rubbish_are_refused(model: Any, samples: Samples) -> None:
    """Taylor needs labels, or a loss that does without them; a loss that is no number is said to be one."""
    settings = SlimSettings(to=0.5, importance="taylor")
    unlabelled = Samples(samples.inputs)
    with pytest.raises(TechniqueError, match="labels"):
        slim(model, settings, samples=unlabelled)
    slim(model, settings, samples=unlabelled, loss=lambda _, outputs: import_keras().ops.var(outputs, axis=-1))
    with pytest.raises(TechniqueError, match="no number"):
        slim(model, settings, samples=unlabelled, loss=lambda _, outputs: outputs[:, 0] * np.float32("nan"))


def test_open_sizes_are_those_of_the_samples() -> None:
    """A model of any image size is counted at the size of the samples."""
    keras = import_keras()
    layers = keras.layers
    image = layers.Input((None, None, 3), name="image")
    flow = layers.Conv2D(4, 3, padding="same")(layers.Conv2D(8, 3, padding="same")(image))
    model = keras.Model(image, flow)
    facts = slim(model, SlimSettings(to=0.5), samples=Samples({"image": np.zeros((2, 10, 10, 3), "float32")})).facts
    assert facts["macs_before"] == 10 * 10 * 9 * (3 * 8 + 8 * 4)
