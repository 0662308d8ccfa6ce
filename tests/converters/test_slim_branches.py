"""Residual branches that are removed are really gone, the least harmful first, and the rest of the cost comes from channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from edgekit_converters import TechniqueError
from edgekit_converters._tf import import_keras
from edgekit_converters.export import export_float
from edgekit_converters.load import LoadedModel
from edgekit_converters.model_card import read_model_card
from edgekit_converters.slim import SlimSettings, count_costs, slim
from edgekit_converters.slim.branches import drop_branches, find_branches
from edgekit_converters.slim.trace import trace_channels
from edgekit_converters.training.samples import Samples

from tests.converters.slim_zoo import IMAGE, Array, mobilenet, nested, randomized, resnet, rows

pytestmark = pytest.mark.keras
# What a batch normalization that is moved by nothing, and sums of other kernels, round differently: values are around 1.
ROUNDING = 1e-5


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import_keras().utils.set_random_seed(0)


def answers(model: Any, inputs: list[Array]) -> list[Array]:
    """The model's outputs in order."""
    results = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return [np.asarray(value) for value in import_keras().tree.flatten(results)]


def tower(
    blocks: int = 3, width: int = 8, *, lead: bool = False, size: int = IMAGE[0], head: str | None = "softmax"
) -> Any:
    """Residual blocks of one width; ``lead``: the first convolution of the second block is an output too."""
    layers = import_keras().layers
    image = layers.Input((size, size, 3), name="image")
    flow, outputs = layers.Conv2D(width, 3, padding="same", activation="relu", name="stem")(image), []
    for number in range(blocks):
        inner = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"a{number}")(flow)
        if lead and number == 1:
            outputs.append(layers.GlobalMaxPooling2D(name="side")(inner))
        inner = layers.Conv2D(width, 3, padding="same", name=f"b{number}")(inner)
        inner = layers.BatchNormalization(name=f"norm{number}")(inner)
        flow = layers.ReLU()(layers.Add(name=f"add{number}")([flow, inner]))
    flow = layers.Dense(4, activation=head, name="scores")(layers.GlobalAveragePooling2D()(flow))
    return import_keras().Model(image, [flow, *outputs])


def quieted(model: Any, names: tuple[str, ...], scale: float = 0.0) -> Any:
    """The model with these normalizations scaled down: their branches add (almost) nothing."""
    for name in names:
        norm = model.get_layer(name)
        gamma, beta, *statistics = norm.get_weights()
        norm.set_weights([gamma * scale, beta * scale, *statistics])
    return model


def silent_branches(model: Any) -> list[str]:
    """Every branch of the model brought to add exactly 0, by the normalization it ends with."""
    ends = [next(iter(branch.inside)) for branch in find_branches(model) if len(branch.inside) > 1]
    quieted(model, tuple(ends))
    return ends


def samples_of(model: Any, count: int = 24) -> Samples:
    return Samples({tensor.name: values for tensor, values in zip(model.inputs, rows(model, count), strict=True)})


@pytest.mark.parametrize("make", [resnet, mobilenet, tower])
@pytest.mark.parametrize("seeing", [True, False])
def test_a_branch_that_adds_nothing_can_go(make: Callable[[], Any], seeing: bool) -> None:
    """Identity and projection shortcuts, inverted residuals: without silent branches the outputs are the same."""
    model = randomized(make())
    ends, samples = silent_branches(model), samples_of(model) if seeing else None
    settings = SlimSettings(to=0.02, branches=True)

    slimmed, removed = drop_branches(model, trace_channels(model), settings, shapes={}, samples=samples, seed=0)

    assert len(removed) == len(ends)
    names = {layer.name for layer in slimmed.layers}
    assert not names & {*removed, *ends}
    assert sum(removed.values()) == count_costs(model).macs - count_costs(slimmed).macs
    assert slimmed.count_params() < model.count_params()
    inputs = rows(model)
    np.testing.assert_allclose(answers(slimmed, inputs)[0], answers(model, inputs)[0], atol=ROUNDING)


def test_projections_stay() -> None:
    """Where both inputs of the addition have layers of their own, the one with more weights goes."""
    model = randomized(resnet())
    slimmed, _ = drop_branches(model, trace_channels(model), SlimSettings(to=0.02), shapes={}, samples=None, seed=0)
    assert [layer.name for layer in slimmed.layers if hasattr(layer, "kernel")] == ["stem", "skip12", "logits"]


@pytest.mark.parametrize("head", ["softmax", None])
@pytest.mark.parametrize("seeing", [True, False])
def test_the_branch_that_matters_least_goes_first(head: str | None, seeing: bool) -> None:
    """One planted branch that adds hardly anything is the one that goes, with samples and without; channels do the rest."""
    model = quieted(randomized(tower(head=head)), ("norm1",), 1e-3)
    samples = samples_of(model) if seeing else None

    slimmed = slim(model, SlimSettings(to=0.6, branches=True, divisor=1), samples=samples)

    facts, block = slimmed.facts, 2 * 12 * 12 * 9 * 8 * 8
    assert facts["branches_removed"] == {"add1": block}
    assert (facts["depth_before"], facts["depth_after"]) == (8, 6)
    assert facts["channels"]["a1"] == [8, 0]
    assert list(slimmed.kept["b1"]) == []
    assert facts["macs_before"] == count_costs(model).macs
    assert facts["macs_after"] == count_costs(slimmed.model).macs <= 0.6 * facts["macs_before"]
    assert read_model_card(export_float(LoadedModel(slimmed.model, "keras")).tflite).macs == facts["macs_after"]


