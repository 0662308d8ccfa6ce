"""Where frames come from: pictures, videos made by ffmpeg, sound and pipes, against Pillow, wave, scipy and numpy."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_device import DataError, InputError, TensorSpec
from edgekit_device.errors import DeviceRuntimeError, SourceError
from edgekit_device.stream import folder, pictures, video
from edgekit_device.stream.frames import Source, SourceOptions
from edgekit_device.stream.pictures import decode, read_netpbm
from edgekit_device.stream.pixels import frame_bytes, to_pixels
from edgekit_device.stream.sound import Pcm, read_header, resample, to_mono, windows
from edgekit_device.stream.sources import NoiseSource, open_source
from PIL import Image
from scipy.io import wavfile

IMAGE_SPEC = TensorSpec("input", 0, (1, 8, 8, 3), np.dtype("uint8"), 1 / 255, 0)
needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="there is no ffmpeg here: apt-get install ffmpeg"
)


def _sound_spec(samples: int) -> TensorSpec:
    return TensorSpec("input", 0, (1, samples), np.dtype("float32"))


def _pixels(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _ppm(pixels: Any) -> bytes:
    magic = b"P6" if pixels.ndim == 3 else b"P5"
    return magic + b"\n# made here\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()


def _loaded(source: Source) -> list[Any]:
    try:
        return [frame.load() for frame in source.frames()]
    finally:
        source.close()


def _piped(content: bytes, options: SourceOptions, spec: TensorSpec = IMAGE_SPEC) -> list[Any]:
    """The frames of a real pipe that ``content`` is written into."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), open(writing, "wb") as file:
            file.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        return _loaded(open_source("-", spec, options, stdin=reading))
    finally:
        os.close(reading)
        thread.join()


# -- pictures ---------------------------------------------------------------------------------------------------


def _by_pillow(pixels: Any, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _bmp_of_32_bits(pixels: Any) -> bytes:
    return _by_pillow(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]), "BMP")


@pytest.mark.parametrize(
    "encode",
    [
        lambda pixels: _by_pillow(pixels, "PPM"),
        _ppm,
        lambda pixels: _by_pillow(pixels, "BMP"),
        _bmp_of_32_bits,
        lambda pixels: _by_pillow(pixels, "PNG"),
    ],
    ids=["ppm", "ppm with a comment", "bmp", "bmp of 32 bits", "png"],
)
def test_colour_pictures_are_what_was_saved(encode: Callable[[Any], bytes]) -> None:
    """Pillow's files, odd widths (padded rows) included, decode to the pixels they were made of."""
    pixels = _pixels(5, 7, 3)

    assert np.array_equal(decode(encode(pixels), "it"), pixels)


@pytest.mark.parametrize("kind", ["PPM", "BMP", "PNG"])
def test_grey_pictures_are_what_was_saved(kind: str) -> None:
    """A PGM and a PNG are grey; a BMP of 8 bits has its palette looked up, as colour."""
    pixels = _pixels(5, 7)
    found = decode(_by_pillow(pixels, kind), "it")

    assert np.array_equal(found if found.ndim == 2 else found[..., 0], pixels)
    assert found.ndim == (3 if kind == "BMP" else 2)


def test_a_jpeg_is_what_pillow_makes_of_it() -> None:
    """The same decoder, so the same pixels."""
    content = _by_pillow(_pixels(16, 16, 3), "JPEG")

    assert np.array_equal(decode(content, "it"), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def test_a_pgm_of_fewer_levels_is_stretched() -> None:
    """A largest value of 15 is 255."""
    assert read_netpbm(io.BytesIO(b"P5 2 1 15 \x00\x0f")).tolist() == [[0, 255]]  # type: ignore[union-attr]


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_is_its_array(order: Any) -> None:
    """In either order of axes."""
    array = np.asarray(np.random.default_rng(0).normal(size=(3, 4)), order=order)
    file = io.BytesIO()
    np.save(file, array)

    assert np.array_equal(decode(file.getvalue(), "it"), array)


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing of the kind",
        b"P6",
        b"P6 2 2 255\n123",
        b"P6 99999 99999 255\n123",
        b"P6 2 2 65535\n" + b"x" * 24,
        b"P6 0 2 255\n",
        b"P6 -1 2 255\n",
        b"P3 1 1 255\n1 2 3",
        b"BM",
        _by_pillow(_pixels(4, 4, 3), "BMP")[:60],
        b"BM" + b"\xff" * 100,
        _by_pillow(_pixels(4, 4, 3), "PNG")[:60],
        _by_pillow(_pixels(40, 40, 3), "JPEG")[:300],
        b"\x93NUMPY",
        _npy(np.zeros(4))[:140],
        _npy(np.array([{}], dtype=object)),
        _npy(np.zeros(1)).replace(b"(1,)", b"(9**9,)"),
        _npy(np.zeros(1)).replace(b"'shape': (1,), }   ", b"'shape': (99999999999,), }"),
        _npy(np.zeros(1)).replace(b"\x93NUMPY\x01", b"\x93NUMPY\x09"),
    ],
    ids=range(20),
)
def test_a_damaged_picture_is_one_error_that_names_it(content: bytes) -> None:
    """Cut, lying, enormous or none at all."""
    with pytest.raises(DataError, match=r"photo\.x: "):
        decode(content, "photo.x")


