"""Slimming to a latency: the ratio of multiply-accumulates whose variant is as fast as asked, found by measuring on the device.

A step says ``latency_ms`` (the median of one inference) or ``to_latency`` (a fraction of the median of the same precision
unslimmed). Latency falls in steps as channels go, and not in proportion to MACs, so it is measured: a bisection over the
ratio, each try slimmed without training, quantized and timed. Weights do not change how long an inference takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .errors import ConversionError, UsageError
from .recipe_name import Step

__all__ = ["LATENCY_KEYS", "check_latency", "ratio_for_latency", "wants_latency"]

LATENCY_KEYS = ("latency_ms", "to_latency")
LEAST_RATIO = 0.02
TRIES = 7

# The median latency in milliseconds at a ratio of MACs, 1.0 being the model as it is; None where it cannot be slimmed so far.
Measure = Callable[[float], "float | None"]


def wants_latency(step: Step) -> bool:
    """Whether ``step`` slims to a latency."""
    return step.technique == "slim" and any(key in step.options for key in LATENCY_KEYS)


def check_latency(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` of a slim step without the latency, as the technique takes them; raises UsageError for a wrong one."""
    asked = [key for key in LATENCY_KEYS if key in options]
    if not asked:
        return dict(options)
    if len(asked) > 1 or "to" in options:
        raise UsageError("expected one of to, to_latency and latency_ms for a slim step, got several")
    value = options[asked[0]]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (0 < value < 1 if asked[0] == "to_latency" else 0 < value < 1e6):
        expected = "a fraction between 0 and 1" if asked[0] == "to_latency" else "milliseconds above 0"
        raise UsageError(f"expected {asked[0]} as {expected}, got {value!r}")
    if options.get("importance") == "taylor":
        raise UsageError(
            "slimming to a latency ranks channels by l1, l2 or batch-norm: taylor would train at every try"
        )
    return {**{key: item for key, item in options.items() if key not in LATENCY_KEYS}, "to": 0.5}


def ratio_for_latency(step: Step, measure: Measure) -> tuple[Step, dict[str, Any]]:
    """``step`` with the largest ratio found whose latency is as asked, and what was measured on the way.

    Raises ConversionError when even the slimmest is too slow, or the model is fast enough as it is.
    """
    plain = {key: value for key, value in step.options.items() if key not in LATENCY_KEYS}
    whole = measure(1.0)
    assert whole is not None  # nothing is slimmed there
    target = float(step.options.get("latency_ms") or whole * step.options["to_latency"])
    tried = {1.0: whole}
    if whole <= target:
        raise ConversionError(
            f"nothing to slim: the model takes {whole:.4g} ms on the device as it is, and {target:.4g} ms were asked for"
        )
    low, high = LEAST_RATIO, 1.0
    found: float | None = None
    for _ in range(TRIES):
        middle = (low + high) / 2
        took = measure(middle)
        if took is not None:
            tried[middle] = took
        if took is None:
            low = middle
        elif took <= target:
            low, found = middle, middle
        else:
            high = middle
    if found is None:
        fastest = min(tried.values())
        raise ConversionError(
            f"no slimming reaches {target:.4g} ms on the device: the fastest measured was {fastest:.4g} ms. Ask for a longer "
            "latency, or train a smaller architecture"
        )
    facts = {
        "target_ms": target,
        "unslimmed_ms": whole,
        "reached_ms": tried[found],
        "tried": [[ratio, took] for ratio, took in sorted(tried.items())],
    }
    return replace(step, options={**plain, "to": round(found, 4)}), facts
