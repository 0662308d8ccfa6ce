"""An estimate of the latency on an Edge TPU, made from what others measured: nobody of us ran it.

    milliseconds = start + cycles + bytes over the link + operators

with the four rates fitted to Google's own table (``published.py``), one set for the USB Accelerator and one for PCIe. What a
model's figure is off by when it is left out of the fit is what the bounds say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...model_card import TensorCard
from ..operators import Operator
from ..records import Estimate
from ..target import Target
from .cycles import count_cycles
from .memory import Memory

__all__ = ["RATES", "Rates", "estimate_latency", "predict_ms"]


@dataclass(frozen=True)
class Rates:
    """What an inference costs over one link: ``start_ms`` once, then per million cycles, per million bytes that are sent, and
    per convolution or fully connected layer. ``low`` and ``high`` bound the true figure as multiples of the estimate."""

    name: str
    start_ms: float
    ms_per_mcycle: float
    ms_per_mbyte: float
    ms_per_operator: float
    low: float
    high: float


# Worst of those left out in turn: 1.26 over USB, 1.56 over PCIe. A Raspberry Pi 4 took 1.7 to 2.03 times what the table's desktop
# took over USB (pycoral's reference figures): the upper bound over USB holds both.
RATES = {
    "usb": Rates("the USB Accelerator at USB 3", 0.862, 0.407, 2.257, 0.0245, low=1 / 1.3, high=1.3 * 2.03),
    "pcie": Rates("the Dev Board (PCIe)", 0.151, 0.726, 2.563, 0.0359, low=1 / 1.6, high=1.6),
}
FASTEST_MS = 2.0  # of the table: below, the start is not known
# What the table's models send: images to 299 x 299 and a thousand classes. How fast a larger output comes back is not known.
MOST_INPUT_BYTES, MOST_OUTPUT_BYTES = 512 * 1024, 64 * 1024
_UNCOUNTED = frozenset({"UNIDIRECTIONAL_SEQUENCE_LSTM", "TRANSPOSE_CONV", "BATCH_MATMUL", "CONV_3D"})


def estimate_latency(operators: Sequence[Operator], memory: Memory, target: Target) -> Estimate | None:
    """Milliseconds of one inference of ``operators``, those on the Edge TPU, as one piece; what else a model has comes on top.

    None where it were a guess: no layer with weights, one whose cycles are not known, streamed bytes not known, or inputs and
    outputs larger than those of any model measured. Where the target says nothing of its link, the bounds cover both.
    """
    layers = [op for op in operators if count_cycles(op)]
    if not layers or memory.streamed_bytes is None or any(op.type in _UNCOUNTED for op in operators):
        return None
    sent, received = _sizes(operators)
    if sent > MOST_INPUT_BYTES or received > MOST_OUTPUT_BYTES:
        return None
    cycles = sum(map(count_cycles, layers))
    moved = sent + received + memory.streamed_bytes
    links = [RATES[target.link]] if target.link in RATES else list(RATES.values())
    figures = [(predict_ms(rates, cycles, moved, len(layers)), rates) for rates in links]
    middle = sum(ms for ms, _ in figures) / len(figures)
    return Estimate(
        latency_ms=middle,
        low_ms=min(_low(ms, rates, cycles, moved) for ms, rates in figures),
        high_ms=max(rates.high * max(ms, FASTEST_MS) for ms, rates in figures),
        basis=_basis(len(operators), links),
    )


def predict_ms(rates: Rates, cycles: float, moved_bytes: float, layers: int) -> float:
    """The fitted sum itself."""
    work = rates.ms_per_mcycle * cycles / 1e6 + rates.ms_per_mbyte * moved_bytes / 1e6
    return rates.start_ms + work + rates.ms_per_operator * layers


def _low(ms: float, rates: Rates, cycles: int, moved_bytes: int) -> float:
    """Of a model faster than all in the table only the work itself is sure."""
    if ms >= FASTEST_MS:
        return rates.low * ms
    return rates.low * (rates.ms_per_mcycle * cycles + rates.ms_per_mbyte * moved_bytes) / 1e6


def _basis(operators: int, links: Sequence[Rates]) -> str:
    names = " and ".join(rates.name for rates in links)
    slow = ", on hosts down to a Raspberry Pi 4" if any(rates is RATES["usb"] for rates in links) else ""
    return (
        f"an estimate, not measured: the {operators} operators on the Edge TPU alone, by Google's published figures for {names} "
        f"(coral.ai/docs/edgetpu/benchmarks); bounds from models left out of the fit{slow}"
    )


def _sizes(operators: Sequence[Operator]) -> tuple[int, int]:
    """Bytes that go into the piece, and that come out of it."""
    made = {tensor.index: tensor for op in operators for tensor in op.outputs if tensor is not None}
    read = {tensor.index: tensor for op in operators for tensor in op.computed_inputs}
    return _bytes(read, set(made)), _bytes(made, set(read))


def _bytes(tensors: dict[int, TensorCard], but: set[int]) -> int:
    return sum(tensor.size_bytes for index, tensor in tensors.items() if index not in but)
