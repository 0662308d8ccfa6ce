"""Fine-tuning: what is learned, what is kept, what is refused, and that an interruption changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_converters import TrainingError
from edgekit_converters._tf import import_keras, import_tf_keras, import_tfmot
from edgekit_converters.training.augment import augmented
from edgekit_converters.training.checkpoint import Checkpoint, digest, read_checkpoint, write_checkpoint
from edgekit_converters.training.finetune import FineTuning, History, fine_tune
from edgekit_converters.training.losses import output_activation
from edgekit_converters.training.samples import Samples

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:distutils:DeprecationWarning"),  # TFMOT, when it is imported
]

FRAMEWORKS = ("keras", "tf_keras")
QUICK = FineTuning(epochs=3, batch_size=16, learning_rate=0.01)


def _keras(framework: str) -> Any:
    return import_keras() if framework == "keras" else import_tf_keras()


def _bars(count: int = 80, seed: int = 0) -> Samples:
    """Images of one bright row, whose number is the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    images = rng.uniform(0, 0.3, (count, 8, 8, 1)).astype(np.float32)
    images[np.arange(count), 2 * labels] = 1.0
    return Samples({"image": images}, labels)


def _network(framework: str, *, last: str | None = "softmax", classes: int = 4) -> Any:
    """A small network of what fine-tuning must carry: batch statistics, dropout, noise; always the same weights."""
    keras = _keras(framework)
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GaussianNoise(0.1),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(classes, activation=last),
        ]
    )


def _linear(framework: str, kernel: np.ndarray) -> Any:
    keras = _keras(framework)
    model = keras.Sequential([keras.Input((kernel.shape[0],)), keras.layers.Dense(kernel.shape[1], use_bias=False)])
    model.set_weights([kernel])
    return model


def _pruned() -> Any:
    sparsity, keras = import_tfmot().sparsity.keras, import_tf_keras()
    keras.utils.set_random_seed(3)
    pruned = sparsity.prune_low_magnitude(
        keras.layers.Dense(4), pruning_schedule=sparsity.PolynomialDecay(0.0, 0.75, 1, 8, frequency=3)
    )
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), pruned])


# What is trained by name: how it is made, which Keras owns it, and the callbacks of its technique.
SUBJECTS: dict[str, tuple[Callable[[], Any], str, Callable[[], list[Any]]]] = {
    "keras": (lambda: _network("keras"), "keras", list),
    "tf_keras": (lambda: _network("tf_keras"), "tf_keras", list),
    "pruned": (_pruned, "tf_keras", lambda: [import_tfmot().sparsity.keras.UpdatePruningStep()]),
}


def _values(model: Any) -> list[np.ndarray]:
    return [np.array(weight.numpy()) for weight in model.weights]


