"""Boxes from a detector's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .frames import Array

__all__ = ["Boxes", "decode_raw", "find_postprocessed", "suppress", "uncrop"]

MOST_CANDIDATES = 1000  # before suppression, which compares each with each


class Boxes(NamedTuple):
    """``boxes`` (N, 4) as ymin, xmin, ymax, xmax in parts of the picture, ``classes`` (N,), ``scores`` (N,), best first."""

    boxes: Array
    classes: Array
    scores: Array


def find_postprocessed(names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> Optional[tuple[int, int, int, int]]:
    """Which outputs are boxes, classes, scores and count of a TFLite_Detection_PostProcess; None if they are not.

    The operator writes them in this order (tensorflow/lite/kernels/detection_postprocess.cc); models exported by
    TensorFlow 2's Object Detection API give scores, boxes, count, classes.
    """
    if len(shapes) != 4:
        return None
    order = sorted(range(4), key=lambda place: (names[place].rpartition(":")[2] if ":" in names[place] else "", place))
    if not all(name.startswith("TFLite_Detection_PostProcess") for name in names):
        order = [1, 3, 0, 2] if len(shapes[1]) == 3 else [0, 1, 2, 3]
    boxes, classes, scores, count = (shapes[place] for place in order)
    fits = len(boxes) == 3 and boxes[2:] == (4,) and classes == scores == boxes[:2] and int(np.prod(count)) == 1
    return (order[0], order[1], order[2], order[3]) if fits else None


def from_postprocessed(boxes: Array, classes: Array, scores: Array, count: Array, threshold: float) -> Boxes:
    """What the operator found, of at least ``threshold``; what is no number is left out."""
    found = float(count.reshape(-1)[0])
    rows = max(0, min(int(found), len(scores[0]))) if np.isfinite(found) else 0
    sound = np.isfinite(boxes[0, :rows]).all(axis=1) & np.isfinite(classes[0, :rows]) & (scores[0, :rows] >= threshold)
    keep = np.flatnonzero(sound)
    keep = keep[np.argsort(-scores[0, keep], kind="stable")]
    places = np.clip(classes[0, keep], -1, 1e6).astype(np.int64)  # larger floats have no integer
    return Boxes(boxes[0, keep], places, scores[0, keep])


def decode_raw(output: Array, size: tuple[int, int], threshold: float, iou: float, classes: int = 0) -> Boxes:
    """Boxes of a raw (1, N, 4 + classes) output, or its transpose, as YOLO's exports have it, after suppression.

    A row is the centre x, y, width and height, then a score for each class; an objectness stands before them where a
    row holds 5 + ``classes`` (0: not known) values. Coordinates are parts of the input, or pixels of its ``size`` (height, width)
    where any is beyond 2. Raises DataError for another shape.
    """
    if output.ndim != 3 or len(output) != 1 or min(output.shape[1:]) < 5:
        raise DataError(f"expected one output (1, N, 4 + classes) of a detector, got {output.shape}; try --task raw")
    rows = output[0] if output.shape[1] >= output.shape[2] else output[0].T
    scores = rows[:, 5:] * rows[:, 4:5] if classes and rows.shape[1] == 5 + classes else rows[:, 4:]
    best = scores.argmax(axis=1)
    tops = scores[np.arange(len(rows)), best]
    keep = np.flatnonzero((tops >= threshold) & np.isfinite(rows[:, :4]).all(axis=1))
    keep = keep[np.argsort(-tops[keep], kind="stable")][:MOST_CANDIDATES]
    centre, half = rows[keep, 1::-1], rows[keep, 3:1:-1] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    if boxes.size and np.abs(rows[keep, :4]).max() > 2:
        boxes = boxes / np.array([*size, *size], np.float32)
    kept = suppress(boxes, best[keep], iou)
    return Boxes(boxes[kept], best[keep][kept], tops[keep][kept])


def suppress(boxes: Array, classes: Array, iou: float) -> Array:
    """Greedy non-maximum suppression within each class over boxes ordered best first: the places of those kept.

    A box goes when a better one of its class covers it with an intersection over union above ``iou``.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    areas = np.prod(np.maximum(high - low, 0), axis=1)
    alive, kept = np.ones(len(boxes), bool), []
    for place in range(len(boxes)):
        if not alive[place]:
            continue
        kept.append(place)
        sides = np.maximum(np.minimum(high, high[place]) - np.maximum(low, low[place]), 0)
        shared = sides[:, 0] * sides[:, 1]
        alive &= (shared <= iou * (areas + areas[place] - shared)) | (classes != classes[place])
    return np.array(kept, np.int64)


def uncrop(boxes: Array, inner: Optional[tuple[float, float, float, float]]) -> Array:
    """Boxes in parts of the tensor as parts of the picture that fills ``inner`` of it (top, left, height, width)."""
    if inner is None:
        return boxes
    top, left, height, width = inner
    return (boxes - np.array([top, left] * 2, np.float32)) / np.array([height, width] * 2, np.float32)
