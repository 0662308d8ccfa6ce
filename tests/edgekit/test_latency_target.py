"""Slimming to a latency that is measured: the ratio is found by bisection over what a device answers."""

from __future__ import annotations

import math

import pytest

from edgekit.errors import ConversionError, UsageError
from edgekit.latency_target import LEAST_RATIO, TRIES, check_latency, ratio_for_latency
from edgekit.recipe_name import Step


def _device(ratio: float) -> float:
    """A device on which only every tenth of the MACs counts: 10 ms whole, 1 ms at least."""
    return max(1.0, math.ceil(ratio * 10))


@pytest.mark.parametrize(("options", "target"), [({"latency_ms": 6.0}, 6.0), ({"to_latency": 0.6}, 6.0)])
def test_the_largest_ratio_as_fast_as_asked_is_found(options: dict[str, float], target: float) -> None:
    """The staircase's edge is at 0.6; bisection comes within the width its tries leave."""
    step, facts = ratio_for_latency(Step("slim", {**options, "of": "macs"}), _device)

    width = (1 - LEAST_RATIO) / 2**TRIES
    assert 0.6 - width <= step.options["to"] <= 0.6
    assert set(step.options) == {"of", "to"}
    assert (facts["unslimmed_ms"], facts["reached_ms"], facts["target_ms"]) == (10.0, 6.0, target)


def test_a_latency_below_everything_says_the_fastest_that_was_measured() -> None:
    """Not even the slimmest is fast enough."""
    with pytest.raises(ConversionError, match=r"the fastest measured was 1 ms"):
        ratio_for_latency(Step("slim", {"latency_ms": 0.5}), _device)


def test_a_model_that_is_fast_enough_is_left_alone() -> None:
    """There is nothing to slim."""
    with pytest.raises(ConversionError, match=r"takes 10 ms on the device as it is"):
        ratio_for_latency(Step("slim", {"latency_ms": 12}), _device)


@pytest.mark.parametrize(
    "options",
    [{"to_latency": 1.5}, {"to_latency": True}, {"latency_ms": 0}, {"latency_ms": "1"}, {"to": 0.5, "latency_ms": 1}],
)
def test_what_is_no_latency_is_refused(options: dict[str, object]) -> None:
    """Before anything is slimmed."""
    with pytest.raises(UsageError, match="expected"):
        check_latency(options)


def test_a_ratio_that_cannot_be_slimmed_to_is_gone_up_from() -> None:
    """Below 0.3 no channels are left to remove; above, the device is fast enough from 0.4 down."""
    step, facts = ratio_for_latency(
        Step("slim", {"latency_ms": 4}), lambda ratio: None if ratio < 0.3 else _device(ratio)
    )

    assert 0.4 - (1 - LEAST_RATIO) / 2**TRIES <= step.options["to"] <= 0.4
    assert all(ratio >= 0.3 for ratio, _ in facts["tried"])
    with pytest.raises(ConversionError, match="the fastest measured was 4 ms"):
        ratio_for_latency(Step("slim", {"latency_ms": 2}), lambda ratio: None if ratio < 0.31 else _device(ratio))
