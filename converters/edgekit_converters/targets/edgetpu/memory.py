"""How much of the Edge TPU's memory a model's parameters take: what stays on the chip, and what is sent every inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..operators import Operator

__all__ = ["PARAMETER_MEMORY_BYTES", "Memory", "predict_memory"]

PARAMETER_MEMORY_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Memory:
    """Bytes of parameters as the compiler packs them; None where it is not known well.

    ``cached_bytes`` stay on the chip between inferences, ``streamed_bytes`` are sent every time.
    """

    cached_bytes: int | None = None
    streamed_bytes: int | None = None


def predict_memory(operators: Sequence[Operator], target_memory_bytes: int = PARAMETER_MEMORY_BYTES) -> Memory:
    """Predict the packed parameters of ``operators``, those that map, on a chip of ``target_memory_bytes``."""
    return Memory()
