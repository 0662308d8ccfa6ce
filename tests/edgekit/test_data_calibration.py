"""The calibration split: drawn from train, never from test."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgekit.data import Dataset, Split, draw_calibration
from edgekit.errors import DataError


def _dataset(train=300, test=20, start=10_000):
    x = np.arange(train, dtype=np.float32).reshape(-1, 1)
    other = np.arange(start, start + test, dtype=np.float32).reshape(-1, 1)
    return Dataset("mine", Split({"x": x}, np.arange(train)), Split({"x": other}) if test else None)


def test_the_draw_is_numpys_seeded_choice():
    """The documented recipe gives the same rows."""
    drawn = draw_calibration(_dataset(), count=50, seed=7)
    expected = np.random.default_rng(7).choice(np.arange(300), size=50, replace=False)
    assert drawn.split.labels.tolist() == expected.tolist()
    assert len(set(expected.tolist())) == 50
    assert (drawn.count, drawn.seed, drawn.excluded) == (50, 7, 0)
    assert drawn.sha256 == _dataset().train.take(expected).sha256


def test_the_seed_decides():
    """Equal seeds agree, others do not."""
    assert draw_calibration(_dataset(), seed=1).sha256 == draw_calibration(_dataset(), seed=1).sha256
    assert draw_calibration(_dataset(), seed=1).sha256 != draw_calibration(_dataset(), seed=2).sha256


@pytest.mark.parametrize(("train", "expected"), [(10, 10), (199, 199), (300, 200)])
def test_the_default_is_200_or_all(train, expected):
    """Fewer samples are taken whole."""
    assert draw_calibration(_dataset(train)).count == expected


def test_train_alone_is_enough():
    """Without a test split nothing is excluded."""
    assert draw_calibration(_dataset(test=0)).excluded == 0


def test_test_samples_are_never_drawn():
    """Rows of train that are in test are excluded and counted; set arithmetic is the oracle."""
    drawn = draw_calibration(_dataset(train=100, test=60, start=70))
    assert drawn.excluded == 30
    assert set(drawn.split.labels.tolist()) == set(range(70))


def test_a_row_is_excluded_only_if_all_inputs_are_equal():
    """One equal input of two is no duplicate."""
    same, other = np.zeros((30, 2)), np.arange(30.0)
    dataset = Dataset("mine", Split({"a": same, "b": other}), Split({"b": other[20:], "a": same[20:]}))
    assert draw_calibration(dataset).excluded == 10


def test_only_rows_of_one_shape_and_dtype_are_compared():
    """Equal bytes of another dtype are not the same sample."""
    x = np.zeros((20, 4), np.uint8)
    for other in (x.view(np.int8), x.reshape(20, 2, 2)):
        assert draw_calibration(Dataset("mine", Split({"x": x}), Split({"x": other}))).excluded == 0


def test_without_train_there_is_no_calibration():
    """The test split is not taken instead."""
    with pytest.raises(DataError, match="calibration is drawn from x_train, got only x_test"):
        draw_calibration(Dataset("mine", None, _dataset().train))


def test_too_few_samples_are_refused():
    """Nine are not enough."""
    with pytest.raises(DataError, match=r"too few samples .* expected at least 10 in x_train, got 9"):
        draw_calibration(_dataset(train=9))


@pytest.mark.parametrize("start", [0, 9])
def test_test_data_as_training_data_is_refused(start):
    """When exclusion leaves too few, the message says why that matters."""
    with pytest.raises(
        DataError, match=r"the same samples as x_test \(\d+ of 100\): .* worthless; give separate training"
    ):
        draw_calibration(_dataset(train=100, test=100, start=start))


@pytest.mark.parametrize("count", [-1, 0, 9, 71])
def test_counts_that_cannot_be_are_refused(count):
    """Neither more than there are, after exclusion, nor fewer than are of use."""
    with pytest.raises(DataError, match=rf"10 to 70 .*\(x_train has 100, 30 of them also in x_test\), got {count}"):
        draw_calibration(_dataset(train=100, test=60, start=70), count=count)


def test_drawn_samples_must_be_finite():
    """A NaN among them is found, one that is not drawn is not looked at."""
    dataset = _dataset(train=100)
    rows = np.random.default_rng(0).choice(np.arange(100), size=50, replace=False)
    dataset.train.inputs["x"][np.setdiff1d(np.arange(100), rows)[0]] = np.nan
    assert draw_calibration(dataset, count=50).count == 50
    dataset.train.inputs["x"][rows[3]] = np.nan
    with pytest.raises(DataError, match=r"the calibration samples of mine, input 'x': .* 1 NaN .* sample 3"):
        draw_calibration(dataset, count=50)


def test_sixty_thousand_images_are_compared_quickly():
    """A dataset of the size of MNIST takes well under the ten seconds that a busy machine is granted."""
    x = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), dtype=np.uint8)
    start = time.perf_counter_ns()
    assert draw_calibration(Dataset("big", Split({"x": x}), Split({"x": x[:10_000]}))).excluded == 10_000
    assert time.perf_counter_ns() - start < 10e9
