"""The table of rules: each from both sides, on operators of models built byte by byte; and the limits against what fixes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from edgekit_converters.targets.edgetpu.conditions import measure
from edgekit_converters.targets.edgetpu.evidence import Evidence, Limit
from edgekit_converters.targets.edgetpu.limits import LIMITS
from edgekit_converters.targets.edgetpu.op_table import SUPPORTED
from edgekit_converters.targets.edgetpu.refusals import find_refusal
from edgekit_converters.targets.edgetpu.rules import RULES, broken_rule
from edgekit_converters.targets.edgetpu.rules_page import limits_table, operators_table, reasons_table, rules_table
from edgekit_converters.targets.operators import Operator, read_operators

from tests.converters.edgetpu_models import chain, constant, graph_of, one, options, value, weights

DOCUMENT = Path(__file__).parents[2] / "docs" / "edgetpu-rules.md"
Make = Callable[..., Operator]


def _unary(
    kind: str, given: Sequence[int], made: Sequence[int] = (), dtype: str = "int8", **fields: object
) -> Operator:
    return one(kind, [value("in", given, dtype)], [value("out", made or given, dtype)], **fields)


def _conv(dilation: tuple[int, int] = (1, 1), channels: int = 8, rows: int = 1, height: int = 3) -> Operator:
    kernel = weights("kernel", (8, height, 3, channels))
    settings = options("Conv2D", strideH=1, strideW=1, dilationHFactor=dilation[0], dilationWFactor=dilation[1])
    given, made = value("in", (rows, 8, 8, 8)), value("out", (rows, 8, 8, 8))
    return one("CONV_2D", [given, kernel, constant("bias", [0] * 8)], [made], settings, version=3)


def _dense(rows: int = 1, units: int = 4, weights_format: int = 0, computed: bool = False) -> Operator:
    kernel = value("kernel", (units, 8)) if computed else weights("kernel", (units, 8))
    settings = options("FullyConnected", weightsFormat=weights_format)
    return one("FULLY_CONNECTED", [value("in", (rows, 8)), kernel], [value("out", (rows, units))], settings, version=4)


def _pool(activation: int) -> Operator:
    settings = options(
        "Pool2D", strideH=2, strideW=2, filterHeight=2, filterWidth=2, fusedActivationFunction=activation
    )
    return _unary("MAX_POOL_2D", (1, 8, 8, 8), (1, 4, 4, 8), settings=settings, version=2)


def _join(*constants: Sequence[int]) -> Operator:
    tensors = [value("in", (1, 4))] + [constant(f"c{i}", [codes], "int8") for i, codes in enumerate(constants)]
    made = value("out", (1, 4 + sum(map(len, constants))))
    return one("CONCATENATION", tensors, [made], options("Concatenation", axis=1), version=2)


def _slice(strides: Sequence[int], **masks: int) -> Operator:
    sizes = [
        constant(name, numbers) for name, numbers in (("begin", [0] * 4), ("end", [0, 4, 4, 8]), ("strides", strides))
    ]
    return one(
        "STRIDED_SLICE",
        [value("in", (1, 8, 8, 8)), *sizes],
        [value("out", (1, 4, 4, 8))],
        options("StridedSlice", **masks),
    )


def _split(shape: Sequence[int]) -> Operator:
    halves = [value(f"out{i}", (*shape[:-1], shape[-1] // 2)) for i in range(2)]
    return one(
        "SPLIT",
        [constant("axis", len(shape) - 1), value("in", shape)],
        halves,
        options("Split", numSplits=2),
        version=2,
    )


def _mean(height: int, width: int, axes: Sequence[int] = (1, 2), channels: int = 3) -> Operator:
    given = value("in", (1, height, width, channels))
    made = tuple(size for axis, size in enumerate(given.shape) if axis not in [one % 4 for one in axes])
    return one("MEAN", [given, constant("axes", axes)], [value("out", made)], options("Reducer"), version=2)


def _sized(kind: str, given: Sequence[int], made: Sequence[int]) -> Operator:
    return one(kind, [value("in", given), constant("size", made)], [value("out", made)])


def _transposed(made: Sequence[int]) -> Operator:
    kernel, given = weights("kernel", (made[-1], 2, 2, 1)), value("in", (1, made[1] // 2, made[2] // 2, 2 * made[3]))
    return one(
        "TRANSPOSE_CONV",
        [constant("size", made), kernel, given],
        [value("out", made)],
        options("TransposeConv"),
        version=2,
    )


def _prelu(alpha: Sequence[int]) -> Operator:
    return one("PRELU", [value("in", (1, 4, 4, 8)), weights("alpha", alpha)], [value("out", (1, 4, 4, 8))])


LIMITATION, DATA_TYPE = "unspecified limitation", "unsupported data type"


def _shapes(text: str) -> list[tuple[int, ...]]:
    return [tuple(map(int, shape.split("x"))) for shape in re.findall(r"\d+(?:x\d+)+", text)]


CASES: list[tuple[str, str, Make, Make]] = [
    ("custom", DATA_TYPE, lambda: _unary("Mfcc", (1, 8), custom=True), lambda: _unary("RELU", (1, 8))),
    ("dtype", DATA_TYPE, lambda: _unary("ARG_MAX", (1, 8)), lambda: _unary("TANH", (1, 8))),
    ("operator", "not supported", lambda: _unary("LEAKY_RELU", (1, 8)), lambda: _unary("RELU6", (1, 8))),
    ("batch", "unsupported rank", lambda: _conv(rows=2), _conv),
    ("rank", "unsupported rank", lambda: _unary("RELU", (1, 2, 4, 4, 8)), lambda: _unary("RELU", (1, 1, 4, 4, 8))),
    (
        "float",
        DATA_TYPE,
        lambda: _unary("RELU", (1, 8), dtype="float32"),
        lambda: _unary("RELU", (1, 8), dtype="uint8"),
    ),
    (
        "float",
        LIMITATION,
        lambda: one("QUANTIZE", [value("in", (1, 8), "float32")], [value("out", (1, 8))]),
        lambda: one("QUANTIZE", [value("in", (1, 8), "uint8")], [value("out", (1, 8))]),
    ),
    ("dtype", DATA_TYPE, lambda: _unary("RELU", (1, 8), dtype="int16"), lambda: _unary("RELU", (1, 8))),
    (
        "dtype",
        DATA_TYPE,
        lambda: one("ADD", [value("a", (1, 8), "int32"), constant("b", [1] * 8)], [value("out", (1, 8), "int32")]),
        lambda: one("ADD", [value("a", (1, 8)), weights("b", (8,))], [value("out", (1, 8))]),
    ),
    ("weights-computed", "not constant", lambda: _dense(computed=True), _dense),
    ("grouped-conv", LIMITATION, lambda: _conv(channels=4), _conv),
    ("dilation", LIMITATION, lambda: _conv((2, 1)), lambda: _conv((2, 2))),
    ("dilation", LIMITATION, lambda: _conv((1, 2)), lambda: _conv((1, 2), height=1)),
    ("weights-format", LIMITATION, lambda: _dense(weights_format=1), _dense),
    ("activation", LIMITATION, lambda: _pool(1), lambda: _pool(0)),
    ("concatenation", LIMITATION, lambda: _join([1, 0]), lambda: _join([0, 0])),
    ("concatenation", LIMITATION, lambda: _join([0, 0], [0]), _join),
    ("alpha", LIMITATION, lambda: _prelu((4, 4, 8)), lambda: _prelu((1, 1, 8))),
    ("slice-strides", LIMITATION, lambda: _slice([1, 1, 1, 2]), lambda: _slice([1, 2, 2, 1])),
    ("slice-strides", LIMITATION, lambda: _slice([1, -1, 1, 1]), lambda: _slice([1, 1, 1, 1])),
    ("slice-strides", LIMITATION, lambda: _slice([1] * 4, newAxisMask=1), lambda: _slice([1] * 4, shrinkAxisMask=1)),
    ("split-batch", LIMITATION, lambda: _split((2, 4, 8)), lambda: _split((1, 4, 8))),
    ("mean-axes", LIMITATION, lambda: _mean(256, 128), lambda: _mean(64, 128)),
    ("mean-axes", LIMITATION, lambda: _mean(8, 8, (0, 1, 2, 3), 16), lambda: _mean(8, 8, (1, 2, 3), 16)),
    ("mean-axes", LIMITATION, lambda: _mean(8, 8, (-1,), 3), lambda: _mean(8, 8, (-1,), 16)),
    ("softmax-size", LIMITATION, lambda: _unary("SOFTMAX", (1, 16_385)), lambda: _unary("SOFTMAX", (1, 4, 2100, 16))),
    ("large-tensor", LIMITATION, lambda: _transposed((1, 64, 64, 512)), lambda: _transposed((1, 64, 64, 64))),
    ("large-tensor", LIMITATION, lambda: _unary("LOGISTIC", (1, 80, 8400)), lambda: _unary("LOGISTIC", (1, 80, 2100))),
]
# Of one size each: what is refused, and what maps.
SIZES = (
    ("resize-size", "RESIZE_BILINEAR", "1x1x1x8 to 1x9x9x8", "1x6x6x64 to 1x12x12x64"),
    ("resize-size", "RESIZE_BILINEAR", "1x33x33x21 to 1x513x513x21", "1x1x1x8 to 1x1x1x8"),
    ("resize-size", "RESIZE_NEAREST_NEIGHBOR", "1x512x512x3 to 1x1024x1024x3", "1x40x40x128 to 1x80x80x128"),
    ("transpose-size", "TRANSPOSE", "1x3x224x224 to 1x224x224x3", "1x20x20x144 to 1x144x20x20"),
    ("reshape-size", "RESHAPE", "1x1600x3x85 to 1x4800x85", "1x40x40x810 to 1x14400x90"),
    ("reshape-size", "RESHAPE", "1x144x40x40 to 1x144x1600", "1x64x64x32 to 1x131072"),
)
CASES += [
    (cause, LIMITATION, *(partial(_sized, kind, *_shapes(sizes)) for sizes in (refused, mapped)))
    for cause, kind, refused, mapped in SIZES
]


@pytest.mark.parametrize(
    ("cause", "words", "breaking", "fitting"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)
def test_each_rule_from_both_sides(cause: str, words: str, breaking: Make, fitting: Make) -> None:
    """An operator that breaks the rule is refused by its name and in the compiler's words; one that just does not is taken."""
    rule = broken_rule(breaking())
    assert rule is not None
    assert (rule.name, words in rule.reason) == (cause, True)
    assert broken_rule(fitting()) is None


