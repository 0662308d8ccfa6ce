"""A .tflite whose every intermediate tensor is an output: what a layer computes, seen from outside.

The runtime's delegates keep what happens inside to themselves; a tensor that is an output of the graph they have to hand
out. So the very kernels that answer are looked at, on any board, with nothing but ``edgekit-device run``.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import TechniqueError
from .int8.surgery import FlatModel
from .layers import name_layers

__all__ = ["RevealedTensor", "reveal_tensors"]

_SEEN = frozenset(("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"))


@dataclass(frozen=True)
class RevealedTensor:
    """One output of the revealed model: the operator that computes it, its Keras layer as far as it is known, and
    ``scale``, the size of its quantization step (0.0 where it has none, or one for each channel)."""

    op: int
    type: str
    tensor: str
    layer: str | None
    scale: float


def reveal_tensors(tflite: bytes) -> tuple[bytes, tuple[RevealedTensor, ...]]:
    """The model with the outputs of all its operators as outputs, in the order they are computed, and what they are.

    Subgraph 0 alone; its signature keeps its inputs. Raises ModelFileError for bytes that are no .tflite, TechniqueError
    for a model that computes nothing one could look at.
    """
    flat = FlatModel(tflite)
    layers = name_layers(tflite)
    found: dict[int, RevealedTensor] = {}
    for op in range(len(flat.graph.operators)):
        for tensor in flat.outputs(op):
            if tensor >= 0 and flat.dtype(tensor) in _SEEN:
                found[tensor] = RevealedTensor(op, flat.type(op), flat.name(tensor), layers[op], _scale(flat, tensor))
    if not found:
        raise TechniqueError("expected a model whose operators give tensors of numbers, got one that has none")
    flat.graph.outputs = list(found)
    _rename_outputs(flat, list(found))
    return flat.to_bytes(), tuple(found.values())


def _rename_outputs(flat: FlatModel, tensors: list[int]) -> None:
    """Let the signature of subgraph 0 name the new outputs, such that their order by name is the order given."""
    from ai_edge_litert import schema_py_generated as schema

    for signature in flat.model.signatureDefs or []:
        if signature.subgraphIndex == 0:
            signature.outputs = []
            for place, tensor in enumerate(tensors):
                named = schema.TensorMapT()
                named.name, named.tensorIndex = f"tensor_{place:06d}", tensor
                signature.outputs.append(named)


def _scale(flat: FlatModel, tensor: int) -> float:
    quantization = flat.graph.tensors[tensor].quantization
    scales = [] if quantization is None or quantization.scale is None else list(quantization.scale)
    return float(scales[0]) if len(scales) == 1 else 0.0
