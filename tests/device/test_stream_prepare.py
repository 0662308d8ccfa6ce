"""From frames to tensors: equal to Pillow and to what the host evaluates with, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_device import DataError, InputError, Model, TensorSpec
from edgekit_device.embedded import append_note
from edgekit_device.stream.prepare import Preparation, to_channels
from edgekit_device.stream.resize import resize, resize_in_numpy
from edgekit_device.tasks import predict_all
from PIL import Image
from PIL import __version__ as pillow_version

from edgekit.data.preprocess import Preprocessing
from tests.tflite_builder import conv_model

SIZES = [
    ((480, 640), (224, 224)),
    ((37, 53), (96, 160)),
    ((1, 7), (5, 1)),
    ((64, 64), (64, 20)),
    ((641, 3), (64, 3)),
]
# Pillow 13 goes down first where the height shrinks by more than twice what the width does.
TALL = [((100, 9), (3, 40)), ((147, 80), (28, 22)), ((94, 40), (87, 38))]
SIZES += TALL if int(pillow_version.split(".")[0]) >= 13 else []
NOTE = {"preprocessing": {"scale": 1 / 127.5, "offset": -1.0}}


def _pixels(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _spec(shape: tuple[int, ...], dtype: str, scale: float = 0.0, zero_point: int = 0) -> TensorSpec:
    return TensorSpec("input", 0, shape, np.dtype(dtype), scale, zero_point)


# -- resizing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "wanted"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_resized_as_by_pillow(given: tuple[int, int], wanted: tuple[int, int], channels: int) -> None:
    """numpy's and Pillow's results are equal to the bit, and so is the host's own preprocessing."""
    image = _pixels(*given, channels)
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    expected = np.asarray(picture.resize(wanted[::-1], Image.Resampling.BILINEAR)).reshape(*wanted, channels)

    assert np.array_equal(resize_in_numpy(image, *wanted), expected)
    assert np.array_equal(resize(image, *wanted), expected)
    assert np.array_equal(Preprocessing(size=wanted).apply(image[None])[0], expected)


@pytest.mark.parametrize(("given", "wanted"), SIZES)
def test_floats_are_resized_as_by_the_host(given: tuple[int, int], wanted: tuple[int, int]) -> None:
    """The host hands each plane to Pillow in mode F; the result is the same to the bit."""
    image = np.random.default_rng(1).normal(size=(*given, 2)).astype(np.float32)

    assert np.array_equal(resize(image, *wanted), Preprocessing(size=wanted).apply(image[None])[0])


def test_grey_and_colour_become_each_other_as_by_pillow() -> None:
    """Luma is Pillow's L to the bit; grey is repeated."""
    image = _pixels(40, 50, 3)

    assert np.array_equal(to_channels(image, 1)[..., 0], np.asarray(Image.fromarray(image).convert("L")))
    assert np.array_equal(to_channels(image[..., 0], 3), np.asarray(Image.fromarray(image[..., 0]).convert("RGB")))


# -- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("note", [NOTE, {"preprocessing": {"scale": 0.25, "offset": 3.0}}, {"preprocessing": {}}])
def test_a_streamed_picture_gives_what_evaluate_gives(precision: str, note: dict[str, Any]) -> None:
    """The table from pixels to tensor values gives the outputs of the path that measures accuracy, to the bit."""
    raw = _pixels(3, 8, 8, 3)
    with Model(append_note(conv_model(precision), note), probe=False) as model:
        expected = predict_all(model, {"x": raw})[0]
        prepare = Preparation(model.inputs[0], model.note)
        actual = [model.predict(prepare(picture).tensor) for picture in raw]
        out = model.outputs[0]

    given = [(a.astype(np.float32) - out.zero_point) * np.float32(out.scale) if out.quantized else a for a in actual]
    assert np.array_equal(np.concatenate(given), expected)


@pytest.mark.parametrize(("dtype", "zero_point"), [("uint8", 0), ("int8", -128)])
def test_without_a_note_a_quantized_input_gets_the_pixels(dtype: str, zero_point: int) -> None:
    """A foreign model's 8-bit input spans its 256 pixels: uint8 as they are, int8 shifted by 128."""
    picture = _pixels(4, 4, 3)
    prepared = Preparation(_spec((1, 4, 4, 3), dtype, 1 / 255, zero_point), {})(picture)

    assert prepared.tensor.dtype == dtype
    assert np.array_equal(prepared.tensor[0].astype(int), picture.astype(int) + zero_point)


