"""Random samples a model can take: pixels, signals, and ids that its embeddings know."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_tensorflow
from ..errors import UnsupportedModelError
from .sides import Side

__all__ = ["draws", "id_bounds"]

Array = npt.NDArray[Any]

ROWS = 4
SEED = 20
UNBOUNDED_IDS = 10
# What a dimension of unknown length is tried with, the first that the model takes.
LENGTHS = (12, 64, 128, 224, 331)
PIXELS = 256


def draws(model: Any, side: Side) -> Iterator[list[Array]]:
    """Samples for all inputs in the model's order, the same at every call; more than one try where a length is not known.

    Half of the rows of an image are pixels in 0..255, half lie in -1..1, as models want the one or the other (a second try
    has the latter only); other floats are normal, integers are ids below the bound of the embedding they reach.
    """
    bounds = id_bounds(model, side)
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    kinds = [import_tensorflow().dtypes.as_dtype(tensor.dtype) for tensor in model.inputs]
    free = any(size is None for shape in shapes for size in shape[1:])
    for length, bright in itertools.product(LENGTHS if free else LENGTHS[:1], (True, False)):
        random = np.random.default_rng(SEED)
        yield [
            _draw(random, _filled(shape, length), kind, bound, bright)
            for shape, kind, bound in zip(shapes, kinds, bounds, strict=True)
        ]


def id_bounds(model: Any, side: Side) -> list[int | None]:
    """For each input the number of ids its embeddings know (the smallest), None where it reaches none."""
    bounds: list[int | None] = [None for _ in model.inputs]

    def apply(item: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[frozenset[int]]:
        sources = frozenset().union(*(value for value in side.flatten((args, kwargs)) if isinstance(value, frozenset)))
        kind = type(item).__name__
        known: int | None = (
            item.input_dim if kind == "Embedding" else item.num_tokens if kind == "CategoryEncoding" else None
        )
        for index in sources:
            bounds[index] = min(bounds[index] or known, known) if known else bounds[index]
        return [frozenset() if known else sources] * side.results(item)

    side.walk(model, [frozenset([index]) for index in range(len(bounds))], apply)
    return bounds


def _filled(shape: Sequence[int | None], length: int) -> tuple[int, ...]:
    return tuple(size or (length if axis else ROWS) for axis, size in enumerate(shape))


def _draw(random: np.random.Generator, shape: tuple[int, ...], dtype: Any, bound: int | None, bright: bool) -> Array:
    if bound is not None:
        return random.integers(0, bound, shape).astype(dtype.as_numpy_dtype)
    if dtype.is_bool:
        return random.integers(0, 2, shape).astype(bool)
    image = len(shape) >= 4
    if dtype.is_integer:
        highest = min(PIXELS, dtype.max + 1) if image or dtype.size == 1 else UNBOUNDED_IDS
        return random.integers(0, highest, shape).astype(dtype.as_numpy_dtype)
    if not dtype.is_floating:
        raise UnsupportedModelError(
            f"expected inputs of numbers, got {dtype.name}: turn them into numbers before the model"
        )
    values = random.uniform(-1, 1, shape) if image else random.standard_normal(shape)
    if image and bright:
        half = (shape[0] + 1) // 2
        values[:half] = (values[:half] + 1) / 2 * (PIXELS - 1)
    return values.astype(np.float32)
