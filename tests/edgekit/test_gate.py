"""The gate for slowdowns: what fails it, what it says, and what it is held against."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import (
    AccuracyFacts,
    BoardFacts,
    ConditionsFacts,
    LatencyFacts,
    ModelFacts,
    RuntimeFacts,
    SessionFacts,
)
from hypothesis import given, settings

from edgekit.baseline import Baseline, read_baseline
from edgekit.cli.main import main
from edgekit.errors import DeviceError, UsageError
from edgekit.gate import RegressionGate, judge, parse_regression
from edgekit.plain import plain_json
from edgekit.render.bench import bench_lines, gate_lines, session_lines
from edgekit.render.gate_markdown import render_gate_markdown
from edgekit.render.junit import render_junit
from edgekit.store import file_sha256
from tests.edgekit.any_reports import HOSTILE, REPORTS, TEXTS

RUNTIME = RuntimeFacts("litert", "2.3", "xnnpack", 1)
# By the schema that Jenkins' xUnit plugin holds JUnit files against (junit-4.xsd of dtkit): element to its attributes.
JUNIT = {
    "testsuites": {"name", "time", "tests", "failures", "disabled", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"name", "classname", "time", "status", "assertions"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"type", "message"},
    "system-out": set(),
}


def report(median_ms: float, spread: float = 0.01, **changes: Any) -> BenchmarkReport:
    """A session by itself of 30 blocks around ``median_ms``."""
    blocks = median_ms * np.exp(np.random.default_rng(int(1000 * median_ms)).normal(0, spread, 30))
    base = BenchmarkReport(
        created="2026-11-02T10:00:00Z",
        model=ModelFacts(size_bytes=100_000, name="m.tflite"),
        latency=LatencyFacts(
            count=600, median_ms=median_ms, median_low_ms=0.99 * median_ms, median_high_ms=1.01 * median_ms
        ),
        runtime=RUNTIME,
        board=BoardFacts(model="Board 4", cores=4, governor="performance"),
        session=SessionFacts(f"s{median_ms}", 0, 1, tuple(map(float, blocks)), 0.02),
    )
    return replace(base, **changes)


def judged(now: dict[str, BenchmarkReport], before: dict[str, BenchmarkReport], **how: Any) -> RegressionGate:
    """The gate of ``now`` against ``before``."""
    return judge(now, Baseline("base.json", before), **how)


@pytest.mark.parametrize(
    ("median_ms", "outcome", "code"),
    [(1.0, "passed", 0), (1.04, "passed", 0), (1.15, "regressed", 1), (0.8, "passed", 0)],
)
def test_fifteen_per_cent_fail_a_gate_of_five_and_less_than_it_does_not(
    median_ms: float, outcome: str, code: int
) -> None:
    """Faster passes too."""
    found = judged({"int8": report(median_ms)}, {"int8": report(1.0)})

    assert (found.lines[0].outcome, found.exit_code) == (outcome, code)


def test_a_slowdown_that_may_be_within_the_limit_passes_and_says_so() -> None:
    """Eight per cent, of which three may be the board's: slower, but not for certain by more than five."""
    found = judged({"int8": report(1.08, 0.002)}, {"int8": report(1.0, 0.002)})

    assert (found.lines[0].outcome, found.exit_code) == ("passed", 0)
    assert "whether by more than the 5 % allowed is not certain" in found.lines[0].message
    assert judged({"int8": report(1.08, 0.002)}, {"int8": report(1.0, 0.002)}, max_regression=0.02).exit_code == 1


def test_seldom_a_false_alarm_and_seldom_a_miss() -> None:
    """Over 200 pairs of sessions with blocks that vary by 2 %: none fails without a change, nearly all do at 15 %."""
    draw = np.random.default_rng(5)

    def measured(factor: float) -> BenchmarkReport:
        blocks = factor * np.exp(draw.normal(0, 0.01) + draw.normal(0, 0.02, 30))
        return report(factor, session=SessionFacts("", 0, 1, tuple(map(float, blocks))))

    alarms = sum(judged({"m": measured(1.0)}, {"m": measured(1.0)}).exit_code for _ in range(200))
    found = sum(judged({"m": measured(1.15)}, {"m": measured(1.0)}).exit_code for _ in range(200))

    assert alarms == 0
    assert found >= 190


