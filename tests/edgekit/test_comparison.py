"""Which variant is chosen, and whether what is said of it is true."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import AccuracyFacts, BoardFacts, LatencyFacts, RuntimeFacts, SessionFacts
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.candidate import Candidate
from edgekit.comparison import DEFAULT_DROP, Limits, compare_candidates
from edgekit.errors import UsageError
from edgekit.records import Comparison, Evaluation, LayerDifference, Parity, Variant

RUNTIME = RuntimeFacts("litert", "2.3", "xnnpack", 1)


def candidate(
    name: str,
    accuracy: float | None = 0.98,
    median_ms: float | None = 1.0,
    size: int = 1000,
    *,
    spread: float = 0.0,
    data: str = "d",
    source: str = "s",
    **report: Any,
) -> Candidate:
    """A variant with these figures; ``spread`` widens its samples around the median."""
    evaluation = None if accuracy is None else Evaluation(name, 10_000, accuracy, data_sha256=data)
    if median_ms is None:
        return Candidate(Variant(name, name, size_bytes=size, source={"sha256": source}), evaluation)
    samples = tuple(median_ms * (1 + spread * (i - 10) / 10) for i in range(21))
    facts = BenchmarkReport(latency=LatencyFacts(count=21, median_ms=median_ms, samples_ms=samples), runtime=RUNTIME)
    variant = Variant(name, name, size_bytes=size, source={"sha256": source})
    return Candidate(variant, evaluation, replace(facts, **report))


def chosen(*candidates: Candidate, baseline: str | None = None, **limits: float) -> Comparison:
    """The comparison under these limits."""
    return compare_candidates(candidates, baseline=baseline, limits=Limits(**limits))


FLOAT = candidate("float32", 0.98, 10.0, 4000)


def test_the_fastest_that_keeps_its_accuracy_is_chosen() -> None:
    """A faster one that loses more than a point is passed over, and the reason says so."""
    found = chosen(FLOAT, candidate("int8", 0.975, 2.0, 1000), candidate("tiny", 0.9, 1.0, 500))

    assert found.choice == "int8"
    assert found.reason == (
        "5.0× faster than float32 (2.00 ms instead of 10.0 ms), 4.0× smaller, 0.5 pt less accurate "
        "(97.5 % instead of 98.0 %); tiny: loses more than 1.0 pt of accuracy"
    )
    assert [(line.name, line.rank) for line in found.variants] == [("int8", 1), ("tiny", 2), ("float32", 3)]


def test_the_same_accuracy_is_called_the_same() -> None:
    """Not a change of 0 points."""
    found = chosen(FLOAT, candidate("int8", 0.98, 2.0, 1000))

    assert (
        found.reason
        == "5.0× faster than float32 (2.00 ms instead of 10.0 ms), 4.0× smaller, the same accuracy (98.0 %)"
    )


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (candidate("int8", 0.99, 2.0, 8000), ("2.0× larger", "1.0 pt more accurate (99.0 % instead of 98.0 %)")),
        (candidate("int8", 0.98, 2.0, 4000), ("of the same size",)),
        (candidate("int8", 0.98, 10.05, 1000), ("as fast as float32 (10.1 ms instead of 10.0 ms)", "4.0× smaller")),
    ],
)
def test_the_reason_says_what_changed(other: Candidate, words: tuple[str, ...]) -> None:
    """Larger, better, or no faster: each is said as it is."""
    found = chosen(FLOAT, other)

    assert found.choice == "int8"
    assert all(word in found.reason for word in words)


def test_a_tie_goes_to_the_smaller() -> None:
    """Within three per cent, or with overlapping confidence intervals of the median."""
    within = chosen(FLOAT, candidate("a", median_ms=1.0, size=2000), candidate("b", median_ms=1.029, size=1000))
    beyond = chosen(FLOAT, candidate("a", median_ms=1.0, size=2000), candidate("b", median_ms=1.031, size=1000))
    noisy = chosen(
        FLOAT,
        candidate("a", median_ms=1.0, size=2000, spread=0.5),
        candidate("b", median_ms=1.2, size=1000, spread=0.5),
    )

    assert (within.choice, beyond.choice, noisy.choice) == ("b", "a", "b")
    assert within.reason.endswith("; a: is faster by no more than the noise, and not smaller")


def test_the_baseline_may_win_and_says_why() -> None:
    """Where everything else is slower or loses too much."""
    found = chosen(FLOAT, candidate("float16", 0.98, 12.0, 2000), candidate("int8", 0.9, 2.0, 1000))
    alone = chosen(FLOAT)

    assert found.choice == "float32"
    assert found.reason == (
        "it is the baseline itself, and nothing better was found: int8: loses more than 1.0 pt of accuracy"
    )
    assert "slower here than float32: float16" in found.caveats
    assert alone.reason == "there is no other variant to compare it with"
    assert chosen(FLOAT, candidate("f", 0.98, 12.0, 5000)).reason.endswith("as fast and smaller")


@pytest.mark.parametrize(
    ("limits", "names", "message"),
    [
        ({"max_drop": 0.001}, {"int8"}, "int8: accuracy lost 0.5 pt, over the limit of 0.1 pt"),
        ({"max_latency_ms": 3.0}, {"float32"}, "float32: median latency 10 ms, over the limit of 3 ms"),
        ({"max_size_kb": 2.0}, {"float32"}, "float32: size 3.91 KB, over the limit of 2 KB"),
    ],
)
def test_each_limit_says_who_misses_it(limits: dict[str, float], names: set[str], message: str) -> None:
    """With value and limit in the units of the option."""
    found = chosen(FLOAT, candidate("int8", 0.975, 2.0, 1000), **limits)

    assert {failure.variant for failure in found.gate.failures} == names
    assert [failure.message for failure in found.gate.failures] == [message]
    assert found.gate.passed
    assert found.choice not in names
    assert found.gate.limits == limits


@pytest.mark.parametrize(("limits", "what"), [({"max_drop": 0.01}, "accuracy"), ({"max_latency_ms": 100.0}, "latency")])
def test_what_was_not_measured_misses_its_limit(limits: dict[str, float], what: str) -> None:
    """A gate is not passed by not looking."""
    bare = [candidate(name, None, None) for name in ("float32", "int8")]
    found = chosen(*bare, **limits)

    assert not found.gate.passed
    assert found.choice is None
    assert all(f"{what} was not measured" in failure.message for failure in found.gate.failures)
    assert found.reason == "each of the 2 variants misses at least one limit"


def test_a_limit_that_is_exactly_met_is_met() -> None:
    """Also where the difference of two fractions is not exact in binary."""
    for correct in range(900, 1000):
        base, item = candidate("float32", correct / 1000), candidate("int8", (correct - 10) / 1000, 0.5)
        assert chosen(base, item, max_drop=0.01, max_size_kb=1000 / 1024, max_latency_ms=1.0).choice == "int8"


def test_without_a_limit_a_point_may_be_lost() -> None:
    """And not more, however much faster; where all lose more, those that lose least stand in."""
    small, large = candidate("a", 0.98 - DEFAULT_DROP), candidate("b", 0.98 - DEFAULT_DROP - 0.001, 0.1)
    stuck = chosen(
        candidate("float32", 0.98, 10.0, 4000), candidate("c", 0.95), candidate("d", 0.94, 0.1), max_size_kb=2
    )

    assert chosen(FLOAT, small, large).choice == "a"
    assert stuck.choice == "c"
    assert "3.0 pt less accurate" in stuck.reason


def test_an_unknown_baseline_is_an_error_with_a_suggestion() -> None:
    """It does not quietly become another one."""
    with pytest.raises(UsageError, match="unknown baseline 'flaot32'; did you mean 'float32'"):
        chosen(FLOAT, baseline="flaot32")


def test_the_baseline_is_float32_or_else_the_largest() -> None:
    """Whatever the order."""
    others = [candidate("a", size=10), candidate("b", size=30), candidate("c", size=20)]

    assert chosen(*others).baseline == "b"
    assert chosen(*others, FLOAT).baseline == "float32"
    assert chosen(*others, baseline="a").baseline == "a"


def test_nothing_is_compared_across_data() -> None:
    """Accuracies of two data sets have no difference; the reason and a caveat say so."""
    found = chosen(FLOAT, candidate("int8", 0.97, 2.0, data="other"), max_latency_ms=5)

    assert found.variants[0].drop is None
    assert "accuracy not compared" in found.reason
    assert any("different data" in caveat for caveat in found.caveats)
    assert chosen(FLOAT, candidate("int8", 0.97, 2.0, data="other")).choice == "float32"


def test_the_device_s_accuracy_comes_first() -> None:
    """Where both ran on the device and the same data, that is the difference."""
    on_device = [
        replace(item, report=replace(item.report, accuracy=AccuracyFacts(value, 1, 2, "x")))  # type: ignore[type-var]
        for item, value in ((candidate("float32", 0.5, 9.0), 0.9), (candidate("int8", 0.5, 2.0), 0.895))
    ]
    found = chosen(*on_device)

    assert found.variants[0].accuracy == 0.895
    assert found.variants[0].drop == pytest.approx(0.005)


def test_without_accuracy_or_latency_the_smallest_is_chosen() -> None:
    """And the reason says what is missing."""
    found = chosen(*(candidate(name, None, None, size) for name, size in (("float32", 4000), ("int8", 1000))))

    assert found.choice == "int8"
    assert found.reason == (
        "compared with float32 (latency was not measured for both), 4.0× smaller, "
        "accuracy not compared (not measured for both on the same data)"
    )
    assert [caveat.split(" for ")[0] for caveat in found.caveats] == [
        "latency was not measured",
        "accuracy was not measured",
    ]
    assert found.measured_on == {}


def test_data_without_classes_is_said_to_have_none() -> None:
    """An evaluation without accuracy is not answered with "evaluate it"."""
    found = chosen(replace(FLOAT, evaluation=Evaluation("float32", 3, mean_absolute_error=0.1)))

    assert any("no class labels" in caveat for caveat in found.caveats)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"runtime": replace(RUNTIME, name="tflite")}, "different runtimes"),
        ({"runtime": replace(RUNTIME, threads=4)}, "different thread counts"),
        ({"board": BoardFacts(model="another")}, "different boards"),
        ({"board": BoardFacts(governor="powersave")}, "different governors"),
        ({"source": "t"}, "different models"),
    ],
)
def test_a_mixed_comparison_carries_a_caveat(change: dict[str, Any], what: str) -> None:
    """What was not measured alike is not comparable."""
    assert any(what in caveat for caveat in chosen(FLOAT, candidate("int8", **change)).caveats)
    assert not any("different" in caveat for caveat in chosen(FLOAT, candidate("int8")).caveats)


def test_every_line_says_how_its_latency_stands_to_the_baseline_s() -> None:
    """Faster, slower, no difference or not comparable, with the interval and the reason; the baseline says nothing."""
    found = chosen(
        FLOAT,
        candidate("int8", 0.98, 2.0),
        candidate("float16", 0.98, 12.0),
        candidate("same", 0.98, 10.1),
        candidate("other", 0.98, 9.0, runtime=replace(RUNTIME, threads=4)),
        candidate("untimed", 0.98, None),
    )
    lines = {line.name: line for line in found.variants}

    assert {name: line.verdict for name, line in lines.items()} == {
        "float32": "",
        "int8": "faster",
        "float16": "slower",
        "same": "no difference",
        "other": "not comparable",
        "untimed": "",
    }
    assert lines["int8"].ratio == pytest.approx(0.2)
    assert (lines["int8"].ratio_low, lines["int8"].ratio_high) == pytest.approx((0.2 / 1.03, 0.2 * 1.03))
    assert (lines["int8"].median_low_ms, lines["int8"].median_high_ms) == (2.0, 2.0)
    assert lines["other"].verdict_reason == "different thread counts (1 and 4)"
    assert (lines["other"].speedup, lines["other"].ratio) == (None, None)


def test_a_choice_on_latencies_that_do_not_compare_is_said_to_be_one() -> None:
    """In the reason and, once, in a caveat with the cause."""
    other = replace(RUNTIME, name="tflite", version="2.14")
    against_base = chosen(FLOAT, candidate("int8", 0.98, 2.0, runtime=other))
    against_another = chosen(FLOAT, candidate("a", 0.98, 2.0), candidate("b", 0.98, 1.0, runtime=other))

    assert against_base.choice == "int8"
    assert "in 2.00 ms where float32 took 10.0 ms, which is not comparable" in against_base.reason
    assert any(text.startswith("int8: latency not comparable with float32's") for text in against_base.caveats)
    assert against_another.choice == "b"
    assert "in 1.00 ms where float32 took 10.0 ms, which is not comparable" in against_another.reason
    assert (
        sum("b: latency not comparable with float32's: different runtimes" in it for it in against_another.caveats) == 1
    )


def test_why_latencies_do_not_compare_is_said_once() -> None:
    """In one caveat for all that do not, with whose a cause is where it is not everybody's."""
    other, more = replace(RUNTIME, version="2.4"), replace(RUNTIME, version="2.4", threads=2)
    found = chosen(FLOAT, candidate("a", runtime=other), candidate("b", runtime=more), candidate("c", median_ms=12.0))
    (caveat,) = (text for text in found.caveats if "not comparable with float32's" in text)

    assert caveat == (
        "a, b: latency not comparable with float32's: different runtimes (litert 2.3 and litert 2.4); "
        "different thread counts (1 and 2) for b. Measure them together: edgekit bench RUN"
    )


