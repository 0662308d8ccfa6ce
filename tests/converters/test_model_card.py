"""The model card against models built by hand, and against bytes that are no model."""

from __future__ import annotations

import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters.errors import MissingPackageError, ModelFileError
from edgekit_converters.model_card import enum_names, read_model_card
from edgekit_converters.op_costs import count_elements, count_macs

from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model, depthwise_model

DENSE_PARAMETERS = 64 * 32 + 32
CONV_PARAMETERS = 5 * 3 * 3 * 3 + 5
CONV_MACS = (8 * 8 * 5) * (3 * 3 * 3)
PRECISIONS = ("float32", "float16", "dynamic-int8", "int8", "int16x8")
IDENTITY = Graph([Tensor("x", "float32", (1, 4)), Tensor("y", "float32", (1, 4))], [Op("RELU", (0,), (1,))], (0,), (1,))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("make", [dense_model, conv_model])
def test_built_models_run(make, precision):
    """The models of these tests are real ones: the interpreter runs them and agrees about their ends."""
    from ai_edge_litert.interpreter import Interpreter

    data = make(precision)
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(source["index"], np.ones(source["shape"], source["dtype"]))
    interpreter.invoke()
    card = read_model_card(data)
    for detail, tensor in ((source, card.inputs[0]), (result, card.outputs[0])):
        facts = (detail["index"], detail["name"], np.dtype(detail["dtype"]).name, tuple(detail["shape"]))
        assert facts == (tensor.index, tensor.name, tensor.dtype, tensor.shape)
        assert detail["quantization_parameters"]["scales"].tolist() == list(tensor.scales)
        assert detail["quantization_parameters"]["zero_points"].tolist() == list(tensor.zero_points)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_parameters_and_macs_do_not_depend_on_precision(precision):
    """Parameters and MACs are those of the layers, in whatever precision the weights are stored."""
    dense, conv = read_model_card(dense_model(precision)), read_model_card(conv_model(precision))
    assert (dense.parameters, dense.macs) == (DENSE_PARAMETERS, 64 * 32)
    assert (conv.parameters, conv.macs) == (CONV_PARAMETERS, CONV_MACS)


def test_names_of_an_enumeration_are_the_schema_s_alone():
    """Python 3.13 gives every class a number of its own, which is no operator's code."""
    enum = type("Enum", (), {"ADD": 0, "CONV_2D": 3, "__firstlineno__": 7})
    assert enum_names(enum) == {0: "ADD", 3: "CONV_2D"}


def test_depthwise_convolution_costs_one_kernel_per_output():
    """A depthwise convolution multiplies each output element with one 3 x 3 kernel."""
    card = read_model_card(depthwise_model())
    assert (card.parameters, card.macs) == (3 * 3 * 3 + 3, (4 * 4 * 3) * (3 * 3))


