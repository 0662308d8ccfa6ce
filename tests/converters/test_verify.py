"""Every promise of a precision, kept by a model that keeps it and broken by one that does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters.errors import PromiseError
from edgekit_converters.model_card import ModelCard, read_model_card
from edgekit_converters.verify import PRECISIONS, verify

from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model

NATIVE_TYPES = {
    "float32": "float32",
    "float16": "float32",
    "dynamic-int8": "float32",
    "int8": "int8",
    "int16x8": "int16",
}
Q = {"scales": (0.5,), "zero_points": (0,)}


def card_of(tensors, ops, inputs=(0,), outputs=(1,)) -> ModelCard:
    """The card of a model of one subgraph."""
    return read_model_card(build(Graph(tensors, ops, inputs, outputs)))


def problems_of(card: ModelCard, precision: str, io_type: str = "") -> tuple[str, ...]:
    """Every problem ``verify`` finds, or none."""
    io_type = io_type or NATIVE_TYPES[precision]
    try:
        verify(card, precision=precision, input_type=io_type, output_type=io_type)
    except PromiseError as error:
        return error.problems
    return ()


def retyped(card: ModelCard, index: int, **changes) -> ModelCard:
    """The card with one tensor of the first subgraph changed."""
    tensors = list(card.tensors)
    tensors[index] = dataclasses.replace(tensors[index], **changes)
    return dataclasses.replace(card, tensors=tuple(tensors))


@pytest.mark.parametrize("promised", PRECISIONS)
@pytest.mark.parametrize("made", [precision for precision in PRECISIONS if precision != "mixed-int8"])
def test_a_dense_model_keeps_exactly_its_own_promise(made, promised):
    """A model of one precision passes as that one and as no other, even when its ends would fit."""
    card = read_model_card(dense_model(made))
    assert (problems_of(card, promised, NATIVE_TYPES[made]) == ()) == (made == promised)


@pytest.mark.parametrize(
    ("precision", "io_type"), [("int8", "float32"), ("int8", "uint8"), ("int16x8", "float32"), ("int16x8", "int8")]
)
def test_ends_may_differ_behind_quantize(precision, io_type):
    """Float32 or uint8 ends are fine where a QUANTIZE or DEQUANTIZE meets them, and only as the type asked for."""
    card = read_model_card(dense_model(precision, io_type))
    assert problems_of(card, precision, io_type) == ()
    native = NATIVE_TYPES[precision]
    assert problems_of(card, precision, native)[0] == f"input 0 'input_end' is {io_type}, not {native}"


def test_message_names_the_first_and_counts_the_rest():
    """The message says what was expected, shows three problems, counts the others, and says what to do."""
    tensors = [Tensor(f"t{i}", "float32", (1, 4)) for i in range(6)]
    card = card_of(tensors, [Op("RELU", (i,), (i + 1,)) for i in range(5)], (0,), (5,))
    with pytest.raises(PromiseError) as caught:
        verify(card, precision="int8", input_type="float32", output_type="float32")
    assert len(caught.value.problems) == 6
    assert str(caught.value) == (
        "expected a model that is int8 with float32 input and float32 output, got 6 problems: "
        "op 0 RELU works on tensor 0 't0' (float32); op 1 RELU works on tensor 1 't1' (float32); "
        "op 2 RELU works on tensor 2 't2' (float32); and 3 more: "
        "choose another precision, or replace the layer these come from"
    )


def test_long_names_are_shortened_in_messages():
    """A tensor's name takes at most 60 characters of a message."""
    tensors = [Tensor("x" * 150, "float32", (1, 4)), Tensor("y", "float32", (1, 4))]
    problem = problems_of(card_of(tensors, [Op("RELU", (0,), (1,))]), "int8", "float32")[0]
    assert problem == f"op 0 RELU works on tensor 0 '{'x' * 57}...' (float32)"


@pytest.mark.parametrize("name", ["precision", "input_type", "output_type"])
def test_unknown_choice_lists_the_valid_ones(name):
    """A name that is none of the choices is an error that lists them, never a default."""
    choices = {"precision": "float32", "input_type": "float32", "output_type": "float32", name: "int9"}
    with pytest.raises(ValueError, match=f"expected {name} to be one of float32, .*got 'int9'"):
        verify(read_model_card(dense_model()), **choices)


@pytest.mark.parametrize(
    ("custom", "problem"),
    [
        ("FlexErf", "op 0 FlexErf needs the select-TensorFlow runtime"),
        ("MyOp", "op 0 MyOp is a custom operator no plain runtime knows"),
    ],
)
def test_custom_operators_are_refused(custom, problem):
    """No custom operator passes, and one of select TensorFlow is called that."""
    tensors = [Tensor("x", "float32", (1, 4)), Tensor("y", "float32", (1, 4))]
    assert problems_of(card_of(tensors, [Op(custom, (0,), (1,), custom=True)]), "float32") == (problem,)