def test_measured_in_turns_a_smaller_difference_tells() -> None:
    """2.5 % is within the noise of two sessions, and beyond that of one."""
    base, item = candidate("float32", 0.98, 10.0, 4000), candidate("int8", 0.98, 9.75, 5000)
    turns = [
        replace(it, report=replace(it.report, session=SessionFacts("s", place, 2, (it.median_ms,) * 20)))  # type: ignore[type-var, arg-type]
        for place, it in enumerate((base, item))
    ]

    assert chosen(base, item).choice == "float32"
    assert chosen(*turns).choice == "int8"
    assert chosen(*turns).reason.startswith("faster than float32 (9.75 ms instead of 10.0 ms)")


def test_noise_is_no_speed() -> None:
    """Medians a fifth apart with intervals that overlap: as fast within the noise."""
    found = chosen(candidate("float32", 0.98, 1.0, 2000, spread=0.9), candidate("int8", 0.98, 1.2, 1000, spread=0.9))

    assert found.choice == "int8"
    assert found.reason.startswith("as fast as float32 within the noise (1.20 ms instead of 1.00 ms)")


def test_an_emulated_variant_has_no_latency() -> None:
    """And is not told to be measured like one that was not."""
    emulated = replace(FLOAT, report=BenchmarkReport(board=BoardFacts(emulator="qemu")))  # type: ignore[type-var]
    found = chosen(emulated, candidate("int8", 0.98, 2.0))

    assert not any("latency was not measured" in text for text in found.caveats)
    assert any("qemu" in text and "no latency" in text for text in found.caveats)


