"""Distillation: the losses against numpy, the teacher beside the labels, and the students there are."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_converters import TechniqueError, TrainingError
from edgekit_converters._tf import import_keras, import_tf_keras
from edgekit_converters.training import distill
from edgekit_converters.training.distill import DistillSettings, Teacher, student_for
from edgekit_converters.training.finetune import FineTuning, fine_tune
from edgekit_converters.training.losses import attention_loss, soft_target_loss
from edgekit_converters.training.samples import Samples
from edgekit_converters.zoo import ARCHITECTURES, build

pytestmark = pytest.mark.keras

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (2, 6, 5)).astype(np.float32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def _divergence(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """T² × KL(teacher ‖ student) of softened logits, the mean over samples, in float64."""
    mine, theirs = (_softmax(value.astype(np.float64) / temperature) for value in (student, teacher))
    return float(temperature**2 * (theirs * (np.log(theirs) - np.log(mine))).sum(axis=-1).mean())


def _shown(logits: np.ndarray, activation: str) -> np.ndarray:
    return {"linear": lambda x: x, "softmax": _softmax, "sigmoid": _sigmoid}[activation](logits)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(
    "pair", [("linear", "linear"), ("softmax", "linear"), ("linear", "softmax"), ("softmax", "softmax")]
)
def test_soft_targets_are_those_of_hinton(zoo, pair, temperature) -> None:
    """From logits or probabilities, on either side: the divergence of the softened distributions."""
    student, teacher = (_shown(value, how) for value, how in zip(LOGITS, pair, strict=True))
    found = float(soft_target_loss(student, teacher, activations=pair, temperature=temperature))

    # Logarithms of float32 probabilities are right to 1e-7 each.
    assert found == pytest.approx(_divergence(*LOGITS, temperature), rel=1e-4)
    assert float(soft_target_loss(teacher, teacher, activations=pair[1:] * 2, temperature=temperature)) == 0


@pytest.mark.parametrize("pair", [("sigmoid", "sigmoid"), ("linear", "sigmoid")])
def test_soft_targets_of_sigmoids_are_yes_or_no_each(zoo, pair) -> None:
    """Every output is a distribution of two."""
    student, teacher = (_shown(value, how) for value, how in zip(LOGITS, pair, strict=True))
    two = [np.stack([value, 0 * value], axis=-1) for value in LOGITS]
    found = float(soft_target_loss(student, teacher, activations=pair, temperature=2.0))

    assert found == pytest.approx(_divergence(*two, 2.0), rel=1e-3)


def test_one_output_is_yes_or_no(zoo) -> None:
    """A softmax of one output would always be 1."""
    one = LOGITS[..., :1]
    two = [np.stack([value, 0 * value], axis=-1) for value in one]

    assert float(soft_target_loss(*one, activations=("linear", "linear"), temperature=3.0)) == pytest.approx(
        _divergence(*two, 3.0), rel=1e-4
    )


def test_values_are_compared_as_they_are(zoo) -> None:
    """A regression has no classes to soften: the mean squared error."""
    found = soft_target_loss(*LOGITS, activations=("linear", "linear"), temperature=9.0, classes=False)

    assert float(found) == pytest.approx(float(np.square(LOGITS[0] - LOGITS[1]).mean()), rel=1e-5)


def _attention(values: np.ndarray) -> np.ndarray:
    energy = np.square(values.astype(np.float64)).mean(axis=-1).reshape(len(values), -1)
    return energy / np.linalg.norm(energy, axis=-1, keepdims=True)


def test_attention_maps_need_not_have_the_same_channels(zoo) -> None:
    """The mean over pairs of the squared distance of normalized maps; 0 for maps that differ by a factor."""
    mine = [RNG.normal(size=(3, 4, 5, 2)).astype(np.float32), RNG.normal(size=(3, 2, 2, 7)).astype(np.float32)]
    theirs = [RNG.normal(size=(3, 4, 5, 6)).astype(np.float32), RNG.normal(size=(3, 2, 2, 1)).astype(np.float32)]
    distances = [
        np.square(_attention(a) - _attention(b)).sum(axis=-1).mean() for a, b in zip(mine, theirs, strict=True)
    ]

    assert float(attention_loss(mine, theirs)) == pytest.approx(np.mean(distances), rel=1e-5)
    assert float(attention_loss(mine, [2 * value for value in mine])) == pytest.approx(0, abs=1e-6)


def _images(framework: str, channels: int, *, seed: int, last: str | None = "softmax", classes: int = 3) -> Any:
    """A network with inner tensors of 4 × 4 and 2 × 2."""
    keras = import_keras() if framework == "keras" else import_tf_keras()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    image = keras.Input((4, 4, 1))
    wide = layers.Conv2D(channels, 3, padding="same", name="wide")(image)
    narrow = layers.Conv2D(channels, 3, strides=2, padding="same", name="narrow")(wide)
    return keras.Model(image, layers.Dense(classes, activation=last)(layers.Flatten()(narrow)))


def _samples(count: int = 12) -> Samples:
    rng = np.random.default_rng(1)
    return Samples({"x": rng.normal(size=(count, 4, 4, 1)).astype(np.float32)}, rng.integers(0, 3, count))


ONE_STEP = FineTuning(epochs=1, batch_size=12, learning_rate=1e-3, validation_fraction=0, alpha=0.6, temperature=3.0)


def _inner(model: Any, samples: Samples) -> list[np.ndarray]:
    """The outputs of the two convolutions."""
    values, found = samples.inputs["x"], []
    for name in ("wide", "narrow"):
        values = np.asarray(model.get_layer(name)(values))
        found.append(values)
    return found


@pytest.mark.parametrize(("student", "teacher"), [("keras", "tf_keras"), ("tf_keras", "keras")])
def test_labels_and_teacher_are_mixed_by_their_weights(zoo, student, teacher) -> None:
    """The loss of the first step is (1 − α) × cross-entropy + α × soft targets + the feature loss, from either Keras."""
    samples, settings = _samples(), replace(ONE_STEP, features=10.0)
    learner, guide = _images(student, 2, seed=0, last=None), _images(teacher, 5, seed=1)
    logits, known = (np.asarray(model(samples.inputs["x"]), np.float64) for model in (learner, guide))
    entropy = -np.log(_softmax(logits))[np.arange(12), samples.labels].mean()
    pairs = zip(_inner(learner, samples), _inner(guide, samples), strict=True)
    inner = np.mean([np.square(_attention(a) - _attention(b)).sum(axis=-1).mean() for a, b in pairs])
    history = fine_tune(learner, samples, settings, framework=student, teacher=guide)

    expected = 0.4 * entropy + 0.6 * _divergence(logits, np.log(known), 3.0) + 10 * inner
    assert history.losses[0] == pytest.approx(expected, rel=1e-4)


def test_a_teacher_is_enough_without_labels(zoo) -> None:
    """Only its outputs are learned from; measured is the agreement with it."""
    samples = Samples(_samples(40).inputs)
    learner, guide = _images("keras", 2, seed=0), _images("keras", 5, seed=1)
    told = guide(samples.inputs["x"])
    settings = replace(ONE_STEP, batch_size=40, epochs=1)
    expected = _divergence(np.log(np.asarray(learner(samples.inputs["x"]))), np.log(np.asarray(told)), 3.0)
    history = fine_tune(learner, samples, settings, framework="keras", teacher=guide)
    more = replace(settings, epochs=20, learning_rate=0.03, validation_fraction=0.5)
    longer = fine_tune(learner, samples, more, framework="keras", teacher=guide)

    assert history.losses[0] == pytest.approx(expected, rel=1e-4)
    assert longer.metric == "agreement"
    assert longer.losses[-1] < longer.losses[0] / 2


def test_a_teacher_too_large_to_keep_is_asked_again(zoo, monkeypatch) -> None:
    """The same weights, whether its outputs are kept or computed for each batch."""
    kept, asked = _images("keras", 2, seed=0), _images("keras", 2, seed=0)
    settings = replace(ONE_STEP, epochs=2, batch_size=5, validation_fraction=0.2)
    guide = _images("keras", 5, seed=1)
    fine_tune(kept, _samples(), settings, framework="keras", teacher=guide)
    monkeypatch.setattr(distill, "KEPT_BYTES", 0)
    fine_tune(asked, _samples(), settings, framework="keras", teacher=guide)

    for one, other in zip(kept.get_weights(), asked.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)  # the teacher's last digits differ with the batch it is in


def test_a_teacher_is_asked_once_about_the_same_samples(zoo, monkeypatch) -> None:
    """Two fine-tunings on the same arrays, then one on others."""
    teacher, asked = Teacher(_images("keras", 5, seed=1)), []
    ask = Teacher.ask
    monkeypatch.setattr(Teacher, "ask", lambda self, *given: asked.append(1) or ask(self, *given))
    samples = _samples()
    for given in (samples, samples, _samples()):
        fine_tune(_images("keras", 2, seed=0), given, ONE_STEP, framework="keras", teacher=teacher)

    assert len(asked) == 2


def test_models_that_do_not_match_are_refused(zoo) -> None:
    """Other classes, other inputs, nothing inside to compare: each says what the two have."""
    keras = import_keras()
    learner = _images("keras", 2, seed=0)
    larger = keras.Sequential([keras.Input((5, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    flat = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])

    def taught_by(teacher: Any, **changes: Any) -> None:
        fine_tune(learner, _samples(), replace(ONE_STEP, **changes), framework="keras", teacher=teacher)

    with pytest.raises(TechniqueError, match=r"the teacher's outputs, of shape \(4,\), got \(3,\)"):
        taught_by(_images("keras", 2, seed=0, classes=4))
    with pytest.raises(TechniqueError, match=r"the teacher's inputs, of shape \(5, 5, 1\), got \(4, 4, 1\)"):
        taught_by(larger)
    with pytest.raises(TechniqueError, match=r"inner height and width .* got \(4, 4\), \(2, 2\) and unknown"):
        taught_by(flat, features=1.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"student": "zoo:resnet9"}, "did you mean zoo:resnet8"),
        ({"student": "zoo:"}, "Choose 'current', the path of a Keras model, or one of: zoo:classic-cnn"),
        ({"student": ""}, "expected a student"),
    ],
)
def test_an_unknown_student_has_a_suggestion(settings, words) -> None:
    """Before anything is loaded."""
    with pytest.raises(TechniqueError, match=words):
        DistillSettings(**settings)


def _student(name: str, teacher: Any, values: np.ndarray, **tuning: Any) -> Any:
    settings = DistillSettings(student=name)
    return student_for(settings, teacher, [values], tuning=FineTuning(**tuning), trust=False)


def test_a_student_of_the_zoo_fits_its_teacher(zoo) -> None:
    """Shaped for the samples and the classes, the same for the same seed; raw pixels are scaled by a layer of its own."""
    keras = import_keras()
    teacher = keras.Sequential([keras.Input((None, None, 1)), keras.layers.GlobalMaxPool2D(), keras.layers.Dense(3)])
    pixels = RNG.uniform(0, 255, (20, 8, 8, 1)).astype(np.float32)
    raw, again, mild = (
        _student("zoo:resnet8", keras.Sequential([keras.Input((8, 8, 1)), *teacher.layers]), values)
        for values in (pixels, pixels, pixels / 255)
    )
    scaled = np.asarray(raw.get_layer("scaled")(pixels))

    assert (raw.input_shape, raw.output_shape) == ((None, 8, 8, 1), (None, 3))
    assert all(np.array_equal(one, other) for one, other in zip(raw.get_weights(), again.get_weights(), strict=True))
    assert abs(scaled.mean()) < 1e-4
    assert scaled.std() == pytest.approx(1, rel=1e-4)
    assert not any(layer.name == "scaled" for layer in mild.layers)
    assert _student("current", teacher, pixels) is None


def test_a_student_of_the_user_s_is_loaded_and_checked(zoo, tmp_path: Path) -> None:
    """A Keras 2 file becomes a Keras 3 student; one of another output shape, or that is not there, is refused."""
    path, wrong = tmp_path / "student.h5", tmp_path / "wrong.h5"
    for target, classes in ((path, 3), (wrong, 4)):
        _save_h5(_images("tf_keras", 2, seed=0, classes=classes), target)
    teacher, values = _images("keras", 5, seed=1), _samples().inputs["x"]
    loaded = _student(str(path), teacher, values)

    np.testing.assert_allclose(
        np.asarray(loaded(values)), np.asarray(_images("tf_keras", 2, seed=0)(values)), atol=1e-5
    )
    with pytest.raises(TechniqueError, match=r"the teacher's outputs, of shape \(3,\), got \(4,\)"):
        _student(str(wrong), teacher, values)
    with pytest.raises(TechniqueError, match="a path that is not there"):
        _student("zoo-resnet8", teacher, values)
    with pytest.raises(TechniqueError, match="one input and an output of shape"):
        student_for(DistillSettings("zoo:mlp"), teacher, [values, values], tuning=FineTuning(), trust=False)
    with pytest.raises(TechniqueError, match="inner height and width"):
        _student("zoo:mlp", teacher, values, features=1.0)


def _save_h5(model: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the format is old
        model.save(path)


# Samples that each architecture of the zoo takes, and samples that it does not.
SHAPES = {
    "classic-cnn": ((8, 8, 3), (3, 8, 1)),
    "ds-cnn": ((49, 10, 1), (49, 10)),
    "mlp": ((7,), ()),
    "mobilenet-tiny": ((16, 16, 3), (15, 16, 3)),
    "resnet8": ((8, 8, 3), (8, 7, 3)),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_gives_probabilities_for_its_samples(zoo, name) -> None:
    """One for each class; samples that it cannot take are named."""
    shape, bad = SHAPES[name]
    model = build(name, shape, 4)
    scores = np.asarray(model(np.zeros((2, *shape), np.float32)))

    assert scores.shape == (2, 4)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    with pytest.raises(TrainingError, match="expected"):
        build(name, bad, 4)
