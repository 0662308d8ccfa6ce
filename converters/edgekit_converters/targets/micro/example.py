"""One sample with TFLM's answer as C++: what a board is held against, once, before anything is built on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...model_card import ModelCard
from .text import C_TYPES, MEMBERS, c_float

__all__ = ["Example", "comparison", "constants", "fits"]

Array = npt.NDArray[Any]
MOST_VALUES = 65_536
VALUES_A_LINE = 16
FLOAT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Example:
    """The inputs of one sample as they go in, and the outputs TFLM gave on this machine, by their numbers."""

    inputs: Mapping[int, Array]
    outputs: Mapping[int, Array]


def fits(example: Example) -> bool:
    """Whether there are few enough values to be written as source."""
    return sum(values.size for values in (*example.inputs.values(), *example.outputs.values())) <= MOST_VALUES


def constants(example: Example, card: ModelCard) -> str:
    """The arrays of an example, each of its tensor's own type."""
    lines = []
    for side, cards, arrays in (
        ("Input", card.inputs, example.inputs),
        ("Output", card.outputs, example.outputs),
    ):
        for number, tensor in enumerate(cards):
            lines += [f"constexpr {C_TYPES[tensor.dtype]} kExample{side}{number}[] = {{", *_lines(arrays[number]), "};"]
    return "\n".join(lines)


def _lines(values: Array) -> Iterator[str]:
    flat = values.reshape(-1)
    for start in range(0, flat.size, VALUES_A_LINE):
        yield "    " + ", ".join(_literal(value) for value in flat[start : start + VALUES_A_LINE]) + ","


def _literal(value: Any) -> str:
    if isinstance(value, np.floating):
        # There is no literal for what is no number; the board's answer will differ from 0 there, and it is right to say so.
        return c_float(float(value)) if np.isfinite(value) else "0.0f"
    if isinstance(value, np.bool_):
        return "true" if value else "false"
    number = int(value)
    # The lowest integer of 64 bits has no literal: its digits are read before its sign.
    return f"{number + 1} - 1" if number == -(2**63) else str(number)


def comparison(card: ModelCard, name: str) -> str:
    """The function that runs the example on the board and counts the output values that differ."""
    writes = "\n".join(
        f"  for (std::size_t i = 0; i < {name}::kInput{number}Elements; ++i) {{\n"
        f"    interpreter->input({number})->data.{MEMBERS[tensor.dtype]}[i] = {name}::kExampleInput{number}[i];\n  }}"
        for number, tensor in enumerate(card.inputs)
    )
    counts = "\n".join(
        f"  for (std::size_t i = 0; i < {name}::kOutput{number}Elements; ++i) {{\n"
        f"    if ({_differs(name, number, tensor.dtype)}) ++different;\n  }}"
        for number, tensor in enumerate(card.outputs)
    )
    total = " + ".join(f"{name}::kOutput{number}Elements" for number in range(len(card.outputs)))
    return f"""
// Runs the example and says whether this board answers as TFLM did on a PC. Call it once, then leave it and its header out.
bool ExampleAgrees() {{
{writes}
  if (!Succeeded(interpreter->Invoke())) return false;
  std::size_t different = 0;
{counts}
  std::printf("example: %u of %u output values differ from the PC's\\n", static_cast<unsigned>(different),
              static_cast<unsigned>({total}));
  return different == 0 && Succeeded(interpreter->Reset());
}}
"""


def _differs(name: str, number: int, dtype: str) -> str:
    here, there = f"interpreter->output({number})->data.{MEMBERS[dtype]}[i]", f"{name}::kExampleOutput{number}[i]"
    if dtype == "float32":
        # Compilers fuse and reorder floats as they like; steps are the same everywhere or wrong.
        return f"!(std::fabs({here} - {there}) <= {FLOAT_TOLERANCE}f * (1.0f + std::fabs({there})))"
    return f"{here} != {there}"
