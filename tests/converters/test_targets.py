"""Targets as data: names, what a table takes over from another, and what a processor runs."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters import ModelFileError, TargetError, UnknownTargetError, read_model_card
from edgekit_converters.targets.compiling import compile_for
from edgekit_converters.targets.operators import MOST_VALUES, read_operators
from edgekit_converters.targets.preflight import preflight
from edgekit_converters.targets.target import KINDS, find_target, targets
from edgekit_converters.verify import PRECISIONS

from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model

ISSUE = [
    "raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero-2", "coral-usb", "coral-pcie", "coral-dev-board", "ethos-u55-32",
    "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65", "ethos-u85", "micro", "generic-linux-arm64",
    "generic-linux-armv7", "generic-linux-x86-64",
]  # fmt: skip


@pytest.mark.parametrize("name", [*ISSUE, "coral"])
def test_every_target_is_there_and_sound(name: str) -> None:
    """Its words are those that the converters know, so that a plan made of them can be carried out."""
    target = targets()[name]

    assert find_target(name) is target
    assert target.kind in KINDS
    assert set(target.precisions) <= set(PRECISIONS)
    assert set(target.input_types) | set(target.output_types) <= {"float32", "int8", "uint8"}
    assert bool(target.compiler) == (target.kind != "cpu")
    assert target.title
    assert target.batch == 1


def test_a_table_takes_over_what_it_does_not_say() -> None:
    """All but the names it is also called by."""
    base, usb = targets()["coral"], targets()["coral-usb"]

    assert (usb.link, base.link) == ("usb", "")
    assert usb.parameter_memory_bytes == base.parameter_memory_bytes == 8 * 2**20
    assert usb.aliases == ()
    assert find_target(" EdgeTPU ") is base
    assert find_target("ethos-u85-256").config == "ethos-u85-256"


def test_an_unknown_target_is_answered_with_what_was_meant() -> None:
    """And with all there are."""
    with pytest.raises(UnknownTargetError, match=r"did you mean 'coral-usb'.*micro") as caught:
        find_target("coral-ubs")

    assert caught.value.choices == tuple(targets())
    assert caught.value.exit_code == 2


def test_operators_are_read_with_options_and_small_constants() -> None:
    """As the schema names them; weights are left in the file."""
    options = schema.StridedSliceOptionsT()
    options.ellipsisMask = 5
    image = Tensor("x", "int8", (1, 4), scales=(0.5,), zero_points=(3,))
    begin = Tensor("begin", "int32", (2,), np.array([0, 1], np.int32))
    much = Tensor("much", "int32", (MOST_VALUES + 1,), np.zeros(MOST_VALUES + 1, np.int32))
    out = Tensor("y", "int8", (1, 3), scales=(0.5,), zero_points=(3,))
    graph = Graph([image, begin, much, out], [Op("STRIDED_SLICE", (0, 1, 2, -1), (3,), options, version=2)], (0,), (3,))
    (op,) = read_operators(build(graph)).operators

    assert (op.type, op.version, op.custom) == ("STRIDED_SLICE", 2, False)
    assert op.options["EllipsisMask"] == 5
    assert op.options["NewAxisMask"] == 0
    assert {place: values.tolist() for place, values in op.constants.items()} == {1: [0, 1]}
    assert [tensor.name for tensor in op.computed_inputs] == ["x"]
    assert [tensor.name for tensor in op.constant_inputs] == ["begin", "much"]
    assert op.inputs[3] is None
    assert [tensor.name for tensor in op.operands] == ["x", "begin", "much", "y"]


def test_the_operators_are_those_of_the_card() -> None:
    """One reader stands on the other."""
    content = conv_model("int8")

    assert [(op.type, op.version, op.macs) for op in read_operators(content).operators] == [
        (op.type, op.version, op.macs) for op in read_model_card(content).ops
    ]


@pytest.mark.parametrize("cut", [40, 200, 400])
def test_damaged_files_are_named_as_such(cut: int) -> None:
    """Whatever is missing."""
    with pytest.raises(ModelFileError):
        read_operators(conv_model("int8")[:cut])


def test_a_processor_runs_builtin_operators_alone() -> None:
    """A custom operator is named, with what to do; what the runtimes have built in runs."""
    pi = find_target("raspberry-pi-4")
    plain = preflight(dense_model("int8"), pi)
    assert (plain.on_target, plain.on_cpu, plain.refusal, plain.fully_on_target) == (1, 0, "", True)

    found = preflight(_with_custom("FlexErf", "TFLite_Detection_PostProcess", "edgetpu-custom-op"), pi)
    assert [op.placement for op in found.ops] == ["unsupported", "cpu", "unsupported"]
    assert found.first_off_target == 0
    assert found.refusal == "no runtime of raspberry-pi-4 has the operator FlexErf"
    assert "Edge TPU" in found.ops[2].reason
    assert not found.fully_on_target


def test_an_armv7_board_is_told_of_its_runtime() -> None:
    """LiteRT has no wheel for it."""
    assert any(
        "tflite-runtime" in text for text in preflight(dense_model(), find_target("generic-linux-armv7")).warnings
    )


def test_a_processor_compiles_nothing() -> None:
    """There is nothing to compile, which is said with what to do instead."""
    with pytest.raises(TargetError, match=r"nothing to compile.*edgekit bench") as caught:
        compile_for({"m": dense_model()}, find_target("raspberry-pi-5"))

    assert caught.value.exit_code == 2


def _with_custom(*names: str) -> bytes:
    """A chain of custom operators."""
    tensors = [Tensor(f"t{i}", "float32", (1, 4)) for i in range(len(names) + 1)]
    ops = [Op(name, (i,), (i + 1,), custom=True) for i, name in enumerate(names)]
    return build(Graph(tensors, ops, (0,), (len(names),)))
