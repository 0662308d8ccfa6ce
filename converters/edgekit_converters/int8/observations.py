"""What a float model does on the calibration samples: found when first asked for, kept for the next quantization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from .calibrate import Ranges, collect_ranges
from .equalize import Equalized, equalize
from .thresholds import Histogram, collect_histograms, ranges_of

__all__ = ["Observations"]

Array = npt.NDArray[Any]


class Observations:
    """Ranges by any method, and the balanced model, of one float model and one set of samples.

    The first question costs a pass over the samples: one for the extremes, one for the histograms from which every
    other method's ranges follow, one to equalize. Later ones cost none. Raises what ``collect_ranges`` raises.
    """

    def __init__(self, float_model: bytes, samples: Mapping[str, Array]) -> None:
        self.float_model, self.samples = float_model, samples
        self._extremes: Ranges | None = None
        self._histograms: dict[str, Histogram] | None = None
        self._found: dict[tuple[str, float], Ranges] = {}
        self._equalized: tuple[Equalized, Observations] | None = None

    def ranges(self, calibration: str = "minmax", percentile: float = 99.99) -> Ranges:
        """The ranges by one of options.CALIBRATIONS, by tensor name."""
        if calibration == "minmax":
            if self._extremes is None:
                self._extremes = collect_ranges(self.float_model, self.samples)
            return self._extremes
        key = (calibration, percentile if calibration == "percentile" else 0.0)
        if key not in self._found:
            self._found[key] = ranges_of(self.float_model, self.histograms(), calibration, percentile=percentile)
        return self._found[key]

    def histograms(self) -> dict[str, Histogram]:
        """The histogram of every float activation, by tensor name."""
        if self._histograms is None:
            self._histograms = collect_histograms(self.float_model, self.samples)
        return self._histograms

    def equalized(self) -> tuple[Equalized, Observations]:
        """The balanced model, and observations of it."""
        if self._equalized is None:
            balanced = equalize(self.float_model, self.samples)
            self._equalized = balanced, Observations(balanced.tflite, self.samples)
        return self._equalized
