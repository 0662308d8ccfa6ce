"""Frames from standard input: raw frames of a told format, or streams that tell theirs (PPM, PGM, NPY, WAV)."""

from __future__ import annotations

import functools
import io
import os
import select
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Optional, cast

import numpy as np

from ..errors import DataError, InputError
from ..tensors import TensorSpec
from .frames import Frame, Source, SourceOptions, check_pixels
from .pictures import read_netpbm, read_npy
from .pixels import FORMATS, frame_bytes, to_pixels
from .sound import ENCODINGS, Pcm, SoundSource, read_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from .frames import Array

__all__ = ["InterruptibleFile", "open_piped"]

WAKE_S = 0.2


class InterruptibleFile(io.RawIOBase):
    """A descriptor that reads as ended soon after ``interrupt``, even where nothing more comes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._interrupted = False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill some of ``buffer``; 0 at the end."""
        while not self._interrupted:
            if select.select([self._descriptor], [], [], WAKE_S)[0]:
                return os.readv(self._descriptor, [buffer])
        return 0

    def interrupt(self) -> None:
        """End what reads."""
        self._interrupted = True


class PipedSource(Source):
    """Frames as ``read`` gets them from ``file``, one after the other until None."""

    live = False

    def __init__(self, file: IO[bytes], raw: InterruptibleFile, read: Callable[[IO[bytes]], Optional[Array]]) -> None:
        self._file, self._raw, self._read = file, raw, read

    def frames(self) -> Iterator[Frame]:
        """The frames; a stream that loses its thread is a DataError, for nothing tells where the next frame begins."""
        while (array := self._read(self._file)) is not None:
            yield Frame(lambda array=array: array, {})  # type: ignore[misc]

    def close(self) -> None:
        """End."""
        self._raw.interrupt()


class RawPipedSource(PipedSource):
    """Raw frames of ``options.format`` and ``options.size``; a last one that is not whole does not load."""

    def __init__(self, file: IO[bytes], raw: InterruptibleFile, options: SourceOptions) -> None:
        if options.size is None:
            raise InputError(
                f"expected --size WIDTHxHEIGHT with --format {options.format}: raw frames do not tell theirs"
            )
        check_pixels(*options.size, "frames")
        self._layout = (options.format, *options.size)
        self._frame_bytes = frame_bytes(*self._layout)
        super().__init__(file, raw, lambda _: None)

    def frames(self) -> Iterator[Frame]:
        """The frames."""
        while content := self._file.read(self._frame_bytes):
            name, width, height = self._layout
            load = functools.partial(to_pixels, name, np.frombuffer(content, np.uint8), width, height)
            yield Frame(load, {})


def open_piped(descriptor: int, spec: TensorSpec, options: SourceOptions) -> Source:
    """The source that reads ``descriptor``.

    ``options.format`` is one of pixels.FORMATS with a size, or of sound.ENCODINGS for one channel of PCM at
    ``rate_hz``; without it the stream begins as PGM or PPM, NPY or WAV do. Raises InputError, DataError, SourceError.
    """
    raw = InterruptibleFile(descriptor)
    file = cast("IO[bytes]", io.BufferedReader(raw, 1 << 18))
    if options.format in FORMATS:
        return RawPipedSource(file, raw, options)
    if options.format in ENCODINGS:
        return SoundSource(file, Pcm(options.format, 1, options.rate_hz), spec, options)
    if options.format:
        raise InputError(f"expected a format of {', '.join((*FORMATS, *ENCODINGS))}, got {options.format}")
    head = file.peek(2)[:2] if hasattr(file, "peek") else b""
    if head == b"RI":
        return SoundSource(file, read_header(file, "standard input"), spec, options)
    readers = {b"P5": read_netpbm, b"P6": read_netpbm, b"\x93N": read_npy}
    if head not in readers:
        raise DataError(
            "expected PPM, PGM, NPY or WAV on standard input, or raw frames with --format and --size, got "
            + (f"bytes beginning {head!r}" if head else "nothing")
        )
    return PipedSource(file, raw, readers[head])
