"""What measuring in turns looks like on disturbed machines: log latencies of 2 x rounds blocks, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Draw = np.random.Generator

STEADY = 0.01  # spread of blocks that nobody disturbs


def _heavy_tails(draw: Draw, count: int) -> np.ndarray:
    return 0.03 * draw.standard_t(2, count)


def _spikes(draw: Draw, count: int) -> np.ndarray:
    return 0.08 * draw.lognormal(0, 1, count)


def _drift(draw: Draw, count: int) -> np.ndarray:
    return 0.2 * np.linspace(0, 1, count) ** draw.choice([0.5, 1, 3])


def _walk(draw: Draw, count: int) -> np.ndarray:
    return np.cumsum(draw.normal(0, 0.02, count))


def _autoregressive(draw: Draw, count: int, memory: float = 0.7) -> np.ndarray:
    made = np.empty(count)
    value = draw.normal(0, 0.05 / np.sqrt(1 - memory**2))
    for place in range(count):
        made[place] = value
        value = memory * value + draw.normal(0, 0.05)
    return made


def _switching(draw: Draw, count: int, quiet: float, busy: float) -> np.ndarray:
    """Ones while a neighbour works, for ``busy`` blocks on average with ``quiet`` between."""
    lengths = draw.geometric(1 / np.array([quiet, busy]), (count, 2)).ravel()
    start = draw.integers(2 * int(quiet + busy))
    return (np.repeat(np.arange(lengths.size) % 2, lengths)[start : start + count]).astype(float)


def _bursts(draw: Draw, count: int) -> np.ndarray:
    return _switching(draw, count, 8, 4) * np.abs(draw.normal(0.4, 0.25, count))


def _steps(draw: Draw, count: int) -> np.ndarray:
    return 0.25 * _switching(draw, count, 20, 20)


NOISE: dict[str, Callable[[Draw, int], np.ndarray]] = {
    "quiet": lambda draw, count: np.zeros(count),
    "heavy tails": _heavy_tails,
    "spikes": _spikes,
    "drift": _drift,
    "walk": _walk,
    "autoregressive": _autoregressive,
    "bursts": _bursts,
    "frequency steps": _steps,
}


def session(noise: str, rounds: int, ratio: float, draw: Draw) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Block medians in milliseconds of two variants measured in turns, the second ``ratio`` times as slow as the first."""
    logs = NOISE[noise](draw, 2 * rounds) + draw.normal(0, STEADY, 2 * rounds)
    first, second = np.exp(logs[::2]), ratio * np.exp(logs[1::2])
    return tuple(map(float, first)), tuple(map(float, second))
