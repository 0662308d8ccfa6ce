"""Whole residual branches removed: an addition gives its shortcut, and what led to its other input is gone.

Each stage of a residual network only refines what its shortcut carries, so that one can go (Veit et al. 2016,
arXiv:1605.06431). Narrower layers often take as long as before, where kernels work on many channels at once; fewer layers
do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_keras
from ..graph import functional
from ..training.samples import Samples, model_inputs, packed
from .channels import Channels, Tracer
from .costs import Costs, Ledger, count_costs
from .rebuild import kept_channels, rebuild
from .reconstruct import observe, recalibrate
from .settings import SlimSettings
from .trace import Shapes

__all__ = ["Branch", "damages", "drop_branches", "find_branches", "scale_damage"]

BATCH = 64
MOST_SAMPLES = 256

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Branch:
    """All that leads to one input of an addition and nowhere else.

    ``addition`` is the operation, ``path`` its name ("outer/inner"), ``shortcut`` the number of the input that it gives
    when the branch is gone. ``inside`` are the operations of the branch by path, the last one first; ``activations`` counts
    the elements that those with a kernel write (an open dimension counts as 1).
    """

    path: str
    addition: Any
    shortcut: int
    inside: Mapping[str, Any]
    activations: int


def find_branches(model: Any, protect: Sequence[str] = ()) -> list[Branch]:
    """The branches of a built functional or sequential model, and of the models nested in it.

    Both inputs of the addition have one shape, come from the same tensors, and nothing inside is used elsewhere. Where both
    have operations of their own (a projection), there are two branches. A branch that holds a layer that ``protect`` names
    is none, nor one whose addition is an output of the model, which would lose its name.
    """
    seen: set[int] = set()
    found = [branch for graph, path in _graphs(model, (), seen) for branch in _branches(graph, path)]
    named = Tracer(protect).protected
    return [branch for branch in found if not any(named(path) for path in (branch.path, *branch.inside))]


def drop_branches(
    model: Any, channels: Channels, settings: SlimSettings, *, shapes: Shapes, samples: Samples | None, seed: int
) -> tuple[Any, dict[str, int]]:
    """The model without the branches that can go, and the MACs each saved, by the name of its addition.

    The least damage for what is saved goes first; one that would leave less than ``settings`` asks for stays. ``channels``
    are the model's own. The model itself comes back where no branch can go. Normalizations stay as they are.
    """
    keep, before = np.ones(channels.count, bool), Ledger(channels).costs()
    floor = {kind: settings.to * getattr(before, kind) for kind in settings.kinds}

    def without(shortcuts: Mapping[int, int]) -> tuple[Any, Costs, bool]:
        made = rebuild(model, channels, keep, shortcuts=shortcuts)
        costs = count_costs(made, shapes=shapes)
        return made, costs, all(getattr(costs, kind) >= least for kind, least in floor.items())

    damage = damages(model, channels, samples, seed, recalibrated=settings.reconstruct)
    ranked: list[tuple[float, int, Branch]] = []
    for branch in _heavier(find_branches(model, settings.protect)):
        made, after, fits = without({id(branch.addition): branch.shortcut})
        saved = _saved(branch, before, after, settings.kinds[0])
        if fits and saved > 0:
            ranked.append((damage(branch, made) / saved, len(ranked), branch))
    now, costs, removed, gone, shortcuts = model, before, dict[str, int](), set[str](), dict[int, int]()
    for _, _, branch in sorted(ranked, key=lambda item: item[:2]):
        if branch.path in gone:
            continue
        made, after, fits = without({**shortcuts, id(branch.addition): branch.shortcut})
        if fits:
            shortcuts[id(branch.addition)] = branch.shortcut
            removed[branch.path] = costs.macs - after.macs
            gone |= {branch.path, *branch.inside}
            now, costs = made, after
    return now, removed


def damages(
    model: Any, channels: Channels, samples: Samples | None, seed: int, *, recalibrated: bool
) -> Callable[[Branch, Any], float]:
    """A function of a branch and ``model`` without it that says how much it matters.

    How far the outputs move on at most 256 samples drawn with ``seed``: Kullback-Leibler divergence, in nats, for outputs
    that are probabilities; mean squared change over the variance for others; the sum over all outputs. ``recalibrated``
    lets normalizations expect what comes in first, which fine-tuning would do at once. Without samples: scale_damage.
    """
    if samples is None or samples.count == 0:
        return lambda branch, _: scale_damage(branch)
    drawn = samples.take(np.sort(np.random.default_rng(seed).permutation(samples.count)[:MOST_SAMPLES]))
    whole, everything = _outputs(model, drawn), np.ones(channels.count, bool)
    observed = observe(model, channels, everything, drawn, seed) if recalibrated else None

    def measured(_: Branch, made: Any) -> float:
        if observed is not None:
            recalibrate(made, kept_channels(channels, everything), drawn, seed, observed)
        return sum(_change(*pair) for pair in zip(whole, _outputs(made, drawn), strict=True))

    return measured


def scale_damage(branch: Branch) -> float:
    """What is known without samples: the mean absolute scale or kernel norm of the last layer of the branch with weights."""
    for operation in branch.inside.values():
        weights = getattr(operation, "weights", ())
        if weights and getattr(operation, "scale", True):
            scale = np.asarray(weights[0].numpy(), np.float64)
            return float(np.linalg.norm(scale.reshape(-1, scale.shape[-1]), axis=0).mean())
    return 0.0


def _heavier(branches: Sequence[Branch]) -> list[Branch]:
    """Of the two branches of an addition, the one with more weights (both, where these are as many): projections stay."""
    most: dict[int, int] = {}
    for branch in branches:
        most[id(branch.addition)] = max(_weights(branch), most.get(id(branch.addition), 0))
    return [branch for branch in branches if _weights(branch) == most[id(branch.addition)]]


def _weights(branch: Branch) -> int:
    return sum(int(layer.count_params()) for layer in branch.inside.values() if getattr(layer, "weights", ()))


def _saved(branch: Branch, before: Costs, after: Costs, kind: str) -> float:
    """What is saved of the first of the costs, which is what branches go for: narrower layers see to the others.

    Where MACs are to be saved, it is the activations that kernels write: these tell better than MACs how long a layer takes
    where kernels work on many channels at once (Radosavovic et al. 2020, arXiv:2003.13678).
    """
    saved = float(getattr(before, kind) - getattr(after, kind))
    return float(branch.activations) if kind == "macs" and saved > 0 else saved


def _graphs(model: Any, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """The graph of the model and those nested in it, each once, with its path."""
    graph = functional(model)
    if graph is None or id(graph) in seen:
        return
    seen.add(id(graph))
    yield graph, path
    for operation in graph.operations:
        yield from _graphs(operation, (*path, str(operation.name)), seen)


def _branches(graph: Any, path: tuple[str, ...]) -> Iterator[Branch]:
    keras, nodes = import_keras(), [node for level in graph._nodes_by_depth.values() for node in level]
    kinds = (keras.layers.Add, keras.src.ops.numpy.Add)
    calls = [id(node.operation) for node in nodes]
    wiring = _Wiring(graph, nodes)
    outputs = {id(tensor) for tensor in graph.outputs} if not path else set()
    for node in nodes:
        operation, given = node.operation, node.input_tensors
        alike = len(given) == 2 and (given[0].shape, given[0].dtype) == (given[1].shape, given[1].dtype)
        if type(operation) not in kinds or not alike or calls.count(id(operation)) > 1:
            continue
        if id(node.outputs[0]) in outputs:
            continue
        for shortcut in (0, 1):
            inside = wiring.inside(node, shortcut)
            if inside is not None:
                named = {name: each for one in inside for name, each in _named(one.operation, path).items()}
                written = sum(_written(one) for one in inside)
                yield Branch("/".join((*path, str(operation.name))), operation, shortcut, named, written)


class _Wiring:
    """Who makes and who reads the tensors of one graph."""

    def __init__(self, graph: Any, nodes: Sequence[Any]) -> None:
        self._makers = {id(tensor): node for node in nodes for tensor in node.outputs}
        self._ends = {id(tensor) for tensor in graph.outputs}
        self._readers: dict[int, list[Any]] = {}
        for node in nodes:
            for tensor in node.input_tensors:
                self._readers.setdefault(id(tensor), []).append(node)

    def inside(self, addition: Any, shortcut: int) -> list[Any] | None:
        """The nodes that lead to the other input alone, the last one first; None where they are not a branch."""
        stays = self._before(addition.input_tensors[shortcut])
        before = self._before(addition.input_tensors[1 - shortcut])
        inside = {number: node for number, node in before.items() if number not in stays}
        own = {*inside, id(addition)}
        if not inside or any(node.is_input or self._leaves(node, own) for node in inside.values()):
            return None
        return list(inside.values())

    def _leaves(self, node: Any, own: set[int]) -> bool:
        """Whether something that the node makes is used outside."""
        return any(
            id(tensor) in self._ends or any(id(reader) not in own for reader in self._readers.get(id(tensor), ()))
            for tensor in node.outputs
        )

    def _before(self, tensor: Any) -> dict[int, Any]:
        """The node that makes a tensor and all before it, the nearest first."""
        found, queue = dict[int, Any](), [self._makers[id(tensor)]]
        while queue:
            node = queue.pop(0)
            if id(node) not in found:
                found[id(node)] = node
                queue += [self._makers[id(given)] for given in node.input_tensors]
        return found


def _written(node: Any) -> int:
    """Elements that the kernels of a call write; of a nested model, those of its layers."""
    graph = functional(node.operation)
    if graph is not None:
        return sum(_written(inner) for level in graph._nodes_by_depth.values() for inner in level)
    if all(len(weight.shape) < 2 for weight in getattr(node.operation, "weights", ())):
        return 0
    return sum(math.prod(size or 1 for size in tensor.shape) for tensor in node.outputs)


def _named(operation: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """An operation by its path, and those of a nested model by theirs."""
    here, graph = (*path, str(operation.name)), functional(operation)
    found = {} if graph is not None else {"/".join(here): operation}
    for inner in () if graph is None else reversed(graph.operations):
        found.update(_named(inner, here))
    return found


def _outputs(model: Any, samples: Samples) -> list[Array]:
    """The outputs of a model of the same inputs, in order."""
    keras, arrays, batches = import_keras(), model_inputs(model, samples), []
    for start in range(0, samples.count, BATCH):
        rows = [
            keras.ops.convert_to_tensor(values[start : start + BATCH], dtype=tensor.dtype)
            for values, tensor in zip(arrays, model.inputs, strict=True)
        ]
        results = keras.tree.flatten(model(packed(model, rows), training=False))
        batches.append([np.asarray(value, np.float64) for value in results])
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def _change(whole: Array, changed: Array) -> float:
    if whole.shape[-1] > 1 and (whole >= 0).all() and np.allclose(whole.sum(axis=-1), 1, atol=1e-3):
        tiny = np.finfo(np.float32).tiny
        each = whole * (np.log(np.maximum(whole, tiny)) - np.log(np.maximum(changed, tiny)))
        return float(each.sum(axis=-1).mean())
    return float(np.mean((whole - changed) ** 2) / max(float(whole.var()), np.finfo(np.float32).tiny))