def test_silent_branches_and_channels_cost_nothing() -> None:
    """Branches that add 0 go first, then a channel that is 0: with normalizations moved by nothing, the outputs stay."""
    model = quieted(randomized(tower(blocks=4)), ("norm0", "norm3"))
    silent = model.get_layer("a1")
    silent.set_weights([weight * (np.arange(8) != 3) for weight in silent.get_weights()])

    settings = SlimSettings(to=0.52, branches=True, divisor=1, scope="global")
    slimmed = slim(model, settings, samples=samples_of(model))

    assert set(slimmed.facts["branches_removed"]) == {"add0", "add3"}
    assert {name: pair for name, pair in slimmed.facts["channels"].items() if pair[1] not in (0, pair[0])} == {
        "a1": [8, 7]
    }
    np.testing.assert_allclose(answers(slimmed.model, rows(model))[0], answers(model, rows(model))[0], atol=ROUNDING)


@pytest.mark.parametrize("branches", [True, False])
def test_each_of_several_costs_is_reached(branches: bool) -> None:
    """macs+bytes: half of both, where half of one would have left more of the other; a single one stays as it was."""
    model = randomized(resnet())
    both = slim(model, SlimSettings(to=0.6, of="macs+bytes", branches=branches, divisor=1))
    after, before = count_costs(both.model), count_costs(model)
    assert after.macs <= 0.6 * before.macs
    assert after.bytes <= 0.6 * before.bytes
    alone = [count_costs(slim(model, SlimSettings(to=0.6, of=of, divisor=1)).model) for of in ("macs", "bytes")]
    assert max(one.macs / before.macs for one in alone) > 0.6 or max(one.bytes / before.bytes for one in alone) > 0.6


@pytest.mark.parametrize("to", [0.97, 0.5])
def test_without_a_branch_that_can_go_channels_do(to: float) -> None:
    """Branches that save more than may be saved stay, and a network without any is narrowed as ever."""
    wide = randomized(tower(blocks=1))
    keras = import_keras()
    image = keras.layers.Input(IMAGE, name="image")
    flow = keras.layers.Conv2D(3, 3)(keras.layers.Conv2D(12, 3, name="conv")(image))
    for model in (wide, keras.Model(image, flow)):
        slimmed = slim(model, SlimSettings(to=to, branches=True, divisor=1))
        plain = slim(model, SlimSettings(to=to, divisor=1))
        assert slimmed.facts == plain.facts
        assert slimmed.facts["branches_removed"] == {}
        for expected, actual in zip(plain.model.get_weights(), slimmed.model.get_weights(), strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_what_is_used_elsewhere_stays() -> None:
    """A branch whose inside is an output too, that is protected, or whose addition is an output, is none."""
    keras, model = import_keras(), tower(lead=True)
    assert [branch.path for branch in find_branches(model)] == ["add2", "add0"]
    assert [branch.path for branch in find_branches(model, ("b0",))] == ["add2"]
    assert [branch.path for branch in find_branches(model, ("add*",))] == []
    image = keras.layers.Input(IMAGE, name="image")
    assert find_branches(keras.Model(image, image + keras.layers.Conv2D(3, 3, padding="same")(image))) == []
    other = keras.layers.Input(IMAGE, name="other")  # two images added: neither is the shortcut of the other
    towers = [keras.layers.Conv2D(4, 3)(each) for each in (image, other)]
    assert find_branches(keras.Model([image, other], keras.layers.ReLU()(keras.layers.Add()(towers)))) == []


def test_branches_of_nested_models_can_go() -> None:
    """An addition inside a nested model gives its shortcut there; the facts have its path, and the rest keeps its names."""
    model = randomized(nested())
    model.get_layer("middle").get_layer("inner").get_layer("conv").set_weights([np.zeros((3, 3, 6, 8)), np.zeros(8)])
    slimmed, removed = drop_branches(
        model, trace_channels(model), SlimSettings(to=0.1), shapes={}, samples=samples_of(model), seed=0
    )
    (path,) = removed
    assert path.startswith("middle/add")
    assert [layer.name for layer in slimmed.layers] == [layer.name for layer in model.layers]
    np.testing.assert_allclose(answers(slimmed, rows(model))[0], answers(model, rows(model))[0], atol=ROUNDING)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"branches": "yes"}, "branches to be true or false"),
        ({"of": "macs+byte"}, "did you mean 'bytes'"),
        ({"of": "macs+macs"}, "once"),
        ({"of": ("macs", "bytes")}, "of to be one of"),
        ({"of": "macs+bytes", "to": 0.001, "branches": True}, "least that can be reached"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], expected: str) -> None:
    """Each message says what was expected."""
    with pytest.raises(TechniqueError, match=expected):
        slim(tower(), SlimSettings(**{"to": 0.5, **settings}))
