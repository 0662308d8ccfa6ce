"""Put the inputs and outputs of a .tflite into the model's own order: the converter sorts them by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["reorder_interface"]

# Field slots of SubGraph in the TFLite schema: inputs and outputs are vectors of int32 tensor indices.
INPUTS_SLOT, OUTPUTS_SLOT = 6, 8


def reorder_interface(tflite: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """``tflite`` with subgraph 0's inputs and outputs in the order of these signature names.

    Only the two index vectors are permuted, in place; names that the signature lacks leave it as it was.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = bytearray(tflite)
    model = schema.Model.GetRootAs(content, 0)
    if model.SignatureDefsLength() != 1:
        return tflite
    signature = model.SignatureDefs(0)
    subgraph = model.Subgraphs(0)
    named_inputs = {
        _name(signature.Inputs(i)): signature.Inputs(i).TensorIndex() for i in range(signature.InputsLength())
    }
    named_outputs = {
        _name(signature.Outputs(i)): signature.Outputs(i).TensorIndex() for i in range(signature.OutputsLength())
    }
    _permute(content, subgraph, INPUTS_SLOT, [named_inputs.get(name) for name in inputs])
    _permute(content, subgraph, OUTPUTS_SLOT, [named_outputs.get(name) for name in outputs])
    return bytes(content)


def _permute(content: bytearray, subgraph: object, slot: int, wanted: list[int | None]) -> None:
    table = subgraph._tab  # type: ignore[attr-defined]
    offset = table.Offset(slot)
    if not offset or None in wanted:
        return
    start, length = table.Vector(offset), table.VectorLen(offset)
    current = np.frombuffer(content, "<i4", length, start)
    if sorted(current.tolist()) == sorted(index for index in wanted if index is not None):
        content[start : start + 4 * length] = np.asarray(wanted, "<i4").tobytes()


def _name(tensor_map: object) -> str:
    return bytes(tensor_map.Name() or b"").decode("utf-8", "replace")  # type: ignore[attr-defined]
