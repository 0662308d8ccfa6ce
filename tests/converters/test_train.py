"""Training a classifier of the zoo."""

from __future__ import annotations

import numpy as np
import pytest
from edgekit_converters import TrainingError
from edgekit_converters.training.train import TrainingSettings, train

pytestmark = pytest.mark.keras


def _bars(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of one bright row, whose number is the class: a problem any convolution learns."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    images = rng.uniform(0, 0.3, (count, 8, 8, 1)).astype(np.float32)
    images[np.arange(count), 2 * labels] = 1.0
    return images, labels


def test_it_learns_and_tells_of_each_epoch(zoo) -> None:
    """Over 95 % on samples it has not seen, and one event an epoch."""
    events: list[tuple[int, int]] = []
    settings = TrainingSettings(epochs=6, batch_size=32)
    model = train(*_bars(400), settings, lambda done, total, text: events.append((done, total)))
    images, labels = _bars(200, seed=1)

    assert (np.asarray(model(images)).argmax(axis=1) == labels).mean() > 0.95
    assert events == [(epoch, 6) for epoch in range(1, 7)]


def test_the_same_seed_gives_the_same_weights(zoo) -> None:
    """Twice the same; another seed is another model."""
    images, labels = _bars(64)
    first, again, other = (
        train(images, labels, TrainingSettings(epochs=1, seed=seed)).get_weights() for seed in (5, 5, 6)
    )

    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": np.zeros((3, 8, 8, 1), np.float32)}, "as many labels as samples"),
        ({"labels": np.zeros(8, np.float32)}, "integer labels"),
        ({"labels": np.full(8, -1)}, "integer labels"),
        ({"inputs": np.full((8, 8, 8, 1), np.nan, np.float32)}, "finite"),
        ({"inputs": np.zeros((8, 3), np.float32)}, "images of shape"),
        ({"settings": TrainingSettings(epochs=0)}, "epochs"),
        ({"settings": TrainingSettings(learning_rate=-1.0)}, "learning_rate"),
        ({"settings": TrainingSettings(validation_fraction=1.0)}, "validation_fraction"),
        ({"settings": TrainingSettings(architecture="clasic-cnn")}, "did you mean 'classic-cnn'"),
    ],
)
def test_what_cannot_be_trained_says_why(zoo, change, words) -> None:
    """Each message names what was expected."""
    given = {
        "inputs": np.zeros((8, 8, 8, 1), np.float32),
        "labels": np.arange(8) % 2,
        "settings": TrainingSettings(epochs=1),
    }

    with pytest.raises(TrainingError, match=words):
        train(**{**given, **change})


def test_a_loss_that_is_no_number_ends_the_training(zoo) -> None:
    """An absurd learning rate is named with the epoch, instead of a model of NaN coming out."""
    images, labels = _bars(256)

    with pytest.raises(TrainingError, match="after epoch"):
        train(images * np.float32(1e38), labels, TrainingSettings(epochs=20, learning_rate=1e30))
