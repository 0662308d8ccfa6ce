"""Numbers as text: the one place that decides digits and units. What was not measured is an en dash.

1 KB is 1024 bytes and 1 MB is 1024 KB, as in ``--max-size-kb``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..records import LayerDifference

__all__ = [
    "MINUS",
    "MISSING",
    "SIZE_NOTE",
    "TIMES",
    "celsius",
    "change",
    "count",
    "decibels",
    "difference",
    "latency_unit",
    "layer_difference",
    "limit",
    "mebibytes",
    "megahertz",
    "millijoules",
    "milliseconds",
    "milliseconds_between",
    "milliseconds_within",
    "percent",
    "points",
    "ratio",
    "seconds",
    "size",
    "size_unit",
    "slowdown",
    "ticks",
    "watts",
]

MISSING = "\N{EN DASH}"
SIZE_NOTE = "1 KB is 1024 bytes, 1 MB is 1024 KB"
KB = 1024
MB = 1024 * 1024
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"


def milliseconds(value: float | None) -> str:
    """A duration in milliseconds to three significant digits; below 0.1 ms in microseconds, from 10 s on in seconds."""
    if value is None or not math.isfinite(value):
        return MISSING
    times, unit = _in_unit(value)
    return f"{_significant(value * times)} {unit}"


def milliseconds_between(low: float | None, high: float | None) -> str:
    """A range of durations, the unit once where both have the same."""
    first, last = milliseconds(low), milliseconds(high)
    number, _, unit = first.partition(" ")
    return f"{number if unit and last.endswith(f' {unit}') else first} to {last}" if first != last else first


def milliseconds_within(value: float, low: float, high: float) -> str:
    """A duration that is known by its bounds, to two significant digits in its own unit: ``2.9 ms (1.8 to 6.0)``."""
    times, unit = _in_unit(value)
    return (
        f"{_significant(value * times, 2)} {unit} ({_significant(low * times, 2)} to {_significant(high * times, 2)})"
    )


def size(value: float | None) -> str:
    """A size in bytes to three significant digits, in bytes, KB or MB."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value < KB:
        return f"{value:.0f} B"
    return f"{_significant(value / KB)} KB" if value < 999.5 * KB else f"{_significant(value / MB)} MB"


def mebibytes(value: float | None) -> str:
    """A size that is given in mebibytes."""
    return MISSING if value is None else size(value * MB)


def percent(fraction: float | None) -> str:
    """A fraction as per cent with one decimal; more where one would make it a false 0 or 100."""
    if fraction is None or not math.isfinite(fraction):
        return MISSING
    value = 100 * fraction
    if value in (0, 100):
        return f"{value:.0f} %"
    return f"{value:.{_honest_decimals(value, (0, 100))}f} %"


def points(gain: float | None) -> str:
    """A signed difference of two fractions in percentage points, as in "+0.3 pt"."""
    if gain is None or not math.isfinite(gain):
        return MISSING
    value = round(100 * gain, 6)
    if value == 0:
        return "0 pt"
    sign = MINUS if value < 0 else "+"
    return f"{sign}{abs(value):.{_honest_decimals(value, (0,))}f} pt"


def ratio(value: float | None) -> str:
    """A factor to two significant digits and a multiplication sign."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{_significant(value, 2)}{TIMES}"


def change(faster: float | None) -> str:
    """A speed-up in words: so many times faster, so many times slower, or as fast."""
    if faster is None or not math.isfinite(faster) or faster <= 0:
        return MISSING
    if ratio(faster) == f"1.0{TIMES}" or ratio(1 / faster) == f"1.0{TIMES}":
        return "as fast"
    return f"{ratio(faster)} faster" if faster > 1 else f"{ratio(1 / faster)} slower"


def slowdown(factor: float | None) -> str:
    """A latency over another as a signed change in per cent, as in "+3.2 %"; from three times on as a factor."""
    if factor is None or not math.isfinite(factor) or factor <= 0:
        return MISSING
    if factor >= 3:
        return ratio(factor)
    value = 100 * (factor - 1)
    return f"{value:+.1f} %".replace("+0.0", "0.0").replace("-0.0", "0.0").replace("-", MINUS)


def count(value: float | None) -> str:
    """A whole number with separators between thousands."""
    return MISSING if value is None else f"{value:,.0f}"


def decibels(value: float | None, *, signed: bool = False) -> str:
    """A ratio in decibels to one decimal; a gain bears its sign."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:{'+' if signed and round(value, 1) else ''}.1f} dB".replace("-0.0", "0.0").replace("-", MINUS)


def megahertz(value: float | None) -> str:
    """A clock frequency that is given in megahertz."""
    return MISSING if value is None else f"{value:,.0f} MHz"


