"""A recipe's steps in order, from a model of either Keras to a smaller Keras 3 model, each with its fine-tuning.

Under ``checkpoints`` every step has a folder, named by all that decides its outcome: the fine-tuning's checkpoint while it
runs, the model and the facts once it is done. A run that was killed goes on in the middle of the step it was killed in.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ._tf import import_keras
from .errors import ConverterError, TechniqueError
from .load import LoadedModel, load_model
from .settings import technique_settings
from .training.checkpoint import FILE as TRAINING
from .training.checkpoint import digest, write_whole
from .training.distill import DistillSettings, Teacher, ensure_alike, student_for
from .training.finetune import FineTuning, History, fine_tune
from .training.losses import objective_for
from .training.samples import Samples, model_inputs

__all__ = ["Compressed", "Step", "check_steps", "compress"]

Progress = Callable[[int, int, str], None]
# A later technique undoes an earlier one when taken in another order: training fills zeros, clusters drift apart.
ORDER = {"slim": 0, "distill": 0, "finetune": 0, "prune": 1, "cluster": 2, "qat": 3}
PRESERVED = {"prune": "sparsity", "cluster": "clusters"}
MODEL, FACTS = "model.keras", "facts.json"


@dataclass(frozen=True)
class Step:
    """One technique of a recipe: slim, distill, finetune, prune, cluster or qat.

    ``options`` are those of its settings; ``finetune`` among them overrides settings of the fine-tuning for this step.
    """

    technique: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Compressed:
    """A plain Keras 3 model, and what was achieved: ``facts["steps"]`` has, for each step, its facts and its history."""

    model: Any
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class _Plan:
    """A step that was checked."""

    technique: str
    options: Mapping[str, Any]
    settings: Any
    tuning: FineTuning


@dataclass(frozen=True)
class _Outcome:
    model: Any
    facts: Any
    history: History | None


def check_steps(steps: Sequence[Step], fine_tuning: FineTuning) -> list[FineTuning]:
    """The fine-tuning of each step; raises TechniqueError or TrainingError for what no model could make right.

    That is: an unknown technique or option, a value out of range, an order in which one step would undo another.
    """
    return [plan.tuning for plan in _plans(steps, fine_tuning)]


def compress(
    loaded: LoadedModel,
    steps: Sequence[Step],
    samples: Samples | None,
    fine_tuning: FineTuning,
    *,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    trust: bool = False,
) -> Compressed:
    """Take ``loaded`` through ``steps``; its own model stays as it is.

    ``samples`` are the training data; only slimming does without, and is then not fine-tuned. ``trust`` is load_model's, for
    teachers, students and models kept under ``checkpoints``. Everything that can be told before the first epoch is: raises
    TechniqueError, TrainingError, and UnsupportedModelError from the bridge.
    """
    from .bridge import ensure_keras

    plans = _plans(steps, fine_tuning)
    original = ensure_keras(loaded)
    run = _Run(original, plans, samples, checkpoints, progress, trust)
    return run.all_steps()


def _plans(steps: Sequence[Step], fine_tuning: FineTuning) -> list[_Plan]:
    plans = []
    for step in steps:
        settings = technique_settings(step.technique, step.options)
        plans.append(_Plan(step.technique, step.options, settings, _tuning(step, settings, fine_tuning)))
    for before, after in itertools.pairwise(steps):
        if ORDER[before.technique] > ORDER[after.technique]:
            raise TechniqueError(
                f"expected {after.technique} before {before.technique}, got it after, where its training would undo what "
                f"{before.technique} did: the order is slim, distill and finetune, then prune, cluster, qat"
            )
    return plans


def _tuning(step: Step, settings: Any, fine_tuning: FineTuning) -> FineTuning:
    tuning = replace(fine_tuning, **step.options.get("finetune", {}))
    if not isinstance(settings, DistillSettings):
        return tuning
    named = {name: getattr(settings, name) for name in ("temperature", "alpha", "features")}
    changes = {name: value for name, value in named.items() if value is not None}
    return replace(tuning, teacher="original" if tuning.teacher == "none" else tuning.teacher, **changes)


class _Run:
    """A model on its way through the steps."""

    def __init__(
        self,
        original: Any,
        plans: Sequence[_Plan],
        samples: Samples | None,
        checkpoints: Path | None,
        progress: Progress | None,
        trust: bool,
    ) -> None:
        self.original, self.plans, self.samples, self.trust = original, plans, samples, trust
        self.checkpoints, self.progress = checkpoints, progress
        self.epochs_before = 0
        self.epochs = sum(_epochs(plan, samples) for plan in plans)
        self._ensure_data()
        self.teachers = {plan.tuning.teacher: self._teacher(plan.tuning.teacher) for plan in plans}
        self.students = {at: self._student(plan) for at, plan in enumerate(plans) if plan.technique == "distill"}

    def all_steps(self) -> Compressed:
        """Every step that is not done yet, in order."""
        folders = self._folders()
        done = next((at + 1 for at in reversed(range(len(folders))) if _is_done(folders[at])), 0)
        model, facts = self.original, []
        while done and (found := self._kept(folders[done - 1])) is None:
            done -= 1  # damaged: what came before it may not be
        if done:
            model = found
            facts = [json.loads((folder / FACTS).read_text(encoding="utf-8")) for folder in folders[:done] if folder]
        self.epochs_before = sum(_epochs(plan, self.samples) for plan in self.plans[:done])
        for at in range(done, len(self.plans)):
            outcome = self._step(at, model, folders[at])
            model = outcome.model
            facts.append(_told(self.plans[at], outcome))
            _keep(folders[at], model, facts[-1])
            self.epochs_before += _epochs(self.plans[at], self.samples)
        return Compressed(model, {"steps": facts})

    def _step(self, at: int, model: Any, folder: Path | None) -> _Outcome:
        plan = self.plans[at]
        if plan.technique == "slim":
            return self._slim(plan, model, folder)
        if plan.technique in ("distill", "finetune"):
            student = self.students.get(at)
            learner = _copy(model) if student is None else student
            history = self._tune(plan, learner, "keras", folder)
            student_name = plan.settings.student if plan.technique == "distill" else None
            return _Outcome(learner, {} if student_name is None else {"student": student_name}, history)
        return self._in_tf_keras(at, model, folder)

    def _slim(self, plan: _Plan, model: Any, folder: Path | None) -> _Outcome:
        from .slim import slim

        def between(slimmed: Any, number: int) -> Any:
            if self.samples is not None:
                self._tune(plan, slimmed, "keras", folder and folder / f"round{number}", number)
            return slimmed

        made = slim(
            model,
            plan.settings,
            samples=self.samples,
            loss=self._taylor_loss(plan, model),
            fine_tune=between,
            seed=plan.tuning.seed,
        )
        history = None
        if self.samples is not None:
            last = plan.settings.rounds - 1
            history = self._tune(plan, made.model, "keras", folder and folder / f"round{last}", last)
        return _Outcome(made.model, made.facts, history)

    def _taylor_loss(self, plan: _Plan, model: Any) -> Any:
        """The named loss as slimming takes it; None for the one it chooses itself."""
        if plan.tuning.loss == "auto" or self.samples is None or self.samples.labels is None:
            return None
        of = objective_for(model, self.samples.labels, plan.tuning.loss, taught=False).of
        assert of is not None
        return lambda labels, outputs: of(outputs, labels)

    def _in_tf_keras(self, at: int, model: Any, folder: Path | None) -> _Outcome:
        from .bridge import to_keras, to_tf_keras

        plan, histories = self.plans[at], []

        def train(wrapped: Any, callbacks: Sequence[Any] = ()) -> History:
            # Pruned less, an early epoch would win on accuracy: the last one has what was asked for.
            keep_best = plan.technique != "prune"
            histories.append(self._tune(plan, wrapped, "tf_keras", folder, callbacks=callbacks, keep_best=keep_best))
            return histories[-1]

        made = self._apply(at, to_tf_keras(model), train)
        return _Outcome(to_keras(made.model), made.facts, histories[-1] if histories else None)

    def _apply(self, at: int, model: Any, train: Callable[..., History]) -> Any:
        """The technique's own function, on a tf_keras model."""
        plan = self.plans[at]
        before = [earlier.technique for earlier in self.plans[:at]]
        if plan.technique == "prune":
            from .tfmot.prune import prune

            assert self.samples is not None
            return prune(model, plan.settings, train, steps_per_run=plan.tuning.steps(self.samples.count))
        if plan.technique == "cluster":
            from .tfmot.cluster import cluster

            settings = replace(plan.settings, preserve_sparsity=True) if "prune" in before else plan.settings
            return cluster(model, settings, train, seed=plan.tuning.seed)
        from .tfmot.qat import qat

        preserve = next((PRESERVED[name] for name in ("cluster", "prune") if name in before), None)
        return qat(model, plan.settings, train, preserve=preserve)

    def _tune(
        self,
        plan: _Plan,
        model: Any,
        framework: str,
        folder: Path | None,
        number: int = 0,
        callbacks: Sequence[Any] = (),
        keep_best: bool = True,
    ) -> History:
        assert self.samples is not None
        base = self.epochs_before + number * plan.tuning.epochs

        def told(done: int, total: int, text: str) -> None:
            if self.progress is not None:
                self.progress(base + done, self.epochs, f"{plan.technique}: {text}")

        return fine_tune(
            model,
            self.samples,
            plan.tuning,
            framework=framework,
            teacher=self.teachers[plan.tuning.teacher],
            callbacks=callbacks,
            checkpoint=folder,
            progress=told,
            keep_best=keep_best,
        )

    def _ensure_data(self) -> None:
        """That there are samples for what needs them, and that they fit the model."""
        if self.samples is None:
            needy = [plan.technique for plan in self.plans if plan.technique != "slim"]
            if needy:
                raise TechniqueError(
                    f"expected training samples for {needy[0]}, got none: give the data the model is to be fine-tuned on"
                )
            return
        model_inputs(self.original, self.samples)
        for plan in self.plans:
            taught = plan.tuning.teacher != "none"
            objective_for(self.original, self.samples.labels, plan.tuning.loss, taught=taught)

    def _teacher(self, name: str) -> Teacher | None:
        if name == "none":
            return None
        if name == "original":
            return Teacher(self.original)
        loaded = load_model(name, trust=self.trust)
        if loaded.framework == "saved_model":
            raise TechniqueError(f"expected a Keras model as the teacher, got a SavedModel: {name}")
        ensure_alike(self.original, loaded.model)
        return Teacher(loaded.model)

    def _student(self, plan: _Plan) -> Any:
        assert self.samples is not None
        inputs = model_inputs(self.original, self.samples)
        teacher = self.teachers[plan.tuning.teacher]
        assert teacher is not None
        return student_for(plan.settings, teacher.model, inputs, tuning=plan.tuning, trust=self.trust)

    def _folders(self) -> list[Path | None]:
        """A folder for each step, named by all that decides what comes out of it."""
        if self.checkpoints is None:
            return [None] * len(self.plans)
        arrays = [] if self.samples is None else [*self.samples.inputs.values(), self.samples.labels]
        key = digest(_fingerprint(self.original), *(np.asarray(array) for array in arrays if array is not None))
        folders: list[Path | None] = []
        for at, plan in enumerate(self.plans):
            teacher = self.teachers[plan.tuning.teacher]
            others = [self.students.get(at), None if teacher is None else teacher.model]
            prints = [_fingerprint(model) for model in others if model is not None]
            options = [plan.technique, dict(plan.options), asdict(plan.tuning)]
            key = digest(key, options, prints)
            folders.append(self.checkpoints / f"{at + 1:02d}-{plan.technique}-{key[:12]}")
        return folders

    def _kept(self, folder: Path | None) -> Any:
        """The model a step left; None when it cannot be read."""
        assert folder is not None
        try:
            json.loads((folder / FACTS).read_text(encoding="utf-8"))
            return load_model(folder / MODEL, trust=self.trust).model
        except (ConverterError, OSError, ValueError):
            return None


