"""int8 models in plainer words: TFLite's own converter is the oracle of versions, and the answers stay what they were."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters.errors import ModelFileError
from edgekit_converters.int8.plain_form import int8_version, plain_form
from edgekit_converters.model_card import read_model_card
from edgekit_converters.targets.operators import read_operators

from tests.converters.conftest import run_tflite
from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model

RELU, RELU6 = 1, 3
SIDE, FILTERS = 4, 3


def _transpose_conv(activation: int, scale: float, zero_point: int, dtype: str = "int8") -> bytes:
    """A TRANSPOSE_CONV of version 4 that doubles 4×4×2, with a bias and a fused activation."""
    rng = np.random.default_rng(5)
    options = schema.TransposeConvOptionsT()
    options.strideW = options.strideH = 2
    options.fusedActivationFunction = activation
    output = (1, 2 * SIDE, 2 * SIDE, FILTERS)
    kernel = rng.integers(-127, 128, (FILTERS, 3, 3, 2)).astype(np.int8)
    tensors = [
        Tensor("size", "int32", (4,), np.array(output, np.int32)),
        Tensor("kernel", "int8", kernel.shape, kernel, (0.01,) * FILTERS, (0,) * FILTERS),
        Tensor("x", dtype, (1, SIDE, SIDE, 2), None, (0.05,), (0,)),
        Tensor("bias", "int32", (FILTERS,), np.array([40, -90, 7], np.int32), (0.0005,) * FILTERS, (0,) * FILTERS),
        Tensor("y", dtype, output, None, (scale,), (zero_point,)),
    ]
    op = Op("TRANSPOSE_CONV", (0, 1, 2, 3), (4,), options, version=4)
    return build(Graph(tensors, [op], (2,), (4,), signature_key="serving_default"))


def _versions(tflite: bytes) -> list[tuple[str, int]]:
    return [(op.type, op.version) for op in read_model_card(tflite).ops]


def _row(tflite: bytes, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-7, 7, read_model_card(tflite).inputs[0].shape).astype(np.float32)


@pytest.mark.parametrize("activation", [RELU, RELU6])
def test_an_activation_that_clamps_nothing_leaves_and_its_version_with_it(activation: int) -> None:
    """int8 that begins at zero and ends before 6 needs no ReLU: version 3, which the Edge TPU compiler reads, same answers."""
    before = _transpose_conv(activation, 6 / 255, -128)
    after = plain_form(before)

    assert _versions(before) == [("TRANSPOSE_CONV", 4)]
    assert _versions(after) == [("TRANSPOSE_CONV", 3)]
    answers = [run_tflite(tflite, [_row(before, 0)])[0] for tflite in (before, after)]
    assert np.ptp(answers[0]) > 1
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point"),
    [(RELU, 0.03, -127), (RELU, 0.03, 0), (RELU6, 0.03, -128)],
    ids=["one value below zero", "half below zero", "ends beyond 6"],
)
def test_an_activation_that_clamps_a_value_stays(activation: int, scale: float, zero_point: int) -> None:
    """Where one int8 value would pass that must not, nothing changes: not a byte."""
    before = _transpose_conv(activation, scale, zero_point)

    assert plain_form(before) == before


def test_versions_rise_to_what_the_types_need() -> None:
    """An int8 ADD is version 2, also one among int32 ADDs of version 1, and no unused operator code is left over."""
    tensors = [
        Tensor("x", "int8", (1, 4), None, (0.5,), (0,)),
        Tensor("n", "int32", (1, 4)),
        Tensor("y", "int8", (1, 4), None, (1.0,), (0,)),
        Tensor("m", "int32", (1, 4)),
    ]
    ops = [Op("ADD", (0, 0), (2,), schema.AddOptionsT()), Op("ADD", (1, 1), (3,), schema.AddOptionsT())]
    before = build(Graph(tensors, ops, (0, 1), (2, 3), signature_key="serving_default"))
    after = plain_form(before)

    assert _versions(after) == [("ADD", 2), ("ADD", 1)]
    codes = schema.Model.GetRootAs(after, 0)
    assert [codes.OperatorCodes(i).Version() for i in range(codes.OperatorCodesLength())] == [1, 2]
    rows = [np.array([[1, 2, 3, -4]], np.float32), np.array([[5, 6, 7, 8]], np.float32)]
    for ours, theirs in zip(run_tflite(after, rows), run_tflite(before, rows), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_operators_that_share_a_version_get_their_own() -> None:
    """TFLite keeps one version for all CONV_2D: a grouped one made the others 6 too, and only it needs that."""
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    kernel = np.random.default_rng(1).integers(-127, 128, (4, 1, 1, 4)).astype(np.int8)
    tensors = [Tensor(name, "int8", (1, 4, 4, 4), None, (0.1,), (0,)) for name in "xyz"]
    tensors.append(Tensor("grouped", "int8", (4, 1, 1, 2), kernel[..., :2].copy(), (0.01,) * 4, (0,) * 4))
    tensors.append(Tensor("whole", "int8", (4, 1, 1, 4), kernel, (0.01,) * 4, (0,) * 4))
    tensors.append(Tensor("bias", "int32", (4,), np.zeros(4, np.int32), (0.001,) * 4, (0,) * 4))
    ops = [Op("CONV_2D", (0, 3, 5), (1,), options, version=6), Op("CONV_2D", (1, 4, 5), (2,), options, version=6)]
    before = build(Graph(tensors, ops, (0,), (2,), signature_key="serving_default"))
    after = plain_form(before)

    assert _versions(after) == [("CONV_2D", 6), ("CONV_2D", 3)]
    np.testing.assert_array_equal(*(run_tflite(tflite, [_row(before, 0)])[0] for tflite in (before, after)))


@pytest.mark.parametrize(("kernel", "dilation"), [((1, 3), (1, 2)), ((3, 1), (2, 1)), ((3, 3), (2, 1))])
def test_a_kernel_of_one_row_is_dilated_both_ways_alike(kernel: tuple[int, int], dilation: tuple[int, int]) -> None:
    """A dilated Conv1D is a CONV_2D the Edge TPU takes; where both ways count, they stay as they are."""
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = 1
    options.dilationHFactor, options.dilationWFactor = dilation
    weights = np.random.default_rng(3).integers(-127, 128, (2, *kernel, 4)).astype(np.int8)
    tensors = [
        Tensor("x", "int8", (1, 8, 8, 4), None, (0.1,), (3,)),
        Tensor("w", "int8", weights.shape, weights, (0.01,) * 2, (0,) * 2),
        Tensor("b", "int32", (2,), np.array([5, -9], np.int32), (0.001,) * 2, (0,) * 2),
        Tensor("y", "int8", (1, 8, 8, 2), None, (0.2,), (0,)),
    ]
    before = build(Graph(tensors, [Op("CONV_2D", (0, 1, 2), (3,), options, version=3)], (0,), (3,), "serving_default"))
    after = plain_form(before)

    found = read_operators(after).operators[0].options
    expected = dilation if 1 not in kernel else (2, 2)
    assert (found["DilationHFactor"], found["DilationWFactor"]) == expected
    assert (after == before) == (expected == dilation)
    np.testing.assert_array_equal(*(run_tflite(tflite, [_row(before, 1)])[0] for tflite in (before, after)))


@pytest.mark.parametrize(
    ("type_", "version", "shapes", "expected"),
    [
        ("CONV_2D", 1, (), 3),
        ("CONV_2D", 6, ((1, 4, 4, 4), (4, 1, 1, 4)), 3),
        ("CONV_2D", 6, ((1, 4, 4, 4), (4, 1, 1, 2)), 6),
        ("TRANSPOSE", 1, ((1, 4, 4, 2, 2), (5,)), 4),
        ("TRANSPOSE", 6, ((1, 4, 4, 2), (4,)), 2),
        ("TILE", 1, ((1, 4), (2,)), 3),
        ("TRANSPOSE_CONV", 4, (), 3),
        ("PRELU", 1, (), 1),
    ],
)
def test_what_a_float_operator_becomes_is_said_in_advance(type_, version, shapes, expected) -> None:
    """The version is the one TFLite writes for its types and shapes; a ReLU fused into TRANSPOSE_CONV counts as taken out."""
    assert int8_version(type_, version, shapes) == expected


@pytest.mark.parametrize("make", [lambda: dense_model("int8"), lambda: conv_model("int8"), dense_model, conv_model])
def test_what_is_right_already_comes_back_as_it_was(make) -> None:
    """Not a byte changes in a float model, or in an int8 model with TFLite's versions."""
    assert plain_form(make()) == make()