def test_card_says_where_it_comes_from():
    """Size, digest, schema version, description, metadata and signature are those of the file."""
    graph = Graph(IDENTITY.tensors, IDENTITY.ops, (0,), (1,), signature_key="serve")
    data = build(graph, description="a test", metadata=("min_runtime_version", "notes"))
    card = read_model_card(data)
    assert (card.size_bytes, card.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (card.schema_version, card.description, card.subgraphs) == (3, "a test", 1)
    assert card.metadata == ("min_runtime_version", "notes")
    (signature,) = card.signatures
    assert (signature.key, signature.subgraph) == ("serve", 0)
    assert (signature.inputs, signature.outputs) == ({"input_0": 0}, {"output_0": 1})


def test_json_gives_a_number_a_list_or_null():
    """In JSON, scale and zero-point are a number per tensor, a list per channel, and null where unquantized."""
    raw = json.loads(json.dumps(read_model_card(conv_model("int8")).to_dict(), allow_nan=False))
    assert (raw["inputs"][0]["scale"], raw["inputs"][0]["zero_point"]) == (0.5, 3)
    kernel = raw["tensors"][1]
    assert (kernel["scale"], kernel["zero_point"], kernel["quantized_dimension"]) == ([0.25] * 5, [0] * 5, 0)
    plain = read_model_card(conv_model()).to_dict()["inputs"][0]
    assert (plain["scale"], plain["zero_point"], plain["shape"]) == (None, None, (1, 8, 8, 3))
    op = {"index": 0, "type": "CONV_2D", "version": 3, "custom": False, "inputs": [0, 1, 2], "outputs": [3]}
    assert raw["ops"] == [{**op, "macs": CONV_MACS, "subgraph": 0}]


def test_number_that_is_not_finite_is_null_and_warned_about():
    """A scale that is no finite number stays out of the JSON, and the card warns of it."""
    tensors = [Tensor("x", "int8", (1,), scales=(float("inf"),), zero_points=(0,)), IDENTITY.tensors[1]]
    card = read_model_card(build(Graph(tensors, [], (0,), (1,))))
    assert card.to_dict()["inputs"][0]["scale"] is None
    assert card.warnings == ("tensor 0 of subgraph 0 has a scale that is no finite number",)


def test_every_constant_tensor_counts():
    """Two weights whose values happen to share a buffer are two: variants of one network agree on their parameters."""
    values = np.arange(6, dtype=np.float32)
    tensors = [Tensor("a", "float32", (6,), values), Tensor("b", "float32", (2, 3), values)]
    assert read_model_card(build(Graph(tensors, [], (0,), (1,)))).parameters == 12


def test_shapes_and_axes_are_no_parameters():
    """A plain int32 constant is no parameter; one with a scale is a bias, and is."""
    plain = Tensor("axes", "int32", (2,), np.array([1, 2], np.int32))
    bias = Tensor("bias", "int32", (3,), np.array([1, 2, 3], np.int32), (0.5,), (0,))
    assert read_model_card(build(Graph([plain, bias], [], (0,), (1,)))).parameters == 3


def test_dynamic_batch_counts_as_one():
    """A dynamic dimension keeps its -1 in the signature and counts as one in MACs and bytes."""
    tensors = [Tensor("x", "float32", (1, 4), signature=(-1, 4)), IDENTITY.tensors[1]]
    card = read_model_card(build(Graph(tensors, IDENTITY.ops, (0,), (1,))))
    assert (card.inputs[0].shape, card.inputs[0].shape_signature) == ((1, 4), (-1, 4))
    assert card.inputs[0].size_bytes == 4 * 4
    assert count_elements((-1, 4)) == 4


def test_further_subgraphs_are_seen():
    """Operators, tensors and parameters of further subgraphs are on the card, apart from those of the first."""
    weights = Tensor("w", "float32", (3,), np.ones(3, np.float32))
    body = Graph([weights, Tensor("y", "float32", (3,))], [Op("FlexErf", (0,), (1,), custom=True)], (), (1,))
    card = read_model_card(build(IDENTITY, body))
    assert (card.subgraphs, len(card.ops), len(card.tensors)) == (2, 1, 2)
    (op,) = card.other_ops
    assert (op.type, op.custom, op.subgraph) == ("FlexErf", True, 1)
    assert ([tensor.name for tensor in card.other_tensors], card.parameters) == (["w", "y"], 3)


def test_constants_behind_the_flatbuffer_are_read():
    """Buffers that live at an offset behind the flatbuffer count like any other."""
    op = Op("ADD", (0, 1), (2,), schema.AddOptionsT())
    tensors = [IDENTITY.tensors[0], Tensor("w", "float32", (1, 4), np.ones(4, np.float32)), IDENTITY.tensors[1]]
    data = build(Graph(tensors, [op], (0,), (2,)), external=True)
    card = read_model_card(data)
    assert (card.parameters, card.tensors[1].constant, card.tensors[1].size_bytes) == (4, True, 16)
    with pytest.raises(ModelFileError, match=r"expected its 16 bytes at byte \d+, got a file of"):
        read_model_card(data[:-1])


def test_buffer_that_does_not_fit_its_shape_is_warned_about():
    """A constant whose buffer has another size than its shape needs leaves a warning."""
    tensors = [Tensor("w", "float32", (5,), np.ones(4, np.float32))]
    (warning,) = read_model_card(build(Graph(tensors, [], (0,), (0,)))).warnings
    assert warning.startswith("tensor 0 of subgraph 0 needs 20 bytes but its buffer holds 16")


def test_scales_and_values_kept_elsewhere_are_warned_about():
    """A tensor quantized in blocks, or with its values in another file, leaves a warning that says so."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(build(IDENTITY)))
    blocks, elsewhere = model.subgraphs[0].tensors
    blocks.quantization = schema.QuantizationParametersT()
    blocks.quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    blocks.quantization.details = schema.BlockwiseQuantizationT()
    elsewhere.externalBuffer = 1
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    assert read_model_card(bytes(builder.Output())).warnings == (
        "tensor 0 of subgraph 0 is quantized in blocks: its scales are in another tensor and are not listed",
        "tensor 1 of subgraph 0 keeps its values in another file, which is not read",
    )


def test_names_are_cleaned_and_capped():
    """Control characters of a hostile name become spaces, and 200 characters are enough."""
    hostile = "a\x1b[31m\n" + "b" * 500
    card = read_model_card(build(Graph([Tensor(hostile, "float32", (1,))], [], (0,), (0,))))
    assert card.inputs[0].name == ("a [31m " + "b" * 500)[:200]


def test_unknown_operator_is_named_by_its_number():
    """An operator newer than the schema is read, and its name says its number."""
    data = build(IDENTITY)
    relu = struct.pack("<b", schema.BuiltinOperator.RELU)
    code = schema.Model.GetRootAs(data, 0).OperatorCodes(0)
    places = [code._tab.Pos + code._tab.Offset(4), code._tab.Pos + code._tab.Offset(10)]
    patched = bytearray(data)
    for place in places:
        assert patched[place : place + 1] == relu
        patched[place] = 100
    patched[places[1] : places[1] + 2] = struct.pack("<h", 9999)
    assert read_model_card(bytes(patched)).ops[0].type == "UNKNOWN_9999"


@pytest.mark.parametrize(
    ("op_type", "inputs", "outputs", "macs"),
    [
        ("CONV_2D", [(1, 8, 8, 4), (6, 3, 3, 2), None], [(1, 8, 8, 6)], 8 * 8 * 6 * 3 * 3 * 2),
        ("CONV_3D", [(1, 4, 4, 4, 2), (3, 3, 3, 2, 5)], [(1, 4, 4, 4, 5)], 4 * 4 * 4 * 5 * 3 * 3 * 3 * 2),
        ("TRANSPOSE_CONV", [(4,), (5, 3, 3, 2), (1, 4, 4, 2)], [(1, 8, 8, 5)], 4 * 4 * 2 * 3 * 3 * 5),
        ("BATCH_MATMUL", [(2, 3, 4), (2, 4, 5)], [(2, 3, 5)], 2 * 3 * 5 * 4),
        ("BATCH_MATMUL", [(2, 4, 3), (2, 4, 5)], [(2, 3, 5)], 2 * 3 * 5 * 4),
        ("FULLY_CONNECTED", [(-1, 7, 3), (4, 3)], [(-1, 7, 4)], 7 * 4 * 3),
        (
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            [(2, 5, 3), *[(4, 3)] * 4, *[(4, 4)] * 4, *[None] * 10],
            [(2, 5, 4)],
            2 * 5 * (4 * 4 * 3 + 4 * 4 * 4),
        ),
        ("SOFTMAX", [(1, 10)], [(1, 10)], 0),
        ("CONV_2D", [(1, 8, 8, 4)], [(1, 8, 8, 6)], 0),
        ("CONV_2D", [(1, 8, 8, 4), (6, 3)], [], 0),
        ("TRANSPOSE_CONV", [], [], 0),
        ("BATCH_MATMUL", [(4,)], [(4,)], 0),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", [], [], 0),
    ],
)
def test_macs_follow_the_formula(op_type, inputs, outputs, macs):
    """The MACs of an operator are those of its formula, and 0 where its operands do not fit it."""
    assert count_macs(op_type, inputs, outputs) == macs


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"TFL3",
        b"PK\x03\x04" + bytes(60),
        b"<!DOCTYPE html><html></html>",
        bytes(1000),
        random.Random(1).randbytes(99),
    ],
    ids=["empty", "short", "zip", "html", "zeros", "random"],
)
def test_what_is_no_model_is_said_so(data):
    """Bytes without the identifier are refused with what was expected, what came, and what to do."""
    with pytest.raises(
        ModelFileError, match=r"^expected a TensorFlow Lite model .*got \d+ bytes.*: check the download"
    ):
        read_model_card(data)


def test_half_a_model_is_refused():
    """A download that stopped half way is called damaged, with its size."""
    half = dense_model()[:2000]
    with pytest.raises(ModelFileError, match=r"expected a whole TensorFlow Lite model, got 2000 bytes .* is damaged"):
        read_model_card(half)


def test_message_shows_the_first_bytes():
    """The message shows how the file starts, in hexadecimal."""
    with pytest.raises(ModelFileError, match="got 28 bytes starting 3c21444f43545950:"):
        read_model_card(b"<!DOCTYPE html><html></html>")


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (Graph(IDENTITY.tensors, [Op("RELU", (9,), (1,))], (0,), (1,)), "op 0 of subgraph 0: tensor: expected one"),
        (Graph(IDENTITY.tensors, IDENTITY.ops, (-1,), (1,)), "subgraph 0 inputs: tensor: expected one of 2"),
        (Graph(IDENTITY.tensors, IDENTITY.ops, (0,), (5,), "sign"), "subgraph 0 outputs: tensor"),
        (Graph([Tensor("x", "int8", (1,) * 33)], [], (0,), (0,)), "expected at most 32 dimensions, got 33"),
        (Graph([Tensor("x", "int8", (2**31 - 1,) * 3)], [], (0,), (0,)), "expected a shape that fits a machine"),
    ],
)
def test_index_or_shape_out_of_range_is_named(graph, message):
    """An index or a shape that cannot be is refused, naming where it stands."""
    with pytest.raises(ModelFileError, match=message):
        read_model_card(build(graph))


def test_other_schema_version_and_no_subgraph_are_refused():
    """A model of another schema version, or without any subgraph, is refused as no runtime would run it."""
    with pytest.raises(ModelFileError, match="expected 1 to 1000 subgraphs, got 0"):
        read_model_card(build())
    data = bytearray(build(IDENTITY))
    table = schema.Model.GetRootAs(bytes(data), 0)._tab
    data[table.Pos + table.Offset(4)] = 2
    with pytest.raises(ModelFileError, match="expected schema version 3, got 2"):
        read_model_card(bytes(data))


def test_same_part_used_over_and_over_is_refused_quickly():
    """A small file whose vectors repeat one offset, tensor in tensor list in subgraph list, costs no time."""
    builder = flatbuffers.Builder()
    name = builder.CreateString("n" * 4096)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    tensor = schema.TensorEnd(builder)
    tensors = _repeat(builder, tensor, 1000)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    subgraphs = _repeat(builder, schema.SubGraphEnd(builder), 1000)
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, subgraphs)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    start = time.perf_counter()
    with pytest.raises(ModelFileError, match="over and over"):
        read_model_card(bytes(builder.Output()))
    assert time.perf_counter() - start < 5


def _repeat(builder, offset, count):
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def test_vector_longer_than_the_file_is_refused():
    """A vector that claims four billion tensors is refused before one is read."""
    data = bytearray(build(IDENTITY))
    table = schema.Model.GetRootAs(bytes(data), 0).Subgraphs(0)._tab
    place = table.Vector(table.Offset(4)) - 4
    data[place : place + 4] = b"\xff" * 4
    with pytest.raises(ModelFileError, match="expected a few tensors in"):
        read_model_card(bytes(data))


def _mutate(data: bytes, rng: random.Random, kind: int) -> bytes:
    """One damaged copy of ``data``."""
    place = rng.randrange(len(data))
    if kind == 0:
        return data[:place]
    mutant = bytearray(data)
    if kind == 1:
        for _ in range(rng.randint(1, 8)):
            mutant[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        chunks = [data[i : i + 64] for i in range(8, len(data), 64)]
        rng.shuffle(chunks)
        mutant[8:] = b"".join(chunks)
    elif kind == 3:
        mutant[place:place] = rng.randbytes(rng.randint(1, 16))
    else:
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(1, len(data) // 4) * 4
            number = rng.choice([rng.randrange(2**32), rng.randrange(len(data)), 2**32 - rng.randrange(1, len(data))])
            mutant[place : place + 4] = struct.pack("<I", number)
    mutant[4:8] = b"TFL3"
    return bytes(mutant)


def test_damaged_models_give_a_card_or_a_model_file_error():
    """However a model is damaged, reading it ends soon, with a card that is JSON or with ModelFileError."""
    rng = random.Random(20)
    models = [make(precision) for make in (dense_model, conv_model) for precision in ("float32", "float16", "int8")]
    models.append(build(IDENTITY, IDENTITY, metadata=("a", "b"), external=True))
    seeds = [model for model in models if len(model) < 5000]
    cards = 0
    for turn in range(4000):
        mutant = _mutate(rng.choice(seeds), rng, turn % 5)
        try:
            json.dumps(read_model_card(mutant).to_dict(), allow_nan=False)
            cards += 1
        except ModelFileError:
            continue
    assert 0 < cards < 4000


def test_import_loads_nothing_heavy():
    """Importing the module loads no schema, no runtime and no TensorFlow; reading loads no runtime."""
    program = (
        "import sys; from edgekit_converters import model_card as m\n"
        "assert not {'ai_edge_litert', 'tensorflow', 'flatbuffers'} & set(sys.modules)\n"
        "m.read_model_card(sys.stdin.buffer.read())\n"
        "assert not {'ai_edge_litert.interpreter', 'tensorflow'} & set(sys.modules)\n"
    )
    package = Path(sys.modules[read_model_card.__module__].__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=dense_model(), env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_missing_schema_says_what_to_install(monkeypatch):
    """Without the schema's package the error ends with the line that installs it."""
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingPackageError, match=r"pip install ai-edge-litert$"):
        read_model_card(build(IDENTITY))