def _epochs(plan: _Plan, samples: Samples | None) -> int:
    if samples is None:
        return 0
    return plan.tuning.epochs * (int(plan.settings.rounds) if plan.technique == "slim" else 1)


def _fingerprint(model: Any) -> str:
    layers = [type(layer).__name__ for layer in model.layers]
    return digest(layers, *(np.asarray(weight.numpy()) for weight in model.weights))


def _copy(model: Any) -> Any:
    """The same model with variables of its own: what is given to us is not trained."""
    copy = import_keras().models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _is_done(folder: Path | None) -> bool:
    return folder is not None and (folder / FACTS).is_file()


def _keep(folder: Path | None, model: Any, facts: Mapping[str, Any]) -> None:
    """The model first, then its facts: where these are, the step is done."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / MODEL, model.save)
    write_whole(folder / FACTS, lambda path: path.write_text(json.dumps(facts), encoding="utf-8"))
    for training in folder.rglob(TRAINING):
        training.unlink()  # several times the model's size, and of no more use


def _told(plan: _Plan, outcome: _Outcome) -> dict[str, Any]:
    facts = {"technique": plan.technique, **_plain(outcome.facts), "parameters": int(outcome.model.count_params())}
    history = None if outcome.history is None else _plain(outcome.history)
    return {**facts, "fine_tuning": asdict(plan.tuning), "history": history}


def _plain(value: Any) -> Any:
    """``value`` as JSON data."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
