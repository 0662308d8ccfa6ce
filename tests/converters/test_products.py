"""Negations and squares as products: the same values, and models that could not be int8 can."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters.errors import ModelFileError
from edgekit_converters.model_card import read_model_card
from edgekit_converters.products import write_products

from tests.converters.conftest import run_tflite
from tests.tflite_builder import Graph, Op, Tensor, build, conv_model

ROW = np.array([[1.5, -2.25, 0.0, -0.0, 1e15]], np.float32)


def _chain(dtype: str = "float32") -> bytes:
    """(-(x + x)) ** 2, negated once more: an operator between those replaced."""
    tensors = [Tensor(name, dtype, (1, 5)) for name in ("x", "s", "n", "q", "y")]
    ops = [
        Op("ADD", (0, 0), (1,), schema.AddOptionsT()),
        Op("NEG", (1,), (2,)),
        Op("SQUARE", (2,), (3,)),
        Op("NEG", (3,), (4,)),
    ]
    return build(Graph(tensors, ops, (0,), (4,), signature_key="serving_default"))


def test_each_is_a_product_in_its_place() -> None:
    """The order of operators stays, the codes of NEG and SQUARE are gone, and the answers are equal."""
    before, after = _chain(), write_products(_chain())
    codes = schema.Model.GetRootAs(after, 0)

    assert [op.type for op in read_model_card(after).ops] == ["ADD", "MUL", "MUL", "MUL"]
    assert [op.outputs for op in read_model_card(after).ops] == [op.outputs for op in read_model_card(before).ops]
    assert codes.OperatorCodesLength() == 2
    for tflite in (before, after):
        np.testing.assert_array_equal(run_tflite(tflite, [ROW])[0], -((-2 * ROW) ** 2))


@pytest.mark.parametrize("make", [lambda: _chain("int32"), conv_model])
def test_what_has_none_comes_back_as_it_was(make) -> None:
    """Integers are left alone: not a byte changes."""
    assert write_products(make()) == make()


def test_bytes_that_are_no_model_are_named() -> None:
    """As everywhere: what was expected and what came."""
    with pytest.raises(ModelFileError, match="TFL3"):
        write_products(b"not a model")


@pytest.mark.keras
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("LayerNormalization", {}),
        ("GroupNormalization", {"groups": 4}),
        ("RMSNormalization", {}),
        ("UnitNormalization", {}),
    ],
)
def test_a_normalization_becomes_int8(zoo, name: str, how: dict[str, int]) -> None:
    """No quantizer has NEG or SQUARE in int8; as products the whole layer is int8, near the float model."""
    import keras
    from edgekit_converters.export import export_float
    from edgekit_converters.load import LoadedModel
    from edgekit_converters.quantize import quantize

    keras.utils.set_random_seed(9)
    layers = keras.layers
    source = layers.Input((12, 8), name="x")
    normed = getattr(layers, name)(**how)(layers.Conv1D(8, 3, padding="same")(source))
    model = keras.Model(source, layers.Dense(4)(layers.GlobalAveragePooling1D()(normed)))
    float_model = export_float(LoadedModel(model, "keras")).tflite
    rows = np.random.default_rng(0).normal(size=(64, 12, 8)).astype(np.float32)
    made = quantize(float_model, precision="int8", samples={"x": rows}).tflite
    answers = np.array([run_tflite(made, [row[None]])[0] for row in rows])
    expected = np.asarray(model(rows))[:, None]

    assert not {"NEG", "SQUARE"} & {op.type for op in read_model_card(float_model).ops}
    # A dozen roundings in a row, each half a step of 1/255 of its range at most, add up to a few hundredths of the output's.
    assert np.abs(answers - expected).max() < 0.1 * np.ptp(expected)
