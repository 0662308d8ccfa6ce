"""Remedies against what keeps an operator off the Edge TPU: on real Keras 3 models, before and after.

That the rewritten models map on a real compiler nobody can check here: the rules say so, which are held against compiled models.
"""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import pytest
from edgekit_converters.targets.edgetpu import remedies, substitutes
from edgekit_converters.targets.edgetpu.remedies import WITHOUT_REMEDY, remedy_for
from edgekit_converters.targets.edgetpu.rules import RULES, broken_rule
from edgekit_converters.targets.edgetpu.substitutes import WITHOUT_SUBSTITUTE, substitute_for
from edgekit_converters.targets.edgetpu_map import predict
from edgekit_converters.targets.operators import OperatorGraph, read_operators
from edgekit_converters.targets.records import TargetReport
from edgekit_converters.targets.target import find_target

from edgekit.cli import convert
from tests.converters.conftest import run_tflite
from tests.converters.edgetpu_models import constant, graph_of, options, value, weights
from tests.converters.remedy_cases import CASES, RemedyCase
from tests.converters.remedy_proof import float_of, int8_of, preflight, samples_of, trained
from tests.tflite_builder import conv_model

GRAPH = read_operators(conv_model("int8"))


@dataclass(frozen=True)
class Proof:
    """A case converted: the reports before and after, and both float models."""

    before: TargetReport
    after: TargetReport
    floats: tuple[bytes, bytes]
    causes: tuple[str, ...]


def prove(case: RemedyCase) -> Proof:
    """Convert the two models of ``case`` and ask the pre-flight about both."""
    import keras

    keras.utils.set_random_seed(1)
    first, second = trained(case.before(keras)), trained(case.after(keras))
    if case.same is not None:
        second.set_weights(case.same(first.get_weights()))
    how = dict(case.how)
    float_before, float_after = float_of(first, how.pop("batch", 1)), float_of(second)
    as_it_is = case.early or how.get("precision") == "float32"
    made = float_before if as_it_is else int8_of(float_before, **how)
    before = preflight(made, early=case.early)
    broken = [broken_rule(operator) for operator in read_operators(made).operators]
    causes = tuple("" if rule is None else rule.name for rule in broken)
    return Proof(before, preflight(int8_of(float_after)), (float_before, float_after), causes)


def check(case: RemedyCase) -> None:
    """The operator named is off the Edge TPU, its remedy says what the case says, and the model rewritten so maps whole."""
    proof = prove(case)
    guilty = [op for op in proof.before.ops if op.type == case.type and case.says in op.remedy]

    assert guilty, [(op.type, op.reason, op.remedy) for op in proof.before.ops if op.placement == "cpu"]
    assert all(op.placement == "cpu" for op in guilty)
    if not case.early and case.cause != "dynamic-shape":
        assert case.cause in {proof.causes[op.index] for op in guilty}
    off = [(op.type, op.reason) for op in proof.after.ops if op.placement == "cpu"]
    assert proof.after.fully_on_target, off
    if case.same is not None:
        row = [samples_of(proof.floats[0], 1)]
        expected, found = (run_tflite(tflite, row)[0] for tflite in proof.floats)
        np.testing.assert_allclose(
            found, expected, rtol=1e-4, atol=1e-5
        )  # sums of up to 32,768 floats in another order


@pytest.mark.keras
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_remedy_makes_a_keras_model_map(case: RemedyCase, zoo) -> None:
    """Before: the cause and the remedy. After: every operator on the Edge TPU, and the same function where that is said."""
    check(case)


def _image(*shape: int) -> tuple[int, ...]:
    return (1, *shape)


def _pool(activation: int) -> OperatorGraph:
    settings = options(
        "Pool2D", strideW=2, strideH=2, filterWidth=2, filterHeight=2, fusedActivationFunction=activation
    )
    return graph_of("MAX_POOL_2D", [value("x", _image(8, 8, 4))], [value("y", _image(4, 4, 4))], settings)


def _join(*tensors, channels: int, activation: int = 0) -> OperatorGraph:
    settings = options("Concatenation", axis=3, fusedActivationFunction=activation)
    return graph_of("CONCATENATION", tensors, [value("y", _image(8, 8, channels))], settings)


