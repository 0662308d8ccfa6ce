"""Balanced channels: the same function, to the bit, with activations whose channels have like ranges."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters.int8.calibrate import watch_activations
from edgekit_converters.int8.equalize import equalize, find_pairs
from edgekit_converters.int8.surgery import FlatModel

from tests.converters.conftest import run_tflite
from tests.tflite_builder import Graph, Op, Tensor, build

SIDE, CHANNELS = 4, 6
NONE, RELU, RELU6, TANH = 0, 1, 3, 4
SPREAD = 2.0 ** np.array([-7, -3, 0, 2, 4, -5])


def _options(kind: str, activation: int, multiplier: int = 1):
    made = {
        "CONV_2D": schema.Conv2DOptionsT,
        "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptionsT,
        "FULLY_CONNECTED": schema.FullyConnectedOptionsT,
    }[kind]()
    made.fusedActivationFunction = activation
    if kind != "FULLY_CONNECTED":
        made.strideW = made.strideH = made.dilationWFactor = made.dilationHFactor = 1
    if kind == "DEPTHWISE_CONV_2D":
        made.depthMultiplier = multiplier
    return made


class Net:
    """A chain of layers on 1 x 4 x 4 x 6, built one after the other."""

    def __init__(self, spread: np.ndarray = SPREAD) -> None:
        self.random, self.spread = np.random.default_rng(3), spread
        self.tensors = [Tensor("image", "float32", (1, SIDE, SIDE, CHANNELS))]
        self.ops: list[Op] = []
        self.last = 0
        self.rank = 4

    def layer(self, kind: str, activation: int = RELU, *, skew: np.ndarray | None = None) -> Net:
        """A layer whose channels are ``skew`` times as large, and one that takes those of before as much smaller."""
        shape = {"CONV_2D": (6, 1, 1, 6), "DEPTHWISE_CONV_2D": (1, 3, 3, 6), "FULLY_CONNECTED": (6, 6)}[kind]
        kernel = self.random.normal(size=shape)
        bias = self.random.normal(size=CHANNELS)
        out = np.ones(CHANNELS) if skew is None else skew
        taken = getattr(self, "skewed", np.ones(CHANNELS))
        if kind == "DEPTHWISE_CONV_2D":
            kernel = kernel * out / taken
        else:
            kernel = kernel * out.reshape(-1, *[1] * (len(shape) - 1)) / taken
        self.skewed = out
        kernel_at = self.add(f"kernel{len(self.ops)}", kernel.astype(np.float32))
        bias_at = self.add(f"bias{len(self.ops)}", (bias * out).astype(np.float32))
        return self.op(kind, _options(kind, activation), (kernel_at, bias_at))

    def add(self, name: str, values: np.ndarray) -> int:
        """A constant."""
        self.tensors.append(Tensor(name, str(values.dtype), values.shape, values))
        return len(self.tensors) - 1

    def op(self, kind: str, options=None, constants: tuple[int, ...] = (), shape: tuple[int, ...] | None = None) -> Net:
        """Any operator on what came last."""
        shape = shape or self.tensors[self.last].shape
        self.tensors.append(Tensor(f"a{len(self.ops)}", "float32", shape))
        self.ops.append(Op(kind, (self.last, *constants), (len(self.tensors) - 1,), options))
        self.last = len(self.tensors) - 1
        return self

    def bytes(self, *more_outputs: int) -> bytes:
        """The model; ``more_outputs`` are further tensors that leave it."""
        return build(Graph(self.tensors, self.ops, (0,), (self.last, *more_outputs), signature_key="serving_default"))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Samples between -1 and 1."""
    return np.random.default_rng(0).uniform(-1, 1, (16, SIDE, SIDE, CHANNELS)).astype(np.float32)


def _spread(model: bytes, images: np.ndarray, name: str) -> float:
    """How many times as large as the smallest the largest channel of an activation is."""
    largest = np.zeros(CHANNELS)

    def see(_: str, values: np.ndarray) -> None:
        np.maximum(largest, np.abs(values).reshape(-1, CHANNELS).max(axis=0), out=largest)

    watch_activations(model, {"x": images}, see, names={name})
    return float(largest.max() / largest.min())


