"""Layer by layer: figures against numpy, planted faults that must be found, and what is said where nothing was measured."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from edgekit_converters.diagnosis.diagnose import Diagnosis, diagnose, rank_layers
from edgekit_converters.diagnosis.fidelity import compare_tensors, percentile_of_tail, tails
from edgekit_converters.errors import CalibrationError, UnsupportedModelError
from edgekit_converters.int8.options import QuantizeOptions
from edgekit_converters.quantize import quantize

from tests.converters.layered import images, network
from tests.tflite_builder import dense_model

SAMPLES = {"x": images(40)}
MEASURED = images(64, seed=2)


def by_name(diagnosis: Diagnosis) -> dict[str, dict]:
    """The layers' JSON by name."""
    return {layer["layer"]: layer for layer in diagnosis.to_dict()["layers"]}


@pytest.fixture(scope="module")
def plain() -> Diagnosis:
    """A network without a fault, with labels, everything measured."""
    net = network()
    return diagnose(net.tflite(), SAMPLES, measured_on={"x": MEASURED}, labels=net.labels(MEASURED))


@pytest.fixture(scope="module")
def skewed() -> Diagnosis:
    """One channel of the second layer a thousand times as large as the others."""
    net = network().with_skewed_channel(1, 1000.0)
    return diagnose(net.tflite(), SAMPLES, measured_on={"x": MEASURED}, labels=net.labels(MEASURED))


@pytest.mark.filterwarnings("ignore:.*preserve_all_tensors")
def test_figures_are_those_of_the_two_tensors() -> None:
    """SQNR, cosine, range, percentiles and clipping equal numpy's over all values of both models' tensors."""
    net = network()
    float_model = net.tflite()
    quantized = quantize(float_model, precision="int8", samples=SAMPLES).tflite
    x, q, scale, zero_point = tensor_values(float_model, quantized, "net/second/Relu", MEASURED * 1.5)
    index = next(
        raw["index"]
        for raw in Interpreter(model_content=float_model).get_tensor_details()
        if "second/Relu" in raw["name"]
    )
    seen = compare_tensors(float_model, quantized, {"x": MEASURED * 1.5}, [index])[index]

    np.testing.assert_allclose(x, net.activations(MEASURED * 1.5)[1], atol=1e-5)
    rendered = (q.astype(np.float64) - zero_point) * scale
    assert seen.sqnr_db == pytest.approx(10 * np.log10(np.sum(x**2) / np.sum((x - rendered) ** 2)), rel=1e-6)
    assert seen.cosine == pytest.approx(np.sum(x * rendered) / np.sqrt(np.sum(x**2) * np.sum(rendered**2)), rel=1e-6)
    assert (seen.low, seen.high) == (x.min(), x.max())
    # float32 values between two of which the percentile is interpolated
    assert (seen.low_tail, seen.high_tail) == pytest.approx(np.percentile(x, [0.01, 99.99]), rel=1e-6)
    assert seen.grid is not None
    assert (seen.grid.scale, seen.grid.zero_point, seen.grid.dtype) == (pytest.approx(scale), zero_point, "int8")
    low, high = ((np.array([-128, 127]) - zero_point) * scale).tolist()
    assert (seen.grid.low, seen.grid.high) == pytest.approx((low, high))
    assert seen.clipped == pytest.approx(np.mean((x < low - scale / 2) | (x > high + scale / 2)))
    assert seen.clipped > 0
    live = np.sum(x**2, axis=0) > 0
    ratio = np.sum((x - rendered) ** 2, axis=0)[live] / np.sum(x**2, axis=0)[live]
    assert seen.noise == pytest.approx(np.minimum(1, ratio).mean(), rel=1e-6)


