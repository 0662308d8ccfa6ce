"""Put the inputs and outputs of a .tflite into the model's own order: the converter sorts them by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import PromiseError

__all__ = ["reorder_interface"]

# Field slots of SubGraph in the TFLite schema: inputs and outputs are vectors of int32 tensor indices.
INPUTS_SLOT, OUTPUTS_SLOT = 6, 8


def reorder_interface(tflite: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """``tflite`` with subgraph 0's inputs and outputs in the order of these signature names.

    Only the two index vectors are permuted, in place. Raises PromiseError unless its one signature has these names.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = bytearray(tflite)
    model = schema.Model.GetRootAs(content, 0)
    if model.SignatureDefsLength() != 1:
        raise PromiseError(f"expected one signature in the converted model, got {model.SignatureDefsLength()}")
    signature, subgraph = model.SignatureDefs(0), model.Subgraphs(0)
    named_inputs = _named([signature.Inputs(i) for i in range(signature.InputsLength())])
    named_outputs = _named([signature.Outputs(i) for i in range(signature.OutputsLength())])
    _permute(content, subgraph, INPUTS_SLOT, _indices("input", named_inputs, inputs))
    _permute(content, subgraph, OUTPUTS_SLOT, _indices("output", named_outputs, outputs))
    return bytes(content)


def _named(tensor_maps: Sequence[Any]) -> dict[str, int]:
    return {bytes(item.Name() or b"").decode("utf-8", "replace"): item.TensorIndex() for item in tensor_maps}


def _indices(side: str, named: dict[str, int], wanted: Sequence[str]) -> list[int]:
    if sorted(named) != sorted(wanted):
        raise PromiseError(f"expected {side} names {sorted(wanted)} in the converted model, got {sorted(named)}")
    return [named[name] for name in wanted]


def _permute(content: bytearray, subgraph: Any, slot: int, wanted: Sequence[int]) -> None:
    table = subgraph._tab
    offset = table.Offset(slot)
    start, length = table.Vector(offset), table.VectorLen(offset)
    current = np.frombuffer(content, "<i4", length, start)
    if sorted(current.tolist()) != sorted(wanted):
        raise PromiseError(
            f"expected tensors {sorted(wanted)} at the ends of the converted model, got {current.tolist()}"
        )
    content[start : start + 4 * length] = np.asarray(wanted, "<i4").tobytes()