def test_custom_operator_in_a_loop_body_is_seen():
    """A custom operator hidden in a further subgraph is refused too, and the subgraph named."""
    tensors = [Tensor("x", "float32", (1, 4)), Tensor("y", "float32", (1, 4))]
    first = Graph(tensors, [Op("RELU", (0,), (1,))], (0,), (1,))
    body = Graph(tensors, [Op("FlexErf", (0,), (1,), custom=True)], (0,), (1,))
    problems = problems_of(read_model_card(build(first, body)), "float32")
    assert problems == ("op 0 FlexErf of subgraph 1 needs the select-TensorFlow runtime",)


def test_float_loop_body_breaks_int8():
    """An int8 model whose further subgraph computes in float32 is no int8 model."""
    tensors = [Tensor("x", "int8", (1, 4), **Q), Tensor("y", "int8", (1, 4), **Q)]
    floats = [Tensor("u", "float32", (1, 4)), Tensor("v", "float32", (1, 4))]
    graphs = [Graph(pair, [Op("RELU", (0,), (1,))], (0,), (1,)) for pair in (tensors, floats)]
    problems = problems_of(read_model_card(build(*graphs)), "int8")
    assert problems == ("op 0 RELU of subgraph 1 works on tensor 0 'u' (float32)",)


def test_token_ids_and_class_indices_stay_integers():
    """An input of token ids and an output that is an index keep int32 and int64 under every precision."""
    ids, table = Tensor("ids", "int32", (4,)), Tensor("table", "int8", (5, 8), np.ones((5, 8), np.int8), **Q)
    tensors = [ids, Tensor("best", "int64", (4,)), table, Tensor("rows", "int8", (4, 8), **Q)]
    axis = Tensor("axis", "int32", (1,), np.array([1], np.int32))
    ops = [Op("EMBEDDING_LOOKUP", (0, 2), (3,)), Op("ARG_MAX", (3, 4), (1,), schema.ArgMaxOptionsT())]
    assert problems_of(card_of([*tensors, axis], ops), "int8", "float32") == ()


def test_integer_end_without_a_scale_is_refused():
    """An int8 input of an int8 model without a scale cannot be fed by anybody."""
    tensors = [Tensor("x", "int8", (1, 4)), Tensor("y", "int8", (1, 4), **Q)]
    problems = problems_of(card_of(tensors, [Op("RELU", (0,), (1,))]), "int8")
    assert problems == ("input 0 'x' is int8 without a scale",)


def test_float_island_in_int8_is_named():
    """An operator left in float32 between DEQUANTIZE and QUANTIZE breaks the int8 promise."""
    q, f = [Tensor(n, "int8", (1, 4), **Q) for n in "abc"], [Tensor(n, "float32", (1, 4)) for n in "uv"]
    ops = [Op("RELU", (0,), (2,)), Op("DEQUANTIZE", (2,), (3,)), Op("EXP", (3,), (4,)), Op("QUANTIZE", (4,), (1,))]
    problems = problems_of(card_of([*q, *f], ops), "int8")
    assert problems == (
        "op 1 DEQUANTIZE works on tensor 3 'u' (float32)",
        "op 2 EXP works on tensor 3 'u' (float32)",
        "op 3 QUANTIZE works on tensor 4 'v' (float32)",
    )


def test_hybrid_layer_between_float_ends_is_not_int8():
    """A single layer with int8 weights but float32 ends, no QUANTIZE between, is not int8."""
    problems = problems_of(read_model_card(dense_model("dynamic-int8")), "int8", "float32")
    assert "op 0 FULLY_CONNECTED works on tensor 0 'input' (float32)" in problems
    assert problems[-1] == "no operator works on quantized int8"


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_nothing_quantized_is_refused(precision):
    """A model that only converts at its ends keeps no integer promise."""
    dtype = NATIVE_TYPES[precision]
    tensors = [Tensor("x", "float32", (1,)), Tensor("y", "float32", (1,)), Tensor("q", dtype, (1,), **Q)]
    problems = problems_of(
        card_of(tensors, [Op("QUANTIZE", (0,), (2,)), Op("DEQUANTIZE", (2,), (1,))]), precision, "float32"
    )
    assert problems == (f"no operator works on quantized {dtype}",)


