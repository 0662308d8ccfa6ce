"""From a frame to the model's input tensor, as the note inside the model says."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from ..errors import DataError, InputError
from ..tasks import preprocess
from ..tensors import TensorSpec, to_tensor
from .frames import MAX_PIXELS
from .resize import resize

if TYPE_CHECKING:
    from .frames import Array

__all__ = ["Preparation", "Prepared", "is_image_input", "to_channels"]

PADDING = 114  # the grey that detectors are trained with around a letterboxed picture
LUMA = (19595, 38470, 7471)  # Pillow's RGB to L: ITU-R 601-2 in 16 bits, rounded


class Prepared(NamedTuple):
    """``tensor`` is fed as it is; ``inner`` is the part of it (top, left, height, width; 0..1) the picture fills."""

    tensor: Array
    inner: Optional[tuple[float, float, float, float]]


def is_image_input(spec: TensorSpec) -> bool:
    """Whether the tensor takes pictures: (N, H, W, 1 or 3)."""
    return len(spec.shape) == 4 and spec.shape[3] in (1, 3)


class Preparation:
    """Makes input tensors of frames; each is its caller's until it is given back to ``recycle``.

    Pixels become values by ``raw * scale + offset`` of the note's ``preprocessing``, and values tensor steps: both in
    one table of 256 entries, which holds exactly what ``edgekit evaluate`` computes. A quantized 8-bit input without
    a note gets the pixel (uint8) or the pixel - 128 (int8). Raises DataError for a note that makes no sense, InputError
    for an input without values.
    """

    def __init__(self, spec: TensorSpec, note: Mapping[str, Any], *, letterbox: bool = False) -> None:
        self._spec, self._note, self._letterbox = spec, note, letterbox
        self._shape = spec.shape[1:]
        self._spare: deque[Array] = deque()
        self._is_image = is_image_input(spec)
        if 0 in spec.shape:
            raise InputError(f"expected an input that takes values, got shape {spec.shape}")
        if self._is_image:
            _check_noted_size(note, self._shape[:2])
            self._table = self._tabulate()
            self._canvas = np.full(self._shape, PADDING, np.uint8)
            self._canvas_inner: tuple[int, ...] = ()

    def __call__(self, frame: Array) -> Prepared:
        """The tensor of ``frame``; raises DataError for one that does not fit, InputError for NaN."""
        array = frame[0] if frame.shape[:1] == (1,) and frame.ndim == len(self._spec.shape) else frame
        if self._is_image and array.ndim in (2, 3):
            return self._image(array)
        if self._is_sound(array):
            array = np.pad(array, (0, self._length - len(array))).reshape(self._shape)
        return self._values(array)

    def recycle(self, prepared: Prepared) -> None:
        """Take a tensor that has been fed, to fill it again; safe while another thread prepares."""
        self._spare.append(prepared.tensor)

    def _buffer(self) -> Array:
        try:
            return self._spare.pop()
        except IndexError:
            return np.empty((1, *self._shape), self._spec.dtype)

    @property
    def _length(self) -> int:
        return int(np.prod(self._shape, dtype=np.int64))

    def _is_sound(self, frame: Array) -> bool:
        """Whether ``frame`` is samples for an input of one long axis; the last window of a sound may be short."""
        return not self._is_image and frame.ndim == 1 and len(frame) <= self._length == max(self._shape, default=0)

    def _image(self, frame: Array) -> Prepared:
        picture = to_channels(frame, self._shape[2])
        inner = None
        if self._letterbox:
            picture, inner = self._letterboxed(picture)
        else:
            picture = resize(picture, *self._shape[:2])
        if picture.dtype != np.uint8:
            return self._values(picture, inner)
        tensor = self._buffer()
        # One look-up a value, straight into the tensor's dtype; mode="clip" spares numpy a copy, for no index is out.
        np.take(self._table, picture, out=tensor[0], mode="clip")
        return Prepared(tensor, inner)

    def _letterboxed(self, picture: Array) -> tuple[Array, tuple[float, float, float, float]]:
        """The picture at its own ratio in the middle of grey; its place as part of the whole."""
        height, width = self._shape[:2]
        ratio = min(height / picture.shape[0], width / picture.shape[1])
        rows, columns = (max(1, round(side * ratio)) for side in picture.shape[:2])
        top, left = (height - rows) // 2, (width - columns) // 2
        if picture.dtype != np.uint8:
            raise DataError(f"expected pixels of uint8 to letterbox, got {picture.dtype}")
        if self._canvas_inner != (top, left, rows, columns):
            self._canvas[...] = PADDING
            self._canvas_inner = (top, left, rows, columns)
        self._canvas[top : top + rows, left : left + columns] = resize(picture, rows, columns)
        return self._canvas, (top / height, left / width, rows / height, columns / width)

    def _values(self, array: Array, inner: Optional[tuple[float, float, float, float]] = None) -> Prepared:
        tensor = self._buffer()
        if array.shape != self._shape:
            raise DataError(f"expected frames of shape {self._shape} for this model, got {array.shape}")
        tensor[0] = to_tensor(self._spec, self._real(preprocess(array, self._note)))
        return Prepared(tensor, inner)

    def _real(self, values: Array) -> Array:
        """Small integers are pixels or samples, never native steps, as in ``edgekit evaluate``."""
        takes_floats = self._spec.quantized or self._spec.dtype.kind == "f"
        return values.astype(np.float32) if takes_floats and values.dtype.kind != "f" else values

    def _tabulate(self) -> Array:
        pixels = np.arange(256, dtype=np.uint8)
        if "preprocessing" not in self._note and self._spec.quantized and self._spec.dtype.itemsize == 1:
            return pixels if self._spec.dtype == np.uint8 else (pixels ^ 128).view(np.int8)
        return to_tensor(self._spec, self._real(preprocess(pixels, self._note)))


def to_channels(frame: Array, channels: int) -> Array:
    """``frame`` (H, W) or (H, W, C) as (H, W, ``channels``): grey is repeated, colour becomes Pillow's luma.

    Raises DataError for other channels and dtypes, and for a frame without pixels.
    """
    picture = frame[..., None] if frame.ndim == 2 else frame
    if picture.dtype != np.uint8:
        picture = picture.astype(np.float32)
    if picture.shape[2] not in (1, 3) or not 0 < picture.shape[0] * picture.shape[1] <= MAX_PIXELS:
        raise DataError(f"expected a picture (H, W), (H, W, 1) or (H, W, 3), got {frame.dtype} {frame.shape}")
    if picture.shape[2] == channels:
        return picture
    if channels == 3:
        return np.repeat(picture, 3, axis=2)
    if picture.dtype != np.uint8:
        raise DataError(f"expected pixels of uint8 to make grey, got {frame.dtype}")
    return ((picture @ np.array(LUMA, np.int32) + 0x8000) >> 16).astype(np.uint8)[..., None]


def _check_noted_size(note: Mapping[str, Any], size: tuple[int, ...]) -> None:
    settings = note.get("preprocessing")
    noted = settings.get("size") if isinstance(settings, Mapping) else None
    if noted is not None and noted != list(size):
        raise DataError(
            f"expected the note's size to be the model's {list(size)}, got another: convert the model again"
        )