@pytest.mark.parametrize("kind", ["PPM", "BMP", "PNG", "JPEG", "npy"])
def test_random_damage_is_a_picture_or_an_error(kind: str) -> None:
    """A few hundred files with bytes changed or cut off raise nothing but DataError."""
    rng = np.random.default_rng(1)
    whole = _npy(_pixels(6, 6, 3)) if kind == "npy" else _by_pillow(_pixels(6, 6, 3), kind)
    for _ in range(60):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for _ in range(rng.integers(1, 6)):
            damaged[rng.integers(0, min(len(damaged), 80))] = rng.integers(0, 256)
        with contextlib.suppress(DataError):
            assert isinstance(decode(bytes(damaged), "it"), np.ndarray)


def test_a_folder_gives_its_pictures_by_name(tmp_path: Path) -> None:
    """Sorted, hidden and other files left out; a glob and a single file do as well; --loop begins anew."""
    for name in ("b.ppm", "a.ppm", ".hidden.ppm", "notes.txt"):
        (tmp_path / name).write_bytes(_ppm(_pixels(2, 2, 3, seed=ord(name[0]))))
    source = open_source(str(tmp_path), IMAGE_SPEC, SourceOptions())
    names = [frame.place["file"] for frame in source.frames()]
    looped = open_source(str(tmp_path / "[ab].ppm"), IMAGE_SPEC, SourceOptions(loop=True)).frames()

    assert names == ["a.ppm", "b.ppm"]
    assert [next(looped).place["file"] for _ in range(5)] == ["a.ppm", "b.ppm"] * 2 + ["a.ppm"]
    assert np.array_equal(
        _loaded(open_source(str(tmp_path / "b.ppm"), IMAGE_SPEC, SourceOptions()))[0], _pixels(2, 2, 3, seed=ord("b"))
    )


def test_a_closed_source_ends(tmp_path: Path) -> None:
    """A loop without end ends when it is closed; so do random frames."""
    (tmp_path / "a.ppm").write_bytes(_ppm(_pixels(2, 2, 3)))
    for source in (folder.FolderSource(str(tmp_path), loop=True), NoiseSource(IMAGE_SPEC)):
        frames = source.frames()
        next(frames)
        source.close()
        assert list(frames) == []


def test_a_file_that_vanishes_or_is_too_large_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a frame that is skipped, not the end."""
    for name in ("a.ppm", "b.ppm", "c.ppm"):
        (tmp_path / name).write_bytes(_ppm(_pixels(2, 2, 3)))
    source = folder.FolderSource(str(tmp_path))
    (tmp_path / "a.ppm").unlink()
    (tmp_path / "b.ppm").write_bytes(b"")
    frames = list(source.frames())

    for frame, said in zip(frames, ("cannot read|No such", "bytes, got 0"), strict=False):
        with pytest.raises(DataError, match=said):
            frame.load()
    assert frames[2].load().shape == (2, 2, 3)


def test_without_pillow_the_install_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, not at the first PNG."""
    (tmp_path / "a.png").write_bytes(_by_pillow(_pixels(2, 2, 3), "PNG"))
    monkeypatch.setattr(folder, "pillow", lambda: None)
    monkeypatch.setattr(pictures, "pillow", lambda: None)

    with pytest.raises(SourceError, match=r'pip install "edgekit-device\[images\]"'):
        open_source(str(tmp_path), IMAGE_SPEC, SourceOptions())
    with pytest.raises(DataError, match=r'pip install "edgekit-device\[images\]"'):
        decode((tmp_path / "a.png").read_bytes(), "a.png")


