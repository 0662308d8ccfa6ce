"""From the model's outputs to what a line of the stream says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from ..errors import DataError, InputError
from ..quant import dequantize
from ..tensors import TensorSpec
from ..text import clean_text
from .detection import Boxes, decode_raw, find_postprocessed, from_postprocessed, uncrop

if TYPE_CHECKING:
    from .frames import Array

__all__ = ["Answer", "read_labels"]

LABELS_CAP_BYTES = 1 << 20
DECIMALS = 6


class Answer:
    """Makes a result, plain JSON values, of a model's outputs.

    ``task`` auto is ``detect`` for the four outputs of TFLite_Detection_PostProcess, ``classify`` for one output with
    a score a class, else ``raw``; ``audio`` is ``classify``. Raises InputError for a task the outputs do not fit.
    """

    def __init__(
        self,
        outputs: Sequence[TensorSpec],
        input_size: tuple[int, int],
        *,
        task: str = "auto",
        labels: Sequence[str] = (),
        top: Optional[int] = None,
        threshold: Optional[float] = None,
        iou: float = 0.5,
    ) -> None:
        self._specs, self._size, self._labels, self._iou = outputs, input_size, labels, iou
        shapes = [spec.shape for spec in outputs]
        self._found = find_postprocessed([spec.name for spec in outputs], shapes)
        is_classifier = len(shapes) == 1 and all(side == 1 for side in shapes[0][:-1])
        automatic = "detect" if self._found else "classify" if is_classifier else "raw"
        self.task = automatic if task == "auto" else "classify" if task == "audio" else task
        if (self.task == "classify" and not is_classifier) or (self.task == "detect" and len(shapes) not in (1, 4)):
            raise InputError(f"expected outputs to {self.task}, got {shapes}; try --task raw")
        self._top = top or (5 if self.task == "classify" else 100)
        self._threshold = threshold if threshold is not None else 0.5 if self.task == "detect" else None
        self._of_task = {"classify": self._classes, "detect": self._boxes, "raw": self._raw}[self.task]

    def __call__(self, outputs: Sequence[Array], inner: Optional[tuple[float, float, float, float]]) -> dict[str, Any]:
        """The result; ``inner`` is where in the tensor the picture was. Raises DataError."""
        try:
            return self._of_task([_real(spec, value) for spec, value in zip(self._specs, outputs)], inner)
        except (ValueError, IndexError) as error:  # outputs whose shapes changed as the model ran
            shapes = [value.shape for value in outputs]
            raise DataError(f"expected outputs to {self.task}, got {shapes}; try --task raw") from error

    def _classes(self, outputs: Sequence[Array], _: object) -> dict[str, Any]:
        scores = outputs[0].reshape(-1)
        if len(scores) == 1:  # one score is a yes or a no, as in tasks.answers
            return {"classes": [self._named(int(scores[0] > 0.5), scores[0])]}
        best = np.argsort(-scores, kind="stable")[: self._top]
        if self._threshold is not None:
            best = best[scores[best] >= self._threshold]
        return {"classes": [self._named(int(place), scores[place]) for place in best]}

    def _boxes(self, outputs: Sequence[Array], inner: Optional[tuple[float, float, float, float]]) -> dict[str, Any]:
        threshold = 0.0 if self._threshold is None else self._threshold
        if self._found is not None:
            boxes, classes, scores, count = (outputs[place] for place in self._found)
            found = from_postprocessed(boxes, classes, scores, count, threshold)
        else:
            found = decode_raw(outputs[0], self._size, threshold, self._iou, len(self._labels))
        found = Boxes(*(part[: self._top] for part in found))
        corners = np.round(uncrop(found.boxes, inner).astype(np.float64), DECIMALS).tolist()
        named = (self._named(int(place), score) for place, score in zip(found.classes, found.scores))
        return {"boxes": [{**each, "box": box} for each, box in zip(named, corners)]}

    def _raw(self, outputs: Sequence[Array], _: object) -> dict[str, Any]:
        return {"outputs": [value.tolist() for value in outputs]}

    def _named(self, place: int, score: Any) -> dict[str, Any]:
        named = {"index": place, "score": round(float(score), DECIMALS)}
        return {**named, "label": self._labels[place]} if 0 <= place < len(self._labels) else named


def read_labels(path: str) -> tuple[str, ...]:
    """Labels, one a line; lines ``NUMBER NAME`` (Coral's files) give each its place. Raises DataError."""
    try:
        with open(path, "rb") as file:
            content = file.read(LABELS_CAP_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    lines = [clean_text(line) for line in content.decode("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line]
    if len(content) > LABELS_CAP_BYTES or not lines:
        raise DataError(f"expected labels, one a line, at most {LABELS_CAP_BYTES} bytes, in {path}")
    pairs = [line.partition(" ") for line in lines]
    if not all(number.isdecimal() and int(number) < 100_000 and name for number, _, name in pairs):
        return tuple(lines)
    numbered = {int(number): name for number, _, name in pairs}
    return tuple(numbered.get(place, "") for place in range(max(numbered) + 1))


def _real(spec: TensorSpec, value: Array) -> Array:
    return dequantize(value, spec.scale, spec.zero_point) if spec.quantized and value.dtype == spec.dtype else value
