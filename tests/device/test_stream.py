"""``edgekit-device stream`` as its user meets it: processes, pipes and signals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_device import Model
from edgekit_device.embedded import append_note
from edgekit_device.tasks import predict_all

from tests.conftest import Cli
from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="there is no ffmpeg here: apt-get install ffmpeg"
)
Stream = Callable[..., Any]


def classifier(precision: str = "float32", **note: Any) -> bytes:
    """Scores of the 3 channels of an 8 x 8 picture: their means, so that a test knows the answer."""
    tensors = [
        Tensor("picture", "float32", (1, 8, 8, 3)),
        Tensor("axes", "int32", (2,), np.array([1, 2], np.int32)),
        Tensor("scores", "float32", (1, 3)),
    ]
    model = build(Graph(tensors, [Op("MEAN", (0, 1), (2,), schema.ReducerOptionsT())], (0,), (2,), "serving_default"))
    return append_note(
        model, {"preprocessing": {"scale": 1 / 255, "offset": 0.0}, "labels": ["red", "green", "blue"], **note}
    )


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A folder with the classifier and a red, a green, a damaged and a blue picture of 20 x 10."""
    (tmp_path / "model.tflite").write_bytes(classifier())
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for place, name in enumerate(("1-red", "2-green", "4-blue")):
        pixels = np.full((10, 20, 3), 51, np.uint8)
        pixels[..., place] = 204
        (pictures / f"{name}.ppm").write_bytes(b"P6 20 10 255\n" + pixels.tobytes())
    (pictures / "3-torn.ppm").write_bytes(b"P6 20 10 255\nxx")
    return tmp_path


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    """Start ``edgekit-device stream`` from the source; waits for it unless ``wait=False``, and leaves none behind."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        *arguments: object,
        wait: bool = True,
        stdin: Any = subprocess.DEVNULL,
        input: bytes | None = None,
        **options: Any,
    ) -> Any:
        command = [sys.executable, "-m", "edgekit_device", "stream", *(str(argument) for argument in arguments)]
        if wait:
            given: dict[str, Any] = {"input": input} if input is not None else {"stdin": stdin}
            return subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=tmp_path, **given)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": stdin, **options}
        started.append(subprocess.Popen(command, cwd=tmp_path, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        for file in (process.stdout, process.stderr, process.stdin):
            if file is not None:
                file.close()


def _lines(output: bytes | str) -> tuple[list[Any], Any]:
    """The results, and the summary that ends them."""
    *results, last = [json.loads(line) for line in output.splitlines()]
    return results, last["summary"]


# -- what comes out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("python", ["device_python", "tflite_python"])
def test_pictures_become_lines_on_both_runtimes(
    python: str, colours: Path, device_cli: Cli, request: pytest.FixtureRequest
) -> None:
    """The built wheel, without Pillow: each picture's colour, by the note's labels; the torn one is counted."""
    interpreter = request.getfixturevalue(python)
    done = device_cli(
        "stream", colours / "model.tflite", "--source", colours / "pictures", python=interpreter, cwd=colours
    )
    results, summary = _lines(done.stdout)

    assert done.returncode == 0, done.stderr
    assert [(line["frame"], line["file"]) for line in results] == [
        (0, "1-red.ppm"),
        (1, "2-green.ppm"),
        (3, "4-blue.ppm"),
    ]
    assert [line["classes"][0] for line in results] == [
        {"index": place, "score": pytest.approx(0.8), "label": label}
        for place, label in enumerate(("red", "green", "blue"))
    ]
    assert set(results[0]["ms"]) == {"capture", "prepare", "infer", "answer", "total"}
    assert (summary["frames"], summary["captured"], summary["dropped"], summary["skipped"]) == (3, 4, 0, 1)
    assert "3-torn.ppm" in summary["skip_reason"]
    assert summary["runtime"]["name"] == ("litert" if python == "device_python" else "tflite")
    assert (summary["ended"], summary["task"]) == ("end", "classify")
    assert "3 frames" in done.stderr
    assert "1 skipped" in done.stderr


@needs_ffmpeg
@pytest.mark.parametrize("python", ["device_python", "tflite_python"])
def test_video_and_sound_on_both_runtimes(
    python: str, colours: Path, device_cli: Cli, request: pytest.FixtureRequest
) -> None:
    """The built wheel on its oldest Python and numpy as well: frames of a video, windows of a WAV of 24 bits."""
    (colours / "sound.tflite").write_bytes(dense_model())
    for kind, options in (
        ("testsrc=size=32x24:rate=10:duration=0.5", ["-pix_fmt", "yuv420p", "clip.avi"]),
        ("sine=frequency=440:duration=0.01:sample_rate=48000", ["-c:a", "pcm_s24le", "a.wav"]),
    ):
        subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", kind, *options], check=True, cwd=colours)
    interpreter = request.getfixturevalue(python)

    for model, source, count in (("model", "clip.avi", 5), ("sound", "a.wav", 4)):
        done = device_cli("stream", f"{model}.tflite", "--source", source, python=interpreter, cwd=colours)
        assert done.returncode == 0, done.stderr
        assert len(_lines(done.stdout)[0]) == count


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_streamed_arrays_give_what_evaluate_gives(precision: str, stream: Stream, tmp_path: Path) -> None:
    """``numpy.save`` after ``numpy.save`` into a pipe; raw outputs against the outputs that accuracy is measured on."""
    (tmp_path / "model.tflite").write_bytes(
        append_note(conv_model(precision), {"preprocessing": {"scale": 0.25, "offset": -9.0}})
    )
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    with open(tmp_path / "in.npy", "wb") as file:
        for each in pixels:
            np.save(file, each)
    done = stream("model.tflite", "--source", "-", "--task", "raw", input=(tmp_path / "in.npy").read_bytes())
    results, summary = _lines(done.stdout)
    with Model(tmp_path / "model.tflite", probe=False) as model:
        expected = predict_all(model, {"x": pixels})[0]

    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.array([line["outputs"][0] for line in results], np.float32)[:, 0], expected)
    assert summary["frames"] == 5


@needs_ffmpeg
def test_a_video_s_frames_are_all_there(stream: Stream, colours: Path) -> None:
    """ffmpeg's test picture: 30 lines, none dropped, the brightness of each as in the frames another ffmpeg decodes."""
    source = ["-f", "lavfi", "-i", "testsrc=size=8x8:rate=30:duration=1", "-c:v", "ffv1", "-pix_fmt", "bgr0"]
    subprocess.run(["ffmpeg", "-v", "error", *source, colours / "clip.mkv"], check=True)
    raw = ["ffmpeg", "-v", "error", "-i", colours / "clip.mkv", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    pixels = np.frombuffer(subprocess.run(raw, capture_output=True, check=True).stdout, np.uint8).reshape(30, 64, 3)
    done = stream("model.tflite", "--source", "clip.mkv")
    results, summary = _lines(done.stdout)

    assert [line["frame"] for line in results] == list(range(30))
    for line, frame in zip(results, pixels, strict=True):
        scores = {each["index"]: each["score"] for each in line["classes"]}
        assert [scores[place] for place in range(3)] == pytest.approx(list(frame.mean(axis=0) / 255), abs=2e-6)
    assert (summary["dropped"], summary["ended"]) == (0, "end")


def test_a_wav_s_windows_have_their_second(stream: Stream, tmp_path: Path) -> None:
    """Half a second is silent, half is loud: a model of 64 samples sees each window; the scores are the model's own."""
    (tmp_path / "model.tflite").write_bytes(dense_model())
    samples = np.concatenate([np.zeros(64, np.int16), np.full(64, 16384, np.int16)])
    header = (
        b"RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80>\x00\x00\x00}\x00\x00\x02\x00\x10\x00data"
    )
    (tmp_path / "a.wav").write_bytes(header + (256).to_bytes(4, "little") + samples.tobytes())
    done = stream("model.tflite", "--source", "a.wav", "--task", "audio", "--hop", "0.002", "--top", "1")
    results, _ = _lines(done.stdout)
    with Model(tmp_path / "model.tflite", probe=False) as model:
        windows = [samples[start : start + 64].astype(np.float32)[None] / 32768 for start in (0, 32, 64)]
        expected = [model.predict(window)[0] for window in windows]

    assert [line["second"] for line in results] == [0.0, 0.002, 0.004]
    assert [line["classes"][0]["index"] for line in results] == [int(scores.argmax()) for scores in expected]


def test_values_that_are_not_finite_are_null(stream: Stream, tmp_path: Path) -> None:
    """Every line is JSON that a strict reader takes."""
    (tmp_path / "model.tflite").write_bytes(dense_model())
    frame = np.zeros(64, np.float32)
    frame[0] = np.inf
    np.save(tmp_path / "a.npy", frame)
    done = stream("model.tflite", "--source", "a.npy", "--task", "raw")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    for line in done.stdout.splitlines():
        json.loads(line, parse_constant=refuse)
    assert None in json.loads(done.stdout.splitlines()[0])["outputs"][0][0]


def test_output_and_quiet(stream: Stream, colours: Path) -> None:
    """Lines go to the file; nothing is on standard output, and with --quiet nothing on standard error."""
    done = stream("model.tflite", "--source", "pictures", "--output", "out.jsonl", "--quiet")
    results, summary = _lines((colours / "out.jsonl").read_bytes())

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (len(results), summary["frames"]) == (3, 3)


def test_labels_top_threshold_and_scale(stream: Stream, colours: Path) -> None:
    """The command line is stronger than the note."""
    (colours / "names.txt").write_text("rot\ngrün\nblau\n", encoding="utf-8")
    options = ["--labels", "names.txt", "--threshold", "150", "--scale", "1"]
    results, _ = _lines(stream("model.tflite", "--source", "pictures", *options).stdout)

    assert [[(each["label"], each["score"]) for each in line["classes"]] for line in results] == [
        [("rot", 204.0)],
        [("grün", 204.0)],
        [("blau", 204.0)],
    ]
    one, _ = _lines(stream("model.tflite", "--source", "pictures", "--top", "1").stdout)
    assert [len(line["classes"]) for line in one] == [1, 1, 1]


def test_so_many_frames_of_random_pixels(stream: Stream, colours: Path) -> None:
    """--frames ends it; --drop on a source without end drops and goes on."""
    for queue in ("--drop", "--every-frame"):
        results, summary = _lines(stream("model.tflite", "--source", "random", "--frames", "50", queue).stdout)
        assert (len(results), summary["ended"]) == (50, "frames")
        assert (summary["dropped"] > 0) is (queue == "--drop")


# -- how it ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: signal.Signals, stream: Stream, colours: Path) -> None:
    """The summary is written, the exit code is 130, and no line is torn."""
    process = stream("model.tflite", "--source", "random", "--output", "out.jsonl", wait=False)
    _wait_for(lambda: (colours / "out.jsonl").exists() and (colours / "out.jsonl").stat().st_size > 1000)
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    results, summary = _lines((colours / "out.jsonl").read_bytes())

    assert process.returncode == 130
    assert (summary["ended"], summary["frames"]) == (number.name, len(results))
    assert f"ended: {number.name}" in told.decode()


def test_a_signal_ends_a_pipe_where_nothing_comes(stream: Stream, colours: Path) -> None:
    """The reading stage does not hold it up."""
    process = stream(
        "model.tflite", "--source", "-", "--format", "rgb24", "--size", "8x8", wait=False, stdin=subprocess.PIPE
    )
    process.stdin.write(bytes(192))
    process.stdin.flush()
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()  # the pipe into it stays open

    assert json.loads(first)["frame"] == 0
    assert (process.wait(30), json.loads(rest)["summary"]["ended"]) == (130, "SIGINT")


def test_a_reader_that_has_had_enough_ends_it_quietly(stream: Stream, colours: Path) -> None:
    """As with ``| head -3``: exit code 0, no traceback."""
    process = stream("model.tflite", "--source", "random", wait=False)
    for _ in range(3):
        process.stdout.readline()
    process.stdout.close()
    told = process.stderr.read().decode()

    assert process.wait(30) == 0
    assert "ended: reader gone" in told
    assert "Traceback" not in told


def test_a_reader_that_reads_nothing_does_not_hold_up_a_signal(stream: Stream, colours: Path) -> None:
    """The pipe is full, the writer stands still, and Ctrl-C still ends it."""
    process = stream("model.tflite", "--source", "random", wait=False)
    _wait_for(lambda: _is_full(process.stdout))
    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 130


def _is_full(pipe: Any) -> bool:
    """Whether the pipe has not grown for a while."""
    import fcntl
    import struct
    import termios

    def held() -> int:
        return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])

    before = held()
    time.sleep(0.3)
    return before == held() > 60_000


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_full_disk_is_one_message(stream: Stream, colours: Path) -> None:
    """The world failed: 3."""
    done = stream("model.tflite", "--source", "random", "--output", "/dev/full")

    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.decode().splitlines() == ["edgekit-device: error: No space left on device"]


