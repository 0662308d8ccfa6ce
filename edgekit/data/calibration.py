"""The samples that fix the ranges of an int8 model: drawn from the training data, and never from the test data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .dataset import Dataset, Split, check_split

__all__ = ["DEFAULT_COUNT", "MIN_COUNT", "Calibration", "draw_calibration"]

DEFAULT_COUNT = 200
MIN_COUNT = 10


@dataclass(frozen=True, eq=False)
class Calibration:
    """The drawn samples and all that is needed to draw them again.

    ``sha256`` is that of ``split``; ``excluded`` counts training samples that were left out because the test split
    holds them too; ``rows`` are the row numbers in the training split.
    """

    split: Split
    count: int
    seed: int
    sha256: str
    excluded: int
    rows: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def draw_others(self, dataset: Dataset, count: int) -> Split | None:
        """At most ``count`` training samples that were neither drawn nor are in the test split; None without any."""
        train = dataset.train
        if train is None:
            return None
        free = np.ones(train.count, np.bool_) if dataset.test is None else ~_rows_in(train, dataset.test)
        free[self.rows] = False
        left = np.flatnonzero(free)
        if not len(left):
            return None
        return train.take(np.random.default_rng(self.seed + 1).choice(left, size=min(count, len(left)), replace=False))


def draw_calibration(dataset: Dataset, *, count: int | None = None, seed: int = 0) -> Calibration:
    """Draw ``count`` training samples without replacement; by default DEFAULT_COUNT, or all if there are fewer.

    The draw is ``numpy.random.default_rng(seed).choice`` over row numbers, so the same rows in another order give
    another draw. Rows that occur in the test split, to the byte in every input and with equal dtypes, are excluded
    first: ranges fitted to test samples would flatter the accuracy measured on them.

    Raises DataError without training data, when fewer than MIN_COUNT samples remain or are asked for, when more are
    asked for than there are, and when a drawn sample is not finite.
    """
    train = dataset.train
    if train is None:
        raise DataError(
            f"{dataset.name}: calibration is drawn from x_train, got only x_test; add x_train, a few hundred samples do"
        )
    available = np.arange(train.count)
    if dataset.test is not None:
        available = available[~_rows_in(train, dataset.test)]
    excluded = train.count - len(available)
    _check_available(dataset.name, train.count, len(available))
    wanted = min(DEFAULT_COUNT, len(available)) if count is None else count
    if not MIN_COUNT <= wanted <= len(available):
        raise DataError(
            f"{dataset.name}: expected {MIN_COUNT} to {len(available)} calibration samples (x_train has {train.count}, "
            f"{excluded} of them also in x_test), got {wanted}; ask for a count between"
        )
    rows = np.random.default_rng(seed).choice(available, size=wanted, replace=False)
    split = check_split(train.take(rows), f"the calibration samples of {dataset.name}")
    return Calibration(split, wanted, seed, split.sha256, excluded, np.asarray(rows, np.int64))


def _check_available(name: str, total: int, available: int) -> None:
    if total < MIN_COUNT:
        raise DataError(
            f"{name}: too few samples for calibration: expected at least {MIN_COUNT} in x_train, got {total}; add more"
        )
    if available < MIN_COUNT:
        raise DataError(
            f"{name}: x_train holds the same samples as x_test ({total - available} of {total}): calibration on the "
            "test split would make the measured accuracy worthless; give separate training data"
        )


def _rows_in(train: Split, test: Split) -> npt.NDArray[np.bool_]:
    if _signature(train) != _signature(test):
        return np.zeros(train.count, np.bool_)
    seen = set(_row_digests(test))
    return np.fromiter((digest in seen for digest in _row_digests(train)), np.bool_, train.count)


def _signature(split: Split) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    return {name: (values.dtype, values.shape[1:]) for name, values in split.inputs.items()}


def _row_digests(split: Split) -> list[bytes]:
    columns = [split.inputs[name] for name in sorted(split.inputs)]
    return [_row_digest([values[row] for values in columns]) for row in range(split.count)]


def _row_digest(parts: list[Any]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.tobytes())
    return digest.digest()
