"""What data is to edgekit: a training split, a test split and the names of the classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError

__all__ = ["Dataset", "Split", "check_dataset", "check_split"]

_INT64_MAX = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Split:
    """Samples by input name, the sample axis first, and their labels; single-input data uses the one name ``x``.

    ``labels`` is None for unlabelled data, otherwise int64 class numbers of shape (N,) or float targets of shape
    (N, ...). The arrays are not copied: whoever changes them in place makes ``sha256`` wrong.
    """

    inputs: Mapping[str, npt.NDArray[Any]]
    labels: npt.NDArray[Any] | None = None

    @property
    def count(self) -> int:
        """How many samples there are."""
        return next((len(values) for values in self.inputs.values()), 0)

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of content, as hexadecimal digits.

        Covers, for every input in order of name and then the labels: a line of JSON with role, name, dtype and shape,
        and the raw bytes. Values are hashed in C order and little-endian, so that memory layout, byte order, the
        order of the inputs and the process do not matter; dtype and sample order do.
        """
        digest = hashlib.sha256()
        for name in sorted(self.inputs):
            _hash_array(digest, "input", name, self.inputs[name])
        if self.labels is not None:
            _hash_array(digest, "labels", "", self.labels)
        return digest.hexdigest()

    def take(self, indices: Sequence[int] | npt.NDArray[Any]) -> Split:
        """The samples at ``indices``, in that order, or those where a mask of bool is true; as copies."""
        rows = np.asarray(indices) if len(indices) else np.empty(0, np.int64)
        labels = None if self.labels is None else self.labels[rows]
        return Split({name: values[rows] for name, values in self.inputs.items()}, labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named pair of splits, either of which may be missing; ``labels`` names the classes, or is empty."""

    name: str
    train: Split | None
    test: Split | None
    labels: tuple[str, ...] = ()


def check_split(split: Split, what: str) -> Split:
    """The split with native arrays and normalised labels, or DataError; the same object if nothing had to change.

    Inputs must be non-empty, of bool, integer or float dtype, finite and of equal length. Labels may be 1-D
    integers, one-hot rows or a column (N, 1) of integers, all of which become int64 of shape (N,), or floats of two
    or more dimensions, which are regression targets and kept. ``what`` begins every message.
    """
    names = list(split.inputs)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(f'{what}: expected inputs by name, got the names {names}; call a single one "x"')
    inputs = {name: _checked_input(values, f"{what}, input {name!r}") for name, values in split.inputs.items()}
    lengths = {name: len(values) for name, values in inputs.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise DataError(f"{what}: expected equally many samples in every input, got {counts}; align the arrays")
    labels = split.labels
    if labels is not None:
        labels = _checked_labels(labels, f"{what}, labels", next(iter(lengths.values())))
    if labels is split.labels and all(inputs[name] is values for name, values in split.inputs.items()):
        return split
    return Split(inputs, labels)


def check_dataset(dataset: Dataset) -> Dataset:
    """Check both splits and that they fit each other and the class names; raises DataError."""
    if dataset.train is None and dataset.test is None:
        raise DataError(f"{dataset.name}: expected a train or a test split, got neither; give x_train or x_test")
    for split in (dataset.train, dataset.test):
        if not isinstance(split, (Split, type(None))):
            kind = type(split).__name__
            raise DataError(f"{dataset.name}: expected a Split or None for train and test, got {kind}; use Split(...)")
    _check_class_names(dataset)
    train = dataset.train and check_split(dataset.train, f"the train split of {dataset.name}")
    test = dataset.test and check_split(dataset.test, f"the test split of {dataset.name}")
    if train is not None and test is not None:
        _check_agreement(train, test, dataset.name)
    for split in (train, test):
        if split is not None and dataset.labels:
            _check_class_range(split, dataset)
    if train is dataset.train and test is dataset.test:
        return dataset
    return Dataset(dataset.name, train, test, dataset.labels)


def _hash_array(digest: Any, role: str, name: str, values: npt.NDArray[Any]) -> None:
    little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    digest.update(json.dumps([role, name, little.dtype.str, list(values.shape)]).encode() + b"\n")
    digest.update(little.reshape(-1).view(np.uint8))


def _numeric(values: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{what}: expected bool, integer or float values, got dtype {array.dtype} of shape {array.shape}; "
            'convert them first, e.g. np.stack(rows).astype("float32")'
        )
    if array.ndim == 0:
        raise DataError(f"{what}: expected an array with the samples first, got a single number; wrap it: values[None]")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _checked_input(values: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    array = _numeric(values, what)
    if array.size == 0:
        raise DataError(f"{what}: expected at least one sample, got shape {array.shape}; check how it was saved")
    _check_finite(array, what)
    return array


def _check_finite(array: npt.NDArray[Any], what: str) -> None:
    if array.dtype.kind != "f":
        return
    finite = np.isfinite(array)
    if finite.all():
        return
    nans = int(np.isnan(array).sum())
    infinite = array.size - int(finite.sum()) - nans
    first = int(np.argmin(finite.reshape(len(array), -1).all(axis=1)))
    raise DataError(
        f"{what}: expected finite values, got {nans} NaN and {infinite} infinite, the first in sample {first}; "
        "leave those samples out, or fill the gaps with np.nan_to_num"
    )


def _checked_labels(values: npt.NDArray[Any], what: str, count: int) -> npt.NDArray[Any]:
    array = _numeric(values, what)
    if len(array) != count:
        raise DataError(f"{what}: expected {count}, one for each sample, got {len(array)}; align inputs and labels")
    _check_finite(array, what)
    if array.ndim == 2 and _is_one_hot(array):
        return np.asarray(array.argmax(axis=1), np.int64)
    if array.dtype.kind == "f" and array.ndim >= 2:
        return array
    if array.dtype.kind != "f" and array.size == count:
        if int(array.max()) > _INT64_MAX:
            raise DataError(f"{what}: expected class numbers, got one as large as {array.max()}; number from 0")
        return (array if array.ndim == 1 else array.reshape(-1)).astype(np.int64, copy=False)
    raise DataError(
        f"{what}: expected integers of shape (N,), one-hot rows (N, classes), or float targets (N, ...), got "
        f'{array.dtype} of shape {array.shape}; for classes use y.astype("int64"), for one target per sample '
        'y.reshape(-1, 1), for several y.astype("float32")'
    )


def _is_one_hot(array: npt.NDArray[Any]) -> bool:
    if array.shape[1] < 2:
        return False
    return bool(((array == 0) | (array == 1)).all() and (np.count_nonzero(array, axis=1) == 1).all())


def _check_class_names(dataset: Dataset) -> None:
    names = dataset.labels
    wrong = [name for name in names if not isinstance(name, str) or not name]
    if wrong or len(set(names)) != len(names):
        shown = wrong[0] if wrong else next(name for name in names if names.count(name) > 1)
        raise DataError(f"{dataset.name}: expected distinct, non-empty class names, got {shown!r}; correct `labels`")


def _check_class_range(split: Split, dataset: Dataset) -> None:
    if split.labels is None or split.labels.ndim != 1:
        return
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= len(dataset.labels):
        raise DataError(
            f"{dataset.name}: expected class numbers from 0 to {len(dataset.labels) - 1}, as there are "
            f"{len(dataset.labels)} class names, got {low} to {high}; correct y or `labels`"
        )


def _check_agreement(train: Split, test: Split, name: str) -> None:
    if set(train.inputs) != set(test.inputs):
        raise DataError(
            f"{name}: expected the same inputs in train and test, got {sorted(train.inputs)} and "
            f"{sorted(test.inputs)}; name them alike: x_train.NAME and x_test.NAME"
        )
    for key, values in train.inputs.items():
        if values.shape[1:] != test.inputs[key].shape[1:]:
            raise DataError(
                f"{name}, input {key!r}: expected samples of one shape in train and test, got {values.shape[1:]} "
                f"and {test.inputs[key].shape[1:]}; reshape one of them"
            )
    if train.labels is not None and test.labels is not None and train.labels.shape[1:] != test.labels.shape[1:]:
        raise DataError(
            f"{name}: expected labels of one kind in train and test, got {train.labels.dtype} of shape "
            f"{train.labels.shape} and {test.labels.dtype} of shape {test.labels.shape}; use integers for classes"
        )
