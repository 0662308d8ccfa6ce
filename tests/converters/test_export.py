"""Float exports of models of every kind against Keras' own outputs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from edgekit_converters.errors import PromiseError, UnsupportedModelError
from edgekit_converters.export import export_float, export_saved_model
from edgekit_converters.load import ORDER_FILE, LoadedModel, load_model
from edgekit_converters.model_card import read_model_card
from edgekit_converters.reorder import reorder_interface
from edgekit_converters.verify import verify

from tests.converters.conftest import Zoo, run_tflite
from tests.converters.keras_zoo import Case, subclassed, uniform
from tests.converters.test_model_card import IDENTITY
from tests.tflite_builder import build

pytestmark = [
    pytest.mark.keras,
    # Keras 3 about a dict fed to the layers' names, and TensorFlow's converter about itself.
    pytest.mark.filterwarnings("ignore::UserWarning:keras"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow"),
]
CASES = (
    "image", "image of Keras 2", "multi", "multi of Keras 2", "dict", "dict of Keras 2", "nested",
    "preprocessing", "preprocessing of Keras 2",
    "embedding", "LSTM loop", "LSTM unrolled", "GRU loop", "GRU unrolled", "LSTM of Keras 2", "mixed precision",
    "mixed precision of Keras 2", "open shape", "called", "called of Keras 2", "called with a list",
    "called with a dict", "float64", "input as output",
)  # fmt: skip
FILES = (
    "keras3.keras", "keras3.h5", "keras2.keras", "keras2.h5", "old.h5", "multi.keras", "dict.keras", "mixed.keras",
    "exported", "multi-exported", "keras2-saved",
)  # fmt: skip
# Sums of up to a few hundred products, in another order: each rounds by at most half an eps of the largest value.
ADDITIONS = 200


def assert_same(tflite: bytes, case: Case) -> None:
    """The .tflite gives Keras' outputs, position by position, from one row."""
    found = run_tflite(tflite, case.samples)
    assert [value.shape for value in found] == [value.shape for value in case.expected]
    for ours, theirs in zip(found, case.expected, strict=True):
        largest = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=ADDITIONS / 2 * case.rounding * largest)


def assert_float(tflite: bytes) -> None:
    """Static shapes with one row, and float32 throughout."""
    card = read_model_card(tflite)
    assert all(tensor.shape_signature is None and tensor.shape[0] == 1 for tensor in card.inputs)
    verify(card, precision="float32", input_type="float32", output_type="float32")


