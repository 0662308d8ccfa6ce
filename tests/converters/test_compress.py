"""The compressor's steps: their order, what is kept of them, and that a kill at any moment loses nothing."""

from __future__ import annotations

import json
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from edgekit_converters import ConverterCrashError, TechniqueError, TrainingError, Worker
from edgekit_converters._tf import import_keras, import_tf_keras
from edgekit_converters.compress import Compressed, Step, check_steps, compress
from edgekit_converters.load import LoadedModel, load_model
from edgekit_converters.training.finetune import FineTuning
from edgekit_converters.training.samples import Samples

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:distutils:DeprecationWarning"),  # TFMOT, when it is imported
    pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning"),  # Keras' own, when it saves
]

QUICK = FineTuning(epochs=1, batch_size=16, learning_rate=0.01)
STEPS = [
    Step("slim", {"to": 0.6, "rounds": 2}),
    Step("distill", {"finetune": {"epochs": 2}}),
    Step("prune", {"sparsity": 0.5}),
]


def _network(framework: str = "keras") -> Any:
    keras = import_keras() if framework == "keras" else import_tf_keras()
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Rescaling(1 / 255, name="rescale"),
            layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Dropout(0.1, name="drop"),
            layers.Flatten(name="flatten"),
            layers.Dense(4, activation="softmax", name="scores"),
        ]
    )


def _bars(count: int = 80) -> Samples:
    """Images, of pixels to 255, of one bright row, whose number is the class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, count)
    images = rng.uniform(0, 80, (count, 8, 8, 1)).astype(np.float32)
    images[np.arange(count), 2 * labels] = 255.0
    return Samples({"image": images}, labels)


def _equal(first: Any, second: Any) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(first.get_weights(), second.get_weights(), strict=True))


def _without_time(facts: Any) -> Any:
    """Facts as JSON without what differs from run to run: seconds, and what was gone on from."""
    loaded = json.loads(json.dumps(facts))
    for step in loaded["steps"]:
        for name in ("seconds", "resumed_from"):
            (step["history"] or {}).pop(name, None)
    return loaded


class Interrupted(Exception):
    """The Ctrl-C of these tests."""


def _interrupt_at(epoch: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, text: str) -> None:
        if done == epoch:
            raise Interrupted

    return progress


def _append_to(epochs: list[int]) -> Callable[[int, int, str], None]:
    return lambda done, total, text: epochs.append(done)


@pytest.fixture(scope="module")
def whole(zoo) -> Compressed:
    """What STEPS make of the network when nothing interrupts them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "distutils", DeprecationWarning)
        return compress(LoadedModel(_network(), "keras"), STEPS, _bars(), QUICK)


def test_an_interrupted_recipe_goes_on_in_its_step(whole: Compressed, tmp_path: Path) -> None:
    """Stopped in the second of three steps: the first is not done again, and the end is the same bit for bit."""
    loaded = LoadedModel(_network(), "keras")
    before = [np.array(values) for values in loaded.model.get_weights()]
    with pytest.raises(Interrupted):
        compress(loaded, STEPS, _bars(), QUICK, checkpoints=tmp_path, progress=_interrupt_at(3))
    (tmp_path / "02-distill-000000000000").mkdir()  # another recipe's, which stays out of this
    events: list[tuple[int, int, str]] = []
    resumed = compress(
        loaded, STEPS, _bars(), QUICK, checkpoints=tmp_path, progress=lambda *event: events.append(event)
    )

    assert [(done, total) for done, total, _ in events] == [(4, 5), (5, 5)]
    assert [text.split(":")[0] for _, _, text in events] == ["distill", "prune"]
    assert _equal(resumed.model, whole.model)
    assert _without_time(resumed.facts) == _without_time(whole.facts)
    assert all(np.array_equal(old, new) for old, new in zip(before, loaded.model.get_weights(), strict=True))
    assert not list(tmp_path.rglob("training.npz"))