def _transpose_conv(side: int, channels: int, **fields) -> OperatorGraph:
    made = _image(2 * side, 2 * side, channels)
    settings = options("TransposeConv", strideW=2, strideH=2, fusedActivationFunction=1)
    tensors = [
        constant("size", made),
        weights("w", (channels, 2, 2, channels)),
        value("x", _image(side, side, channels)),
    ]
    return graph_of("TRANSPOSE_CONV", tensors, [value("y", made)], settings, **fields)


# What Keras 3 does not make, or only of models too large for a test: the operator alone.
ALONE = {
    "activation": (_pool(1), "before layers.MaxPooling2D"),
    "activation-joined": (
        _join(value("a", _image(8, 8, 4)), value("b", _image(8, 8, 4)), channels=8, activation=1),
        "before layers.Concatenate, in its branches",
    ),
    "concatenation": (
        _join(value("a", _image(8, 8, 4)), constant("b", np.ones(_image(8, 8, 2)), "int8"), channels=6),
        "keras.ops.pad or layers.ZeroPadding2D",
    ),
    "large-tensor": (_transpose_conv(256, 16, version=2), "layers.Resizing(512, 512, interpolation='nearest')"),
    "mean-axes": (
        graph_of(
            "REDUCE_MAX",
            [value("x", _image(256, 256, 3)), constant("axes", [1, 2])],
            [value("y", (1, 3))],
            options("Reducer", keepDims=False),
        ),
        "layers.MaxPooling2D((256, 256)) instead of layers.GlobalMaxPooling2D()",
    ),
    "reshape-size": (
        graph_of(
            "RESHAPE", [value("x", _image(6400, 3, 85)), constant("size", [1, 19200, 85])], [value("y", (1, 19200, 85))]
        ),
        "numpy.reshape its answer",
    ),
    "split-batch": (
        graph_of(
            "SPLIT",
            [constant("axis", [1]), value("x", (2, 8))],
            [value("a", (2, 4)), value("b", (2, 4))],
            options("Split", numSplits=2),
        ),
        "--target coral",
    ),
    "weights-format": (
        graph_of(
            "FULLY_CONNECTED",
            [value("x", (1, 16)), weights("w", (16, 16))],
            [value("y", (1, 16))],
            options("FullyConnected", weightsFormat=1),
        ),
        "convert again from Keras",
    ),
}


@pytest.mark.parametrize("name", ALONE)
def test_an_operator_alone_has_its_remedy(name: str) -> None:
    """The rule it breaks is the one meant, and the remedy holds its numbers."""
    graph, says = ALONE[name]
    rule = broken_rule(graph.operators[0])

    assert rule is not None
    assert name.startswith(rule.name)
    assert says in remedy_for(rule.name, graph.operators[0], graph)


@pytest.mark.parametrize(
    ("type_", "given", "made", "extra", "says"),
    [
        ("DEPTH_TO_SPACE", (8, 8, 16), (16, 16, 4), (), "layers.Conv2DTranspose(4, 2, strides=2)"),
        ("ARG_MAX", (8, 8, 4), (8, 8), (constant("axis", [3]),), "numpy.argmax"),
        ("LEAKY_RELU", (4,), (4,), (), "layers.PReLU(alpha_initializer=keras.initializers.Constant(0.3)) instead"),
        (
            "BROADCAST_TO",
            (1, 1, 4),
            (8, 8, 4),
            (constant("size", [1, 8, 8, 4]),),
            "let layers.Add or layers.Multiply broadcast",
        ),
        ("CAST", (8, 8, 4), (8, 8, 4), (), "keras.Input(dtype='float32')"),
        ("TOPK_V2", (9,), (3,), (constant("k", [3]),), "numpy.argsort"),
        ("LOG", (9,), (9,), (), "numpy.log"),
        ("NEG", (9,), (9,), (), "edgekit convert MODEL writes it as a product"),
        ("BATCH_TO_SPACE_ND", (8, 8, 4), (8, 8, 4), (), "dilation_rate"),
    ],
)
def test_a_substitute_is_about_the_operator_at_hand(type_, given, made, extra, says) -> None:
    """Shapes, slopes and block sizes are those of the operator."""
    settings = {"DEPTH_TO_SPACE": ("DepthToSpace", {"blockSize": 2}), "LEAKY_RELU": ("LeakyRelu", {"alpha": 0.3})}
    kind, fields = settings.get(type_, (None, {}))
    graph = graph_of(
        type_,
        [value("x", _image(*given)), *extra],
        [value("y", _image(*made))],
        options(kind, **fields) if kind else None,
    )

    assert says in substitute_for(graph.operators[0], graph)


