"""A folder of images: ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg``."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, UsageError
from .dataset import Dataset, Split, check_dataset
from .preprocess import check_size, pillow

__all__ = ["IMAGE_SUFFIXES", "MAX_BYTES", "MAX_PIXELS", "is_image_folder", "load_folder"]

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
MAX_PIXELS = 89_478_485  # Pillow's own default, which holds here even where a program has lifted it
MAX_BYTES = 16 << 30
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_GREY_MODES = ("1", "L")
_DEEP_MODES = ("I", "F")
# What Pillow's decoders raise over damaged bytes.
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error)

_Files = Mapping[str, list[Path]]


@dataclass(frozen=True)
class _Layout:
    size: tuple[int, int]
    mode: str
    resize: bool

    @property
    def channels(self) -> int:
        return 1 if self.mode == "L" else 3


def is_image_folder(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a folder with ``train/`` or ``test/`` inside."""
    return any(os.path.isdir(os.path.join(path, part)) for part in ("train", "test"))


def load_folder(
    path: str | os.PathLike[str], *, size: tuple[int, int] | None = None, channels: int | None = None
) -> Dataset:
    """Read the images of each class folder as uint8 (N, H, W, C); classes and files are taken in order of name.

    ``size`` = (height, width) resizes every image (Pillow's bilinear); without it all must be of one size. Pixels
    are RGB, or grey with one channel if all images are grey; ``channels`` 1 or 3 forces either. Animations give
    their first frame, transparency and the camera's orientation tag are dropped, hidden files are skipped. Either of
    ``train/`` and ``test/`` may be missing. Raises DataError, UsageError for options, MissingExtraError for Pillow.
    """
    if channels not in (None, 1, 3):
        raise UsageError(f"channels: expected 1 (grey) or 3 (colour), got {channels!r}; leave it away to let us see")
    wanted = None if size is None else check_size(size)
    root = Path(path)
    if not is_image_folder(root):
        raise DataError(
            f"expected {root}{os.sep} to hold train{os.sep}CLASS{os.sep}*.jpg or test{os.sep}CLASS{os.sep}*.jpg, got "
            f"{', '.join(sorted(repr(item.name) for item in _visible(root))[:10]) or 'an empty folder'}; "
            "name the folders train and test"
        )
    found = {part: _list_classes(root / part) for part in ("train", "test") if os.path.isdir(root / part)}
    classes = _agreed_classes(found, root)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pillow().DecompressionBombWarning)
        layout = _layout([file for files in found.values() for file in _flat(files)], wanted, channels)
        splits = {part: _read_split(files, layout) for part, files in found.items()}
    return check_dataset(Dataset(root.resolve().name, splits.get("train"), splits.get("test"), classes))


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted((item for item in folder.iterdir() if not item.name.startswith(".")), key=lambda item: item.name)
    except OSError as error:
        raise DataError(f"expected a readable folder, got {folder} ({error}); check the path and its rights") from error


def _list_classes(folder: Path) -> _Files:
    classes = {item.name: _list_images(item) for item in _visible(folder) if os.path.isdir(item)}
    if not classes:
        raise DataError(f"expected one folder per class in {folder}, got none; move the images into {folder}/CLASS/")
    return classes


def _list_images(folder: Path) -> list[Path]:
    items = _visible(folder)
    nested = [item for item in items if os.path.isdir(item)]
    if nested:
        raise DataError(f"expected only images in {folder}, got the folder {nested[0].name!r}; move its images up")
    images = [item for item in items if item.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise DataError(
            f"expected images ({', '.join(IMAGE_SUFFIXES)}) in {folder}, got none; add some or remove the folder"
        )
    return images


def _agreed_classes(found: Mapping[str, _Files], root: Path) -> tuple[str, ...]:
    names = [set(files) for files in found.values()]
    differing = sorted(names[0] ^ names[-1])
    if differing:
        raise DataError(
            f"expected the same classes in train and test of {root}, got {', '.join(map(repr, differing))} in only one "
            "of them; add or remove these folders"
        )
    return tuple(sorted(names[0]))


def _flat(files: _Files) -> list[Path]:
    return [file for name in sorted(files) for file in files[name]]


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    image = pillow()
    try:
        with image.open(file, formats=_FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels, more than {MAX_PIXELS} in all")
            if picture.mode.split(";")[0] in _DEEP_MODES:
                raise ValueError(f"pixels of mode {picture.mode}, deeper than 8 bits per channel")
            yield picture
    except (*_UNREADABLE, image.DecompressionBombError, image.DecompressionBombWarning) as error:
        raise DataError(
            f"expected an image of 8 bits per channel, got {file} ({type(error).__name__}: {error}); "
            "remove or replace it"
        ) from error


def _layout(files: list[Path], size: tuple[int, int] | None, channels: int | None) -> _Layout:
    modes, sizes = zip(*(_read_header(file) for file in files), strict=True)
    first = sizes[0]
    for file, found in zip(files, sizes, strict=True):
        if size is None and found != first:
            raise DataError(
                f"expected images of one size, got {first[0]}x{first[1]} in {files[0]} and {found[0]}x{found[1]} in "
                f"{file}; add --size {first[0]}x{first[1]} to resize them all"
            )
    is_grey = all(mode in _GREY_MODES for mode in modes)
    mode = {1: "L", 3: "RGB", None: "L" if is_grey else "RGB"}[channels]
    return _Layout(size or first, mode, resize=size is not None)


def _read_header(file: Path) -> tuple[str, tuple[int, int]]:
    with _opened(file) as picture:
        return picture.mode, (picture.height, picture.width)


def _read_split(files: _Files, layout: _Layout) -> Split:
    paths = _flat(files)
    shape = (len(paths), *layout.size, layout.channels)
    size_bytes = len(paths) * layout.size[0] * layout.size[1] * layout.channels
    if size_bytes > MAX_BYTES:
        raise DataError(
            f"expected at most {MAX_BYTES} bytes of pixels, got {size_bytes} for shape {shape}; add a smaller --size"
        )
    pixels = np.empty(shape, np.uint8)
    for row, path in zip(pixels, paths, strict=True):
        row[...] = _read_image(path, layout).reshape(row.shape)
    labels = [number for number, name in enumerate(sorted(files)) for _ in files[name]]
    return Split({"x": pixels}, np.array(labels, np.int64))


def _read_image(file: Path, layout: _Layout) -> npt.NDArray[np.uint8]:
    with _opened(file) as picture:
        # Pillow warns when a transparent palette becomes RGB at once, and not by way of RGBA.
        opaque = picture.convert("RGBA") if "transparency" in picture.info else picture
        plain = opaque.convert(layout.mode)
        if layout.resize and plain.size != layout.size[::-1]:
            plain = plain.resize(layout.size[::-1], pillow().Resampling.BILINEAR)
        return np.asarray(plain, np.uint8)
