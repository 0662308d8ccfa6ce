"""The estimate of a latency on an Edge TPU, against the figures Google published and the compiler's own cycles."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from edgekit_converters.targets.edgetpu.cycles import count_cycles
from edgekit_converters.targets.edgetpu.latency import FASTEST_MS, RATES, estimate_latency, predict_ms
from edgekit_converters.targets.edgetpu.memory import Memory, predict_memory
from edgekit_converters.targets.edgetpu.published import PUBLISHED
from edgekit_converters.targets.operators import Operator
from edgekit_converters.targets.target import find_target

from tests.converters.edgetpu_layers import dense, layer, mobilenet_v1, mobilenet_v2, plain, tensor


def _fit(link: str, but: int | None = None) -> np.ndarray:
    """Least squares of relative errors over the published table, without one of its models."""
    seen = [one for i, one in enumerate(PUBLISHED) if i != but]
    features = np.array([[1, one.cycles / 1e6, one.moved_bytes / 1e6, one.layers] for one in seen])
    told = np.array([getattr(one, f"{link}_ms") for one in seen])
    return np.linalg.lstsq(features / told[:, None], np.ones(len(told)), rcond=None)[0]


@pytest.mark.parametrize("link", sorted(RATES))
def test_rates_are_the_fit_of_the_published_table(link: str) -> None:
    """The rates in use are the least squares of the table that ships beside them, to their last digit."""
    rates = RATES[link]
    used = (rates.start_ms, rates.ms_per_mcycle, rates.ms_per_mbyte, rates.ms_per_operator)
    np.testing.assert_allclose(used, _fit(link), atol=5e-4)


@pytest.mark.parametrize("link", sorted(RATES))
def test_bounds_hold_each_model_the_fit_did_not_see(link: str) -> None:
    """Each published figure is within the bounds around the estimate of a fit without it."""
    for i, one in enumerate(PUBLISHED):
        start, per_mcycle, per_mbyte, per_operator = _fit(link, but=i)
        rates = dataclasses.replace(
            RATES[link],
            start_ms=start,
            ms_per_mcycle=per_mcycle,
            ms_per_mbyte=per_mbyte,
            ms_per_operator=per_operator,
        )
        ratio = getattr(one, f"{link}_ms") / predict_ms(rates, one.cycles, one.moved_bytes, one.layers)
        assert rates.low <= ratio <= rates.high, one.name


def test_published_cycles_are_those_of_the_architectures() -> None:
    """The table's cycles and layers are what the operators of the same network count, with a last layer of 1,000 classes."""
    v1 = [*mobilenet_v1(), dense(1024, 1000)]
    v2 = [*mobilenet_v2()[:-1], dense(1280, 1000)]
    for name, ops in (("MobileNet v1", v1), ("MobileNet v2", v2)):
        row = next(one for one in PUBLISHED if one.name == name)
        assert (sum(map(count_cycles, ops)), len(ops)) == (row.cycles, row.layers)


def test_cycles_of_equal_convolutions_are_the_compiler_s() -> None:
    """The compiler's own count of iwatake2222's chain of 7 x 7 x 32 on 128 x 128 is 15 cycles more, whatever its length."""
    first = layer("CONV_2D", tensor((1, 128, 128, 3)), (32, 7, 7, 3), (1, 128, 128, 32))
    other = layer("CONV_2D", tensor((1, 128, 128, 32)), (32, 7, 7, 32), (1, 128, 128, 32))
    last = layer("CONV_2D", tensor((1, 128, 128, 32)), (1, 1, 1, 32), (1, 1, 1, 1))
    per_layer = count_cycles(other)
    assert 25 * per_layer == 39_438_352 - 19_367_952
    assert count_cycles(first) + 9 * per_layer + count_cycles(last) + 15 == 7_325_712


