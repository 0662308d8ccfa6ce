"""The kernels of a tf_keras model: what pruning, clustering and quantization-aware training work on.

TFMOT wraps layers, and its wrappers hide weights, rename outputs and stumble over masks. So a
technique wraps the layers of a *copy*, remembers the copy's variables, and afterwards writes their values into a fresh
clone: whatever a wrapper did to its layer, a plain model comes out.
"""

from __future__ import annotations

import difflib
import fnmatch
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .._tf import import_tf_keras
from ..errors import TechniqueError
from ..reason import first_line

__all__ = [
    "Copy",
    "Kernel",
    "KernelFacts",
    "choose_by_name",
    "copy_model",
    "kernel_facts",
    "kernels_of",
    "layers_of",
    "wrap",
]

Array = npt.NDArray[Any]
Value = TypeVar("Value")
# How Keras layers name the tensors they multiply with; biases and the parameters of normalizations are none.
KERNEL_NAMES = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel", "embeddings")


@dataclass(frozen=True)
class Kernel:
    """One kernel: the attribute ``name`` of ``owner``, which is its layer or one inside it (an RNN's cell)."""

    owner: Any
    name: str
    variable: Any

    def path_in(self, layer: Any) -> str:
        """``kernel``, or ``query/kernel`` where it belongs to a layer inside ``layer``."""
        return self.name if self.owner is layer else f"{self.owner.name}/{self.name}"


@dataclass(frozen=True)
class KernelFacts:
    """Measured on one kernel: ``sparsity`` is its share of exact zeros, ``distinct`` its number of different values."""

    layer: str
    kernel: str
    shape: tuple[int, ...]
    sparsity: float
    distinct: int


@dataclass(frozen=True)
class Copy:
    """A copy of ``original`` and the variables that hold its weights, whatever wrappers put in their place."""

    original: Any
    model: Any
    variables: tuple[Any, ...]

    def finish(self, values: Mapping[int, Array] | None = None) -> Any:
        """A plain model with the variables' values now; ``values`` replaces some, by the variable's id."""
        chosen = values or {}
        plain = import_tf_keras().models.clone_model(self.original)
        plain.set_weights([chosen.get(id(item), item.numpy()) for item in self.variables])
        return plain


def copy_model(model: Any) -> Copy:
    """A clone with the same weights, which a technique may take apart; raises TechniqueError for what cannot be cloned."""
    if not (getattr(model, "_is_graph_network", False) or type(model).__name__ == "Sequential") or not model.built:
        raise TechniqueError(
            f"expected a functional or sequential model with known shapes, got {type(model).__name__} {model.name!r}: "
            "rebuild it with keras.Input and keras.Model"
        )
    try:
        clone = import_tf_keras().models.clone_model(model)
        clone.set_weights(model.get_weights())
    except (ValueError, TypeError, NotImplementedError) as error:
        raise TechniqueError(
            f"the model cannot be copied layer by layer: {first_line(error)}. Replace the layer by one of keras.layers"
        ) from error
    return Copy(model, clone, tuple(clone.weights))


def layers_of(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every layer of a model and of the models inside it, each once, with its name: ``inner/dense`` in a nested one."""
    seen: set[int] = set()
    for name, layer in _walk(model, prefix):
        if id(layer) not in seen:
            seen.add(id(layer))
            yield name, layer


def kernels_of(layer: Any) -> list[Kernel]:
    """The kernels of a layer and of what is inside it: the cells of an RNN, the projections of an attention."""
    found: dict[int, Kernel] = {}
    for owner in layer._flatten_layers():
        for name in KERNEL_NAMES:
            variable: Any = getattr(owner, name, None)
            if hasattr(variable, "assign") and len(variable.shape) >= 2:
                found.setdefault(id(variable), Kernel(owner, name, variable))
    return list(found.values())


def wrap(copy: Copy, wrapper_of: Callable[[str, Any], Any]) -> Any:
    """The copy's graph again, over the same layers, each replaced by what ``wrapper_of(name, layer)`` gives for it.

    Wrappers take their layer's name, so that the model's outputs keep theirs.
    """
    tf_keras = import_tf_keras()
    names = {id(layer): name for name, layer in layers_of(copy.model)}
    made: dict[int, Any] = {}

    def replace(layer: Any) -> Any:
        if id(layer) not in made:
            made[id(layer)] = _nested(layer) if _is_model(layer) else _named(wrapper_of(names[id(layer)], layer), layer)
        return made[id(layer)]

    def _nested(model: Any) -> Any:
        return tf_keras.models.clone_model(model, clone_function=replace)

    return _nested(copy.model)


def passes_masks(wrapper_type: type) -> type:
    """A wrapper's class that gives its layer a mask only where the layer takes one, and computes the layer's own."""

    class Passing(wrapper_type):  # type: ignore[misc]
        def call(self, inputs: Any, **kwargs: Any) -> Any:
            names = (*inspect.signature(self.layer.call).parameters, "training")
            return super().call(inputs, **{name: value for name, value in kwargs.items() if name in names})

        def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
            return self.layer.compute_mask(inputs, mask)

    return Passing


def choose_by_name(options: Mapping[str, Value], names: list[str]) -> dict[str, Value]:
    """What ``options``, by layer-name glob, says about each name it matches; the first matching glob counts.

    A layer inside a nested model is matched by its own name too. Raises TechniqueError for a glob that matches nothing.
    """
    chosen: dict[str, Value] = {}
    for glob, value in options.items():
        matched = [name for name in names if fnmatch.fnmatch(name, glob) or fnmatch.fnmatch(name.split("/")[-1], glob)]
        if not matched:
            close = difflib.get_close_matches(glob, names, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise TechniqueError(
                f"expected the name of a layer with weights (or a glob such as 'conv*'), got {glob!r}: {hint}"
                f"The layers are {', '.join(names)}"
            )
        for name in matched:
            chosen.setdefault(name, value)
    return chosen


def kernel_facts(model: Any) -> tuple[KernelFacts, ...]:
    """What is measured on each kernel of a plain model."""
    return tuple(
        KernelFacts(name, kernel.path_in(layer), values.shape, float(np.mean(values == 0)), len(np.unique(values)))
        for name, layer in layers_of(model)
        for kernel in kernels_of(layer)
        for values in (kernel.variable.numpy(),)
    )


def overall_sparsity(facts: tuple[KernelFacts, ...]) -> float:
    """The share of zeros over all kernels together; 0 without any."""
    sizes = [float(np.prod(item.shape)) for item in facts]
    return float(np.dot(sizes, [item.sparsity for item in facts]) / sum(sizes)) if sizes else 0.0


def _walk(model: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for layer in model.layers:
        name = f"{prefix}{layer.name}"
        if _is_model(layer):
            yield from _walk(layer, f"{name}/")
        else:
            yield name, layer


def _is_model(layer: Any) -> bool:
    return isinstance(layer, import_tf_keras().Model)


def _named(wrapper: Any, layer: Any) -> Any:
    wrapper._name = layer.name
    wrapper.supports_masking = layer.supports_masking
    return wrapper
