"""What is said of a whole model before the Edge TPU compiler sees it: placement, reasons, refusals, warnings, figures."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from edgekit_converters.targets.edgetpu.op_table import SUPPORTED
from edgekit_converters.targets.edgetpu_map import predict
from edgekit_converters.targets.operators import OperatorGraph, read_operators
from edgekit_converters.targets.records import PREDICTED, TargetReport
from edgekit_converters.targets.target import find_target
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.converters.edgetpu_models import chain, constant, graph_of, options, value, weights
from tests.tflite_builder import Graph, Op, Tensor, build

CORAL = find_target("coral")
LATER = "More than one subgraph is not supported"


def _predicted(*kinds: str, **fields: object) -> TargetReport:
    return predict(read_operators(chain(*kinds)), CORAL, **fields)  # type: ignore[arg-type]


def _one(kind: str, shape: Sequence[int], dtype: str = "int8", **fields: object) -> OperatorGraph:
    return graph_of(kind, [value("in", shape, dtype)], [value("out", shape, dtype)], **fields)


def _placements(report: TargetReport) -> list[str]:
    return [op.placement for op in report.ops]


def test_a_model_that_maps_whole() -> None:
    """Every operator is on the chip, in one piece, for the runtime compiler 16 asks for."""
    report = _predicted("CONV", "RELU", "CONV", "TANH")
    assert _placements(report) == ["edgetpu"] * 4
    assert (report.subgraphs, report.on_target, report.on_cpu, report.min_runtime) == (1, 4, 0, 14)
    assert (report.basis, report.fully_on_target, report.first_off_target) == (PREDICTED, True, None)
    assert (report.refusal, report.warnings, {op.reason for op in report.ops}) == ("", (), {""})


def test_what_comes_behind_an_operator_the_tpu_lacks_is_lost() -> None:
    """The operator that breaks the chain is named, those behind it have the compiler's reason, and a remedy stands by."""
    report = _predicted("CONV", "LEAKY_RELU", "CONV", "RELU")
    assert _placements(report) == ["edgetpu", "cpu", "cpu", "cpu"]
    assert [op.reason for op in report.ops] == ["", "Operation not supported", LATER, LATER]
    assert (report.first_off_target, report.subgraphs) == (1, 1)
    assert "PReLU" in report.ops[1].remedy
    assert report.ops[3].remedy == "change operator 1, LEAKY_RELU, which breaks the chain before it"


def test_an_operator_before_the_first_piece_is_not_blamed_for_what_is_lost_behind_it() -> None:
    """What the head of a model lacks costs nothing; what is lost is lost behind the operator that breaks the chain."""
    report = _predicted("ELU", "CONV", "HARD_SWISH", "RELU")
    assert _placements(report) == ["cpu", "edgetpu", "cpu", "cpu"]
    assert (report.first_off_target, "operator 2, HARD_SWISH" in report.ops[3].remedy) == (2, True)


def test_several_pieces_where_the_compiler_is_asked_for_them() -> None:
    """With -a only the operator itself stays on the processor."""
    report = _predicted("CONV", "LEAKY_RELU", "CONV", "RELU", multiple_subgraphs=True)
    assert _placements(report) == ["edgetpu", "cpu", "edgetpu", "edgetpu"]
    assert (report.subgraphs, report.options["multiple_subgraphs"]) == (2, True)


def test_float_ends_stay_on_the_processor_and_break_nothing() -> None:
    """QUANTIZE and DEQUANTIZE at the ends are no break of the chain, and are said to cost something."""
    report = _predicted("QUANTIZE", "CONV", "RELU", "DEQUANTIZE")
    assert _placements(report) == ["cpu", "edgetpu", "edgetpu", "cpu"]
    assert report.first_off_target is None
    assert [warning.split(":")[0] for warning in report.warnings] == ["float inputs and outputs"]


def test_a_last_operator_off_the_chip_is_named_though_nothing_is_lost_behind_it() -> None:
    """An argmax at the end is what the model runs off the chip with."""
    report = _predicted("CONV", "ARG_MAX")
    assert (_placements(report), report.first_off_target) == (["edgetpu", "cpu"], 1)


