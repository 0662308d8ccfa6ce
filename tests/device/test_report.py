"""The report as it crosses the wire: a record that reads anything, and never passes on what it cannot vouch for."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from edgekit_device import BenchmarkReport, ReportError
from edgekit_device.report import (
    SCHEMA,
    AccuracyFacts,
    BoardFacts,
    ConditionsFacts,
    EnergyFacts,
    LatencyFacts,
    MemoryFacts,
    ModelFacts,
    OperatorTime,
    ProfileFacts,
    RuntimeFacts,
    SessionFacts,
    SustainedFacts,
    TuningFacts,
    TuningTrial,
    clean_text,
)
from edgekit_device.stats import summarize
from hypothesis import given
from hypothesis import strategies as st

CONDITIONS = ConditionsFacts(
    "ondemand", 1500.0, 1800.0, 48.3, "throttled", "under-voltage", 1.5, 0.25, ("firefox",), 512.0, 3.0
)
FULL = BenchmarkReport(
    id="a1",
    created="2025-01-01T00:00:00Z",
    model=ModelFacts("ab" * 32, 4321, "int8.tflite"),
    runtime=RuntimeFacts("litert", "2.3.0", "edgetpu", 4, "libedgetpu.so.1", "device=usb:0"),
    latency=dataclasses.replace(
        summarize([3_000_000, 1_000_000, 2_000_000], init_ns=5_000_000, first_ns=4_000_000, warmup_ns=[1, 3]),
        import_ms=300.0,
        warmup_stable=True,
        median_low_ms=1.5,
        median_high_ms=2.5,
        stop="narrow",
    ),
    memory=MemoryFacts(12.5),
    board=BoardFacts(
        "Raspberry Pi 4",
        "Cortex-A72",
        "aarch64",
        4,
        "ondemand",
        1500.0,
        48.3,
        "none",
        3792.0,
        "Linux",
        "3.9",
        "1",
        "0f" * 8,
        "qemu-aarch64",
    ),
    accuracy=AccuracyFacts(0.9, 9, 10, "cd" * 32, "ef" * 32),
    run="0a" * 8,
    variant="int8",
    before=CONDITIONS,
    after=CONDITIONS,
    session=SessionFacts("5e", 1, 2, (2.0, 2.1), 0.01),
    sustained=SustainedFacts(120.0, (1.0, 2.0), (2.0, 3.0), (50.0, 80.0), (1500.0, 600.0), 1.5, "throttled"),
    energy=EnergyFacts("ina219", 2.5, 4.5, 4.0),
    profile=ProfileFacts("litert", 2.0, (OperatorTime(0, "CONV_2D", "conv", 1.5, 0.75),)),
    tuning=TuningFacts((TuningTrial("litert", "2.3.0", "xnnpack", 4, 2.0), TuningTrial("tflite", error="crashed"))),
    notes=("a note",),
)
TEXTS = ["id", "created"]


def test_a_report_comes_back_as_it_went() -> None:
    """Every field survives JSON, also the defaults of an empty report."""
    assert BenchmarkReport.from_json(FULL.to_json()) == FULL
    assert BenchmarkReport.from_json(BenchmarkReport().to_json()) == BenchmarkReport()
    assert all(getattr(FULL, item.name) != item.default for item in dataclasses.fields(FULL) if item.name != "schema")


def test_the_report_has_the_fields_that_others_read() -> None:
    """The names on the wire are a contract: a renamed field is a new schema."""
    raw = json.loads(FULL.to_json())

    assert set(raw) == {
        "schema", "id", "created", "model", "runtime", "latency", "memory", "board", "accuracy", "run", "variant", "before",
        "after", "session", "sustained", "energy", "profile", "tuning", "notes",
    }  # fmt: skip
    assert set(raw["model"]) == {"sha256", "size_bytes", "name"}
    assert set(raw["runtime"]) == {
        "name", "version", "delegate", "threads", "delegate_library", "delegate_options",
    }  # fmt: skip
    assert set(raw["latency"]) == {
        "count", "import_ms", "init_ms", "first_ms", "warmup_count", "warmup_mean_ms", "warmup_stable",
        "mean_ms", "median_ms", "median_low_ms", "median_high_ms", "stop", "std_ms", "min_ms",
        "max_ms", "p5_ms", "p90_ms", "p95_ms", "p99_ms", "samples_kind", "samples_ms",
    }  # fmt: skip
    assert set(raw["memory"]) == {"peak_rss_mb"}
    assert set(raw["board"]) == {
        "model", "cpu", "architecture", "cores", "governor", "frequency_mhz", "temperature_c", "throttling",
        "memory_mb", "system", "python", "numpy", "id", "emulator",
    }  # fmt: skip
    assert set(raw["accuracy"]) == {"accuracy", "correct", "count", "data_sha256", "outputs_sha256"}


def test_unknown_fields_are_ignored() -> None:
    """What a newer device adds does not stop an older host."""
    raw = FULL.to_dict()
    raw["colour"] = "red"
    raw["board"]["fan_rpm"] = 3000

    assert BenchmarkReport.from_dict(raw) == FULL


def test_a_newer_schema_is_noted() -> None:
    """A report of a later schema is read as far as it can be, and says that something is missing."""
    report = BenchmarkReport.from_dict({**FULL.to_dict(), "schema": SCHEMA + 1})

    assert report.schema == SCHEMA + 1
    assert report.latency == FULL.latency
    assert "newer edgekit-device" in report.notes[-1]


@pytest.mark.parametrize("wrong", [None, [], {}, True, "x", {"a": 1}, 1e999, float("nan"), 10**400, [[]]], ids=repr)
def test_values_of_a_wrong_kind_fall_back_to_the_default(wrong: Any) -> None:
    """Each field by itself: a wrong kind gives the field's default, and leaves the others as they came."""
    sections = [item.name for item in dataclasses.fields(FULL) if dataclasses.is_dataclass(getattr(FULL, item.name))]
    for name in sections:
        record = getattr(FULL, name)
        for item in dataclasses.fields(record):
            if isinstance(wrong, str) and item.type == "str":
                continue
            if isinstance(wrong, bool) and item.type == "Optional[bool]":
                continue
            raw = FULL.to_dict()
            raw[name][item.name] = wrong
            read = getattr(BenchmarkReport.from_dict(raw), name)

            assert getattr(read, item.name) == item.default, (name, item.name)
            assert dataclasses.replace(read, **{item.name: getattr(record, item.name)}) == record
    assert BenchmarkReport.from_dict({"schema": 1, "latency": wrong, "notes": wrong}).latency == LatencyFacts()


