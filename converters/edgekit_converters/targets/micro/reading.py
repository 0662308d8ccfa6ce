"""What TFLM has to be told of a file that its card does not say, read without believing it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import ModelFileError
from ...model_card import load_schema

__all__ = ["count_variables", "damage_named", "has_weights_behind"]

# What flatbuffers and numpy raise when an offset leads outside the file, or a value does not fit its field.
_ACCESS_ERRORS = (struct.error, ValueError, TypeError, IndexError, OverflowError, AttributeError)


@contextmanager
def damage_named(model: bytes) -> Iterator[None]:
    """Turn whatever reading a damaged file raises into ModelFileError."""
    try:
        yield
    except _ACCESS_ERRORS as error:
        raise ModelFileError(
            f"expected a whole TensorFlow Lite model, got {len(model)} bytes that point outside themselves: the file is "
            "damaged; download it again, or convert the model again"
        ) from error


def has_weights_behind(model: bytes) -> bool:
    """Whether a buffer lies behind the flatbuffer, as in files near 2 GB: TFLM takes such a one for zeros.

    Raises ModelFileError where the file is damaged.
    """
    with damage_named(model):
        whole = load_schema().Model.GetRootAs(model, 0)
        return any(whole.Buffers(i).Offset() > 1 for i in range(whole.BuffersLength()))


def count_variables(model: bytes) -> int:
    """The number of different variables that VAR_HANDLE operators name: the interpreter is made with room for so many.

    Raises ModelFileError where the file is damaged.
    """
    with damage_named(model):
        return len(set(_variables(model)))


def _variables(model: bytes) -> Iterator[Any]:
    schema = load_schema()
    whole = schema.Model.GetRootAs(model, 0)
    for graph in (whole.Subgraphs(i) for i in range(whole.SubgraphsLength())):
        for op in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            code, table = whole.OperatorCodes(op.OpcodeIndex()), op.BuiltinOptions()
            if code.BuiltinCode() == schema.BuiltinOperator.VAR_HANDLE and table is not None:
                options = schema.VarHandleOptions()
                options.Init(table.Bytes, table.Pos)
                yield options.SharedName()
