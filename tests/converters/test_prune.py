"""Magnitude pruning: the zeros asked for, where they were asked for, in a plain model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgekit_converters._tf import import_tf_keras
from edgekit_converters.errors import TechniqueError
from edgekit_converters.tfmot.prune import PruneSettings, follows_pattern, prune

from tests.converters.tfmot_models import STEPS, kernels, samples, small_model, training

pytestmark = pytest.mark.keras


def zeros(values: np.ndarray) -> float:
    return float(np.mean(values == 0))


def test_one_threshold_over_all_layers_prunes_to_the_sparsity() -> None:
    """The default prunes all but depthwise kernels together to the sparsity, and leaves the given model as it was."""
    model, seen = small_model(), []
    before = model.get_weights()
    made = prune(model, PruneSettings(sparsity=0.8), training(seen), steps_per_run=STEPS)
    found = kernels(made.model)
    pruned = [values for name, values in found.items() if "depthwise_kernel" not in name]
    together = np.concatenate([values.ravel() for values in pruned])
    # Each layer's own share is rounded to whole weights: half a weight for each.
    assert zeros(together) == pytest.approx(0.8, abs=0.5 * len(pruned) / together.size + 1e-6)
    assert len({round(zeros(values), 3) for values in pruned}) > 1
    assert all(zeros(values) == 0 for name, values in found.items() if "depthwise_kernel" in name)
    assert "few weights" in made.facts.left["depthwise"]
    everything = np.concatenate([values.ravel() for values in found.values()])
    assert made.facts.sparsity == pytest.approx(zeros(everything))
    assert made.facts.pattern_holds is None
    assert [type(layer).__name__ for layer in made.model.layers] == [type(layer).__name__ for layer in model.layers]
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))
    assert seen[0].output_names == model.output_names


def test_layers_by_name_and_a_constant_schedule() -> None:
    """A named layer gets its own sparsity, also a depthwise one; 0 leaves a layer alone; the others get the common one."""
    settings = PruneSettings(
        sparsity=0.5, schedule="constant", scope="layer", frequency=3, layers={"depth*": 0.25, "scores": 0}
    )
    made = prune(small_model(), settings, training(), steps_per_run=STEPS)
    found = kernels(made.model)
    shares = {name: zeros(values) for name, values in found.items()}
    halves = {name: 0.5 for name in ("conv/kernel:0", "separable/pointwise_kernel:0")}
    expected = {**halves, "depthwise/depthwise_kernel:0": 0.25, "scores/kernel:0": 0, "separable/depthwise_kernel:0": 0}
    assert {name: shares[name] for name in expected} == pytest.approx(expected)
    assert made.facts.left == {"scores": "left alone as asked"}


def test_two_of_four_and_blocks() -> None:
    """2:4 leaves two of four consecutive input channels, blocks go whole; both hold in what comes out, by measurement."""
    made = prune(small_model(), PruneSettings(pattern="2:4"), training(), steps_per_run=STEPS)
    assert made.facts.pattern_holds
    dense = kernels(made.model)["scores/kernel:0"]
    assert np.array_equal((dense.T.reshape(-1, 4) != 0).sum(axis=1), np.full(dense.size // 4, 2))
    made = prune(small_model(), PruneSettings(0.5, pattern="block:2x4"), training(), steps_per_run=STEPS)
    matrix = kernels(made.model)["separable/pointwise_kernel:0"].reshape(8, 12)
    blocks = (matrix != 0).reshape(4, 2, 3, 4).sum(axis=(1, 3))
    assert set(np.unique(blocks)) == {0, 8}
    assert np.mean(blocks == 0) == 0.5
    assert made.facts.pattern_holds


def test_nested_shared_and_attention_layers() -> None:
    """Layers of a nested model, a layer used twice and attention with positional arguments are pruned, names kept."""
    tf_keras = import_tf_keras()
    layers = tf_keras.layers
    inner = tf_keras.Sequential([layers.Input((8,)), layers.Dense(8, name="dense")], name="inner")
    steps = layers.Input((4, 8), name="steps")
    attended = layers.MultiHeadAttention(2, 4, name="attention")(steps, steps)
    pooled = layers.GlobalAveragePooling1D()(attended)
    twice = layers.Add()([inner(pooled), inner(layers.GlobalMaxPooling1D()(steps))])
    model = tf_keras.Model(steps, [layers.Dense(3, name="left")(twice), layers.Dense(1, name="right")(twice)])

    def train(wrapped: Any, callbacks: Any) -> None:
        wrapped.compile("sgd", "mse")
        rng = np.random.default_rng(0)
        targets = {"left": rng.random((24, 3)), "right": rng.random((24, 1))}
        wrapped.fit(rng.random((24, 4, 8)), targets, 4, callbacks=callbacks, verbose=0)

    settings = PruneSettings(0.5, scope="layer", layers={"right": 0, "inner/dense": 0.25})
    made = prune(model, settings, train, steps_per_run=6)
    facts = {(item.layer, item.kernel): item.sparsity for item in made.facts.kernels}
    assert facts["inner/dense", "kernel"] == 0.25
    assert facts["left", "kernel"] == 0.5
    assert facts["right", "kernel"] == 0
    assert [share for (layer, _), share in facts.items() if layer == "attention"] == [0.5] * 4
    assert made.model.output_names == ["left", "right"]


def test_stopping_early_still_gives_masked_weights() -> None:
    """Weights that an optimizer step moved after the last mask are zero in what comes out."""

    def train(wrapped: Any, callbacks: Any) -> None:
        training()(wrapped, callbacks)
        for layer in wrapped.layers:
            for weight, _, _ in getattr(layer, "pruning_vars", ()):
                weight.assign_add(weight * 0 + 1)

    made = prune(small_model(), PruneSettings(0.5, scope="layer"), train, steps_per_run=STEPS)
    assert zeros(kernels(made.model)["conv/kernel:0"]) == 0.5


def test_the_pruned_model_is_the_masked_one() -> None:
    """What comes out predicts what the wrapped model predicted at the end of its training."""
    seen: list[Any] = []
    made = prune(small_model(), PruneSettings(0.5), training(seen), steps_per_run=STEPS)
    images, _ = samples(1)
    np.testing.assert_allclose(made.model(images), seen[0](images, training=False), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "above 0 and below 1.*try 0.75"),
        ({"sparsity": 0.0}, "above 0"),
        ({"layers": {"conv": 1.0}}, "'conv' to be 0 .* below 1"),
        ({"schedule": "cosine"}, "polynomial, constant"),
        ({"scope": "model"}, "layer, global"),
        ({"begin": 0.6, "end": 0.5}, "begin < end"),
        ({"frequency": 0}, "at least 1 step"),
        ({"pattern": "4:2"}, "2:4"),
        ({"pattern": "block:0x4"}, "block:1x4"),
        ({"pattern": "2:4", "sparsity": 0.75}, "no sparsity, or 0.5"),
        ({"pattern": "2:4", "layers": {"conv": 0.75}}, "0 for 'conv'"),
        ({"pattern": "block:1x4", "scope": "global"}, "the scope 'layer'"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """Each message says what is valid."""
    with pytest.raises(TechniqueError, match=message):
        PruneSettings(**options)


@pytest.mark.parametrize(
    ("settings", "steps", "message"),
    [
        (PruneSettings(layers={"konv": 0.5}), STEPS, "did you mean 'conv'"),
        (PruneSettings(pattern="2:4", layers={"depthwise": 0.5}), STEPS, "no input channels"),
        (PruneSettings(), 1, "at least 2 steps"),
        (PruneSettings(frequency=50), STEPS, "lower the frequency"),
        (PruneSettings(layers={"*": 0}), STEPS, "a layer to prune.*left alone as asked"),
    ],
)
def test_a_model_that_cannot_be_pruned_so_is_refused(settings: PruneSettings, steps: int, message: str) -> None:
    """Before any training: a name that matches nothing, a layer the pattern does not fit, a run too short."""
    with pytest.raises(TechniqueError, match=message):
        prune(small_model(), settings, lambda *_: pytest.fail("trained"), steps_per_run=steps)


def test_frozen_layers_and_models_of_one_piece() -> None:
    """A frozen layer is left with a reason; a subclassed model and a layer without configuration are refused."""
    tf_keras = import_tf_keras()
    model = small_model()
    model.get_layer("conv").trainable = False
    made = prune(model, PruneSettings(0.5), training(), steps_per_run=STEPS)
    assert made.facts.left["conv"] == "its weights are frozen"

    class Whole(tf_keras.Model):  # type: ignore[misc, name-defined]
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(TechniqueError, match="functional or sequential"):
        prune(Whole(), PruneSettings(), training(), steps_per_run=STEPS)

    class Unwritten(tf_keras.layers.Layer):  # type: ignore[misc, name-defined]
        def get_config(self) -> dict[str, Any]:
            raise NotImplementedError("no configuration")

    source = tf_keras.layers.Input((4,))
    with pytest.raises(TechniqueError, match="cannot be copied layer by layer: no configuration"):
        prune(tf_keras.Model(source, Unwritten()(source)), PruneSettings(), training(), steps_per_run=STEPS)


def test_patterns_are_told_apart() -> None:
    """Against kernels written by hand: rows of four inputs for one output, blocks with a rest at the edge."""
    kernel = np.array([[1, 0, 0, 2, 0, 3], [1, 1, 1, 0, 0, 0]], np.float32).T
    assert not follows_pattern(kernel, "2:4")
    assert follows_pattern(kernel[:, :1], "2:4")
    assert follows_pattern(kernel, "1:4")
    assert follows_pattern(np.array([[0, 0, 5], [0, 0, 6]], np.float32), "block:2x2")
    assert not follows_pattern(np.array([[0, 1, 5], [0, 0, 6]], np.float32), "block:2x2")
    assert follows_pattern(kernel, "unstructured")
