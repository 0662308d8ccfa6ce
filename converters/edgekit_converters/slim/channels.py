"""Which channels of a Keras 3 graph stand or fall together.

A value on an edge is the list of the ids of its last axis' channels. A convolution makes new ids; an addition of two
branches makes the ids of both one (union-find); a concatenation puts lists side by side; flattening repeats them. What an
operation without a rule takes or gives is frozen. Ids that became one are a *class*: removed everywhere, or nowhere. This
is the dependency graph of DepGraph (Fang et al. 2023, arXiv:2301.12900), found by abstract interpretation.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_keras
from ..errors import TechniqueError

__all__ = ["Call", "Channels", "Family", "Flow", "Ids", "Member", "Slot", "Tracer", "Work"]

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Flow:
    """What flows along an edge: the symbolic tensor, and the id of each channel of its last axis."""

    spec: Any
    ids: Ids


@dataclass(frozen=True, eq=False)
class Slot:
    """One axis of one weight: element i along ``axis`` of ``layer.weights[weight]`` belongs to channel ``ids[i]``.

    ``role`` says what the weight does with the channel: "makes", "reads", "scales" (the gamma of a BatchNormalization), or
    "follows" (biases, statistics).
    """

    weight: int
    axis: int
    ids: Ids
    role: str


@dataclass(frozen=True, eq=False)
class Work:
    """Multiply-accumulates of one call: ``factor`` times the number of channels kept of each of ``sides``."""

    factor: int
    sides: tuple[Ids, ...]


@dataclass(eq=False)
class Member:
    """A layer with weights, or with a setting that counts channels.

    ``settings`` maps a key of its config to the ids it counts; ``made`` are the channels it gives out.
    """

    path: str
    layer: Any
    slots: list[Slot] = field(default_factory=list)
    settings: dict[str, Ids] = field(default_factory=dict)
    made: Ids | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operation: what flows in, in the order of its arguments, and the symbolic tensors it gives."""

    operation: Any
    path: str
    flows: Sequence[Flow]
    constants: Sequence[Any]
    spec: Any


@dataclass(frozen=True, eq=False)
class Family:
    """Classes that the same layers make: they compete with each other, and their number is what a layer's width is."""

    classes: Ids
    makers: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Channels:
    """All that removing channels needs to know; ids are classes now, the same number wherever a channel turns up.

    ``read`` holds, for every call in the order of the walk, the classes it reads with a kernel, or None; ``frozen`` the
    reason why the channels of a layer stay, by the layer's path.
    """

    count: int
    members: tuple[Member, ...]
    work: tuple[Work, ...]
    read: tuple[Ids | None, ...]
    families: tuple[Family, ...]
    frozen: Mapping[str, str]


