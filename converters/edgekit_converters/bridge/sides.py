"""The two Kerases as sides of the bridge: what differs between them when a model is read or built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import graph
from .._tf import import_keras, import_tensorflow, import_tf_keras
from ..errors import UnsupportedModelError
from . import legacy_graph

__all__ = ["KERAS", "TF_KERAS", "Side"]

Walk = Callable[[Any, Sequence[Any], graph.Apply], list[Any]]


@dataclass(frozen=True)
class Side:
    """One Keras: ``name`` of its module, ``package`` its classes live in, ``walk`` over its graphs."""

    name: str
    package: str
    walk: Walk

    @property
    def module(self) -> Any:
        """The module itself; imports TensorFlow."""
        return import_keras() if self.name == "keras" else import_tf_keras()

    def is_layer(self, item: Any) -> bool:
        """Whether a step of a graph is a layer, not an operation on tensors."""
        if self.name == "keras":
            return isinstance(item, self.module.Layer)
        return not legacy_graph.is_function(item)

    def own(self, item: Any) -> bool:
        """Whether the class of ``item`` is this Keras' own: a user's class is not, whatever its name."""
        return type(item).__module__.startswith(self.package)

    def functional(self, item: Any) -> bool:
        """Whether ``item`` is a model whose layers can be walked."""
        return (graph.functional(item) if self.name == "keras" else legacy_graph.functional(item)) is not None

    def infer(self, item: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a step gives for tensors that hold numbers, at inference: random layers would train by themselves."""
        theirs = getattr(item, "_call_spec", None)
        takes = theirs.expects_training_arg if theirs else getattr(item, "_call_has_training_arg", False)
        return item(*args, **{**kwargs, "training": False}) if takes else item(*args, **kwargs)

    def results(self, item: Any) -> int:
        """How many tensors one call of a step returns."""
        if self.name == "keras":
            return len(item._inbound_nodes[0].output_tensors)
        return legacy_graph.outputs(item)

    def ends(self, model: Any) -> tuple[Any, Any]:
        """The structures of a model's symbolic inputs and outputs, as its author gave them."""
        if self.name == "keras":
            inner = graph.functional(model)
            return inner._inputs_struct, inner._outputs_struct
        return model._nested_inputs, model._nested_outputs

    def flatten(self, values: Any) -> list[Any]:
        """The leaves of a structure of tensors, those of a dict by sorted key."""
        tree = self.module.tree if self.name == "keras" else import_tensorflow().nest
        return list(tree.flatten(values))

    def pack(self, structure: Any, leaves: Sequence[Any]) -> Any:
        """The leaves in the shape of ``structure``."""
        tree = self.module.tree if self.name == "keras" else import_tensorflow().nest
        return tree.pack_sequence_as(structure, list(leaves))

    def require_model(self, model: Any) -> None:
        """Raise UnsupportedModelError unless ``model`` is a model of this Keras."""
        if not isinstance(model, self.module.Model):
            package = type(model).__module__.split(".")[0]
            hints = {"keras": "Keras 3 models go to to_tf_keras", "tf_keras": "Keras 2 models go to to_keras"}
            hint = hints.get(package, "build it with keras.Model(inputs, outputs)")
            raise UnsupportedModelError(f"expected a {self.name} model, got {package}.{type(model).__name__}: {hint}")


KERAS = Side("keras", "keras.", graph.walk)
TF_KERAS = Side("tf_keras", "tf_keras.", legacy_graph.walk)
