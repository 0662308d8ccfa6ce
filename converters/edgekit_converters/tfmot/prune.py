"""Magnitude pruning with TFMOT: the smallest weights become zero while the others are trained on.

Zhu and Gupta, 2017, arXiv 1710.01878 (the polynomial schedule); Han et al., 2015, arXiv 1506.02626. Zeros make a file smaller
once it is zipped, and nothing faster on a runtime without sparse kernels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_tensorflow, import_tfmot
from ..errors import TechniqueError
from .kernels import (
    Kernel,
    KernelFacts,
    choose_by_name,
    copy_model,
    kernel_facts,
    kernels_of,
    layers_of,
    overall_sparsity,
    passes_masks,
    wrap,
)

__all__ = ["PruneFacts", "PruneSettings", "Pruned", "Train", "follows_pattern", "prune"]

Array = npt.NDArray[Any]
# (wrapped tf_keras model, callbacks it needs) -> the history of its training
Train = Callable[[Any, Sequence[Any]], Any]
SCHEDULES = ("polynomial", "constant")
SCOPES = ("layer", "global")
DEFAULT_SPARSITY = 0.75
# Masks are renewed this often between the begin and the end of a schedule, unless a frequency is given.
UPDATES = 25
# No kernel loses more than this to a global threshold: a layer without weights is a dead network.
GLOBAL_LIMIT = 0.97
BISECTIONS = 40
M_OF_N = re.compile(r"(\d+):(\d+)")
BLOCK = re.compile(r"block:(\d+)x(\d+)")


@dataclass(frozen=True)
class PruneSettings:
    """``sparsity`` is the share of weights that become zero, above 0 and below 1.

    ``schedule``: ``polynomial`` prunes more and more from ``begin`` to ``end``, fractions of the run; ``constant`` all at
    ``begin``. Masks are renewed every ``frequency`` steps. ``pattern``: ``unstructured``, ``m:n`` (m zeros in every n
    consecutive input channels, which sets the sparsity itself) or ``block:HxW`` (blocks of the kernel seen as a matrix of
    inputs by outputs). ``scope``: ``global`` puts one threshold over all layers, which takes most where most is to spare
    (the default without a pattern); ``layer`` prunes each layer to the sparsity (the only one with a pattern).
    ``layers`` gives layers by name or glob a sparsity of their own; 0 leaves one alone. Depthwise kernels are few and
    dear: they are pruned only when named.
    """

    sparsity: float | None = None
    schedule: str = "polynomial"
    begin: float = 0.0
    end: float = 0.5
    frequency: int | None = None
    pattern: str = "unstructured"
    scope: str | None = None
    layers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises TechniqueError for values out of range, with the valid ones."""
        _check_choice("schedule", self.schedule, SCHEDULES)
        if self.scope is not None:
            _check_choice("scope", self.scope, SCOPES)
        if not 0 <= self.begin < self.end <= 1:
            raise TechniqueError(
                f"expected fractions of the run with 0 <= begin < end <= 1, got begin {self.begin} and end {self.end}"
            )
        if self.frequency is not None and self.frequency < 1:
            raise TechniqueError(f"expected a frequency of at least 1 step, got {self.frequency}")
        if self.sparsity is not None:
            _check_sparsity("sparsity", self.sparsity, zero=False)
        for name, value in self.layers.items():
            _check_sparsity(f"the sparsity of {name!r}", value, zero=True)
        self._check_pattern()

    def _check_pattern(self) -> None:
        fixed = self.m_of_n
        if self.pattern != "unstructured" and fixed is None and self.block is None:
            raise TechniqueError(
                f"expected the pattern unstructured, m:n with 0 < m < n (such as 2:4) or block:HxW (such as block:1x4), "
                f"got {self.pattern!r}"
            )
        if self.pattern != "unstructured" and self.scope == "global":
            raise TechniqueError(f"expected the scope 'layer' with the pattern {self.pattern}, got 'global'")
        if fixed is None:
            return
        zeros, group = fixed
        if self.sparsity is not None and not math.isclose(self.sparsity, zeros / group):
            raise TechniqueError(
                f"expected no sparsity, or {zeros / group:g}, with the pattern {self.pattern}, got {self.sparsity}"
            )
        other = next((name for name, value in self.layers.items() if value not in (0, zeros / group)), None)
        if other is not None:
            raise TechniqueError(
                f"expected 0 for {other!r} (left alone) or {zeros / group:g} with the pattern {self.pattern}, "
                f"got {self.layers[other]}"
            )

    @property
    def m_of_n(self) -> tuple[int, int] | None:
        """(zeros, group) of a pattern m:n; None for another."""
        found = M_OF_N.fullmatch(self.pattern)
        if not found or not 0 < int(found[1]) < int(found[2]):
            return None
        return int(found[1]), int(found[2])

    @property
    def block(self) -> tuple[int, int] | None:
        """(rows, columns) of a block pattern; None for another."""
        found = BLOCK.fullmatch(self.pattern)
        return (int(found[1]), int(found[2])) if found and int(found[1]) and int(found[2]) else None

    @property
    def target(self) -> float:
        """The sparsity of a pruned layer that has none of its own."""
        if self.m_of_n:
            return self.m_of_n[0] / self.m_of_n[1]
        return DEFAULT_SPARSITY if self.sparsity is None else self.sparsity


