"""A float classifier of dense layers with named scopes, built byte by byte, and what numpy says it answers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_builder import Graph, Op, Tensor, build

SIDE, CHANNELS, WIDTH, CLASSES = 4, 3, 24, 5
FEATURES = SIDE * SIDE * CHANNELS
NAMES = ("first", "second", "third", "scores")


@dataclass(frozen=True)
class Network:
    """Images of 4 x 4 x 3, flattened, through dense layers with ReLU to a softmax over 5 classes."""

    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def activations(self, images: np.ndarray) -> list[np.ndarray]:
        """Of every dense layer, after its ReLU where it has one: shape (N, units)."""
        found = [images.reshape(len(images), -1).astype(np.float64)]
        for place, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            values = found[-1] @ kernel.T.astype(np.float64) + bias
            found.append(np.maximum(values, 0) if place + 1 < len(self.kernels) else values)
        return found[1:]

    def labels(self, images: np.ndarray) -> np.ndarray:
        """The classes it answers."""
        return self.activations(images)[-1].argmax(axis=1)

    def with_skewed_channel(self, layer: int, factor: float) -> Network:
        """The same function, with one channel of a layer's output larger by ``factor`` and read with weights as much smaller."""
        kernels, biases = ([values.copy() for values in group] for group in (self.kernels, self.biases))
        kernels[layer][0] *= factor
        biases[layer][0] *= factor
        kernels[layer + 1][:, 0] /= factor
        return Network(tuple(kernels), tuple(biases))

    def tflite(self, names: Sequence[str] = NAMES) -> bytes:
        """RESHAPE, a FULLY_CONNECTED for each layer, SOFTMAX; tensors are named as the converter names Keras 2's."""
        tensors = [
            Tensor("serving_default_x:0", "float32", (1, SIDE, SIDE, CHANNELS)),
            Tensor("net/flat/shape", "int32", (2,), np.array([1, FEATURES], np.int32)),
            Tensor("net/flat/Reshape", "float32", (1, FEATURES)),
        ]
        ops, last = [Op("RESHAPE", (0, 1), (2,), schema.ReshapeOptionsT())], 2
        for place, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            relu = place + 1 < len(self.kernels)
            options = schema.FullyConnectedOptionsT()
            options.fusedActivationFunction = int(relu)
            start, units = len(tensors), len(bias)
            tensors += [
                Tensor(f"net/{names[place]}/MatMul", "float32", kernel.shape, kernel.astype(np.float32)),
                Tensor(f"net/{names[place]}/bias", "float32", (units,), bias.astype(np.float32)),
                Tensor(f"net/{names[place]}/{'Relu' if relu else 'BiasAdd'}", "float32", (1, units)),
            ]
            ops.append(Op("FULLY_CONNECTED", (last, start, start + 1), (start + 2,), options, version=4))
            last = start + 2
        softmax = schema.SoftmaxOptionsT()
        softmax.beta = 1.0
        tensors.append(Tensor("StatefulPartitionedCall:0", "float32", (1, CLASSES)))
        ops.append(Op("SOFTMAX", (last,), (last + 1,), softmax))
        return build(Graph(tensors, ops, (0,), (last + 1,), signature_key="serving_default"))


def network(seed: int = 0) -> Network:
    """Seeded weights; the biases make the answers depend on the scale of the input."""
    draw = np.random.default_rng(seed)
    sizes = [FEATURES, WIDTH, WIDTH, WIDTH, CLASSES]
    kernels = [draw.normal(0, 1.5 / np.sqrt(have), (give, have)) for have, give in itertools.pairwise(sizes)]
    return Network(tuple(kernels), tuple(draw.normal(0, 0.3, size) for size in sizes[1:]))


def images(count: int, seed: int = 1) -> np.ndarray:
    """Pixels in 0..1, float32: what the network expects."""
    return np.random.default_rng(seed).uniform(0, 1, (count, SIDE, SIDE, CHANNELS)).astype(np.float32)
