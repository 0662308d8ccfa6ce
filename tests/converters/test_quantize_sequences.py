"""Quantizing what is no plain vision network: recurrent layers, token ids, several rows, rare activations, and refusals."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from edgekit_converters import PromiseError, UnsupportedModelError, quantize, read_model_card
from edgekit_converters.export import export_float
from edgekit_converters.int8.quantize_mlir import quantize_mlir
from edgekit_converters.load import LoadedModel

from tests.converters.conftest import Zoo, run_tflite
from tests.converters.keras_zoo import uniform
from tests.tflite_builder import Graph, Op, Tensor, build, dense_model

ENDS = (("float32", "float32"), ("int8", "int8"), ("uint8", "uint8"), ("uint8", "float32"))
RARE = ("hard_silu", "silu", "tanh", "gelu", "softplus")


def float_model(zoo: Zoo, name: str, batch: int = 1) -> bytes:
    """The float .tflite of a model of the zoo."""
    case = zoo.cases[name]
    return export_float(LoadedModel(case.model, case.framework), batch=batch, shapes=case.shapes).tflite


def worst(made: bytes, original: bytes, rows: np.ndarray) -> float:
    """The largest difference over all rows, as a share of the float outputs' range."""
    ours, theirs = (np.concatenate([run_tflite(model, [row[None]])[0] for row in rows]) for model in (made, original))
    return float(np.abs(ours - theirs).max() / np.ptp(theirs))


@pytest.mark.keras
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", ["LSTM unrolled", "GRU unrolled", "LSTM of Keras 2"])
def test_recurrent_layers_become_int8_through_the_second_quantizer(zoo: Zoo, name: str, ends: tuple[str, str]):
    """An unrolled layer, and Keras 2's fused LSTM, are int8 throughout with every kind of ends."""
    model, rows = float_model(zoo, name), uniform(40, 5, 3, seed=1)
    made = quantize(model, precision="int8", input_type=ends[0], output_type=ends[1], samples={"steps": rows})
    assert made.quantizer == "tflite-converter"
    assert (made.input_type, made.output_type) == ends
    # Five steps feed on each other's results, each of which is rounded to 1/256 of its range in some four places.
    assert worst(made.tflite, model, rows) < 5 * 4 / 2 / 256


@pytest.mark.keras
@pytest.mark.parametrize("name", ["LSTM unrolled", "GRU unrolled"])
def test_recurrent_layers_become_int16x8(zoo: Zoo, name: str):
    """Unrolled layers keep the int16x8 promise."""
    model, rows = float_model(zoo, name), uniform(40, 5, 3, seed=1)
    made = quantize(model, precision="int16x8", samples={"steps": rows})
    # Weights in int8 still round to 1/256 of a channel's range: half of that in each of ten factors.
    assert worst(made.tflite, model, rows) < 10 / 2 / 256


@pytest.mark.keras
@pytest.mark.parametrize("name", ["LSTM loop", "GRU loop"])
@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_loops_are_refused_before_the_quantizer_that_they_end(zoo: Zoo, name: str, precision: str):
    """A recurrent layer that stays a loop is refused with the way out, in this very process; float16 of it is made."""
    model = float_model(zoo, name)
    with pytest.raises(PromiseError, match=r"The model has a loop.*unroll=True"):
        quantize(model, precision=precision, samples={"steps": uniform(8, 5, 3)})
    assert quantize(model, precision="float16").quantizer == "ai-edge-quantizer"


@pytest.mark.keras
@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "int16x8"])
def test_token_ids_stay_integers(zoo: Zoo, precision: str):
    """A model of token ids is quantized behind its int32 input, and is tried out on ids that are in its table."""
    model = float_model(zoo, "embedding")
    tokens = np.random.default_rng(0).integers(0, 200, (40, 6)).astype(np.int32)
    made = quantize(model, precision=precision, samples={"tokens": tokens})
    assert made.input_type == "int32"
    assert worst(made.tflite, model, tokens) < 4 / 256


@pytest.mark.keras
@pytest.mark.parametrize("name", ["image", "LSTM unrolled"])
def test_several_rows_are_calibrated_together(zoo: Zoo, name: str):
    """A model of three static rows is calibrated three samples at a time, by either quantizer, and agrees with float."""
    shape = zoo.cases[name].samples[0].shape[1:]
    model, rows = float_model(zoo, name, batch=3), uniform(20, *shape, seed=2)
    made = quantize(model, precision="int8", samples={"x": rows})
    (ours,), (theirs,) = (run_tflite(content, [rows[:3]]) for content in (made.tflite, model))
    assert ours.shape[0] == 3
    assert np.abs(ours - theirs).max() < 5 * 4 / 2 / 256 * max(1.0, np.ptp(theirs))