def signature_names(tflite: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The signature's names in the order of the subgraph's inputs and outputs."""
    card = read_model_card(tflite)
    (signature,) = card.signatures
    sides = []
    for names, tensors in ((signature.inputs, card.inputs), (signature.outputs, card.outputs)):
        left = dict(names)
        ordered = []
        for tensor in tensors:
            name = next(key for key, index in left.items() if index == tensor.index)
            ordered.append(name)
            left.pop(name)
        sides.append(tuple(ordered))
    return sides[0], sides[1]


@pytest.mark.parametrize("name", CASES)
def test_model_in_memory_keeps_outputs_order_and_names(zoo: Zoo, name: str):
    """A converted model answers as Keras does, with inputs and outputs in the model's order and by Keras' names."""
    case = zoo.cases[name]
    made = export_float(LoadedModel(case.model, case.framework), shapes=case.shapes)
    assert_same(made.tflite, case)
    assert_float(made.tflite)
    inputs, outputs = signature_names(made.tflite)
    assert (inputs, outputs) == (case.inputs or inputs, case.outputs or outputs)
    assert made.framework == case.framework
    assert made.max_abs_diff is not None
    assert made.max_abs_diff < ADDITIONS * np.finfo(np.float32).eps


@pytest.mark.parametrize("name", CASES)
def test_model_in_memory_survives_the_way_through_a_saved_model(zoo: Zoo, name: str, tmp_path):
    """What another process gets from a model in memory is the same model, order and names kept."""
    case = zoo.cases[name]
    export_saved_model(case.model, tmp_path / "model", shapes=case.shapes)
    loaded = load_model(tmp_path / "model")
    made = export_float(loaded)
    assert_same(made.tflite, case)
    inputs, outputs = signature_names(made.tflite)
    assert (inputs, outputs) == (case.inputs or inputs, case.outputs or outputs)
    assert loaded.framework == "saved_model"


@pytest.mark.parametrize("name", FILES)
def test_file_gives_the_model_that_was_saved(zoo: Zoo, name: str):
    """Every kind of file, by whichever Keras, gives the outputs of the model that was saved."""
    path, saved = zoo.files[name]
    loaded = load_model(path)
    made = export_float(loaded)
    assert_same(made.tflite, zoo.cases[saved])
    assert_float(made.tflite)
    expected = "saved_model" if path.is_dir() else zoo.cases[saved].framework
    assert loaded.framework == made.framework == expected


def test_saved_model_of_a_module_with_a_free_batch(zoo: Zoo):
    """Two inputs and two outputs of a tf.Module, their batch free, become static; serving_default is chosen."""
    made = export_float(load_model(zoo.folder / "module"))
    aa, zz = uniform(1, 4, seed=3), uniform(1, 3, seed=4)
    w, u = uniform(3, 2), uniform(4, 2, seed=1)
    assert signature_names(made.tflite) == (("aa", "zz"), ("a", "z"))
    for ours, theirs in zip(run_tflite(made.tflite, [aa, zz]), (aa @ u, zz @ w + aa @ u), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert_float(made.tflite)


def test_only_signature_is_chosen_whatever_its_name(zoo: Zoo):
    """A single signature needs not be called serving_default."""
    assert signature_names(export_float(load_model(zoo.folder / "single")).tflite) == (("zz",), ("g",))


@pytest.mark.parametrize(
    ("name", "found"), [("undecided", "the signatures encode, other"), ("unsigned", "no signature")]
)
def test_saved_model_without_a_clear_signature_names_the_choices(zoo: Zoo, name: str, found: str):
    """Several signatures without a default, or none, are refused with what there is and how to save it right."""
    with pytest.raises(UnsupportedModelError, match=f"serving_default, or a single one, got {found}: save it again"):
        export_float(load_model(zoo.folder / name))


@pytest.mark.parametrize("content", ['["a"]', '{"inputs": 3}', '{"inputs": ["nobody"], "outputs": []}', "\x00"])
def test_order_file_of_another_model_is_ignored(zoo: Zoo, tmp_path, content: str):
    """A damaged order beside a SavedModel changes nothing."""
    export_saved_model(zoo.cases["image"].model, tmp_path / "model")
    (tmp_path / "model" / ORDER_FILE).write_text(content)
    assert_same(export_float(load_model(tmp_path / "model")).tflite, zoo.cases["image"])


@pytest.mark.parametrize("rows", [3, -1])
def test_batch_is_what_was_asked_for(zoo: Zoo, rows: int):
    """Several static rows are independent; -1 leaves the batch free."""
    case = zoo.cases["image"]
    made = export_float(LoadedModel(case.model, "keras"), batch=rows)
    (tensor,) = read_model_card(made.tflite).inputs
    if rows == -1:
        assert (tensor.shape_signature, made.max_abs_diff) == ((-1, 8, 8, 3), None)
        assert_same(made.tflite, case)
    else:
        images = uniform(rows, 8, 8, 3, seed=5)
        (found,) = run_tflite(made.tflite, [images])
        np.testing.assert_allclose(found, np.asarray(case.model(images)), atol=1e-5)


def test_unbuilt_sequential_is_built_from_the_data(zoo: Zoo):
    """A Sequential without an Input takes its shape from the samples, and says so where there are none."""
    import keras

    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3, name="out")])
    with pytest.raises(UnsupportedModelError, match="Sequential has no known input shape: give it data"):
        export_float(LoadedModel(model, "keras"))
    made = export_float(LoadedModel(model, "keras"), shapes={"x": [8, 8, 3]})
    image = uniform(1, 8, 8, 3)
    assert_same(made.tflite, Case(model, [image], [np.asarray(model(image))]))


def test_model_that_does_not_fit_the_data_says_so(zoo: Zoo):
    """Samples a model cannot be called with are named with their shape and the layer's own reason."""
    import keras

    model = keras.Sequential([keras.layers.Conv2D(2, 3)])
    with pytest.raises(UnsupportedModelError, match=r"cannot be built from samples of shape x \(7,\): .*Give data"):
        export_float(LoadedModel(model, "keras"), shapes={"x": [7]})
    with pytest.raises(UnsupportedModelError, match="Subclassed has no known input shape"):
        export_float(LoadedModel(subclassed(keras, "tensor"), "keras"))


def test_open_dimensions_need_data(zoo: Zoo):
    """Open dimensions without samples, or with samples of another rank, are named."""
    loaded = LoadedModel(zoo.cases["open shape"].model, "keras")
    with pytest.raises(UnsupportedModelError, match=r"'picture' has unknown dimensions \(None, None, None, 3\): give"):
        export_float(loaded)
    with pytest.raises(UnsupportedModelError, match=r"got samples of shape \(8,\): give data of the wanted shape"):
        export_float(loaded, shapes={"picture": [8]})


def test_mixed_precision_model_is_left_as_it_was(zoo: Zoo):
    """Converting a mixed precision model does not change the user's model."""
    for name in ("mixed precision", "mixed precision of Keras 2"):
        case = zoo.cases[name]
        export_float(LoadedModel(case.model, case.framework))
        assert {layer.compute_dtype for layer in case.model.layers} == {"float16"}
        np.testing.assert_array_equal(flat_of(case), case.expected[0])


def flat_of(case: Case) -> np.ndarray:
    """What the model answers now."""
    return np.asarray(case.model(case.samples[0], training=False))


@pytest.mark.parametrize("way", ["directly", "through a SavedModel"])
def test_operators_that_tflite_lacks_are_named(zoo: Zoo, tmp_path, way: str):
    """A model that would need select TensorFlow is refused with the operator's name and what to do."""
    import keras

    source = keras.layers.Input((4,), name="x")
    model = keras.Model(source, keras.ops.erf(source))
    loaded = LoadedModel(model, "keras")
    if way != "directly":
        export_saved_model(model, tmp_path / "erf")
        loaded = load_model(tmp_path / "erf")
    with pytest.raises(UnsupportedModelError, match="TFLite has no operator for Erf: replace the layers that use"):
        export_float(loaded)


def test_words_are_refused_with_advice(zoo: Zoo, tmp_path):
    """A string lookup inside the model is refused both ways, in one line that says where to put it."""
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((1,), dtype="string"), layers.StringLookup(vocabulary=["a", "b"]), layers.Embedding(4, 2)]
    )
    with pytest.raises(UnsupportedModelError, match=r"TFLite has no operator for .*LookupTableFindV2"):
        export_float(LoadedModel(model, "keras"))
    with pytest.raises(UnsupportedModelError, match="Look words up before the model") as caught:
        export_saved_model(model, tmp_path / "words")
    assert "\n" not in str(caught.value)


