"""A model cut into one small model for each operator, so that TFLM says of every one what it says of the first it trips on."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from ...model_card import ModelCard, load_schema
from .reading import damage_named

__all__ = ["slice_operators"]

_CALLS_SUBGRAPHS = frozenset({"IF", "WHILE", "CALL_ONCE"})
_STATE = frozenset({"resource", "variant"})


def slice_operators(model: bytes, card: ModelCard) -> Iterator[tuple[int, bytes]]:
    """Yield ``(index, model)`` for the operators of subgraph 0 that can stand alone: its constants and options are the
    original's, what others compute becomes an input.

    Left out are those that read or write a state kept elsewhere (a resource): alone they would fail for that reason.
    Raises ModelFileError where what the card does not read, such as the options, points outside the file.
    """
    with damage_named(model):
        yield from _slices(model, card)


def _slices(model: bytes, card: ModelCard) -> Iterator[tuple[int, bytes]]:
    schema = load_schema()
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    for op in card.ops:
        operands = [card.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
        if any(tensor.dtype in _STATE for tensor in operands):
            continue
        alone = _with_subgraphs if op.type in _CALLS_SUBGRAPHS and not op.custom else _alone
        yield op.index, _packed(alone(schema, whole, op.index))


def _alone(schema: Any, whole: Any, index: int) -> Any:
    """A model of one operator, with no more tensors and buffers than it has operands."""
    graph = whole.subgraphs[0]
    op = copy.copy(graph.operators[index])
    operands = [*_indices(op.inputs), *_indices(op.outputs), *_indices(op.intermediates)]
    places: dict[int, int] = {}
    for tensor in operands:
        if tensor >= 0:
            places.setdefault(tensor, len(places))
    model = schema.ModelT()
    model.version, model.buffers = whole.version, [schema.BufferT()]
    model.operatorCodes = [whole.operatorCodes[op.opcodeIndex]]
    op.opcodeIndex = 0
    for field in ("inputs", "outputs", "intermediates"):
        setattr(op, field, [places.get(i, -1) for i in _indices(getattr(op, field))])
    tensors = []
    for old in places:
        tensor = copy.copy(graph.tensors[old])
        data = whole.buffers[tensor.buffer].data
        tensor.buffer = 0
        if data is not None and len(data):
            tensor.buffer = len(model.buffers)
            model.buffers.append(whole.buffers[graph.tensors[old].buffer])
        tensors.append(tensor)
    cut = schema.SubGraphT()
    cut.tensors, cut.operators = tensors, [op]
    cut.inputs = [i for i in dict.fromkeys(op.inputs) if i >= 0 and not tensors[i].buffer and not tensors[i].isVariable]
    cut.outputs = [i for i in dict.fromkeys(op.outputs) if i >= 0]
    model.subgraphs = [cut]
    return model


def _with_subgraphs(schema: Any, whole: Any, index: int) -> Any:
    """The whole model with one operator in subgraph 0: the subgraphs it calls have to be where they were."""
    del schema
    model, cut = copy.copy(whole), copy.copy(whole.subgraphs[0])
    op = cut.operators[index]
    constant = {i for i, tensor in enumerate(cut.tensors) if _filled(whole.buffers[tensor.buffer])}
    cut.operators = [op]
    cut.inputs = [i for i in dict.fromkeys(_indices(op.inputs)) if i >= 0 and i not in constant]
    cut.outputs = [i for i in dict.fromkeys(_indices(op.outputs)) if i >= 0]
    model.subgraphs = [cut, *whole.subgraphs[1:]]
    model.signatureDefs = None
    return model


def _filled(buffer: Any) -> bool:
    return buffer.data is not None and len(buffer.data) > 0


def _indices(values: Sequence[int] | None) -> list[int]:
    return [] if values is None else [int(value) for value in values]


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