def test_int8_kernel_and_bias_must_be_what_kernels_take():
    """A kernel without a scale and a bias in int64 break the int8 promise."""
    card = read_model_card(dense_model("int8"))
    (kernel,) = problems_of(retyped(card, 1, scales=()), "int8")
    assert kernel == "op 0 FULLY_CONNECTED has a kernel that is not int8 with a scale: tensor 1 'kernel' (int8)"
    (bias,) = problems_of(retyped(card, 2, dtype="int64"), "int8")
    assert bias == "op 0 FULLY_CONNECTED has a bias that is not int32: tensor 2 'bias' (int64)"
    assert problems_of(retyped(read_model_card(dense_model("int16x8")), 2, dtype="int32"), "int16x8") == ()


def test_int8_lstm_keeps_its_state_in_int16():
    """The int16 cell state of an int8 LSTM is part of the int8 promise; of another operator it is not."""
    tensors = [Tensor("x", "int8", (1, 4), **Q), Tensor("y", "int8", (1, 4), **Q), Tensor("c", "int16", (1, 4), **Q)]
    assert problems_of(card_of(tensors, [Op("UNIDIRECTIONAL_SEQUENCE_LSTM", (0, 2), (1,))]), "int8") == ()
    assert len(problems_of(card_of(tensors, [Op("ADD", (0, 2), (1,))]), "int8")) == 1


def test_large_float_kernel_breaks_float16_and_dynamic():
    """One kernel of 2,048 elements left in float32 breaks both promises, whatever else was converted."""
    values, other = np.ones((32, 64), np.float32), np.ones((2,), np.int8)
    tensors = [
        Tensor("x", "float32", (1, 64)),
        Tensor("y", "float32", (1, 32)),
        Tensor("w", "float32", (32, 64), values),
    ]
    op = Op("FULLY_CONNECTED", (0, 2, -1), (1,))
    dynamic = card_of([*tensors, Tensor("o", "int8", (2,), other, **Q)], [op])
    kernel = "op 0 FULLY_CONNECTED has a kernel of 2048 elements that is not {}: tensor 2 'w' (float32)"
    assert problems_of(dynamic, "dynamic-int8") == (kernel.format("int8"),)
    half = card_of([*tensors, Tensor("o", "float16", (2,), other.astype(np.float16))], [op])
    assert problems_of(half, "float16") == (kernel.format("float16"),)


@pytest.mark.parametrize(("precision", "dtype"), [("float16", "float16"), ("dynamic-int8", "int8")])
def test_nothing_converted_is_refused(precision, dtype):
    """A small float32 model whose kernels all stay float32 is not called by the smaller name."""
    assert problems_of(read_model_card(conv_model()), precision) == (f"no constant is {dtype}",)
    assert problems_of(read_model_card(conv_model(precision)), precision) == ()


def test_float16_must_pass_a_dequantize():
    """A float16 kernel read by a layer itself, which plain runtimes refuse, breaks the float16 promise."""
    tensors = [Tensor("x", "float32", (1, 4)), Tensor("y", "float32", (1, 2))]
    half = Tensor("w", "float16", (2, 4), np.ones((2, 4), np.float16))
    problems = problems_of(card_of([*tensors, half], [Op("FULLY_CONNECTED", (0, 2, -1), (1,))]), "float16")
    assert problems == ("op 0 FULLY_CONNECTED reads tensor 2 'w' (float16) without a DEQUANTIZE",)


def test_dynamic_kernel_needs_a_scale_and_a_float_bias():
    """In a dynamic-int8 model a kernel without a scale, or a quantized bias, is refused."""
    card = read_model_card(dense_model("dynamic-int8"))
    kernel = problems_of(retyped(card, 1, scales=()), "dynamic-int8")
    assert kernel == ("op 0 FULLY_CONNECTED has a kernel without a scale: tensor 1 'kernel' (int8)",)
    bias = problems_of(retyped(card, 2, dtype="int32"), "dynamic-int8")
    assert bias == ("op 0 FULLY_CONNECTED has a bias that is not float32: tensor 2 'bias' (int32)",)


def test_quantized_integers_are_not_float32():
    """An int32 tensor with a scale is a quantized bias, which a float32 model has no place for."""
    problems = problems_of(retyped(read_model_card(dense_model()), 2, dtype="int32", scales=(0.5,)), "float32")
    assert problems == ("tensor 2 'bias' (int32) is quantized",)