def test_percentiles_are_numpys_over_all_runs() -> None:
    """Whatever the order of the values: the tails that are kept hold what the interpolation needs."""
    values = np.sort(np.random.default_rng(3).normal(size=(50, 1000)).astype(np.float32).reshape(-1)).reshape(50, 1000)
    for rows in (values, values[::-1]):
        high = low = np.zeros(0, np.float32)
        for row in rows:
            high, low = tails(row, high, values.size, np.positive), tails(row, low, values.size, np.negative)
        found = -percentile_of_tail(low, values.size), percentile_of_tail(high, values.size)
        # interpolated in float64 here, in float32 there
        assert found == pytest.approx(np.percentile(values, [0.01, 99.99]), rel=1e-6)


def tensor_values(float_model: bytes, quantized: bytes, name: str, rows: np.ndarray) -> tuple:
    """One tensor of both models over all rows, and the quantized one's scale and zero-point."""
    stacked = []
    for content in (float_model, quantized):
        interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
        raw = next(item for item in interpreter.get_tensor_details() if item["name"] == name)
        found = []
        for row in rows:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
            interpreter.invoke()
            found.append(interpreter.get_tensor(raw["index"])[0])
        stacked.append(np.stack(found))
    return stacked[0].astype(np.float64), stacked[1], *raw["quantization"]


def test_layers_come_in_graph_order_with_operators_of_the_float_model(plain: Diagnosis) -> None:
    """Every operator belongs to one layer; consecutive ones of one layer are one entry."""
    assert [layer.layer for layer in plain.layers] == ["flat", "first", "second", "third", "scores"]
    assert [layer.op_indices for layer in plain.layers] == [(0,), (1,), (2,), (3,), (4, 5)]
    assert plain.layers[-1].op_types == ("FULLY_CONNECTED", "SOFTMAX")
    assert plain.measured == 5
    assert plain.samples == len(MEASURED)


def test_a_sound_network_has_a_high_sqnr_and_keeps_its_accuracy(plain: Diagnosis) -> None:
    """Eight bits give some 30 dB, and the labels are the float model's own answers."""
    assert plain.float_accuracy == 1.0
    assert plain.int8_accuracy == plain.agreement
    assert plain.agreement is not None
    assert plain.agreement > 0.9
    assert all(layer["sqnr_db"] > 25 for layer in by_name(plain).values())
    assert all(layer["clipped_share"] < 0.01 for layer in by_name(plain).values())


def test_a_layer_with_a_skewed_channel_is_the_guiltiest(skewed: Diagnosis) -> None:
    """It adds most error, and only keeping it together with its reader wins: between them the tensor stays in int8."""
    found = by_name(skewed)
    worst = found["second"]
    assert worst["rank"] == 1
    assert max(found.values(), key=lambda layer: layer["added_noise"]) is worst
    # Nothing is left of the small channels, which the SQNR of the whole tensor does not show: the large one is its signal.
    assert worst["channel_noise"] > 0.5
    assert worst["sqnr_db"] > 10
    assert worst["win_joint"] > worst["win"] + 10
    assert worst["keep"] == worst["joint_indices"] == [2, 3]
    assert worst["keep_layers"] == ["second", "third"]
    assert worst["win_int16"] > 10
    assert worst["accuracy_win_joint"] > 0
    assert rank_layers(skewed)[0] == (2, 3)


def output_sqnr(options: QuantizeOptions) -> float:
    """Of the skewed network's int8 model against numpy's answers, in dB."""
    net = network().with_skewed_channel(1, 1000.0)
    exact = np.exp(net.activations(MEASURED)[-1])
    exact /= exact.sum(axis=1, keepdims=True)
    made = quantize(net.tflite(), precision="int8", samples=SAMPLES, options=options).tflite
    interpreter = Interpreter(model_content=made)
    interpreter.allocate_tensors()
    rows = []
    for row in MEASURED:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - np.stack(rows)) ** 2)))


