"""Channels that are removed are really gone, and the model answers as if they had been silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_converters import TechniqueError, UnsupportedModelError
from edgekit_converters._tf import import_keras
from edgekit_converters.export import export_float
from edgekit_converters.graph import walk
from edgekit_converters.load import LoadedModel
from edgekit_converters.model_card import read_model_card
from edgekit_converters.slim import Slimmed, SlimSettings, count_costs, slim

from tests.converters.slim_zoo import ARCHITECTURES, Array, randomized, rows

pytestmark = pytest.mark.keras
# What the widest sum of these networks rounds differently when its terms are fewer: values are around 1.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Every architecture, built once."""
    import_keras().utils.set_random_seed(0)
    return {name: randomized(make()) for name, make in ARCHITECTURES.items()}


def silenced(model: Any, slimmed: Slimmed, inputs: list[Array]) -> list[Array]:
    """The original's outputs when each removed channel is set to 0 behind every layer that has weights."""

    def apply(operation: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = operation(*args, **kwargs)
        kept = slimmed.kept.get("/".join(path))
        if kept is None:
            return result
        mask = np.zeros(result.shape[-1], "float32")
        mask[kept] = 1
        return result * mask

    return [np.asarray(value) for value in walk(model, inputs, apply)]


def answers(model: Any, inputs: list[Array]) -> list[Array]:
    """The model's outputs in order."""
    results = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return [np.asarray(value) for value in import_keras().tree.flatten(results)]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("scope", "to"), [("global", 0.6), ("uniform", 0.5)])
def test_a_slimmed_model_answers_like_the_original_with_its_channels_silenced(
    models: dict[str, Any], name: str, scope: str, to: float
) -> None:
    """Zeros in place of the removed channels, in the original, lead to the outputs of the slimmed model."""
    model, inputs = models[name], rows(models[name])

    slimmed = slim(model, SlimSettings(to=to, of="parameters", scope=scope, divisor=1))

    for expected, actual in zip(silenced(model, slimmed, inputs), answers(slimmed.model, inputs), strict=True):
        np.testing.assert_allclose(actual, expected, atol=ROUNDING * max(1.0, float(np.abs(expected).max())))
    assert count_costs(slimmed.model).parameters <= to * count_costs(model).parameters
    assert slimmed.model.count_params() == slimmed.facts["parameters_after"] < model.count_params()


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Keras' own, when it saves
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_slimmed_model_is_a_plain_one_that_saves_and_loads(models: dict[str, Any], name: str, tmp_path: Path) -> None:
    """Class, names, inputs and outputs are the original's, and the saved file gives the same outputs."""
    keras, model = import_keras(), models[name]
    slimmed = slim(model, SlimSettings(to=0.7, of="bytes")).model
    slimmed.save(tmp_path / "slim.keras")
    loaded = keras.models.load_model(tmp_path / "slim.keras", safe_mode=name != "mixed")  # it holds a Lambda

    assert type(slimmed) is type(model)
    assert [layer.name for layer in slimmed.layers] == [layer.name for layer in model.layers]
    for ends in ("inputs", "outputs"):
        assert [(end.shape, end.dtype) for end in getattr(slimmed, ends)] == [
            (end.shape, end.dtype) for end in getattr(model, ends)
        ]
    assert [end.name for end in slimmed.inputs] == [end.name for end in model.inputs]
    inputs = rows(model)
    for expected, actual in zip(answers(slimmed, inputs), answers(loaded, inputs), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", ["sequential", "vgg", "resnet", "mobilenet", "densenet", "squeeze_excite", "unet"])
def test_the_costs_are_those_of_the_exported_model(models: dict[str, Any], name: str) -> None:
    """MACs counted in the Keras graph equal those that the model card finds in the .tflite, before and after."""
    slimmed = slim(models[name], SlimSettings(to=0.5))
    card = read_model_card(export_float(LoadedModel(slimmed.model, "keras")).tflite)

    assert slimmed.facts["macs_after"] == card.macs
    assert slimmed.facts["macs_after"] <= 0.5 * slimmed.facts["macs_before"]


def test_costs_count_by_hand() -> None:
    """A convolution, a normalization and a dense layer: macs, parameters and int8 bytes as arithmetic."""
    keras = import_keras()
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((5, 5, 2)),
            layers.Conv2D(4, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(7),
        ]
    )

    costs = count_costs(model)

    assert costs.macs == 3 * 3 * (3 * 3) * 2 * 4 + (3 * 3 * 4) * 7
    assert costs.parameters == (3 * 3 * 2 * 4) + 4 * 4 + (36 * 7 + 7)
    assert costs.bytes == (3 * 3 * 2 * 4) + 4 * 4 + (36 * 7 + 4 * 7)


