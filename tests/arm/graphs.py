"""Float models: one for each kind of kernel that is compared between ARM and this machine, and a small CNN of most of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_builder import Graph, Op, Tensor, build

SIDE, CHANNELS, CLASSES = 16, 8, 10
IMAGE = (1, SIDE, SIDE, CHANNELS)
NONE, RELU6 = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU6


class Chain:
    """A graph grown operator by operator from one image input; weights are seeded, and sized to keep activations near 1."""

    def __init__(self, shape: tuple[int, ...] = IMAGE) -> None:
        self.tensors = [Tensor("image", "float32", shape)]
        self.ops: list[Op] = []
        self.draw = np.random.default_rng(11)

    def constant(self, values: np.ndarray) -> int:
        """The index of a constant tensor."""
        self.tensors.append(Tensor(f"constant_{len(self.tensors)}", str(values.dtype), values.shape, values))
        return len(self.tensors) - 1

    def weights(self, *shape: int, fan_in: int) -> int:
        """The index of a seeded kernel for outputs of about unit variance."""
        return self.constant((self.draw.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32))

    def add(
        self, kind: str, inputs: tuple[int, ...], shape: tuple[int, ...], options: Any = None, version: int = 1
    ) -> int:
        """The index of the output of a further operator."""
        self.tensors.append(Tensor(f"{kind.lower()}_{len(self.tensors)}", "float32", shape))
        self.ops.append(Op(kind, inputs, (len(self.tensors) - 1,), options, version=version))
        return len(self.tensors) - 1

    def build(self, output: int) -> bytes:
        """The model, from the image to tensor ``output``."""
        return build(Graph(self.tensors, self.ops, (0,), (output,), "serving_default"))

    def shape(self, tensor: int) -> tuple[int, ...]:
        """A tensor's shape."""
        return self.tensors[tensor].shape

    def conv(self, tensor: int, filters: int, size: int = 3, activation: int = RELU6) -> int:
        """A SAME convolution with a bias."""
        batch, height, width, channels = self.shape(tensor)
        options = schema.Conv2DOptionsT()
        options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
        options.fusedActivationFunction = activation
        kernel = self.weights(filters, size, size, channels, fan_in=size * size * channels)
        bias = self.weights(filters, fan_in=4)
        return self.add("CONV_2D", (tensor, kernel, bias), (batch, height, width, filters), options)

    def depthwise(self, tensor: int, stride: int = 2) -> int:
        """A 3 x 3 SAME depthwise convolution with a bias and ReLU6."""
        batch, height, width, channels = self.shape(tensor)
        options = schema.DepthwiseConv2DOptionsT()
        options.strideW = options.strideH = stride
        options.depthMultiplier = options.dilationWFactor = options.dilationHFactor = 1
        options.fusedActivationFunction = RELU6
        kernel, bias = self.weights(1, 3, 3, channels, fan_in=9), self.weights(channels, fan_in=4)
        out = (batch, -(-height // stride), -(-width // stride), channels)
        return self.add("DEPTHWISE_CONV_2D", (tensor, kernel, bias), out, options)

    def dense(self, tensor: int, units: int) -> int:
        """A fully connected layer over the last axis, with a bias."""
        batch, width = self.shape(tensor)
        kernel, bias = self.weights(units, width, fan_in=width), self.weights(units, fan_in=4)
        return self.add("FULLY_CONNECTED", (tensor, kernel, bias), (batch, units), schema.FullyConnectedOptionsT())

    def pool(self, kind: str, tensor: int, stride: int = 1) -> int:
        """A 3 x 3 SAME pool."""
        batch, height, width, channels = self.shape(tensor)
        options = schema.Pool2DOptionsT()
        options.strideW = options.strideH = stride
        options.filterWidth = options.filterHeight = 3
        return self.add(kind, (tensor,), (batch, -(-height // stride), -(-width // stride), channels), options)

    def mean(self, tensor: int) -> int:
        """The mean over height and width."""
        batch, _, _, channels = self.shape(tensor)
        options = schema.ReducerOptionsT()
        options.keepDims = False
        return self.add("MEAN", (tensor, self.constant(np.array([1, 2], np.int32))), (batch, channels), options)

    def plus(self, left: int, right: int) -> int:
        """The sum of two tensors of one shape, with ReLU6."""
        options = schema.AddOptionsT()
        options.fusedActivationFunction = RELU6
        return self.add("ADD", (left, right), self.shape(left), options)

    def softmax(self, tensor: int) -> int:
        """Softmax over the last axis."""
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self.add("SOFTMAX", (tensor,), self.shape(tensor), options)

    def resize(self, kind: str, tensor: int, factor: int = 2) -> int:
        """Height and width times ``factor``, as Keras's UpSampling2D makes it: half-pixel centres."""
        batch, height, width, channels = self.shape(tensor)
        bilinear = kind == "RESIZE_BILINEAR"
        options = schema.ResizeBilinearOptionsT() if bilinear else schema.ResizeNearestNeighborOptionsT()
        options.halfPixelCenters, options.alignCorners = True, False
        size = self.constant(np.array([height * factor, width * factor], np.int32))
        return self.add(kind, (tensor, size), (batch, height * factor, width * factor, channels), options, version=3)


def _cnn(chain: Chain) -> int:
    """Convolution, two depthwise-separable blocks, a residual sum, upsampling, pools, a classifier with softmax."""
    stem = chain.conv(0, 16)
    block = chain.conv(chain.depthwise(stem, stride=1), 16, size=1)
    block = chain.conv(chain.depthwise(chain.plus(stem, block)), 24, size=1)
    wide = chain.pool("AVERAGE_POOL_2D", chain.resize("RESIZE_BILINEAR", block))
    return chain.softmax(chain.dense(chain.mean(chain.pool("MAX_POOL_2D", wide, stride=2)), CLASSES))


OPERATIONS: dict[str, Callable[[Chain], int]] = {
    "conv": lambda chain: chain.conv(0, 16),
    "conv_linear": lambda chain: chain.conv(0, 16, activation=NONE),
    "conv_1x1": lambda chain: chain.conv(0, 24, size=1),
    "depthwise": lambda chain: chain.depthwise(0),
    "dense": lambda chain: chain.dense(0, 32),
    "add": lambda chain: chain.plus(0, chain.pool("MAX_POOL_2D", 0)),
    "average_pool": lambda chain: chain.pool("AVERAGE_POOL_2D", 0),
    "max_pool": lambda chain: chain.pool("MAX_POOL_2D", 0),
    "mean": lambda chain: chain.mean(0),
    "softmax": lambda chain: chain.softmax(0),
    "logistic": lambda chain: chain.add("LOGISTIC", (0,), chain.shape(0)),
    "resize_bilinear": lambda chain: chain.resize("RESIZE_BILINEAR", 0),
    "resize_nearest": lambda chain: chain.resize("RESIZE_NEAREST_NEIGHBOR", 0),
    "cnn": _cnn,
}
VECTORS = ("dense", "softmax")


def float_model(name: str) -> bytes:
    """The float32 model of one of OPERATIONS."""
    chain = Chain((1, 64) if name in VECTORS else IMAGE)
    return chain.build(OPERATIONS[name](chain))


def samples(name: str, count: int, seed: int) -> np.ndarray:
    """Seeded inputs of a model: normal, as activations within a network are."""
    shape = (64,) if name in VECTORS else IMAGE[1:]
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)