def test_few_samples_carry_a_caveat() -> None:
    """One sample of 200 is half a point."""
    few = replace(FLOAT, evaluation=Evaluation("float32", 200, 0.98, data_sha256="d"))

    assert "accuracy is measured on 200 samples: one of them is 0.5 pt" in chosen(few).caveats


@pytest.mark.parametrize(
    "limits",
    [
        {"max_drop": 1.5},
        {"max_drop": float("nan")},
        {"max_latency_ms": 0.0},
        {"max_latency_ms": float("inf")},
        {"max_size_kb": -1.0},
        {"max_size_kb": float("nan")},
    ],
)
def test_limits_nobody_can_mean_are_refused(limits: dict[str, float]) -> None:
    """Before anything is compared."""
    with pytest.raises(UsageError, match="expected --max-"):
        Limits(**limits)


FIGURES = st.tuples(st.sampled_from([None, 0.5, 0.9, 0.95]), st.sampled_from([None, 1.0, 2.0, 3.0]), st.integers(1, 4))


@settings(deadline=None, max_examples=200)
@given(st.lists(FIGURES, min_size=1, max_size=7))
def test_the_front_is_what_no_other_beats(figures: list[tuple[float | None, float | None, int]]) -> None:
    """Against brute force: a point is off the front when another is nowhere worse and somewhere better."""
    candidates = [candidate(f"v{i}", *values) for i, values in enumerate(figures)]

    def costs(values: tuple[float | None, float | None, int]) -> tuple[float, float, float]:
        accuracy, latency, size = values
        return (9.0 if accuracy is None else 1 - accuracy, 99.0 if latency is None else latency, size)

    beaten = set()
    for (i, mine), (_, other) in itertools.product(enumerate(map(costs, figures)), repeat=2):
        if all(a <= b for a, b in zip(other, mine, strict=True)) and any(
            a < b for a, b in zip(other, mine, strict=True)
        ):
            beaten.add(f"v{i}")
    found = compare_candidates(candidates)

    assert set(found.front) == {item.name for item in candidates} - beaten
    assert {line.name for line in found.variants if line.on_front} == set(found.front)


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_the_variants_does_not_matter(seed: int) -> None:
    """Choice, ranks and reason are the same for every order they are given in."""
    draw = random.Random(seed)
    items = [
        candidate(f"v{i}", draw.choice([0.97, 0.98]), draw.choice([1.0, 1.01, 5.0]), draw.choice([10, 20]))
        for i in range(5)
    ]
    first = compare_candidates(items, baseline="v0")
    draw.shuffle(items)
    second = compare_candidates(items, baseline="v0")

    assert (first.choice, first.variants) == (second.choice, second.variants)


def test_a_device_that_answers_otherwise_is_told_with_the_layer() -> None:
    """A caveat names how many samples, and where the two part; equal answers need none."""
    where = LayerDifference(4, "CONV_2D", "stem/conv", "t", 0.75, 0.1, 2.0)
    parted = replace(candidate("int8"), parity=Parity("int8", 200, 0.9, 0.1, 0.985, first_difference=where))
    same = replace(candidate("float16", size=900), parity=Parity("float16", 200, 0.9, 1e-7, 1.0))

    told = [text for text in chosen(FLOAT, parted, same).caveats if "another answer" in text]
    assert told == [
        "int8: the device gives another answer than the host for 1.5 % of the samples; they part at stem/conv "
        "(operator 4, CONV_2D): 2 steps at most, 25.0 % of its values"
    ]
