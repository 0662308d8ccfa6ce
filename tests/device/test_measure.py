"""A benchmark's figures, with a clock that only moves when it is told to."""

from __future__ import annotations

import datetime
import gc
import hashlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import edgekit_device.measurement as module
import edgekit_device.subject as subject
import numpy as np
import pytest
from edgekit_device import BenchmarkReport, InputError, Model, measure
from edgekit_device.evaluation import read_samples

from tests.tflite_builder import dense_model


class Clock:
    """Nanoseconds that pass only while a model loads or runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, load_ns: int, runs_ns: Callable[[int], int]) -> None:
        self.now, self.runs = 1_000, 0
        load, bare_invoke = Model._load, Model.bare_invoke

        def slow_load(model: Model) -> None:
            self.now += load_ns
            load(model)

        @contextmanager
        def slow_invoke(model: Model) -> Iterator[Callable[[], None]]:
            with bare_invoke(model) as invoke:

                def slow() -> None:
                    self.now += runs_ns(self.runs)
                    self.runs += 1
                    invoke()

                yield slow

        monkeypatch.setattr(Model, "_load", slow_load)
        monkeypatch.setattr(Model, "bare_invoke", slow_invoke)

    def __call__(self) -> int:
        """The time."""
        return self.now


def test_every_figure_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading, first inference, warm-up and samples are kept apart, each to the nanosecond."""
    # The first takes 90 ms, 5 of warm-up 50 ms each (above 0.2 s together), then 1 to 10 ms.
    durations = [90_000_000, *[50_000_000] * 5, *[n * 1_000_000 for n in range(1, 11)]]
    clock = Clock(monkeypatch, load_ns=7_000_000, runs_ns=durations.__getitem__)
    latency = measure(dense_model(), runs=10, clock=clock).latency

    assert (latency.init_ms, latency.first_ms) == (7, 90)
    assert (latency.warmup_count, latency.warmup_mean_ms) == (5, 50)
    assert (latency.count, latency.samples_kind) == (10, "all")
    assert latency.samples_ms == tuple(range(1, 11))
    assert (latency.mean_ms, latency.median_ms, latency.min_ms, latency.max_ms) == (5.5, 5.5, 1, 10)
    assert latency.std_ms == pytest.approx((99 / 12) ** 0.5)  # of 1 to n: sqrt((n² - 1) / 12)
    # Linear interpolation between ten ranks: 1 + 9q.
    for q in (0.05, 0.9, 0.95, 0.99):
        assert getattr(latency, f"p{round(100 * q)}_ms") == pytest.approx(1 + 9 * q)


@pytest.mark.parametrize(
    ("run_ms", "warmup", "warmups", "count"),
    [
        (1, 5, 200, 1000),  # 0.2 s, then 1 s
        (100, 5, 5, 50),  # the least counts take longer than the least times
        (1000, 0, 0, 10),  # fifty would take more than the budget of 10 s: no more than that
        (5000, 1, 1, 10),  # but never fewer than ten
        (0.005, 5, 20_000, 100_000),  # and never more than 100,000, after at most 20,000 of warm-up
    ],
)
def test_the_default_counts(
    monkeypatch: pytest.MonkeyPatch, run_ms: float, warmup: int, warmups: int, count: int
) -> None:
    """At least 50 runs and a second, at most 100,000 and (above ten runs) 10 seconds; 0.2 s of warm-up."""
    clock = Clock(monkeypatch, load_ns=1, runs_ns=lambda _: int(run_ms * 1e6))
    latency = measure(dense_model(), warmup=warmup, clock=clock).latency

    assert (latency.warmup_count, latency.count) == (warmups, count)


def test_an_asked_for_warmup_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """--warmup 20001 means 20,001."""
    clock = Clock(monkeypatch, load_ns=1, runs_ns=lambda _: 1_000)

    assert measure(dense_model(), warmup=20_001, runs=1, clock=clock).latency.warmup_count == 20_001