def test_another_branch_is_not_lost_with_the_one_that_breaks() -> None:
    """Only what depends on the operator the TPU lacks is lost."""
    tensors = [value(name, (1, 4, 4, 8)) for name in ("in", "left", "broken", "right", "far", "sum")]
    ops = [
        Op("RELU", (0,), (1,)),
        Op("LEAKY_RELU", (1,), (2,)),
        Op("TANH", (0,), (3,)),
        Op("LOGISTIC", (3,), (4,)),
        Op("ADD", (2, 4), (5,), options("Add")),
    ]
    report = predict(read_operators(build(Graph(tensors, ops, (0,), (5,)))), CORAL)
    assert _placements(report) == ["edgetpu", "cpu", "edgetpu", "edgetpu", "cpu"]
    assert (report.first_off_target, report.ops[4].reason) == (1, LATER)


def test_a_float_model_maps_nowhere_and_is_called_float() -> None:
    """The compiler says that it succeeded; edgekit says what that means."""
    report = predict(read_operators(chain("CONV", "RELU", dtype="float32")), CORAL)
    assert (report.on_target, report.on_cpu, report.subgraphs) == (0, 2, 0)
    assert {op.reason for op in report.ops} == {"Operation is working on an unsupported data type"}
    assert (report.min_runtime, report.cached_bytes, report.estimate, report.refusal) == (None, None, None, "")
    assert ["the model is float" in report.warnings[0], "nothing maps" in report.warnings[-1]] == [True, True]


def test_the_same_model_read_as_if_it_were_int8_maps() -> None:
    """Before there are samples to calibrate with, the float export tells what will map."""
    graph = read_operators(chain("CONV", "RELU", "ELU", dtype="float32"))
    report = predict(graph, CORAL, assume_int8=True)
    assert _placements(report) == ["edgetpu", "edgetpu", "cpu"]
    assert [op.reason for op in report.ops][2] == "Operation not supported"
    assert graph.operators[0].outputs[0].dtype == "float32"  # type: ignore[union-attr]


def test_dynamic_range_quantization_is_called_by_its_name() -> None:
    """Weights of 8 bits and float activations are no int8 model."""
    kernel, given, made = weights("kernel", (4, 8)), value("in", (1, 8), "float32"), value("out", (1, 4), "float32")
    report = predict(graph_of("FULLY_CONNECTED", [given, kernel], [made], options("FullyConnected"), version=3), CORAL)
    assert report.on_target == 0
    assert "dynamic-range quantized" in report.warnings[0]


def test_16_bit_activations_are_called_by_their_name() -> None:
    """int16x8 is quantized, and nothing for this chip."""
    report = predict(_one("LOGISTIC", (1, 8), "int16"), CORAL)
    assert (report.on_target, "int16x8" in report.warnings[0]) == (0, True)


def test_a_model_quantized_in_part_is_called_so() -> None:
    """Float islands break the chain and are counted."""
    tensors = [
        value("in", (1, 8)),
        value("real", (1, 8), "float32"),
        value("cosine", (1, 8), "float32"),
        value("out", (1, 8)),
    ]
    ops = [Op("DEQUANTIZE", (0,), (1,)), Op("COS", (1,), (2,)), Op("QUANTIZE", (2,), (3,))]
    report = predict(read_operators(build(Graph(tensors, ops, (0,), (3,)))), CORAL)
    assert "quantized in part: 1 of 3 operators compute with floats (COS)" in report.warnings[0]


def test_a_batch_is_named_with_its_size() -> None:
    """Four rows map nowhere; the warning says how many there are."""
    report = predict(_one("RELU", (4, 8, 8, 3)), CORAL)
    assert (report.on_target, report.warnings[0].startswith("a batch of 4")) == (0, True)


def test_sizes_the_file_leaves_open_are_named() -> None:
    """Height and width of -1 are compiled as they are stored, which is hardly what was meant; an open batch is taken as 1."""
    given = value("image", (1, 1, 1, 3), signature=(-1, -1, -1, 3))
    report = predict(graph_of("RELU", [given], [value("out", (1, 1, 1, 3))]), CORAL)
    assert "leaves sizes open (?x?x?x3), the compiler takes 1x1x1x3" in report.warnings[0]
    batch = graph_of("RELU", [value("row", (1, 8), signature=(-1, 8))], [value("out", (1, 8))])
    assert predict(batch, CORAL).warnings == ()