# -- raw pixels -------------------------------------------------------------------------------------------------

RAW = {"rgb24": "rgb24", "bgr24": "bgr24", "gray": "gray", "yuyv": "yuyv422", "nv12": "nv12", "i420": "yuv420p"}


def _smooth() -> Any:
    """A picture without sharp edges, for its chroma is halved on the way."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([60 + 2 * x, 200 - 2 * y, 90 + x + y], axis=-1).astype(np.uint8)


def _convert(pixels: Any, pixel_format: str) -> bytes:
    """``pixels`` in another layout, by ffmpeg: an implementation that is not ours."""
    height, width = pixels.shape[:2]
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", "pipe:0"]
    command = ["ffmpeg", "-v", "error", *given, "-pix_fmt", pixel_format, "-f", "rawvideo", "pipe:1"]
    return subprocess.run(command, input=pixels.tobytes(), capture_output=True, check=True).stdout


@needs_ffmpeg
@pytest.mark.parametrize("name", RAW)
def test_raw_frames_are_the_picture_ffmpeg_made_them_of(name: str) -> None:
    """Through a pipe, two frames and a cut one; YUV and its rounding there and back costs at most 4 steps of 255.

    One step is lost in each of Y, U and V; U and V weigh up to 2.02 in a channel, Y 1.16: 1.16/2 + 2.02/2 + rounding, doubled
    for chroma that is averaged over neighbours 2 and 3 steps apart.
    """
    picture = _smooth()
    content = _convert(picture, RAW[name])
    frames = open_frames = None
    reading, writing = os.pipe()
    with open(writing, "wb") as file:
        file.write(content * 2 + content[:100])
    source = open_source("-", IMAGE_SPEC, SourceOptions(format=name, size=(64, 48)), stdin=reading)
    open_frames = list(source.frames())
    os.close(reading)
    frames = [frame.load() for frame in open_frames[:2]]

    expected = np.frombuffer(content, np.uint8).reshape(48, 64) if name == "gray" else picture
    exact = name in ("rgb24", "bgr24", "gray")
    assert len(open_frames) == 3
    for frame in frames:
        assert np.abs(frame.astype(int) - expected).max() <= (0 if exact else 4)
    with pytest.raises(DataError, match="bytes of a frame, got 100"):
        open_frames[2].load()


@pytest.mark.parametrize("name", RAW)
def test_rows_with_padding_give_the_same_picture(name: str) -> None:
    """A camera's rows may be longer than the picture is wide."""
    width, height, stride = 6, 4, {"rgb24": 24, "bgr24": 24, "gray": 8, "yuyv": 16, "nv12": 8, "i420": 8}[name]
    packed = _pixels(frame_bytes(name, width, height))
    row = frame_bytes(name, width, height) * 2 // 3 // height if name in ("nv12", "i420") else len(packed) // height
    planes = [packed[: row * height].reshape(-1, row)]
    if name == "nv12":
        planes.append(packed[row * height :].reshape(-1, row))
    elif name == "i420":
        planes.append(packed[row * height :].reshape(-1, row // 2))
    strides = [stride, stride // 2 if name == "i420" else stride]
    padded = [np.pad(plane, ((0, 0), (0, wide - plane.shape[1]))) for plane, wide in zip(planes, strides, strict=False)]

    content = np.concatenate([plane.reshape(-1) for plane in padded])
    assert len(content) == frame_bytes(name, width, height, stride)
    assert np.array_equal(to_pixels(name, content, width, height, stride), to_pixels(name, packed, width, height))


# -- standard input ---------------------------------------------------------------------------------------------


def test_streams_that_tell_their_format() -> None:
    """Several PPM of different sizes, and several arrays saved one after the other."""
    pictures_ = [_pixels(3, 4, 3), _pixels(5, 2, 3, seed=1)]
    arrays = [np.arange(4.0), np.ones((2, 2), np.int8)]

    for expected, encode in ((pictures_, _ppm), (arrays, _npy)):
        found = _piped(b"".join(encode(each) for each in expected), SourceOptions())
        assert [each.tolist() for each in found] == [each.tolist() for each in expected]


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b"", SourceOptions(), "got nothing"),
        (b"GIF89a", SourceOptions(), "bytes beginning"),
        (b"xx", SourceOptions(format="rgb24"), "--size"),
        (b"xx", SourceOptions(format="rgb48"), "expected a format"),
        (b"xx", SourceOptions(format="nv12", size=(3, 3)), "even size"),
        (b"xx", SourceOptions(format="rgb24", size=(99_999, 99_999)), "pixels"),
        (b"RIFF1234AVI LIST", SourceOptions(), "expected a WAV"),
        (_ppm(_pixels(3, 3, 3)) + b"P6 garbage", SourceOptions(), "expected a number"),
        (_ppm(_pixels(3, 3, 3))[:-1], SourceOptions(), "before the end"),
    ],
)
def test_a_stream_that_is_not_understood_is_one_message(content: bytes, options: SourceOptions, said: str) -> None:
    """It says what was expected."""
    with pytest.raises(DeviceRuntimeError, match=said):
        _piped(content, options)


