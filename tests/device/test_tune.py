"""Trying every way to run a model: which ways there are, which is kept, and what a crash costs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import edgekit_device.tune as module
import pytest
from edgekit_device import BenchmarkReport, DeviceRuntimeError, InputError, ModelError, trial
from edgekit_device.accelerators.litert import LiteRtAccelerator
from edgekit_device.cli import main
from edgekit_device.report import RuntimeFacts
from edgekit_device.tune import Way, tune, ways_to_run

from tests.device.stub_delegate import compile_stub, compiled_model
from tests.tflite_builder import conv_model, dense_model

BUDGET_S = 1.0


# -- which ways -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board with both runtimes, and TensorFlow."""
    monkeypatch.setattr(module, "installed_runtimes", lambda: {"litert": "2.3.0", "tflite": "2.14.0", "tf": "2.21.0"})


@pytest.mark.parametrize(
    ("most", "threads"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])]
)
@pytest.mark.usefixtures("two_runtimes")
def test_ways_are_runtimes_delegates_and_threads(most: int, threads: list[int]) -> None:
    """Powers of two and the cores; the likely ones first; TensorFlow is LiteRT once more and is left out."""
    ways = ways_to_run(dense_model(), "m", most_threads=most)

    expected = [(d, r, t) for d in ("auto", "none") for r in ("litert", "tflite") for t in threads]
    assert [(way.delegate, way.runtime, way.threads) for way in ways] == expected


@pytest.mark.usefixtures("two_runtimes")
def test_a_compiled_model_has_one_delegate_and_no_use_for_threads() -> None:
    """Its work is done on the Edge TPU; the runtimes differ all the same."""
    ways = ways_to_run(compiled_model(), "m", most_threads=4)

    assert ways == [Way("litert", "auto", 1), Way("tflite", "auto", 1)]


@pytest.mark.usefixtures("two_runtimes")
def test_accelerators_of_litert_come_before_plain_kernels() -> None:
    """The CPU's with every number of threads, the others with one; none for another delegate or another runtime."""
    names = ["litert:gpu", "litert:cpu"]
    ways = ways_to_run(dense_model(), "m", "litert", most_threads=2, accelerators=names)

    assert [(way.delegate, way.threads) for way in ways] == [
        ("auto", 1), ("auto", 2), ("litert:gpu", 1), ("litert:cpu", 1), ("litert:cpu", 2), ("none", 1), ("none", 2)
    ]  # fmt: skip
    assert {way.delegate for way in ways_to_run(dense_model(), "m", delegate="none", accelerators=names)} == {"none"}
    assert {way.delegate for way in ways_to_run(compiled_model(), "m", accelerators=names)} == {"auto"}