def test_a_transpose_convolution_whose_activation_bites_is_converted_again() -> None:
    """Version 4 stops the compiler; edgekit's own conversion takes it out."""
    report = predict(_transpose_conv(4, 4, version=4), find_target("coral"))

    assert report.refusal
    assert "TRANSPOSE_CONV" in report.refusal
    assert "--target coral" in report.remedy
    assert "fused activation" in report.remedy


def test_every_rule_has_a_remedy_or_a_reason_for_none() -> None:
    """Each cause is in a case above, or in the list of those nothing is known for, with why."""
    proven = {case.cause for case in CASES} | {broken_rule(graph.operators[0]).name for graph, _ in ALONE.values()}
    causes = {rule.name for rule in RULES} | {"later-subgraph"}

    assert causes - proven == set(WITHOUT_REMEDY)
    assert all(WITHOUT_REMEDY.values())


@pytest.mark.parametrize("cause", [*WITHOUT_REMEDY, "", "no-such-cause"])
def test_where_nothing_is_known_nothing_is_said(cause: str) -> None:
    """Also for a cause nobody has heard of."""
    assert remedy_for(cause, GRAPH.operators[0], GRAPH) == ""


@pytest.mark.parametrize("type_", WITHOUT_SUBSTITUTE)
def test_no_substitute_is_made_up(type_: str) -> None:
    """An operator without a counterpart gets no advice; the table says why."""
    graph = graph_of(type_, [value("x", _image(8, 8, 4)), value("z", _image(8, 8, 4))], [value("y", _image(8, 8, 4))])

    assert remedy_for("operator", graph.operators[0], graph) == ""
    assert WITHOUT_SUBSTITUTE[type_]


def test_gelu_is_as_near_as_it_is_said() -> None:
    """x * sigmoid(1.702 x) against the error function: within 0.021, and not much nearer."""
    x = np.linspace(-8, 8, 160_001)
    gelu = x * np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    gap = np.max(np.abs(x / (1 + np.exp(-1.702 * x)) - gelu))

    assert 0.02 < gap < 0.021


@pytest.mark.keras
def test_what_a_remedy_names_exists(zoo) -> None:
    """Every layer, function and activation is in Keras or numpy."""
    import keras

    text = inspect.getsource(remedies) + inspect.getsource(substitutes)
    layers = set(re.findall(r"layers\.([A-Z]\w+)", text))
    paths = set(re.findall(r"keras\.([\w.]*\w)", text)) | {f"layers.{name}" for name in layers}
    activations = set(re.findall(r"'(\w+)'", " ".join(re.findall(r"(?:activation=|instead of )[^\"]*", text))))
    functions = set(re.findall(r"numpy\.([\w.]*\w)", text))

    assert len(layers) > 20
    assert {"silu", "relu6"} <= activations
    for path in paths:
        assert attrgetter(path)(keras) is not None
    for name in activations - {"nearest", "float32"}:
        assert keras.activations.get(name) is not None
    for name in functions:
        assert callable(attrgetter(name)(np))


def test_what_a_remedy_types_is_an_option_of_edgekit() -> None:
    """Every flag after ``edgekit convert`` is one."""
    text = inspect.getsource(remedies) + inspect.getsource(substitutes)
    known = {option for item in convert.command.params for option in item.opts}
    typed = set(re.findall(r"--[a-z][a-z-]+", text))

    assert {"--data", "--target", "--out", "--recipe", "--batch"} <= typed
    assert typed <= known