def test_what_does_not_compare_does_not_pass_silently() -> None:
    """Exit 3 and the reason, unless it is allowed; a regression beside it is the stronger."""
    other = report(1.0, runtime=replace(RUNTIME, version="2.4"))
    found = judged({"int8": other}, {"int8": report(1.0)})
    both = judged({"int8": other, "slow": report(2.0)}, {"int8": report(1.0), "slow": report(1.0)})

    assert (found.exit_code, found.lines[0].message) == (
        3,
        "not comparable: different runtimes (litert 2.3 and litert 2.4)",
    )
    assert judged({"int8": other}, {"int8": report(1.0)}, allow_not_comparable=True).exit_code == 0
    assert both.exit_code == 1


def test_new_missing_and_failed_variants_are_said() -> None:
    """New and missing ones fail nothing; a failure has its own exit code."""
    found = judged(
        {"int8": report(1.0), "new": report(1.0)},
        {"int8": report(1.0), "gone": report(1.0), "broken": report(1.0)},
        failures={"broken": DeviceError("it hangs")},
    )

    assert {line.variant: line.outcome for line in found.lines} == {
        "int8": "passed",
        "new": "new",
        "gone": "missing",
        "broken": "failed",
    }
    assert found.exit_code == 0


def test_one_model_against_one_report_needs_no_common_name() -> None:
    """It is said; with more of either, nothing in common is an error."""
    found = judged({"mine": report(2.0)}, {"old": report(1.0)})

    assert (found.exit_code, found.lines[0].variant) == (1, "mine")
    assert found.lines[0].message.endswith("; the baseline calls it old")
    with pytest.raises(UsageError, match="expected a variant of the same name"):
        judged({"mine": report(2.0)}, {"old": report(1.0), "older": report(1.0)})


@pytest.mark.parametrize(
    ("text", "value"),
    [("5%", 0.05), ("0.05", 0.05), (" 7.5 % ", 0.075), ("0%", 0.0), (".5", 0.5), ("0", 0.0), ("120%", 1.2)],
)
def test_a_regression_is_per_cent_or_a_fraction(text: str, value: float) -> None:
    """As people write it."""
    assert parse_regression(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["5", "1", "", "%", "-5%", "five", "nan", "1e-2", "1001%", "5%%", "0,05", "inf"])
def test_what_could_mean_two_things_or_nothing_is_refused(text: str) -> None:
    """Five without a sign is five hundred per cent to some."""
    with pytest.raises(UsageError, match=r"expected --max-regression as 5% or 0\.05"):
        parse_regression(text)


def _many() -> RegressionGate:
    slow = report(1.3, accuracy=AccuracyFacts(0.97, 97, 100), board=BoardFacts(model=HOSTILE, cores=4))
    return judged(
        {
            "int8": slow,
            HOSTILE: report(1.0),
            "other": report(1.0, runtime=replace(RUNTIME, threads=4), after=ConditionsFacts(temperature_c=71.0)),
            "new": report(1.0),
        },
        {
            "int8": report(1.0, accuracy=AccuracyFacts(0.98, 98, 100), board=slow.board),
            HOSTILE: report(1.0),
            "other": report(1.0),
            "gone": report(1.0),
            "broken": report(1.0),
        },
        failures={"broken": DeviceError(HOSTILE)},
    )


def test_junit_has_the_shape_that_ci_reads() -> None:
    """Elements and attributes of the schema, counts that add up, one case a variant, and nothing XML cannot hold."""
    root = ElementTree.fromstring(render_junit(_many(), device="pi4"))
    (suite,) = root
    cases = suite.findall("testcase")
    kinds = {case.get("name"): [child.tag for child in case] for case in cases}

    assert all(set(node.attrib) <= JUNIT[node.tag] for node in root.iter())
    assert [child.tag for child in suite] == ["properties"] + 6 * ["testcase"]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "1",
        "errors": "2",
        "skipped": "1",
    }
    assert (kinds["other"], kinds["gone"], kinds["broken"], kinds["new"]) == (
        ["error"],
        ["skipped"],
        ["error"],
        ["system-out"],
    )
    assert cases[1].get("time") == "0.001000000"
    assert {case.get("classname") for case in cases} == {"edgekit.bench.pi4"}
    properties = {node.get("name"): node.get("value") for node in suite.iter("property")}
    assert (properties["runtime"], properties["threads"], properties["baseline"]) == ("litert 2.3", "1", "base.json")
    assert "</testcase>" in (cases[1].get("name") or "")


