"""The stages of a stream: what is dropped and what is not, how it ends, and that it holds no more than it must."""

from __future__ import annotations

import io
import json
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_device import ClosedError, DataError, Model
from edgekit_device.stream.answer import Answer
from edgekit_device.stream.frames import Frame, Source
from edgekit_device.stream.output import Durations, Lines, summarize, to_json
from edgekit_device.stream.pipeline import Pipeline, Work
from edgekit_device.stream.prepare import Preparation
from edgekit_device.stream.slot import Slot


class Scripted(Source):
    """Yields what ``frames`` does, and knows that it was closed."""

    live = False

    def __init__(self, frames: Callable[[Scripted], Iterator[Frame]]) -> None:
        self._frames = frames
        self.closed = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """What was scripted."""
        return self._frames(self)

    def close(self) -> None:
        """Say so."""
        self.closed.set()


def _frame(value: float) -> Frame:
    return Frame(lambda: np.full(64, value, np.float32), {"value": value})


def _counted(count: int) -> Scripted:
    return Scripted(lambda _: (_frame(value) for value in range(count)))


@pytest.fixture
def model(models: Path) -> Iterator[Model]:
    with Model(models / "dense.tflite", probe=False) as opened:
        yield opened


def _pipeline(
    model: Model, source: Source, emit: Callable[[Work], None], *, latest: bool = False, **limits: Any
) -> Pipeline:
    (spec,) = model.inputs
    return Pipeline(source, model, Preparation(spec, {}), Answer(model.outputs, (1, 1)), emit, latest=latest, **limits)


# -- the queue of one -------------------------------------------------------------------------------------------


def test_the_latest_item_wins_and_the_others_are_counted() -> None:
    """A slow reader sees only the newest."""
    slot: Slot[int] = Slot(latest=True)
    for value in range(5):
        assert slot.put(value)

    assert (slot.get(), slot.dropped) == (4, 4)


def test_without_dropping_the_writer_waits() -> None:
    """Every item arrives, in order, and never two are held."""
    slot: Slot[int] = Slot()
    written: list[int] = []

    def write() -> None:
        for value in range(100):
            slot.put(value)
            written.append(value)
        slot.end()

    thread = threading.Thread(target=write)
    thread.start()
    read = []
    while (item := slot.get()) is not None:
        read.append(item)
        assert len(written) <= len(read) + 2
    thread.join()

    assert (read, slot.dropped) == (list(range(100)), 0)


@pytest.mark.parametrize("latest", [False, True])
def test_a_stopped_slot_wakes_both_sides(latest: bool) -> None:
    """A writer and a reader that wait return at once, with nothing."""
    slot: Slot[int] = Slot(latest)
    empty: Slot[int] = Slot(latest)
    slot.put(1)
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda: answers.append(slot.put(2))),
        threading.Thread(target=lambda: answers.append(empty.get())),
    ]
    for thread in threads:
        thread.start()
    slot.stop()
    empty.stop()
    for thread in threads:
        thread.join(10)

    assert not any(thread.is_alive() for thread in threads)
    assert slot.get() is None
    assert slot.put(3) is False
    assert None in answers


# -- semantics --------------------------------------------------------------------------------------------------


def test_every_frame_is_answered_in_order_with_the_model_s_own_outputs(model: Model) -> None:
    """Against predict, one call after the other; each stage's time is there."""
    seen: list[Work] = []
    pipeline = _pipeline(model, _counted(50), seen.append)
    pipeline.run()

    expected = [model.predict(np.full((1, 64), value, np.float32))[0] for value in range(50)]
    assert [work.number for work in seen] == list(range(50))
    for work, scores in zip(seen, expected, strict=True):
        best = np.argsort(-scores, kind="stable")[:5]
        assert [each["index"] for each in work.content["classes"]] == best.tolist()
        assert len(work.spent_ns) == 5
        assert work.spent_ns[4] >= sum(work.spent_ns[1:4])
    assert (pipeline.captured, pipeline.emitted, pipeline.dropped, pipeline.skipped, pipeline.ended) == (
        50,
        50,
        0,
        0,
        "end",
    )


def test_a_slow_reader_sees_the_newest_frames_only(model: Model) -> None:
    """Live frames that come while a result is being written give way to the last of them."""
    writing, go_on = threading.Event(), threading.Event()

    def frames(_: Scripted) -> Iterator[Frame]:
        yield _frame(0)
        writing.wait(10)  # frame 0 is being written: everything behind it stands still
        for value in range(1, 100):
            yield _frame(value)
        go_on.set()

    seen: list[float] = []

    def emit(work: Work) -> None:
        seen.append(work.place["value"])
        writing.set()
        go_on.wait(10)

    pipeline = _pipeline(model, Scripted(frames), emit, latest=True)
    pipeline.run()

    # Behind the writer one result waits, one is in the runtime's hands, and one may be between the two slots that drop.
    assert seen[0] == 0
    assert seen[-1] == 99
    assert len(seen) <= 5
    assert (pipeline.captured, pipeline.dropped) == (100, 100 - len(seen))


