"""Bias correction: channels whose mean is off come back, for every kind of layer, against the float model's outputs."""

from __future__ import annotations

import numpy as np
import pytest
from edgekit_converters.int8.correct import correct_biases
from edgekit_converters.int8.surgery import FlatModel
from edgekit_converters.quantize import QuantizeOptions, quantize

from tests.converters.conftest import run_tflite
from tests.tflite_builder import conv_model, dense_model, depthwise_model

MODELS = {"dense": dense_model, "conv": conv_model, "depthwise": depthwise_model}
ROWS = 200


def _samples(model: bytes) -> np.ndarray:
    """Inputs with a mean, as they are behind a ReLU."""
    shape = FlatModel(model).graph.tensors[0].shape[1:]
    return np.random.default_rng(2).uniform(2, 3, (ROWS, *shape)).astype(np.float32)


def _mean_error(model: bytes, other: bytes, samples: np.ndarray) -> np.ndarray:
    """How far the mean over samples and positions of each output channel is off."""
    errors = [run_tflite(model, [row[None]])[0] - run_tflite(other, [row[None]])[0] for row in samples]
    return np.stack(errors).reshape(-1, errors[0].shape[-1]).mean(axis=0)


def _with_bias(int8_model: bytes, op: int, shift: np.ndarray) -> bytes:
    """The model with its int32 bias moved."""
    flat = FlatModel(int8_model)
    bias = flat.constant(flat.inputs(op)[2])
    flat.set_operand(op, 2, bias + shift.astype(np.int32))
    return flat.to_bytes()


@pytest.mark.parametrize("io_type", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_bias_that_was_moved_comes_back(kind, io_type) -> None:
    """Every channel off by five steps of the output: after correction none is off by more than one."""
    model = MODELS[kind]()
    samples = _samples(model)
    made = quantize(model, precision="int8", samples={"x": samples}, input_type=io_type, output_type=io_type).tflite
    flat = FlatModel(made)
    op = next(i for i in range(len(flat.graph.operators)) if len(flat.inputs(i)) == 3)
    output = flat.graph.tensors[flat.outputs(op)[0]].quantization.scale[0]
    steps = output / np.asarray(flat.graph.tensors[flat.inputs(op)[2]].quantization.scale)
    signs = np.where(np.arange(steps.size) % 2, 5, -5)
    moved = _with_bias(made, op, signs * steps)

    found = correct_biases(model, moved, {"x": samples})

    assert np.abs(_mean_error(model, moved, samples)).max() > 3 * output
    assert np.abs(_mean_error(model, found.tflite, samples)).max() < output
    assert found.ops == (op,)
    assert found.error < found.error_before


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_right_is_left_as_it_is(kind) -> None:
    """A corrected model is not corrected again, and no correction makes the outputs worse on the samples."""
    model = MODELS[kind]()
    samples = {"x": _samples(model)}
    made = quantize(model, precision="int8", samples=samples).tflite
    once = correct_biases(model, made, samples)
    twice = correct_biases(model, once.tflite, samples)

    assert once.error <= once.error_before
    assert twice.tflite == once.tflite
    assert twice.ops == ()


def test_quantize_corrects_on_request() -> None:
    """The option gives the model that the function gives, still verified, and names the operators."""
    model = dense_model()
    samples = {"x": _samples(model)}
    plain = quantize(model, precision="int8", samples=samples)
    made = quantize(model, precision="int8", samples=samples, options=QuantizeOptions(correct_bias=True))
    expected = correct_biases(model, plain.tflite, samples)

    assert made.tflite == expected.tflite
    assert made.corrected == expected.ops


def test_layers_kept_in_float_have_nothing_to_correct() -> None:
    """A model of other operators alone comes back as it was."""
    model = dense_model()
    samples = {"x": _samples(model)}

    assert correct_biases(model, model, samples).tflite == model