def test_every_rule_is_reached() -> None:
    """The cases above reach every row of the table."""
    reached = {id(broken_rule(breaking())) for _, _, breaking, _ in CASES}
    assert [rule.name for rule in RULES if id(rule) not in reached] == []


def test_a_value_that_is_not_known_refuses_nothing() -> None:
    """A record of a model without the values of its constants is judged by its shapes."""
    operator = _slice([1, 1, 1, 2])
    bare = Operator(0, operator.type, 1, False, operator.inputs, operator.outputs, 0, operator.options)
    assert broken_rule(bare) is None


def test_zeros_are_the_zero_point() -> None:
    """The constant of a concatenation is zero where its codes are its zero point."""
    operator = _join([0, 0])
    threes = Operator(0, operator.type, 2, False, operator.inputs, operator.outputs, constants={1: np.array([3, 3])})
    assert (broken_rule(operator), broken_rule(threes) is None) == (None, False)


def _witness(limit: str, seen: Evidence) -> Operator | None:
    """The operator of a piece of evidence, where its shapes tell it."""
    shapes = _shapes(seen.what)
    if not shapes:
        return None
    given, made = shapes[0], shapes[-1]
    if limit == "mean-window":
        return _mean(given[1], given[2])
    if limit == "transpose-conv-size":
        return _transposed(made)
    if limit == "row-tensor-size":
        kind = seen.what.split()[0]
        joined = kind == "CONCATENATION"
        parts = [value("a", (1, 4, made[2])), value("b", (1, made[1] - 4, made[2]))] if joined else [value("in", given)]
        return one(kind, parts, [value("out", made)], options("Concatenation", axis=1) if joined else None)
    kinds = {"softmax-size": "SOFTMAX", "transpose-size": "TRANSPOSE", "resize-bilinear-size": "RESIZE_BILINEAR",
             "resize-nearest-size": "RESIZE_NEAREST_NEIGHBOR"}  # fmt: skip
    kind = kinds.get(limit, "RESHAPE")
    return _unary(kind, given, made) if kind == "SOFTMAX" else _sized(kind, given, made)


