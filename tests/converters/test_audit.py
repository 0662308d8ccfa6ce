"""The calibration audit: faults planted in the samples are named, and sound samples are left in peace."""

from __future__ import annotations

import json
from dataclasses import replace
from math import comb

import numpy as np
import pytest
from edgekit_converters.diagnosis.audit import Amount, Audit, TensorAudit, audit
from edgekit_converters.diagnosis.extremes import Extremes, collect_extremes, find_outliers, shares_inside
from edgekit_converters.diagnosis.findings import findings_of
from edgekit_converters.diagnosis.hypotheses import Trial, try_hypotheses
from edgekit_converters.errors import CalibrationError

from tests.converters.layered import CHANNELS, CLASSES, SIDE, images, network

COUNT = 80
NET = network()
MODEL = NET.tflite()
PIXELS = images(COUNT)
LABELS = NET.labels(PIXELS)


def run(values: np.ndarray, labels: np.ndarray | None = LABELS, **more) -> Audit:
    """An audit of these samples."""
    return audit(MODEL, {"x": values}, labels=labels, **more)


def said(found: Audit, topic: str) -> list[tuple[str, str]]:
    """Severity and text of the findings on one topic."""
    return [(item.severity, item.text) for item in found.findings if item.topic == topic]


def test_sound_samples_have_no_problem() -> None:
    """Labels are right as they are, nothing sticks out, and JSON holds it all."""
    found = run(PIXELS, others={"x": images(60, seed=5)})
    assert not [item for item in found.findings if item.severity == "problem"]
    assert not said(found, "preprocessing")
    assert not said(found, "outliers")
    assert [item.name for item in found.inputs] == ["input serving_default_x:0"]
    assert [item.name for item in found.layers] == ["flat", "first", "second", "third", "scores"]
    assert found.preprocessing[0].name == "as it is"
    assert found.preprocessing[0].accuracy == 1.0
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["samples"] == COUNT


