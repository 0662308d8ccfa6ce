"""Frames of a Video4Linux2 camera, through buffers it shares with us; no OpenCV."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import glob
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from ..errors import SourceError
from ..text import clean_text
from . import v4l2
from .frames import Frame, Source
from .pictures import INSTALL_PILLOW, decode, pillow
from .pixels import to_pixels

if TYPE_CHECKING:
    from .frames import Array

__all__ = ["Camera"]

# In order of preference: what costs least to make pixels of. MJPG is last, but all that some cameras have at large sizes.
LAYOUTS = {"RGB3": "rgb24", "BGR3": "bgr24", "YUYV": "yuyv", "NV12": "nv12", "GREY": "gray", "MJPG": "mjpg"}
DEFAULT_SIZE = (640, 480)
BUFFERS = 4
WAKE_S, PATIENCE_S = 0.25, 5.0


class Camera(Source):
    """The camera at ``path``, at its size nearest to ``size`` (width, height) and the cheapest format, or ``format_name``.

    ``driver`` opens the device. Raises SourceError saying what is wrong: no camera, in use, not allowed, no format of ours.
    """

    live = True

    def __init__(
        self,
        path: str,
        *,
        size: Optional[tuple[int, int]] = None,
        format_name: str = "",
        driver: Callable[[str], Any] = v4l2.Driver,
    ) -> None:
        self._path = clean_text(path)
        self._closed = False
        with self._telling():
            self._driver = driver(path)
        try:
            with self._telling():
                self._check_capabilities()
                self.layout = self._choose(format_name)
                self.width, self.height, self._stride = self._set_format(size or DEFAULT_SIZE)
                self._maps = self._share_buffers()
        except BaseException:
            self._driver.close()
            raise

    def frames(self) -> Iterator[Frame]:
        """Frames as they come, each copied out of its buffer, which goes back at once; one marked damaged does not load.

        Raises SourceError when the camera is unplugged or sends nothing for 5 s.
        """
        kind = ctypes.c_int(v4l2.BUF_TYPE_VIDEO_CAPTURE)
        try:
            with self._telling():
                self._driver.ioctl("VIDIOC_STREAMON", kind)
                while self._wait():
                    buffer = self._buffer()
                    try:
                        self._driver.ioctl("VIDIOC_DQBUF", buffer)
                    except BlockingIOError:
                        continue
                    used = 0 if buffer.flags & v4l2.BUF_FLAG_ERROR else buffer.bytesused
                    content = self._maps[buffer.index][:used]
                    self._driver.ioctl("VIDIOC_QBUF", buffer)
                    yield Frame(functools.partial(self._load, content), {})
        finally:
            with contextlib.suppress(OSError):  # unplugged
                self._driver.ioctl("VIDIOC_STREAMOFF", kind)
            for shared in self._maps:
                shared.close()
            self._driver.close()

    def close(self) -> None:
        """End; the device is freed by the thread that reads it."""
        self._closed = True

    def _wait(self) -> bool:
        """Wait for a frame; False once closed."""
        for _ in range(int(PATIENCE_S / WAKE_S)):
            if self._closed:
                return False
            if self._driver.wait(WAKE_S):
                return True
        raise SourceError(
            f"{self._path} sent no frame for {PATIENCE_S:.0f} s: plug it in again, or try a smaller --size"
        )

    def _load(self, content: bytes) -> Array:
        if self.layout == "mjpg":
            return decode(content, "a frame")
        return to_pixels(self.layout, np.frombuffer(content, np.uint8), self.width, self.height, self._stride)

    def _check_capabilities(self) -> None:
        told = v4l2.Capability()
        self._driver.ioctl("VIDIOC_QUERYCAP", told)
        able = told.device_caps if told.capabilities & v4l2.CAP_DEVICE_CAPS else told.capabilities
        if not (able & v4l2.CAP_VIDEO_CAPTURE and able & v4l2.CAP_STREAMING):
            raise SourceError(
                f"expected a camera at {self._path}, got {clean_text(told.card.decode('utf-8', 'replace'))!r}, which does not "
                f"stream single-plane video: try another of {_devices()}"
            )

    def _choose(self, wanted: str) -> str:
        offered = list(self._offered())
        usable = [layout for code, layout in LAYOUTS.items() if code in offered and wanted in ("", layout)]
        if usable == ["mjpg"] and pillow() is None:
            raise SourceError(f"{self._path} sends MJPG alone, which needs Pillow: {INSTALL_PILLOW}")
        if not usable:
            raise SourceError(
                f"expected {wanted or 'a format'} of {', '.join(LAYOUTS.values())} from {self._path}, got "
                f"{', '.join(offered) or 'none'}: have ffmpeg or rpicam-vid decode it and pipe it into --source -"
            )
        return usable[0]

    def _offered(self) -> Iterator[str]:
        for index in range(64):
            told = v4l2.FormatDescription(index=index, type=v4l2.BUF_TYPE_VIDEO_CAPTURE)
            try:
                self._driver.ioctl("VIDIOC_ENUM_FMT", told)
            except OSError as error:
                if error.errno == errno.EINVAL:  # the end of the list
                    return
                raise
            yield v4l2.fourcc_name(told.pixelformat)

    def _set_format(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Width, height and bytes a row, as the driver granted them: it takes the nearest it has."""
        code = next(code for code, layout in LAYOUTS.items() if layout == self.layout)
        wanted = v4l2.Format(type=v4l2.BUF_TYPE_VIDEO_CAPTURE)
        wanted.fmt.pix.width, wanted.fmt.pix.height = size
        wanted.fmt.pix.pixelformat = v4l2.fourcc(code)
        self._driver.ioctl("VIDIOC_S_FMT", wanted)
        got = wanted.fmt.pix
        if got.pixelformat != v4l2.fourcc(code):
            raise SourceError(
                f"expected {code} from {self._path}, got {v4l2.fourcc_name(got.pixelformat)}: try another --format"
            )
        return got.width, got.height, got.bytesperline

    def _share_buffers(self) -> list[Any]:
        asked = v4l2.RequestBuffers(count=BUFFERS, type=v4l2.BUF_TYPE_VIDEO_CAPTURE, memory=v4l2.MEMORY_MMAP)
        self._driver.ioctl("VIDIOC_REQBUFS", asked)
        maps = []
        for index in range(asked.count):
            buffer = self._buffer(index)
            self._driver.ioctl("VIDIOC_QUERYBUF", buffer)
            maps.append(self._driver.map(buffer.length, buffer.m.offset))
            self._driver.ioctl("VIDIOC_QBUF", buffer)
        return maps

    def _buffer(self, index: int = 0) -> v4l2.Buffer:
        return v4l2.Buffer(index=index, type=v4l2.BUF_TYPE_VIDEO_CAPTURE, memory=v4l2.MEMORY_MMAP)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """What the system says as what to do about it."""
        try:
            yield
        except OSError as error:
            advice = {
                errno.ENOENT: f"there is none; cameras here: {_devices()}",
                errno.ENXIO: f"there is none; cameras here: {_devices()}",
                errno.ENODEV: "it was unplugged",
                errno.EACCES: "you may not open it; type: sudo usermod -aG video $USER, and log in again",
                errno.EPERM: "you may not open it; type: sudo usermod -aG video $USER, and log in again",
                errno.EBUSY: "another program uses it; see which: fuser -v " + self._path,
                errno.ENOTTY: f"it is no camera; cameras here: {_devices()}",
            }.get(error.errno or 0, str(error.strerror or error))
            raise SourceError(f"cannot capture from {self._path}: {advice}") from error


def _devices() -> str:
    return ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
