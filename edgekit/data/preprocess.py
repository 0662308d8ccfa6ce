"""What happens to raw samples before they reach the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, MissingExtraError, UsageError, suggest
from .dataset import Split

__all__ = ["MAX_SIDE", "Preprocessing", "check_size", "parse_size", "pillow", "resize"]

MAX_SIDE = 16_384
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Preprocessing:
    """Model input = raw * scale + offset, in float32, after an optional resize to ``size`` = (height, width).

    For pixels 0..255, ``scale=1/255`` gives 0..1 and ``scale=1/127.5, offset=-1`` gives -1..1. Raises UsageError
    for a scale of 0, for values that are not finite numbers, and for an impossible size.
    """

    scale: float = 1.0
    offset: float = 0.0
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be computed, and keep plain floats."""
        for name in ("scale", "offset"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
        if self.scale == 0:
            raise UsageError("scale: expected a number other than 0, got 0; type e.g. 0.00392156862745098 for 1/255")
        if self.size is not None:
            object.__setattr__(self, "size", check_size(self.size))

    @property
    def is_identity(self) -> bool:
        """Whether ``apply`` returns every array as it came."""
        return self == Preprocessing()

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the model is fed for raw samples of shape (N, ...).

        Without scale and offset the dtype stays, so token ids remain integers; otherwise float32 comes out. With a
        size, samples must be images (N, H, W, C): uint8 of 1 or 3 channels stays uint8, anything else becomes
        float32. The resize is Pillow's bilinear one, which averages when it shrinks. Raises DataError for other
        shapes, and MissingExtraError without Pillow.
        """
        resized = array if self.size is None else _resized(array, self.size)
        if self.scale == 1 and self.offset == 0:
            return resized
        values = resized.astype(np.float32)
        values *= np.float32(self.scale)
        values += np.float32(self.offset)
        return values

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"scale": self.scale, "offset": self.offset, "size": None if self.size is None else list(self.size)}

    @classmethod
    def from_dict(cls, raw: object) -> Preprocessing:
        """Read ``to_dict`` back; absent keys keep their defaults, unknown ones and bad values are UsageError.

        Unlike other records it refuses what it does not know: a step left out would silently make every answer wrong.
        """
        if not isinstance(raw, Mapping):
            raise UsageError(f"preprocessing: expected an object with scale, offset, size, got {type(raw).__name__}")
        for key in raw:
            if key not in ("scale", "offset", "size"):
                raise UsageError(f"preprocessing: unknown key {key!r}{suggest(str(key), ('scale', 'offset', 'size'))}")
        return cls(**raw)


def resize(split: Split, size: tuple[int, int] | None) -> Split:
    """``split`` with its images at ``size``; the same object when none is wanted."""
    if size is None:
        return split
    only = Preprocessing(size=size)
    return Split({name: only.apply(values) for name, values in split.inputs.items()}, split.labels)


def parse_size(text: str) -> tuple[int, int]:
    """``"224x160"`` as (height, width) = (224, 160); raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,6})[xX]([0-9]{1,6})", text.strip())
    if match is None:
        raise UsageError(f"size: expected HEIGHTxWIDTH in pixels, got {text!r}; type e.g. 224x224")
    return check_size((int(match[1]), int(match[2])))


def check_size(size: object) -> tuple[int, int]:
    """``size`` as (height, width), each from 1 to MAX_SIDE pixels; raises UsageError."""
    if isinstance(size, (tuple, list)) and len(size) == 2 and all(_is_side(side) for side in size):
        return int(size[0]), int(size[1])
    raise UsageError(f"size: expected (height, width), each of 1 to {MAX_SIDE} pixels, got {size!r}; type e.g. 224x224")


def pillow() -> ModuleType:
    """``PIL.Image``; raises MissingExtraError where Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            'reading or resizing images needs Pillow, which is not installed; type: pip install "edgekit[images]"'
        ) from error
    return Image


def _is_side(side: object) -> bool:
    return isinstance(side, (int, np.integer)) and not isinstance(side, bool) and bool(1 <= side <= MAX_SIDE)


def _finite(name: str, value: Any) -> float:
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    # float32 is what the model is fed, so a number beyond it is as useless as infinity; NaN fails here as well.
    if is_number and abs(value) <= _FLOAT32_MAX:
        return float(value)
    raise UsageError(f"{name}: expected a finite number, got {value!r}; type e.g. 0.00392156862745098 for 1/255")


def _resized(array: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    if array.ndim != 4:
        raise DataError(
            f"expected images of shape (N, H, W, C) to resize to {size[0]}x{size[1]}, got shape {array.shape}; "
            "add the channel axis with x[..., None], or leave the size away"
        )
    if array.shape[1:3] == size:
        return array
    if array.dtype == np.uint8 and array.shape[3] in (1, 3):
        return _resized_uint8(array, size)
    return _resized_float(array.astype(np.float32), size)


def _resized_uint8(array: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    image = pillow()
    out = np.empty((len(array), *size, array.shape[3]), np.uint8)
    for row, pixels in zip(out, array, strict=True):
        picture = image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
        row[...] = np.asarray(picture.resize(size[::-1], image.Resampling.BILINEAR)).reshape(row.shape)
    return out


def _resized_float(array: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    image = pillow()
    out = np.empty((len(array), *size, array.shape[3]), np.float32)
    for row, pixels in zip(out, array, strict=True):
        for channel in range(array.shape[3]):
            plane = image.fromarray(np.ascontiguousarray(pixels[..., channel]))
            row[..., channel] = np.asarray(plane.resize(size[::-1], image.Resampling.BILINEAR))
    return out
