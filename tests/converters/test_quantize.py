"""Every precision of float .tflite models, against the float model itself and the promise of the precision's name."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters import (
    PRECISIONS,
    CalibrationError,
    ModelFileError,
    PromiseError,
    TechniqueError,
    UnsupportedModelError,
    quantize,
    read_model_card,
)
from edgekit_converters.export import export_float
from edgekit_converters.int8.calibrate import collect_ranges
from edgekit_converters.int8.observations import Observations
from edgekit_converters.load import LoadedModel
from edgekit_converters.quantize import SMALLEST_SCALE, QuantizeOptions

from tests.converters.conftest import run_tflite
from tests.tflite_builder import Graph, Op, Tensor, build, dense_model

ROWS = 64


def _image_net(keras):
    """Residual add, concatenation, depthwise convolution, pooling, resizing and softmax: what vision models are made of."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    x = layers.Add()([x, y])
    x = layers.Concatenate()([layers.MaxPooling2D(2)(x), layers.AveragePooling2D(2)(x)])
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 1, activation="relu")(x))
    return keras.Model(image, layers.Dense(5, activation="softmax", name="scores")(x))


def _odd_net(keras):
    """Activations that the flatbuffer quantizer leaves in float."""
    keras.utils.set_random_seed(4)
    layers = keras.layers
    image = layers.Input((8, 8, 3), name="image")
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2D(8, 3)(image))
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(8, 3)(x))
    x = layers.Conv2D(8, 3, activation="relu")(x)
    return keras.Model(image, layers.Dense(5, activation="sigmoid")(layers.Flatten()(x)))


