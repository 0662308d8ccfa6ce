"""Names of recipes that say what they do: ``slim50-prune75-qat-int8-mse`` can be read back into a recipe.

::

    [TECHNIQUE-]...PRECISION[-QUANTIZATION]...[+LABEL]

    slim50            slimmed to 50 % of the MACs (slim50parameters, slim50bytes: of those; slim50latency: of the latency
                      measured on the device; slim2.5ms: to that latency; slim50branches: to half of MACs and bytes, whole
                      residual branches first)
    distill           fine-tuned on the answers of the model one started from
    prune75           75 % of the weights zero; prune2of4: two of every four; prune75block1x4: whole blocks
    cluster16         16 distinct weights a kernel
    qat               quantization-aware training; behind prune or cluster it keeps what they made
    finetune          plain fine-tuning
    float32, float16, dynamic-int8, int8, int16x8
    percentile, mse, entropy     how int8 ranges are chosen, instead of minimum and maximum
    equalized, corrected         cross-layer equalization, bias correction
    tflite                       quantized by TFLite's own quantizer
    keep4                        four layers kept in float: which, only the recipe's file says

Anything behind ``+`` is the user's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ASKED_PRECISIONS", "DecodedName", "Step", "decode", "encode"]

# What can be asked for; a model some of whose layers are kept at a higher precision is called mixed afterwards.
ASKED_PRECISIONS = ("float32", "float16", "dynamic-int8", "int8", "int16x8")


@dataclass(frozen=True)
class Step:
    """One technique and its options, as a recipe asks for it."""

    technique: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DecodedName:
    """What a name promises; the options are those it states, no more."""

    precision: str
    steps: tuple[Step, ...] = ()
    quantize: Mapping[str, Any] = field(default_factory=dict)
    kept_layers: int | None = None


def _percent(text: str) -> float:
    return int(text) / 100


_BRANCHES: Mapping[str, Any] = {"branches": True, "of": "macs+bytes"}


def _slim(found: re.Match[str]) -> dict[str, Any]:
    of: dict[str, Any] = {"of": found[2]} if found[2] else {}
    return {"to": _percent(found[1]), **(_BRANCHES if found[2] == "branches" else of)}


def _prune(found: re.Match[str]) -> dict[str, Any]:
    if found[2]:
        return {"pattern": f"block:{found[2]}", "sparsity": _percent(found[1])}
    return {"sparsity": _percent(found[1])}


_TECHNIQUES: tuple[tuple[str, str, Callable[[re.Match[str]], dict[str, Any]]], ...] = (
    (r"slim(\d{1,3})(parameters|bytes|branches)?", "slim", _slim),
    (r"slim(\d{1,3})latency", "slim", lambda found: {"to_latency": _percent(found[1])}),
    (r"slim(\d+(?:\.\d+)?)ms", "slim", lambda found: {"latency_ms": float(found[1])}),
    (r"distill", "distill", lambda _: {}),
    (r"prune(\d{1,3})(?:block(\d+x\d+))?", "prune", _prune),
    (r"prune(\d)of(\d)", "prune", lambda found: {"pattern": f"{found[1]}:{found[2]}"}),
    (r"cluster(\d+)", "cluster", lambda found: {"clusters": int(found[1])}),
    (r"qat", "qat", lambda _: {}),
    (r"finetune", "finetune", lambda _: {}),
)
_QUANTIZATIONS: dict[str, Mapping[str, Any]] = {
    "percentile": {"calibration": "percentile"},
    "mse": {"calibration": "mse"},
    "entropy": {"calibration": "entropy"},
    "equalized": {"equalize": True},
    "corrected": {"correct_bias": True},
    "tflite": {"quantizer": "tflite-converter"},
}


def decode(name: str) -> DecodedName | None:
    """What ``name`` says, or None when it is no name of this form."""
    plain = f"-{name.split('+', 1)[0]}-"
    for precision in sorted(ASKED_PRECISIONS, key=len, reverse=True):
        before, found, after = plain.partition(f"-{precision}-")
        if not found:
            continue
        steps = [_step(token) for token in before.split("-") if token]
        tokens = [token for token in after.split("-") if token]
        kept = [int(token[4:]) for token in tokens if re.fullmatch(r"keep\d+", token)]
        known = [_QUANTIZATIONS.get(token) for token in tokens if not re.fullmatch(r"keep\d+", token)]
        if any(item is None for item in (*steps, *known)) or len(kept) > 1:
            return None
        quantize = {key: value for item in known if item for key, value in item.items()}
        return DecodedName(precision, tuple(item for item in steps if item), quantize, kept[0] if kept else None)
    return None


def encode(
    precision: str, steps: tuple[Step, ...] = (), quantize: Mapping[str, Any] | None = None, kept_layers: int = 0
) -> str:
    """The name that says this; an option that no name can hold is left out."""
    chosen = quantize or {}
    tokens = [_step_name(step) for step in steps]
    tokens.append(precision)
    tokens += [
        token for token, says in _QUANTIZATIONS.items() if all(chosen.get(key) == value for key, value in says.items())
    ]
    if kept_layers:
        tokens.append(f"keep{kept_layers}")
    return "-".join(tokens)


def _step(token: str) -> Step | None:
    for pattern, technique, options in _TECHNIQUES:
        found = re.fullmatch(pattern, token)
        if found:
            return Step(technique, options(found))
    return None


def _step_name(step: Step) -> str:
    options = step.options
    if step.technique == "slim" and "to" in options:
        of = options.get("of", "macs")
        if of not in ("parameters", "bytes"):  # a plus would begin the user's own part of the name
            of = "branches" if all(options.get(key) == value for key, value in _BRANCHES.items()) else ""
        return f"slim{round(100 * options['to'])}{of}"
    if step.technique == "slim" and "to_latency" in options:
        return f"slim{round(100 * options['to_latency'])}latency"
    if step.technique == "slim" and "latency_ms" in options:
        return f"slim{options['latency_ms']:g}ms"
    if step.technique == "prune":
        pattern = str(options.get("pattern", "unstructured"))
        if re.fullmatch(r"\d:\d", pattern):
            return f"prune{pattern.replace(':', 'of')}"
        block = pattern.replace(":", "") if pattern.startswith("block:") else ""
        return f"prune{round(100 * options.get('sparsity', 0.5))}{block}"
    if step.technique == "cluster":
        return f"cluster{options.get('clusters', 16)}"
    return step.technique
