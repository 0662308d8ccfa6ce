"""What the Edge TPU compiler will map of a model, operator by operator, said before it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..int8.plain_form import int8_version
from ..model_card import TensorCard
from .edgetpu.latency import estimate_latency
from .edgetpu.limits import LIMITS, Limits
from .edgetpu.memory import predict_memory
from .edgetpu.op_table import COMPILER_RUNTIME
from .edgetpu.placing import LATER_SUBGRAPH, Placing, place
from .edgetpu.refusals import Refusal, find_refusal
from .edgetpu.remedies import remedy_for
from .edgetpu.warnings import find_warnings
from .operators import Operator, OperatorGraph
from .records import PREDICTED, OpPlacement, TargetReport
from .target import Target

__all__ = ["EDGETPU", "as_if_int8", "predict"]

EDGETPU = "edgetpu"
SAID_BY = "edgekit's rules for edgetpu_compiler 16"
_REFUSED = "the compiler refuses the model"
_BIASES = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}


def predict(
    graph: OperatorGraph,
    target: Target,
    *,
    layers: Sequence[str | None] = (),
    multiple_subgraphs: bool = False,
    assume_int8: bool = False,
    limits: Limits = LIMITS,
) -> TargetReport:
    """Predict what edgetpu_compiler 16 makes of ``graph`` on ``target``.

    ``layers`` are the Keras layers of the operators, in order. ``multiple_subgraphs`` is the compiler's option -a, which
    keeps all pieces instead of the first. ``assume_int8`` reads a float model as what int8 quantization would make of it, to
    warn before there are samples to calibrate with. ``limits`` are those of size that were learned.

    An operator's ``reason`` is the compiler's own; ``refusal`` says, where it is not empty, that the compiler takes no part
    of the model. Memory and latency are those of the operators that map; None where nothing does, or nothing is known.
    """
    read = as_if_int8(graph) if assume_int8 else graph
    refusal = find_refusal(read)
    placing = place(read.operators, multiple_subgraphs=multiple_subgraphs, limits=limits)
    if refusal is not None:
        placing = replace(placing, pieces=())
    ops = _placements(read, placing, refusal, layers)
    on_target = tuple(op for op, mapped in zip(read.operators, placing.mapped, strict=True) if mapped)
    report = TargetReport(
        name=target.name,
        kind=target.kind,
        basis=PREDICTED,
        said_by=SAID_BY,
        ops=ops,
        subgraphs=len(placing.pieces),
        on_target=len(on_target),
        on_cpu=len(ops) - len(on_target),
        first_off_target=_first_off_target(placing, refusal),
        refusal="" if refusal is None else str(refusal),
        remedy=_remedy(read, refusal),
        warnings=find_warnings(read, mapped=bool(on_target), refused=refusal is not None),
        options={"multiple_subgraphs": multiple_subgraphs, "assume_int8": assume_int8},
        model_sha256=graph.card.sha256,
    )
    return _with_figures(report, on_target, target) if on_target else report


def as_if_int8(graph: OperatorGraph) -> OperatorGraph:
    """A float graph as int8 quantization would leave it: float32 tensors are int8, biases int32, versions those of int8."""
    operators = tuple(_quantized(operator) for operator in graph.operators)
    card = replace(
        graph.card,
        inputs=tuple(map(_as_int8, graph.card.inputs)),
        outputs=tuple(map(_as_int8, graph.card.outputs)),
        tensors=tuple(map(_as_int8, graph.card.tensors)),
    )
    return OperatorGraph(card, operators)


def _quantized(operator: Operator) -> Operator:
    # A constant's values are codes after it: what they are is not known, but zero stays zero.
    bias = _BIASES.get(operator.type)
    inputs = tuple(
        None if tensor is None else _as_bias(tensor) if place == bias else _as_int8(tensor)
        for place, tensor in enumerate(operator.inputs)
    )
    outputs = tuple(None if tensor is None else _as_int8(tensor) for tensor in operator.outputs)
    floats = any(tensor.dtype == "float32" for tensor in operator.operands)
    version = operator.version
    if floats and not operator.custom:
        version = int8_version(operator.type, version, [tensor.shape for tensor in inputs if tensor is not None])
    return replace(operator, inputs=inputs, outputs=outputs, version=version)


def _as_int8(tensor: TensorCard) -> TensorCard:
    return replace(tensor, dtype="int8", size_bytes=tensor.size_bytes // 4) if tensor.dtype == "float32" else tensor


def _as_bias(tensor: TensorCard) -> TensorCard:
    return replace(tensor, dtype="int32") if tensor.dtype == "float32" else tensor


def _placements(
    graph: OperatorGraph, placing: Placing, refusal: Refusal | None, layers: Sequence[str | None]
) -> tuple[OpPlacement, ...]:
    mapped = placing.mapped
    found = []
    for at, operator in enumerate(graph.operators):
        cause, reason = placing.cause(at), placing.reason(at)
        if refusal is not None and placing.rules[at] is None:
            cause, reason = ("", _REFUSED) if refusal.operator is not operator else (refusal.cause, refusal.said)
        found.append(
            OpPlacement(
                index=operator.index,
                type=operator.type,
                placement=EDGETPU if mapped[at] else "cpu",
                reason=reason,
                remedy=_look_before(placing, at) if cause == LATER_SUBGRAPH else _remedied(cause, operator, graph),
                layer=(layers[at] or "") if at < len(layers) else "",
                version=operator.version,
            )
        )
    return tuple(found)


def _look_before(placing: Placing, at: int) -> str:
    """What is lost behind an operator is won back by changing that one."""
    before = placing.breaks[at]
    if before is None:
        return ""
    breaking = placing.operators[before]
    return f"change operator {breaking.index}, {breaking.type}, which breaks the chain before it"


def _first_off_target(placing: Placing, refusal: Refusal | None) -> int | None:
    if refusal is not None and refusal.operator is not None:
        return refusal.operator.index
    first = placing.first_break()
    return None if first is None else placing.operators[first].index


def _remedy(graph: OperatorGraph, refusal: Refusal | None) -> str:
    if refusal is None or refusal.operator is None:
        return ""
    return _remedied(refusal.cause, refusal.operator, graph)


def _remedied(cause: str, operator: Operator, graph: OperatorGraph) -> str:
    """The remedy for ``cause``; none for an operator of a file that lacks operands it would speak of."""
    try:
        return remedy_for(cause, operator, graph) if cause else ""
    except IndexError:
        return ""


def _with_figures(report: TargetReport, on_target: Sequence[Operator], target: Target) -> TargetReport:
    memory = predict_memory(on_target)
    return replace(
        report,
        min_runtime=COMPILER_RUNTIME,
        cached_bytes=memory.cached_bytes,
        streamed_bytes=memory.streamed_bytes,
        # Of several pieces each starts apart, with the processor between: the fitted figures know only one.
        estimate=estimate_latency(on_target, memory, target) if report.subgraphs == 1 else None,
    )