def test_a_pipe_where_nothing_comes_ends_when_it_is_closed() -> None:
    """The reading thread does not wait for ever."""
    reading, writing = os.pipe()
    os.write(writing, _ppm(_pixels(2, 2, 3)))
    source = open_source("-", IMAGE_SPEC, SourceOptions(), stdin=reading)
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend(source.frames()))
    thread.start()
    while not seen and thread.is_alive():
        time.sleep(0.01)
    source.close()
    thread.join(10)
    os.close(writing)
    os.close(reading)

    assert (len(seen), thread.is_alive()) == (1, False)


# -- videos -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 frames of ffmpeg's test picture, 64 x 48, without loss."""
    path = tmp_path_factory.mktemp("video") / "clip.mkv"
    made = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=1", "-c:v", "ffv1", "-pix_fmt", "bgr0", str(path)]
    subprocess.run(["ffmpeg", "-v", "error", *made], check=True)
    return path


@needs_ffmpeg
def test_every_frame_of_a_video_is_what_ffmpeg_decodes(clip: Path) -> None:
    """The same frames as raw RGB written to a file by another ffmpeg."""
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    expected = np.frombuffer(raw, np.uint8).reshape(25, 48, 64, 3)

    assert np.array_equal(np.stack(_loaded(open_source(str(clip), IMAGE_SPEC, SourceOptions()))), expected)


@needs_ffmpeg
def test_a_closed_video_leaves_no_process(clip: Path) -> None:
    """ffmpeg is killed and reaped, in the middle of its work."""
    source = video.VideoSource(str(clip))
    frames = source.frames()
    next(frames)
    source.close()
    source.close()

    assert source._process.returncode is not None
    assert len(list(frames)) <= 25


