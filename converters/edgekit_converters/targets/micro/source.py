"""The C++ source of an export: the model as an array, its header, and a program that makes one inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from string import Template

from ...model_card import ModelCard, TensorCard
from .example import Example, comparison, constants
from .text import C_TYPES, MEMBERS, array_lines, c_float, c_string, comment, identifier

__all__ = ["Facts", "sources"]


@dataclass(frozen=True)
class Facts:
    """What an export says: the bytes and card of the model, resolver calls, labels of output ``labelled``, the arena."""

    stem: str
    tflite: bytes
    card: ModelCard
    calls: tuple[str, ...]
    labels: tuple[str, ...]
    labelled: int | None
    memory: Mapping[str, int]
    arena_bytes: int
    headroom: float
    said_by: str
    parity: str
    resource_variables: int = 0
    example: Example | None = None


class _Page(Template):
    """A template whose placeholders begin with @: neither C++ nor CMake mean anything by it."""

    delimiter = "@"


def sources(facts: Facts) -> dict[str, bytes]:
    """The files by name: header, array, program, CMakeLists.txt and README.md."""
    texts = {
        f"{facts.stem}_model.h": _fill("model.h", facts, **_header(facts)),
        f"{facts.stem}_model.cc": _fill(
            "model.cc", facts, bytes="\n".join(array_lines(facts.tflite)), labels=_label_table(facts)
        ),
        "main.cc": _fill("main.cc", facts, **_program(facts)),
        "CMakeLists.txt": _fill("CMakeLists.txt", facts),
        "README.md": _fill("README.md", facts, parity=facts.parity, example_row=_example_row(facts)),
    }
    if facts.example is not None:
        texts[f"{facts.stem}_example.h"] = _fill(
            "example.h",
            facts,
            constants=constants(facts.example, facts.card),
            guard_example=f"EDGEKIT_{identifier(facts.stem).upper()}_EXAMPLE_H_",
        )
    return {name: text.encode("utf-8") for name, text in texts.items()}


def _fill(template: str, facts: Facts, **more: str) -> str:
    name = identifier(facts.stem)
    text = resources.files(__package__).joinpath("templates", template).read_text(encoding="utf-8")
    return _Page(text).substitute(
        {
            "name": comment(facts.stem),
            "stem": facts.stem,
            "id": name,
            "guard": f"EDGEKIT_{name.upper()}_MODEL_H_",
            "sha256": facts.card.sha256,
            "model_bytes": str(len(facts.tflite)),
            "needed_bytes": str(facts.memory["arena_bytes"]),
            "arena_bytes": str(facts.arena_bytes),
            "factor": f"{1 + facts.headroom:g}",
            "said_by": comment(facts.said_by),
            "operator_count": str(len(facts.calls)),
            **more,
        }
    )


def _example_row(facts: Facts) -> str:
    if facts.example is None:
        return ""
    return f"| `{facts.stem}_example.h` | one sample and TFLM's answer: `main.cc` says whether the board gives the same |\n"


def _header(facts: Facts) -> dict[str, str]:
    memory = facts.memory
    planning = memory["arena_bytes"] - memory["arena_used_bytes"]
    tensors = [
        "\n".join(_constants(f"k{side}{number}", tensor, f"{side} {number}"))
        for side, cards in (("Input", facts.card.inputs), ("Output", facts.card.outputs))
        for number, tensor in enumerate(cards)
    ]
    return {
        "needed": f"{memory['arena_bytes']:,}",
        "head": f"{memory['arena_head_bytes']:,}",
        "tail": f"{memory['arena_tail_bytes']:,}",
        "planning": f"; planning takes {planning:,} more" if planning > 0 else "",
        "operators": ", ".join(call.removeprefix("Add") for call in facts.calls),
        "tensors": "\n".join(tensors),
        "labels": _label_declaration(facts),
    }


def _constants(prefix: str, tensor: TensorCard, what: str) -> list[str]:
    """Type, shape, number of elements and, where it is quantized, scale and zero point."""
    shape = list(tensor.shape) or [1]
    lines = [
        f"// {what}: {comment(tensor.name)}, {tensor.dtype}",
        f"constexpr std::int32_t {prefix}Shape[] = {{{', '.join(map(str, shape))}}};",
        f"constexpr std::size_t {prefix}Elements = {' * '.join(f'{size}' for size in shape)};",
    ]
    if tensor.scales:
        zero_point = tensor.zero_points[0] if tensor.zero_points else 0
        lines += [
            "// real value = scale * (step - zero point)",
            f"constexpr float {prefix}Scale = {c_float(tensor.scales[0])};",
            f"constexpr std::int32_t {prefix}ZeroPoint = {zero_point};",
        ]
    return [*lines, ""]


def _label_declaration(facts: Facts) -> str:
    if facts.labelled is None:
        return "// No labels were given."
    return (
        f"// What output {facts.labelled} stands for, in its order.\nconstexpr std::size_t kLabelCount = {len(facts.labels)};\n"
        "extern const char* const kLabels[kLabelCount];\n"
    )


def _label_table(facts: Facts) -> str:
    if facts.labelled is None:
        return ""
    lines = "\n".join(f"    {c_string(label)}," for label in facts.labels)
    return f"\nconst char* const kLabels[kLabelCount] = {{\n{lines}\n}};\n"


def _program(facts: Facts) -> dict[str, str]:
    name, card = identifier(facts.stem), facts.card
    inputs = [_read_input(name, number, tensor) for number, tensor in enumerate(card.inputs)]
    outputs = [
        _print_output(name, number, tensor, labelled=number == facts.labelled)
        for number, tensor in enumerate(card.outputs)
    ]
    quantized = any(_is_quantized(tensor) for tensor in card.inputs)
    return {
        "includes": _includes(facts),
        "example": "" if facts.example is None else comparison(card, name),
        "example_include": "" if facts.example is None else f'#include "{facts.stem}_example.h"\n',
        "run_example": "" if facts.example is None else _RUN_EXAMPLE,
        "add_operators": "\n".join(f"  if (!Succeeded(resolver.{call}())) return false;" for call in facts.calls),
        "interpreter": _interpreter(facts, name),
        "quantize": _QUANTIZE if quantized else "",
        "inputs": "\n".join(inputs),
        "outputs": "\n".join(outputs),
        "write_inputs": "\n".join(f"  WriteInput{number}();" for number in range(len(inputs))),
        "print_outputs": "\n".join(f"  PrintOutput{number}();" for number in range(len(outputs))),
    }


_RUN_EXAMPLE = """  if (!ExampleAgrees()) {
    std::printf("the board does not answer as the PC did\\n");
  }