def test_bytes_that_are_no_model_are_named() -> None:
    """As everywhere: what was expected and what came."""
    with pytest.raises(ModelFileError, match="TFL3"):
        plain_form(b"not a model")


@pytest.mark.keras
def test_both_quantizers_write_the_versions_tflite_writes(zoo) -> None:
    """For a net of many layers, the versions are those TFLite's own quantizer gives them, but for a ReLU it need not fuse."""
    import keras
    from edgekit_converters.export import export_float
    from edgekit_converters.load import LoadedModel
    from edgekit_converters.quantize import QuantizeOptions, quantize

    keras.utils.set_random_seed(2)
    layers = keras.layers
    image = layers.Input((8, 8, 4), name="image")
    ones = {"padding": "same", "bias_initializer": "ones"}  # a bias of zeros is left out of the file
    x = layers.BatchNormalization()(layers.Conv2DTranspose(4, 3, strides=2, **ones)(image))
    x = layers.ReLU()(layers.Conv2DTranspose(4, 3, **ones)(x))
    x = layers.Add()([layers.DepthwiseConv2D(3, padding="same")(x), layers.Activation("sigmoid")(x)])
    x = layers.Concatenate()(
        [layers.MaxPooling2D(2)(x), layers.ZeroPadding2D(1)(layers.AveragePooling2D(2)(x))[:, 1:-1, 1:-1]]
    )
    x = layers.Dense(5)(
        layers.GlobalAveragePooling2D()(layers.Resizing(4, 4)(layers.Conv2D(8, 1, activation="relu6")(x)))
    )
    model = keras.Model(image, layers.Softmax()(x))
    float_model = export_float(LoadedModel(model, "keras")).tflite
    samples = {"image": np.random.default_rng(0).normal(size=(16, 8, 8, 4)).astype(np.float32)}
    made = {
        name: quantize(float_model, precision="int8", samples=samples, options=QuantizeOptions(quantizer=name)).tflite
        for name in ("ai-edge-quantizer", "tflite-converter")
    }
    found = {
        name: Counter(item for item in _versions(tflite) if item[0] != "QUANTIZE") for name, tflite in made.items()
    }

    assert ("TRANSPOSE_CONV", 4) in _versions(float_model)
    assert found["ai-edge-quantizer"] == found["tflite-converter"]
    assert found["ai-edge-quantizer"]["TRANSPOSE_CONV", 3] == 2
    assert found["ai-edge-quantizer"]["CONV_2D", 3] == 1