def test_only_what_works_and_is_real_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is a program on the processor, and one that is not there, cannot win."""
    found = [
        LiteRtAccelerator("litert:cpu", True),
        LiteRtAccelerator("litert:gpu", True, software=True),
        LiteRtAccelerator("litert:npu", False, reason="none"),
    ]
    seen: list[str] = []
    monkeypatch.setattr(module, "find_accelerators", lambda _runtime: found)

    def listed(ways: list[Way], *_: object) -> None:
        seen.extend(way.delegate for way in ways)
        raise DeviceRuntimeError("these are the ways")

    monkeypatch.setattr(module, "_screened", listed)
    with pytest.raises(DeviceRuntimeError, match="these are the ways"):
        tune(dense_model(), runtime="litert", most_threads=1)

    assert seen == ["auto", "litert:cpu", "none"]


def test_what_is_named_is_kept_to() -> None:
    """A delegate, a runtime."""
    assert {way.delegate for way in ways_to_run(dense_model(), "m", delegate="xnnpack")} == {"xnnpack"}
    assert {way.runtime for way in ways_to_run(dense_model(), "m", runtime="litert")} == {"litert"}
    with pytest.raises(InputError, match="did you mean 'xnnpack'"):
        ways_to_run(dense_model(), "m", delegate="xnpack")
    with pytest.raises(InputError, match="threads"):
        ways_to_run(dense_model(), "m", most_threads=0)


def test_the_cores_are_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else is said."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)

    assert {way.threads for way in ways_to_run(dense_model(), "m", runtime="litert")} == {1, 2, 4}


# -- who gets into the finals -----------------------------------------------------------------------------------------


def test_the_nearest_are_measured_in_turns() -> None:
    """By their fastest inference, which a disturbed moment still has: at most four, none beyond half as slow again."""

    def screened(threads: int, typical: float, least: float) -> module._Trial:
        return module._Trial(Way("litert", "auto", threads), RuntimeFacts(), typical, least)

    disturbed, plain, slow = screened(2, 50.0, 2.0), screened(1, 3.0, 2.9), screened(4, 3.1, 3.1)

    assert module._nearest([plain, slow, disturbed]) == [disturbed, plain]
    assert len(module._nearest([screened(n, 3.0, 3.0) for n in range(1, 8)])) == 4


# -- which is kept --------------------------------------------------------------------------------------------------


def _trial(way: Way, *medians_ms: float, delegate: str = "xnnpack") -> module._Trial:
    medians = tuple(ms * 1e6 for ms in medians_ms)
    return module._Trial(way, RuntimeFacts(way.runtime, "1", delegate, way.threads), medians[0], min(medians), medians)


STEADY = (1.0, 1.01, 0.99, 1.0, 1.02, 1.0, 0.98, 1.0)


def test_a_clear_winner_wins_whatever_it_takes() -> None:
    """Twice as fast with four threads is worth four threads."""
    slow = _trial(Way("litert", "auto", 1), *(2 * ms for ms in STEADY))
    fast = _trial(Way("litert", "none", 4), *STEADY)

    assert module._best([slow, fast]) is fast


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        (Way("litert", "auto", 1), Way("litert", "auto", 4)),
        (Way("litert", "auto", 2), Way("litert", "none", 2)),
        (Way("litert", "auto", 2), Way("tflite", "auto", 2)),
        (Way("tflite", "none", 1), Way("litert", "auto", 2)),
    ],
)
def test_of_equally_fast_ways_the_simplest_is_kept(plain: Way, other: Way) -> None:
    """Fewer threads, then the runtime's own delegate, then the maintained runtime; also where it is 1 % slower."""
    simple, tied = _trial(plain, *(1.01 * ms for ms in STEADY)), _trial(other, *STEADY)

    assert module._best([tied, simple]) is simple
    assert module._best([simple, tied]) is simple


def test_noise_does_not_buy_threads() -> None:
    """4 % faster by the median, and by turns slower: nobody can tell, so one thread it is."""
    noisy = [0.7, 1.5, 0.96, 1.3, 0.8, 0.9, 1.6, 0.75]
    one = _trial(Way("litert", "auto", 1), 1.0, 0.8, 1.3, 0.7, 1.4, 0.9, 1.1, 1.0)
    two = _trial(Way("litert", "auto", 2), *noisy)

    assert two.median_ns < one.median_ns
    assert module._best([one, two]) is one


def test_who_fails_in_the_finals_is_out() -> None:
    """However fast it was before; and when all fail, that is said."""
    fast, slow = _trial(Way("litert", "auto", 2), 1.0), _trial(Way("litert", "auto", 1), 2.0)
    fast.error = "it crashed"

    assert module._best([fast, slow]) is slow

    slow.error = "it crashed too"
    with pytest.raises(DeviceRuntimeError, match="it crashed"):
        module._best([fast, slow])


# -- for real -------------------------------------------------------------------------------------------------------


def test_ways_are_tried_and_listed_fastest_first() -> None:
    """LiteRT with and without XNNPACK, and its CompiledModel: each is named as it can be asked for, the best too."""
    best, facts = tune(conv_model("int8"), runtime="litert", most_threads=2, budget_s=3 * BUDGET_S)
    tried = {(t.delegate, t.threads) for t in facts.trials}
    others = [t.median_ms for t in facts.trials[1:]]

    assert tried >= {(delegate, threads) for delegate in ("xnnpack", "none", "litert:cpu") for threads in (1, 2)}
    assert {delegate for delegate, _ in tried} <= {"xnnpack", "none", "litert:cpu", "litert:gpu", "litert:npu"}
    assert (best.runtime, best.delegate, best.threads) == (
        facts.trials[0].runtime, facts.trials[0].delegate, facts.trials[0].threads
    )  # fmt: skip
    assert others == sorted(others)
    assert all(t.error == "" and t.version for t in facts.trials)


