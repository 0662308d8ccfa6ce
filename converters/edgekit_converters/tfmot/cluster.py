"""Weight clustering with TFMOT: the weights of a kernel share a few values, which are trained on.

Han et al., 2016, arXiv 1510.00149 (trained quantization by weight sharing). Shared values make a file smaller once it is
zipped; int8 keeps them shared only with ``shared_codes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_tensorflow, import_tfmot
from ..errors import TechniqueError
from .kernels import (
    KernelFacts,
    choose_by_name,
    copy_model,
    kernel_facts,
    kernels_of,
    layers_of,
    overall_sparsity,
    wrap,
)
from .prune import Train

__all__ = ["ClusterFacts", "ClusterSettings", "Clustered", "cluster"]

Array = npt.NDArray[Any]
INITIALIZATIONS = {
    "wide": "LINEAR",
    "linear": "LINEAR",
    "density": "DENSITY_BASED",
    "random": "RANDOM",
    "kmeans++": "KMEANS_PLUS_PLUS",
}
MOST_CLUSTERS = 256
# Initialization "wide": how much of each weight's entropy it saves, and how far beyond the weights it goes at most.
SAVED_BITS = 0.42
WIDEST = 2.0
BISECTIONS = 40


@dataclass(frozen=True)
class ClusterSettings:
    """``clusters`` is the number of values the weights of one kernel share, 2 to 256.

    ``initialization`` places them at first: ``linear`` evenly from the smallest weight to the largest; ``wide`` further
    than that in kernels of small weights, so that the outer ones are hardly used, the inner ones the more, and the file
    zips best; ``density`` where weights are many; ``random``; ``kmeans++`` next to the weights, most accurate and largest.
    ``layers`` gives layers by name or glob a number of clusters of their own; 0 leaves one alone. With
    ``preserve_sparsity`` zeros stay zeros: for a model pruned before.
    """

    clusters: int = 16
    initialization: str = "wide"
    layers: Mapping[str, int] = field(default_factory=dict)
    preserve_sparsity: bool = False

    def __post_init__(self) -> None:
        """Raises TechniqueError for values out of range, with the valid ones."""
        if self.initialization not in INITIALIZATIONS:
            raise TechniqueError(
                f"expected the initialization to be one of {', '.join(INITIALIZATIONS)}, got {self.initialization!r}"
            )
        for name, value in {"": self.clusters, **self.layers}.items():
            where = f" for {name!r}" if name else ""
            least = 3 if self.preserve_sparsity else 2
            if not (least <= value <= MOST_CLUSTERS or (name and value == 0)):
                raise TechniqueError(
                    f"expected {least} to {MOST_CLUSTERS} clusters{where}"
                    f"{', or 0 to leave the layer alone' if name else ''}, got {value}: 16 is a good start"
                )


@dataclass(frozen=True)
class ClusterFacts:
    """Measured on the clustered model: ``largest_clusters`` is the most distinct values a clustered kernel has.

    ``left`` are layers with kernels that were not clustered, and why.
    """

    largest_clusters: int
    sparsity: float
    kernels: tuple[KernelFacts, ...]
    left: Mapping[str, str]


@dataclass(frozen=True)
class Clustered:
    """A plain tf_keras model whose kernels have few distinct values, and what was measured on it."""

    model: Any
    facts: ClusterFacts


def cluster(model: Any, settings: ClusterSettings, train: Train, *, seed: int = 0) -> Clustered:
    """Cluster, then let ``train`` train both the shared values and which weight takes which.

    ``model`` is a functional or sequential tf_keras model; it stays as it is. ``train`` gets the wrapped model, whose
    outputs keep their names. ``seed`` places the first centroids. Raises TechniqueError for a model with nothing to
    cluster, or for a named layer that cannot be.
    """
    copy = copy_model(model)
    counts, left = _counts(copy.model, settings)
    if not counts:
        reasons = "; ".join(f"{name}: {why}" for name, why in left.items()) or "it has no kernels"
        raise TechniqueError(f"expected a model with a layer to cluster, got one without: {reasons}")
    clustering = import_tfmot().clustering.keras
    import_tensorflow().random.set_seed(seed)

    def wrapper_of(name: str, layer: Any) -> Any:
        if name not in counts:
            return layer
        kind = clustering.CentroidInitialization[INITIALIZATIONS[settings.initialization]]
        return clustering.cluster_weights(
            layer, counts[name], kind, preserve_sparsity=settings.preserve_sparsity and _has_zeros(layer)
        )

    wrapped = wrap(copy, wrapper_of)
    if settings.initialization == "wide":
        _widen(wrapped)
    train(wrapped, [])
    plain = copy.finish(_shared(wrapped))
    return Clustered(plain, _facts(plain, counts, left))


def _counts(model: Any, settings: ClusterSettings) -> tuple[dict[str, int], dict[str, str]]:
    """The number of clusters of each layer that is clustered, and why the others with kernels are not."""
    layers = {name: layer for name, layer in layers_of(model) if kernels_of(layer)}
    named = choose_by_name(settings.layers, list(layers))
    counts: dict[str, int] = {}
    left: dict[str, str] = {}
    for name, layer in layers.items():
        clusters = named.get(name, settings.clusters)
        why = _why_not(layer, clusters)
        if clusters == 0:
            left[name] = "left alone as asked"
        elif why and name in named:
            raise TechniqueError(
                f"expected a layer that can be clustered, got {name!r} ({type(layer).__name__}): {why}"
            )
        elif why:
            left[name] = why
        else:
            counts[name] = clusters
    return counts, left


def _why_not(layer: Any, clusters: int) -> str:
    """Why a layer with kernels is not clustered; empty when it is."""
    kernels = [kernel for kernel in kernels_of(layer) if kernel.name != "depthwise_kernel"]
    if not layer.trainable:
        return "its weights are frozen"
    if not kernels:
        return "a depthwise kernel loses too much by it"
    smallest = min(int(np.prod(kernel.variable.shape)) for kernel in kernels)
    if smallest <= clusters:
        return f"its kernel has {smallest} weights, no more than there are clusters"
    return "" if _supported(layer) else f"TFMOT cannot cluster a {type(layer).__name__}"


def _supported(layer: Any) -> bool:
    """Whether TFMOT knows this kind of layer: it says so only by refusing."""
    try:
        import_tfmot().clustering.keras.cluster_weights(layer, 2)
    except (ValueError, AttributeError, KeyError):
        return False
    return True


def _has_zeros(layer: Any) -> bool:
    return any(bool((kernel.variable.numpy() == 0).any()) for kernel in kernels_of(layer))


def _widen(wrapped: Any) -> None:
    """Space evenly spaced centroids further apart, to save SAVED_BITS for each weight.

    It is done where they are closest, up to one spacing for all: as in pruning under one threshold, kernels of small
    weights have most to spare, and they are the large ones.
    """
    layers = [layer for _, layer in layers_of(wrapped) if hasattr(layer, "cluster_centroids")]
    places = [
        (centroids, layer.original_clusterable_weights[name])
        for layer in layers
        for name, centroids in layer.cluster_centroids.items()
    ]
    steps = np.array([np.ptp(centroids.numpy()) / max(centroids.shape[-1] - 1, 1) for centroids, _ in places])
    sizes = np.array([np.prod(weight.shape) for _, weight in places], np.float64)
    low, high = 0.0, float(steps.max()) * WIDEST

    def factors(step: float) -> Array:
        wanted: Array = np.clip(step / np.maximum(steps, 1e-12), 1, WIDEST)
        return wanted

    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = float(np.log2(factors(middle)) @ sizes) >= SAVED_BITS * sizes.sum()
        low, high = (low, middle) if enough else (middle, high)
    for (centroids, _), factor in zip(places, factors(high), strict=True):
        centroids.assign(centroids * factor)


def _shared(wrapped: Any) -> dict[int, Array]:
    """The shared values in place of every clustered kernel's own, by the id of its variable."""
    values: dict[int, Array] = {}
    for _, layer in layers_of(wrapped):
        for name, variable in getattr(layer, "original_clusterable_weights", {}).items():
            layer.update_clustered_weights_associations()
            values[id(variable)] = np.asarray(layer.get_weight_from_layer(name))
    return values


def _facts(plain: Any, counts: Mapping[str, int], left: Mapping[str, str]) -> ClusterFacts:
    kernels = kernel_facts(plain)
    clustered = [item.distinct for item in kernels if item.layer in counts and item.kernel != "depthwise_kernel"]
    return ClusterFacts(max(clustered), overall_sparsity(kernels), kernels, dict(left))