def _row_of(*dtypes: str) -> tuple[list[Tensor], list[Op]]:
    """TANH after TANH, each on a dtype, with QUANTIZE or DEQUANTIZE where two differ."""
    scaled = {"int8": Q, "int16": {"scales": (0.5,), "zero_points": (0,)}, "float32": {}}
    tensors, ops = [Tensor("t0", dtypes[0], (1, 4), **scaled[dtypes[0]])], []
    for dtype in dtypes:
        last = tensors[-1].dtype
        if dtype != last:
            tensors.append(Tensor(f"t{len(tensors)}", dtype, (1, 4), **scaled[dtype]))
            kind = "DEQUANTIZE" if dtype == "float32" else "QUANTIZE"
            ops.append(Op(kind, (len(tensors) - 2,), (len(tensors) - 1,)))
        tensors.append(Tensor(f"t{len(tensors)}", dtype, (1, 4), **scaled[dtype]))
        ops.append(Op("TANH", (len(tensors) - 2,), (len(tensors) - 1,)))
    return tensors, ops


def _mixed(*dtypes: str) -> ModelCard:
    tensors, ops = _row_of(*dtypes)
    return card_of(tensors, ops, (0,), (len(tensors) - 1,))


@pytest.mark.parametrize(
    "dtypes", [("int8", "float32", "int8"), ("int8", "int16", "int8"), ("int8", "int16", "float32", "int8")]
)
def test_a_mixed_model_has_operators_of_each_kind_with_boundaries_between(dtypes):
    """Operators in int8 beside some in float32 or int16, where QUANTIZE and DEQUANTIZE stand between."""
    assert problems_of(_mixed(*dtypes), "mixed-int8", "int8") == ()


@pytest.mark.parametrize(
    ("dtypes", "problem"),
    [
        (("int8", "int8"), "no operator is kept out of int8: it is an int8 model"),
        (("float32", "float32"), "no operator works on quantized int8"),
    ],
)
def test_a_model_of_one_kind_is_not_mixed(dtypes, problem):
    """All int8 is int8, and without any int8 there is no mixture."""
    assert problem in problems_of(_mixed(*dtypes), "mixed-int8", dtypes[0])


def test_operators_between_two_kinds_break_a_mixed_model():
    """An operator that reads int8 and writes float32, or a float layer with an int8 kernel, is neither."""
    tensors = [Tensor("x", "int8", (1, 4), **Q), Tensor("y", "float32", (1, 4))]
    assert "op 0 TANH works on tensor 1 'y' (float32)" in problems_of(
        card_of(tensors, [Op("TANH", (0,), (1,))]), "mixed-int8", "int8"
    )
    hybrid = problems_of(read_model_card(dense_model("dynamic-int8")), "mixed-int8", "float32")
    assert "op 0 FULLY_CONNECTED works on tensor 1 'kernel' (int8)" in hybrid


@pytest.mark.parametrize(
    ("kernel", "bias", "problem"),
    [
        ("float32", "int32", "works on tensor 1 'w' (float32)"),
        ("int8", "float32", "works on tensor 2 'b' (float32)"),
        ("int8", "int64", "has a bias that is not int32: tensor 2 'b' (int64)"),
    ],
)
def test_quantized_layers_of_a_mixed_model_have_quantized_constants(kernel, bias, problem):
    """An int8 layer beside float ones takes an int8 kernel and an int32 bias, as in an int8 model."""
    tensors, ops = _row_of("float32", "int8")
    tensors += [
        Tensor("w", kernel, (4, 4), np.ones((4, 4), kernel), **(Q if kernel == "int8" else {})),
        Tensor("b", bias, (4,), np.ones(4, bias), **(Q if bias != "float32" else {})),
        Tensor("y", "int8", (1, 4), **Q),
    ]
    last = len(tensors) - 4
    ops.append(Op("FULLY_CONNECTED", (last, last + 1, last + 2), (last + 3,), schema.FullyConnectedOptionsT()))
    found = problems_of(card_of(tensors, ops, (0,), (last + 3,)), "mixed-int8", "float32")
    assert any(
        problem.replace("tensor 1", f"tensor {last + 1}").replace("tensor 2", f"tensor {last + 2}") in one
        for one in found
    )


@pytest.mark.parametrize(
    ("kept", "problems"),
    [
        ({"float32": {"TANH": 1}, "int16": {"TANH": 1}}, ()),
        ({"float32": {"TANH": 1}}, ("1 TANH work on int16, to be kept so were 0",)),
        (
            {"float32": {"TANH": 2, "ADD": 1}, "int16": {"TANH": 1}},
            ("0 ADD work on float32, to be kept so were 1", "1 TANH work on float32, to be kept so were 2"),
        ),
    ],
)
def test_no_more_and_no_fewer_operators_are_kept_than_were_to_be(kept, problems):
    """What was to be kept is counted by type: a quantizer that left out others, or did not keep these, is found out."""
    card = _mixed("int8", "int16", "float32", "int8")
    try:
        verify(card, precision="mixed-int8", input_type="int8", output_type="int8", kept=kept)
        found = ()
    except PromiseError as error:
        found = error.problems
    assert found == problems
