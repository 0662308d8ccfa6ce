"""Video4Linux2 without a camera: layouts and numbers against the system's own header, the rest against a fake driver.

No camera was ever attached to what ran these tests.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_device import DataError, Model
from edgekit_device.errors import SourceError
from edgekit_device.stream import camera as camera_module
from edgekit_device.stream import v4l2
from edgekit_device.stream.answer import Answer
from edgekit_device.stream.camera import Camera
from edgekit_device.stream.pipeline import Pipeline
from edgekit_device.stream.prepare import Preparation
from PIL import Image

CAPTURING = v4l2.CAP_VIDEO_CAPTURE | v4l2.CAP_STREAMING


# -- against the header -----------------------------------------------------------------------------------------


def _members() -> Iterator[tuple[str, str, Any]]:
    for name, structure in v4l2.STRUCTURES.items():
        for member, _ in structure._fields_:
            yield name, member, structure


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no C compiler here: apt-get install gcc")
def test_layouts_and_numbers_are_those_of_the_kernel_s_header(tmp_path: Path) -> None:
    """A C program prints sizes, offsets, ioctl numbers, constants and fourcc codes; ours are the same."""
    sizes = [(f"sizeof {name}", f"sizeof(struct {name})", ctypes.sizeof(s)) for name, s in v4l2.STRUCTURES.items()]
    offsets = [
        (f"{name}.{member}", f"offsetof(struct {name}, {member})", getattr(structure, member).offset)
        for name, member, structure in _members()
    ]
    numbers = [(name, name, number) for name, number in v4l2.IOCTLS.items()]
    constants = [
        ("capture", "V4L2_BUF_TYPE_VIDEO_CAPTURE", v4l2.BUF_TYPE_VIDEO_CAPTURE),
        ("mmap", "V4L2_MEMORY_MMAP", v4l2.MEMORY_MMAP),
        ("able to capture", "V4L2_CAP_VIDEO_CAPTURE", v4l2.CAP_VIDEO_CAPTURE),
        ("able to stream", "V4L2_CAP_STREAMING", v4l2.CAP_STREAMING),
        ("device caps", "V4L2_CAP_DEVICE_CAPS", v4l2.CAP_DEVICE_CAPS),
        ("error", "V4L2_BUF_FLAG_ERROR", v4l2.BUF_FLAG_ERROR),
        *((code, f"V4L2_PIX_FMT_{name}", v4l2.fourcc(code)) for code, name in {
            "RGB3": "RGB24", "BGR3": "BGR24", "YUYV": "YUYV", "NV12": "NV12", "GREY": "GREY", "MJPG": "MJPEG"
        }.items()),
    ]  # fmt: skip
    wanted = [*sizes, *offsets, *numbers, *constants]
    prints = "\n".join(
        f'printf("%llu\\n", (unsigned long long)(unsigned)({expression}));' for _, expression, _ in wanted
    )
    source = tmp_path / "layout.c"
    source.write_text(
        f"#include <stdio.h>\n#include <stddef.h>\n#include <linux/videodev2.h>\nint main(void) {{\n{prints}\nreturn 0;\n}}\n"
    )
    subprocess.run(["gcc", "-o", str(tmp_path / "layout"), str(source)], check=True)
    told = subprocess.run([tmp_path / "layout"], capture_output=True, text=True, check=True).stdout.split()

    assert {name: number for name, _, number in wanted} == {
        name: int(number) for (name, _, _), number in zip(wanted, told, strict=True)
    }
    assert set(camera_module.LAYOUTS) == {"RGB3", "BGR3", "YUYV", "NV12", "GREY", "MJPG"}


def test_a_code_is_four_characters_and_back() -> None:
    """What does not print is a question mark."""
    assert v4l2.fourcc_name(v4l2.fourcc("YUYV")) == "YUYV"
    assert v4l2.fourcc_name(0x00FF1B41) == "A???"


# -- a driver that plays a camera -------------------------------------------------------------------------------


class FakeMap(bytearray):
    """A shared buffer."""

    def close(self) -> None:
        """Nothing to free."""


class FakeDriver:
    """Plays a V4L2 driver: offers ``formats``, grants the size nearest to 640 x 480 or less, fills buffers with ``frames``.

    Keeps the order of calls, and which buffers are the driver's: filling one that is not would be a bug of the loop.
    """

    def __init__(self, formats: tuple[str, ...] = ("YUYV",), frames: Any = (), **settings: Any) -> None:
        self.formats, self.frames = formats, list(frames)
        self.settings = {"capabilities": CAPTURING, "padding": 0, "errors": {}, "granted": None, **settings}
        self.calls: list[str] = []
        self.queued: list[int] = []
        self.maps: dict[int, FakeMap] = {}
        self.streaming = self.closed = False

    def __call__(self, path: str) -> FakeDriver:
        """Open."""
        self._fail("open")
        return self

    def ioctl(self, name: str, argument: Any) -> None:
        """Play the ioctl."""
        assert not self.closed
        assert name in v4l2.IOCTLS
        self.calls.append(name)
        self._fail(name)
        getattr(self, f"_{name.removeprefix('VIDIOC_').lower()}")(argument)

    def _querycap(self, told: Any) -> None:
        told.card, told.capabilities = b"Fake\x1b[2J Camera", self.settings["capabilities"]
        told.device_caps = self.settings.get("device_caps", 0)

    def _enum_fmt(self, told: Any) -> None:
        assert told.type == v4l2.BUF_TYPE_VIDEO_CAPTURE
        if told.index >= len(self.formats):
            raise OSError(errno.EINVAL, "Invalid argument")
        told.pixelformat = v4l2.fourcc(self.formats[told.index])

    def _s_fmt(self, wanted: Any) -> None:
        assert wanted.type == v4l2.BUF_TYPE_VIDEO_CAPTURE
        pix = wanted.fmt.pix
        pix.width, pix.height = min(pix.width, 640), min(pix.height, 480)
        if self.settings["granted"]:
            pix.pixelformat = v4l2.fourcc(self.settings["granted"])
        per_pixel = {"YUYV": 2, "RGB3": 3, "BGR3": 3, "GREY": 1, "NV12": 1, "MJPG": 0}[
            v4l2.fourcc_name(pix.pixelformat)
        ]
        pix.bytesperline = pix.width * per_pixel + self.settings["padding"]
        self.length = max(pix.bytesperline * pix.height * 3 // 2, 1 << 20)

    def _reqbufs(self, asked: Any) -> None:
        assert (asked.type, asked.memory) == (v4l2.BUF_TYPE_VIDEO_CAPTURE, v4l2.MEMORY_MMAP)
        asked.count = 3  # fewer than asked for: the driver decides

    def _querybuf(self, buffer: Any) -> None:
        buffer.length, buffer.m.offset = self.length, buffer.index * 0x100000

    def _qbuf(self, buffer: Any) -> None:
        assert buffer.index not in self.queued
        self.queued.append(buffer.index)

    def _streamon(self, kind: Any) -> None:
        assert kind.value == v4l2.BUF_TYPE_VIDEO_CAPTURE
        self.streaming = True

    def _streamoff(self, _: Any) -> None:
        self.streaming = False

    def _dqbuf(self, buffer: Any) -> None:
        assert self.streaming
        assert self.queued, "no buffer was given back"
        if self.frames[0] is None:  # woken without a frame
            self.frames.pop(0)
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        content = self.frames.pop(0)
        if isinstance(content, OSError):
            raise content
        buffer.index = self.queued.pop(0)
        self.maps[buffer.index][: len(content)] = content
        buffer.bytesused = len(content)
        buffer.flags = v4l2.BUF_FLAG_ERROR if content == b"torn" else 0

    def map(self, length: int, offset: int) -> FakeMap:
        """Share a buffer."""
        return self.maps.setdefault(offset // 0x100000, FakeMap(length))

    def wait(self, timeout_s: float) -> bool:
        """Whether there is a frame."""
        return bool(self.frames)

    def close(self) -> None:
        """Close."""
        assert not self.closed
        self.closed = True

    def _fail(self, name: str) -> None:
        if name in self.settings["errors"]:
            code = self.settings["errors"][name]
            raise OSError(code, os.strerror(code))


def _take(camera: Camera, count: int) -> list[Any]:
    frames = camera.frames()
    try:
        return [next(frames).load() for _ in range(count)]
    finally:
        camera.close()
        assert list(frames) == []


def test_frames_are_copied_out_and_buffers_go_back() -> None:
    """Ten frames through three buffers; each is its own; the device is switched off and freed at the end."""
    contents = [bytes([value]) * (640 * 480) for value in range(10)]
    driver = FakeDriver(("GREY",), [contents[0], None, *contents[1:], contents[0]])
    found = _take(Camera("/dev/video0", driver=driver), 10)

    assert [int(frame[0, 0]) for frame in found] == list(range(10))
    assert {frame.shape for frame in found} == {(480, 640)}
    assert (driver.streaming, driver.closed, driver.calls[-1]) == (False, True, "VIDIOC_STREAMOFF")


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (("MJPG", "YUYV"), "", "yuyv"),
        (("H264", "MJPG"), "", "mjpg"),
        (("YUYV", "RGB3", "GREY"), "", "rgb24"),
        (("YUYV", "MJPG"), "mjpg", "mjpg"),
        (("GREY", "NV12"), "", "nv12"),
    ],
)
def test_the_cheapest_format_is_chosen(offered: tuple[str, ...], wanted: str, chosen: str) -> None:
    """Or the one asked for."""
    assert Camera("/dev/video0", format_name=wanted, driver=FakeDriver(offered)).layout == chosen


def test_the_size_is_the_nearest_the_driver_has_and_rows_may_be_padded() -> None:
    """It grants 640 x 480 instead of 4000 x 3000, with 16 bytes behind each row."""
    rows = np.random.default_rng(0).integers(0, 256, (480, 640 * 3 + 16), np.uint8)
    camera = Camera("/dev/video0", size=(4000, 3000), driver=FakeDriver(("RGB3",), [rows.tobytes()] * 2, padding=16))
    (found,) = _take(camera, 1)

    assert (camera.width, camera.height) == (640, 480)
    assert np.array_equal(found, rows[:, :-16].reshape(480, 640, 3))


def test_mjpg_is_decoded_by_pillow() -> None:
    """To the pixels Pillow makes of the same JPEG."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(file, "JPEG")
    driver = FakeDriver(("MJPG",), [file.getvalue()] * 2)
    (found,) = _take(Camera("/dev/video0", size=(64, 48), driver=driver), 1)

    assert np.array_equal(found, np.asarray(Image.open(file)))