@dataclass(frozen=True)
class PruneFacts:
    """Measured on the pruned model: ``sparsity`` over all its kernels together, and every kernel.

    ``pattern_holds`` is None for an unstructured pattern. ``left`` are layers with kernels that were not pruned, and why.
    """

    sparsity: float
    pattern: str
    pattern_holds: bool | None
    kernels: tuple[KernelFacts, ...]
    left: Mapping[str, str]


@dataclass(frozen=True)
class Pruned:
    """A plain tf_keras model with zeros in its kernels, and what was measured on it."""

    model: Any
    facts: PruneFacts


def prune(model: Any, settings: PruneSettings, train: Train, *, steps_per_run: int) -> Pruned:
    """Prune while ``train`` trains, ``steps_per_run`` optimizer steps long.

    ``model`` is a functional or sequential tf_keras model; it stays as it is. ``train`` gets the wrapped model, whose
    outputs keep their names, and the callbacks it must pass on. Raises TechniqueError for a model with nothing to prune,
    for a named layer that cannot be pruned, or a run too short for the schedule.
    """
    copy = copy_model(model)
    goals, left = _goals(copy.model, settings)
    if not goals:
        reasons = "; ".join(f"{name}: {why}" for name, why in left.items()) or "it has no kernels"
        raise TechniqueError(f"expected a model with a layer to prune, got one without: {reasons}")
    steps = _steps(settings, steps_per_run)
    tfmot = import_tfmot()
    wrapper_type = _wrapper_type(settings)

    def wrapper_of(name: str, layer: Any) -> Any:
        if name not in goals:
            return layer
        kernels = _prunable(layer, settings)
        layer.get_prunable_weights = lambda: [kernel.variable for kernel in kernels]
        return wrapper_type(layer, pruning_schedule=_schedule(settings, goals[name], steps))

    wrapped = wrap(copy, wrapper_of)
    train(wrapped, [tfmot.sparsity.keras.UpdatePruningStep()])
    plain = copy.finish(_masked(wrapped))
    return Pruned(plain, _facts(plain, settings, goals, left))