EVIDENCE = [(name, seen) for name, limit in LIMITS.items() for seen in limit.evidence]


@pytest.mark.parametrize(("name", "seen"), EVIDENCE, ids=[f"{name} {seen.what}" for name, seen in EVIDENCE])
def test_the_rules_say_of_all_that_was_seen_what_was_seen(name: str, seen: Evidence) -> None:
    """The size of each piece of evidence is what its shapes measure, and the rules place it as the compiler did."""
    operator = _witness(name, seen)
    if operator is not None:
        assert (measure(operator, name), broken_rule(operator) is None) == (seen.size, seen.mapped)
    else:
        assert LIMITS[name].exceeded_by(seen.size) is not seen.mapped


def test_a_limit_lies_between_what_mapped_and_what_did_not() -> None:
    """In the middle of the logarithms, or where a reason puts it, as long as that is between the two."""
    seen = (Evidence(100, True, "", "a"), Evidence(10_000, False, "", "b"))
    assert Limit("l", "m", seen).value == 1000
    assert Limit("l", "m", seen, suggested=3000).value == 3000
    assert Limit("l", "m", seen, suggested=20_000).value == 9999
    assert Limit("l", "m", seen, suggested=50).value == 100
    assert Limit("l", "m", seen).without("b").value == float("inf")
    assert Limit("l", "m", seen).without("a").value == 9999
    assert Limit("l", "m", seen).with_evidence([Evidence(2000, True, "", "c")]).largest_mapped == 2000