@needs_ffmpeg
def test_no_ffmpeg_is_left_behind(stream: Stream, colours: Path) -> None:
    """Killed in the middle of a long video, it takes its decoder with it."""
    source = ["-f", "lavfi", "-i", "testsrc=size=640x480:rate=30:duration=20", "-c:v", "rawvideo", "-pix_fmt", "gray"]
    subprocess.run(["ffmpeg", "-v", "error", *source, colours / "long.avi"], check=True)
    process = stream("model.tflite", "--source", "long.avi", wait=False)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert process.returncode == 130
    assert not [line for line in _commands() if str(colours / "long.avi") in line or "file:long.avi" in line]


def _commands() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")


def test_a_terminal_is_told_how_it_goes(stream: Stream, colours: Path) -> None:
    """A line that is drawn over, with rate and percentiles; the last one stays."""
    ours, theirs = pty.openpty()
    process = stream(
        "model.tflite", "--source", "random", "--seconds", "1.5", "--output", "out.jsonl", wait=False, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while select.select([ours], [], [], 30)[0]:
            shown += os.read(ours, 4096)
    os.close(ours)

    assert process.wait(30) == 0
    assert shown.count(b"\r\x1b[K") >= 2
    assert b"fps, infer p50" in shown
    assert shown.rstrip().endswith(b"ended: time")


# -- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["model.tflite"], 2, "--source"),
        (["absent.tflite", "--source", "random"], 2, "absent.tflite"),
        (["model.tflite", "--source", "absent.mp4"], 3, "expected camera:/dev/videoN"),
        (["model.tflite", "--source", "camera:/dev/video99"], 3, "cameras here"),
        (["model.tflite", "--source", "random", "--frames", "0"], 2, "at least 1"),
        (["model.tflite", "--source", "random", "--seconds", "nan"], 2, "expected a number"),
        (["model.tflite", "--source", "random", "--seconds", "-1"], 2, "seconds above 0"),
        (["model.tflite", "--source", "random", "--size", "8"], 2, "WIDTHxHEIGHT"),
        (["model.tflite", "--source", "random", "--rate", "9999999"], 2, "at most 1000000 Hz"),
        (["model.tflite", "--source", "random", "--task", "detect"], 2, "expected one output"),
        (["model.tflite", "--source", "random", "--drop", "--every-frame"], 2, "not allowed with"),
        (["model.tflite", "--source", "random", "--labels", "absent.txt"], 2, "absent.txt"),
        (["model.tflite", "--source", "random", "--output", "absent/out"], 3, "absent/out"),
        (["two.tflite", "--source", "random"], 2, "one input"),
        (["model.tflite", "--source", "-"], 2, "got nothing"),
        (["torn.tflite", "--source", "random"], 2, "torn.tflite"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_streamed_is_one_message(
    arguments: list[str], code: int, said: str, stream: Stream, colours: Path, models: Path
) -> None:
    """With the exit code of its kind, and no traceback."""
    shutil.copy(models / "quantized_sum.tflite", colours / "two.tflite")
    (colours / "torn.tflite").write_bytes(classifier()[:100])
    done = stream(*arguments)
    told = done.stderr.decode()

    assert done.returncode == code, told
    assert said in told
    assert "Traceback" not in told
    assert b'"frame"' not in done.stdout


def test_help_mentions_every_option(device_cli: Cli) -> None:
    """The verb is among the command's, and its help names its options."""
    assert "stream" in device_cli("--help").stdout
    told = device_cli("stream", "--help").stdout
    parts = (
        "source task labels top threshold iou letterbox scale offset format size rate window hop loop drop every-frame "
    )
    parts += "frames seconds output quiet threads runtime"

    assert [part for part in parts.split() if f"--{part}" not in told] == []