def test_blame_is_what_the_layer_does_alone(skewed: Diagnosis) -> None:
    """With every other operator in float; the reader of a bad tensor is not blamed for it, its maker is."""
    found = by_name(skewed)
    alone = output_sqnr(QuantizeOptions(keep_float=(0, 1, 3, 4, 5)))
    # float32 sums of the reference against float64's
    assert found["second"]["alone_sqnr_db"] == pytest.approx(alone, abs=0.01)
    assert found["third"]["alone_sqnr_db"] == pytest.approx(alone, abs=3)
    assert found["second"]["blame"] > 0.7
    assert sum(layer["blame"] for layer in found.values()) == pytest.approx(1)


def test_a_win_is_what_the_model_with_that_layer_in_float_gives(skewed: Diagnosis) -> None:
    """The gain in dB equals that of the model quantized with keep_float, answered by an interpreter of one's own."""
    gained = output_sqnr(QuantizeOptions(keep_float=(2, 3))) - output_sqnr(QuantizeOptions())
    # float32 sums of the reference against float64's
    assert by_name(skewed)["second"]["win_joint"] == pytest.approx(gained, abs=0.01)


def test_without_time_nothing_is_measured_and_said_so() -> None:
    """Layers are ranked by the error they add then, and every win is null with its reason."""
    net = network().with_skewed_channel(1, 1000.0)
    found = diagnose(net.tflite(), SAMPLES, budget_s=0.0)
    assert (found.blamed, found.measured) == (0, 0)
    assert by_name(found)["second"]["rank"] == 1
    for layer in by_name(found).values():
        assert (layer["win"], layer["win_joint"], layer["win_int16"], layer["accuracy_win"]) == (None,) * 4
        assert (layer["blame"], layer["alone_sqnr_db"]) == (None, None)
        assert all("time was spent" in note for note in layer["notes"].values())
    assert rank_layers(found)[0] == (2, 3)


def test_blame_alone_is_enough_to_rank(skewed: Diagnosis) -> None:
    """What a search needs: no time goes into wins."""
    found = diagnose(
        network().with_skewed_channel(1, 1000.0).tflite(), SAMPLES, measured_on={"x": MEASURED}, wins=False
    )
    assert (found.blamed, found.measured) == (5, 0)
    assert [layer.rank for layer in found.layers] == [layer.rank for layer in skewed.layers]
    assert rank_layers(found)[0] == (2, 3)
    assert by_name(found)["second"]["notes"]["win"] == "not measured: it was not asked for"


def test_the_same_samples_give_the_same_diagnosis(skewed: Diagnosis) -> None:
    """All but the time it took."""
    net = network().with_skewed_channel(1, 1000.0)
    again = diagnose(net.tflite(), SAMPLES, measured_on={"x": MEASURED}, labels=net.labels(MEASURED))
    assert replace(again, seconds=0.0).to_dict() == replace(skewed, seconds=0.0).to_dict()


def test_json_is_enough_to_rank(skewed: Diagnosis) -> None:
    """The search in another process ranks what the worker sent; no figure is infinite there."""
    raw = json.loads(json.dumps(skewed.to_dict(), allow_nan=False))
    assert rank_layers(raw) == rank_layers(skewed)


def test_options_of_the_recipe_are_kept() -> None:
    """A layer that the recipe keeps in float has no int8 range, no blame, and nothing more to win."""
    found = diagnose(network().tflite(), SAMPLES, options=QuantizeOptions(keep_float=(2,)))
    layer = by_name(found)["second"]
    assert found.options["keep_float"] == [2]
    assert layer["int8_range"] is None
    assert (layer["blame"], layer["win"]) == (0.0, None)
    assert layer["notes"]["win"] == "not measured: the recipe keeps it at a higher precision already"
    assert (2,) not in rank_layers(found)
    assert by_name(found)["third"]["int8_range"]["dtype"] == "int8"


def test_an_equalized_model_is_compared_with_the_balanced_float_model() -> None:
    """Channels that were balanced are no error: the fault that equalization heals is gone."""
    net = network().with_skewed_channel(1, 1000.0)
    found = diagnose(net.tflite(), SAMPLES, options=QuantizeOptions(equalize=True), budget_s=0.0)
    assert by_name(found)["second"]["channel_noise"] < 0.1