@needs_ffmpeg
@pytest.mark.parametrize("content", [b"no video at all", b"", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"])
def test_a_file_that_is_no_video_is_ffmpeg_s_own_message(content: bytes, tmp_path: Path) -> None:
    """Its last line is kept; a playlist leads to no network."""
    path = tmp_path / "-weird name.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"ffmpeg cannot decode .*weird name.mp4 after 0 frames: .{5}"):
        _loaded(open_source(str(path), IMAGE_SPEC, SourceOptions()))


@needs_ffmpeg
def test_a_video_cut_short_gives_the_frames_it_has(clip: Path, tmp_path: Path) -> None:
    """Half the file, some of the frames, no hang."""
    path = tmp_path / "cut.mkv"
    path.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    frames = open_source(str(path), IMAGE_SPEC, SourceOptions()).frames()

    assert next(frames).load().shape == (48, 64, 3)
    assert 0 < sum(1 for _ in frames) < 24


def test_without_ffmpeg_the_apt_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is on the PATH."""
    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="sudo apt-get install ffmpeg"):
        open_source(str(tmp_path / "a.mp4"), IMAGE_SPEC, SourceOptions())


# -- sound ------------------------------------------------------------------------------------------------------


def _wav(samples: Any, *, width: int = 2, channels: int = 1, rate: int = 16_000) -> bytes:
    """A WAV of PCM by the wave module; ``samples`` are the integers of that width."""
    raw = samples.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(raw)
    return file.getvalue()


def _read_wav(content: bytes) -> Any:
    file = io.BytesIO(content)
    pcm = read_header(file, "it")
    return to_mono(file.read(), pcm)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_samples_of_every_width_are_parts_of_full_scale(width: int, channels: int) -> None:
    """The wave module's own files; 8 bits are unsigned; the channels' mean."""
    bits = 8 * width
    rng = np.random.default_rng(0)
    samples = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (100, channels))
    samples[:2] = [[-(1 << (bits - 1))] * channels, [(1 << (bits - 1)) - 1] * channels]
    stored = samples + 128 if width == 1 else samples
    expected = (samples / float(1 << (bits - 1))).mean(axis=1).astype(np.float32)

    assert np.array_equal(_read_wav(_wav(stored.reshape(-1), width=width, channels=channels)), expected)


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le"])
def test_ffmpeg_s_files_are_read_as_scipy_reads_them(codec: str, tmp_path: Path) -> None:
    """Its files of more than 16 bits have the extensible header, which the wave module refused before Python 3.12."""
    path = tmp_path / "a.wav"
    made = ["-f", "lavfi", "-i", "sine=frequency=440:duration=0.1:sample_rate=8000", "-c:a", codec, str(path)]
    subprocess.run(["ffmpeg", "-v", "error", *made], check=True)
    samples = wavfile.read(path)[1]
    scale = {"pcm_u8": 128, "pcm_s16le": 1 << 15, "pcm_s24le": 1 << 31, "pcm_s32le": 1 << 31, "pcm_f32le": 1}[codec]
    expected = (samples.astype(np.float64) - (128 if codec == "pcm_u8" else 0)) / scale

    assert np.array_equal(_read_wav(path.read_bytes()), expected.astype(np.float32))


def _blocks(samples: Any, seed: int) -> Iterator[Any]:
    """``samples`` in pieces of random length, empty ones included."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(samples) + 1, 20))
    yield from np.split(samples, cuts)


@pytest.mark.parametrize(
    ("given", "wanted"), [(44_100, 16_000), (8_000, 16_000), (16_000, 16_000), (48_000, 7), (300, 1000)]
)
def test_resampling_in_pieces_is_linear_interpolation_of_the_whole(given: int, wanted: int) -> None:
    """numpy.interp at n * given / wanted, however the sound is cut; float32 rounds once, to 1e-6 of full scale."""
    samples = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    found = np.concatenate(list(resample(_blocks(samples, 1), given, wanted)))
    places = np.arange(len(found)) * given / wanted

    assert len(found) - (len(samples) - 1) * wanted / given == pytest.approx(0.5, abs=0.51)
    assert found == pytest.approx(np.interp(places, np.arange(len(samples)), samples), abs=1e-6)


@pytest.mark.parametrize(
    ("length", "window", "hop"), [(100, 10, 5), (103, 10, 10), (7, 10, 5), (100, 10, 37), (95, 10, 3), (0, 4, 2)]
)
def test_windows_cover_every_sample_they_promise(length: int, window: int, hop: int) -> None:
    """Against slices of the whole: all full windows, then what is in none of them."""
    samples = np.arange(length, dtype=np.float32)
    found = [(start, each.tolist()) for start, each in windows(_blocks(samples, 2), window, hop)]
    starts = list(range(0, length - window + 1, hop))
    expected = [(start, samples[start : start + window].tolist()) for start in starts]
    heard = starts[-1] + window if starts else 0
    begin = starts[-1] + hop if starts else 0
    if length > max(heard, begin):
        expected.append((begin, samples[begin:].tolist()))

    assert found == expected


def test_a_wav_gives_windows_with_their_second(tmp_path: Path) -> None:
    """The length is the model's input, the hop half of it, at the rate asked for."""
    samples = np.arange(1000) * 10
    (tmp_path / "a.wav").write_bytes(_wav(samples, rate=1000))
    source = open_source(str(tmp_path / "a.wav"), _sound_spec(400), SourceOptions(rate_hz=1000))
    frames = list(source.frames())

    assert [frame.place["second"] for frame in frames] == [0.0, 0.2, 0.4, 0.6]
    assert np.array_equal(frames[1].load(), (samples[200:600] / 32768).astype(np.float32))


def test_pcm_and_wav_through_a_pipe_are_the_same_windows() -> None:
    """A WAV tells its format; headerless samples are told by --format."""
    samples = np.random.default_rng(0).integers(-30_000, 30_000, 1200)
    options = SourceOptions(rate_hz=1000, window_s=0.25, hop_s=0.5)
    wav = _piped(_wav(samples, rate=1000), options, _sound_spec(300))
    raw = SourceOptions(format="s16", rate_hz=1000, window_s=0.25, hop_s=0.5)
    pcm = _piped(samples.astype("<i2").tobytes() + b"\x00", raw, _sound_spec(300))

    assert [each.tolist() for each in pcm] == [each.tolist() for each in wav]
    assert [len(each) for each in wav] == [250, 250, 200]


GOOD = _wav(np.arange(100))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected a WAV"),
        (GOOD[:11], "expected a WAV"),
        (GOOD[:20], "16 bytes of format|its end"),
        (GOOD[:40], "its end"),
        (GOOD.replace(b"fmt ", b"xxxx"), "format of a WAV before"),
        (GOOD.replace(b"\x01\x00\x01\x00\x80\x3e", b"\x06\x00\x01\x00\x80\x3e"), "ffmpeg -i"),
        (GOOD.replace(b"\x01\x00\x01\x00\x80\x3e", b"\x01\x00\x00\x00\x80\x3e"), "0 channels"),
        (GOOD.replace(b"\x01\x00\x01\x00\x80\x3e", b"\x01\x00\x01\x00\x00\x00"), "0 Hz"),
    ],
    ids=range(8),
)
def test_a_damaged_wav_is_one_message(content: bytes, said: str, tmp_path: Path) -> None:
    """Cut or lying."""
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DeviceRuntimeError, match=said):
        open_source(str(tmp_path / "a.wav"), _sound_spec(10), SourceOptions())


