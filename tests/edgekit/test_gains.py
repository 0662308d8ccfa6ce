"""What a recipe brings is held against the same precision without it, on what was measured."""

from __future__ import annotations

import io

import numpy as np
import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import LatencyFacts
from rich.console import Console

from edgekit.candidate import Candidate
from edgekit.comparison import compare_candidates
from edgekit.gains import counterpart, gains, nothing_gained
from edgekit.records import Evaluation, Variant
from edgekit.render import render_html, render_text


def _candidate(
    name: str,
    *,
    precision: str = "int8",
    size: int = 1000,
    zipped: int = 900,
    ms: float | None = 1.0,
    accuracy: float = 0.9,
) -> Candidate:
    report = None
    if ms is not None:
        samples = (ms * np.random.default_rng(0).normal(1, 0.001, 200)).tolist()
        report = BenchmarkReport(latency=LatencyFacts(count=200, median_ms=ms, samples_ms=tuple(samples)))
    evaluation = Evaluation(name, 100, accuracy=accuracy, data_sha256="d")
    return Candidate(Variant(name, name, precision=precision, size_bytes=size, zipped_bytes=zipped), evaluation, report)


def _column(text: str, title: str) -> list[str]:
    """The rows of a table, each cut off behind the column ``title``, which is as wide as its widest cell."""
    lines = text.splitlines()
    head = next(number for number, line in enumerate(lines) if title in line)
    end = lines[head].index(title) + len(title)
    return [line[:end] for line in lines[head + 2 :] if line[:1] in "★◆ "]


BASE = _candidate("float32", precision="float32", size=4000, zipped=3600, ms=2.0)
INT8 = _candidate("int8")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({"zipped": 450}, ("zip",)),
        ({"size": 500, "zipped": 450, "ms": 0.5}, ("size", "zip", "latency")),
        ({"accuracy": 0.99}, ("accuracy",)),
        ({"accuracy": 0.92}, ()),
        ({}, ()),
        ({"size": 995, "zipped": 895, "ms": 0.98}, ()),
        ({"ms": 1.5, "accuracy": 0.8}, ()),
    ],
)
def test_gains_are_differences_beyond_the_noise(made: dict[str, float], expected: tuple[str, ...]) -> None:
    """One percent of size, three of latency, and two more right answers of a hundred are none."""
    assert gains(_candidate("prune75-int8", **made), INT8) == expected  # type: ignore[arg-type]


def test_a_recipe_is_held_against_its_own_precision_where_the_run_has_it() -> None:
    """Else against the baseline; a mixed model against int8; the baseline against nothing."""
    pruned = _candidate("prune75-int8")
    mixed = _candidate("int8-keep2", precision="mixed-int8")
    every = [BASE, INT8, pruned, mixed]

    assert counterpart(pruned, every, BASE) is INT8
    assert counterpart(mixed, every, BASE) is INT8
    assert counterpart(INT8, every, BASE) is BASE
    assert counterpart(pruned, [BASE, pruned], BASE) is BASE
    assert counterpart(BASE, every, BASE) is None


def test_pruning_that_only_zips_better_is_said_to_do_only_that() -> None:
    """In the table and in the verdict."""
    comparison = compare_candidates([BASE, INT8, _candidate("prune75-int8", zipped=450)])

    line = next(item for item in comparison.variants if item.name == "prune75-int8")
    assert (line.against, line.gains) == ("int8", ("zip",))
    out = io.StringIO()
    render_text(comparison, Console(file=out, width=160))
    assert any("prune75-int8" in row and row.rstrip().endswith("zip") for row in _column(out.getvalue(), "brings"))
    assert any(
        "prune75-int8 brings only a smaller download (0.50× zipped) over int8: the same size, no faster here" in text
        for text in comparison.caveats
    )


def test_a_recipe_without_any_gain_is_said_to_bring_nothing() -> None:
    """Also where its latency was not measured, which is said."""
    useless = _candidate("prune2of4-int8", ms=None)
    page = render_html(compare_candidates([BASE, INT8, useless]))
    assert page.count(">brings nothing<") == 1

    assert list(nothing_gained([BASE, INT8, useless], BASE)) == [
        "prune2of4-int8 brings nothing over int8: the same size, raw and zipped, latency not measured for both, no more "
        "accurate"
    ]