def test_a_finished_step_is_not_done_again_unless_its_model_is_damaged(zoo, tmp_path: Path) -> None:
    """No epoch the second time; then all those of the step whose file cannot be read."""
    loaded, steps = LoadedModel(_network(), "keras"), [Step("finetune"), Step("distill")]
    counts, models = [], []
    for damage in (None, None, "02-*", "0*"):
        for folder in tmp_path.glob(damage) if damage else ():
            (folder / "model.keras").write_bytes(b"PK damaged")
        events: list[int] = []
        made = compress(loaded, steps, _bars(), QUICK, checkpoints=tmp_path, progress=_append_to(events))
        counts.append(len(events))
        models.append(made.model)

    assert counts == [2, 0, 1, 2]
    assert all(_equal(model, models[0]) for model in models)


def test_facts_say_what_was_achieved(whole: Compressed) -> None:
    """Plain JSON for each step, measured on the model that comes out of it."""
    slim, distilled, pruned = json.loads(json.dumps(whole.facts))["steps"]
    kernels = [whole.model.get_layer(name).kernel.numpy() for name in ("conv", "scores")]
    zeros = sum((kernel == 0).sum() for kernel in kernels) / sum(kernel.size for kernel in kernels)

    assert [step["technique"] for step in (slim, distilled, pruned)] == ["slim", "distill", "prune"]
    assert slim["macs_after"] <= 0.6 * slim["macs_before"]
    assert distilled["fine_tuning"]["teacher"] == "original"
    assert distilled["history"]["metric"] == "accuracy"
    assert pruned["sparsity"] == pytest.approx(zeros)
    assert zeros == pytest.approx(0.5, abs=0.01)
    assert pruned["parameters"] == whole.model.count_params() < _network().count_params()


def test_later_techniques_are_told_what_to_preserve(zoo, monkeypatch) -> None:
    """Clustering after pruning keeps the zeros, quantization-aware training the clusters, or else the zeros."""
    told: list[tuple[str, Any]] = []

    def fake(technique: str) -> Callable[..., Any]:
        def apply(model: Any, settings: Any, train: Any, **options: Any) -> Any:
            told.append((technique, options.get("preserve", getattr(settings, "preserve_sparsity", None))))
            return SimpleNamespace(model=model, facts={})

        return apply

    for technique in ("prune", "cluster", "qat"):
        monkeypatch.setattr(f"edgekit_converters.tfmot.{technique}.{technique}", fake(technique))
    for names in (["prune", "cluster", "qat"], ["prune", "qat"], ["cluster"], ["qat"]):
        compress(LoadedModel(_network(), "keras"), [Step(name) for name in names], _bars(), QUICK)

    assert told == [
        ("prune", None),
        ("cluster", True),
        ("qat", "clusters"),
        ("prune", None),
        ("qat", "sparsity"),
        ("cluster", False),
        ("qat", None),
    ]


def test_a_keras_2_model_and_a_student_of_the_zoo(zoo) -> None:
    """A Keras 3 student comes out, taught by the Keras 2 model."""
    loaded = LoadedModel(_network("tf_keras"), "tf_keras")
    made = compress(loaded, [Step("distill", {"student": "zoo:mlp", "alpha": 0.9})], _bars(), QUICK)

    assert isinstance(made.model, import_keras().Model)
    assert made.model.name == "mlp"
    assert made.facts["steps"][0]["student"] == "zoo:mlp"
    assert made.facts["steps"][0]["fine_tuning"]["alpha"] == 0.9


def test_slimming_needs_no_data(zoo) -> None:
    """Without samples it is not fine-tuned; everything else asks for them."""
    made = compress(LoadedModel(_network(), "keras"), STEPS[:1], None, QUICK)

    assert made.facts["steps"][0]["history"] is None
    with pytest.raises(TechniqueError, match="expected training samples for distill"):
        compress(LoadedModel(_network(), "keras"), STEPS, None, QUICK)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([Step("prun")], "unknown technique 'prun'; did you mean 'prune'"),
        ([Step("prune", {"sparsty": 0.5})], "unknown option 'sparsty' of prune; did you mean 'sparsity'"),
        ([Step("slim", {"to": 0.5}), Step("prune", {"sparsity": 1.0})], "below 1, got 1.0"),
        ([Step("finetune", {"epochs": 3})], "but a table 'finetune'"),
        ([Step("finetune", {"finetune": {"epoch": 3}})], "did you mean 'epochs'"),
        ([Step("prune"), Step("finetune")], "expected finetune before prune"),
        ([Step("distill", {"student": "zoo:resnet9"})], "did you mean zoo:resnet8"),
    ],
)
def test_what_no_model_could_make_right_is_refused_at_once(steps, words) -> None:
    """Before a model is read."""
    with pytest.raises(TechniqueError, match=words):
        check_steps(steps, QUICK)