@pytest.mark.keras
def test_free_batch_is_quantized_too(zoo: Zoo):
    """A model with a free batch is calibrated a sample at a time and keeps its free batch."""
    made = quantize(float_model(zoo, "image", batch=-1), precision="int8", samples={"image": uniform(20, 8, 8, 3)})
    assert read_model_card(made.tflite).inputs[0].shape_signature == (-1, 8, 8, 3)


@pytest.mark.keras
@pytest.mark.parametrize("activation", RARE)
def test_rare_activations_keep_the_int8_promise(zoo: Zoo, activation: str):
    """Activations of today's small networks are int8 by one quantizer or the other."""
    import keras

    keras.utils.set_random_seed(5)
    layers = keras.layers
    stack = [layers.Input((8, 8, 3), name="image"), layers.Conv2D(8, 3), layers.Activation(activation)]
    model = export_float(LoadedModel(keras.Sequential([*stack, layers.Flatten(), layers.Dense(4)]), "keras")).tflite
    rows = uniform(30, 8, 8, 3)
    assert worst(quantize(model, precision="int8", samples={"image": rows}).tflite, model, rows) < 8 / 256


@pytest.mark.keras
def test_pixels_of_uint8_models_become_quantized_inputs(zoo: Zoo):
    """A Keras model that takes uint8 pixels is a float32 model first, and takes uint8 again when quantized so."""
    model = float_model(zoo, "preprocessing")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype(np.float32)
    made = quantize(model, precision="int8", input_type="uint8", samples={"pixels": pixels})
    assert made.input_type == "uint8"
    assert worst(made.tflite, model, pixels) < 8 / 256


@pytest.mark.keras
def test_what_no_quantizer_converts_names_its_operators(zoo: Zoo):
    """Where both quantizers leave operators in float, the error lists them and keeps them as facts."""
    import keras

    keras.utils.set_random_seed(6)
    source = keras.layers.Input((6, 8), name="words")
    attended = keras.layers.MultiHeadAttention(2, 4)(source, source)
    model = export_float(LoadedModel(keras.Model(source, keras.layers.Activation("elu")(attended)), "keras")).tflite
    with pytest.raises(PromiseError, match=r"is int8 with float32.*ELU.*choose another precision") as caught:
        quantize(model, precision="int8", samples={"words": uniform(8, 6, 8)})
    assert any("ELU" in problem for problem in caught.value.problems)


@pytest.mark.keras
@pytest.mark.parametrize("module", ["tensorflow.lite.python.convert", "tensorflow.lite.python.optimize"])
def test_moved_private_module_is_said_so(zoo: Zoo, monkeypatch, module: str):
    """A TensorFlow that moved its private quantizer is named with its version and what to install."""
    package, _, name = module.rpartition(".")
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr(importlib.import_module(package), name, raising=False)
    attempts = quantize_mlir(dense_model(), precision="int8", input_type="float32", output_type="float32", samples={})
    with pytest.raises(
        PromiseError, match=r'TensorFlow 2\.\d+.* does not keep TFLite.s quantizer.*pip install "tensorflow'
    ):
        next(attempts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dense_model("float16"), r"expected a float32 \.tflite to quantize, got one with 1 tensors .*float16"),
        (dense_model("dynamic-int8"), r"got one with 1 tensors .*'kernel', int8\): start from the float model"),
        (build(Graph([Tensor("y", "float32", (1,), np.ones(1, np.float32))], [], (), (0,))), "got 0 and 1"),
    ],
    ids=["float16", "dynamic", "no input"],
)
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_only_whole_float_models_are_taken(content: bytes, message: str, precision: str):
    """Models that were converted already, or have no input, are refused at every precision with what to start from."""
    with pytest.raises(UnsupportedModelError, match=message):
        quantize(content, precision=precision)


def test_operator_of_ones_own_is_refused():
    """A custom operator is named before anything is run."""
    tensors = [Tensor("x", "float32", (1, 4)), Tensor("y", "float32", (1, 4))]
    custom = build(Graph(tensors, [Op("Mine", (0,), (1,), custom=True)], (0,), (1,)))
    with pytest.raises(UnsupportedModelError, match="got the custom operator 'Mine': no plain runtime knows it"):
        quantize(custom, precision="float16")


@pytest.mark.parametrize("side", ["input_type", "output_type"])
def test_unknown_end_types_list_the_choices(side: str):
    """A type at the ends that is none of the choices is refused with them."""
    with pytest.raises(UnsupportedModelError, match="to be one of float32, int8, uint8, got 'int16'"):
        quantize(dense_model(), precision="int8", **{side: "int16"})
