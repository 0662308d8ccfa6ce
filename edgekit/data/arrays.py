"""From arrays by name, as an ``.npz`` file or a Python function gives them, to a dataset."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .dataset import Dataset, Split, check_dataset

__all__ = ["EXPECTED_KEYS", "dataset_from_arrays", "dataset_from_value", "select_keys"]

EXPECTED_KEYS = ("x_train", "y_train", "x_test", "y_test", "labels")
_FORMS = (
    "x_train, y_train, x_test, y_test (any may be missing, but not both x), x_train.NAME and x_test.NAME for a model "
    "with several inputs, labels for the class names"
)
_log = logging.getLogger(__name__)


def select_keys(keys: Iterable[str], what: str) -> list[str]:
    """The keys that edgekit reads; the rest is logged as ignored.

    Raises DataError when a key looks like the misspelling of one that is absent, or when no input is among them.
    """
    found = list(keys)
    known = [key for key in found if _is_known(key)]
    unknown = [key for key in found if key not in known]
    for key in unknown:
        close = difflib.get_close_matches(key.lower().split(".")[0], EXPECTED_KEYS, n=1, cutoff=0.75)
        if close and not any(name.split(".")[0] == close[0] for name in known):
            raise DataError(f"{what}: unknown key {key!r}; did you mean {close[0]!r}? Expected keys: {_FORMS}")
    if not any(key.startswith("x_") for key in known):
        raise DataError(f"{what}: expected the keys {_FORMS}; got {_shown(found)}; save it again with np.savez")
    if unknown:
        _log.warning("%s: ignored the keys %s", what, _shown(unknown))
    return known


def dataset_from_arrays(arrays: Mapping[str, Any], name: str) -> Dataset:
    """A checked dataset from arrays under the keys of an ``.npz`` file; None counts as absent. Raises DataError."""
    present = {str(key): values for key, values in arrays.items() if values is not None}
    keys = select_keys(present, name)
    splits = {part: _split(present, keys, part, name) for part in ("train", "test")}
    return check_dataset(Dataset(name, splits["train"], splits["test"], _class_names(present.get("labels"), name)))


def dataset_from_value(value: Any, name: str) -> Dataset:
    """A checked dataset from a Dataset, a mapping with the ``.npz`` keys, or ((x_train, y_train), (x_test, y_test)).

    In the pairs, x may be a mapping from input name to array, and anything may be None. Raises DataError.
    """
    if isinstance(value, Dataset):
        return check_dataset(value)
    if isinstance(value, Mapping):
        return dataset_from_arrays(value, name)
    if _is_pair(value) and all(_is_pair(part) for part in value):
        arrays: dict[str, Any] = {}
        for part, (x, y) in zip(("train", "test"), value, strict=True):
            named = {f".{key}": item for key, item in x.items()} if isinstance(x, Mapping) else {"": x}
            arrays |= {f"x_{part}{suffix}": item for suffix, item in named.items()} | {f"y_{part}": y}
        return dataset_from_arrays(arrays, name)
    raise DataError(
        f"{name}: expected a Dataset, a mapping with the keys x_train, y_train, x_test, y_test, or "
        f"((x_train, y_train), (x_test, y_test)); got {_described(value)}; return one of these"
    )


def _is_known(key: str) -> bool:
    return key in EXPECTED_KEYS or (key.startswith(("x_train.", "x_test.")) and not key.endswith("."))


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2


def _split(arrays: Mapping[str, Any], keys: list[str], part: str, name: str) -> Split | None:
    prefix = f"x_{part}."
    named = {key.removeprefix(prefix): _array(arrays[key], key, name) for key in keys if key.startswith(prefix)}
    if named and f"x_{part}" in keys:
        raise DataError(f"{name}: expected either x_{part} or {prefix}NAME, got both; drop one")
    inputs = {"x": _array(arrays[f"x_{part}"], f"x_{part}", name)} if f"x_{part}" in keys else named
    y_key = f"y_{part}"
    if not inputs and y_key in keys:
        raise DataError(f"{name}: expected x_{part} beside {y_key}, got {_shown(keys)}; add x_{part} or drop {y_key}")
    return Split(inputs, _array(arrays[y_key], y_key, name) if y_key in keys else None) if inputs else None


def _array(values: Any, key: str, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{name}: expected {key} as one array, got {_described(values)} that numpy refuses ({error}); "
            "make all samples the same shape"
        ) from error


def _class_names(values: Any, name: str) -> tuple[str, ...]:
    if values is None:
        return ()
    array = _array(values, "labels", name)
    if array.ndim != 1 or (array.dtype.kind != "U" and array.size):
        raise DataError(
            f"{name}: expected `labels` as a list of class names, got dtype {array.dtype} of shape {array.shape}; "
            'save np.array(["cat", "dog"]); the classes of the samples belong into y_train and y_test'
        )
    return tuple(str(item) for item in array)


def _shown(keys: Iterable[str]) -> str:
    names = list(keys)
    return (", ".join(repr(key[:60]) for key in names[:10]) or "none") + (", ..." if len(names) > 10 else "")


def _described(value: object) -> str:
    kind = type(value).__name__
    return f"a {kind} of length {len(value)}" if isinstance(value, (tuple, list)) else f"a value of type {kind}"
