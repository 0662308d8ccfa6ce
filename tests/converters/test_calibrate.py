"""Activation ranges against a network computed in numpy, and samples that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters.errors import CalibrationError, ModelFileError
from edgekit_converters.int8.calibrate import collect_ranges

from tests.tflite_builder import Graph, Op, Tensor, build, conv_model

WEIGHTS = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
BIAS = np.array([0.5, -0.25, 1.0], np.float32)


def network(rows: int = 1, dtype: str = "float32") -> bytes:
    """``rows`` x 4 through a dense layer of 3 and a tanh; two tensors of it are only inside."""
    tensors = [
        Tensor("x", "float32", (rows, 4)),
        Tensor("w", "float32", (3, 4), WEIGHTS),
        Tensor("b", "float32", (3,), BIAS),
        Tensor("sum", "float32", (rows, 3)),
        Tensor("y", "float32", (rows, 3)),
    ]
    ops = [Op("FULLY_CONNECTED", (0, 1, 2), (3,), schema.FullyConnectedOptionsT()), Op("TANH", (3,), (4,))]
    return build(Graph(tensors, ops, (0,), (4,), signature_key="serving_default"))


def two_inputs(shapes: tuple[tuple[int, ...], ...] = ((1, 4), (1, 4))) -> bytes:
    """The sum of two inputs, called input_0 and input_1 by the signature."""
    tensors = [
        Tensor("left", "float32", shapes[0]),
        Tensor("right", "float32", shapes[1]),
        Tensor("y", "float32", (1, 4)),
    ]
    op = Op("ADD", (0, 1), (2,), schema.AddOptionsT())
    return build(Graph(tensors, [op], (0, 1), (2,), signature_key="serving_default"))


def lookup() -> bytes:
    """Rows of a table of 5 by token id."""
    table = Tensor("table", "float32", (5, 2), np.ones((5, 2), np.float32))
    tensors = [Tensor("ids", "int32", (1,)), table, Tensor("y", "float32", (1, 2))]
    op = Op("GATHER", (1, 0), (2,), schema.GatherOptionsT())
    return build(Graph(tensors, [op], (0,), (2,), signature_key="serving_default"))


@pytest.mark.parametrize("rows", [1, 3])
def test_ranges_are_the_extremes_over_all_samples(rows):
    """Each activation's range is the smallest and largest value numpy finds over all samples; constants have none."""
    samples = np.random.default_rng(2).uniform(-3, 3, (10, 4)).astype(np.float32)
    sums = samples @ WEIGHTS.T + BIAS
    found = collect_ranges(network(rows), {"anything": samples})
    assert set(found) == {"x", "sum", "y"}
    for name, values in {"x": samples, "sum": sums, "y": np.tanh(sums)}.items():
        # float32 rounds each of 4 products and sums.
        np.testing.assert_allclose(found[name], (values.min(), values.max()), rtol=1e-6)


def test_two_inputs_are_fed_by_name():
    """Samples of several inputs are told apart by the signature's names, in any order."""
    left, right = np.full((2, 4), 1.0), np.full((2, 4), 10.0)
    found = collect_ranges(two_inputs(), {"input_1": right, "input_0": left})
    assert found == {"left": (1.0, 1.0), "right": (10.0, 10.0), "y": (11.0, 11.0)}


def test_scalar_input_takes_one_number_per_sample():
    """An input without a batch gets one value of each sample."""
    tensors = [Tensor("x", "float32", ()), Tensor("y", "float32", ())]
    model = build(Graph(tensors, [Op("TANH", (0,), (1,))], (0,), (1,), signature_key="serving_default"))
    assert collect_ranges(model, {"x": np.array([-1.0, 0.5])})["x"] == (-1.0, 0.5)


def test_whole_numbers_may_be_token_ids_whatever_their_type():
    """Token ids that a preprocessing step made floats are still token ids; halves are not."""
    assert collect_ranges(lookup(), {"ids": np.array([0.0, 4.0])})["y"] == (1.0, 1.0)
    with pytest.raises(CalibrationError, match="expected calibration samples that int32 can hold, got float64"):
        collect_ranges(lookup(), {"ids": np.array([0.5])})