def celsius(value: float | None) -> str:
    """A temperature in degrees Celsius."""
    return MISSING if value is None else f"{value:.0f} °C".replace("-", MINUS)


def seconds(value: float | None) -> str:
    """A duration in seconds, from two minutes on in minutes."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value / 60:.1f} min" if value >= 120 else f"{_significant(value)} s"


def watts(value: float | None) -> str:
    """A power."""
    return MISSING if value is None or not math.isfinite(value) else f"{_significant(value)} W"


def millijoules(value: float | None) -> str:
    """An energy that is given in millijoules; from a thousand on in joules."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{_significant(value / 1000)} J" if value >= 1000 else f"{_significant(value)} mJ"


def difference(value: float | None) -> str:
    """A plain number of unknown scale, such as an output difference, to three significant digits."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.3g}".replace("-", MINUS)


def limit(name: str, value: float | None, unit: str = "") -> str:
    """A limit of the gate, or the value held against it, in the unit given or else told by the limit's name."""
    kind = (unit or name.rsplit("_", 1)[-1]).lower()
    if value is None or not math.isfinite(value):
        return MISSING
    if kind == "ms":
        return f"{_plain(value)} ms" if _is_round(value) else milliseconds(value)
    if kind in {"kb", "kib"}:
        return f"{_plain(value)} KB" if _is_round(value) else size(value * KB)
    if kind in {"mb", "mib"}:
        return f"{_plain(value)} MB" if _is_round(value) else size(value * MB)
    if kind in {"b", "byte", "bytes"}:
        return size(value)
    if kind in {"pt", "points"}:
        return f"{_plain(value)} pt"
    if kind in {"%", "percent"}:
        return f"{_plain(value)} %"
    if kind in {TIMES, "x", "speedup"}:
        return ratio(value)
    if "drop" in name:
        return f"{_plain(100 * value)} pt"
    if kind in {"fraction", "accuracy", "agreement"}:
        return percent(value)
    return f"{_plain(value)} {unit}".strip()


def latency_unit(largest_ms: float) -> tuple[float, str]:
    """What milliseconds are multiplied by on an axis that ends at ``largest_ms``, and the unit that gives."""
    return (1000.0, "µs") if largest_ms < 0.1 else (1.0, "ms")


def size_unit(largest_bytes: float) -> tuple[float, str]:
    """What bytes are multiplied by on an axis that ends at ``largest_bytes``, and the unit that gives."""
    return (1 / MB, "MB") if largest_bytes >= MB else (1 / KB, "KB")


def ticks(values: Sequence[float], *, even: bool = True) -> tuple[str, ...]:
    """The numbers beside ticks in the unit of their axis; with ``even`` spacing all get the same decimals."""
    texts = [f"{round(value, 9):,.10g}" for value in values]
    if even:
        decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
        texts = [f"{value:,.{decimals}f}" for value in values]
    return tuple(text.replace("-", MINUS) for text in texts)


def _significant(value: float, digits: int = 3) -> str:
    """``value`` to ``digits`` significant digits, but never with a digit before the point rounded away."""
    if value == 0:
        return "0"
    exponent = int(f"{abs(value):.{digits - 1}e}".rsplit("e", 1)[1])
    return f"{value:,.{max(0, digits - 1 - exponent)}f}".replace("-", MINUS)


def _in_unit(duration_ms: float) -> tuple[float, str]:
    """What milliseconds are multiplied by to be read easily, and the unit that gives."""
    if abs(duration_ms) >= 10_000:
        return 0.001, "s"
    return (1000.0, "µs") if duration_ms and abs(duration_ms) < 0.1 else (1.0, "ms")


def _honest_decimals(value: float, edges: tuple[int, ...]) -> int:
    """One decimal, or as many (four at most) as keep ``value`` from looking like one of the ``edges`` it is not."""
    return next((digits for digits in (1, 2, 3) if round(value, digits) not in edges), 4)


def _is_round(value: float) -> bool:
    """Whether somebody may have typed ``value``: such a number is shown as typed."""
    return value == round(value, 2)


def _plain(value: float) -> str:
    return f"{round(value, 2):,.10g}".replace("-", MINUS)


def layer_difference(found: LayerDifference) -> str:
    """``conv_1 (operator 4, CONV_2D): 1 step, 0.12 % of its values``."""
    where = found.layer or found.tensor or "a layer"
    worst = difference(found.max_abs_diff) if found.steps is None else f"{found.steps:.3g} steps"
    return f"{where} (operator {found.op}, {found.type}): {worst} at most, {percent(1 - found.identical)} of its values"