def test_an_lstm_too_wide_for_the_compiler_is_warned_of() -> None:
    """Above 900 features the compiler was seen to fail without a word."""
    for features, warned in ((900, 0), (1000, 1)):
        graph = _one("UNIDIRECTIONAL_SEQUENCE_LSTM", (1, 5, features))
        assert sum("LSTM" in warning for warning in predict(graph, CORAL).warnings) == warned


def test_rows_of_a_dense_layer_are_said_to_be_uncertain() -> None:
    """The document asks for one row, compiler 16 maps more: it maps, with a word about it; one row of units needs none."""
    for rows, warned in ((1, 0), (3, 1)):
        kernel, given, made = weights("kernel", (4, 8)), value("in", (rows, 8)), value("out", (rows, 4))
        report = predict(
            graph_of("FULLY_CONNECTED", [given, kernel], [made], options("FullyConnected"), version=4), CORAL
        )
        assert (report.on_target, sum("several rows (3x4)" in warning for warning in report.warnings)) == (1, warned)


def test_more_subgraphs_are_named() -> None:
    """Branches and loops run on the processor."""
    plain = Graph([value("in", (1, 8)), value("out", (1, 8))], [Op("RELU", (0,), (1,))], (0,), (1,))
    report = predict(read_operators(build(plain, plain)), CORAL)
    assert (report.on_target, report.warnings[0].startswith("1 more subgraphs")) == (1, True)


def test_a_refused_model_maps_nowhere_and_says_where_it_stops() -> None:
    """One operator of a newer version and the compiler reads nothing at all; the others are told apart from it."""
    tensors = [value("in", (1, 8)), value("mid", (1, 8)), value("out", (1, 8))]
    ops = [Op("RELU", (0,), (1,)), Op("GELU", (1,), (2,))]
    report = predict(read_operators(build(Graph(tensors, ops, (0,), (2,)))), CORAL)
    assert (report.on_target, report.subgraphs, report.first_off_target) == (0, 0, 1)
    assert "GELU, which is newer than TensorFlow 2.5.0" in report.refusal
    assert [op.reason for op in report.ops] == ["the compiler refuses the model", "Operation not supported"]
    assert (report.fully_on_target, "relu6" in report.remedy) == (False, True)


def test_a_newer_version_in_another_subgraph_refuses_the_model_too() -> None:
    """The compiler reads the whole file."""
    plain = Graph([value("in", (1, 8)), value("out", (1, 8))], [Op("RELU", (0,), (1,))], (0,), (1,))
    newer = Graph([value("in", (1, 8)), value("out", (1, 8))], [Op("GELU", (0,), (1,))], (0,), (1,))
    report = predict(read_operators(build(plain, newer)), CORAL)
    assert (report.on_target, report.refusal.startswith("an operator of another subgraph is GELU")) == (0, True)


def test_an_operator_newer_than_the_schema_refuses_the_model() -> None:
    """A code nobody has a name for is newer than the compiler by far."""
    data = bytearray(build(Graph([value("in", (1, 8)), value("out", (1, 8))], [Op("RELU", (0,), (1,))], (0,), (1,))))
    graph = read_operators(bytes(data))
    operator = graph.operators[0]
    unknown = OperatorGraph(
        graph.card, (type(operator)(0, "UNKNOWN_250", 1, False, operator.inputs, operator.outputs),)
    )
    assert "out of range" in predict(unknown, CORAL).refusal


@pytest.mark.parametrize("layers", [("dense", None), ("dense",), ()])
def test_layers_go_to_their_operators(layers: tuple[str | None, ...]) -> None:
    """Names by place; an operator of the converter's own, or one nobody named, has none."""
    report = _predicted("RELU", "TANH", layers=layers)
    assert [op.layer for op in report.ops] == ["dense" if layers else "", ""]