@pytest.mark.parametrize("scope", ["global", "uniform"])
@pytest.mark.parametrize("of", ["macs", "parameters", "bytes"])
def test_the_ratio_is_reached_within_one_step(models: dict[str, Any], of: str, scope: str) -> None:
    """No channel more is removed than must be: with any one of them the model would cost too much."""
    model = models["resnet"]
    slimmed = slim(model, SlimSettings(to=0.5, of=of, scope=scope, divisor=1))
    ratio = slimmed.facts[f"{of}_after"] / slimmed.facts[f"{of}_before"]
    # The dearest step, one channel of a family, costs less than the layers that make and read it share between them.
    assert 0.5 - 1 / 8 < ratio <= 0.5


def test_the_same_settings_give_the_same_model(models: dict[str, Any]) -> None:
    """Nothing is left to chance."""
    one, other = (slim(models["densenet"], SlimSettings(to=0.5, scope="global")) for _ in range(2))
    assert one.facts == other.facts
    for expected, actual in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_the_original_stays_as_it_is(models: dict[str, Any]) -> None:
    """Weights and configuration of the model that was given do not change, nor whether it is compiled."""
    model = models["nested"]
    model.compile(optimizer="sgd", loss="mse")
    before, config = model.get_weights(), model.get_config()
    slimmed = slim(model, SlimSettings(to=0.5))
    assert model.compiled
    assert not slimmed.model.compiled
    assert model.get_config() == config
    for expected, actual in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_protected_layers_keep_their_channels(models: dict[str, Any]) -> None:
    """A glob of a layer's name, or of its path in a nested model, keeps what that layer makes; the facts say so."""
    slimmed = slim(models["nested"], SlimSettings(to=0.8, protect=("middle/inner/*",)))
    assert slimmed.facts["channels"]["middle/inner/conv"] == [8, 8]
    assert slimmed.facts["channels"]["middle/conv"] == [8, 8]  # added to it
    assert slimmed.facts["channels"]["conv"][1] < 6
    assert slimmed.facts["protected"]["middle/conv"] == "middle/inner/conv is protected"


def test_widths_are_multiples_of_the_divisor(models: dict[str, Any]) -> None:
    """What is slimmed at all has a width that the divisor divides, or its half where a layer is not twice as wide."""
    slimmed = slim(models["resnet"], SlimSettings(to=0.4, divisor=6, least=3))
    changed = [pair for pair in slimmed.facts["channels"].values() if pair[0] != pair[1]]
    assert {before for before, _ in changed} == {8, 12}
    assert all(after % (6 if before == 12 else 3) == 0 and after >= 3 for before, after in changed)


def test_channels_that_are_mixed_stay(models: dict[str, Any]) -> None:
    """Softmax, LayerNormalization, groups, a Lambda and a reshape that splits keep channels; the reasons are told."""
    slimmed = slim(models["mixed"], SlimSettings(to=0.5, of="parameters", divisor=1))
    channels, reasons = slimmed.facts["channels"], slimmed.facts["protected"]
    for name, reason in {
        "second": "convolution in 2 groups",
        "grouped": "convolution in 2 groups",
        "normed": "LayerNormalization",
        "attention": "softmax",
        "turned": "Lambda",
        "split": "splits the channels",
        "logits": "output",
    }.items():
        assert channels[name][0] == channels[name][1]
        assert reason in reasons[name]
    assert all(channels[name][1] < channels[name][0] for name in ("first", "before", "wide"))


