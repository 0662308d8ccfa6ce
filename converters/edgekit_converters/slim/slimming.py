"""Slimming: branches and channels really removed from a Keras 3 model, to a ratio of MACs, parameters or bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import TechniqueError
from ..graph import functional
from ..training.samples import Samples
from .branches import drop_branches
from .channels import Channels
from .costs import KINDS, Costs, Ledger
from .importance import Scores, weight_scores
from .rebuild import kept_channels, rebuild
from .reconstruct import observe, recalibrate, reconstructed
from .refit import refit
from .select import least_reachable, remove_least
from .settings import SlimSettings
from .taylor import taylor_scores
from .trace import Shapes, trace_channels

__all__ = ["Slimmed", "slim"]

FineTune = Callable[[Any, int], Any]
Kept = Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Slimmed:
    """A plain Keras 3 model, not compiled, and what was measured on it.

    ``facts`` are plain values: ``macs_before``, ``macs_after`` and the same of ``parameters`` and ``bytes``; ``channels``
    [before, after] by layer, 0 where it went with its branch; ``branches_removed``, the MACs each of these saved by the name
    of the addition it led to; ``depth_before`` and ``depth_after``, the calls that multiply (convolutions, dense layers, …);
    ``rounds``, ``importance``, ``scope``; ``protected``, the reason by layer. ``kept`` holds, for each layer with weights, by
    path ("outer/inner"), which of the original's channels it still gives out.
    """

    model: Any
    facts: Mapping[str, Any]
    kept: Kept


def slim(
    model: Any,
    settings: SlimSettings,
    *,
    samples: Samples | None = None,
    loss: Any = None,
    fine_tune: FineTune | None = None,
    seed: int = 0,
) -> Slimmed:
    """Remove the least important channels of a built functional or sequential Keras 3 model; ``model`` stays as it is.

    With ``settings.branches``, residual branches go first, and channels for what is then still to be saved.

    ``samples`` let the model make up for what it loses (``reconstruct``) and, with labels and ``loss`` (see taylor_scores),
    tell what matters ("taylor"); their shape stands for dimensions that the model leaves open. ``fine_tune(model, round)``
    is called after each round but the last, and returns the model to go on with: the caller fine-tunes the result.

    Raises UnsupportedModelError for a model without a graph, TechniqueError for names in ``protect`` that are
    not there, a ratio that cannot be reached (the message says which can), and "taylor" without labels.
    """
    shapes = {name: np.shape(values)[1:] for name, values in samples.inputs.items()} if samples is not None else {}
    first = trace_channels(model, protect=settings.protect, shapes=shapes)
    before = Ledger(first).costs()
    now, channels, branches = model, first, dict[str, int]()
    if settings.branches:
        now, branches = _without_branches(model, first, settings, shapes, samples, seed)
        channels = trace_channels(now, protect=settings.protect, shapes=shapes)
    _ensure_reachable(model, channels, before, settings, shapes)
    kept = {path: rows[:0] for path, rows in kept_channels(first, np.ones(first.count, bool)).items()}
    kept |= kept_channels(channels, np.ones(channels.count, bool))
    for number in range(settings.rounds):
        left_to = settings.to ** ((number + 1) / settings.rounds)
        targets = {kind: left_to * getattr(before, kind) for kind in settings.kinds}
        scores = _scores(now, channels, settings, samples, loss, seed)
        ledger = remove_least(channels, scores, settings, targets=targets, last=number + 1 == settings.rounds)
        left = kept_channels(channels, ledger.kept)
        kept = {path: rows[left[path]] if path in left else rows for path, rows in kept.items()}
        now = _cut(now, channels, ledger, samples if settings.reconstruct else None, seed)
        if branches and number == 0 and settings.reconstruct and samples is not None and samples.count:
            refit(model, now, kept, samples, seed)
        if fine_tune is not None and number + 1 < settings.rounds:
            now = fine_tune(now, number)
        channels = trace_channels(now, protect=settings.protect, shapes=shapes)
    return Slimmed(now, _facts(settings, first, channels, before, branches), kept)


def _without_branches(
    model: Any, channels: Channels, settings: SlimSettings, shapes: Shapes, samples: Samples | None, seed: int
) -> tuple[Any, dict[str, int]]:
    """The model without the branches that can go; with samples, its normalizations expect what then comes in."""
    now, removed = drop_branches(model, channels, settings, shapes=shapes, samples=samples, seed=seed)
    if removed and settings.reconstruct and samples is not None and samples.count:
        everything = np.ones(channels.count, bool)
        observed = observe(model, channels, everything, samples, seed)
        recalibrate(now, kept_channels(channels, everything), samples, seed, observed)
    return now, removed


def _cut(model: Any, channels: Channels, ledger: Ledger, samples: Samples | None, seed: int) -> Any:
    """The model without what the ledger removed; with samples, what is left makes up for it."""
    if samples is None or samples.count == 0:
        return rebuild(model, channels, ledger.kept)
    observed = observe(model, channels, ledger.kept, samples, seed)
    slimmed = rebuild(model, channels, ledger.kept, reconstructed(channels, ledger.kept, observed))
    recalibrate(slimmed, kept_channels(channels, ledger.kept), samples, seed, observed)
    return slimmed


def _scores(
    model: Any, channels: Channels, settings: SlimSettings, samples: Samples | None, loss: Any, seed: int
) -> Scores:
    if settings.importance == "taylor":
        return taylor_scores(model, channels, samples, loss, seed)
    return weight_scores(channels, settings.importance)


def _facts(
    settings: SlimSettings, first: Channels, last: Channels, before: Costs, branches: Mapping[str, int]
) -> dict[str, Any]:
    after = Ledger(last).costs()
    widths = {member.path: len(member.made) for member in last.members if member.made is not None}
    facts: dict[str, Any] = {}
    for kind in KINDS:
        facts[f"{kind}_before"], facts[f"{kind}_after"] = getattr(before, kind), getattr(after, kind)
    facts["channels"] = {
        member.path: [len(member.made), widths.get(member.path, 0)]
        for member in first.members
        if member.made is not None
    }
    facts["branches_removed"] = dict(branches)
    facts["depth_before"], facts["depth_after"] = len(first.work), len(last.work)
    for name in ("rounds", "importance", "scope", "divisor"):
        facts[name] = getattr(settings, name)
    facts["protected"] = dict(first.frozen)
    return facts


def _ensure_reachable(model: Any, channels: Channels, before: Costs, settings: SlimSettings, shapes: Shapes) -> None:
    """Raise TechniqueError where even the narrowest model costs too much, or where costs are not known."""
    opened = any(size is None for tensor in functional(model).inputs for size in tensor.shape[1:])
    if "macs" in settings.kinds and opened and not shapes:
        raise TechniqueError("the model leaves sizes of its input open, so its MACs are not known: give samples")
    least = least_reachable(channels, settings).costs()
    for kind in settings.kinds:
        whole, lowest = getattr(before, kind), getattr(least, kind)
        if lowest > whole * settings.to or lowest == whole:
            reasons = sorted(set(channels.frozen.values()))
            raise TechniqueError(
                f"the model cannot be slimmed to {settings.to:g} of its {kind}: the least that can be reached with "
                f"least={settings.least}, divisor={settings.divisor} is {lowest / whole if whole else 1:.3g}"
                + (f". Channels stay because of: {'; '.join(reasons)}" if reasons else "")
            )