def follows_pattern(values: Array, pattern: str) -> bool:
    """Whether a kernel of shape (…, inputs, outputs) has the zeros of ``m:n`` or ``block:HxW``.

    For a block pattern: whether every block that holds a zero where blocks were removed is zero as a whole.
    """
    settings = PruneSettings(pattern=pattern)
    if settings.m_of_n:
        zeros, group = settings.m_of_n
        rows = np.moveaxis(values, -2, -1).reshape(-1, values.shape[-2]) != 0
        padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % group)))
        return bool((padded.reshape(-1, group).sum(axis=1) <= group - zeros).all())
    if settings.block:
        height, width = settings.block
        matrix = values.reshape(-1, values.shape[-1]) != 0
        padded = np.pad(matrix, ((0, -matrix.shape[0] % height), (0, -matrix.shape[1] % width)))
        blocks = padded.reshape(padded.shape[0] // height, height, -1, width).any(axis=(1, 3))
        full = np.repeat(np.repeat(blocks, height, 0), width, 1)[: matrix.shape[0], : matrix.shape[1]]
        return bool((full == matrix).all())
    return True


def _goals(model: Any, settings: PruneSettings) -> tuple[dict[str, float], dict[str, str]]:
    """The final sparsity of each layer that is pruned, and why the others with kernels are not."""
    layers = {name: layer for name, layer in layers_of(model) if kernels_of(layer)}
    named = choose_by_name(settings.layers, list(layers))
    goals: dict[str, float] = {}
    left: dict[str, str] = {}
    for name, layer in layers.items():
        why = _why_not(layer, settings, named=name in named)
        if named.get(name) == 0:
            left[name] = "left alone as asked"
        elif why and name in named:
            raise TechniqueError(f"expected a layer that can be pruned, got {name!r} ({type(layer).__name__}): {why}")
        elif why:
            left[name] = why
        else:
            goals[name] = named.get(name, settings.target)
    if settings.pattern == "unstructured" and settings.scope != "layer":
        free = {name: layers[name] for name in goals if name not in named}
        goals.update(_global_goals(free, settings))
    return goals, left


def _why_not(layer: Any, settings: PruneSettings, *, named: bool) -> str:
    """Why a layer with kernels is not pruned; empty when it is."""
    if not layer.trainable:
        return "its weights are frozen"
    if not _prunable(layer, settings):
        return f"its kernels have no input channels to lay the pattern {settings.pattern} over"
    depthwise = all(kernel.name == "depthwise_kernel" for kernel in kernels_of(layer))
    if depthwise and not named:
        return "a depthwise kernel has few weights and needs them: name the layer to prune it"
    return ""


def _prunable(layer: Any, settings: PruneSettings) -> list[Kernel]:
    """The kernels of a layer that take part: the depthwise one of a separable convolution does not."""
    kernels = kernels_of(layer)
    pointwise = [kernel for kernel in kernels if kernel.name != "depthwise_kernel"]
    if settings.pattern == "unstructured":
        return pointwise or kernels
    return [kernel for kernel in pointwise if "Transpose" not in type(kernel.owner).__name__]


def _global_goals(layers: Mapping[str, Any], settings: PruneSettings) -> dict[str, float]:
    """Per layer, the share of its weights under one threshold that lies at the sparsity of all weights together."""
    magnitudes = {
        name: np.concatenate([np.abs(item.variable.numpy()).ravel() for item in _prunable(layer, settings)])
        for name, layer in layers.items()
    }
    if not magnitudes:
        return {}
    total = sum(values.size for values in magnitudes.values())
    limit = max(GLOBAL_LIMIT, settings.target)

    def shares(threshold: float) -> dict[str, float]:
        return {name: min(float(np.mean(values <= threshold)), limit) for name, values in magnitudes.items()}

    low, high = 0.0, max(float(values.max()) for values in magnitudes.values())
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        reached = sum(share * magnitudes[name].size for name, share in shares(middle).items())
        low, high = (middle, high) if reached < settings.target * total else (low, middle)
    return shares(high)


@dataclass(frozen=True)
class _Steps:
    begin: int
    end: int
    frequency: int


def _steps(settings: PruneSettings, steps_per_run: int) -> _Steps:
    """When masks are renewed, in steps counted from 1; ``end`` is such a step, or the goal would not be reached."""
    if steps_per_run < 2:
        raise TechniqueError(f"expected a training of at least 2 steps to prune in, got {steps_per_run}: train longer")
    begin = 1 + round(settings.begin * (steps_per_run - 1))
    end = max(round(settings.end * steps_per_run), begin + 1)
    frequency = settings.frequency or max(1, (end - begin) // UPDATES)
    updates = (end - begin) // frequency
    if end > steps_per_run or not updates:
        raise TechniqueError(
            f"expected a training long enough to prune every {frequency} steps from step {begin} to {end}, "
            f"got {steps_per_run} steps: train longer, or lower the frequency"
        )
    return _Steps(begin, begin + updates * frequency, frequency)


def _schedule(settings: PruneSettings, goal: float, steps: _Steps) -> Any:
    sparsity = import_tfmot().sparsity.keras
    if settings.schedule == "constant" or settings.m_of_n:
        return sparsity.ConstantSparsity(goal, steps.begin, steps.end, steps.frequency)
    return sparsity.PolynomialDecay(0.0, goal, steps.begin, steps.end, frequency=steps.frequency)


def _wrapper_type(settings: PruneSettings) -> Callable[..., Any]:
    """TFMOT's wrapper for this pattern; patterns reach kernels of any rank, which TFMOT's own do not."""
    base = passes_masks(import_tfmot().sparsity.keras.prune_scope().custom_objects[0]["PruneLowMagnitude"])

    class Wrapper(base):  # type: ignore[valid-type, misc]
        def build(self, input_shape: Any) -> None:
            super().build(input_shape)
            tensors, step = self.pruning_vars, self.pruning_step
            self.pruning_obj: Any = _pruning_type(type(self.pruning_obj))(
                lambda: step, tensors, self.pruning_schedule, settings.block or (1, 1), "AVG", settings.m_of_n
            )

    return Wrapper


def _pruning_type(base: type) -> type:
    tensorflow = import_tensorflow()

    class Pruning(base):  # type: ignore[misc]
        def _validate_block(self) -> None:
            """Kernels of any rank are seen as a matrix below."""

        def _maybe_update_block_mask(self, weights: Any) -> Any:
            shape = tuple(weights.shape)
            if self._block_size != [1, 1]:
                return self._block_mask(tensorflow.reshape(weights, (-1, shape[-1])), shape)
            if self._sparsity_m_by_n and len(shape) > 2:
                weights = tensorflow.reshape(weights, (-1, 1, *shape[-2:]))
            threshold, mask = super()._maybe_update_block_mask(weights)
            return threshold, tensorflow.reshape(mask, shape)

        def _block_mask(self, matrix: Any, shape: tuple[int, ...]) -> Any:
            """Zeros for the blocks of the smallest mean magnitude; TFMOT's own fails where one block is as wide as a matrix."""
            (rows, columns), (height, width) = matrix.shape, self._block_size
            edges = ((0, -rows % height), (0, -columns % width))
            padded = tensorflow.pad(tensorflow.abs(matrix), edges)
            blocks = tensorflow.reshape(padded, (-(-rows // height), height, -1, width))
            threshold, mask = self._update_mask(tensorflow.reduce_mean(blocks, axis=(1, 3)))
            whole = tensorflow.repeat(tensorflow.repeat(mask, height, axis=0), width, axis=1)
            return threshold, tensorflow.reshape(whole[:rows, :columns], shape)

    return Pruning


def _masked(wrapped: Any) -> dict[int, Array]:
    """The values of all pruned kernels: the last step of a training may have moved weights that are masked."""
    return {
        id(weight): weight.numpy() * mask.numpy()
        for _, layer in layers_of(wrapped)
        for weight, mask, _ in getattr(layer, "pruning_vars", ())
    }


def _facts(plain: Any, settings: PruneSettings, goals: Mapping[str, float], left: Mapping[str, str]) -> PruneFacts:
    kernels = kernel_facts(plain)
    holds = None
    if settings.pattern != "unstructured":
        pruned = [kernel for name, layer in layers_of(plain) if name in goals for kernel in _prunable(layer, settings)]
        holds = all(follows_pattern(kernel.variable.numpy(), settings.pattern) for kernel in pruned)
    return PruneFacts(overall_sparsity(kernels), settings.pattern, holds, kernels, dict(left))


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise TechniqueError(f"expected the {what} to be one of {', '.join(choices)}, got {value!r}")


def _check_sparsity(what: str, value: float, *, zero: bool) -> None:
    low = "0 (left alone)" if zero else "above 0"
    if not (value >= 0 if zero else value > 0) or not value < 1:
        raise TechniqueError(
            f"expected {what} to be {low} and below 1, got {value}: it is the share of weights that become zero, and a layer "
            "needs some; try 0.75, and rarely more than 0.9"
        )
