"""What a model costs while channels come and go: multiply-accumulates, parameters, bytes.

Each weight and each call is a product of the numbers of channels kept; removing a class of channels changes a few of the
factors. MACs are counted as the model card counts those of the .tflite (``op_costs``): convolutions, dense layers,
attention, and recurrent layers with every step (where these become a loop, the card counts it as one turn); each call of a
shared layer. Bytes are those of int8 weights: one for each element of a kernel, four for each of a bias, and four for each
channel of a BatchNormalization, which becomes a bias when it is folded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .channels import Channels, Ids, Member
from .trace import Shapes, trace_channels

__all__ = ["Costs", "Ledger", "count_costs"]

KINDS = ("macs", "parameters", "bytes")


@dataclass(frozen=True)
class Costs:
    """MACs of one sample, elements of all weights (Keras' own count), and bytes of the weights in int8."""

    macs: int
    parameters: int
    bytes: int


def count_costs(model: Any, *, shapes: Shapes | None = None) -> Costs:
    """Count from the graph alone; a dimension that is open and not in ``shapes`` (see trace_channels) counts as 1."""
    return Ledger(trace_channels(model, shapes=shapes)).costs()


class Ledger:
    """Which classes are kept, and what the model then costs; every question is answered from counters."""

    def __init__(self, channels: Channels) -> None:
        self.kept = np.ones(channels.count, bool)
        self._sides: dict[bytes, int] = {}
        self._counts: list[int] = []
        self._holders: list[list[tuple[int, int]]] = [[] for _ in range(channels.count)]
        self._factors: list[Costs] = []
        self._products: list[tuple[int, ...]] = []
        self._users: list[list[int]] = []
        self._totals = dict.fromkeys(KINDS, 0)
        for work in channels.work:
            self._add(Costs(work.factor, 0, 0), work.sides)
        for member in channels.members:
            self._add_weights(member)

    def costs(self) -> Costs:
        """What the model costs now."""
        return Costs(**self._totals)

    def remove(self, classes: Ids) -> None:
        """Remove classes that are kept."""
        self._change(classes)
        self.kept[classes] = False

    def restore(self, classes: Ids) -> None:
        """Bring back classes that were removed."""
        self._change(classes, sign=1)
        self.kept[classes] = True

    def saving(self, classes: Ids, of: str) -> int:
        """What removing these classes would save of "macs", "parameters" or "bytes"."""
        before = self._totals[of]
        self._change(classes)
        saved = before - self._totals[of]
        self._change(classes, sign=1)
        return saved

    def _change(self, classes: Ids, sign: int = -1) -> None:
        changes: dict[int, int] = {}
        for number in classes.tolist():
            for side, times in self._holders[number]:
                changes[side] = changes.get(side, 0) + sign * times
        touched = sorted({product for side in changes for product in self._users[side]})
        self._account(touched, -1)
        for side, change in changes.items():
            self._counts[side] += change
        self._account(touched, 1)

    def _account(self, products: list[int], sign: int) -> None:
        for product in products:
            size = sign * math.prod(self._counts[side] for side in self._products[product])
            factor = self._factors[product]
            self._totals["macs"] += size * factor.macs
            self._totals["parameters"] += size * factor.parameters
            self._totals["bytes"] += size * factor.bytes

    def _add_weights(self, member: Member) -> None:
        weights = getattr(member.layer, "weights", ())  # operations of keras.ops have none
        sides: Mapping[int, list[tuple[int, Ids]]] = {
            number: [(slot.axis, slot.ids) for slot in member.slots if slot.weight == number]
            for number in range(len(weights))
        }
        normalizes = type(member.layer).__name__ == "BatchNormalization"
        for number, weight in enumerate(weights):
            shape = list(weight.shape)
            for axis, _ in sides[number]:
                shape[axis] = 1
            elements = math.prod(shape)
            each = (4 if number == 0 else 0) if normalizes else 1 if len(shape) > 1 else 4
            self._add(Costs(0, elements, elements * each), tuple(ids for _, ids in sides[number]))

    def _add(self, factors: Costs, sides: tuple[Ids, ...]) -> None:
        product = len(self._products)
        self._products.append(tuple(self._side(ids) for ids in sides))
        self._factors.append(factors)
        for side in set(self._products[product]):
            self._users[side].append(product)
        self._account([product], 1)

    def _side(self, ids: Ids) -> int:
        """The number of this list of channels: equal lists are counted once."""
        key = ids.tobytes()
        if key not in self._sides:
            side = self._sides[key] = len(self._counts)
            self._counts.append(len(ids))
            self._users.append([])
            for number, times in zip(*(part.tolist() for part in np.unique(ids, return_counts=True)), strict=True):
                self._holders[number].append((side, times))
        return self._sides[key]
