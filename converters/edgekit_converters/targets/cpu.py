"""Processors: which operators of a model no TFLite runtime of a board can run."""

from __future__ import annotations

from collections.abc import Sequence

from .operators import EDGETPU_OPERATOR, ETHOS_U_OPERATOR, Operator, OperatorGraph
from .records import PREDICTED, OpPlacement, TargetReport
from .target import Target

__all__ = ["check_cpu"]

# Custom operators that the runtimes of the Python wheels register themselves
# (tensorflow/lite/kernels/custom_ops_register.h, and the detection post-processing of register.cc).
REGISTERED_CUSTOM = frozenset({"TFLite_Detection_PostProcess"})
FLEX = "Flex"


def check_cpu(graph: OperatorGraph, target: Target, *, layers: Sequence[str | None] = ()) -> TargetReport:
    """Which operators run on the processors of ``target``. ``on_target`` counts those that do.

    Builtin operators do; custom ones only where a runtime has them built in. Whether a model is fast there is for
    ``edgekit bench`` to say.
    """
    names = list(layers) + [None] * (len(graph.operators) - len(layers))
    ops = tuple(_placement(op, layer or "") for op, layer in zip(graph.operators, names, strict=False))
    lost = [op for op in ops if op.placement == "unsupported"]
    return TargetReport(
        name=target.name,
        kind=target.kind,
        basis=PREDICTED,
        said_by=f"the operators that {' and '.join(target.runtimes)} have built in",
        ops=ops,
        subgraphs=0 if lost else 1,
        on_target=len(ops) - len(lost),
        first_off_target=lost[0].index if lost else None,
        refusal=f"no runtime of {target.name} has the operator {lost[0].type}" if lost else "",
        remedy=lost[0].remedy if lost else "",
        warnings=_warnings(graph, target),
        model_sha256=graph.card.sha256,
    )


def _placement(op: Operator, layer: str) -> OpPlacement:
    reason, remedy = _refused(op)
    return OpPlacement(
        index=op.index,
        type=op.type,
        version=op.version,
        placement="unsupported" if reason else "cpu",
        reason=reason,
        remedy=remedy,
        layer=layer,
    )


def _refused(op: Operator) -> tuple[str, str]:
    """Why no runtime runs an operator, and what to do; two empty strings for one that runs."""
    if op.type == EDGETPU_OPERATOR:
        return (
            "compiled for an Edge TPU",
            "run it where one is (--delegate edgetpu), or take the model it was compiled from",
        )
    if op.type == ETHOS_U_OPERATOR:
        return "compiled for an Ethos-U by vela", "run it there, or take the model it was compiled from"
    if op.custom and op.type.startswith(FLEX):
        return (
            "an operator of TensorFlow (Flex), which no runtime of a board has",
            "convert the model with edgekit convert",
        )
    if op.custom and op.type not in REGISTERED_CUSTOM:
        return "a custom operator that the runtimes do not know", "replace the layer behind it by builtin ones"
    if op.type.startswith("UNKNOWN_"):
        return "an operator newer than this machine's schema", "upgrade ai-edge-litert here and on the board"
    return "", ""


def _warnings(graph: OperatorGraph, target: Target) -> tuple[str, ...]:
    card = graph.card
    found = list(target.notes)
    largest = max((tensor.size_bytes for tensor in card.tensors if not tensor.constant), default=0)
    if target.ram_bytes is not None and card.size_bytes + 2 * largest > target.ram_bytes // 2:
        found.append(
            f"the model ({card.size_bytes >> 20} MiB) and its largest tensor ({largest >> 20} MiB) leave little of the "
            f"{target.ram_bytes >> 20} MiB of memory to the system"
        )
    if any(-1 in (tensor.shape_signature or ()) for tensor in card.inputs):
        found.append("an input has a dimension that is not fixed: it is 1 until the program resizes it")
    return tuple(found)
