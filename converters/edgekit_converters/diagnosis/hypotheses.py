"""What preprocessing the float model seems to expect: other ways to prepare the same samples are tried on it.

Every hypothesis is a change of what the model is fed now. With labels each is judged by the accuracy it gives, paired
with that of the samples as they are (McNemar, 1947, exact, with Bonferroni's correction for the number of hypotheses).
Without labels there is only a hint: the mutual information of samples and answers, high when the answers are sure and
still differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConverterError
from .fidelity import answers, right_answers

__all__ = ["Hypothesis", "Trial", "hypotheses_for", "try_hypotheses"]

Array = npt.NDArray[Any]
AS_IS = "as it is"
SIGNIFICANCE = 0.05
# Of the ImageNet training set, RGB, as keras.applications' "caffe" and "torch" modes have them.
CAFFE_MEAN = (103.939, 116.779, 123.68)
TORCH_MEAN, TORCH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# So many bits of mutual information more than as it is are worth a word.
CLEAR_BITS = 0.3


@dataclass(frozen=True)
class Hypothesis:
    """A change of one input: its name, the change, and the scale and offset it amounts to where it is no more."""

    name: str
    change: Callable[[Array], Array]
    scale: float | None = None
    offset: float | None = None


@dataclass(frozen=True)
class Trial:
    """What one hypothesis gave.

    ``accuracy``, ``balanced`` (the mean over classes: what always answers the same is right for one of them) and ``p_value``
    (of the difference to the samples as they are) need labels; ``information`` is in bits, None where the answers are no
    probabilities. ``better`` and ``worse`` count the samples that the change made right and wrong.
    """

    name: str
    accuracy: float | None = None
    balanced: float | None = None
    information: float | None = None
    better: int = 0
    worse: int = 0
    p_value: float | None = None
    scale: float | None = None
    offset: float | None = None


def try_hypotheses(model: bytes, samples: Mapping[str, Array], labels: Array | None) -> tuple[Trial, ...]:
    """Trials of everything that can be done to the only input, the samples as they are first.

    ``samples`` are preprocessed, ``labels`` integers of shape (N,) or None. Empty for models of several inputs, and for
    inputs that are no floats.
    """
    if len(samples) != 1:
        return ()
    name, values = next(iter(samples.items()))
    if np.asarray(values).dtype.kind == "O" or not _takes_floats(model):
        return ()
    values = np.asarray(values, np.float32)
    found = list(hypotheses_for(values))
    trials: list[Trial] = []
    base: Array | None = None
    for hypothesis in (Hypothesis(AS_IS, np.positive, 1.0, 0.0), *found):
        try:
            outputs = answers(model, {name: hypothesis.change(values).astype(np.float32)})
        except ConverterError:  # a change that overflows
            continue
        right = right_answers(outputs, labels)
        base = right if hypothesis.name == AS_IS else base
        trials.append(_trial(hypothesis, outputs[0], right, base, labels))
    return tuple(trials)


def hypotheses_for(values: Array) -> Iterator[Hypothesis]:
    """The changes that make sense for samples of this range and shape (N, …)."""
    low, high = float(values.min()), float(values.max())
    yield from _affine("divided by 255", 1 / 255)
    yield from _affine("times 255", 255.0)
    yield from _affine("from 0..255 to -1..1", 1 / 127.5, -1.0)
    yield from _affine("from -1..1 to 0..255", 127.5, 127.5)
    yield from _affine("from 0..1 to -1..1", 2.0, -1.0)
    yield from _affine("from -1..1 to 0..1", 0.5, 0.5)
    yield from _affine("inverted", -1.0, low + high)
    mean, deviation = float(values.mean()), float(values.std())
    if deviation > 0:
        yield from _affine("standardized over all samples", 1 / deviation, -mean / deviation)
    if values.ndim == 4:
        yield from _of_images(values, low, high)


def _affine(name: str, scale: float, offset: float = 0.0) -> Iterator[Hypothesis]:
    yield Hypothesis(name, lambda values: values * np.float32(scale) + np.float32(offset), scale, offset)


def _of_images(values: Array, low: float, high: float) -> Iterator[Hypothesis]:
    count, height, width, channels = values.shape
    if height == width > 1:
        yield Hypothesis("rows and columns swapped", lambda images: np.swapaxes(images, 1, 2))
    if channels > 1:
        shape = (count, channels, height, width)
        yield Hypothesis(
            "channels first, read as channels last", lambda images: np.moveaxis(images.reshape(shape), 1, -1)
        )
    if channels != 3:
        return
    yield Hypothesis("channels reversed (RGB for BGR)", lambda images: images[..., ::-1])

    def pixels(images: Array) -> Array:
        """In 0..255, from the range that the samples have now."""
        if high > 1.001:
            return images
        return images * 255 if low >= 0 else (images + 1) * 127.5

    caffe, mean, std = (np.asarray(numbers, np.float32) for numbers in (CAFFE_MEAN, TORCH_MEAN, TORCH_STD))
    yield Hypothesis("ImageNet means subtracted, BGR (caffe)", lambda images: pixels(images)[..., ::-1] - caffe)
    yield Hypothesis("ImageNet means subtracted, RGB", lambda images: pixels(images) - caffe[::-1])
    yield Hypothesis("ImageNet mean and deviation (torch)", lambda images: (pixels(images) / 255 - mean) / std)


def _takes_floats(model: bytes) -> bool:
    from ..model_card import read_model_card

    return all(tensor.dtype == "float32" for tensor in read_model_card(model).inputs)


def _trial(
    hypothesis: Hypothesis, scores: Array, right: Array | None, base: Array | None, labels: Array | None
) -> Trial:
    seen = Trial(hypothesis.name, information=_information(scores), scale=hypothesis.scale, offset=hypothesis.offset)
    if right is None or base is None or labels is None:
        return seen
    better, worse = int(np.sum(right & ~base)), int(np.sum(base & ~right))
    return replace(
        seen,
        accuracy=float(right.mean()),
        balanced=float(np.mean([right[labels == label].mean() for label in np.unique(labels)])),
        better=better,
        worse=worse,
        p_value=_mcnemar(better, worse),
    )


def _mcnemar(better: int, worse: int) -> float:
    """The exact two-sided p-value: the pairs that differ are as a coin's throws."""
    count = better + worse
    tail = sum(math.comb(count, i) for i in range(min(better, worse) + 1))
    return float(min(1.0, 2 * tail / 2**count))


def _information(scores: Array) -> float | None:
    """H(mean answer) - mean H(answer) in bits; None for answers that are no probabilities of two classes or more."""
    if scores.ndim != 2 or scores.shape[1] < 2 or scores.dtype.kind != "f":
        return None
    if scores.min() < -1e-3 or not np.allclose(scores.sum(axis=1), 1, atol=1e-2):
        return None
    shares = scores.clip(1e-12, 1)
    mean = shares.mean(axis=0)
    return float(-(mean * np.log2(mean)).sum() + (shares * np.log2(shares)).sum(axis=1).mean())
