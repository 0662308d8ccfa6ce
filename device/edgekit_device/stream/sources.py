"""Which source a ``--source`` names."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Optional

import numpy as np

from ..errors import InputError, SourceError
from ..tensors import TensorSpec, random_input
from ..text import clean_text
from .folder import SUFFIXES, FolderSource
from .frames import Frame, Source, SourceOptions
from .prepare import is_image_input

__all__ = ["NoiseSource", "open_source"]


def open_source(text: str, spec: TensorSpec, options: SourceOptions, *, stdin: int = 0) -> Source:
    """``camera:/dev/video0``, ``-`` (standard input), ``random``, or a path: a folder, a glob, a picture, a WAV, a video.

    ``spec`` is the model's input: it decides the length of a window, and what ``random`` makes. Raises InputError,
    SourceError and DataError.
    """
    if options.loop and not _is_pictures(text):
        raise InputError(f"--loop is for pictures, got --source {clean_text(text)}")
    if text.startswith("camera:"):
        from .camera import Camera

        return Camera(text[len("camera:") :] or "/dev/video0", size=options.size, format_name=options.format)
    if text == "random":
        return NoiseSource(spec, options.size)
    if text == "-":
        from .piped import open_piped

        return open_piped(stdin, spec, options)
    if options.format or options.size:
        raise InputError(f"--format and --size are for cameras and standard input, got --source {clean_text(text)}")
    if _is_pictures(text):
        return FolderSource(text, loop=options.loop)
    if not os.path.exists(text):
        raise SourceError(
            f"expected camera:/dev/videoN, -, random, or a folder, glob, picture, WAV or video that is there, "
            f"got {clean_text(text)}"
        )
    if text.lower().endswith((".wav", ".wave")):
        return _open_wav(text, spec, options)
    from .video import VideoSource

    return VideoSource(text)


def _is_pictures(text: str) -> bool:
    return (
        os.path.isdir(text)
        or text.lower().endswith(SUFFIXES)
        or (not os.path.exists(text) and any(c in text for c in "*?["))
    )


def _open_wav(path: str, spec: TensorSpec, options: SourceOptions) -> Source:
    from .sound import SoundSource, read_header

    try:
        file = open(path, "rb")  # noqa: SIM115 - the source reads it to its end
    except OSError as error:
        raise SourceError(f"cannot read {clean_text(path)}: {error.strerror or error}") from error
    try:
        return SoundSource(file, read_header(file, clean_text(path)), spec, options)
    except BaseException:
        file.close()
        raise


class NoiseSource(Source):
    """Seeded frames without end, to measure what a stream can do.

    Pixels of ``size`` (width, height) or of the model's own where it takes images,
    sound or values from -1 to 1 otherwise.
    """

    live = False

    def __init__(self, spec: TensorSpec, size: Optional[tuple[int, int]] = None) -> None:
        rng = np.random.default_rng(0)
        shape = spec.shape[1:]
        if is_image_input(spec):
            shape = (*(size[::-1] if size else shape[:2]), shape[2])
            self._pool = [rng.integers(0, 256, shape, np.uint8) for _ in range(4)]
        elif spec.quantized or spec.dtype.kind == "f":
            self._pool = [rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(4)]
        else:
            self._pool = [random_input(spec)[0]]
        self._open = True

    def frames(self) -> Iterator[Frame]:
        """A few frames over and over."""
        for array in itertools.cycle(self._pool):
            if not self._open:
                return
            yield Frame(lambda array=array: array, {})  # type: ignore[misc]

    def close(self) -> None:
        """End."""
        self._open = False
