"""Figures of a classifier from its scores, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .records import ClassScore

__all__ = ["class_scores", "confusion_matrix", "top_k_accuracy"]

Array = npt.NDArray[Any]


def confusion_matrix(truth: Array, answered: Array, classes: int) -> Array:
    """Counts of shape (classes, classes): row i, column j is class i answered as j."""
    counts = np.bincount(truth * classes + answered, minlength=classes * classes)
    return counts.reshape(classes, classes)


def class_scores(confusion: Array, labels: Sequence[str]) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 per class; 0 where a class was never answered, or never there."""
    right = np.diag(confusion).astype(float)
    answered, present = confusion.sum(axis=0), confusion.sum(axis=1)
    precision = right / np.maximum(answered, 1)
    recall = right / np.maximum(present, 1)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return tuple(
        ClassScore(str(label), float(precision[i]), float(recall[i]), float(f1[i]), int(present[i]))
        for i, label in enumerate(labels)
    )


def top_k_accuracy(scores: Array, truth: Array, k: int) -> float:
    """Share of samples whose class is among the ``k`` largest of (N, C) scores; a tie counts as the lower class first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((order == truth[:, None]).any(axis=1).mean())