def test_the_report_is_plain_json() -> None:
    """Everything in it goes through JSON and back."""
    report = _predicted("CONV", "LEAKY_RELU", "RELU")
    facts = json.loads(json.dumps(report.to_dict()))
    assert {
        "name",
        "ops",
        "subgraphs",
        "on_target",
        "on_cpu",
        "min_runtime",
        "cached_bytes",
        "streamed_bytes",
        "estimate",
    } <= set(facts)
    assert set(facts["ops"][0]) >= {"index", "type", "placement", "reason", "remedy", "layer"}


def test_a_model_without_operators_maps_nothing() -> None:
    """An empty graph is no model that maps whole."""
    graph = read_operators(build(Graph([value("in", (1, 8))], [], (0,), (0,))))
    report = predict(graph, CORAL)
    assert (report.fully_on_target, report.ops, report.first_off_target) == (False, (), None)


OTHERS = (
    "ARG_MAX",
    "CAST",
    "DEQUANTIZE",
    "ELU",
    "GELU",
    "LEAKY_RELU",
    "SHAPE",
    "TILE",
    "TOPK_V2",
    "UNPACK",
    "WHERE",
    "WHILE",
)
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 85, 1600]), max_size=5)
DTYPES = st.sampled_from(["int8", "uint8", "int16", "int32", "float32", "bool"])


@st.composite
def any_graphs(draw: st.DrawFn) -> bytes:
    """Readable models that make no sense: any operator on any tensors, too few or too many of them, constants anywhere."""
    tensors = []
    for i in range(draw(st.integers(1, 8))):
        shape, dtype = draw(SHAPES), draw(DTYPES)
        stored = draw(st.booleans()) and shape and max(shape) < 4 and dtype != "bool"
        tensors.append(weights(f"t{i}", shape, dtype) if stored else value(f"t{i}", shape, dtype))
    places = st.lists(st.integers(-1, len(tensors) - 1), max_size=5).map(tuple)
    kinds = st.sampled_from((*SUPPORTED, *OTHERS))
    ops = [
        Op(draw(kinds), draw(places), draw(places), version=draw(st.integers(1, 7)))
        for _ in range(draw(st.integers(0, 6)))
    ]
    return build(Graph(tensors, ops, (0,), (len(tensors) - 1,)))


@settings(deadline=None, max_examples=120)
@given(any_graphs(), st.booleans(), st.booleans())
def test_no_readable_model_brings_it_down(tflite: bytes, several: bool, assumed: bool) -> None:
    """Whatever a file holds, each operator is placed, with a reason where it is off the chip, and the counts add up."""
    graph = read_operators(tflite)
    report = predict(graph, CORAL, multiple_subgraphs=several, assume_int8=assumed)
    assert [op.index for op in report.ops] == [operator.index for operator in graph.operators]
    assert all((op.placement == "edgetpu") == (op.reason == "") for op in report.ops)
    assert (report.on_target, report.on_cpu) == (_placements(report).count("edgetpu"), _placements(report).count("cpu"))
    json.dumps(report.to_dict(), allow_nan=False)


def test_the_head_of_a_yolo_breaks_where_its_log_says() -> None:
    """At 640 pixels YOLOv5's largest scale is lost at its first reshape and the middle one at its second."""
    tensors, ops = [], []
    for side in (80, 40, 20):
        cells, at = side * side, len(tensors)
        tensors += [
            value(f"conv_{side}", (1, side, side, 255)),
            constant(f"a_{side}", [1, cells, 3, 85]),
            value(f"boxes_{side}", (1, cells, 3, 85)),
            constant(f"b_{side}", [1, 3 * cells, 85]),
            value(f"rows_{side}", (1, 3 * cells, 85)),
        ]
        ops += [Op("RESHAPE", (at, at + 1), (at + 2,)), Op("RESHAPE", (at + 2, at + 3), (at + 4,))]
    tensors.append(value("all", (1, 25_200, 85)))
    ops.append(Op("CONCATENATION", (4, 9, 14), (15,), options("Concatenation", axis=1)))
    report = predict(read_operators(build(Graph(tensors, ops, (0, 5, 10), (15,)))), CORAL)
    assert _placements(report) == ["cpu", "cpu", "edgetpu", "cpu", "edgetpu", "edgetpu", "cpu"]