def test_at_most_a_handful_of_frames_is_held(model: Model) -> None:
    """However many go through, and however slow the writer is: memory is bounded."""

    class Tracked:
        def __init__(self) -> None:
            self.array = np.zeros(64, np.float32)

        def __call__(self) -> Any:
            return self.array

    alive: weakref.WeakSet[Tracked] = weakref.WeakSet()
    most = 0

    def frames(_: Scripted) -> Iterator[Frame]:
        nonlocal most
        for _index in range(300):
            load = Tracked()
            alive.add(load)
            most = max(most, len(alive))
            yield Frame(load, {})

    _pipeline(model, Scripted(frames), lambda _: time.sleep(0.0005)).run()

    assert most <= 6


@pytest.mark.parametrize("limit", [1, 7])
def test_it_stops_after_so_many_results(model: Model, limit: int) -> None:
    """Exactly so many, and the source is closed."""
    seen: list[Work] = []
    source = _counted(1000)
    pipeline = _pipeline(model, source, seen.append, frames=limit)
    pipeline.run()

    assert (len(seen), pipeline.ended, source.closed.is_set()) == (limit, "frames", True)


def test_it_stops_when_the_time_is_over_or_it_is_told_to(model: Model) -> None:
    """Even where no frame comes: the source is closed, and ends."""

    def waits(source: Scripted) -> Iterator[Frame]:
        source.closed.wait(20)
        yield from ()

    timed = _pipeline(model, Scripted(waits), lambda _: None, seconds=0.1)
    timed.run()
    told = _pipeline(model, Scripted(waits), lambda _: None)
    told.run(lambda: "SIGTERM")

    assert (timed.ended, told.ended) == ("time", "SIGTERM")


def test_threads_are_gone_afterwards(model: Model) -> None:
    """None is left behind."""
    before = threading.active_count()
    _pipeline(model, _counted(20), lambda _: None).run()

    assert threading.active_count() == before


def test_a_live_frame_is_prepared_anew_while_the_model_is_busy(model: Model) -> None:
    """What waits for the runtime is the newest frame, not the one that came when it last was free."""
    busy, captured = threading.Event(), threading.Event()
    predict = model.predict

    def slow(tensor: Any) -> Any:
        busy.set()
        captured.wait(10)
        return predict(tensor)

    model.predict = slow  # type: ignore[method-assign]

    def frames(_: Scripted) -> Iterator[Frame]:
        yield _frame(0)
        busy.wait(10)
        for value in range(1, 50):
            yield _frame(value)
            time.sleep(0.001)
        time.sleep(0.1)  # for the last to be prepared
        captured.set()

    seen: list[float] = []
    _pipeline(model, Scripted(frames), lambda work: seen.append(work.place["value"]), latest=True).run()

    assert (seen[0], seen[-1]) == (0, 49)
    assert len(seen) <= 3


# -- what goes wrong --------------------------------------------------------------------------------------------


def _bad() -> Frame:
    def load() -> Any:
        raise DataError("a torn frame")

    return Frame(load, {})


def test_a_damaged_frame_is_skipped_and_counted(model: Model) -> None:
    """The others are answered under their own numbers; the first reason is kept."""
    seen: list[Work] = []
    frames = [_frame(0), _bad(), _frame(2), Frame(lambda: np.zeros(65, np.float32), {}), _frame(math.nan)]
    pipeline = _pipeline(model, Scripted(lambda _: iter(frames)), seen.append)
    pipeline.run()

    assert [work.number for work in seen] == [0, 2, 4]
    assert (pipeline.skipped, pipeline.skip_reason) == (2, "a torn frame")


def test_nan_into_a_quantized_input_is_skipped(models: Path) -> None:
    """NaN has no integer."""
    with Model(models / "dense_int8.tflite", probe=False) as model:
        pipeline = _pipeline(model, Scripted(lambda _: iter([_frame(math.nan), _frame(1)])), lambda _: None)
        pipeline.run()

    assert (pipeline.skipped, pipeline.emitted) == (1, 1)


