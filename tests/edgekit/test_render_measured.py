"""Conditions, curves, cold starts, energy, operators and trials as people see them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from edgekit_device.report import (
    BenchmarkReport,
    BoardFacts,
    ConditionsFacts,
    EnergyFacts,
    LatencyFacts,
    OperatorTime,
    ProfileFacts,
    SessionFacts,
    SustainedFacts,
    TuningFacts,
    TuningTrial,
)

from edgekit.render import figures, render_html, render_markdown
from edgekit.render.conditions import board_line, conditions_rows, moments, noise_line
from edgekit.render.curve import sustained_curve
from tests.edgekit.test_render import HOSTILE, Page, comparison, report

BEFORE = ConditionsFacts("ondemand", 1500.0, 1800.0, 48.2, "none", "", 0.31, 0.04, (), 2890.0, 0.0)
AFTER = ConditionsFacts("ondemand", 1800.0, 1800.0, 66.5, "throttled", "", 1.2, 0.52, ("Xorg",), 2840.0, 3.0)
TIMES = tuple(float(second) for second in range(5, 605, 5))
HOT = SustainedFacts(
    600.0, TIMES, tuple(np.linspace(10, 12, 120)), tuple(np.linspace(48, 81, 120)), (1500.0,) * 120, 1.2
)


def measured(**changes: object) -> BenchmarkReport:
    """A report with all that a board may tell."""
    base = replace(
        report(10.0, 200),
        before=BEFORE,
        after=AFTER,
        session=SessionFacts("s", 0, 3, (10.0,) * 20, 0.013),
        sustained=HOT,
        energy=EnergyFacts("ina219", 2.7, 6.1, 58.06),
        profile=ProfileFacts(
            "the profiler",
            10.0,
            tuple(OperatorTime(place, "CONV_2D", f"layer_{place}", 0.1 + place, 0.01 * place) for place in range(25)),
        ),
        tuning=TuningFacts(
            (TuningTrial("litert", "2.3", "xnnpack", 4, 10.0), TuningTrial("tflite", "2.14", "", 1, None, "no"))
        ),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def page_of(*reports: BenchmarkReport) -> Page:
    """The page of a comparison whose first variant has these reports."""
    return Page(render_html(comparison("int8", "float32", reports=tuple(("int8", it) for it in reports))))


def test_a_board_is_shown_before_and_after() -> None:
    """As a table, and as one line without what does not matter."""
    rows = {row[0]: row[1:] for row in moments(measured())}

    assert rows["temperature"] == ("48 °C", "66 °C")
    assert rows["frequency"] == ("1,500 MHz", "1,800 MHz")
    assert rows["other processes"] == ("0.0 cores", "0.5 cores (Xorg)")
    assert rows["free memory"] == ("2,890 MB", "2,840 MB")
    assert board_line(measured()) == (
        "ondemand, 1,500 MHz → 1,800 MHz, 48 °C → 66 °C, throttled: none → throttled, others on 0.0 cores → 0.5 cores (Xorg), "
        "0 B → 3.00 MB swapped"
    )
    assert (
        board_line(measured(before=ConditionsFacts(throttling="none"), after=ConditionsFacts(throttling="none"))) == ""
    )
    assert board_line(BenchmarkReport()) == ""
    assert moments(BenchmarkReport()) == ()


def test_the_noise_of_a_measurement_is_one_line() -> None:
    """How many, why it ended, in whose company, against itself."""
    latency = LatencyFacts(count=3120, stop="narrow", warmup_stable=False)

    assert noise_line(measured(latency=latency)) == (
        "3,120 inferences (until the interval was narrow), in turns with 2 others, against itself within 1.3 %, "
        "warm-up never settled"
    )
    assert noise_line(BenchmarkReport(latency=LatencyFacts(count=50, stop="count"))) == "50 inferences"


def test_conditions_of_several_reports_stand_side_by_side() -> None:
    """Under a head; what none tells is left out."""
    head, *rows = conditions_rows([measured(), BenchmarkReport()], ("baseline", "now"))
    titles = [row[0] for row in rows]

    assert head == ("", "baseline", "now")
    assert all(len(row) == 3 for row in rows)
    assert "temperature" in titles
    assert "since it was started" not in titles


@pytest.mark.parametrize("width", [400.0, 860.0])
def test_a_sustained_run_is_a_curve_inside_its_panels(width: float) -> None:
    """Latency, temperature and frequency, every point within its plot, one above the other, in time's order."""
    curve = sustained_curve(HOT, width)

    assert curve is not None
    assert [panel.axis.title for panel in curve.panels] == [
        "Median latency (ms)",
        "Temperature (°C)",
        "Frequency (MHz)",
    ]
    for panel, below in zip(curve.panels, [*(it.plot.y for it in curve.panels[1:]), curve.height], strict=True):
        points = [tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", panel.path)]
        assert len(points) == 120
        assert points == sorted(points, key=lambda point: point[0])
        assert all(
            panel.plot.x <= x <= panel.plot.right + 0.1 and panel.plot.y <= y <= panel.plot.bottom for x, y in points
        )
        assert panel.plot.bottom < below
    assert curve.x.title == "Time (min)"
    assert curve.full == (
        "10.0 min without a pause, medians from 10.0 ms to 12.0 ms, from 48 °C to 81 °C, the end +20.0 % against the beginning"
    )


def test_a_curve_has_only_the_panels_that_were_told() -> None:
    """A board without sensors has one; a run that was cut short none."""
    bare = sustained_curve(replace(HOT, temperatures_c=(), frequencies_mhz=()), 860)

    assert bare is not None
    assert len(bare.panels) == 1
    assert sustained_curve(SustainedFacts(), 860) is None
    assert sustained_curve(SustainedFacts(1.0, (1.0,), (2.0,)), 860) is None
    assert sustained_curve(SustainedFacts(2.0, (1.0, 2.0), ()), 860) is None


def test_an_even_curve_is_drawn_even() -> None:
    """One per cent of jitter is no mountain: the axis spans a fifth at least."""
    jitter = tuple(10 + 0.1 * (place % 2) for place in range(120))
    curve = sustained_curve(replace(HOT, medians_ms=jitter), 860)

    assert curve is not None
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", curve.panels[0].path)]
    assert max(heights) - min(heights) < 0.1 * curve.panels[0].plot.height


def test_the_page_shows_all_that_a_board_told() -> None:
    """Cold start, steady state, conditions, the curve in both layouts, energy, the ten slowest operators, the trials."""
    page = page_of(measured(latency=replace(measured().latency, import_ms=400.0, warmup_stable=True)))

    for text in (
        "Cold start",
        "Steady latency",
        "Conditions",
        "Without a pause",
        "Energy",
        "Ways to run it",
        "Where the time",
    ):
        assert text in page.text
    assert "417 ms" in page.text  # 400 to import, 12 to load, 5.4 the first
    assert "58.1 mJ" in page.text
    assert page.count("path", class_="course") == 2
    assert page.count("path", class_="course aside") == 4
    assert [f"{place} CONV_2D" in page.text for place in (24, 15, 14)] == [True, True, False]
    assert "none → throttled" not in page.text  # a table has them in two columns


def test_an_emulated_report_shows_no_time() -> None:
    """But says what emulated it."""
    page = page_of(measured(board=BoardFacts(emulator="qemu"), latency=LatencyFacts(), sustained=SustainedFacts()))

    assert "by qemu: no latency" in page.text


def test_hostile_conditions_stay_text() -> None:
    """Names of processes, sources, operators and errors come from a device."""
    hostile = measured(
        after=replace(AFTER, governor=HOSTILE, others=(HOSTILE,), throttling=HOSTILE),
        energy=EnergyFacts(HOSTILE, 1.0),
        profile=ProfileFacts(HOSTILE, 1.0, (OperatorTime(0, HOSTILE, HOSTILE, 1.0, 1.0),)),
        tuning=TuningFacts((TuningTrial(HOSTILE, HOSTILE, HOSTILE, 1, None, HOSTILE),)),
    )
    page = page_of(hostile)
    text = render_markdown(comparison("int8", "float32", reports=(("int8", hostile),)))

    assert page.count("img") == 0
    assert "\x1b" not in page.text
    assert "<img" not in text
    assert re.search(r"[^\\]\]\(http", text) is None


def test_markdown_lists_the_conditions() -> None:
    """A line for each variant that tells any."""
    text = render_markdown(
        comparison("int8", "float32", reports=(("int8", measured()), ("float32", BenchmarkReport())))
    )

    assert "**Conditions**\n\n- int8: 200 inferences, in turns with 2 others" in text
    assert "- float32: 0 inferences" not in text


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (figures.slowdown(1.032), "+3.2 %"),
        (figures.slowdown(0.98), "\N{MINUS SIGN}2.0 %"),
        (figures.slowdown(1.0001), "0.0 %"),
        (figures.slowdown(0.9999), "0.0 %"),
        (figures.slowdown(1.1001), "+10.0 %"),
        (figures.slowdown(12.0), "12\N{MULTIPLICATION SIGN}"),
        (figures.slowdown(None), figures.MISSING),
        (figures.slowdown(-1.0), figures.MISSING),
        (figures.milliseconds_between(1.98, 2.02), "1.98 to 2.02 ms"),
        (figures.milliseconds_between(0.05, 0.2), "50.0 µs to 0.200 ms"),
        (figures.milliseconds_between(2.0, 2.0), "2.00 ms"),
        (figures.milliseconds_between(None, None), figures.MISSING),
        (figures.seconds(12.34), "12.3 s"),
        (figures.seconds(600.0), "10.0 min"),
        (figures.watts(6.1), "6.10 W"),
        (figures.millijoules(58.06), "58.1 mJ"),
        (figures.millijoules(2500.0), "2.50 J"),
    ],
)
def test_figures_of_a_board(shown: str, text: str) -> None:
    """In the units people know."""
    assert shown == text