def test_ranges_are_those_of_the_samples() -> None:
    """Against numpy: extremes, percentiles, and what the second half of the samples added."""
    second = NET.activations(PIXELS)[1]
    found = {item.name: item for item in run(PIXELS).layers}["second"]
    # float32 kernels against float64 sums
    assert (found.low, found.high) == pytest.approx((second.min(), second.max()), rel=1e-5)
    tails = np.percentile(second, [0.01, 99.99])
    assert found.stretch == pytest.approx((second.max() - second.min()) / (tails[1] - tails[0]), rel=1e-4)
    half = second[: COUNT // 2]
    grown = 1 - (half.max() - half.min()) / (second.max() - second.min())
    assert found.growth == pytest.approx(grown, abs=1e-5)
    assert found.channels == second.shape[1]
    assert found.dead_channels == int(np.sum(second.max(axis=0) == second.min(axis=0)))


def test_a_sample_that_sets_the_ranges_alone_is_named_by_its_row() -> None:
    """One sample thirty times as bright: a problem, with its row number in the user's own data."""
    bright = PIXELS.copy()
    bright[17] *= 30
    found = run(bright, rows=range(1000, 1000 + COUNT))
    (severity, text), *_ = said(found, "outliers")
    assert severity == "problem"
    assert "(1017 in " in text
    assert found.inputs[0].outliers is not None
    assert found.inputs[0].outliers.high_samples == (1017,)
    assert found.inputs[0].outliers.shrink == pytest.approx(1 - PIXELS.max() / bright.max(), abs=0.02)


@pytest.mark.parametrize(
    ("name", "given", "advice"),
    [
        ("divided by 255", PIXELS * 255, "Type --scale 0.00392157"),
        ("times 255", PIXELS / 255, "Type --scale 255"),
        ("from -1..1 to 0..1", PIXELS * 2 - 1, "Type --scale 0.5 --offset 0.5"),
        ("channels reversed (RGB for BGR)", PIXELS[..., ::-1], "Prepare the data like that"),
        ("rows and columns swapped", PIXELS.swapaxes(1, 2), "Prepare the data like that"),
        (
            "channels first, read as channels last",
            np.moveaxis(PIXELS, -1, 1).reshape(PIXELS.shape),
            "Prepare the data like that",
        ),
        ("inverted", 1 - PIXELS, ""),
    ],
)
def test_samples_prepared_otherwise_than_in_training_are_seen_through(
    name: str, given: np.ndarray, advice: str
) -> None:
    """The hypothesis that undoes the fault gives all labels right, and the finding says what to type."""
    found = run(given)
    trials = {trial.name: trial for trial in found.preprocessing}
    # Inverting by the samples' own extremes is off by what they lack of 0 and 1.
    assert trials[name].accuracy == pytest.approx(1.0, abs=0.05)
    (severity, text), *_ = said(found, "preprocessing")
    assert severity == "problem"
    assert f"its input {name}: " in text
    assert advice in text


def test_advice_is_in_terms_of_the_raw_samples() -> None:
    """Samples prepared with --scale 2 that should be divided by 255 want a scale of 2 / 255."""
    found = run(PIXELS * 255, scale=2.0, offset=0.0)
    assert f"Type --scale {2 / 255:.6g}" in said(found, "preprocessing")[0][1]


def test_the_comparison_is_mcnemars_exact_test() -> None:
    """Against the binomial tail, worked out from the answers."""
    given = PIXELS * 255
    trial = next(item for item in try_hypotheses(MODEL, {"x": given}, LABELS) if item.name == "divided by 255")
    wrong = int(np.sum(NET.labels(given) != LABELS))
    assert (trial.better, trial.worse) == (wrong, 0)
    assert trial.p_value == pytest.approx(min(1.0, 2 * comb(wrong, 0) / 2**wrong))


def test_a_model_that_answers_always_the_same_convinces_nobody() -> None:
    """Labels of one class only are no evidence, whatever change makes the model answer it."""
    given = PIXELS * 255
    answer = int(np.bincount(NET.labels(PIXELS * 0)).argmax())
    found = run(given, labels=np.full(COUNT, answer))
    assert not said(found, "preprocessing")


def hinted(base: float, other: float) -> list[tuple[str, str]]:
    """What is said of answers with this much mutual information, without labels."""
    trials = (Trial("as it is", information=base), Trial("times 255", information=other, scale=255.0, offset=0.0))
    return [(item.severity, item.text) for item in findings_of(replace(NOTHING, preprocessing=trials))]


def test_without_labels_there_is_a_hint_at_most() -> None:
    """Answers that say much more after a change are worth a note that calls itself a hint; a little more is nothing."""
    ((severity, text),) = hinted(0.1, 2.5)
    assert severity == "note"
    assert "a hint only" in text
    assert "times 255" in text
    assert "y_train" in text
    assert not hinted(2.3, 2.7)
    assert not hinted(0.01, 0.1)


def test_mutual_information_is_of_answers_that_are_sure_and_differ() -> None:
    """Against its definition: entropy of the mean less mean entropy, in bits; labels are not needed for it."""
    found = try_hypotheses(MODEL, {"x": PIXELS}, None)[0]
    logits = NET.activations(PIXELS)[-1]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = shares.mean(axis=0)
    expected = -(mean @ np.log2(mean)) + np.sum(shares * np.log2(shares), axis=1).mean()
    # float32 logarithms and sums of 80 answers
    assert found.information == pytest.approx(expected, abs=1e-5)
    assert (found.accuracy, found.p_value) == (None, None)


def test_values_of_the_other_split_beyond_the_range_are_counted() -> None:
    """Half of the other samples are twice as bright as any that calibrates."""
    others = np.concatenate([images(20, seed=8), images(20, seed=9) + 1.01])
    found = run(PIXELS, others={"x": others})
    covered = found.inputs[0].covered
    low, high = PIXELS.min(), PIXELS.max()
    room = (high - low) / 255
    assert covered == pytest.approx(np.mean((others >= low - room) & (others <= high + room)))
    assert said(found, "coverage")[0][0] == "warning"


def test_samples_that_are_constant_or_repeated_are_listed() -> None:
    """By row."""
    given = PIXELS.copy()
    given[3], given[9] = 0.5, given[2]
    found = run(given, NET.labels(given), rows=range(100, 100 + COUNT))
    assert (found.constant_samples, found.repeated_samples) == ((103,), (109,))
    assert [severity for severity, _ in said(found, "samples")] == ["warning", "note"]


def test_classes_that_are_missing_are_counted() -> None:
    """Against the number of classes the model tells apart."""
    two = np.flatnonzero(LABELS[0] == LABELS)
    found = run(PIXELS[two], LABELS[two])
    assert (found.classes_seen, found.classes) == (1, CLASSES)
    assert any("only 1 of 5 classes" in text for _, text in said(found, "coverage"))


def test_int8_models_of_a_quarter_a_half_and_all_are_compared() -> None:
    """Their SQNR and agreement are measured; the sentence names the amounts."""
    found = run(PIXELS)
    assert [amount.samples for amount in found.amounts] == [COUNT // 4, COUNT // 2, COUNT]
    assert all(amount.sqnr_db is not None and amount.sqnr_db > 20 for amount in found.amounts)
    assert all(amount.agreement is not None and amount.agreement > 0.9 for amount in found.amounts)
    assert len(said(found, "amount")) == 1


STEADY = TensorAudit("layer", 0.0, 1.0, 1.5, 8, 0, 0.0)
NOTHING = Audit(80, (), (STEADY,), (), (), 0, 0, (), ())


def of_amounts(*ratios: float, growth: float = 0.0) -> list[tuple[str, str]]:
    """What is said of three int8 models with these SQNRs."""
    amounts = tuple(Amount(count, ratio, 1.0) for count, ratio in zip((20, 40, 80), ratios, strict=True))
    layers = (replace(STEADY, growth=growth),)
    return [(item.severity, item.text) for item in findings_of(replace(NOTHING, layers=layers, amounts=amounts))]


def test_verdicts_on_the_number_of_samples() -> None:
    """Steady, still moving, and made worse by more of them."""
    assert of_amounts(30.0, 30.1, 30.0)[0] == ("note", of_amounts(30.0, 30.1, 30.0)[0][1])
    assert "would not change" in of_amounts(30.0, 30.1, 30.0)[0][1]
    assert "still moving" in of_amounts(25.0, 28.0, 30.0)[0][1]
    assert "still moving" in of_amounts(30.0, 30.0, 30.0, growth=0.3)[0][1]
    assert "made it worse" in of_amounts(30.0, 28.0, 22.0)[0][1]


def test_stretched_ranges_and_dead_channels_are_said() -> None:
    """Each with the layer it is about."""
    layers = (replace(STEADY, name="wide", stretch=9.0), replace(STEADY, name="dead", dead_channels=6))
    texts = [item.text for item in findings_of(replace(NOTHING, layers=layers))]
    assert any("wide is 9.0 times as wide" in text for text in texts)
    assert any("6 of 8 channels of dead never vary" in text for text in texts)


def test_problems_come_first() -> None:
    """Whatever the order they were found in."""
    trials = (
        Trial("as it is", 0.2, 0.2, p_value=1.0),
        Trial("times 255", 0.9, 0.9, better=60, worse=0, p_value=1e-9, scale=255.0, offset=0.0),
    )
    found = findings_of(replace(NOTHING, repeated_samples=(1,), preprocessing=trials, classes_seen=5, classes=5))
    assert [item.severity for item in found] == ["problem", "note"]


def test_outliers_are_beyond_the_widest_gap() -> None:
    """Two of a hundred samples far out count together; evenly spread ones are none."""
    highs = np.linspace(1, 2, 100)
    highs[[7, 40]] = 9.0, 10.0
    spread = Extremes(np.zeros(100), highs, 0.0, 10.0, 1, 0)
    found = find_outliers(spread)
    assert found is not None
    assert (found.low_samples, found.high_samples) == ((), (40, 7))
    assert found.shrink == pytest.approx(0.8)
    assert find_outliers(replace(spread, highs=np.linspace(1, 2, 100))) is None


def test_extremes_are_per_sample_whatever_the_batch() -> None:
    """A model of one row per run gives one minimum and maximum for each sample."""
    found = collect_extremes(MODEL, {"x": PIXELS}, [0])[0]
    flat = PIXELS.reshape(COUNT, -1)
    np.testing.assert_array_equal(found.lows, flat.min(axis=1))
    np.testing.assert_array_equal(found.highs, flat.max(axis=1))
    assert shares_inside(MODEL, {"x": PIXELS}, {0: (0.0, 0.5)}, slack=0.0)[0] == pytest.approx(np.mean(PIXELS <= 0.5))


def test_samples_of_another_shape_are_refused() -> None:
    """With both shapes in the message."""
    with pytest.raises(CalibrationError, match=rf"\('N', {SIDE}, {SIDE}, {CHANNELS}\), got \(80, 2, 4, 3\)"):
        run(PIXELS[:, :2])


def test_channels_that_stand_first_are_recognised() -> None:
    """Where the shape tells the layout, the message says what to type."""
    with pytest.raises(
        CalibrationError, match=r"got \(80, 3, 4, 4\): move the channels last, np\.moveaxis\(x, 1, -1\)"
    ):
        run(np.moveaxis(PIXELS, -1, 1))