def test_rounds_fine_tune_in_between(models: dict[str, Any]) -> None:
    """Three rounds in equal ratios, with what the caller does between them; the last is left to the caller."""
    seen: list[tuple[int, int]] = []

    def fine_tune(model: Any, number: int) -> Any:
        seen.append((number, count_costs(model).macs))
        return model

    model = models["resnet"]
    inputs, whole = rows(model), count_costs(model).macs
    slimmed = slim(model, SlimSettings(to=0.5, rounds=3, divisor=1), fine_tune=fine_tune)

    assert [number for number, _ in seen] == [0, 1]
    for number, macs in seen:
        assert macs / 1.2 < whole * 0.5 ** ((number + 1) / 3) <= macs
    assert slimmed.facts["macs_after"] <= whole / 2
    np.testing.assert_allclose(
        answers(slimmed.model, inputs)[0], silenced(model, slimmed, inputs)[0], atol=ROUNDING * 10
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"to": 0.0}, "between 0 and 1"),
        ({"to": 1.0}, "between 0 and 1"),
        ({"to": float("nan")}, "between 0 and 1"),
        ({"to": "0.5"}, "between 0 and 1"),
        ({"to": 0.5, "of": "mac"}, "did you mean 'macs'"),
        ({"to": 0.5, "importance": "tailor"}, "did you mean 'taylor'"),
        ({"to": 0.5, "scope": "local"}, "global, uniform"),
        ({"to": 0.5, "rounds": 0}, "rounds"),
        ({"to": 0.5, "divisor": 0}, "divisor"),
        ({"to": 0.5, "least": 0}, "least"),
        ({"to": 0.5, "protect": ("stemm",)}, "did you mean 'stem'"),
        ({"to": 0.5, "protect": ("quite-another",)}, "the layers are"),
        ({"to": 0.01}, "least that can be reached"),
        ({"to": 0.5, "protect": ("*",)}, "is 1. Channels stay because"),
        ({"to": 0.5, "importance": "taylor"}, "labels"),
    ],
)
def test_bad_settings_are_refused(models: dict[str, Any], settings: dict[str, Any], expected: str) -> None:
    """Each message says what was expected and what to do."""
    with pytest.raises(TechniqueError, match=expected):
        slim(models["resnet"], SlimSettings(**settings))


def test_models_without_a_graph_are_refused() -> None:
    """A subclassed model cannot be walked; channels_first and open sizes are said to be the reason."""
    keras = import_keras()
    layers = keras.layers

    class Subclassed(keras.Model):
        pass

    with pytest.raises(UnsupportedModelError, match="Subclassed"):
        slim(Subclassed(), SlimSettings(to=0.5))
    image = layers.Input((3, 8, 8))
    with pytest.raises(TechniqueError, match="channels_first"):
        slim(keras.Model(image, layers.ZeroPadding2D(data_format="channels_first")(image)), SlimSettings(to=0.5))
    image = layers.Input((None, None, 3))
    flow = layers.Conv2D(2, 3)(layers.Conv2D(8, 3)(image))
    with pytest.raises(TechniqueError, match="give samples"):
        slim(keras.Model(image, flow), SlimSettings(to=0.5))


def test_layers_that_cannot_be_made_anew_are_named() -> None:
    """A layer of the user's own whose arguments Keras cannot write down needs a get_config."""
    keras = import_keras()

    class Scaled(keras.layers.Layer):
        def __init__(self, how: Any) -> None:
            super().__init__(name="scaled")
            self.how = how

        def call(self, inputs: Any) -> Any:
            return self.how(inputs)

    image = keras.layers.Input((6, 6, 3))
    flow = keras.layers.Conv2D(8, 3)(Scaled(keras.ops.square)(image))
    model = keras.Model(image, keras.layers.Conv2D(2, 3)(flow))
    with pytest.raises(UnsupportedModelError, match=r"'scaled'.*get_config"):
        slim(model, SlimSettings(to=0.5))


def test_attention_is_counted_and_left_alone() -> None:
    """A transformer block: what is between its two dense layers goes, and the MACs are those of the exported model."""
    keras = import_keras()
    layers = keras.layers
    tokens = layers.Input((5, 12), name="tokens")
    flow = layers.LayerNormalization()(
        layers.Add()([tokens, layers.MultiHeadAttention(3, 4, value_dim=5)(tokens, tokens)])
    )
    flow = layers.Add()([flow, layers.Dense(12, name="narrow")(layers.Dense(32, "gelu", name="wide")(flow))])
    model = keras.Model(tokens, layers.Dense(3, name="logits")(layers.GlobalAveragePooling1D()(flow)))

    slimmed = slim(model, SlimSettings(to=0.7))

    assert slimmed.facts["channels"] == {"wide": [32, 8], "narrow": [12, 12], "logits": [3, 3]}
    assert read_model_card(export_float(LoadedModel(slimmed.model, "keras")).tflite).macs == slimmed.facts["macs_after"]
    np.testing.assert_allclose(
        answers(slimmed.model, rows(model))[0], silenced(model, slimmed, rows(model))[0], atol=ROUNDING
    )