def test_layer_that_fails_when_traced_gives_its_own_reason(zoo: Zoo):
    """An error inside a model's own code arrives as one line with that error."""
    import keras

    class Broken(keras.Model):
        def call(self, inputs, training=False):
            if not hasattr(inputs, "numpy"):  # only eager tensors have it
                raise ValueError("the moon is in the wrong house")
            return inputs

    model = Broken()
    model(np.zeros((1, 4), np.float32))
    with pytest.raises(UnsupportedModelError, match=r"cannot be traced with static shapes: .*wrong house"):
        export_float(LoadedModel(model, "keras"))


def test_what_is_no_keras_model_is_refused(tmp_path):
    """Anything else in memory is refused by its type."""
    with pytest.raises(UnsupportedModelError, match=r"expected a Keras model or a path, got builtins\.dict"):
        export_saved_model({}, tmp_path / "x")


def test_order_needs_the_names_of_the_signature():
    """Names the converted model lacks are an error, never a silent alphabetical order."""
    unsigned = build(IDENTITY)
    with pytest.raises(PromiseError, match="expected one signature in the converted model, got 0"):
        reorder_interface(unsigned, ["x"], ["y"])


def test_saved_order_is_on_disk(zoo: Zoo, tmp_path):
    """The order of a model in memory travels beside its SavedModel, by name, and so do the names of its layers."""
    export_saved_model(zoo.cases["multi"].model, tmp_path / "model")
    order = json.loads((tmp_path / "model" / ORDER_FILE).read_text())
    origin = order.pop("origin")
    assert order == {"inputs": ["zeta", "alpha", "mid"], "outputs": ["z_out", "a_out", "m_out"]}
    assert origin["framework"] == "keras"
    assert {"shared", "z_out", "a_out", "m_out"} <= set(origin["layers"])