class Tracer:
    """Collects ids, what became one, and who holds them, while a graph is walked."""

    def __init__(self, protect: Sequence[str] = ()) -> None:
        self.members: dict[int, Member] = {}
        self.work: list[Work] = []
        self.read: list[Ids | None] = []
        self.names: list[str] = []
        self._protect = protect
        self._parent: list[int] = []
        self._maker: list[str] = []
        self._frozen: list[tuple[Ids, str]] = []

    def fresh(self, count: int | None, maker: str = "") -> Ids:
        """New ids of ``count`` channels that the layer ``maker`` makes; none where the number of channels is open."""
        start, count = len(self._parent), count or 0
        self._parent.extend(range(start, start + count))
        self._maker.extend([maker] * count)
        return np.arange(start, start + count)

    def merge(self, left: Ids, right: Ids) -> None:
        """Make the channels of ``left`` and ``right`` one, position by position."""
        for one, other in zip(left.tolist(), right.tolist(), strict=True):
            first, second = sorted((self._find(one), self._find(other)))
            self._parent[second] = first

    def freeze(self, ids: Ids, reason: str) -> None:
        """Keep these channels, and tell ``reason`` to whoever asks."""
        self._frozen.append((ids, reason))

    def member(self, call: Call) -> Member:
        """The record of the layer that is called: the same one for each of its calls."""
        return self.members.setdefault(id(call.operation), Member(call.path, call.operation))

    def reads(self, ids: Ids) -> None:
        """Note that the present call multiplies these channels with a kernel."""
        self.read[-1] = ids

    def begin(self, path: str) -> None:
        """Start the record of a call."""
        self.read.append(None)
        self.names.append(path)

    def protected(self, path: str) -> bool:
        """Whether a glob of ``protect`` names this layer, by its path or the last part of it."""
        return any(fnmatch.fnmatchcase(name, glob) for glob in self._protect for name in (path, path.split("/")[-1]))

    def finish(self) -> Channels:
        """The classes and families of all that was seen."""
        roots = np.array([self._find(number) for number in range(len(self._parent))], np.int64)
        names, classes = np.unique(roots, return_inverse=True)
        reasons = self._reasons(classes)
        for member in self.members.values():
            member.slots = [Slot(slot.weight, slot.axis, classes[slot.ids], slot.role) for slot in member.slots]
            member.settings = {key: classes[ids] for key, ids in member.settings.items()}
            member.made = None if member.made is None else classes[member.made]
        work = tuple(Work(item.factor, tuple(classes[ids] for ids in item.sides)) for item in self.work)
        read = tuple(None if ids is None else classes[ids] for ids in self.read)
        members = tuple(self.members.values())
        return Channels(
            len(names), members, work, read, tuple(self._families(classes, reasons)), _frozen_layers(members, reasons)
        )

    def _reasons(self, classes: Ids) -> dict[int, str]:
        """Why a class stays, by class: the first reason that was given."""
        reasons: dict[int, str] = {}
        for ids, reason in self._frozen:
            for number in np.unique(classes[ids]).tolist():
                reasons.setdefault(number, reason)
        return reasons

    def _families(self, classes: Ids, reasons: Mapping[int, str]) -> Iterator[Family]:
        makers: dict[int, list[str]] = {}
        for number, maker in zip(classes.tolist(), self._maker, strict=True):
            if maker and number not in reasons:
                makers.setdefault(number, []).append(maker)
        families: dict[tuple[str, ...], list[int]] = {}
        for number, names in makers.items():
            families.setdefault(tuple(dict.fromkeys(names)), []).append(number)
        for names_of_all, numbers in families.items():
            yield Family(np.array(numbers, np.int64), names_of_all)

    def _find(self, number: int) -> int:
        parent = self._parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number


def check_globs(globs: Sequence[str], names: Sequence[str]) -> None:
    """Raise TechniqueError for a glob that names no layer, with the nearest names."""
    import difflib

    known = list(dict.fromkeys(part for name in names for part in (name, name.split("/")[-1])))
    for glob in globs:
        if not fnmatch.filter(known, glob):
            near = difflib.get_close_matches(glob, known, 1)
            hint = f": did you mean {near[0]!r}?" if near else f": the layers are {', '.join(known)}"
            raise TechniqueError(f"protect names {glob!r}, but no layer is called that{hint}")


def width(spec: Any) -> int | None:
    """The size of a symbolic tensor's last axis; None where there is none or it is open."""
    return spec.shape[-1] if len(spec.shape) > 1 else None


def flows_of(tracer: Tracer, spec: Any, reason: str) -> Any:
    """New, frozen channels in the structure of an operation's output."""

    def flow(tensor: Any) -> Flow:
        ids = tracer.fresh(width(tensor))
        tracer.freeze(ids, reason)
        return Flow(tensor, ids)

    return import_keras().tree.map_structure(flow, spec)


def _frozen_layers(members: Sequence[Member], reasons: Mapping[int, str]) -> dict[str, str]:
    """Why the channels a layer makes stay, by its path: the reason of the first that does."""
    found: dict[str, str] = {}
    for member in members:
        for number in [] if member.made is None else member.made.tolist():
            if number in reasons:
                found[member.path] = reasons[number]
                break
    return found