@pytest.mark.parametrize(
    ("step", "samples", "error", "words"),
    [
        (Step("prune"), Samples({"x": np.zeros((8, 7, 8, 1))}, np.zeros(8, int)), TrainingError, r"\(8, 8, 1\)"),
        (Step("prune"), Samples({"x": np.zeros((8, 8, 8, 1))}, np.full(8, 4)), TrainingError, "labels from 0 to 3"),
        (Step("distill", {"student": "nowhere.keras"}), _bars(), TechniqueError, "a path that is not there"),
        (Step("distill", {"student": "zoo:mobilenet-tiny"}), _bars(), TrainingError, "at least 16 by 16"),
        (Step("finetune", {"finetune": {"loss": "hubber"}}), _bars(), TrainingError, "did you mean 'huber'"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_the_first_epoch(zoo, step, samples, error, words) -> None:
    """Even where a step that would do comes first."""
    events: list[int] = []

    with pytest.raises(error, match=words):
        compress(
            LoadedModel(_network(), "keras"),
            [Step("slim", {"to": 0.6}), step],
            samples,
            QUICK,
            progress=_append_to(events),
        )
    assert events == []


@pytest.fixture
def job(zoo, tmp_path: Path) -> dict[str, Any]:
    """A job for the worker: a model file, and raw pixels that a scale changes."""
    samples = _bars()
    _network().save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=np.round(samples.inputs["image"]).astype(np.uint8), y=samples.labels)
    return {
        "model": str(tmp_path / "model.keras"),
        "out": str(tmp_path / "out.keras"),
        "data": str(tmp_path / "data.npz"),
        "scale": 0.5,
        # The second step is long: the kill must come before its end.
        "steps": [{"technique": "finetune"}, {"technique": "distill", "options": {"finetune": {"epochs": 30}}}],
        "fine_tuning": {"epochs": 1, "batch_size": 40, "learning_rate": 0.01},
        "checkpoints": str(tmp_path / "checkpoints"),
    }


def test_a_killed_worker_goes_on_where_it_was(job, tmp_path: Path) -> None:
    """SIGKILL after an epoch of the second step: the next call ends with what one never killed makes."""
    with Worker() as worker:

        def kill_at(epoch: int) -> Callable[[int, int, str], None]:
            def progress(done: int, total: int, text: str) -> None:
                if done == epoch and worker._process is not None:
                    os.kill(worker._process.pid, signal.SIGKILL)

            return progress

        with pytest.raises(ConverterCrashError, match="SIGKILL"):
            worker.call("compress", progress=kill_at(2), seed=7, **job)
        assert not Path(job["out"]).exists()
        resumed = worker.call("compress", seed=7, **job)
        out = load_model(job["out"]).model
        whole = worker.call("compress", seed=7, **{**job, "checkpoints": None})

    assert _without_time(resumed["facts"]) == _without_time(whole["facts"])
    assert resumed["facts"]["steps"][1]["history"]["resumed_from"] >= 1
    assert resumed["facts"]["steps"][0]["fine_tuning"]["seed"] == 7
    assert _equal(out, load_model(job["out"]).model)


def test_errors_cross_the_process(worker: Worker, job) -> None:
    """A misspelt option, and data that does not fit, arrive as what they are."""
    with pytest.raises(TechniqueError, match="did you mean 'sparsity'"):
        worker.call("compress", **{**job, "steps": [{"technique": "prune", "options": {"sparsty": 0.5}}]})
    with pytest.raises(TrainingError, match="epochs of the fine-tuning of at least 1"):
        worker.call("compress", **{**job, "fine_tuning": {"epochs": 0}})
    np.savez(job["data"], **{"x.image": np.zeros((8, 8, 8, 1)), "y": np.arange(8)})
    with pytest.raises(TrainingError, match="labels from 0 to 3"):
        worker.call("compress", **job)
