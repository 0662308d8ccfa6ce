"""How int8 is to be made: which ranges, which quantizer, what is done to the weights, and which operators stay out of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import TechniqueError

__all__ = ["CALIBRATIONS", "QUANTIZERS", "QuantizeOptions"]

CALIBRATIONS = ("minmax", "percentile", "mse", "entropy")
QUANTIZERS = ("auto", "ai-edge-quantizer", "tflite-converter")
LOWEST_PERCENTILE = 90.0


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of an int8 quantization; the defaults are the plain one.

    - ``calibration``: how ranges follow from the activations seen: their extremes, or clipped at the ``percentile``, at
      the least mean squared error, or at the least divergence (thresholds.py has the sources).
    - ``equalize``: balance the channels of each activation before (equalize.py).
    - ``correct_bias``: fold the mean error of each output channel into the biases after (correct.py).
    - ``share_codes``: scale the channels of a clustered kernel so that they share their few codes (shared_codes.py).
    - ``quantizer``: ``auto`` is ai-edge-quantizer, and TFLite's own where that one leaves operators in float.
    - ``keep_float``, ``keep_int16``: indices of operators of the float model's first subgraph that are computed in
      float32, or with int16 activations and int8 weights. Whatever is kept makes the result ``mixed-int8``.
      Float costs little: four layers of MobileNetV2 took 2 % more time on x86. int16 costs much where the runtime has no
      fast kernels for it, as LiteRT 2.3 on x86: the same four made it twelve times as slow.

    Raises TechniqueError for a value that is none of these.
    """

    calibration: str = "minmax"
    percentile: float = 99.99
    equalize: bool = False
    correct_bias: bool = False
    share_codes: bool = False
    quantizer: str = "auto"
    keep_float: tuple[int, ...] = ()
    keep_int16: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_choice("calibration", self.calibration, CALIBRATIONS)
        _check_choice("quantizer", self.quantizer, QUANTIZERS)
        for name in ("equalize", "correct_bias", "share_codes"):
            if not isinstance(getattr(self, name), bool):
                raise TechniqueError(f"expected {name} to be true or false, got {getattr(self, name)!r}")
        if not _is_number(self.percentile) or not LOWEST_PERCENTILE <= self.percentile <= 100.0:
            raise TechniqueError(
                f"expected a percentile from {LOWEST_PERCENTILE:g} to 100 (99.99 keeps all but one value of 10,000 on "
                f"either side), got {self.percentile!r}"
            )
        for name in ("keep_float", "keep_int16"):
            object.__setattr__(self, name, _indices(name, getattr(self, name)))
        both = sorted(set(self.keep_float) & set(self.keep_int16))
        if both:
            raise TechniqueError(
                f"expected each operator to be kept at one precision, got {both} in keep_float and in keep_int16: "
                "take them out of one"
            )
        if self.keep_int16 and self.quantizer == "tflite-converter":
            raise TechniqueError(
                "expected keep_int16 with quantizer 'ai-edge-quantizer' or 'auto', got 'tflite-converter', which has one "
                "precision for all it quantizes: use keep_float, or another quantizer"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QuantizeOptions:
        """Options from a mapping of names to JSON values; raises TechniqueError, with a suggestion, for another name."""
        known = tuple(field.name for field in fields(cls))
        for name in values:
            if name not in known:
                raise TechniqueError(
                    f"expected quantization options of {', '.join(known)}, got {name!r}{_hint(name, known)}"
                )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON values, for ``from_dict``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @property
    def mixed(self) -> bool:
        """Whether some operators are kept out of int8."""
        return bool(self.keep_float or self.keep_int16)


def _check_choice(what: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise TechniqueError(f"expected {what} to be one of {', '.join(choices)}, got {value!r}{_hint(value, choices)}")


def _hint(value: object, choices: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(str(value), choices, 1)
    return f": did you mean {close[0]!r}?" if close else ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _indices(name: str, values: object) -> tuple[int, ...]:
    """``values`` as sorted operator indices, each once."""
    listed = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else None
    if listed is None or any(not isinstance(i, int) or isinstance(i, bool) or i < 0 for i in listed):
        raise TechniqueError(f"expected {name} to be operator indices (0, 1, 2, …), got {values!r}")
    return tuple(sorted(set(listed)))
