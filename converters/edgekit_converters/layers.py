"""Which Keras layer each operator of a float .tflite comes from.

The converter names a tensor after the TensorFlow operations behind it, and those bear the name scopes that Keras opens
around every layer: ``model/inner/conv/Conv2D;model/inner/bn/FusedBatchNormV3`` is one fused operator. Keras 3 opens a
layer's scope twice and TensorFlow numbers the second, so there the scope is the layer's name with one number behind it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .model_card import ModelCard, OpCard, read_model_card

__all__ = ["Origin", "layer_names", "name_layers"]

# The operation that holds an operator's kernel, by what TensorFlow and the two Kerases call it.
_KERNEL_OPS = ("conv", "depthwise", "matmul", "einsum", "tensordot")
_KERNEL_TYPES = frozenset(
    (
        "CONV_2D",
        "CONV_3D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "TRANSPOSE_CONV",
        "CONV_3D_TRANSPOSE",
        "BATCH_MATMUL",
    )
)
_OTHER_NAMES = {"LOGISTIC": "sigmoid", "AVERAGE_POOL_2D": "avgpool", "MAX_POOL_2D": "maxpool", "MIRROR_PAD": "pad"}
# Applied to the answer of the layer before, and most often part of it: Dense(…, activation="softmax").
_ACTIVATIONS = frozenset(("SOFTMAX", "LOGISTIC", "TANH", "RELU", "RELU6", "ELU", "LEAKY_RELU", "HARD_SWISH", "GELU"))
# Scopes that Keras opens inside a layer, and that name none.
_INNER_SCOPES = frozenset(("einsum", "batchnorm", "moments", "softmax", "zeros", "strided_slice", "Tensordot"))
_NUMBERED = re.compile(r"_\d+$")
_UNSCOPED = re.compile(r"[^A-Za-z0-9.\\/_>-]")


@dataclass(frozen=True)
class Origin:
    """What is known of the model that a .tflite was made of.

    ``layers`` are paths as ``layer_names`` gives them; ``producers`` the TensorFlow operation behind each of the
    model's outputs, in order: there the converter keeps no name. ``framework`` is keras, tf_keras, or empty.
    """

    layers: tuple[str, ...] = ()
    producers: tuple[str, ...] = ()
    framework: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"layers": list(self.layers), "producers": list(self.producers), "framework": self.framework}

    @classmethod
    def from_dict(cls, raw: Any) -> Origin:
        """Read ``to_dict`` back; anything else is an empty origin."""
        if not isinstance(raw, dict):
            return cls()
        layers, producers = (_texts(raw.get(key)) for key in ("layers", "producers"))
        return cls(layers, producers, str(raw.get("framework", "")))


def layer_names(model: Any) -> list[str]:
    """The layers of a Keras model of either Keras in the order of its graph, nested ones as paths: ``inner/conv``.

    Input layers are left out, and so are models inside, whose layers are named instead. A layer that is made of layers
    (attention, Bidirectional) is followed by them.
    """
    return list(dict.fromkeys("/".join(path) for path in _paths(model, (), frozenset())))


def name_layers(
    tflite: bytes,
    names: Sequence[str | None] = (),
    *,
    framework: str = "",
    producers: Sequence[str] = (),
    card: ModelCard | None = None,
) -> tuple[str | None, ...]:
    """The layer behind every operator of subgraph 0, in order; None where the converter put one of its own.

    A fused operator bears the name of the layer with the kernel. Without ``names`` the scopes themselves are the best
    that is known. ``framework`` and ``producers`` are those of ``Origin``; ``card`` is that of the bytes, where it is read
    already.

    Raises ModelFileError for bytes that are no .tflite.
    """
    card = read_model_card(tflite) if card is None else card
    namer = _Namer(_full_names(tflite, card), [name for name in names if name], framework)
    outputs = dict(zip((item.index for item in card.outputs), producers, strict=False))
    constant = {item.index for item in card.tensors if item.constant}
    found: list[str | None] = []
    maker: dict[int, str | None] = {}
    for op in card.ops:
        name = namer.layer_of(op, constant, outputs)
        if name is None and op.type in _ACTIVATIONS:
            name = next((maker[index] for index in op.inputs if index in maker), None)
        found.append(name)
        maker.update(dict.fromkeys(op.outputs, name))
    return tuple(_with_recurrent(card.ops, found, [name for name in names if name]))


def _with_recurrent(ops: Sequence[OpCard], found: list[str | None], names: Sequence[str]) -> list[str | None]:
    """Recurrent layers that the converter fuses into one operator lose their names: the layer that is missing there has it."""
    named = list(found)
    for place, op in enumerate(ops):
        if found[place] is not None or not op.type.endswith(("_LSTM", "_RNN")):
            continue
        start = next((i for i in range(place, -1, -1) if found[i] is not None), -1)
        end = next((i for i in range(place, len(found)) if found[i] is not None), len(found))
        missing = _between(names, found[start] if start >= 0 else None, found[end] if end < len(found) else None)
        if missing is not None:
            named[start + 1 : end] = [missing] * (end - start - 1)
    return named


def _between(names: Sequence[str], before: str | None, after: str | None) -> str | None:
    """The one layer made of layers that stands between two; or the one after, when it is made of layers itself."""
    first = names.index(before) + 1 if before in names else 0
    last = names.index(after) if after in names else len(names)
    whole = [name for name in names[first:last] if any(other.startswith(f"{name}/") for other in names)]
    whole = [name for name in whole if before is None or not name.startswith(f"{before}/")]
    outermost = [name for name in whole if not any(name.startswith(f"{other}/") for other in whole)]
    if not outermost and after is not None and any(other.startswith(f"{after}/") for other in names):
        return after
    return outermost[0] if len(outermost) == 1 else None


def _texts(raw: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in raw) if isinstance(raw, list) else ()


def _paths(layer: Any, path: tuple[str, ...], seen: frozenset[int]) -> Iterator[tuple[str, ...]]:
    children = getattr(layer, "layers", None) if hasattr(layer, "fit") else None
    if children is None:
        children = layer._flatten_layers(recursive=False, include_self=False)
        if path:
            yield path
    for child in children:
        if type(child).__name__ != "InputLayer" and id(child) not in seen:
            yield from _paths(child, (*path, str(child.name)), seen | {id(child)})


def _full_names(tflite: bytes, card: ModelCard) -> dict[int, str]:
    """Tensor names by index, uncut: the card shortens long ones."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs(tflite, 0).Subgraphs(0)
    named = {item.index: graph.Tensors(item.index).Name() or b"" for item in card.tensors}
    return {index: bytes(name).decode("utf-8", "replace") for index, name in named.items()}