def test_samples_that_are_no_numbers_are_left_out() -> None:
    """NaN, infinities, texts and huge integers in the list of samples do not reach a figure."""
    text = '{"schema":1,"latency":{"samples_ms":[1.5,NaN,Infinity,"x",null,true,1e999,' + "9" * 400 + ",2]}}"

    assert BenchmarkReport.from_json(text).latency.samples_ms == (1.5, 2.0)


def test_hostile_strings_are_stripped_and_capped() -> None:
    """Escape sequences, line breaks, direction marks and a megabyte of text do not reach a terminal."""
    report = BenchmarkReport.from_dict(
        {
            "schema": 1,
            "board": {"model": "Pi\x1b[31m\n\u202e\u200b 4\x00", "cpu": "x" * 10**6, "governor": "\ud800"},
            "notes": ["n" * 1000, 7, *["m"] * 100],
        }
    )

    assert report.board.model == "Pi [31m 4"
    assert report.board.cpu == "x" * 200
    assert report.board.governor == ""
    assert len(report.notes[0]) == 200
    assert len(report.notes) <= 50


@given(st.text())
def test_clean_text_is_printable_and_settled(text: str) -> None:
    """Whatever came, the result prints, is short, and cleaning it again changes nothing."""
    cleaned = clean_text(text)

    assert cleaned.isprintable()
    assert len(cleaned) <= 200
    assert clean_text(cleaned) == cleaned


@pytest.mark.parametrize(
    "raw",
    [
        "", "null", "[]", "7", "{}", '"report"', '{"schema":0}', '{"schema":"1"}', '{"schema":true}', '{"schema":-1}', "{",
        "[" * 100_000, "[" * 500 + "]" * 500, '{"schema":' * 5_000, "9" * 10_000, "\x00", '{"a\\u001b[31m":1}',
    ],
    ids=lambda raw: raw[:20],
)  # fmt: skip
def test_what_is_no_report_is_a_report_error(raw: str) -> None:
    """Other JSON, no JSON and JSON too deep to read end in one kind of error, fit to print."""
    with pytest.raises(ReportError, match="expected a benchmark report") as caught:
        BenchmarkReport.from_json(raw)

    assert str(caught.value).isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
sections = st.dictionaries(
    st.sampled_from(
        sorted({item.name for r in (FULL.latency, FULL.board, FULL.model) for item in dataclasses.fields(r)})
    ),
    json_values,
)


@given(
    st.fixed_dictionaries(
        {"schema": st.integers(1, 3)},
        optional={
            name: sections | json_values for name in ("model", "latency", "board", "runtime", "accuracy", "notes")
        },
    )
)
def test_anything_read_can_be_written(raw: dict[str, Any]) -> None:
    """Any object with a schema number is read, and what was read is valid JSON that reads the same."""
    report = BenchmarkReport.from_dict(raw)

    assert BenchmarkReport.from_json(report.to_json()).to_dict()["latency"] == report.to_dict()["latency"]


def test_5000_samples_become_a_sketch_whose_quantiles_match() -> None:
    """Above 2,000 samples the report keeps 2,000 quantiles; any quantile of them is one of the samples' neighbours."""
    samples_ms = np.random.default_rng(0).gamma(2, 1, 5000)
    latency = summarize((samples_ms * 1e6).astype(int).tolist())

    assert latency.samples_kind == "sketch"
    assert latency.count == 5000
    assert len(latency.samples_ms) == 2000
    assert list(latency.samples_ms) == sorted(latency.samples_ms)
    for q in (0.05, 0.5, 0.9, 0.95, 0.99):
        # Two neighbouring entries of the sketch are 1/1999 apart in rank.
        low, high = np.quantile(samples_ms, [q - 1 / 1999, q + 1 / 1999])
        assert low - 1e-6 <= np.quantile(latency.samples_ms, q) <= high + 1e-6
    assert latency.median_ms == pytest.approx(np.median(samples_ms), abs=1e-6)


def test_2000_samples_are_all_kept_in_order() -> None:
    """At the cap itself every sample is there, in the order measured."""
    samples = np.random.default_rng(0).integers(1, 10**7, 2000).tolist()
    latency = summarize(samples)

    assert latency.samples_kind == "all"
    assert latency.samples_ms == tuple(sample / 1e6 for sample in samples)
