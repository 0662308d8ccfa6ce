"""Folders of real image files."""

from __future__ import annotations

import builtins
import struct
import zlib

import numpy as np
import pytest

from edgekit.data import folder as folder_module
from edgekit.data import load_folder
from edgekit.errors import DataError, MissingExtraError, UsageError

Image = pytest.importorskip("PIL.Image")


def _pixels(seed, shape=(6, 8, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def _tree(root, shape=(6, 8, 3), parts=("train", "test"), classes=("cat", "dog"), count=2):
    seed = 0
    for part in parts:
        for name in classes:
            for number in range(count):
                _write(root / part / name / f"{number}.png", _pixels(seed, shape))
                seed += 1
    return root


def _png_header(width, height):
    """A PNG that claims a size and holds next to nothing."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_png_pixels_and_labels_come_back(tmp_path):
    """Lossless files give the written pixels, classes and files in order of name."""
    dataset = load_folder(_tree(tmp_path / "pets"))
    assert dataset.name == "pets"
    assert dataset.labels == ("cat", "dog")
    assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == [0, 0, 1, 1]
    assert dataset.train.inputs["x"].dtype == np.uint8
    assert np.array_equal(dataset.train.inputs["x"], np.stack([_pixels(seed) for seed in range(4)]))
    assert np.array_equal(dataset.test.inputs["x"], np.stack([_pixels(seed) for seed in range(4, 8)]))


def test_two_readings_are_identical(tmp_path):
    """The order does not depend on the file system."""
    root = _tree(tmp_path)
    assert load_folder(root).train.sha256 == load_folder(root).train.sha256


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".bmp", ".gif", ".webp"])
def test_every_format_decodes_as_pillow_decodes_it(tmp_path, suffix):
    """Pillow alone is the oracle for lossy and palette formats."""
    path = _write(tmp_path / "test" / "only" / f"a{suffix}", _pixels(1, (16, 16, 3)))
    dataset = load_folder(tmp_path)
    assert dataset.train is None
    with Image.open(path) as picture:
        assert np.array_equal(dataset.test.inputs["x"][0], np.asarray(picture.convert("RGB")))


def test_only_grey_images_give_one_channel(tmp_path):
    """Grey stays grey only if every image of both splits is."""
    _tree(tmp_path, shape=(6, 8))
    dataset = load_folder(tmp_path)
    assert dataset.train.inputs["x"].shape == (4, 6, 8, 1)
    assert np.array_equal(dataset.train.inputs["x"][0, ..., 0], _pixels(0, (6, 8)))
    _write(tmp_path / "test" / "cat" / "9.png", _pixels(9))
    mixed = load_folder(tmp_path)
    assert mixed.train.inputs["x"].shape == (4, 6, 8, 3)
    assert np.array_equal(mixed.train.inputs["x"][0, ..., 2], _pixels(0, (6, 8)))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (6, 8, 4)])
def test_channels_can_be_forced(tmp_path, channels, mode, shape):
    """One or three channels come out of grey, colour and transparent images alike."""
    _tree(tmp_path, shape=shape)
    expected = np.asarray(Image.fromarray(_pixels(0, shape)).convert(mode)).reshape(6, 8, channels)
    assert np.array_equal(load_folder(tmp_path, channels=channels).train.inputs["x"][0], expected)


def test_a_transparent_palette_is_read_without_a_warning(tmp_path):
    """Palette images with transparency go by way of RGBA."""
    path = tmp_path / "train" / "a" / "a.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(_pixels(0)).quantize(8).save(path, transparency=bytes([0, 128, 255]))
    with Image.open(path) as picture:
        expected = np.asarray(picture.convert("RGBA").convert("RGB"))
    assert np.array_equal(load_folder(tmp_path).train.inputs["x"][0], expected)


def test_size_is_height_by_width(tmp_path):
    """Images of different sizes all become (height, width), bilinearly."""
    _write(tmp_path / "train" / "a" / "a.png", _pixels(0, (6, 8, 3)))
    _write(tmp_path / "train" / "a" / "b.png", _pixels(1, (10, 4, 3)))
    images = load_folder(tmp_path, size=(10, 4)).train.inputs["x"]
    expected = Image.fromarray(_pixels(0, (6, 8, 3))).resize((4, 10), Image.Resampling.BILINEAR)
    assert images.shape == (2, 10, 4, 3)
    assert np.array_equal(images[0], np.asarray(expected))
    assert np.array_equal(images[1], _pixels(1, (10, 4, 3)))


def test_different_sizes_without_size_name_both_files(tmp_path):
    """The message names two files, two sizes and the option."""
    _write(tmp_path / "train" / "a" / "a.png", _pixels(0, (6, 8, 3)))
    _write(tmp_path / "test" / "a" / "b.png", _pixels(1, (10, 4, 3)))
    with pytest.raises(DataError, match=r"6x8 in .*a\.png and 10x4 in .*b\.png; add --size 6x8"):
        load_folder(tmp_path)


def test_hidden_and_foreign_files_are_skipped(tmp_path):
    """Dot files, dot folders and files that are no images do not count."""
    _tree(tmp_path, parts=("train",))
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "README.txt").write_text("about")
    (tmp_path / "train" / "cat" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "train" / "cat" / "Thumbs.db").write_bytes(b"no image")
    dataset = load_folder(tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert dataset.train.count == 4


def test_classes_must_agree(tmp_path):
    """A class in only one of train and test is named."""
    _tree(tmp_path)
    _write(tmp_path / "test" / "bird" / "0.png", _pixels(0))
    with pytest.raises(DataError, match=r"same classes in train and test .* got 'bird' in only one"):
        load_folder(tmp_path)


def test_layouts_that_are_none_are_refused(tmp_path):
    """No split, no class, no image and nested folders each say what is expected."""
    with pytest.raises(DataError, match="an empty folder; name the folders train and test"):
        load_folder(tmp_path)
    (tmp_path / "training").mkdir()
    with pytest.raises(DataError, match="got 'training'"):
        load_folder(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="expected one folder per class"):
        load_folder(tmp_path)
    (tmp_path / "train" / "a").mkdir()
    with pytest.raises(DataError, match=r"expected images \(\.bmp, .*, got none"):
        load_folder(tmp_path)
    (tmp_path / "train" / "a" / "deep").mkdir()
    with pytest.raises(DataError, match="got the folder 'deep'; move its images up"):
        load_folder(tmp_path)
    with pytest.raises(DataError, match="expected a readable folder"):
        load_folder(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff"])
def test_an_unreadable_image_is_named(tmp_path, content):
    """The file that Pillow cannot read is in the message."""
    _tree(tmp_path)
    (tmp_path / "train" / "dog" / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"got .*bad\.png .*; remove or replace it"):
        load_folder(tmp_path)


def test_a_truncated_image_is_named(tmp_path):
    """A whole header does not save a cut body."""
    path = _write(tmp_path / "train" / "a" / "cut.jpg", _pixels(0, (64, 64, 3)))
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(DataError, match=r"cut\.jpg"):
        load_folder(tmp_path)


@pytest.mark.parametrize("side", [9_500, 10_000, 60_000])
def test_a_decompression_bomb_is_refused(tmp_path, side, monkeypatch):
    """An image that claims too many pixels is never decoded, even where a program lifted Pillow's limit."""
    path = tmp_path / "train" / "a" / "bomb.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(_png_header(side, side))
    with pytest.raises(DataError, match=r"bomb\.png"):
        load_folder(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(DataError, match=r"bomb\.png .*more than 89478485"):
        load_folder(tmp_path)


def test_deep_pixels_are_refused_instead_of_clipped(tmp_path):
    """A 16-bit image would lose its upper values silently."""
    _write(tmp_path / "train" / "a" / "deep.png", np.full((4, 4), 40_000, np.uint16))
    with pytest.raises(DataError, match=r"deep\.png .*deeper than 8 bits"):
        load_folder(tmp_path)


def test_a_foreign_format_under_an_image_name_is_refused(tmp_path):
    """Only the listed decoders run, whatever the file is called."""
    _write(tmp_path / "train" / "a" / "tiff.png", _pixels(0), format="TIFF")
    with pytest.raises(DataError, match=r"tiff\.png"):
        load_folder(tmp_path)


def test_more_pixels_than_the_limit_are_refused(tmp_path, monkeypatch):
    """The array that would be made is bounded before it is made."""
    monkeypatch.setattr(folder_module, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match=r"at most 1000 bytes of pixels, got 1200 .*smaller --size"):
        load_folder(_tree(tmp_path), size=(10, 10))


@pytest.mark.parametrize("channels", [0, 2, 4, "RGB"])
def test_other_channel_counts_are_refused(tmp_path, channels):
    """Only grey and colour can be asked for."""
    with pytest.raises(UsageError, match=r"expected 1 \(grey\) or 3 \(colour\)"):
        load_folder(_tree(tmp_path), channels=channels)


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    """The message ends with the line that installs it."""
    real = builtins.__import__

    def without_pillow(name, *args, **kwargs):
        if name == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    root = _tree(tmp_path)
    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(MissingExtraError, match=r'pip install "edgekit\[images\]"$'):
        load_folder(root)