def test_a_torn_frame_does_not_load_and_the_next_one_does() -> None:
    """One the driver marks, and one that is too short."""
    whole = bytes(640 * 480)
    camera = Camera("/dev/video0", driver=FakeDriver(("GREY",), [b"torn", whole[:100], whole, whole]))
    frames = camera.frames()

    for expected in (0, 100):
        with pytest.raises(DataError, match=f"bytes of a frame, got {expected}"):
            next(frames).load()
    assert next(frames).load().shape == (480, 640)
    frames.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("open", errno.ENOENT, "there is none; cameras here"),
        ("open", errno.EACCES, r"sudo usermod -aG video \$USER"),
        ("open", errno.EBUSY, "fuser -v /dev/video7"),
        ("VIDIOC_QUERYCAP", errno.ENOTTY, "it is no camera"),
        ("VIDIOC_S_FMT", errno.EBUSY, "another program uses it"),
        ("VIDIOC_REQBUFS", errno.ENOMEM, "Cannot allocate memory"),
        ("VIDIOC_STREAMON", errno.ENOSPC, "No space left on device"),
        ("VIDIOC_DQBUF", errno.ENODEV, "it was unplugged"),
    ],
)
def test_what_the_system_refuses_is_said_with_what_to_do(place: str, code: int, said: str) -> None:
    """At the start or in the middle; the device is closed."""
    driver = FakeDriver(("GREY",), [bytes(640 * 480)], errors={place: code})
    with pytest.raises(SourceError, match=said):
        next(Camera("/dev/video7", driver=driver).frames())

    assert driver.closed is (place != "open")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"capabilities": v4l2.CAP_VIDEO_CAPTURE}, r"got 'Fake \[2J Camera', which does not stream"),
        ({"capabilities": CAPTURING | v4l2.CAP_DEVICE_CAPS, "device_caps": 0}, "does not stream"),
        ({"formats": ("H264", "BG10")}, "got H264, BG10: have ffmpeg or rpicam-vid"),
        ({"formats": ()}, "got none"),
        ({"granted": "MJPG"}, "expected YUYV from /dev/video7, got MJPG"),
    ],
)
def test_a_device_that_is_no_camera_for_us_says_why(settings: dict[str, Any], said: str) -> None:
    """Its name is cleaned; what it offers is listed; it is closed."""
    driver = FakeDriver(**settings)
    with pytest.raises(SourceError, match=said):
        Camera("/dev/video7", driver=driver)

    assert driver.closed