def test_int16_activations_can_be_diagnosed_without_wins() -> None:
    """Nothing can be kept out of int16x8: the reason is in the notes."""
    found = by_name(diagnose(network().tflite(), SAMPLES, precision="int16x8"))
    assert found["second"]["int8_range"]["dtype"] == "int16"
    assert found["second"]["sqnr_db"] > 40
    assert found["second"]["win"] is None
    assert "int8" in found["second"]["notes"]["win"]


def test_progress_names_the_layers() -> None:
    """One call before each layer that is measured: first for its blame, then for what keeping it wins."""
    said: list[tuple[int, int, str]] = []
    diagnose(network().tflite(), {"x": images(12)}, progress=lambda *event: said.append(event))
    assert sorted(text for _, _, text in said[:5]) == ["first", "flat", "scores", "second", "third"]
    assert sorted(text for _, _, text in said[5:]) == ["first", "flat", "scores", "second", "third"]
    assert [done for done, _, _ in said] == 2 * [0, 1, 2, 3, 4]


def test_names_that_do_not_fit_the_model_are_refused() -> None:
    """One name for each operator, or none at all."""
    with pytest.raises(CalibrationError, match="expected the layer of each of the 6 operators, got 2 names"):
        diagnose(network().tflite(), SAMPLES, layers=["a", "b"], budget_s=0.0)


def test_samples_that_do_not_fit_are_refused() -> None:
    """Before anything is quantized."""
    with pytest.raises(CalibrationError, match="expected calibration samples of shape"):
        diagnose(network().tflite(), {"x": images(4)[:, :2]})


def test_a_model_that_is_quantized_already_is_refused() -> None:
    """There is nothing to compare it with."""
    with pytest.raises(UnsupportedModelError, match="expected a float32"):
        diagnose(dense_model("int8"), {"x": np.zeros((4, 64), np.float32)})


@pytest.mark.keras
def test_a_skewed_keras_layer_is_named_as_keras_names_it() -> None:
    """Through export and names: the depthwise layer of a nested block, with the convolution that reads it."""
    from edgekit_converters._tf import import_keras
    from edgekit_converters.export import export_float
    from edgekit_converters.load import LoadedModel

    keras = import_keras()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    block = keras.Sequential(
        [
            layers.Input((8, 8, 6)),
            layers.DepthwiseConv2D(3, activation="relu", bias_initializer="random_uniform", name="depthwise"),
            layers.Conv2D(6, 1, activation="relu", name="pointwise"),
        ],
        name="block",
    )
    source = layers.Input((8, 8, 3))
    stem = layers.Conv2D(6, 3, padding="same", activation="relu", name="stem")(source)
    pooled = layers.GlobalAveragePooling2D(name="pool")(block(stem))
    model = keras.Model(source, layers.Dense(4, name="scores")(pooled))
    depthwise, pointwise = block.layers
    scales = np.array([3000, 1, 1, 1, 1, 1], np.float32)
    kernel, bias = depthwise.get_weights()
    depthwise.set_weights([kernel * scales[:, None], bias * scales])
    kernel, bias = pointwise.get_weights()
    pointwise.set_weights([kernel / scales[:, None], bias])

    export = export_float(LoadedModel(model, "keras"))
    draw = np.random.default_rng(0).uniform(0, 1, (60, 8, 8, 3)).astype(np.float32)
    found = diagnose(export.tflite, {"x": draw[:30]}, measured_on={"x": draw[30:]}, layers=export.layers)
    worst = min(found.to_dict()["layers"], key=lambda layer: layer["rank"])
    assert worst["layer"] == "block/depthwise"
    assert worst["keep_layers"] == ["block/depthwise", "block/pointwise"]
    assert worst["blame"] > 0.8
    assert worst["win_joint"] > worst["win"] + 10
