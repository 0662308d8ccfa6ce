"""Warm-up against made-up traces, and the blocks and stops of the timed runs, with a clock that is told what time it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from edgekit_device.errors import InputError
from edgekit_device.plan import Plan
from edgekit_device.rounds import Player, play
from edgekit_device.series import Series
from edgekit_device.warmup import WarmUp, settled, warm_up

MS = 1_000_000


class Trace:
    """An invoke that takes as long as the trace says, and the clock that sees it."""

    def __init__(self, durations_ms: Callable[[int], float]) -> None:
        self.now, self.calls, self._durations_ms = 0, 0, durations_ms

    def invoke(self) -> None:
        """Let time pass."""
        self.now += int(self._durations_ms(self.calls) * MS)
        self.calls += 1

    def clock(self) -> int:
        """The time."""
        return self.now

    def warm_up(self, least: int) -> WarmUp:
        """Warm up on this trace."""
        return warm_up(self.invoke, least, self.clock)


def test_a_steady_model_is_warm_after_the_least() -> None:
    """0.2 s of 2 ms: a hundred inferences, five blocks that agree."""
    found = Trace(lambda _: 2).warm_up(5)

    assert found == WarmUp(100, 2 * MS, 2 * MS, True)


def test_a_model_that_gets_faster_is_warmed_until_it_has() -> None:
    """2 ms that fall from 4 ms by a tenth of the way with each block of 40 ms: warm-up lasts until the slope is below 2 %."""
    trace = Trace(lambda call: 2 + 2 * 0.97**call)
    found = trace.warm_up(5)

    assert found.stable
    assert found.typical_ns is not None
    assert found.typical_ns < 2.1 * MS
    assert trace.now > 200 * MS


def test_interruptions_do_not_unsettle_a_block_s_median() -> None:
    """One inference in ten takes ten times as long: the medians do not see it."""
    found = Trace(lambda call: 20 if call % 10 == 3 else 2).warm_up(5)

    assert found.stable
    assert found.typical_ns == 2 * MS


def test_what_never_settles_ends_after_two_seconds() -> None:
    """A board whose pace swings between its blocks is measured all the same, and the report says that it swung."""
    trace = Trace(lambda call: 2 + (call // 25) % 2)
    found = trace.warm_up(5)

    assert found.stable is False
    assert 2000 * MS <= trace.now < 2010 * MS


@pytest.mark.parametrize(
    ("ms", "least", "count", "stable"),
    [(3000, 1, 1, None), (3000, 3, 3, None), (100, 5, 5, True), (0.001, 1, 20_000, True), (1, 0, 0, None), (1, 3000, 3000, True)],
)  # fmt: skip
def test_the_least_and_the_most(ms: float, least: int, count: int, stable: bool | None) -> None:
    """As many as were asked for; 0 is none; at most 2 s or 20,000 more; too few blocks say nothing of stability."""
    found = Trace(lambda _: ms).warm_up(least)

    assert (found.count, found.stable) == (count, stable)


def test_settled_is_the_coefficient_of_variation_of_the_last_five() -> None:
    """At most 2 %, against numpy's figure; what came before does not count."""
    noisy = [9.0, *(1 + 0.02 * np.array([-1.5, 1.0, 0.0, 1.0, -0.5]))]

    assert np.std(noisy[-5:]) / np.mean(noisy[-5:]) < 0.02
    assert settled(noisy)
    assert not settled([1.0] * 4)
    assert not settled([1.0, 1.0, 1.0, 1.0, 1.2])


# -- the timed runs ---------------------------------------------------------------------------------------------


def drive(plan: Plan, duration_ms: Callable[[int], float]) -> Series:
    """Play a session of one whose inferences take as long as ``duration_ms`` says."""
    series = Series(plan, duration_ms(0) * MS)

    def run_block(count: int, rouse_ns: float) -> list[int]:
        assert rouse_ns == 0  # nobody else has run
        return [int(duration_ms(series.count + at) * MS) for at in range(count)]

    play([Player(series, run_block)])
    return series


def noise(scale: float) -> Callable[[int], float]:
    """Durations around 5 ms."""
    values = 5 * np.exp(scale * np.random.default_rng(1).standard_normal(200_000))
    return lambda call: float(values[call])


def test_a_quiet_board_needs_a_second() -> None:
    """Then the interval is narrow: 50 blocks of 20 ms."""
    series = drive(Plan(), lambda _: 5)

    assert (series.count, len(series.blocks), series.stop(series.bounds_ns())) == (200, 50, "narrow")
    assert drive(Plan(), noise(0.01)).elapsed_ns < 1.1e9