"""

_QUANTIZE = """
// A real value as a step: halves to even, saturated.
template <typename Step>
Step Quantize(float real, float scale, std::int32_t zero_point) {
  const float step = std::nearbyint(real / scale) + static_cast<float>(zero_point);
  constexpr float kLowest = std::numeric_limits<Step>::min(), kHighest = std::numeric_limits<Step>::max();
  return static_cast<Step>(step < kLowest ? kLowest : step > kHighest ? kHighest : step);
}
"""


def _includes(facts: Facts) -> str:
    if not facts.resource_variables:
        return ""
    headers = ("micro_allocator", "micro_resource_variable")
    return "".join(f'#include "tensorflow/lite/micro/{header}.h"\n' for header in headers)


def _interpreter(facts: Facts, name: str) -> str:
    if not facts.resource_variables:
        return f"  static MicroInterpreter ready(model, resolver, arena, {name}::kArenaBytes);"
    return (
        f"  auto* allocator = MicroAllocator::Create(arena, {name}::kArenaBytes);\n"
        f"  auto* variables = MicroResourceVariables::Create(allocator, {facts.resource_variables});\n"
        "  static MicroInterpreter ready(model, resolver, allocator, variables);"
    )


def _is_quantized(tensor: TensorCard) -> bool:
    return bool(tensor.scales) and tensor.dtype in ("int8", "uint8", "int16")


def _read_input(name: str, number: int, tensor: TensorCard) -> str:
    quantized = _is_quantized(tensor)
    kind = "float" if quantized else C_TYPES[tensor.dtype]
    prefix = f"{name}::kInput{number}"
    value = (
        f"Quantize<{C_TYPES[tensor.dtype]}>(ReadInput{number}(i), {prefix}Scale, {prefix}ZeroPoint)"
        if quantized
        else f"ReadInput{number}(i)"
    )
    return f"""
// Value number i of input {number} ({comment(tensor.name)}).
// Put your sensor here. Values are in the units the model was trained with: what prepared those data prepares these too.
{kind} ReadInput{number}(std::size_t i) {{
  static_cast<void>(i);
  return 0;
}}

void WriteInput{number}() {{
  auto* tensor = interpreter->input({number});
  for (std::size_t i = 0; i < {prefix}Elements; ++i) {{
    tensor->data.{MEMBERS[tensor.dtype]}[i] = {value};
  }}
}}"""


def _print_output(name: str, number: int, tensor: TensorCard, *, labelled: bool) -> str:
    prefix = f"{name}::kOutput{number}"
    real = (
        f"{prefix}Scale * static_cast<float>(values[best] - {prefix}ZeroPoint)"
        if _is_quantized(tensor)
        else "static_cast<float>(values[best])"
    )
    say = (
        f'std::printf("%s %f\\n", {name}::kLabels[best], static_cast<double>(real));'
        if labelled
        else f'std::printf("output {number}: the largest of %u values is number %u: %f\\n", '
        f"static_cast<unsigned>({prefix}Elements), static_cast<unsigned>(best), static_cast<double>(real));"
    )
    return f"""
// The largest value of output {number} ({comment(tensor.name)}).
void PrintOutput{number}() {{
  const auto* values = interpreter->output({number})->data.{MEMBERS[tensor.dtype]};
  std::size_t best = 0;
  for (std::size_t i = 1; i < {prefix}Elements; ++i) {{
    if (values[i] > values[best]) best = i;
  }}
  const float real = {real};
  {say}
}}"""