def _equal(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


class Interrupted(Exception):
    """The Ctrl-C of these tests."""


def _interrupt_after(epoch: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, text: str) -> None:
        if done == epoch:
            raise Interrupted

    return progress


@pytest.mark.parametrize("subject", SUBJECTS)
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(zoo, subject, tmp_path: Path) -> None:
    """Bit for bit, with batch statistics, dropout, optimizer slots and pruning steps; and so is its history."""
    make, framework, callbacks = SUBJECTS[subject]
    settings, whole = replace(QUICK, epochs=2), make()
    history = fine_tune(whole, _bars(), settings, framework=framework, callbacks=callbacks())
    with pytest.raises(Interrupted):
        fine_tune(
            make(),
            _bars(),
            settings,
            framework=framework,
            callbacks=callbacks(),
            checkpoint=tmp_path,
            progress=_interrupt_after(1),
        )
    resumed = make()
    again = fine_tune(resumed, _bars(), settings, framework=framework, callbacks=callbacks(), checkpoint=tmp_path)

    assert again.resumed_from == 1
    assert _equal(_values(resumed), _values(whole))
    assert replace(again, seconds=0.0, resumed_from=0) == replace(history, seconds=0.0)


def test_a_checkpoint_that_is_damaged_or_of_another_run_is_not_gone_on_from(zoo, tmp_path: Path) -> None:
    """Half a file, other settings, other data, another start: each begins afresh, and a finished run is not done again."""
    kernel, quick = np.eye(3, dtype=np.float32), replace(QUICK, epochs=1)
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    samples, others = Samples({"x": rows}, rows), Samples({"x": rows + 1}, rows)
    fine_tune(_linear("keras", kernel), samples, quick, framework="keras", checkpoint=tmp_path)
    content = (tmp_path / "training.npz").read_bytes()

    def resumed_from(model: Any, samples: Samples, settings: FineTuning) -> int:
        (tmp_path / "training.npz").write_bytes(content)
        return fine_tune(model, samples, settings, framework="keras", checkpoint=tmp_path).resumed_from

    assert resumed_from(_linear("keras", kernel), samples, quick) == 1
    assert resumed_from(_linear("keras", kernel), samples, replace(quick, learning_rate=0.02)) == 0
    assert resumed_from(_linear("keras", kernel), others, quick) == 0
    assert resumed_from(_linear("keras", 2 * kernel), samples, quick) == 0
    content = content[: len(content) // 2]
    assert resumed_from(_linear("keras", kernel), samples, quick) == 0


def test_a_checkpoint_is_whole_or_absent(tmp_path: Path) -> None:
    """What comes back is what was written, for its own key and shapes only; nothing is left beside it."""
    arrays = [np.arange(6.0).reshape(2, 3), np.float32(1.5) * np.ones(())]
    write_checkpoint(tmp_path, "run", Checkpoint({"losses": [0.1]}, {"weights": arrays}))
    found = read_checkpoint(tmp_path, "run", {"weights": arrays})

    assert found is not None
    assert found.facts == {"losses": [0.1]}
    assert _equal(list(found.arrays["weights"]), arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["training.npz"]
    assert read_checkpoint(tmp_path, "other", {"weights": arrays}) is None
    assert read_checkpoint(tmp_path, "run", {"weights": arrays[:1]}) is None
    assert read_checkpoint(tmp_path / "nowhere", "run", {}) is None


def test_a_digest_knows_shape_type_and_order() -> None:
    """Arrays of equal bytes are told apart by what they mean."""
    row = np.zeros((1, 4), np.float32)
    different = [digest(row), digest(row.T), digest(row.astype(np.int32)), digest(row, 1), digest(1, row), digest()]

    assert len(set(different)) == len(different)
    assert digest(row) == digest(row.copy())


def _adam(kernel: np.ndarray, samples: Samples, settings: FineTuning) -> np.ndarray:
    """What Adam (Kingma and Ba, 2015) makes of a linear model: the mean squared error's gradient, a cosine of steps."""
    x, y = samples.inputs["x"].astype(np.float64), samples.labels
    kernel, first, second, step = kernel.astype(np.float64), 0.0, 0.0, 0
    batches = -(-len(x) // settings.batch_size)
    for epoch in range(settings.epochs):
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(x))
        for rows in np.resize(order, (batches, settings.batch_size)):
            gradient = 2 * x[rows].T @ (x[rows] @ kernel - y[rows]) / y[rows].size
            rate = settings.learning_rate * (1 + np.cos(np.pi * step / (batches * settings.epochs))) / 2
            step += 1
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            rate *= np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            kernel = kernel - rate * first / (np.sqrt(second) + 1e-7)
    return kernel


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_takes_the_steps_of_adam_along_a_cosine(zoo, framework) -> None:
    """A linear model ends where numpy's own loop does: the order of samples is that of the seed and the epoch."""
    rng = np.random.default_rng(0)
    samples = Samples({"x": rng.normal(size=(10, 3)).astype(np.float32)}, rng.normal(size=(10, 2)).astype(np.float32))
    kernel = rng.normal(size=(3, 2)).astype(np.float32)
    settings = FineTuning(epochs=3, batch_size=4, learning_rate=0.1, validation_fraction=0, seed=5)
    model = _linear(framework, kernel)
    fine_tune(model, samples, settings, framework=framework)

    # Nine steps of at most 0.1, each right to float32's 1e-7 relative and Adam's division by small numbers.
    np.testing.assert_allclose(model.get_weights()[0], _adam(kernel, samples, settings), atol=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_weights_that_were_best_before_are_kept(zoo, framework) -> None:
    """A model with no loss cannot be improved: whatever the training did to it is taken back."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 2)).astype(np.float32)
    inputs = rng.normal(size=(20, 3)).astype(np.float32)
    teacher = _linear(framework, kernel)
    samples = Samples({"x": inputs}, np.asarray(teacher(inputs)) + np.where(np.arange(20) % 20 < 18, 0, 1e-3)[:, None])
    model = _linear(framework, kernel)
    history = fine_tune(model, samples, replace(QUICK, learning_rate=1.0), framework=framework)
    last = _linear(framework, kernel)
    fine_tune(last, samples, replace(QUICK, learning_rate=1.0), framework=framework, keep_best=False)

    assert history.best_epoch == 0
    assert _equal(_values(model), [kernel])
    assert not _equal(_values(last), [kernel])
    assert history.before is not None
    assert history.before < min(history.validation)


def test_patience_ends_a_run_that_gets_no_better(zoo) -> None:
    """Two epochs without improvement are enough for patience 2, also when the run is taken up again."""
    model = _linear("keras", np.eye(3, dtype=np.float32))
    inputs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    settings = replace(QUICK, epochs=9, learning_rate=1.0, patience=2)
    history = fine_tune(model, Samples({"x": inputs}, inputs + 1e-3), settings, framework="keras")

    assert (history.epochs, history.best_epoch) == (2, 0)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_logits_and_probabilities_are_told_apart(zoo, framework) -> None:
    """A softmax in the last layer, after it, inside a nested model, or nowhere: the same training for the same labels."""
    keras = _keras(framework)
    layers = keras.layers

    def dense(last: str | None) -> list[Any]:
        return [keras.Input((3,)), layers.Dense(4, activation=last)]

    def nested() -> Any:
        outer = keras.Input((3,))
        return keras.Model(outer, layers.Reshape((4,))(keras.Sequential(dense("softmax"))(outer)))

    models = {
        "softmax": keras.Sequential(dense("softmax")),
        "logits": keras.Sequential(dense(None)),
        "layer": keras.Sequential([*dense(None), layers.Softmax()]),
        "nested": nested(),
    }
    rng = np.random.default_rng(0)
    samples = Samples({"x": rng.normal(size=(40, 3)).astype(np.float32)}, rng.integers(0, 4, 40))
    kernel = [rng.normal(size=(3, 4)).astype(np.float32), np.zeros(4, np.float32)]
    losses: dict[str, tuple[float, ...]] = {}
    for name, model in models.items():
        model.set_weights(kernel)
        losses[name] = fine_tune(model, samples, replace(QUICK, epochs=2), framework=framework).losses

    assert [output_activation(model) for model in models.values()] == ["softmax", "linear", "softmax", "softmax"]
    for found in losses.values():  # the logarithm of a float32 softmax against log-softmax itself
        np.testing.assert_allclose(found, losses["logits"], rtol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "last", "labels", "loss", "metric"),
    [
        (1, "sigmoid", np.arange(40) % 2, "auto", "accuracy"),
        (1, None, np.arange(40) % 2 == 0, "auto", "accuracy"),
        (2, "sigmoid", np.arange(80).reshape(40, 2) % 2, "auto", "accuracy"),
        (4, "softmax", np.eye(4)[np.arange(40) % 4], "auto", "accuracy"),
        (2, None, np.ones((40, 2)), "auto", "loss"),
        (1, None, np.ones(40), "auto", "loss"),
        (2, None, np.ones((40, 2)), "huber", "loss"),
        (2, None, np.ones((40, 2)), "MeanAbsoluteError", "loss"),
        (3, None, None, "auto", "loss"),
    ],
)
def test_the_loss_follows_from_labels_and_outputs(zoo, outputs, last, labels, loss, metric) -> None:
    """Classes are measured by accuracy, values by their loss, and an autoencoder needs no labels."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(outputs, activation=last)])
    inputs = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    history = fine_tune(model, Samples({"x": inputs}, labels), FineTuning(epochs=1, loss=loss), framework="keras")

    assert history.metric == metric
    assert np.isfinite(history.losses).all()


def _two_inputs() -> Any:
    keras = import_keras()
    one, other = keras.Input((3,), name="one"), keras.Input((2,), name="other")
    joined = keras.layers.Concatenate()([one, other])
    return keras.Model({"other": other, "one": one}, [keras.layers.Dense(4)(joined), keras.layers.Dense(2)(joined)])


def test_inputs_go_where_they_are_named(zoo) -> None:
    """Two inputs in a dict, two outputs: the labels are the first output's, and the second's weights stay."""
    model = _two_inputs()
    before = _values(model)
    rng = np.random.default_rng(0)
    inputs = {"other": rng.normal(size=(40, 2)), "one": rng.normal(size=(40, 3))}
    samples = Samples(inputs, rng.integers(0, 4, 40))
    history = fine_tune(model, samples, QUICK, framework="keras", keep_best=False)
    changed = [not np.array_equal(old, new) for old, new in zip(before, _values(model), strict=True)]

    assert history.epochs == 3
    assert changed == [len(old) == 4 or old.shape == (5, 4) for old in before]


IMAGES = np.zeros((8, 8, 8, 1), np.float32)


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        ({}, np.zeros(8, int), "at least one training sample"),
        ({"x": IMAGES[:0]}, np.zeros(0, int), "at least one training sample"),
        ({"x": IMAGES, "y": IMAGES}, np.zeros(8, int), "for one input, got 2"),
        ({"x": IMAGES[:, :7]}, np.zeros(8, int), r"expected training samples of shape \(8, 8, 1\).*got \(7, 8, 1\)"),
        ({"x": np.moveaxis(IMAGES, -1, 1)}, np.zeros(8, int), r"got \(1, 8, 8\)"),
        ({"x": IMAGES}, np.zeros(7, int), "got 8 of x, 7 of labels"),
        ({"x": IMAGES * np.nan}, np.zeros(8, int), "finite numbers for 'x'"),
        ({"x": IMAGES.astype(str)}, np.zeros(8, int), "finite numbers for 'x'"),
        ({"x": IMAGES}, np.arange(8), "labels from 0 to 3, as the model has 4 outputs, got labels from 0 to 7"),
        ({"x": IMAGES}, np.arange(8) - 1, "got labels from -1 to 6"),
        ({"x": IMAGES}, np.zeros(8), r"targets of the shape of the model's output, \(4,\)"),
        ({"x": IMAGES}, np.full((8, 4), np.inf), "finite numbers as labels"),
        ({"x": IMAGES}, np.array(["cat"] * 8), "finite numbers as labels"),
        ({"x": IMAGES}, None, "expected labels beside the training samples, or a teacher"),
    ],
)
def test_data_that_does_not_fit_is_refused_before_any_epoch(zoo, inputs, labels, words) -> None:
    """The message says what was expected and what came, and the weights are untouched."""
    model = _network("keras")
    before = _values(model)

    with pytest.raises(TrainingError, match=words):
        fine_tune(model, Samples(inputs, labels), QUICK, framework="keras")
    assert _equal(_values(model), before)


def test_other_names_than_the_model_s_are_refused(zoo) -> None:
    """Both lists are in the message."""
    with pytest.raises(TrainingError, match=r"for the inputs .*one.*, got one, two"):
        fine_tune(_two_inputs(), Samples({"one": np.zeros((8, 3)), "two": np.zeros((8, 2))}), QUICK, framework="keras")


def test_a_model_that_cannot_be_trained_is_refused(zoo) -> None:
    """Frozen weights, a graph that is not known, and a token past the end of its embedding."""
    keras = import_keras()
    frozen = _network("keras")
    frozen.trainable = False
    tokens = keras.Sequential([keras.Input((2,)), keras.layers.Embedding(4, 2), keras.layers.Flatten()])

    class Subclassed(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(TrainingError, match="the teacher 'original' as a model"):
        fine_tune(_network("keras"), _bars(), replace(QUICK, teacher="original"), framework="keras")
    with pytest.raises(TrainingError, match="weights to train"):
        fine_tune(frozen, _bars(), QUICK, framework="keras")
    with pytest.raises(TrainingError, match="functional or sequential"):
        fine_tune(Subclassed(), _bars(), QUICK, framework="keras")
    with pytest.raises(TrainingError, match=r"cannot be trained on these samples: .* is not in \[0, 4\)"):
        fine_tune(tokens, Samples({"x": np.full((8, 2), 9)}, np.zeros((8, 4))), QUICK, framework="keras")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_loss_that_is_no_number_gives_the_last_good_weights_back(zoo, framework) -> None:
    """A weight that becomes NaN in the second epoch ends the run with a word on the learning rate, after the first."""
    keras = _keras(framework)
    model, good = _network(framework), []

    class Breaks(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                self.model.weights[0].assign(self.model.weights[0] * np.float32(np.nan))

    def progress(done: int, total: int, text: str) -> None:
        good[:] = _values(model)

    with pytest.raises(TrainingError, match=r"the loss is nan after 1 whole epochs.*lower the learning_rate"):
        fine_tune(model, _bars(), QUICK, framework=framework, callbacks=[Breaks()], progress=progress)
    assert _equal(_values(model), good)


@pytest.mark.parametrize("how", ["shift", "flip", "flip-shift"])
def test_images_are_moved_and_mirrored(how) -> None:
    """Each comes out as one of the crops of the image mirrored at its borders, or of that crop mirrored; not all alike."""
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 16, 2), np.uint8)
    changed = augmented(images, how, np.random.default_rng(1))
    seen = set()
    for image, found in zip(images, changed, strict=True):
        padded = np.pad(image, ((1, 1), (2, 2), (0, 0)), mode="symmetric")
        crops = {
            (y, x, flipped): padded[y : y + 8, x : x + 16][:, :: -1 if flipped else 1]
            for y in (range(3) if "shift" in how else (1,))
            for x in (range(5) if "shift" in how else (2,))
            for flipped in ((False, True) if "flip" in how else (False,))
        }
        seen.add(next(place for place, crop in crops.items() if np.array_equal(crop, found)))

    assert changed.dtype == images.dtype
    assert len(seen) > (8 if "shift" in how else 1)


def test_augmented_training_resumes_too(zoo, tmp_path: Path) -> None:
    """With a teacher that is asked about each changed image: bit for bit; what is no image is refused."""
    settings, teacher = replace(QUICK, epochs=2, augment="flip-shift"), _network("keras", last=None)
    whole, resumed = _network("keras"), _network("keras")
    fine_tune(whole, _bars(), settings, framework="keras", teacher=teacher)
    with pytest.raises(Interrupted):
        fine_tune(
            _network("keras"),
            _bars(),
            settings,
            framework="keras",
            teacher=teacher,
            checkpoint=tmp_path,
            progress=_interrupt_after(1),
        )
    history = fine_tune(resumed, _bars(), settings, framework="keras", teacher=teacher, checkpoint=tmp_path)
    rows = Samples({"x": np.zeros((8, 3))}, np.zeros((8, 3)))

    assert history.resumed_from == 1
    assert _equal(_values(whole), _values(resumed))
    with pytest.raises(TrainingError, match=r"images of shape \(H, W, C\) for augment = 'flip-shift', got \(3,\)"):
        fine_tune(_linear("keras", np.eye(3, dtype=np.float32)), rows, settings, framework="keras")


def test_a_limit_draws_other_samples_each_epoch(zoo) -> None:
    """Six steps an epoch with all samples, one with as many as a batch."""
    steps: list[int] = []

    class Counts(import_keras().callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            steps.append(batch)

    settings = replace(QUICK, epochs=2, batch_size=12)
    for limit in (0, 12):
        model = _linear("keras", np.eye(3, dtype=np.float32))
        samples = Samples({"x": np.zeros((80, 3))}, np.zeros((80, 3)))
        fine_tune(model, samples, replace(settings, limit=limit), framework="keras", callbacks=[Counts()])

    assert steps == [*range(6)] * 2 + [0, 0]
    assert [settings.steps(80), replace(settings, limit=12).steps(80)] == [12, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": True},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"validation_fraction": 1.0},
        {"seed": -1},
        {"teacher": ""},
        {"temperature": 0.0},
        {"alpha": 1.1},
        {"features": -1.0},
        {"limit": -1},
        {"patience": "none"},
        {"augment": "shake"},
    ],
)
def test_settings_out_of_range_are_refused(change) -> None:
    """The message names the setting and what came."""
    with pytest.raises(TrainingError, match=next(iter(change))):
        FineTuning(**change)


def test_an_unknown_loss_has_a_suggestion(zoo) -> None:
    """And nothing named in a recipe is ever imported and run."""
    with pytest.raises(TrainingError, match="did you mean 'huber'"):
        fine_tune(_network("keras"), _bars(), replace(QUICK, loss="hubber"), framework="keras")
    with pytest.raises(TrainingError, match="unknown loss 'os:system'"):
        fine_tune(_network("keras"), _bars(), replace(QUICK, loss="os:system"), framework="keras")


def test_the_history_is_what_was_measured(zoo) -> None:
    """It learns the bars: the last accuracy is right, and one line of it was told after each epoch."""
    told: list[tuple[int, int, str]] = []
    history: History = fine_tune(
        _network("keras"), _bars(200), QUICK, framework="keras", progress=lambda *event: told.append(event)
    )

    assert history.validation[-1] > 0.9
    assert history.losses[-1] < history.losses[0]
    assert [(done, total) for done, total, _ in told] == [(1, 3), (2, 3), (3, 3)]
    assert told[-1][2] == f"loss {history.losses[-1]:.4g}, accuracy {history.validation[-1]:.4g}"