def test_a_wav_whose_length_lies_ends_with_its_samples(tmp_path: Path) -> None:
    """A recording cut off, or still being written: what is there counts, not what the header says."""
    (tmp_path / "a.wav").write_bytes(GOOD[:-50])

    assert len(_loaded(open_source(str(tmp_path / "a.wav"), _sound_spec(75), SourceOptions(hop_s=1)))[0]) == 75


@pytest.mark.parametrize(
    "options", [SourceOptions(window_s=1.0), SourceOptions(window_s=0.0), SourceOptions(hop_s=0.0)]
)
def test_a_window_the_model_cannot_take_is_refused(options: SourceOptions, tmp_path: Path) -> None:
    """Too long, or nothing."""
    (tmp_path / "a.wav").write_bytes(GOOD)
    with pytest.raises(InputError, match="change --window, --hop or --rate"):
        open_source(str(tmp_path / "a.wav"), _sound_spec(100), options)


@pytest.mark.parametrize("size", [200, 0xFFFFFFFF, 0])
def test_chunks_around_the_samples_are_no_samples(size: int, tmp_path: Path) -> None:
    """Tags before and behind them, longer than a block and odd, are passed over; a size that is not told is to the end."""
    header, samples = GOOD[:36], GOOD[44:]
    tags = b"LIST" + (100_001).to_bytes(4, "little") + b"x" * 100_002
    behind = tags if size == 200 else b""
    (tmp_path / "a.wav").write_bytes(header + tags + b"data" + size.to_bytes(4, "little") + samples + behind)
    found = _loaded(open_source(str(tmp_path / "a.wav"), _sound_spec(1000), SourceOptions(hop_s=1)))

    assert [each.tolist() for each in found] == [(np.arange(100) / 32768).astype(np.float32).tolist()]


def test_pcm_knows_its_size() -> None:
    """Bytes of a sample of every channel."""
    assert Pcm("s24", 2, 8000).frame_bytes == 6


# -- which source -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("absent.mp4", SourceOptions(), "expected camera:/dev/videoN"),
        ("absent/*.ppm", SourceOptions(), "expected pictures"),
        ("random", SourceOptions(loop=True), "--loop is for pictures"),
        ("absent.ppm", SourceOptions(size=(1, 1)), "--format and --size are for"),
    ],
)
def test_a_source_that_is_none_says_what_there_is(text: str, options: SourceOptions, said: str) -> None:
    """With what to type instead."""
    with pytest.raises(DeviceRuntimeError, match=said):
        open_source(text, IMAGE_SPEC, options)


@pytest.mark.parametrize(
    ("spec", "size", "shape", "dtype"),
    [
        (IMAGE_SPEC, None, (8, 8, 3), "uint8"),
        (IMAGE_SPEC, (20, 10), (10, 20, 3), "uint8"),
        (_sound_spec(5), None, (5,), "float32"),
        (TensorSpec("ids", 0, (1, 3), np.dtype("int32")), None, (3,), "int32"),
    ],
)
def test_random_frames_are_what_the_model_takes(
    spec: TensorSpec, size: Any, shape: tuple[int, ...], dtype: str
) -> None:
    """Pixels of the wanted size, values, or tokens that are in range; seeded."""
    first, again = (next(NoiseSource(spec, size).frames()).load() for _ in range(2))

    assert (first.shape, first.dtype) == (shape, dtype)
    assert np.array_equal(first, again)
