"""A .tflite taken apart and put together again."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters.errors import ModelFileError, TechniqueError
from edgekit_converters.int8 import surgery
from edgekit_converters.int8.surgery import ALIGNMENT, FlatModel
from edgekit_converters.model_card import read_model_card

from tests.converters.conftest import run_tflite
from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model

ROW = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)


def _sharing() -> bytes:
    """Two ADDs of one constant tensor, and a third of another tensor in the same buffer."""
    ones = np.ones((1, 4), np.float32)
    tensors = [
        Tensor("x", "float32", (1, 4)),
        Tensor("one", "float32", (1, 4), ones),
        Tensor("uno", "float32", (1, 4), ones),
    ]
    tensors += [Tensor(f"y{i}", "float32", (1, 4)) for i in range(3)]
    ops = [Op("ADD", (0, 1), (3,), schema.AddOptionsT()), Op("ADD", (3, 1), (4,), schema.AddOptionsT())]
    ops.append(Op("ADD", (4, 2), (5,), schema.AddOptionsT()))
    return build(Graph(tensors, ops, (0,), (5,), signature_key="serving_default"))


@pytest.mark.parametrize("make", [dense_model, conv_model, _sharing])
def test_unchanged_it_is_the_same_model(make) -> None:
    """Tensors, operators and signatures are as before, and so are the answers."""
    before, after = make(), FlatModel(make()).to_bytes()
    cards = [read_model_card(tflite) for tflite in (before, after)]
    row = np.random.default_rng(0).normal(size=cards[0].inputs[0].shape).astype(np.float32)

    for name in ("inputs", "outputs", "ops", "tensors", "signatures", "description"):
        assert getattr(cards[0], name) == getattr(cards[1], name)
    np.testing.assert_array_equal(run_tflite(before, [row])[0], run_tflite(after, [row])[0])


def test_constants_are_aligned() -> None:
    """Every constant begins at a multiple of 16 bytes, as the schema asks; runtimes read them in place."""
    tflite = FlatModel(_sharing()).to_bytes()
    model, base = schema.Model.GetRootAs(tflite, 0), np.frombuffer(tflite, np.uint8).ctypes.data
    starts = [
        model.Buffers(i).DataAsNumpy().ctypes.data - base
        for i in range(model.BuffersLength())
        if model.Buffers(i).DataLength()
    ]

    assert starts
    assert all(start % ALIGNMENT == 0 for start in starts)


def test_one_operator_s_constant_changes_alone() -> None:
    """Neither the other reader of its tensor nor the other tensor of its buffer sees the new values."""
    flat = FlatModel(_sharing())
    flat.set_operand(1, 1, np.full((1, 4), 10.0))
    flat.set_operand(2, 1, np.full((1, 4), 100.0))
    flat.set_operand(1, 1, np.full((1, 4), 20.0))

    np.testing.assert_array_equal(run_tflite(flat.to_bytes(), [ROW])[0], ROW + 1 + 20 + 100)
    assert [flat.constant(flat.inputs(op)[1])[0, 0] for op in range(3)] == [1, 20, 100]


def test_weights_behind_the_flatbuffer_are_brought_in() -> None:
    """Where large models keep their constants: they are read, and the file that is written needs nothing behind it."""
    kernel = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensors = [
        Tensor("x", "float32", (1, 4)),
        Tensor("kernel", "float32", (3, 4), kernel),
        Tensor("y", "float32", (1, 3)),
    ]
    op = Op("FULLY_CONNECTED", (0, 1, -1), (2,), schema.FullyConnectedOptionsT())
    flat = FlatModel(build(Graph(tensors, [op], (0,), (2,)), external=True))

    np.testing.assert_array_equal(flat.constant(1), kernel)
    np.testing.assert_allclose(run_tflite(flat.to_bytes(), [ROW])[0], ROW @ kernel.T, rtol=1e-5)


def test_computed_and_missing_tensors_have_no_values() -> None:
    """Only constants have; an operand that is left out is no tensor."""
    flat = FlatModel(dense_model())

    assert flat.constant(0) is None
    assert flat.constant(-1) is None


def test_what_is_no_model_or_too_large_is_refused(monkeypatch) -> None:
    """Rubbish, and more than a flatbuffer can hold."""
    with pytest.raises(ModelFileError):
        FlatModel(b"no model at all, but long enough")
    monkeypatch.setattr(surgery, "LARGEST_BYTES", 100)
    with pytest.raises(TechniqueError, match="at most 2 GB"):
        FlatModel(dense_model())
