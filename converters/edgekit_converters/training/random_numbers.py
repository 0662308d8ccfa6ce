"""The random numbers that layers draw in training (dropout, augmentation, noise), made a function of seed and epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .._tf import import_tensorflow

__all__ = ["own_random_numbers"]


@contextlib.contextmanager
def own_random_numbers(model: Any, framework: str) -> Iterator[Callable[[int, int], None]]:
    """Gives ``reseed(seed, epoch)``: dropout and augmentation then draw what depends on these two numbers alone."""
    if framework == "keras":
        found = [layer for layer in model._flatten_layers() if layer._seed_generators]
        states = [generator.state for layer in found for generator in layer._seed_generators]
        yield lambda seed, epoch: _reseed(lambda at, word: states[at].assign([word, 0]), len(states), seed, epoch)
        return
    tf = import_tensorflow()
    sources = [layer._random_generator for layer in model._flatten_layers() if hasattr(layer, "_random_generator")]
    before = [(source._rng_type, getattr(source, "_generator", None), source._built) for source in sources]
    for source in sources:  # by default Keras 2 draws from a state inside the traced graph, which nothing can set
        source._rng_type, source._generator, source._built = "stateful", tf.random.Generator.from_seed(0), True
    try:
        yield lambda seed, epoch: _reseed(
            lambda at, word: sources[at]._generator.reset_from_seed(word), len(sources), seed, epoch
        )
    finally:
        for source, (kind, generator, built) in zip(sources, before, strict=True):
            source._rng_type, source._generator, source._built = kind, generator, built


def _reseed(put: Callable[[int, int], None], count: int, seed: int, epoch: int) -> None:
    words = np.random.SeedSequence([seed, epoch]).generate_state(max(1, count))
    for at in range(count):
        put(at, int(words[at]) >> 1)  # TensorFlow's seeds are signed