def test_a_crash_and_a_hang_cost_their_own_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are listed with why, last; the way that works is kept."""
    library = compile_stub(tmp_path)
    failing = [Way("litert", f"external:{library};behave={how}", 1) for how in ("crash-create", "hang")]
    monkeypatch.setattr(module, "ways_to_run", lambda *_: [*failing, Way("litert", "auto", 1)])
    monkeypatch.setattr(trial, "DEADLINE_S", 0.5)
    best, facts = tune(dense_model(), budget_s=BUDGET_S)

    assert best == Way("litert", "xnnpack", 1)
    assert [t.error == "" for t in facts.trials] == [True, False, False]
    assert "crashes the process (SIGSEGV)" in facts.trials[1].error
    assert "hangs while loading it" in facts.trials[2].error


def test_who_crashes_in_the_finals_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With why, and without a figure."""

    def fail(finalists: list[module._Trial], *_: object) -> None:
        finalists[0].error = "it crashed"

    monkeypatch.setattr(module, "_play_finals", fail)
    ways = [Way("litert", "auto", 1), Way("litert", "auto", 2)]
    monkeypatch.setattr(module, "ways_to_run", lambda *_: ways)
    monkeypatch.setattr(module, "_nearest", lambda working: working)
    best, facts = tune(dense_model(), budget_s=BUDGET_S)

    assert best.threads == 2
    assert [(t.threads, t.error, t.median_ms is None) for t in facts.trials] == [
        (2, "", False),
        (1, "it crashed", True),
    ]


def test_an_edge_tpu_is_tuned_to_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled model runs on the (stub) delegate."""
    monkeypatch.setenv("EDGEKIT_EDGETPU_LIBRARY", str(compile_stub(tmp_path)))
    best, facts = tune(compiled_model(), runtime="litert", budget_s=BUDGET_S)

    assert best == Way("litert", "auto", 1)
    assert [t.delegate for t in facts.trials] == ["edgetpu"]


def test_what_the_time_does_not_reach_is_not_tried() -> None:
    """A budget of nothing tries one way, and says so of the others."""
    best, facts = tune(dense_model(), runtime="litert", most_threads=2, budget_s=0.001)

    assert best.threads == 1
    assert [t.error for t in facts.trials] == ["", *["not tried: the time was spent"] * (len(facts.trials) - 1)]
    assert len(facts.trials) >= 6


def test_what_cannot_be_tuned_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model; no budget; no way that works; an emulated processor."""
    with pytest.raises(ModelError):
        tune(b"no model at all")
    with pytest.raises(InputError, match="budget"):
        tune(dense_model(), budget_s=float("nan"))
    with pytest.raises(DeviceRuntimeError, match="no way to run the model works here"):
        tune(dense_model(), runtime="litert", delegate="/nowhere/x.so", most_threads=1)
    monkeypatch.setenv("EDGEKIT_EMULATOR", "qemu-aarch64")
    with pytest.raises(InputError, match="emulated by qemu-aarch64"):
        tune(dense_model())


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_report_measured_with_the_best(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One report, with every trial, measured as its first trial says."""
    model = tmp_path / "m.tflite"
    model.write_bytes(conv_model("int8"))

    assert main(["tune", str(model), "--runtime", "litert", "--threads", "1", "--budget", "1", "--json"]) == 0
    report = BenchmarkReport.from_dict(json.loads(capfd.readouterr().out))
    best = report.tuning.trials[0]

    assert (report.runtime.name, report.runtime.delegate, report.runtime.threads) == ("litert", best.delegate, 1)
    assert {t.delegate for t in report.tuning.trials} >= {"xnnpack", "none", "litert:cpu"}
    assert report.latency.count > 0


def test_the_command_prints_text(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A table, and what to type."""
    model = tmp_path / "m.tflite"
    model.write_bytes(dense_model())

    assert main(["tune", str(model), "--runtime", "litert", "--threads", "1", "--budget", "1"]) == 0
    told = capfd.readouterr().out

    assert "<- best" in told
    assert "run it so: --runtime litert --delegate" in told
