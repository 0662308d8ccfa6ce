"""Figures that nothing can have measured are left out before they are compared or drawn."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import LatencyFacts, SustainedFacts
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from edgekit.candidate import Candidate
from edgekit.comparison import compare_candidates
from edgekit.plausible import without_nonsense
from edgekit.records import Variant
from edgekit.render import render_html, render_markdown, render_text
from tests.edgekit.any_reports import REPORTS

SOUND = BenchmarkReport(
    latency=LatencyFacts(3, median_ms=2.0, std_ms=0.0, max_ms=3.0, samples_ms=(1.0, 2.0, 3.0)),
    sustained=SustainedFacts(2.0, (1.0, 2.0), (2.0, 2.1), (-5.0, 40.0)),
)


def test_what_can_be_is_kept() -> None:
    """To the bit; a board may be below zero."""
    assert without_nonsense(SOUND) is SOUND


@pytest.mark.parametrize(
    "change",
    [{"median_ms": 0.0}, {"median_ms": -2.0}, {"max_ms": 1e300}, {"samples_ms": (1.0, 5e-324)}, {"p5_ms": -1.0}],
)
def test_a_latency_that_cannot_be_is_left_out(change: dict[str, Any]) -> None:
    """With a note; the rest of the report stays."""
    found = without_nonsense(replace(SOUND, latency=replace(SOUND.latency, **change)))

    assert found.latency == LatencyFacts()
    assert found.notes == ("its latency was left out: the report holds times that nothing can take",)
    assert found.sustained == SOUND.sustained


def test_a_curve_that_cannot_be_is_left_out() -> None:
    """The latency stays."""
    found = without_nonsense(replace(SOUND, sustained=replace(SOUND.sustained, temperatures_c=(1e300, 40.0))))

    assert (found.sustained, found.latency) == (SustainedFacts(), SOUND.latency)


@settings(deadline=None, max_examples=25)
@given(st.tuples(REPORTS, REPORTS, REPORTS))
def test_whatever_devices_report_is_compared_and_shown(raws: tuple[Any, ...]) -> None:
    """In the terminal, in Markdown and on the page."""
    candidates = [
        Candidate(Variant(name, name, size_bytes=size), None, BenchmarkReport.from_dict(raw))
        for (name, size), raw in zip((("float32", 10), ("int8", 5), ("int4", 3)), raws, strict=True)
    ]
    found = compare_candidates(candidates)

    assert found.choice is not None
    assert "<img" not in render_markdown(found)
    assert "<img" not in render_html(found)
    render_text(found, Console(file=io.StringIO(), width=100))
