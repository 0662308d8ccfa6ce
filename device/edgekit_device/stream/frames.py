"""What a source of frames is: the one seam between where frames come from and the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Protocol

from ..errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["MAX_PIXELS", "Frame", "Source", "SourceOptions", "check_pixels"]

MAX_PIXELS = 89_478_485  # as on the host: Pillow's own bound


class Frame(NamedTuple):
    """One frame: ``load`` gives its array, in a later stage, or raises DataError: then it is skipped and counted.

    Images are uint8 (H, W) or (H, W, C), sound is float32 (samples,) within -1..1, anything else an array as it came.
    ``place`` is where it comes from (a file's name, a second), for the result's line.
    """

    load: Callable[[], Array]
    place: dict[str, Any]


class Source(Protocol):
    """Where frames come from. ``live``: they do not wait, so that old ones are better dropped."""

    live: bool

    def frames(self) -> Iterator[Frame]:
        """The frames in order; ends with the source, or soon after ``close``. Raises SourceError and DataError."""

    def close(self) -> None:
        """End ``frames``, from another thread too, and free what the source holds; twice is fine."""


@dataclass(frozen=True)
class SourceOptions:
    """What the command line says of the source: ``size`` is (width, height); ``window_s`` and ``hop_s`` are seconds."""

    format: str = ""
    size: Optional[tuple[int, int]] = None
    loop: bool = False
    rate_hz: int = 16_000
    window_s: Optional[float] = None
    hop_s: Optional[float] = None


def check_pixels(width: int, height: int, what: str) -> None:
    """Raises DataError for a picture without pixels, or with more than MAX_PIXELS."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise DataError(f"expected {what} of 1 to {MAX_PIXELS} pixels, got {width}x{height}")
