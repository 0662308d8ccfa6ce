"""The part of Video4Linux2 that capturing needs: structures, ioctl numbers, and the system calls behind one seam.

Layouts and numbers are those of linux/videodev2.h (kernel.org/doc/html/latest/userspace-api/media/v4l/v4l2.html); a
test compiles that header and compares every size, offset and number.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
from typing import Any

__all__ = ["IOCTLS", "STRUCTURES", "Driver", "fourcc", "fourcc_name"]

BUF_TYPE_VIDEO_CAPTURE = 1
MEMORY_MMAP = 1
CAP_VIDEO_CAPTURE, CAP_STREAMING, CAP_DEVICE_CAPS = 0x1, 0x0400_0000, 0x8000_0000
BUF_FLAG_ERROR = 0x40


def _fields(text: str) -> list[tuple[str, Any]]:
    """``name:type`` or ``name:type*count``; no type is u32."""
    kinds: dict[str, Any] = {
        "": ctypes.c_uint32, "u8": ctypes.c_uint8, "s32": ctypes.c_int32, "char": ctypes.c_char, "long": ctypes.c_long,
        "pointer": ctypes.c_void_p, "PixelFormat": PixelFormat, "Union": FormatUnion, "m": BufferMemory,
    }  # fmt: skip
    triples = ((name, *kind.partition("*")[::2]) for name, _, kind in (field.partition(":") for field in text.split()))
    return [(name, kinds[kind] * int(count) if count else kinds[kind]) for name, kind, count in triples]


class PixelFormat(ctypes.Structure):
    """struct v4l2_pix_format."""


class FormatUnion(ctypes.Union):
    """The union in v4l2_format; a pointer stands for the members that hold one: they decide the alignment."""


class BufferMemory(ctypes.Union):
    """The union in v4l2_buffer."""


class Capability(ctypes.Structure):
    """struct v4l2_capability."""


class FormatDescription(ctypes.Structure):
    """struct v4l2_fmtdesc."""


class Format(ctypes.Structure):
    """struct v4l2_format."""


class RequestBuffers(ctypes.Structure):
    """struct v4l2_requestbuffers."""


class Buffer(ctypes.Structure):
    """struct v4l2_buffer, its times as the kernel's own ``long``: 32-bit kernels take that layout whatever the libc's."""


PixelFormat._fields_ = _fields(
    "width height pixelformat field bytesperline sizeimage colorspace priv flags ycbcr_enc quantization xfer_func"
)
FormatUnion._fields_ = _fields("pix:PixelFormat raw_data:u8*200 pointer:pointer")
BufferMemory._fields_ = _fields("offset userptr:long planes:pointer fd:s32")
Capability._fields_ = _fields(
    "driver:char*16 card:char*32 bus_info:char*32 version capabilities device_caps reserved:*3"
)
FormatDescription._fields_ = _fields("index type flags description:char*32 pixelformat mbus_code reserved:*3")
Format._fields_ = _fields("type fmt:Union")
RequestBuffers._fields_ = _fields("count type memory capabilities flags:u8 reserved:u8*3")
Buffer._fields_ = _fields(
    "index type bytesused flags field timestamp:long*2 timecode:*4 sequence memory m:m length reserved2 request_fd:s32"
)
STRUCTURES = {
    "v4l2_capability": Capability, "v4l2_fmtdesc": FormatDescription, "v4l2_pix_format": PixelFormat,
    "v4l2_format": Format, "v4l2_requestbuffers": RequestBuffers, "v4l2_buffer": Buffer,
}  # fmt: skip
_READ, _WRITE = 2, 1
# _IOC of asm-generic/ioctl.h, as x86, ARM and RISC-V have it, for the type 'V': direction, number, argument.
IOCTLS = {
    name: direction << 30 | ctypes.sizeof(argument) << 16 | ord("V") << 8 | number
    for name, direction, number, argument in (
        ("VIDIOC_QUERYCAP", _READ, 0, Capability),
        ("VIDIOC_ENUM_FMT", _READ | _WRITE, 2, FormatDescription),
        ("VIDIOC_S_FMT", _READ | _WRITE, 5, Format),
        ("VIDIOC_REQBUFS", _READ | _WRITE, 8, RequestBuffers),
        ("VIDIOC_QUERYBUF", _READ | _WRITE, 9, Buffer),
        ("VIDIOC_QBUF", _READ | _WRITE, 15, Buffer),
        ("VIDIOC_DQBUF", _READ | _WRITE, 17, Buffer),
        ("VIDIOC_STREAMON", _WRITE, 18, ctypes.c_int),
        ("VIDIOC_STREAMOFF", _WRITE, 19, ctypes.c_int),
    )
}


def fourcc(name: str) -> int:
    """``YUYV`` as the header's v4l2_fourcc makes it."""
    return int.from_bytes(name.encode("ascii"), "little")


def fourcc_name(code: int) -> str:
    """The four characters of a code; whatever does not print is a ``?``."""
    return "".join(chr(byte) if 32 < byte < 127 else "?" for byte in code.to_bytes(4, "little"))


class Driver:
    """The system calls of one open device; a test has another with the same methods. All raise OSError."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def ioctl(self, name: str, argument: Any) -> None:
        """The ioctl called ``name`` on ``argument``, which it may change."""
        fcntl.ioctl(self._descriptor, IOCTLS[name], argument, True)

    def map(self, length: int, offset: int) -> mmap.mmap:
        """A buffer of the driver's."""
        return mmap.mmap(self._descriptor, length, offset=offset)

    def wait(self, timeout_s: float) -> bool:
        """Whether there is a frame, waiting for at most ``timeout_s``."""
        return bool(select.select([self._descriptor], [], [], timeout_s)[0])

    def close(self) -> None:
        """Close the device."""
        os.close(self._descriptor)
