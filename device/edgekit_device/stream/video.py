"""Frames of a video file, decoded by an ffmpeg process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from typing import IO, cast

from ..errors import DataError, SourceError
from ..text import clean_text
from .frames import Frame, Source
from .pictures import read_netpbm

__all__ = ["VideoSource"]

F_SETPIPE_SZ = 1031  # linux/fcntl.h; Python names it from 3.10 on
PIPE_BYTES = 1 << 20  # what an unprivileged process may have
KILL_PATIENCE_S = 5


class VideoSource(Source):
    """Every frame of ``path`` as RGB, turned upright as its rotation says.

    ffmpeg writes them as PPM, raw RGB with the size before each, and may open no network, wherever a playlist leads. Raises
    SourceError without ffmpeg or file; ``frames`` raises DataError where ffmpeg fails, with its last line.
    """

    live = False

    def __init__(self, path: str) -> None:
        if not os.path.isfile(path):
            raise SourceError(f"expected a video file, got {clean_text(path)}: there is none; check the path")
        self._path = path
        self._closed = False
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        command = ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i", f"file:{path}"]
        command += ["-map", "0:v:0", "-vsync", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "pipe:1"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._messages,
                start_new_session=True,  # Ctrl-C is ours to handle: close() ends it
            )
        except FileNotFoundError as error:
            self._messages.close()
            raise SourceError("reading a video needs ffmpeg, which is not here: sudo apt-get install ffmpeg") from error
        with contextlib.suppress(OSError):  # fewer, larger reads
            fcntl.fcntl(self._output, F_SETPIPE_SZ, PIPE_BYTES)

    def frames(self) -> Iterator[Frame]:
        """The frames; DataError at the end where ffmpeg gave up, or gave none."""
        count = 0
        try:
            with self._output as output:
                while (picture := read_netpbm(output)) is not None:
                    count += 1
                    yield Frame(lambda picture=picture: picture, {})  # type: ignore[misc]
            self._check_end(count)
        except DataError:
            if not self._closed:
                raise
        finally:
            self.close()
            self._messages.close()

    def close(self) -> None:
        """Kill ffmpeg, and wait for it."""
        self._closed = True
        self._process.kill()
        self._process.wait()

    def _check_end(self, count: int) -> None:
        if self._process.wait(KILL_PATIENCE_S) or not count:
            self._messages.seek(0)
            lines = self._messages.read(1 << 16).decode("utf-8", "replace").splitlines()
            said = clean_text(lines[-1]) if lines else "it found no picture"
            raise DataError(f"ffmpeg cannot decode {clean_text(self._path)} after {count} frames: {said}")

    @property
    def _output(self) -> IO[bytes]:
        return cast("IO[bytes]", self._process.stdout)
