"""Sound as windows of samples: a WAV's header, PCM to floats, another rate, overlapping windows; none of it held whole."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, NamedTuple, Optional

import numpy as np

from ..errors import DataError, InputError, SourceError
from ..tensors import TensorSpec
from .frames import Frame, Source, SourceOptions

if TYPE_CHECKING:
    from .frames import Array

__all__ = ["Pcm", "SoundSource", "read_header", "resample", "to_mono", "windows"]

BLOCK_FRAMES = 4096
ENCODINGS = ("u8", "s16", "s24", "s32", "f32")
FORMAT_BYTES = 40
SIZES_NOT_TOLD = (0, 0xFFFF_FFFF)  # what is written into a pipe cannot go back to say how much it was
WAVE_FORMAT_PCM, WAVE_FORMAT_FLOAT, WAVE_FORMAT_EXTENSIBLE = 1, 3, 0xFFFE


class Pcm(NamedTuple):
    """How samples are stored: one of ENCODINGS, little-endian, channels interleaved; ``size_bytes`` of them where it is told."""

    encoding: str
    channels: int
    rate_hz: int
    size_bytes: Optional[int] = None

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * int(self.encoding[1:]) // 8


class SoundSource(Source):
    """Windows of mono float32 samples at ``options.rate_hz`` from ``file``, which stands at the samples of ``pcm``.

    A window is as long as the model's input unless ``window_s`` says otherwise, and begins half a window after the one
    before unless ``hop_s`` does; the last is short where samples are left over. Raises InputError for windows without samples.
    """

    live = False

    def __init__(self, file: IO[bytes], pcm: Pcm, spec: TensorSpec, options: SourceOptions) -> None:
        self._file, self._pcm, self._rate_hz = file, pcm, options.rate_hz
        longest = int(max(spec.shape[1:], default=1))
        self._window = longest if options.window_s is None else round(options.window_s * options.rate_hz)
        self._hop = max(1, self._window // 2) if options.hop_s is None else round(options.hop_s * options.rate_hz)
        self._closed = False
        if min(self._window, self._hop) < 1 or self._window > longest:
            raise InputError(
                f"expected a window of 1 to {longest} samples, the model's input, and a hop of at least 1, got "
                f"{self._window} and {self._hop} at {options.rate_hz} Hz: change --window, --hop or --rate"
            )

    def frames(self) -> Iterator[Frame]:
        """The windows, each with the second it begins at."""
        with self._file:
            mono = resample(self._blocks(), self._pcm.rate_hz, self._rate_hz)
            for start, window in windows(mono, self._window, self._hop):
                yield Frame(lambda window=window: window, {"second": round(start / self._rate_hz, 6)})  # type: ignore[misc]

    def close(self) -> None:
        """End."""
        self._closed = True

    def _blocks(self) -> Iterator[Array]:
        size, left = self._pcm.frame_bytes, self._pcm.size_bytes
        while not self._closed:
            wanted = BLOCK_FRAMES * size if left is None else min(BLOCK_FRAMES * size, left)
            content = self._file.read(wanted)
            left = None if left is None else left - len(content)
            if len(content) >= size:
                yield to_mono(content[: len(content) // size * size], self._pcm)
            if len(content) < BLOCK_FRAMES * size:
                return


def read_header(file: IO[bytes], name: str) -> Pcm:
    """Read a WAV up to its samples. Raises DataError for what is none, SourceError for an encoding we do not read."""
    header = file.read(12)
    if header[:4] != b"RIFF" or header[8:] != b"WAVE":
        raise DataError(f"expected a WAV (RIFF WAVE), got something else: {name}")
    pcm = None
    while True:
        chunk = file.read(8)
        if len(chunk) < 8:
            raise DataError(f"expected the samples of a WAV, got its end: {name}")
        size = struct.unpack("<4xI", chunk)[0]
        if chunk[:4] == b"data":
            if pcm is None:
                raise DataError(f"expected the format of a WAV before its samples, got none: {name}")
            return pcm._replace(size_bytes=None if size in SIZES_NOT_TOLD else size)
        content = file.read(min(size, FORMAT_BYTES))
        if chunk[:4] == b"fmt ":
            pcm = _read_format(content, name)
        left = size + size % 2 - len(content)
        while left > 0 and (skipped := file.read(min(left, 1 << 16))):
            left -= len(skipped)


def _read_format(content: bytes, name: str) -> Pcm:
    if len(content) < 16:
        raise DataError(f"expected 16 bytes of format in a WAV, got {len(content)}: {name}")
    kind, channels, rate_hz, bits = struct.unpack("<HHI6xH", content[:16])
    if kind == WAVE_FORMAT_EXTENSIBLE and len(content) >= 26:
        kind = struct.unpack("<H", content[24:26])[0]
    prefix = {WAVE_FORMAT_PCM: "u" if bits == 8 else "s", WAVE_FORMAT_FLOAT: "f"}.get(kind, "?")
    if f"{prefix}{bits}" not in ENCODINGS or not 1 <= channels <= 64 or not 100 <= rate_hz <= 1_000_000:
        raise SourceError(
            f"expected a WAV of 8, 16, 24 or 32 bits, got format {kind} of {bits} bits, {channels} channels, {rate_hz} "
            f"Hz: {name}; type: ffmpeg -i {name} -c:a pcm_s16le out.wav"
        )
    return Pcm(f"{prefix}{bits}", channels, rate_hz)


def to_mono(content: bytes, pcm: Pcm) -> Array:
    """Whole samples as float32 within -1..1 (full scale is 1), the mean of the channels."""
    values: Array
    if pcm.encoding == "s24":
        wide = np.zeros((len(content) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        values = wide.view("<i4")[:, 0] / np.float64(1 << 31)
    elif pcm.encoding == "f32":
        values = np.frombuffer(content, "<f4").astype(np.float64)
    elif pcm.encoding == "u8":
        values = (np.frombuffer(content, np.uint8) - 128.0) / 128.0
    else:
        bits = int(pcm.encoding[1:])
        values = np.frombuffer(content, f"<i{bits // 8}") / np.float64(1 << (bits - 1))
    mono: Array = values.reshape(-1, pcm.channels).mean(axis=1).astype(np.float32)
    return mono


def resample(blocks: Iterable[Array], given_hz: int, wanted_hz: int) -> Iterator[Array]:
    """The blocks at another rate, linearly between neighbours: sample n is taken at n * given / wanted.

    Nothing is filtered: what lies above half of a lower rate folds back. Positions are kept as whole numbers, so that
    hours do not drift.
    """
    if given_hz == wanted_hz:
        yield from blocks
        return
    held, held_from, made = np.empty(0, np.float32), 0, 0
    for block in blocks:
        held = np.concatenate([held, block])
        # Sample n lies between places n * given // wanted and the next one, which must be there.
        until = max(made, -(-(held_from + len(held) - 1) * wanted_hz // given_hz))
        scaled = np.arange(made, until, dtype=np.int64) * given_hz
        place, part = scaled // wanted_hz - held_from, (scaled % wanted_hz) / wanted_hz
        if len(place):
            yield (held[place] * (1 - part) + held[place + 1] * part).astype(np.float32)
        made = until
        passed = min(max(made * given_hz // wanted_hz - held_from, 0), len(held))
        held, held_from = held[passed:], held_from + passed


def windows(blocks: Iterable[Array], window: int, hop: int) -> Iterator[tuple[int, Array]]:
    """Windows of ``window`` samples, each ``hop`` after the last, with the place they begin at.

    A last, shorter one holds the samples that were in none; a sound shorter than a window is one short window.
    """
    held, start, heard, skip = np.empty(0, np.float32), 0, 0, 0
    for block in blocks:
        passed = min(skip, len(block))  # a hop longer than a window leaves samples out
        skip, start = skip - passed, start + passed
        held = np.concatenate([held, block[passed:]])
        while len(held) >= window:
            yield start, held[:window]
            heard, skip = max(0, window - hop), max(0, hop - len(held))
            start += min(hop, len(held))
            held = held[hop:]
    if len(held) > heard:
        yield start, held
