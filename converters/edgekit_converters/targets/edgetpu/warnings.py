"""What a user should hear of a model before it goes to the Edge TPU, though nothing stops there: what it is, what that costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...model_card import TensorCard
from ..operators import Operator, OperatorGraph
from .conditions import EIGHT_BITS, FLOATS, activations

__all__ = ["find_warnings"]

MOST_LSTM_INPUTS = 900  # google-coral/edgetpu#598


def find_warnings(graph: OperatorGraph, *, mapped: bool, refused: bool) -> tuple[str, ...]:
    """Sentences about ``graph``; ``mapped`` says whether any of it runs on the Edge TPU, ``refused`` whether all is refused."""
    checks = (_precision, _ends, _batch, _unknown_shape, _recurrent, _rows, _subgraphs)
    found = [check(graph) for check in checks]
    if not mapped and not refused and graph.operators:
        found.append(
            "nothing maps: the compiler says that it succeeded, and the whole model runs on the processor all the same"
        )
    return tuple(filter(None, found))


def _precision(graph: OperatorGraph) -> str:
    flowing = [tensor for operator in graph.operators for tensor in activations(operator) if not tensor.constant]
    floats = sum(tensor.dtype in FLOATS for tensor in flowing)
    eight = sum(tensor.dtype in EIGHT_BITS for tensor in flowing)
    if not eight and any(tensor.dtype == "int16" for tensor in flowing):
        return "the model is quantized to 16 bits (int16x8); the Edge TPU computes with int8 alone: take --recipe int8"
    if floats and not eight:
        kind = (
            "is dynamic-range quantized: weights of 8 bits, everything else float"
            if _has_int8_weights(graph)
            else "is float"
        )
        return (
            f"the model {kind}; the Edge TPU computes with int8 alone: edgekit convert MODEL --data DATA --recipe int8"
        )
    islands = [operator for operator in graph.operators if _computes_float(operator)]
    if islands and eight:
        named = ", ".join(sorted({operator.type for operator in islands})[:5])
        return f"the model is quantized in part: {len(islands)} of {len(graph.operators)} operators compute with floats ({named})"
    return ""


def _has_int8_weights(graph: OperatorGraph) -> bool:
    return any(tensor.dtype in EIGHT_BITS for operator in graph.operators for tensor in operator.constant_inputs)


def _computes_float(operator: Operator) -> bool:
    if operator.custom or operator.type in ("QUANTIZE", "DEQUANTIZE"):
        return False
    return any(tensor.dtype in FLOATS for tensor in activations(operator))


def _ends(graph: OperatorGraph) -> str:
    """Float inputs that are quantized, and float outputs that are dequantized: the processor does both, every time."""
    given, made = {tensor.index for tensor in graph.card.inputs}, {tensor.index for tensor in graph.card.outputs}
    quantizes = any(op.type == "QUANTIZE" and _is_float_end(op.inputs, given) for op in graph.operators)
    dequantizes = any(op.type == "DEQUANTIZE" and _is_float_end(op.outputs, made) for op in graph.operators)
    ends = [name for name, there in (("input", quantizes), ("output", dequantizes)) if there]
    if not ends:
        return ""
    options = " ".join(f"--{end}-type int8" for end in ends)
    return f"float {' and '.join(f'{end}s' for end in ends)}: the processor converts them each time; {options} saves it"


def _is_float_end(tensors: Sequence[TensorCard | None], ends: Collection[int]) -> bool:
    return any(tensor is not None and tensor.dtype in FLOATS and tensor.index in ends for tensor in tensors)


def _batch(graph: OperatorGraph) -> str:
    rows = next((t.shape[0] for t in graph.card.inputs if len(t.shape) > 3 and t.shape[0] > 1), 0)
    return f"a batch of {rows}: the Edge TPU takes one row at a time; convert with --batch 1" if rows else ""


def _unknown_shape(graph: OperatorGraph) -> str:
    """Sizes that the file leaves open beyond the batch: the compiler takes what is stored, most often 1."""
    for tensor in graph.card.inputs:
        signature = tensor.shape_signature or ()
        if -1 in signature[1:]:
            wanted, stored = ("x".join("?" if s < 0 else str(s) for s in sizes) for sizes in (signature, tensor.shape))
            return f"the input {tensor.name!r} leaves sizes open ({wanted}), the compiler takes {stored}: fix the sizes"
    return ""


def _recurrent(graph: OperatorGraph) -> str:
    lstms = [operator for operator in graph.operators if operator.type == "UNIDIRECTIONAL_SEQUENCE_LSTM"]
    given = [tensor for operator in lstms for tensor in operator.inputs[:1] if tensor is not None]
    features = max((tensor.shape[-1] for tensor in given if tensor.shape), default=0)
    if features <= MOST_LSTM_INPUTS:
        return ""
    return f"an LSTM of {features} features a step: the compiler fails without a word above about {MOST_LSTM_INPUTS}"


def _rows(graph: OperatorGraph) -> str:
    """Fully connected layers of several rows: documented as unsupported, but logs of compiler 16 have some that map."""
    for operator in graph.operators:
        made = next(iter(operator.outputs), None) if operator.type == "FULLY_CONNECTED" else None
        if made is not None and made.dtype in EIGHT_BITS and sum(size > 1 for size in made.shape) > 1:
            sizes = "x".join(map(str, made.shape))
            return f"operator {operator.index} is fully connected with several rows ({sizes}), which older compilers refuse"
    return ""


def _subgraphs(graph: OperatorGraph) -> str:
    more = graph.card.subgraphs - 1
    return f"{more} more subgraphs (branches, loops): those run on the processor" if more > 0 else ""
