"""Slimming: channels really removed from a Keras 3 model, to a ratio of MACs, parameters or bytes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import TechniqueError
from ..graph import functional
from ..samples import Samples
from .channels import Channels
from .costs import KINDS, Costs, Ledger
from .importance import Scores, weight_scores
from .rebuild import kept_channels, rebuild
from .select import least_reachable, remove_least
from .taylor import taylor_scores
from .trace import Shapes, trace_channels

__all__ = ["SlimSettings", "Slimmed", "slim"]

IMPORTANCES = ("l1", "l2", "batch-norm", "taylor")
SCOPES = ("global", "uniform")

FineTune = Callable[[Any, int], Any]
Kept = Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class SlimSettings:
    """What to slim to, and how.

    ``to`` is the fraction of ``of`` ("macs", "parameters" or "bytes" of int8 weights) that may remain, 0 < to < 1.
    ``importance`` is "l1", "l2", "batch-norm" or "taylor" (see importance.py and taylor.py). ``scope`` "uniform" makes all
    layers narrower by the same fraction, "global" lets them compete. ``rounds`` goes there in equal ratios, with a
    fine-tuning between two rounds. ``divisor`` rounds widths to a multiple, ``least`` is the smallest width, ``protect``
    holds globs of the names of layers that keep all channels they make.
    """

    to: float
    of: str = "macs"
    importance: str = "l2"
    rounds: int = 1
    divisor: int = 1
    least: int = 2
    protect: tuple[str, ...] = ()
    scope: str = "uniform"


@dataclass(frozen=True, eq=False)
class Slimmed:
    """A plain Keras 3 model, not compiled, and what was measured on it.

    ``facts`` are plain values: ``macs_before``, ``macs_after`` and the same of ``parameters`` and ``bytes``; ``channels``
    [before, after] by layer; ``rounds``, ``importance``, ``scope``; ``protected``, the reason by layer. ``kept`` holds, for
    each layer with weights, by path ("outer/inner"), which of the original's channels it still gives out.
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

    ``samples`` with labels, and ``loss`` (see taylor_scores), are for "taylor"; the shape of the samples also stands for
    dimensions that the model leaves open. ``fine_tune(model, round)`` is called after each round but the last, and returns
    the model to go on with: fine-tuning the result is up to the caller.

    Raises UnsupportedModelError for a model without a graph, TechniqueError for settings out of range, names that are not
    there, a ratio that cannot be reached (the message says which can), and "taylor" without labels.
    """
    _check(settings)
    shapes = {name: np.shape(values)[1:] for name, values in samples.inputs.items()} if samples is not None else {}
    first = trace_channels(model, protect=settings.protect, shapes=shapes)
    before = Ledger(first).costs()
    _ensure_reachable(model, first, before, settings, shapes)
    now, channels, kept = model, first, kept_channels(first, np.ones(first.count, bool))
    for number in range(settings.rounds):
        target = getattr(before, settings.of) * settings.to ** ((number + 1) / settings.rounds)
        ledger = _round(now, channels, settings, target, _scores(now, channels, settings, samples, loss, seed))
        left = kept_channels(channels, ledger.kept)
        kept = {path: rows[left[path]] for path, rows in kept.items()}
        now = rebuild(now, channels, ledger.kept)
        if fine_tune is not None and number + 1 < settings.rounds:
            now = fine_tune(now, number)
        channels = trace_channels(now, protect=settings.protect, shapes=shapes)
    return Slimmed(now, _facts(settings, first, channels, before), kept)


def _round(model: Any, channels: Channels, settings: SlimSettings, target: float, scores: Scores) -> Ledger:
    return remove_least(
        channels,
        scores,
        target=target,
        of=settings.of,
        scope=settings.scope,
        divisor=settings.divisor,
        least=settings.least,
    )


def _scores(
    model: Any, channels: Channels, settings: SlimSettings, samples: Samples | None, loss: Any, seed: int
) -> Scores:
    if settings.importance == "taylor":
        return taylor_scores(model, channels, samples, loss, seed)
    return weight_scores(channels, settings.importance)


def _facts(settings: SlimSettings, first: Channels, last: Channels, before: Costs) -> dict[str, Any]:
    after = Ledger(last).costs()
    widths = {member.path: len(member.made) for member in last.members if member.made is not None}
    facts: dict[str, Any] = {}
    for kind in KINDS:
        facts[f"{kind}_before"], facts[f"{kind}_after"] = getattr(before, kind), getattr(after, kind)
    facts["channels"] = {
        member.path: [len(member.made), widths[member.path]] for member in first.members if member.made is not None
    }
    facts["rounds"], facts["importance"], facts["scope"] = settings.rounds, settings.importance, settings.scope
    facts["protected"] = dict(first.frozen)
    return facts


def _ensure_reachable(model: Any, channels: Channels, before: Costs, settings: SlimSettings, shapes: Shapes) -> None:
    """Raise TechniqueError where even the narrowest model costs too much, or where costs are not known."""
    opened = any(size is None for tensor in functional(model).inputs for size in tensor.shape[1:])
    if settings.of == "macs" and opened and not shapes:
        raise TechniqueError("the model leaves sizes of its input open, so its MACs are not known: give samples")
    whole = getattr(before, settings.of)
    lowest = getattr(least_reachable(channels, divisor=settings.divisor, least=settings.least).costs(), settings.of)
    if lowest > whole * settings.to or lowest == whole:
        reasons = sorted(set(channels.frozen.values()))
        raise TechniqueError(
            f"the model cannot be slimmed to {settings.to:g} of its {settings.of}: the least that can be reached with "
            f"least={settings.least}, divisor={settings.divisor} is {lowest / whole if whole else 1:.3g}"
            + (f". Channels stay because of: {'; '.join(reasons)}" if reasons else "")
        )


def _check(settings: SlimSettings) -> None:
    """Raise TechniqueError for a setting out of range or a name that is none."""
    if not 0 < settings.to < 1:
        raise TechniqueError(f"expected a fraction to between 0 and 1 that remains, got {settings.to!r}")
    for name, choices in (("of", KINDS), ("importance", IMPORTANCES), ("scope", SCOPES)):
        given = getattr(settings, name)
        if given not in choices:
            near = difflib.get_close_matches(str(given), choices, 1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise TechniqueError(f"{name} is one of {', '.join(choices)}, got {given!r}{hint}")
    for name in ("rounds", "divisor", "least"):
        given = getattr(settings, name)
        if not isinstance(given, int) or given < 1:
            raise TechniqueError(f"expected {name} to be a whole number of at least 1, got {given!r}")