def test_mjpg_alone_without_pillow_tells_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start."""
    monkeypatch.setattr(camera_module, "pillow", lambda: None)
    with pytest.raises(SourceError, match=r'pip install "edgekit-device\[images\]"'):
        Camera("/dev/video0", driver=FakeDriver(("MJPG",)))


def test_a_camera_that_sends_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its patience, which a fake spends at once."""
    driver = FakeDriver(("GREY",))
    with pytest.raises(SourceError, match="sent no frame for 5 s"):
        next(Camera("/dev/video0", driver=driver).frames())

    assert driver.closed


def test_a_camera_streams_to_answers(models: Path) -> None:
    """The fake through the whole pipeline: newest frames, a torn one skipped, the device closed at the end."""
    contents: list[Any] = [bytes([value]) * (640 * 480 * 3) for value in (10, 20, 30, 40)]
    driver = FakeDriver(("RGB3",), [contents[0], b"torn", *contents[1:], OSError(errno.ENODEV, "No such device")])
    seen: list[Any] = []
    with Model(models / "conv.tflite", probe=False) as model:
        camera = Camera("/dev/video0", driver=driver)
        prepare = Preparation(model.inputs[0], {})
        pipeline = Pipeline(camera, model, prepare, Answer(model.outputs, (8, 8)), seen.append, latest=False)
        with pytest.raises(SourceError, match="it was unplugged"):
            pipeline.run()
        expected = [model.predict(np.full((1, 8, 8, 3), value, np.float32)) for value in (10, 20, 30, 40)]

    assert [work.number for work in seen] == [0, 2, 3, 4]
    for work, outputs in zip(seen, expected, strict=True):
        assert np.array_equal(np.array(work.content["outputs"][0], np.float32), outputs)
    assert (pipeline.skipped, driver.closed) == (1, True)


def test_a_real_file_that_is_no_camera(tmp_path: Path) -> None:
    """The real system calls, on what is not there, on a plain file and on another device."""
    (tmp_path / "plain").write_bytes(b"x")
    for path, said in (
        (tmp_path / "absent", "there is none"),
        (tmp_path / "plain", "no camera"),
        ("/dev/null", "no camera"),
    ):
        with pytest.raises(SourceError, match=said):
            Camera(str(path))
