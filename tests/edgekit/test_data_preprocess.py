"""Scaling and resizing of raw samples."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from edgekit.data import Preprocessing, parse_size
from edgekit.errors import DataError, MissingExtraError, UsageError

UINT8 = np.random.default_rng(5).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("array", [UINT8, np.arange(6, dtype=np.int32), np.arange(6), np.ones((2, 2), np.float64)])
def test_identity_returns_the_same_array(array):
    """Token ids, pixels and floats are left alone, without a copy."""
    assert Preprocessing().is_identity
    assert Preprocessing().apply(array) is array


def test_scale_and_offset_are_computed_in_float32():
    """Numpy in float64 is the oracle; two roundings of values up to 1 allow two units in the last place."""
    result = Preprocessing(scale=1 / 127.5, offset=-1).apply(UINT8)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, UINT8.astype(np.float64) / 127.5 - 1, rtol=0, atol=2 * np.finfo(np.float32).eps)


def test_the_input_is_not_changed():
    """A float32 array is copied before it is scaled."""
    values = np.ones((2, 2), np.float32)
    Preprocessing(scale=2.0).apply(values)
    assert np.array_equal(values, np.ones((2, 2)))


@pytest.mark.parametrize("channels", [1, 3])
def test_uint8_images_are_resized_as_pillow_does(channels):
    """Pixels stay uint8 and are those of Pillow's bilinear filter."""
    image = pytest.importorskip("PIL.Image")
    result = Preprocessing(size=(4, 10)).apply(UINT8[..., :channels])
    assert result.shape == (3, 4, 10, channels)
    assert result.dtype == np.uint8
    for row, pixels in zip(result, UINT8, strict=True):
        source = pixels if channels == 3 else pixels[..., 0]
        expected = image.fromarray(source).resize((10, 4), image.Resampling.BILINEAR)
        assert np.array_equal(row.squeeze(), np.asarray(expected))


@pytest.mark.parametrize(("dtype", "channels"), [(np.float32, 3), (np.float64, 2), (np.int16, 1), (np.uint8, 4)])
def test_other_images_are_resized_in_float32(dtype, channels):
    """A plane whose values rise evenly still rises evenly inside, whatever the dtype and channel count."""
    pytest.importorskip("PIL.Image")
    ramp = np.broadcast_to(np.arange(8).reshape(1, 1, 8, 1), (2, 6, 8, channels)).astype(dtype)
    result = Preprocessing(size=(6, 16)).apply(ramp)
    assert result.dtype == np.float32
    assert result.shape == (2, 6, 16, channels)
    # Doubling puts new centres at (j + 0.5) / 2 - 0.5; at the border the edge value is repeated.
    expected = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)
    np.testing.assert_allclose(result[1, 3, :, channels - 1], expected, atol=1e-5)


def test_resize_comes_before_scale():
    """Pixels are resized as uint8 and then scaled."""
    pytest.importorskip("PIL.Image")
    both = Preprocessing(scale=0.5, offset=1, size=(3, 3)).apply(UINT8)
    assert np.array_equal(both, Preprocessing(size=(3, 3)).apply(UINT8) * np.float32(0.5) + np.float32(1))


def test_images_of_the_right_size_are_not_touched():
    """Nothing to resize means the same array."""
    preprocessing = Preprocessing(size=(6, 8))
    assert not preprocessing.is_identity
    assert preprocessing.apply(UINT8) is UINT8


def test_only_images_can_be_resized():
    """The message says which shape is expected and what to type."""
    with pytest.raises(
        DataError, match=r"shape \(N, H, W, C\) to resize to 4x4, got shape \(3, 6, 8\); .*x\[\.\.\., None\]"
    ):
        Preprocessing(size=(4, 4)).apply(UINT8[..., 0])


def test_without_pillow_the_extra_is_named(monkeypatch):
    """The message ends with the line that installs it."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgekit\[images\]"$'):
        Preprocessing(size=(4, 4)).apply(UINT8)


@pytest.mark.parametrize("value", [Preprocessing(), Preprocessing(1 / 255, -0.5, (224, 160))])
def test_it_survives_json(value):
    """What is written beside a variant reads back as the same record."""
    assert Preprocessing.from_dict(json.loads(json.dumps(value.to_dict()))) == value


def test_absent_keys_keep_their_defaults():
    """An empty object is the identity."""
    assert Preprocessing.from_dict({}) == Preprocessing()
    assert Preprocessing(np.float32(2), np.int64(1)).to_dict() == {"scale": 2.0, "offset": 1.0, "size": None}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"scale": 0}, "a number other than 0"),
        ({"scale": float("nan")}, "scale: expected a finite number, got nan"),
        ({"offset": float("inf")}, "offset: expected a finite number, got inf"),
        ({"scale": 1e39}, "expected a finite number"),
        ({"scale": 10**400}, "expected a finite number"),
        ({"scale": "1/255"}, "expected a finite number, got '1/255'"),
        ({"offset": True}, "expected a finite number"),
        ({"scale": None}, "expected a finite number"),
        ({"size": [224]}, r"expected \(height, width\)"),
        ({"size": [224, 0]}, r"expected \(height, width\)"),
        ({"size": [224, 99_999]}, "1 to 16384 pixels"),
        ({"size": [224, 1.5]}, r"expected \(height, width\)"),
        ({"size": [True, True]}, r"expected \(height, width\)"),
        ({"size": "224x224"}, r"expected \(height, width\)"),
        ({"ofset": 1}, "unknown key 'ofset'; did you mean 'offset'"),
        ({1: 1}, "unknown key 1"),
        ([], "expected an object with scale, offset, size, got list"),
    ],
)
def test_bad_values_are_refused(raw, message):
    """What cannot be computed, or would be ignored, is an error."""
    with pytest.raises(UsageError, match=message):
        Preprocessing.from_dict(raw)


@pytest.mark.parametrize(("text", "expected"), [("224x160", (224, 160)), (" 1X16384 ", (1, 16_384))])
def test_sizes_are_parsed_as_height_by_width(text, expected):
    """Height comes first."""
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "224", "224x", "x224", "0x5", "-1x5", "224x224x3", "1.5x2", "99999x1", "२x२"])
def test_other_sizes_are_refused(text):
    """The message shows the form."""
    with pytest.raises(UsageError, match=r"type e\.g\. 224x224"):
        parse_size(text)
