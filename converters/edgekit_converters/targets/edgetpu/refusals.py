"""What makes the compiler refuse a whole model, before it looks at what the Edge TPU has.

It reads the file with the TFLite of TensorFlow 2.5, and runs it once. Three things stop it: an operator, or a version of one,
that TFLite did not have; a custom operator it does not know; a tensor whose size is known only when the model runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..operators import Operator, OperatorGraph
from .op_table import KNOWN_CUSTOM
from .op_versions import COMPILER_TENSORFLOW, is_readable

__all__ = ["SIZE_OPERANDS", "Refusal", "find_refusal"]

# Where an operator finds the size, or the axes, of what it makes: when that is computed, so is the size.
SIZE_OPERANDS: Mapping[str, tuple[int, ...]] = {
    "ARG_MAX": (1,),
    "ARG_MIN": (1,),
    "BATCH_TO_SPACE_ND": (1, 2),
    "BROADCAST_TO": (1,),
    "EXPAND_DIMS": (1,),
    "FILL": (0,),
    "MEAN": (1,),
    "MIRROR_PAD": (1,),
    "ONE_HOT": (1,),
    "PAD": (1,),
    "PADV2": (1,),
    "RANGE": (0, 1, 2),
    "REDUCE_ANY": (1,),
    "REDUCE_MAX": (1,),
    "REDUCE_MIN": (1,),
    "REDUCE_PROD": (1,),
    "RESHAPE": (1,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
    "SLICE": (1, 2),
    "SPACE_TO_BATCH_ND": (1, 2),
    "SPARSE_TO_DENSE": (1,),
    "SPLIT": (0,),
    "SPLIT_V": (1, 2),
    "STRIDED_SLICE": (1, 2, 3),
    "SUM": (1,),
    "TILE": (1,),
    "TOPK_V2": (1,),
    "TRANSPOSE": (1,),
    "TRANSPOSE_CONV": (0,),
}
_ALWAYS_DYNAMIC = frozenset(("UNIQUE", "WHERE"))


@dataclass(frozen=True)
class Refusal:
    """Why the compiler takes no piece of a model: the ``cause`` (the name of a rule), the operator it stops at, its words, ours.

    ``operator`` is None where it is one of another subgraph than the first.
    """

    cause: str
    operator: Operator | None
    said: str
    why: str

    def __str__(self) -> str:
        return f"{self.why} (the compiler says: {self.said})"


def find_refusal(graph: OperatorGraph) -> Refusal | None:
    """The first thing that makes the compiler refuse ``graph``, in the order in which it looks; None where it takes the model."""
    for operator in graph.operators:
        if not operator.custom and not is_readable(operator.type, operator.version):
            return _unreadable(operator.type, operator.version, operator)
    for other in graph.card.other_ops:
        if not other.custom and not is_readable(other.type, other.version):
            return _unreadable(other.type, other.version, None)
    for operator in graph.operators:
        if operator.custom and operator.type not in KNOWN_CUSTOM:
            return Refusal(
                "custom",
                operator,
                f"ERROR: Encountered unresolved custom op: {operator.type}.",
                f"operator {operator.index} is the custom operator {operator.type}, which nothing but its own program knows",
            )
    return next((_dynamic(operator) for operator in graph.operators if _makes_dynamic(operator)), None)


def _unreadable(type_: str, version: int, operator: Operator | None) -> Refusal:
    place = "an operator of another subgraph" if operator is None else f"operator {operator.index}"
    known = is_readable(type_, 1)
    said = (
        f"ERROR: Didn't find op for builtin opcode '{type_}' version '{version}'."
        if known
        else "ERROR: Op builtin_code out of range, or no op found for it."
    )
    what = f"version {version} of {type_}" if known else type_
    return Refusal(
        "version" if known else "operator",
        operator,
        said,
        f"{place} is {what}, which is newer than TensorFlow {COMPILER_TENSORFLOW}, and the compiler reads nothing newer",
    )


def _makes_dynamic(operator: Operator) -> bool:
    if operator.type in _ALWAYS_DYNAMIC:
        return True
    sized_by = [operator.inputs[i] for i in SIZE_OPERANDS.get(operator.type, ()) if i < len(operator.inputs)]
    # A size of no numbers (a scalar's) has no bytes in the file, and is no less known.
    return any(tensor is not None and not tensor.constant and 0 not in tensor.shape for tensor in sized_by)


def _dynamic(operator: Operator) -> Refusal:
    return Refusal(
        "dynamic-shape",
        operator,
        "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized "
        "tensors.",
        f"operator {operator.index} ({operator.type}) makes a tensor whose size is known only when the model runs",
    )