def test_a_frame_is_resized_to_the_model() -> None:
    """With or without its size in the note, as the host's resize makes it."""
    picture = _pixels(30, 40, 3)
    expected = Preprocessing(scale=1 / 255, size=(8, 6)).apply(picture[None])

    for size in ([8, 6], None):
        note = {"preprocessing": {"scale": 1 / 255, "offset": 0.0, "size": size}}
        assert np.array_equal(Preparation(_spec((1, 8, 6, 3), "float32"), note)(picture).tensor, expected)


def test_a_letterboxed_picture_keeps_its_ratio() -> None:
    """The picture is in the middle at its ratio, grey around it, and its place is told."""
    picture = _pixels(20, 40, 3)
    prepared = Preparation(_spec((1, 16, 16, 3), "float32"), {}, letterbox=True)(picture)
    pixels = prepared.tensor[0]

    assert prepared.inner == (4 / 16, 0.0, 8 / 16, 1.0)
    assert np.array_equal(pixels[4:12], resize_in_numpy(picture, 8, 16).astype(np.float32))
    assert np.array_equal(np.unique(np.concatenate([pixels[:4], pixels[12:]])), [114.0])


def test_sound_fills_the_input_and_a_short_window_is_padded() -> None:
    """Samples take the input's shape, values the tensor's scale."""
    window = np.linspace(-1, 1, 10, dtype=np.float32)
    full = Preparation(_spec((1, 10), "int8", 1 / 127), {})(window).tensor
    short = Preparation(_spec((1, 12, 1), "float32"), {})(window).tensor

    assert np.array_equal(full[0], np.rint(window * 127).astype(np.int8))
    assert np.array_equal(short[0, :, 0], np.append(window, [0.0, 0.0]).astype(np.float32))


def test_a_tensor_is_filled_again_only_after_it_was_given_back() -> None:
    """Until then every call has memory of its own."""
    prepare = Preparation(_spec((1, 4, 4, 3), "uint8"), {})
    prepared = [prepare(_pixels(4, 4, 3, seed=seed)) for seed in range(4)]
    kept = {each.tensor.ctypes.data for each in prepared}
    prepare.recycle(prepared[2])

    assert len(kept) == 4
    assert prepare(_pixels(4, 4, 3)).tensor is prepared[2].tensor
    assert prepare(_pixels(4, 4, 3)).tensor.ctypes.data not in kept


@pytest.mark.parametrize(
    ("shape", "frame"),
    [
        ((1, 4, 4, 3), np.zeros((4, 4, 2), np.uint8)),
        ((1, 4, 4, 3), np.zeros((0, 4, 3), np.uint8)),
        ((1, 4, 4, 1), np.zeros((4, 4, 3), np.float32)),
        ((1, 5), np.zeros(6, np.float32)),
        ((1, 5), np.zeros((2, 2), np.float32)),
    ],
)
def test_a_frame_that_does_not_fit_says_so(shape: tuple[int, ...], frame: Any) -> None:
    """It is a DataError with both shapes, which the stream counts."""
    with pytest.raises(DataError, match="expected"):
        Preparation(_spec(shape, "float32"), {})(frame)


@pytest.mark.parametrize("size", [[8, 8], "x", [4], [10**9, 10**9]])
def test_a_note_s_size_other_than_the_model_s_is_refused(size: Any) -> None:
    """Before the first frame."""
    with pytest.raises(DataError, match="the note's size"):
        Preparation(_spec((1, 4, 4, 3), "float32"), {"preprocessing": {"size": size}})


def test_letterboxed_floats_and_inputs_without_values_are_refused() -> None:
    """Neither is guessed at."""
    with pytest.raises(DataError, match="to letterbox"):
        Preparation(_spec((1, 4, 4, 3), "float32"), {}, letterbox=True)(np.zeros((9, 9, 3), np.float32))
    with pytest.raises(InputError, match="takes values"):
        Preparation(_spec((1, 0, 4, 3), "float32"), {})


def test_the_note_of_a_real_file_is_what_counts(tmp_path: Path) -> None:
    """The same pixels through two notes give two tensors."""
    spec = _spec((1, 4, 4, 3), "float32")
    picture = _pixels(4, 4, 3)

    assert np.array_equal(
        Preparation(spec, NOTE)(picture).tensor[0], Preprocessing(1 / 127.5, -1.0).apply(picture[None])[0]
    )
    assert np.array_equal(Preparation(spec, {})(picture).tensor[0], picture.astype(np.float32))