def test_every_limit_is_held_from_above() -> None:
    """No limit stands on a guess alone: something was refused above it, or a document states it."""
    assert [limit.name for limit in LIMITS.values() if limit.smallest_refused is None] == ["softmax-size"]
    assert {name for rule in RULES for name in rule.limits} == set(LIMITS)


@pytest.mark.parametrize(
    ("kind", "fields", "cause", "words"),
    [
        ("CONV_2D", {"version": 6}, "version", "version 6 of CONV_2D"),
        ("GELU", {}, "operator", "GELU, which is newer"),
        ("FlexErf", {"custom": True}, "custom", "custom operator FlexErf"),
        ("WHERE", {}, "dynamic-shape", "known only when the model runs"),
    ],
)
def test_what_the_compiler_refuses_as_a_whole(kind: str, fields: dict[str, object], cause: str, words: str) -> None:
    """Newer versions, newer operators, unknown custom operators and sizes that are computed: each is named."""
    refusal = find_refusal(graph_of(kind, [value("in", (1, 8))], [value("out", (1, 8))], **fields))
    assert refusal is not None
    assert (refusal.cause, refusal.operator is not None, words in str(refusal)) == (cause, True, True)


def test_a_size_that_is_computed_is_refused_and_one_in_the_file_is_not() -> None:
    """RESHAPE with its shape in the file is static; with a computed one the compiler stops."""
    computed = graph_of("RESHAPE", [value("in", (1, 8)), value("size", (2,), "int32")], [value("out", (2, 4))])
    stored = graph_of("RESHAPE", [value("in", (1, 8)), constant("size", [2, 4])], [value("out", (2, 4))])
    scalar = graph_of("RESHAPE", [value("in", (1, 1)), constant("size", [])], [value("out", ())])
    refusal = find_refusal(computed)
    assert (refusal and refusal.cause, find_refusal(stored), find_refusal(scalar)) == ("dynamic-shape", None, None)


def test_a_model_within_reach_is_not_refused() -> None:
    """Known custom operators and float models pass the compiler's reader."""
    assert find_refusal(read_operators(chain("CONV", "RELU", dtype="float32"))) is None
    assert find_refusal(graph_of("Mfcc", [value("in", (1, 8))], [value("out", (1, 8))], custom=True)) is None


def test_the_page_lists_every_rule_limit_and_operator() -> None:
    """docs/edgetpu-rules.md holds the table as it is in the code."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for table in (rules_table(), reasons_table(), limits_table(), operators_table()):
        assert table in text
    assert all(f"`{name}`" in text for name in SUPPORTED)
