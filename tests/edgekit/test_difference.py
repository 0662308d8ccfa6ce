"""Verdicts between two reports: called where there is one, not where there is none, and refused where nothing compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import BoardFacts, ConditionsFacts, LatencyFacts, RuntimeFacts, SessionFacts

from edgekit.difference import (
    FASTER,
    NO_DIFFERENCE,
    NOT_COMPARABLE,
    PAIRED_FLOOR,
    SLOWER,
    UNPAIRED_FLOOR,
    Difference,
    difference,
)
from tests.edgekit.session_noise import NOISE, session

BOARD = BoardFacts("Board 4", "Cortex", "aarch64", 4, governor="performance", id="ab12")
RUNTIME = RuntimeFacts("litert", "2.3", "xnnpack", 1)


def report(medians: Sequence[float], session_id: str = "", **changes: Any) -> BenchmarkReport:
    """A report whose session has these block medians."""
    facts = SessionFacts(session_id, 0, 2, tuple(medians))
    latency = LatencyFacts(count=1000, median_ms=float(np.median(medians)) if medians else None)
    base = BenchmarkReport(latency=latency, board=BOARD, runtime=RUNTIME, session=facts)
    return replace(base, **changes)


def in_turns(noise: str, ratio: float, draw: np.random.Generator, rounds: int = 40) -> Difference:
    """The verdict on two variants measured in turns, the second ``ratio`` times as slow."""
    before, after = session(noise, rounds, ratio, draw)
    return difference(report(before, "s"), report(after, "s"))


@pytest.mark.parametrize("noise", NOISE)
def test_no_difference_is_seen_where_there_is_none_and_ten_per_cent_are_found(noise: str) -> None:
    """Over 300 sessions of 40 rounds under each kind of noise: at most 2 % false alarms, at least 95 % found."""
    draw = np.random.default_rng(1)
    tries = 300
    alarms = sum(in_turns(noise, 1.0, draw).verdict != NO_DIFFERENCE for _ in range(tries))
    slower = sum(in_turns(noise, 1.1, draw).verdict == SLOWER for _ in range(tries))
    faster = sum(in_turns(noise, 1 / 1.1, draw).verdict == FASTER for _ in range(tries))

    assert alarms <= 0.02 * tries
    assert min(slower, faster) >= 0.95 * tries


@pytest.mark.parametrize("noise", ["quiet", "heavy tails", "spikes", "drift", "autoregressive", "bursts"])
def test_two_sessions_of_one_model_raise_no_alarm(noise: str) -> None:
    """At most 2 % of 300 comparisons, each session disturbed at its own moments."""
    draw = np.random.default_rng(2)
    tries = 300
    found = [
        difference(report(session(noise, 30, 1.0, draw)[0]), report(session(noise, 30, 1.0, draw)[0]))
        for _ in range(tries)
    ]

    assert sum(item.verdict != NO_DIFFERENCE for item in found) <= 0.02 * tries


def test_two_quiet_sessions_show_ten_per_cent() -> None:
    """With the floor between sessions in the interval."""
    draw = np.random.default_rng(4)
    found = difference(
        report(session("quiet", 30, 1.0, draw)[0]), report(session("quiet", 30, 1.1, draw)[1]), names=("old", "new")
    )

    assert (found.verdict, found.paired, found.noise_floor) == (SLOWER, False, UNPAIRED_FLOOR)
    assert found.low is not None
    assert pytest.approx(found.low, abs=0.02) == 1.1 / (1 + UNPAIRED_FLOOR)


def test_a_session_that_wanders_is_trusted_less_far() -> None:
    """A board that was a fifth slower at its end may have been so in the other session: no call at ten per cent."""
    drifting = [1.0 + 0.2 * place / 29 for place in range(30)]
    found = difference(report([1.0] * 30), report([1.1 * value for value in drifting]))

    assert found.verdict == NO_DIFFERENCE
    assert found.noise_floor > 0.1


def test_a_difference_below_the_floor_is_called_none() -> None:
    """However narrow the interval: 1 % in pairs, 2.9 % between sessions; a little more is one."""
    before, after = [1.0] * 20, 20 * [1.01]
    below = difference(report(before, "s"), report(after, "s"))
    between = difference(report(before), report(20 * [1.029]))

    assert (below.verdict, below.noise_floor) == (NO_DIFFERENCE, PAIRED_FLOOR)
    assert below.reason == (
        "+1.0 % (+1.0 % to +1.0 %) over 20 rounds in turns, within the noise: differences up to 2.0 % are"
    )
    assert between.verdict == NO_DIFFERENCE
    assert difference(report(before, "s"), report(20 * [1.021], "s")).verdict == SLOWER
    assert difference(report(before), report(20 * [1.031])).verdict == SLOWER


def test_what_is_faster_one_way_is_slower_the_other() -> None:
    """And the reason carries the figures."""
    slow, fast = report([1.0] * 20, "s"), report([0.5] * 20, "s")

    assert difference(slow, fast).verdict == FASTER
    assert difference(fast, slow).verdict == SLOWER
    assert (
        difference(slow, fast).reason
        == f"{chr(0x2212)}50.0 % ({chr(0x2212)}50.0 % to {chr(0x2212)}50.0 %) over 20 rounds in turns"
    )


def test_a_vague_interval_asks_for_more() -> None:
    """Where a third either way could hide."""
    draw = np.random.default_rng(0)
    before, after = np.exp(draw.normal(0, 0.3, (2, 12)))

    assert difference(report(before.tolist(), "s"), report(after.tolist(), "s")).reason.endswith(
        "measure longer to tell more"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"runtime": replace(RUNTIME, name="tflite", version="2.14")},
            "different runtimes (litert 2.3 and tflite 2.14)",
        ),
        ({"runtime": replace(RUNTIME, threads=4)}, "different thread counts (1 and 4)"),
        ({"runtime": replace(RUNTIME, delegate="")}, "different delegates (xnnpack and unknown)"),
        (
            {"runtime": replace(RUNTIME, delegate_options="performance=High")},
            "different delegates (xnnpack and xnnpack performance=High)",
        ),
        ({"board": replace(BOARD, model="Board 5")}, "different boards (Board 4, Cortex and Board 5, Cortex)"),
        ({"board": replace(BOARD, id="cd34")}, "different boards of one model (Board 4, Cortex)"),
        ({"board": replace(BOARD, governor="ondemand")}, "different governors (performance and ondemand)"),
        ({"before": ConditionsFacts(governor="powersave")}, "different governors (performance and powersave)"),
        (
            {"board": replace(BOARD, emulator="qemu")},
            "after ran in an emulator (qemu), whose times are no latencies",
        ),
        (
            {"after": ConditionsFacts(throttling="frequency capped")},
            "the board was throttled while after was measured (frequency capped)",
        ),
        (
            {"before": ConditionsFacts(swap_used_mb=10.0), "after": ConditionsFacts(swap_used_mb=30.0)},
            "the board swapped while after was measured (20.0 MB went out)",
        ),
        (
            {"after": ConditionsFacts(busy_others=1.5)},
            "other processes kept 1.5 of 4 cores busy while after was measured",
        ),
        ({"latency": LatencyFacts()}, "after has no latency"),
        (
            {"session": SessionFacts(), "latency": LatencyFacts(5, median_ms=1.0, samples_ms=(1.0,) * 5)},
            "after has too few samples (5 inferences, at least 8 are needed)",
        ),
    ],
)
def test_what_does_not_compare_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    """However large the difference of the medians."""
    found = difference(report([1.0] * 20), report([2.0] * 20, **changes))

    assert (found.verdict, found.reason) == (NOT_COMPARABLE, reason)
    assert not found.comparable
    assert found.ratio is None


def test_every_reason_is_given() -> None:
    """One after the other."""
    other = report([1.0] * 20, runtime=replace(RUNTIME, threads=2), board=replace(BOARD, governor="schedutil"))

    assert difference(report([1.0] * 20), other, names=("old", "new")).reason == (
        "different governors (performance and schedutil); different thread counts (1 and 2)"
    )


def test_top_frequencies_differ_where_somebody_capped_one() -> None:
    """The frequency of the moment may."""
    capped = report([1.0] * 20, before=ConditionsFacts(frequency_max_mhz=1200.0))
    free = report([1.0] * 20, before=ConditionsFacts(frequency_max_mhz=1500.0, frequency_mhz=600.0))

    assert difference(free, capped).reason == "different top frequencies (1,500 MHz and 1,200 MHz)"
    assert difference(free, replace(free, before=replace(free.before, frequency_mhz=1500.0))).comparable


def test_in_one_session_a_busy_board_and_another_delegate_compare() -> None:
    """Both had the same neighbours in turns, and the delegate is how a variant runs there."""
    busy = ConditionsFacts(busy_others=3.5)
    tpu = replace(RUNTIME, delegate="edgetpu")
    found = difference(report([2.0] * 20, "s", after=busy), report([1.0] * 20, "s", runtime=tpu, after=busy))

    assert (found.verdict, found.paired) == (FASTER, True)


def test_a_throttled_board_compares_in_no_session() -> None:
    """Nobody knows which rounds it slowed."""
    hot = ConditionsFacts(throttling="throttled")

    assert difference(report([2.0] * 20, "s", after=hot), report([1.0] * 20, "s", after=hot)).verdict == NOT_COMPARABLE


def test_reports_without_a_session_are_compared_by_their_samples() -> None:
    """As older devices wrote them: in blocks of the order measured; a sketch, which has none, counts as thirty."""
    draw = np.random.default_rng(6)

    def old(median: float, count: int, kind: str) -> BenchmarkReport:
        samples = median * np.exp(draw.normal(0, 0.02, 2000 if kind == "sketch" else count))
        kept = tuple(np.sort(samples) if kind == "sketch" else samples)
        facts = LatencyFacts(count=count, median_ms=median, samples_ms=kept, samples_kind=kind)
        return report([], latency=facts, session=SessionFacts())

    for kind, count in (("all", 200), ("sketch", 9000)):
        same = difference(old(1.0, count, kind), old(1.0, count, kind))
        slower = difference(old(1.0, count, kind), old(1.1, count, kind))

        assert (same.verdict, slower.verdict) == (NO_DIFFERENCE, SLOWER)
        assert (same.blocks, same.paired) == (30, False)


def test_too_few_rounds_fall_back_to_the_samples() -> None:
    """Nine rounds cannot reach the confidence asked for."""
    samples = LatencyFacts(100, median_ms=1.0, samples_ms=(1.0,) * 100)
    found = difference(report([1.0] * 9, "s", latency=samples), report([1.0] * 9, "s", latency=samples))

    assert (found.verdict, found.paired, found.blocks) == (NO_DIFFERENCE, False, 9)


@pytest.mark.parametrize("duration", [0.0, -1.0, 5e-324, 1e300])
def test_rounds_that_nothing_can_take_are_no_rounds(duration: float) -> None:
    """Foreign numbers are left out, not divided by; the samples neither."""
    samples = LatencyFacts(20, median_ms=1.0, samples_ms=(duration,) * 20)
    found = difference(report([duration] * 20, "s", latency=samples), report([1.0] * 20, "s"))

    assert found.verdict == NOT_COMPARABLE
    assert difference(report([1e-6] * 20, "s"), report([1e9] * 20, "s")).verdict == SLOWER