def _yolov8_head(pixels: int, classes: int = 80) -> bytes:
    """The head of YOLOv8 as onnx2tf writes it: what comes from the three scales made into boxes and scores."""
    tensors: list[Tensor] = []
    ops: list[Op] = []

    def add(
        kind: str, inputs: Sequence[int], shape: Sequence[int], *sizes: Sequence[int], settings: object = None
    ) -> int:
        stored = [len(tensors) + i for i in range(len(sizes))]
        tensors.extend(constant(f"c{at}", numbers) for at, numbers in zip(stored, sizes, strict=True))
        tensors.append(value(f"t{len(tensors)}", shape))
        ops.append(Op(kind, (*inputs, *stored), (len(tensors) - 1,), settings))
        return len(tensors) - 1

    channels, rows = 64 + classes, []
    for side in (pixels // 8, pixels // 16, pixels // 32):
        tensors.append(value(f"scale_{side}", (1, side, side, channels)))
        turned = add("TRANSPOSE", [len(tensors) - 1], (1, channels, side, side), [0, 3, 1, 2])
        rows.append(add("RESHAPE", [turned], (1, channels, side * side), [1, channels, side * side]))
    count = sum(tensors[at].shape[2] for at in rows)
    joined = add("CONCATENATION", rows, (1, channels, count), settings=options("Concatenation", axis=2))
    boxes, scores = (add("STRIDED_SLICE", [joined], (1, n, count), *[[0] * 3] * 2, [1] * 3) for n in (64, classes))
    split = add("RESHAPE", [boxes], (1, 4, 16, count), [1, 4, 16, count])
    spread = add("SOFTMAX", [add("TRANSPOSE", [split], (1, 4, count, 16), [0, 1, 3, 2])], (1, 4, count, 16))
    tensors.append(weights("kernel", (1, 1, 1, 16)))
    meant = add(
        "CONV_2D", [spread, len(tensors) - 1, -1], (1, 4, count, 1), settings=options("Conv2D", strideH=1, strideW=1)
    )
    sides = add("RESHAPE", [meant], (1, 4, count), [1, 4, count])
    near, far = (add("STRIDED_SLICE", [sides], (1, 2, count), *[[0] * 3] * 2, [1] * 3) for _ in range(2))
    centre = add("ADD", [near, far], (1, 2, count), settings=options("Add"))
    both = (1, 4 + classes, count)
    certain = add("LOGISTIC", [scores], (1, classes, count))
    found = add("CONCATENATION", [centre, near, certain], both, settings=options("Concatenation", axis=1))
    last = add("QUANTIZE", [found], both)
    made = {at for op in ops for at in op.outputs}
    ends = [i for i, tensor in enumerate(tensors) if tensor.values is None and i not in made]
    return build(Graph(tensors, ops, tuple(ends), (last,)))


M, L, S = "", "Operation is otherwise supported, but not mapped due to some unspecified limitation", LATER


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (640, {"TRANSPOSE": [L, L, L, M], "RESHAPE": [L, L, L, S, M], "CONCATENATION": [L, L], "LOGISTIC": [L], "QUANTIZE": [L],
               "STRIDED_SLICE": [L, L, S, S], "SOFTMAX": [S], "CONV_2D": [S], "ADD": [S]}),
        (320, {"TRANSPOSE": [L, L, M, M], "RESHAPE": [L, S, S, M, M], "CONCATENATION": [L, S], "LOGISTIC": [S], "QUANTIZE": [S],
               "STRIDED_SLICE": [L, L, S, S], "SOFTMAX": [S], "CONV_2D": [S], "ADD": [S]}),
    ],
)  # fmt: skip
def test_the_head_of_yolov8_has_the_reasons_its_log_has(pixels: int, said: dict[str, list[str]]) -> None:
    """At 640 and at 320 pixels, row by row of two operation logs of compiler 16, as far as they are about the head."""
    report = predict(read_operators(_yolov8_head(pixels)), CORAL)
    found: dict[str, list[str]] = {}
    for op in report.ops:
        found.setdefault(op.type, []).append(op.reason)
    assert {kind: sorted(reasons) for kind, reasons in found.items()} == {
        kind: sorted(reasons) for kind, reasons in said.items()
    }
