"""Files vela made: which accelerator each ``ethos-u`` operator in them is for."""

from __future__ import annotations

import struct

from ...model_card import load_schema
from ..operators import ETHOS_U_OPERATOR, Operator, OperatorGraph

__all__ = ["accelerators_of", "ethos_u_operators"]

# The driver's header (Arm's ethos-u core driver): a fourcc, then actions; the first configures, and is followed by a word
# with log2 of the MACs a cycle in its lowest four bits and the product in its highest four.
_FOURCCS = (b"COP1", b"COP2")
_CONFIGURE = 0x01
_PRODUCTS = {0: "ethos-u55", 1: "ethos-u65", 2: "ethos-u85"}


def ethos_u_operators(graph: OperatorGraph) -> tuple[Operator, ...]:
    """The operators of subgraph 0 that run on an Ethos-U."""
    return tuple(op for op in graph.operators if op.custom and op.type == ETHOS_U_OPERATOR)


def accelerators_of(tflite: bytes, graph: OperatorGraph) -> tuple[str, ...]:
    """The accelerators (ethos-u55-128) that the command streams of ``tflite`` were made for, each once; empty where the
    streams do not say."""
    model = load_schema().Model.GetRootAs(tflite, 0)
    subgraph = model.Subgraphs(0)
    found = []
    for op in ethos_u_operators(graph):
        stream = op.inputs[0] if op.inputs else None
        if stream is None or not stream.constant:
            continue
        data = model.Buffers(subgraph.Tensors(stream.index).Buffer()).DataAsNumpy()
        found.append(_accelerator(bytes(data[:16]) if hasattr(data, "__getitem__") else b""))
    return tuple(dict.fromkeys(name for name in found if name))


def _accelerator(header: bytes) -> str:
    if len(header) < 12 or header[:4] not in _FOURCCS:
        return ""
    action, config = struct.unpack_from("<II", header, 4)
    product = _PRODUCTS.get(config >> 28)
    return f"{product}-{1 << (config & 15)}" if action & 0xFF == _CONFIGURE and product else ""