def test_token_id_beyond_the_table_is_the_samples_fault():
    """A sample that the model itself refuses is named as that, with the runtime's reason."""
    with pytest.raises(CalibrationError, match=r"got one it refuses: .*out of bounds.*Check the samples' values"):
        collect_ranges(lookup(), {"ids": np.array([7])})


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({"x": np.ones((3, 5))}, r"of shape \('N', 4\), got \(3, 5\)"),
        ({"x": np.ones(())}, r"of shape \('N', 4\), got \(\)"),
        ({"x": np.ones((0, 4))}, r"at least one, for every input, got \[0\]"),
        ({"x": np.array([[np.nan] * 4])}, "expected finite calibration samples in float32, got NaN"),
        (
            {"x": np.array([[1e300] * 4])},
            "expected finite calibration samples in float32, got NaN, infinity or a larger",
        ),
        ({"x": np.array([["a"] * 4])}, "that float32 can hold, got <U1"),
        ({"x": np.array([[None] * 4])}, "that float32 can hold, got object"),
        ({}, "for the inputs input_0, got none: name the arrays"),
    ],
)
def test_samples_that_do_not_fit_say_what_was_expected(samples, message):
    """Shape, number, kind and finiteness of the samples are each checked before the model runs."""
    with pytest.raises(CalibrationError, match=message):
        collect_ranges(network(), samples)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({"a": np.ones((2, 4)), "b": np.ones((2, 4))}, "for the inputs input_0, input_1, got a, b: name the arrays"),
        ({"input_0": np.ones((2, 4))}, "for the inputs input_0, input_1, got input_0"),
        ({"input_0": np.ones((2, 4)), "input_1": np.ones((3, 4))}, r"same number of samples.*got \[2, 3\]"),
    ],
)
def test_names_and_counts_of_several_inputs_are_checked(samples, message):
    """Several inputs need their names, and as many samples each."""
    with pytest.raises(CalibrationError, match=message):
        collect_ranges(two_inputs(), samples)


def test_inputs_of_different_batches_are_refused():
    """One row of one input and four of another belong together in no way that can be guessed."""
    samples = {"input_0": np.ones((4, 4)), "input_1": np.ones((4, 4))}
    with pytest.raises(CalibrationError, match=r"whose inputs all have the same batch, got batches of \[1, 4\]"):
        collect_ranges(two_inputs(((1, 4), (4, 4))), samples)


def test_activations_that_are_no_numbers_name_the_first_tensor():
    """Finite samples that a model turns into infinity are refused with the tensor's name."""
    tensors = [Tensor("x", "float32", (1, 4)), Tensor("y", "float32", (1, 4))]
    model = build(Graph(tensors, [Op("EXP", (0,), (1,))], (0,), (1,), signature_key="serving_default"))
    with pytest.raises(CalibrationError, match=r"expected finite activations, got NaN or infinity in 'y'.*--scale"):
        collect_ranges(model, {"x": np.full((1, 4), 1000.0)})


def test_model_that_no_runtime_loads_is_said_so():
    """A readable model that the runtime refuses is a broken model, in one line."""
    tensors = [Tensor("x", "float32", (1, 4)), Tensor("y", "float32", (1, 4))]
    model = build(Graph(tensors, [Op("Nobody", (0,), (1,), custom=True)], (0,), (1,)))
    with pytest.raises(ModelFileError, match=r"the model does not load: .*\. Convert it again"):
        collect_ranges(model, {"x": np.ones((1, 4))})


def test_calibration_runs_on_a_real_layer():
    """A convolution's output is watched too, on a model without any name to go by."""
    found = collect_ranges(conv_model(), {"image": np.random.default_rng(0).normal(size=(3, 8, 8, 3))})
    assert {"input", "output"} <= set(found)