def test_what_may_not_compare_is_skipped_in_junit() -> None:
    """So that CI shows it, and stays green."""
    gate = judged(
        {"a": report(1.0, runtime=replace(RUNTIME, threads=2))}, {"a": report(1.0)}, allow_not_comparable=True
    )
    (case,) = ElementTree.fromstring(render_junit(gate)).iter("testcase")

    assert [child.tag for child in case] == ["skipped"]


def test_the_markdown_shows_before_after_change_and_verdict() -> None:
    """A row for each variant with as many cells as the head, accuracy and size beside the latency, conditions folded away."""
    text = render_gate_markdown(_many())
    rows = [line for line in text.split("\n\n")[2].splitlines() if line.startswith("|")]
    cells = [row.replace("\\|", "").count("|") for row in rows]

    assert len(rows) == 2 + 6
    assert len(set(cells)) == 1
    assert "| ❌ | int8 | 1.00 ms | 1.30 ms | +29.9 %" in text
    assert "98.0 % → 97.0 %" in text
    assert "**slower by more than 5 %: int8; not comparable: other; not measured: broken**" in text
    assert text.count("<details>") == text.count("</details>") == 4
    assert "| temperature |  | 71 °C |" in text
    assert "<img" not in text
    assert re.search(r"[^\\]\]\(http", text) is None


def test_the_terminal_says_each_outcome_and_the_verdict_last() -> None:
    """In plain lines."""
    lines = list(gate_lines(_many()))

    assert lines[0] == "against base.json:"
    assert lines[1].startswith("✗ int8         slower: +29.9 %")
    assert lines[-1].startswith("✗ slower by more than 5 %: int8")
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_a_measurement_is_shown_with_its_interval_noise_and_conditions() -> None:
    """And its notes as warnings, once where they hold for all; an emulated one without times."""
    measured = report(
        2.0,
        before=ConditionsFacts(
            governor="performance", frequency_mhz=1500.0, frequency_max_mhz=1800.0, temperature_c=50.0
        ),
        after=ConditionsFacts(
            governor="performance", frequency_mhz=1500.0, frequency_max_mhz=1800.0, temperature_c=58.2
        ),
        session=SessionFacts("s", 0, 3, (2.0,) * 20, 0.013),
        notes=("the disk is nearly full\x1b[31m",),
    )

    other = replace(measured, before=ConditionsFacts(), after=ConditionsFacts())
    assert list(bench_lines("int8", {"int8": measured, "other": other})) == [
        "int8           median  2.00 ms (1.98 to 2.02 ms)  p95        –  first        –",
        "               600 inferences, in turns with 2 others, against itself within 1.3 %; litert 2.3, xnnpack, 1 thread",
        "               performance, 1,500 MHz, 50 °C → 58 °C",
    ]
    assert list(session_lines({"int8": measured, "other": other})) == ["! the disk is nearly full [31m"]
    alone = replace(measured, notes=("its own",))
    assert list(bench_lines("int8", {"int8": alone, "other": measured}))[2:] == ["               ! its own"]
    assert list(session_lines({"int8": alone, "other": measured})) == [
        "the board meanwhile: performance, 1,500 MHz, 50 °C → 58 °C"
    ]
    assert list(session_lines({})) == []
    emulated = replace(measured, board=replace(measured.board, emulator="qemu"), latency=LatencyFacts())
    assert next(bench_lines("int8", {"int8": emulated})) == "int8           emulated by qemu: no latency"


@settings(deadline=None, max_examples=60)
@given(REPORTS, REPORTS, TEXTS)
def test_whatever_a_device_reports_is_judged_and_shown(before: Any, after: Any, name: str) -> None:
    """Numbers beyond sense, texts full of markup: an outcome with a reason, parseable XML, Markdown, and lines; no error."""
    reports = [BenchmarkReport.from_dict(raw) for raw in (before, after)]
    gate = judged({name: reports[1]}, {name: reports[0]})
    root = ElementTree.fromstring(render_junit(gate, device=name))

    assert gate.lines[0].outcome in ("passed", "regressed", "not comparable")
    assert gate.lines[0].message
    assert root.find(".//testcase") is not None
    assert "<img" not in render_gate_markdown(gate)
    assert not any(
        "\n" in line or "\x1b" in line for line in (*gate_lines(gate), *bench_lines(name, {name: reports[1]}))
    )
    json.dumps(plain_json(gate.to_dict()), allow_nan=False)