def test_a_noisy_board_goes_on_until_the_interval_is_narrow() -> None:
    """Noise of 30 %: the median of n has 1.25·0.3/√n as error, ± 1 % with 95 % is some thousand inferences."""
    series = drive(Plan(budget_s=100), noise(0.3))
    bounds = series.bounds_ns()
    assert bounds is not None

    assert series.stop(bounds) == "narrow"
    assert 1_000 < series.count < 12_000
    assert bounds[1] - bounds[0] <= 0.02 * bounds[0] * 1.02
    assert bounds[0] < 5 * MS < bounds[1]


def test_the_budget_ends_what_stays_noisy() -> None:
    """Two seconds, and the report says that they were spent."""
    series = drive(Plan(budget_s=2, precision=0.001), noise(0.3))

    assert series.stop(series.bounds_ns()) == "budget"
    assert 2e9 <= series.elapsed_ns < 2.1e9


@pytest.mark.parametrize(("runs", "blocks"), [(1, 1), (7, 7), (20, 10), (25, 9), (1000, 250)])
def test_an_exact_count_is_exact(runs: int, blocks: int) -> None:
    """Shared among ten blocks at least, none longer than 20 ms."""
    series = drive(Plan(runs=runs), lambda _: 5.0)

    assert (series.count, len(series.blocks), series.stop(None)) == (runs, blocks, "count")


def test_models_take_turns_in_an_order_that_changes() -> None:
    """Every round has every model once; each second round is the one before backwards; whoever fails leaves."""
    log: list[str] = []
    plan = Plan(runs=60)

    def player(name: str, fails_at: int = 10**9) -> Player:
        series = Series(plan, MS)

        def run_block(count: int, rouse_ns: float) -> Sequence[int]:
            assert rouse_ns == series.typical_ns  # others have run meanwhile
            log.append(name)
            if log.count(name) > fails_at:
                raise InputError("gone")
            return [MS] * count

        return Player(series, run_block)

    players = [player("a"), player("b"), player("c"), player("d", fails_at=2)]
    play(players, seed=1)
    rounds = list(_rounds(log))

    assert [len(item) for item in rounds] == [4, 4, 4, *[3] * 7]
    assert [sorted(item) for item in rounds[:3]] == [["a", "b", "c", "d"]] * 3
    assert rounds[1] == rounds[0][::-1]
    assert len({tuple(item) for item in rounds}) > 2
    assert str(players[3].failure) == "gone"
    assert [item.series.count for item in players] == [60, 60, 60, 12]


def _rounds(log: list[str]) -> Iterator[list[str]]:
    """Cut before every name that has had its turn already."""
    current: list[str] = []
    for name in log:
        if name in current:
            yield current
            current = []
        current.append(name)
    yield current


def test_who_is_satisfied_plays_on_with_the_others() -> None:
    """A quiet model beside a noisy one has as many rounds, so that every entry has its pair."""
    plan = Plan(budget_s=3, precision=0.01)
    quiet, noisy = Series(plan, 5 * MS), Series(plan, 5 * MS)
    values = noise(0.3)
    play(
        [
            Player(quiet, lambda count, _: [5 * MS] * count),
            Player(noisy, lambda count, _: [int(values(noisy.count + at) * MS) for at in range(count)]),
        ]
    )

    assert quiet.satisfied
    assert noisy.stop(noisy.bounds_ns()) == "budget"
    assert abs(len(quiet.blocks) - len(noisy.blocks)) <= 20  # both spend three seconds, in blocks of about 20 ms


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"precision": 0.0}, r"a precision \(--precision\) above 0"),
        ({"precision": float("nan")}, "got nan"),
        ({"budget_s": 0.0}, r"seconds \(--budget\) above 0"),
        ({"sustained_s": -1.0}, r"seconds \(--sustained\) from 0"),
        ({"deadline_s": float("inf")}, r"seconds \(--deadline\)"),
        ({"runs": 0}, r"runs \(--runs\) from 1"),
        ({"threads": 0}, r"threads \(--threads\)"),
    ],
)
def test_a_plan_nobody_can_carry_out_is_refused(facts: dict[str, float], message: str) -> None:
    """With the option to change."""
    with pytest.raises(InputError, match=message):
        Plan(**facts)  # type: ignore[arg-type]