def test_the_trial_is_no_part_of_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """init_ms is the load alone, with a trial in a child before or without."""
    clock = Clock(monkeypatch, load_ns=3_000_000, runs_ns=lambda _: 1)
    tried = []

    def slow_trial(*_: object, **__: object) -> None:
        clock.now += 10**9
        tried.append(True)

    monkeypatch.setattr(subject, "probe_model", slow_trial)

    assert measure(dense_model(), runs=1, warmup=0, clock=clock).latency.init_ms == 3
    assert measure(dense_model(), runs=1, warmup=0, clock=clock, probe=False).latency.init_ms == 3
    assert tried == [True]


def test_the_report_says_what_ran() -> None:
    """Model hash and size, runtime, version, delegate and threads; a fresh id; a time in UTC; the peak of memory."""
    model = dense_model()
    first, second = (measure(model, threads=2, runs=3, warmup=1) for _ in range(2))

    assert (first.model.sha256, first.model.size_bytes) == (hashlib.sha256(model).hexdigest(), len(model))
    assert (first.runtime.name, first.runtime.delegate, first.runtime.threads) == ("litert", "xnnpack", 2)
    assert first.id != second.id
    assert uuid.UUID(first.id).version == 4
    created = datetime.datetime.strptime(first.created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    assert abs(datetime.datetime.now(datetime.timezone.utc) - created) < datetime.timedelta(minutes=1)
    assert first.memory.peak_rss_mb is not None
    assert first.memory.peak_rss_mb > 10
    assert first.board.cores > 0
    assert BenchmarkReport.from_json(first.to_json()) == first


def test_the_board_is_read_when_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temperature and throttling belong to the runs: they are read after the last one, before the accuracy."""
    events: list[str] = []
    bare_invoke, read = Model.bare_invoke, module.read_board

    @contextmanager
    def noted_invoke(model: Model) -> Iterator[Callable[[], None]]:
        with bare_invoke(model) as invoke:
            yield lambda: (events.append("run"), invoke())[1]

    monkeypatch.setattr(Model, "bare_invoke", noted_invoke)
    monkeypatch.setattr(module, "read_board", lambda: (events.append("board"), read())[1])
    measure(dense_model(), runs=3, warmup=0)

    assert events == ["run"] * 4 + ["board"]


def test_the_collector_rests_while_timing_and_is_back_after() -> None:
    """Python's cycle collector is off between samples only, and stays off where it was."""
    seen = []

    def clock() -> int:
        seen.append(gc.isenabled())
        return 0

    measure(dense_model(), runs=2, warmup=0, clock=clock)
    assert gc.isenabled()
    assert seen[-4:] == [False] * 4
    gc.disable()
    try:
        measure(dense_model(), runs=1, warmup=0)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("counts", [{"runs": 0}, {"runs": -1}, {"runs": 10**7}, {"warmup": -1}, {"warmup": 10**7}])
def test_counts_out_of_range_are_refused(counts: dict[str, int]) -> None:
    """With the range, and the option that sets it."""
    ((name, value),) = counts.items()
    with pytest.raises(InputError, match=rf"--{name}\) from [01] to 1000000, got {value}"):
        measure(dense_model(), **counts)


def test_accuracy_and_its_data_are_in_the_report(tmp_path: Path) -> None:
    """Measured on the samples given, beside the hash of their file."""
    path = tmp_path / "samples.npz"
    x = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)
    model = dense_model()
    labels = Model(model).predict(x).argmax(axis=1)
    labels[:5] = (labels[:5] + 1) % 32
    np.savez(path, x=x, y=labels)
    report = measure(model, runs=1, warmup=0, samples=read_samples(str(path)), outputs_path=str(tmp_path / "o.npz"))

    assert (report.accuracy.correct, report.accuracy.count, report.accuracy.accuracy) == (15, 20, 0.75)
    assert report.accuracy.data_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.load(tmp_path / "o.npz")["output_0"].shape == (20, 32)