def _written(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "base.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_a_baseline_is_read_from_all_that_edgekit_writes(tmp_path: Path) -> None:
    """What bench printed, a comparison, one report with and without its request, and a run folder."""
    raw = report(1.0).to_dict()
    shapes: Sequence[tuple[Any, str]] = [
        ({"reports": [{**raw, "variant": "int8"}], "failures": []}, "int8"),
        ({"reports": [["int8", raw]], "variants": []}, "int8"),
        ({"request": {}, "report": raw}, "base"),
        (raw, "m"),
        ({**raw, "variant": "int8"}, "int8"),
    ]
    for value, name in shapes:
        found = read_baseline(_written(tmp_path, value))
        assert list(found.reports) == [name]
        assert found.reports[name].latency == report(1.0).latency
    run = tmp_path / "run"
    (run / "reports").mkdir(parents=True)
    (run / "run.json").write_text('{"kind": "edgekit-run"}')
    (run / "reports" / "int8.json").write_text(json.dumps({"request": {}, "report": raw}))
    assert list(read_baseline(run).reports) == ["int8"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "a JSON list"),
        ({}, "cannot read"),
        ({"reports": []}, "holds no report"),
        ({"reports": [{"schema": 0}]}, "cannot read"),
        ({"reports": [5]}, "cannot read"),
        ({"report": None}, "cannot read"),
    ],
)
def test_what_is_no_baseline_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    """With what was expected."""
    with pytest.raises(UsageError, match=message):
        read_baseline(_written(tmp_path, value))


def test_a_baseline_that_is_no_json_or_no_file_is_refused(tmp_path: Path) -> None:
    """A model in its place, a folder, nothing at all."""
    (tmp_path / "m.tflite").write_bytes(b"\x1c\0\0\0TFL3\xff")
    for path, message in (
        (tmp_path / "m.tflite", "no JSON"),
        (tmp_path, "no run.json"),
        (tmp_path / "x", "No such file"),
    ):
        with pytest.raises(UsageError, match=message):
            read_baseline(path)


def test_a_baseline_of_a_newer_schema_is_read(tmp_path: Path) -> None:
    """As far as it is known, with a note."""
    found = read_baseline(_written(tmp_path, {**report(1.0).to_dict(), "schema": 9, "future": 1}))

    assert "newer edgekit-device" in found.reports["m"].notes[-1]


def test_the_gate_on_the_command_line(
    float_model: Path,
    tmp_path: Path,
    fake_python: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit codes and files, with a device that always measures a millisecond, against baselines of other ones."""
    measured = report(1.0, model=ModelFacts(file_sha256(float_model), name="dense.tflite"))
    monkeypatch.setenv("EDGEKIT_DEVICE_PYTHON", fake_python(f"print({measured.to_json()!r})"))
    codes = {}
    for name, before in {
        "faster": report(0.5),
        "slower": report(2.0),
        "other": report(1.0, runtime=replace(RUNTIME, version="2.4")),
    }.items():
        base = tmp_path / f"{name}.json"
        base.write_text(json.dumps({"reports": [{**before.to_dict(), "variant": "dense"}]}))
        files = ("--markdown", str(tmp_path / f"{name}.md"), "--junit", str(tmp_path / f"{name}.xml"))
        codes[name] = main(["bench", str(float_model), "--against", str(base), *files, "--json"])
        gate = json.loads(capsys.readouterr().out)["gate"]
        assert gate["passed"] == (codes[name] == 0)
        assert gate["lines"][0]["variant"] == "dense"
        assert (tmp_path / f"{name}.md").read_text(encoding="utf-8").startswith("## Latency against")
        assert ElementTree.parse(tmp_path / f"{name}.xml").getroot().tag == "testsuites"
    allowed = main(["bench", str(float_model), "--against", str(tmp_path / "other.json"), "--allow-not-comparable"])

    assert (codes, allowed) == ({"faster": 1, "slower": 0, "other": 3}, 0)
    assert capsys.readouterr().out.splitlines()[-1] == "✓ not comparable: dense (allowed)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-regression", "5%"], "--max-regression judges against a baseline"),
        (["--junit", "x.xml"], "--against B"),
        (["--allow-not-comparable"], "--against B"),
        (["--against", "missing.json"], "cannot read missing.json"),
        (["--against", "missing.json", "--max-regression", "5"], "could be a fraction or per cent"),
        (["--against", "missing.json", "--junit", "nowhere/x.xml"], "make nowhere first"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_measuring(
    float_model: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2."""
    assert main(["bench", str(float_model), *arguments]) == 2
    assert message in capsys.readouterr().err