def test_nothing_but_damaged_frames_is_an_error(model: Model) -> None:
    """At the end of the source, and without waiting for it after a hundred in a row."""
    with pytest.raises(DataError, match="no frame of 2 could be used; the first: a torn frame"):
        _pipeline(model, Scripted(lambda _: iter([_bad()] * 2)), lambda _: None).run()
    with pytest.raises(DataError, match="100 frames in a row"):
        _pipeline(model, Scripted(lambda source: iter(_bad, source)), lambda _: None).run()


def test_an_error_of_the_source_comes_after_what_it_gave(model: Model) -> None:
    """Frames before it are answered, then its message is the stream's."""

    def frames(_: Scripted) -> Iterator[Frame]:
        yield from (_frame(value) for value in range(5))
        raise DataError("the stream lost its thread")

    seen: list[Work] = []
    with pytest.raises(DataError, match="lost its thread"):
        _pipeline(model, Scripted(frames), seen.append).run()

    assert len(seen) == 5


@pytest.mark.parametrize("stage", ["infer", "emit"])
def test_an_error_in_a_stage_ends_all_of_them(model: Model, stage: str) -> None:
    """The first error is the one raised, the source is closed, no thread stays."""
    before = threading.active_count()
    source = Scripted(lambda self: (_frame(0) for _ in iter(self.closed.is_set, True)))

    def emit(_: Work) -> None:
        if stage == "emit":
            raise OSError(28, "No space left on device")
        model.close()

    with pytest.raises((ClosedError, OSError), match=r"No space left|was closed"):
        _pipeline(model, source, emit).run()

    assert source.closed.is_set()
    assert threading.active_count() == before


def test_a_reader_that_went_away_is_an_end(model: Model) -> None:
    """BrokenPipeError is no error: whoever read has had enough."""

    def emit(_: Work) -> None:
        raise BrokenPipeError

    pipeline = _pipeline(model, _counted(100), emit)
    pipeline.run()

    assert (pipeline.ended, pipeline.emitted) == ("reader gone", 0)


# -- what it prints ---------------------------------------------------------------------------------------------


def test_percentiles_are_those_of_all_durations_within_half_a_percent() -> None:
    """Of log-normal durations from microseconds to seconds, against numpy; bins are half a percent wide."""
    samples = np.random.default_rng(0).lognormal(15, 2, 20_000).astype(np.int64)
    durations = Durations()
    for sample in samples:
        durations.add(int(sample))

    for percent in (1, 50, 95, 99, 100):
        exact = float(np.percentile(samples, percent, method="inverted_cdf")) / 1e6
        assert durations.percentile_ms(percent) == pytest.approx(exact, rel=0.0026)


def test_durations_have_no_size_to_fear() -> None:
    """None gives none; zero and hours are counted in the outer bins."""
    durations = Durations()
    assert durations.percentile_ms(50) is None
    durations.add(0)
    durations.add(10**15)

    assert durations.percentile_ms(50) == pytest.approx(0, abs=1e-5)
    assert durations.percentile_ms(100) == pytest.approx(math.exp(28) / 1e6, rel=0.01)


def test_nan_and_infinity_become_null() -> None:
    """JSON has no words for them."""
    assert json.loads(to_json({"a": [1.5, math.nan], "b": {"c": -math.inf}, "d": "x"})) == {
        "a": [1.5, None],
        "b": {"c": None},
        "d": "x",
    }


def test_a_line_is_written_whole_where_the_system_takes_it_in_pieces() -> None:
    """A pipe may take less than it was given."""

    class Narrow(io.RawIOBase):
        taken = b""

        def write(self, content: Any) -> int:
            self.taken += bytes(content[:7])
            return min(7, len(content))

    file = Narrow()
    Lines(file).write({"a": "b" * 30})  # type: ignore[arg-type]

    assert file.taken == b'{"a": "' + b"b" * 30 + b'"}\n'


def test_the_summary_counts_what_happened(model: Model) -> None:
    """Frames, rate and percentiles of each stage, from the same works the lines were written of."""
    file = io.BytesIO()
    lines = Lines(file)
    pipeline = _pipeline(model, _counted(30), lines)
    pipeline.run()
    summary = json.loads(to_json(summarize(lines, pipeline, 1.25)))
    written = [json.loads(line) for line in file.getvalue().splitlines()]
    infer = sorted(line["ms"]["infer"] for line in written)

    assert [line["value"] for line in written] == list(range(30))
    assert (summary["frames"], summary["captured"], summary["ended"], summary["seconds"]) == (30, 30, "end", 1.25)
    assert summary["ms"]["infer"]["p50"] == pytest.approx(infer[14], rel=0.01, abs=0.001)
    assert list(summary["ms"]) == ["capture", "prepare", "infer", "answer", "total"]
    assert summary["fps"] > 0
    assert summary["memory"]["rss_mb"] > 10