@pytest.mark.parametrize("activation", [NONE, RELU])
@pytest.mark.parametrize("after", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
@pytest.mark.parametrize("before", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_skewed_channels_are_balanced_and_nothing_else_changes(images, before, after, activation) -> None:
    """Every pair of layers: outputs are equal to the bit, and a spread of 2**11 between channels is gone."""
    model = Net().layer(before, activation, skew=SPREAD).layer(after, NONE).bytes()
    found = equalize(model, {"x": images})

    assert found.pairs == ((0, 1),)
    for image in images:
        np.testing.assert_array_equal(run_tflite(found.tflite, [image[None]])[0], run_tflite(model, [image[None]])[0])
    assert _spread(model, images, "a0") > 2**9
    # Equal ranges before a depthwise convolution, to a power of two; before others a channel's weights weigh in.
    assert _spread(found.tflite, images, "a0") <= (2 if after == "DEPTHWISE_CONV_2D" else 2**3)


def test_a_balanced_model_is_left_as_it_is(images) -> None:
    """Twice is once."""
    model = Net().layer("CONV_2D", skew=SPREAD).layer("DEPTHWISE_CONV_2D").layer("CONV_2D", NONE).bytes()
    once = equalize(model, {"x": images})
    twice = equalize(once.tflite, {"x": images})

    assert once.pairs == ((0, 1), (1, 2))
    assert twice.pairs == ()
    assert twice.tflite == once.tflite


def test_channels_that_reach_six_keep_their_scale(images) -> None:
    """A ReLU6 stops at 6 in every channel: no other channel is made to pass it, and samples give the same outputs."""
    model = Net().layer("CONV_2D", RELU6, skew=SPREAD).layer("DEPTHWISE_CONV_2D", NONE).bytes()
    found = equalize(model, {"x": images})
    largest = np.zeros(CHANNELS)
    watch_activations(
        found.tflite,
        {"x": images},
        lambda _, values: np.maximum(largest, values.reshape(-1, CHANNELS).max(axis=0), out=largest),
        names={"a0"},
    )
    kernels = [FlatModel(tflite).constant(1) for tflite in (model, found.tflite)]
    scales = (kernels[1] / kernels[0])[:, 0, 0, 0]

    assert found.pairs == ((0, 1),)
    for image in images:
        np.testing.assert_array_equal(run_tflite(found.tflite, [image[None]])[0], run_tflite(model, [image[None]])[0])
    assert np.all(largest <= 6)
    assert np.all(largest > 3)
    assert list(np.flatnonzero(scales == 1.0)) == [3, 4]


def test_operators_between_two_layers_let_a_scale_through(images) -> None:
    """Pooling, padding, a ReLU of its own and a mean over positions work on each channel by itself."""
    pool = schema.Pool2DOptionsT()
    pool.filterWidth = pool.filterHeight = pool.strideW = pool.strideH = 2
    pool.padding = schema.Padding.VALID
    net = Net().layer("CONV_2D", NONE, skew=SPREAD).op("RELU")
    net.op(
        "PAD",
        schema.PadOptionsT(),
        (net.add("pads", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)),),
        (1, 6, 6, 6),
    )
    net.op("MAX_POOL_2D", pool, shape=(1, 3, 3, 6))
    axes = net.add("axes", np.array([1, 2], np.int32))
    net.op("MEAN", schema.ReducerOptionsT(), (axes,), (1, 6))
    model = net.layer("FULLY_CONNECTED", NONE).bytes()
    found = equalize(model, {"x": images})

    assert found.pairs == ((0, 5),)
    for image in images:
        np.testing.assert_array_equal(run_tflite(found.tflite, [image[None]])[0], run_tflite(model, [image[None]])[0])
    assert _spread(found.tflite, images, "a3") <= 2**4


def test_layers_that_cannot_be_scaled_are_no_pair() -> None:
    """An activation that is not linear, that leaves the model, or that someone else reads; channels that are mixed."""
    tanh = Net().layer("CONV_2D", TANH).layer("CONV_2D")
    logistic = Net().layer("CONV_2D").op("LOGISTIC").layer("CONV_2D")
    leaves = Net().layer("CONV_2D")
    end = leaves.last
    twice = Net().layer("CONV_2D")
    left = twice.last
    twice.layer("CONV_2D")
    twice.op("ADD", schema.AddOptionsT(), (left,))
    over_channels = Net().layer("CONV_2D")
    axes = over_channels.add("axes", np.array([3], np.int32))
    over_channels.op("MEAN", schema.ReducerOptionsT(), (axes,), (1, 4, 4))
    padded = Net().layer("CONV_2D")
    pads = padded.add("pads", np.array([[0, 0], [0, 0], [0, 0], [0, 1]], np.int32))
    padded.op("PAD", schema.PadOptionsT(), (pads,), (1, 4, 4, 7))

    for model in (
        tanh.bytes(),
        logistic.bytes(),
        leaves.layer("CONV_2D").bytes(end),
        twice.bytes(),
        over_channels.bytes(),
        padded.bytes(),
    ):
        assert list(find_pairs(FlatModel(model))) == []


def test_a_kernel_that_two_layers_share_is_copied(images) -> None:
    """Layers that read one constant each get what they need, and the model is the same function."""
    net = Net().layer("CONV_2D", skew=SPREAD)
    shared = net.ops[0].inputs[1:]
    net.op("CONV_2D", _options("CONV_2D", RELU), shared).op("CONV_2D", _options("CONV_2D", NONE), shared)
    model = net.bytes()
    found = equalize(model, {"x": images})

    assert len(found.pairs) == 2
    for image in images:
        np.testing.assert_array_equal(run_tflite(found.tflite, [image[None]])[0], run_tflite(model, [image[None]])[0])


def test_dead_channels_keep_their_scale(images) -> None:
    """A channel that is 0 on all samples, or that nobody takes, is not blown up."""
    dead = np.where(np.arange(CHANNELS) == 2, 0.0, 1.0)
    net = Net().layer("CONV_2D", skew=dead)
    net.skewed = np.ones(CHANNELS)
    model = net.layer("DEPTHWISE_CONV_2D", NONE).bytes()
    kernel = FlatModel(equalize(model, {"x": images}).tflite).constant(4)

    assert np.array_equal(kernel[..., 2], FlatModel(model).constant(4)[..., 2])
    assert np.isfinite(kernel).all()


def test_a_model_without_pairs_is_given_back(images) -> None:
    """Nothing to do is nothing done: the very bytes."""
    model = Net().layer("CONV_2D").bytes()

    assert equalize(model, {"x": images}).tflite == model
