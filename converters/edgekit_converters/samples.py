"""Training samples as the techniques take them: preprocessed, by input name, with labels where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Samples"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Samples:
    """``inputs`` by name, arrays of shape (N, …) ready for the model; ``labels`` integers (N,), float targets (N, …) or None.

    A single input may have any name.
    """

    inputs: Mapping[str, Array]
    labels: Array | None = None

    @property
    def count(self) -> int:
        """How many samples there are."""
        return next((len(values) for values in self.inputs.values()), 0)

    def take(self, rows: Array) -> Samples:
        """The samples of these row numbers, in that order, as copies."""
        labels = None if self.labels is None else self.labels[rows]
        return Samples({name: np.asarray(values)[rows] for name, values in self.inputs.items()}, labels)