class _Namer:
    """Finds layers in the tensor names of one model."""

    def __init__(self, tensors: dict[int, str], names: Sequence[str], framework: str) -> None:
        self.tensors = tensors
        self.names = {tuple(_UNSCOPED.sub("_", name).split("/")): name for name in names}
        self.prefixes = {path[:length] for path in self.names for length in range(1, len(path) + 1)}
        scopes = [part.split("/") for name in tensors.values() for part in name.split(";") if part.count("/") > 1]
        self.root = self._common_root(scopes)
        self.numbered = framework == "keras" or (not framework and self._looks_numbered(scopes))

    @staticmethod
    def _common_root(scopes: list[list[str]]) -> str | None:
        """The scope of the model itself, which most names begin with."""
        counted = Counter(parts[0] for parts in scopes).most_common(1)
        return counted[0][0] if counted and 2 * counted[0][1] > len(scopes) else None

    def _looks_numbered(self, scopes: list[list[str]]) -> bool:
        """Whether the scopes are Keras 3's: each name with a number behind it; told by what the known names fit best."""
        if not self.names:
            return bool(scopes) and all(_NUMBERED.search(parts[1]) for parts in scopes)
        fits = [sum(self._walk(parts[1:], numbered) is not None for parts in scopes) for numbered in (False, True)]
        return fits[1] > fits[0]

    def layer_of(self, op: OpCard, constant: set[int], producers: dict[int, str]) -> str | None:
        """The layer of one operator: by its output's name, or its kernel's, or what is known of the model's outputs."""
        parts = [part for index in op.outputs[:1] for part in self._parts(producers.get(index, ""), index)]
        weights = [part for index in op.inputs if index in constant for part in self._parts("", index)]
        telling = [part for part in (*parts, *weights) if _tells(op.type, part)]
        if op.type not in _KERNEL_TYPES:
            weights = []  # a shared constant may bear another layer's name
        ranked = (*telling, *weights, *reversed(parts))
        return next((name for part in ranked if (name := self._layer(part))), self._outside_layers(parts))

    def _parts(self, known: str, index: int) -> list[str]:
        text = self.tensors.get(index, "") if index >= 0 else ""
        return [part for part in (*text.split(";"), known.split(":")[0]) if "/" in part]

    def _layer(self, part: str) -> str | None:
        scopes = part.split("/")
        if not self.names:
            return self._told_by_scopes(scopes)
        found = (self._walk(scopes[start:], self.numbered) for start in (1, 0, 2))
        return next((name for name in found if name is not None), None)

    def _outside_layers(self, parts: list[str]) -> str | None:
        """The name of an operation that the model applies outside of any layer: ``x * 2`` or ``keras.ops.abs(x)``."""
        own = [part.split("/", 1)[1] for part in parts if self.root is not None and part.startswith(f"{self.root}/")]
        return own[-1] if own else None

    def _walk(self, scopes: Sequence[str], numbered: bool) -> str | None:
        """The longest known path that ``scopes`` begin with."""
        path: tuple[str, ...] = ()
        best = None
        for scope in scopes:
            stripped = _NUMBERED.sub("", scope)
            choices = (stripped, scope) if numbered and stripped != scope else (scope,)
            path_next = next(((*path, choice) for choice in choices if (*path, choice) in self.prefixes), None)
            if path_next is None:
                break
            path = path_next
            best = self.names.get(path, best)
        return best

    def _told_by_scopes(self, scopes: list[str]) -> str | None:
        """The scopes themselves without the model's and the operation's; None when nothing is left."""
        inner = scopes[1:-1] if scopes[0] == self.root else scopes[:-1]
        kept: list[str] = []
        for scope in inner:
            if scope in _INNER_SCOPES or (self.numbered and not _NUMBERED.search(scope)):
                break
            kept.append(_NUMBERED.sub("", scope) if self.numbered else scope)
        return "/".join(kept) or None


def _tells(op_type: str, part: str) -> bool:
    """Whether the operation that ``part`` names is the one the operator stands for."""
    operation = re.sub(r"[\d_]+", "", part.rsplit("/", 1)[-1]).lower()
    if op_type in _KERNEL_TYPES:
        return any(kernel in operation for kernel in _KERNEL_OPS)
    return _OTHER_NAMES.get(op_type, re.sub(r"[\d_]+", "", op_type).lower()) in operation
