"""Splits, datasets and what is refused in them."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from edgekit.data import Dataset, Split, check_dataset, check_split
from edgekit.errors import DataError


def _split(count=12, labels=None, dtype=np.float32):
    return Split({"x": np.arange(count * 4).reshape(count, 2, 2).astype(dtype)}, labels)


def test_count_is_the_length_of_the_sample_axis():
    """Twelve samples count as twelve, and no input counts as none."""
    assert _split(12).count == 12
    assert Split({}).count == 0


def test_sha256_is_what_its_docstring_says():
    """The fingerprint can be computed again from the documented recipe alone."""
    split = Split({"b": np.array([[1, 2]], np.uint8), "a": np.array([0.5], np.float32)}, np.array([3], np.int64))
    expected = hashlib.sha256(
        b'["input", "a", "<f4", [1]]\n\x00\x00\x00\x3f'
        b'["input", "b", "|u1", [1, 2]]\n\x01\x02'
        b'["labels", "", "<i8", [1]]\n\x03\0\0\0\0\0\0\0'
    ).hexdigest()
    assert split.sha256 == expected


def test_sha256_ignores_memory_layout_byte_order_and_order_of_inputs():
    """What does not change the values does not change the fingerprint."""
    values = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    expected = Split({"a": values, "b": values[:, :1]}).sha256
    assert Split({"b": values[:, :1].copy(), "a": np.asfortranarray(values)}).sha256 == expected
    assert Split({"a": values.astype(">f4"), "b": values[:, :1].astype(">f4")}).sha256 == expected


@pytest.mark.parametrize(
    "other",
    [
        Split({"y": np.zeros((4, 2), np.uint8)}),
        Split({"x": np.zeros((2, 4), np.uint8)}),
        Split({"x": np.zeros((4, 2), np.int8)}),
        Split({"x": np.ones((4, 2), np.uint8)}),
        Split({"x": np.zeros((4, 2), np.uint8)}, np.zeros(4, np.int64)),
    ],
    ids=["name", "shape", "dtype", "value", "labels"],
)
def test_sha256_sees_every_part(other):
    """Name, shape, dtype, value and labels each change the fingerprint."""
    assert Split({"x": np.zeros((4, 2), np.uint8)}).sha256 != other.sha256


def test_sha256_is_the_same_in_another_process():
    """Hash randomisation and the process do not enter the fingerprint."""
    code = (
        "import numpy as np; from edgekit.data import Split; "
        "print(Split({'x': np.arange(48, dtype=np.float32).reshape(12, 2, 2)}, np.arange(12)).sha256)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == _split(12, np.arange(12)).sha256


def test_sha256_is_computed_once():
    """The second request answers from the cache."""
    split = _split()
    assert split.sha256 is split.sha256


def test_take_keeps_the_order_asked_for():
    """Rows and labels come out in the order of the indices, as copies."""
    split = _split(12, np.arange(12))
    taken = split.take([5, 0, 5])
    assert taken.labels.tolist() == [5, 0, 5]
    assert np.array_equal(taken.inputs["x"], split.inputs["x"][[5, 0, 5]])
    assert not np.shares_memory(taken.inputs["x"], split.inputs["x"])


def test_take_accepts_a_mask_and_nothing():
    """A boolean mask selects where it is true, and no index selects nothing."""
    split = _split(12, np.arange(12))
    assert split.take(np.arange(12) % 5 == 0).labels.tolist() == [0, 5, 10]
    assert split.take([]).count == 0


def test_a_good_split_passes_through_unchanged():
    """Nothing to normalise means the same object."""
    split = _split(12, np.arange(12))
    assert check_split(split, "it") is split


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_numeric_dtypes_are_kept(dtype):
    """Bool, integers and floats stay what they are."""
    assert check_split(_split(dtype=dtype), "it").inputs["x"].dtype == dtype


def test_foreign_byte_order_becomes_native():
    """Big-endian values are kept and turned into the byte order of the machine."""
    checked = check_split(_split(dtype=">i4"), "it")
    assert checked.inputs["x"].dtype.isnative
    assert np.array_equal(checked.inputs["x"], _split().inputs["x"])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([2, 0, 1], np.uint8), [2, 0, 1]),
        (np.array([[2], [0], [1]], np.int32), [2, 0, 1]),
        (np.array([True, False, True]), [1, 0, 1]),
        (np.eye(3, dtype=np.float32)[[2, 0, 1]], [2, 0, 1]),
        (np.eye(3, dtype=np.uint8)[[2, 0, 1]], [2, 0, 1]),
        (np.eye(3, dtype=np.bool_)[[2, 0, 1]], [2, 0, 1]),
    ],
    ids=["uint8", "column", "bool", "one-hot-float", "one-hot-int", "one-hot-bool"],
)
def test_class_labels_become_int64(labels, expected):
    """Every usual way to write classes becomes one."""
    checked = check_split(_split(3, labels), "it").labels
    assert checked.dtype == np.int64
    assert checked.tolist() == expected


@pytest.mark.parametrize("shape", [(3, 1), (3, 2), (3, 4, 4, 1)])
def test_float_targets_are_kept(shape):
    """Regression targets of two or more dimensions are not touched."""
    targets = np.full(shape, 0.25, np.float32)
    assert check_split(_split(3, targets), "it").labels is targets


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0, 1.0, 2.0]), r"y\.reshape\(-1, 1\)"),
        (np.array([[1, 1], [0, 1], [1, 0]]), r"one-hot rows \(N, classes\)"),
        (np.zeros((3, 4, 4), np.uint8), r"float targets \(N, \.\.\.\)"),
        (np.array([0, 1, 2**64 - 1], np.uint64), "18446744073709551615"),
        (np.array([0, 1]), "expected 3, one for each sample, got 2"),
        (np.array(1), "a single number"),
        (np.array(["cat", "dog", "cat"]), "dtype <U3"),
        (np.array([[0.5], [np.nan], [np.inf]]), "1 NaN and 1 infinite, the first in sample 1"),
    ],
    ids=["float", "multi-hot", "mask", "huge", "short", "scalar", "text", "nan"],
)
def test_other_labels_are_refused(labels, message):
    """Labels that could mean two things, or nothing, are errors that say what to type."""
    with pytest.raises(DataError, match=message):
        check_split(_split(3, labels), "it")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "expected inputs by name"),
        ({"": np.zeros(3)}, "expected inputs by name"),
        ({1: np.zeros(3)}, "expected inputs by name"),
        ({"x": np.zeros((0, 4))}, r"at least one sample, got shape \(0, 4\)"),
        ({"x": np.zeros((4, 0))}, "at least one sample"),
        ({"x": np.float32(1)}, "a single number"),
        ({"x": np.array([1, "a"], object)}, "dtype object"),
        ({"x": np.array(["a", "b"])}, "dtype <U1"),
        ({"x": np.zeros(3, np.complex64)}, "dtype complex64"),
        ({"x": np.zeros(3), "z": np.zeros(4)}, "'x' has 3, 'z' has 4"),
    ],
)
def test_impossible_inputs_are_refused(inputs, message):
    """Empty, wordy and uneven inputs are named in the message."""
    with pytest.raises(DataError, match=message):
        check_split(Split(inputs), "it")


def test_values_that_are_not_finite_are_counted_and_located():
    """The message says how many, in which input, the first sample, and what to type."""
    values = np.zeros((6, 3), np.float32)
    values[4, 1] = np.nan
    values[2, 0], values[2, 2] = np.inf, -np.inf
    with pytest.raises(DataError, match=r"it, input 'b': .* 1 NaN and 2 infinite, the first in sample 2; .*np"):
        check_split(Split({"a": np.zeros((6, 1)), "b": values}), "it")


def test_a_dataset_needs_a_split():
    """Neither train nor test is an error that names both."""
    with pytest.raises(DataError, match="neither; give x_train or x_test"):
        check_dataset(Dataset("mine", None, None))


def test_a_dataset_of_arrays_is_refused():
    """A bare array where a Split belongs is an error, not a traceback."""
    with pytest.raises(DataError, match="expected a Split or None for train and test, got ndarray"):
        check_dataset(Dataset("mine", np.zeros(3), None))


def test_a_dataset_normalises_its_labels():
    """One-hot labels of both splits come out as integers, other datasets unchanged."""
    good = Dataset("mine", _split(3, np.arange(3)), None, ("a", "b", "c"))
    assert check_dataset(good) is good
    checked = check_dataset(Dataset("mine", _split(3, np.eye(3)), _split(3, np.eye(3)), ("a", "b", "c")))
    assert checked.train.labels.tolist() == checked.test.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("train", "test", "labels", "message"),
    [
        (_split(3), Split({"z": np.zeros((3, 2, 2))}), (), "the same inputs in train and test"),
        (_split(3), Split({"x": np.zeros((3, 4))}), (), r"one shape in train and test, got \(2, 2\) and \(4,\)"),
        (_split(3, np.arange(3)), _split(3, np.ones((3, 2)) / 2), (), "labels of one kind"),
        (_split(3, np.arange(3)), None, ("a", "b"), "class numbers from 0 to 1.* got 0 to 2"),
        (_split(3, np.arange(3) - 1), None, ("a", "b", "c"), "got -1 to 1"),
        (_split(3), None, ("a", "a"), "distinct, non-empty class names, got 'a'"),
        (_split(3), None, ("a", ""), "class names, got ''"),
        (_split(3), None, ("a", 1), "class names, got 1"),
    ],
    ids=["names", "shapes", "kinds", "beyond", "negative", "twice", "empty", "number"],
)
def test_splits_that_do_not_fit_are_refused(train, test, labels, message):
    """Train, test and class names must agree with one another."""
    with pytest.raises(DataError, match=message):
        check_dataset(Dataset("mine", train, test, labels))


def test_class_names_beside_float_targets_are_kept():
    """Names of outputs do not turn regression targets into classes."""
    dataset = Dataset("mine", _split(3, np.full((3, 2), 0.5)), None, ("width", "height"))
    assert check_dataset(dataset) is dataset
