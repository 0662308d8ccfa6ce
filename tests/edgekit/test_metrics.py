"""Figures of a classifier, against scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from edgekit.metrics import class_scores, confusion_matrix, top_k_accuracy

SCORED = st.integers(2, 12).flatmap(
    lambda classes: st.tuples(
        st.just(classes), st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), min_size=1, max_size=60)
    )
)


@settings(deadline=None, max_examples=150)
@given(SCORED)
def test_confusion_precision_recall_and_f1_are_scikit_learn_s(scored: tuple[int, list[tuple[int, int]]]) -> None:
    """For any truth and answers, classes that never occur included."""
    classes, pairs = scored
    truth, answered = (np.array(values) for values in zip(*pairs, strict=True))
    labels = range(classes)
    confusion = confusion_matrix(truth, answered, classes)
    expected = oracle.precision_recall_fscore_support(truth, answered, labels=labels, zero_division=0)

    assert np.array_equal(confusion, oracle.confusion_matrix(truth, answered, labels=labels))
    found = [(s.precision, s.recall, s.f1, s.support) for s in class_scores(confusion, [str(i) for i in labels])]
    np.testing.assert_allclose(np.array(found).T, np.array(expected), rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_top_k_is_scikit_learn_s(k: int, seed: int) -> None:
    """On scores without ties, where the order of classes cannot matter."""
    draw = np.random.default_rng(seed)
    scores, truth = draw.normal(size=(50, 8)), draw.integers(0, 8, 50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle.top_k_accuracy_score(truth, scores, k=k, labels=range(8))

    assert top_k_accuracy(scores, truth, k) == pytest.approx(expected, abs=1e-12)


def test_a_tie_counts_for_the_lower_class() -> None:
    """A model that answers the same for every class is not right by accident."""
    scores = np.zeros((3, 4))

    assert top_k_accuracy(scores, np.array([0, 1, 3]), 2) == pytest.approx(2 / 3)
