"""Which operators the Edge TPU compiler absorbed, found from the original and the compiled file alone."""

from __future__ import annotations

import dataclasses

import pytest
from edgekit_converters.model_card import TensorCard
from edgekit_converters.targets.edgetpu.matching import placed_by_compiler
from edgekit_converters.targets.operators import Operator, OperatorGraph, read_operators

from tests.converters.edgetpu_models import chain
from tests.edgetpu_builder import compiled_model
from tests.tflite_builder import Graph, Op, Tensor, build

LONG = chain("QUANTIZE", "CONV", "RELU", "CONV", "LOGISTIC", "DEQUANTIZE")


def _found(original: bytes, compiled: bytes) -> tuple[bool, ...]:
    return placed_by_compiler(read_operators(original), read_operators(compiled))


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([[0, 1, 2, 3, 4, 5]], id="all"),
        pytest.param([[1, 2, 3, 4]], id="the-middle"),
        pytest.param([[1]], id="one"),
        pytest.param([[1, 2], [4]], id="two-pieces"),
    ],
)
def test_absorbed_operators_are_found(pieces: list[list[int]]) -> None:
    """Exactly the operators that went into the custom ones are found."""
    absorbed = {index for piece in pieces for index in piece}
    assert _found(LONG, compiled_model(LONG, pieces=pieces)) == tuple(i in absorbed for i in range(6))


def test_model_without_a_custom_operator_has_nothing_absorbed() -> None:
    """What the compiler wrote through unchanged has every operator on the processor."""
    assert _found(LONG, LONG) == (False,) * 6


def _twins() -> bytes:
    """Two RELUs that write tensors of the same name from different ones, and an ADD of both."""
    marks = ((0.5,), (0,))
    names = ("a", "b", "same", "same", "sum")
    tensors = [Tensor(name, "int8", (1, 4), None, *marks) for name in names]
    ops = [Op("RELU", (0,), (2,)), Op("RELU", (1,), (3,)), Op("ADD", (2, 3), (4,))]
    return build(Graph(tensors, ops, (0, 1), (4,)))


@pytest.mark.parametrize("left", [0, 1])
def test_operators_that_write_the_same_name_are_told_by_what_they_read(left: int) -> None:
    """Of two operators alike by type and output name, the one with the same inputs is the one that stays."""
    twins = _twins()
    absorbed = [1 - left] if left == 1 else [1, 2]
    expected = tuple(i in absorbed for i in range(3))
    assert _found(twins, compiled_model(twins, pieces=[absorbed])) == expected


def test_operator_whose_output_was_renamed_is_found_by_its_shape() -> None:
    """A compiler that gives the model's output another name does not make its operator look absorbed."""
    original = read_operators(LONG)
    compiled = read_operators(compiled_model(LONG, pieces=[[1, 2, 3, 4]]))
    renamed = [dataclasses.replace(op, outputs=tuple(map(_other_name, op.outputs))) for op in compiled.operators]
    assert placed_by_compiler(original, OperatorGraph(compiled.card, tuple(renamed))) == (
        False,
        True,
        True,
        True,
        True,
        False,
    )


def test_operator_of_another_model_matches_nothing() -> None:
    """An operator in the compiled file that the original has not leaves the others as they are."""
    original = read_operators(LONG)
    compiled = read_operators(compiled_model(LONG, pieces=[[0, 1, 2, 3, 4, 5]]))
    stranger = Operator(9, "TANH", 1, False, (), ())
    with_stranger = OperatorGraph(compiled.card, (*compiled.operators, stranger))
    assert placed_by_compiler(original, with_stranger) == (True,) * 6


def _other_name(tensor: TensorCard | None) -> TensorCard | None:
    return None if tensor is None else dataclasses.replace(tensor, name=f"renamed_{tensor.index}")