def _float(build) -> bytes:
    import keras

    return export_float(LoadedModel(build(keras), "keras")).tflite


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """Calibration samples in [0, 1)."""
    return np.random.default_rng(0).uniform(0, 1, (ROWS, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def image_net(zoo) -> bytes:
    """The float model of _image_net; after zoo, which decides how TensorFlow is first imported."""
    return _float(_image_net)


@pytest.fixture(scope="module")
def odd_net(zoo) -> bytes:
    """The float model of _odd_net."""
    return _float(_odd_net)


# An output between 0 and 1 has steps of 1/256 in int8 and 1/32768 in int16; rounding of weights and of a handful of
# activations adds some such steps. Weight-only float16 rounds weights to 11 bits: 2**-11 relative per product.
TOLERANCE = {
    "float32": 0.0,
    "float16": 5e-3,
    "dynamic-int8": 2e-2,
    "int8": 8 / 256,
    "int16x8": 2e-2,
    "mixed-int8": 8 / 256,
}


@pytest.mark.keras
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_stays_near_the_float_model(image_net, samples, precision) -> None:
    """Outputs differ by no more than the precision's steps allow, on every calibration sample."""
    options = QuantizeOptions(keep_float=(1,) if precision == "mixed-int8" else ())
    made = quantize(image_net, precision=precision, samples={"image": samples}, options=options)
    worst = max(
        float(np.abs(run_tflite(made.tflite, [row])[0] - run_tflite(image_net, [row])[0]).max())
        for row in (samples[i : i + 1] for i in range(ROWS))
    )

    assert made.precision == precision
    assert made.quantizer == ("none" if precision == "float32" else "ai-edge-quantizer")
    assert worst <= TOLERANCE[precision]


@pytest.mark.keras
@pytest.mark.parametrize("input_type", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("output_type", ["float32", "int8", "uint8"])
def test_inputs_and_outputs_are_of_the_type_asked_for(image_net, samples, input_type, output_type) -> None:
    """Every combination of types at the ends of an int8 model, answering as the float one does within its steps."""
    made = quantize(image_net, precision="int8", samples={"x": samples}, input_type=input_type, output_type=output_type)
    card = read_model_card(made.tflite)
    row = samples[:1]

    assert (card.inputs[0].dtype, card.outputs[0].dtype) == (input_type, output_type)
    assert (made.input_type, made.output_type) == (input_type, output_type)
    assert np.abs(run_tflite(made.tflite, [row])[0] - run_tflite(image_net, [row])[0]).max() <= TOLERANCE["int8"]


@pytest.mark.keras
def test_types_apply_to_int8_alone(image_net, samples) -> None:
    """int16x8 and the float precisions keep float32 at their ends, whatever is asked."""
    made = quantize(image_net, precision="int16x8", samples={"x": samples}, input_type="int8", output_type="uint8")

    assert (made.input_type, made.output_type) == ("float32", "float32")


@pytest.mark.keras
def test_one_pass_over_the_samples_serves_every_precision(image_net, samples) -> None:
    """Ranges collected before give the very bytes that a pass of its own gives."""
    ranges = collect_ranges(image_net, {"x": samples})

    for precision in ("int8", "int16x8"):
        alone = quantize(image_net, precision=precision, samples={"x": samples})
        shared = quantize(image_net, precision=precision, samples={"x": samples}, ranges=ranges)
        assert alone.tflite == shared.tflite


@pytest.mark.keras
def test_operators_the_first_quantizer_leaves_in_float_go_to_tflite_s_own(odd_net, samples) -> None:
    """LeakyReLU and PReLU: the promise of int8 is kept by the second quantizer."""
    made = quantize(odd_net, precision="int8", samples={"image": samples})
    row = samples[:1]
    kinds = {op.type for op in read_model_card(made.tflite).ops}

    assert made.quantizer == "tflite-converter"
    assert {"LEAKY_RELU", "PRELU"} <= kinds
    assert np.abs(run_tflite(made.tflite, [row])[0] - run_tflite(odd_net, [row])[0]).max() <= TOLERANCE["int8"]


@pytest.mark.keras
def test_a_loop_cannot_be_int8_and_says_so(zoo) -> None:
    """A recurrent layer that is not unrolled is a loop: an error, where TFLite's own quantizer would abort."""
    case = zoo.cases["lstm"] if "lstm" in zoo.cases else next(c for n, c in zoo.cases.items() if "lstm" in n.lower())
    float_model = export_float(LoadedModel(case.model, case.framework)).tflite
    if read_model_card(float_model).subgraphs == 1:
        pytest.fail("expected a recurrent model that is exported as a loop")
    shape = case.samples[0].shape[1:]
    rows = np.random.default_rng(0).uniform(-1, 1, (16, *shape)).astype(np.float32)

    for quantizer in ("auto", "tflite-converter"):
        with pytest.raises(PromiseError, match="build its recurrent layers with unroll=True"):
            quantize(float_model, precision="int8", samples={"x": rows}, options=QuantizeOptions(quantizer=quantizer))


@pytest.mark.keras
def test_vanishing_activations_still_load(zoo) -> None:
    """The ranges of a dead network are widened to a scale the runtimes can take a ReLU6 at."""

    def dead(keras):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        tiny = keras.initializers.RandomUniform(-1e-4, 1e-4)
        net = [layers.Input((8, 8, 3))]
        net += [layers.Conv2D(8, 3, kernel_initializer=tiny, activation="relu6") for _ in range(3)]
        return keras.Sequential([*net, layers.Flatten(), layers.Dense(3)])

    made = quantize(
        _float(dead),
        precision="int16x8",
        samples={"x": np.random.default_rng(0).uniform(-1, 1, (16, 8, 8, 3)).astype(np.float32)},
    )
    scales = [
        scale for tensor in read_model_card(made.tflite).tensors if tensor.dtype == "int16" for scale in tensor.scales
    ]

    assert min(scales) >= SMALLEST_SCALE * 0.999  # float32 keeps it to 6e-8 relative
    assert run_tflite(made.tflite, [np.zeros((1, 8, 8, 3), np.float32)])[0].shape == (1, 3)


def test_small_kernels_become_int8_where_there_are_no_larger_ones() -> None:
    """dynamic-int8 leaves small kernels alone only beside large ones: else it would change nothing."""
    from tests.tflite_builder import conv_model

    made = quantize(conv_model(), precision="dynamic-int8")

    assert "int8" in {tensor.dtype for tensor in read_model_card(made.tflite).tensors if tensor.constant}


def test_ranges_are_the_extremes_of_every_sample() -> None:
    """For one fully connected layer: what numpy gives for its input and its output."""
    model = dense_model()
    card = read_model_card(model)
    rows = np.random.default_rng(1).uniform(-3, 2, (20, *card.inputs[0].shape[1:])).astype(np.float32)
    outputs = np.concatenate([run_tflite(model, [row[None]])[0] for row in rows])

    ranges = collect_ranges(model, {"x": rows})

    assert ranges[card.inputs[0].name] == (pytest.approx(rows.min()), pytest.approx(rows.max()))
    assert ranges[card.outputs[0].name] == (pytest.approx(outputs.min()), pytest.approx(outputs.max()))
    assert len(ranges) == 2


def test_calibration_that_does_not_fit_is_refused() -> None:
    """No samples, the wrong shape, NaN, other names: each says what was expected."""
    model = dense_model()
    width = read_model_card(model).inputs[0].shape[1]
    good = np.zeros((16, width), np.float32)
    broken = good.copy()
    broken[3, 0] = np.nan

    for samples, words in (
        (None, "needs calibration samples"),
        ({"x": good[:, :-1]}, "of shape"),
        ({"x": broken}, "NaN"),
        ({"a": good, "b": good}, "for the inputs"),
        ({"x": good[:0]}, "at least one"),
    ):
        with pytest.raises(CalibrationError, match=words):
            quantize(model, precision="int8", samples=samples)


def test_only_float_models_are_quantized() -> None:
    """An int8 model, rubbish and an unknown precision are refused before any work."""
    with pytest.raises(UnsupportedModelError, match="start from the float model"):
        quantize(dense_model("int8"), precision="float16")
    with pytest.raises(ModelFileError):
        quantize(b"no model at all, but long enough", precision="float16")
    with pytest.raises(UnsupportedModelError, match="dynamic-int8"):
        quantize(dense_model(), precision="int4")


LAYERS = ("stem", "stem;relu", "a.b", "aXb", "a(b", "head")


def _chain(names: tuple[str, ...] = LAYERS) -> bytes:
    """Fully connected layers of 8 units, one after the other, whose outputs have these names."""
    random = np.random.default_rng(4)
    tensors, ops, last = [Tensor("row", "float32", (1, 8))], [], 0
    for number, name in enumerate(names):
        tensors += [
            Tensor(f"kernel {number}", "float32", (8, 8), random.normal(size=(8, 8)).astype(np.float32)),
            Tensor(f"bias {number}", "float32", (8,), random.normal(size=8).astype(np.float32)),
            Tensor(name, "float32", (1, 8)),
        ]
        size = len(tensors)
        ops.append(Op("FULLY_CONNECTED", (last, size - 3, size - 2), (size - 1,), schema.FullyConnectedOptionsT()))
        last = size - 1
    return build(Graph(tensors, ops, (0,), (last,), signature_key="serving_default"))


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Calibration samples of _chain."""
    return np.random.default_rng(0).normal(size=(ROWS, 8)).astype(np.float32)


def _precisions(tflite: bytes) -> list[str]:
    """What every fully connected layer computes with, in order."""
    card = read_model_card(tflite)
    return [card.tensors[op.outputs[0]].dtype for op in card.ops if op.type == "FULLY_CONNECTED"]


@pytest.mark.parametrize("kept", range(len(LAYERS)))
@pytest.mark.parametrize("io_type", ["float32", "int8"])
def test_an_operator_is_kept_by_its_index_whatever_its_name(rows, kept, io_type) -> None:
    """Names that contain each other, or signs with a meaning in patterns: the operator asked for, and no other."""
    for option, dtype in (("keep_float", "float32"), ("keep_int16", "int16")):
        options = QuantizeOptions(**{option: (kept,)})
        made = quantize(
            _chain(), precision="int8", samples={"x": rows}, options=options, input_type=io_type, output_type=io_type
        )
        expected = ["int8"] * len(LAYERS)
        expected[kept] = dtype

        assert _precisions(made.tflite) == expected
        assert (made.precision, made.quantizer) == ("mixed-int8", "ai-edge-quantizer")
        assert made.kept[dtype] == {"FULLY_CONNECTED": 1}
        assert (made.input_type, made.output_type) == (io_type, io_type)


def test_what_is_kept_brings_the_outputs_nearer(rows) -> None:
    """With more operators in float, or in int16, the error falls; with all but one, by more than half."""
    model = _chain()

    def error(**options) -> float:
        made = quantize(model, precision="int8", samples={"x": rows}, options=QuantizeOptions(**options))
        return float(
            np.mean([(run_tflite(made.tflite, [r[None]])[0] - run_tflite(model, [r[None]])[0]) ** 2 for r in rows])
        )

    plain = error()
    assert error(keep_float=(1, 2, 3, 4, 5)) < 0.5 * plain
    assert error(keep_int16=(1, 2, 3, 4, 5)) < 0.75 * plain


@pytest.mark.parametrize(
    ("precision", "options", "message"),
    [
        ("int8", {"keep_float": (6,)}, "among 0 to 5, got 6"),
        ("mixed-int8", {}, "expected operators to keep"),
        ("float16", {"calibration": "mse"}, "options with int8 only, got them with float16"),
        ("int16x8", {"keep_float": (1,)}, "options with int8 only, got them with int16x8"),
    ],
)
def test_options_that_do_not_fit_are_refused(rows, precision, options, message) -> None:
    """An operator there is none of, nothing kept in a mixed model, options of another precision."""
    with pytest.raises(TechniqueError, match=message):
        quantize(_chain(), precision=precision, samples={"x": rows}, options=QuantizeOptions(**options))


def test_operators_of_plain_integers_cannot_be_kept() -> None:
    """Token ids are never quantized: to keep an operator on them is a mistake."""
    tokens = [Tensor("ids", "int32", (1, 8)), Tensor("y", "int32", (1, 8))]
    integers = build(Graph(tokens, [Op("ABS", (0,), (1,), schema.AbsOptionsT())], (0,), (1,)))

    samples = {"x": np.ones((4, 8), np.float32)}
    with pytest.raises(TechniqueError, match="got ABS 0, which never is quantized"):
        quantize(integers, precision="int8", samples=samples, options=QuantizeOptions(keep_float=(0,)))


def test_keeping_everything_is_no_int8(rows) -> None:
    """A model without an operator in int8 is not called mixed."""
    options = QuantizeOptions(keep_float=tuple(range(len(LAYERS))), quantizer="ai-edge-quantizer")

    with pytest.raises(PromiseError, match="no operator works on quantized int8"):
        quantize(_chain(), precision="int8", samples={"x": rows}, options=options)


def test_operators_that_cannot_be_told_apart_are_not_kept(rows) -> None:
    """Two outputs of one name: the quantizer that goes by names refuses, and there is no other for int16."""
    for options in ({"keep_int16": (1,)}, {"keep_float": (1,), "quantizer": "ai-edge-quantizer"}):
        with pytest.raises(PromiseError, match="has no name of its own"):
            quantize(
                _chain(("a", "twin", "twin", "b")),
                precision="int8",
                samples={"x": rows},
                options=QuantizeOptions(**options),
            )


def test_operators_without_an_int16_kind_are_not_kept_in_int16(rows) -> None:
    """An operator the quantizer does not know stays in float: asked for int16, that is an error and not a surprise."""
    leaky = schema.LeakyReluOptionsT()
    tensors = [Tensor(name, "float32", (1, 8)) for name in ("x", "y", "z")]
    ops = [Op("LEAKY_RELU", (0,), (1,), leaky), Op("TANH", (1,), (2,))]
    model = build(Graph(tensors, ops, (0,), (2,), signature_key="serving_default"))

    with pytest.raises(
        PromiseError, match="cannot keep the operator LEAKY_RELU 0, which is of a kind it leaves in float"
    ):
        quantize(model, precision="int8", samples={"x": rows}, options=QuantizeOptions(keep_int16=(0,)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"calibration": "percentile", "percentile": 99.0},
        {"calibration": "mse"},
        {"calibration": "entropy"},
        {"equalize": True, "correct_bias": True},
        {"keep_float": (2,), "calibration": "mse", "equalize": True, "correct_bias": True},
    ],
)
def test_observations_spare_passes_and_change_nothing(rows, options) -> None:
    """With and without observations of an earlier quantization, and again: the same bytes."""
    model, seen = _chain(), Observations(_chain(), {"x": rows})
    made = [
        quantize(
            model, precision="int8", samples={"x": rows}, options=QuantizeOptions(**options), observations=observations
        )
        for observations in (None, seen, seen)
    ]

    assert made[0].tflite == made[1].tflite == made[2].tflite
    assert made[0].calibration == options.get("calibration", "minmax")


def test_observations_and_ranges_of_another_model_are_refused(rows) -> None:
    """What was seen of one model says nothing of another, nor ranges of the model once it is balanced."""
    model = _chain()
    other = Observations(_chain(("a", "b")), {"x": rows})

    with pytest.raises(TechniqueError, match="those of another"):
        quantize(model, precision="int8", samples={"x": rows}, observations=other)
    with pytest.raises(TechniqueError, match="no ranges beside equalize"):
        quantize(
            model,
            precision="int8",
            samples={"x": rows},
            ranges=collect_ranges(model, {"x": rows}),
            options=QuantizeOptions(equalize=True),
        )


def test_clipped_ranges_become_smaller_scales(rows) -> None:
    """The scale of an activation in the model is its range by the calibration asked for, over 255 steps."""
    samples = {"x": np.concatenate([rows, rows[:1] * 30])}
    seen = Observations(_chain(), samples)
    for calibration in ("minmax", "percentile", "entropy"):
        options = QuantizeOptions(calibration=calibration, percentile=99.0)
        made = quantize(_chain(), precision="int8", samples=samples, options=options, observations=seen)
        tensor = next(item for item in read_model_card(made.tflite).tensors if item.name == "a.b")
        low, high = seen.ranges(calibration, 99.0)["a.b"]

        assert tensor.scales[0] == pytest.approx((max(high, 0) - min(low, 0)) / 255, rel=1e-6)


def test_the_worker_takes_options_and_tells_what_was_done(worker, tmp_path, rows) -> None:
    """Through the process: options as JSON, facts as JSON, and an option that is none as the error it is."""
    model, samples = tmp_path / "float.tflite", tmp_path / "samples.npz"
    model.write_bytes(_chain())
    np.savez(samples, x=rows)
    job = {"model": str(model), "samples": str(samples), "out": str(tmp_path / "out.tflite"), "precision": "int8"}
    job |= {"input_type": "float32", "output_type": "float32"}

    answer = worker.call("quantize", **job, options={"calibration": "mse", "equalize": True, "keep_float": [1, 3]})

    assert answer["precision"] == "mixed-int8"
    assert answer["kept"] == {"float32": {"FULLY_CONNECTED": 2}, "int16": {}}
    assert answer["calibration"] == "mse"
    assert answer["corrected"] == []
    assert all(len(pair) == 2 for pair in answer["equalized"])
    assert _precisions((tmp_path / "out.tflite").read_bytes()) == ["int8", "float32", "int8", "float32", "int8", "int8"]
    with pytest.raises(TechniqueError, match="did you mean 'equalize'"):
        worker.call("quantize", **job, options={"equalise": True})


@pytest.mark.keras
@pytest.mark.parametrize("options", [{}, {"calibration": "percentile", "percentile": 99.0}, {"keep_float": (1, 2)}])
def test_the_second_quantizer_by_name_takes_options_too(image_net, samples, options) -> None:
    """TFLite's own quantizer: calibrations, operators kept in float, and the same bytes each time."""
    seen = Observations(image_net, {"x": samples})
    made, again = (
        quantize(
            image_net,
            precision="int8",
            samples={"x": samples},
            options=QuantizeOptions(quantizer="tflite-converter", **options),
            observations=seen,
        )
        for _ in range(2)
    )
    row = samples[:1]

    assert made.quantizer == "tflite-converter"
    assert made.tflite == again.tflite
    assert np.abs(run_tflite(made.tflite, [row])[0] - run_tflite(image_net, [row])[0]).max() <= TOLERANCE["int8"]
    if "calibration" in options:
        card = read_model_card(made.tflite)
        inside = card.tensors[[op.outputs[0] for op in card.ops if op.type == "CONV_2D"][-1]]
        low, high = seen.ranges("percentile", 99.0)[inside.name]
        assert inside.scales[0] == pytest.approx((max(high, 0) - min(low, 0)) / 255, rel=1e-6)


@pytest.mark.keras
def test_operators_no_quantizer_knows_may_be_kept(odd_net, samples) -> None:
    """LeakyReLU and PReLU in float make the first quantizer enough."""
    odd = tuple(op.index for op in read_model_card(odd_net).ops if op.type in ("LEAKY_RELU", "PRELU"))
    made = quantize(odd_net, precision="int8", samples={"x": samples}, options=QuantizeOptions(keep_float=odd))

    assert (made.quantizer, made.precision) == ("ai-edge-quantizer", "mixed-int8")
    assert made.kept["float32"] == {"LEAKY_RELU": 1, "PRELU": 1}


@pytest.mark.keras
def test_a_model_of_the_second_quantizer_is_the_same_each_time(zoo) -> None:
    """Its attempts differ, in what they leave in float: those that keep the promise are the same bytes."""
    case = zoo.cases["GRU unrolled"]
    float_model = export_float(LoadedModel(case.model, case.framework)).tflite
    rows = np.random.default_rng(0).uniform(-1, 1, (16, *case.samples[0].shape[1:])).astype(np.float32)
    made = {quantize(float_model, precision="int8", samples={"x": rows}).tflite for _ in range(4)}

    assert len(made) == 1