def test_operators_without_weights_cost_no_cycles() -> None:
    """What is no layer with weights counts as nothing, also where its operands are left out."""
    assert count_cycles(plain("ADD", [tensor((1, 4, 4, 8))] * 2, tensor((1, 4, 4, 8)))) == 0
    assert count_cycles(Operator(0, "CONV_2D", 1, False, (), ())) == 0
    assert count_cycles(layer("CONV_2D", tensor((1, 4, 4, 8)), (8, -3, 3, 8), (1, 4, 4, 8))) == 0


@pytest.mark.parametrize(("target", "published"), [("coral-usb", 2.6), ("coral-pcie", 2.6), ("coral", 2.6)])
def test_mobilenet_v2_is_estimated_around_its_published_figure(target: str, published: float) -> None:
    """From operators to milliseconds: MobileNetV2's 2.6 ms is within the bounds, which hold the estimate."""
    ops = mobilenet_v2("int8", per_channel=True)
    estimate = estimate_latency(ops, predict_memory(ops), find_target(target))
    assert estimate is not None
    assert estimate.low_ms is not None
    assert estimate.high_ms is not None
    assert estimate.low_ms <= published <= estimate.high_ms
    assert estimate.low_ms < estimate.latency_ms < estimate.high_ms
    for word in ("not measured", f"{len(ops)} operators", "Google"):
        assert word in estimate.basis


def test_target_without_a_link_covers_both() -> None:
    """Where nothing says how the Edge TPU is attached, the bounds are those of USB and PCIe together."""
    ops = mobilenet_v2("int8", per_channel=True)
    memory = predict_memory(ops)
    usb, pcie, both = (
        estimate_latency(ops, memory, find_target(name)) for name in ("coral-usb", "coral-pcie", "coral")
    )
    assert usb is not None
    assert pcie is not None
    assert both is not None
    assert both.low_ms == min(usb.low_ms or math.inf, pcie.low_ms or math.inf)
    assert both.high_ms == max(usb.high_ms or 0, pcie.high_ms or 0)


def test_streamed_bytes_cost_their_way_over_the_link() -> None:
    """A million bytes more to stream add the link's rate."""
    ops = mobilenet_v2()
    few, many = (estimate_latency(ops, Memory(0, sent), find_target("coral-usb")) for sent in (0, 1_000_000))
    assert few is not None
    assert many is not None
    assert many.latency_ms - few.latency_ms == pytest.approx(RATES["usb"].ms_per_mbyte)


def test_tiny_model_has_the_slowest_start_in_its_bounds() -> None:
    """Nobody published less than 2 ms: with less work the upper bound is no better than theirs, the lower one the work's."""
    op = dense(64, 10)
    estimate = estimate_latency([op], Memory(640, 0), find_target("coral-usb"))
    assert estimate is not None
    assert estimate.high_ms is not None
    assert estimate.low_ms is not None
    assert estimate.high_ms >= FASTEST_MS
    assert estimate.low_ms < 0.01


def test_guesses_are_not_made() -> None:
    """No estimate without weights, for unknown streaming, for an LSTM, or for inputs and outputs larger than any published."""
    target, known = find_target("coral-usb"), Memory(0, 0)
    conv = layer("CONV_2D", tensor((1, 64, 64, 3)), (8, 3, 3, 3), (1, 64, 64, 8))
    assert estimate_latency([conv], known, target) is not None
    assert estimate_latency([], known, target) is None
    assert estimate_latency([plain("ADD", [tensor((1, 8))] * 2, tensor((1, 8)))], known, target) is None
    assert estimate_latency([conv], Memory(None, None, 5000), target) is None
    lstm = plain("UNIDIRECTIONAL_SEQUENCE_LSTM", [tensor((1, 4, 8))], tensor((1, 4, 8)))
    assert estimate_latency([conv, lstm], known, target) is None
    large_output = layer("CONV_2D", tensor((1, 128, 128, 3)), (8, 3, 3, 3), (1, 128, 128, 8))
    assert estimate_latency([large_output], known, target) is None
    large_input = layer("CONV_2D", tensor((1, 1024, 1024, 3)), (8, 3, 3, 3), (1, 32, 32, 8))
    assert estimate_latency([large_input], known, target) is None
