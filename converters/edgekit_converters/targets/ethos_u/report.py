"""A ``TargetReport`` of what vela left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..operators import Operator, OperatorGraph
from ..records import MODELLED, Estimate, LayerFigure, OpPlacement, TargetReport
from ..target import CPU, ETHOS_U, Target
from .compiled import ethos_u_operators
from .database import Commands, Database
from .remedies import TO_INT8, remedy_for
from .summary import Said, Summary

__all__ = ["HEADLINE", "modelled"]

HEADLINE = (
    "cycles_total",
    "cycles_npu",
    "inferences_per_s",
    "macs",
    "tops",
    "npu_operators",
    "cpu_operators",
    "core_clock_hz",
    "encoded_weights_bytes",
)
NO_REASON = "vela leaves it to the CPU and does not say why"
# What vela calls an operator whose activation TFLite fused into it: the activation's name.
_FUSED = frozenset({"RELU", "RELU6", "RELU_N1_TO_1", "TANH", "SIGN_BIT"})


def modelled(
    graph: OperatorGraph,
    compiled: OperatorGraph,
    target: Target,
    said_by: str,
    evidence: tuple[Summary, Database, Said],
    *,
    layers: Sequence[str | None] = (),
    options: Mapping[str, object] | None = None,
) -> TargetReport:
    """What vela made of ``graph``: ``compiled`` is the file it wrote, ``evidence`` what it said of it."""
    summary, database, said = evidence
    ops = _placements(graph, database, said, layers)
    on_cpu = [op for op in ops if op.placement == CPU]
    whole = len(on_cpu) == len(ops)
    return TargetReport(
        name=target.name,
        kind=target.kind,
        basis=MODELLED,
        said_by=said_by,
        ops=ops,
        subgraphs=len(ethos_u_operators(compiled)),
        on_target=len(ops) - len(on_cpu),
        on_cpu=len(on_cpu),
        first_off_target=on_cpu[0].index if on_cpu else None,
        refusal=_refusal(on_cpu) if whole else "",
        remedy=_remedy(on_cpu) if whole else "",
        estimate=None if whole else _estimate(summary),
        memory={name: used for name, used in summary.memory.items() if used},
        figures=_figures(summary, said),
        layers=_layers(ops, graph, database),
        warnings=_warnings(graph, summary, said, len(on_cpu), options or {}),
        options={**(options or {}), **_assumed(summary)},
        model_sha256=graph.card.sha256,
    )


def _placements(
    graph: OperatorGraph, database: Database, said: Said, layers: Sequence[str | None]
) -> tuple[OpPlacement, ...]:
    ends = {tensor.index for tensor in (*graph.card.inputs, *graph.card.outputs)}
    names = [*layers, *[None] * len(graph.operators)]
    placed = []
    for op, layer in zip(graph.operators, names, strict=False):
        on_cpu = op.index in database.on_cpu
        reason = _reason(op, said) if on_cpu else ""
        at_an_end = any(tensor.index in ends for tensor in op.operands)
        remedy = remedy_for(op, reason, at_an_end=at_an_end) if on_cpu else ""
        placed.append(
            OpPlacement(op.index, op.type, CPU if on_cpu else ETHOS_U, reason, remedy, layer or "", op.version)
        )
    return tuple(placed)


def _reason(op: Operator, said: Said) -> str:
    """Vela's reason for an operator: the one with the name of its output, and of its type where there are several."""
    output = next((tensor.name for tensor in op.outputs if tensor is not None), "")
    named = [(kind, reason) for kind, name, reason in said.reasons if _same_name(name, output)]
    own = [reason for kind, reason in named if kind == ("CUSTOM" if op.custom else op.type)]
    fused = [reason for kind, reason in named if kind in _FUSED]
    return (own or fused or [reason for _, reason in named] or [NO_REASON])[0]


def _same_name(said: str, known: str) -> bool:
    """Whether vela's name of a tensor is the card's, which is cut after 200 characters."""
    return said == known or (len(known) >= 200 and said.startswith(known))


def _refusal(on_cpu: Sequence[OpPlacement]) -> str:
    if not on_cpu:
        return "the model has no operators"
    first = on_cpu[0]
    return f"vela leaves every operator on the CPU; the first, {first.type}: {first.reason}"


def _remedy(on_cpu: Sequence[OpPlacement]) -> str:
    remedies = [op.remedy for op in on_cpu if op.remedy]
    return TO_INT8 if TO_INT8 in remedies else remedies[0] if remedies else ""


def _assumed(summary: Summary) -> dict[str, str]:
    """What the figures hold for, in vela's words."""
    names = (
        "accelerator_configuration",
        "system_config",
        "memory_mode",
        "weights_storage_area",
        "feature_map_storage_area",
    )
    return {name: summary.texts[name] for name in names if name in summary.texts}


def _estimate(summary: Summary) -> Estimate | None:
    seconds = summary.figures.get("inference_time_s")
    if not seconds:
        return None
    accelerator = summary.texts.get("accelerator_configuration", "").lower().replace("_", "-")
    return Estimate(
        latency_ms=1000 * seconds,
        basis=f"vela's model of {accelerator} at {summary.figures['core_clock_hz'] / 1e6:g} MHz, system configuration "
        f"{summary.texts.get('system_config', '?')}, memory mode {summary.texts.get('memory_mode', '?')}: modelled, not "
        "measured; operators on the CPU are not counted",
    )


def _figures(summary: Summary, said: Said) -> dict[str, float]:
    """All of vela's figures, those that people ask for first. Its operators on either side are not the file's: one of the
    file may become several."""
    counts = {"npu_operators": said.npu_operators, "cpu_operators": said.cpu_operators}
    known = {**summary.figures, **{name: float(count) for name, count in counts.items() if count is not None}}
    first = {name: known[name] for name in HEADLINE if name in known}
    return {**first, **known}


def _layers(ops: Sequence[OpPlacement], graph: OperatorGraph, database: Database) -> tuple[LayerFigure, ...]:
    """One line for each operator of the file that costs something on the chip, and one for what vela put in: by the Keras
    layer where it is known, else by the output's name."""
    whole = sum(found.figures.get("cycles", 0.0) for found in (*database.commands.values(), database.inserted))
    lines = []
    for place, found in database.commands.items():
        tensors = (tensor.name for tensor in graph.operators[place].outputs if tensor is not None)
        name = ops[place].layer or next(tensors, "")
        lines.append(LayerFigure(name, ops[place].type, ETHOS_U, {"index": place, **_share(found, whole)}))
    if database.inserted.count:
        lines.append(LayerFigure("put in by vela", "", ETHOS_U, _share(database.inserted, whole)))
    return tuple(lines)


def _share(found: Commands, whole: float) -> dict[str, float]:
    share = found.figures.get("cycles", 0.0) / whole if whole else 0.0
    return {"commands": found.count, **found.figures, "cycles_share": share}


def _warnings(
    graph: OperatorGraph, summary: Summary, said: Said, on_cpu: int, options: Mapping[str, object]
) -> tuple[str, ...]:
    found = []
    settings = {"system_config": "system configuration", "memory_mode": "memory mode"}
    left = [key for key in settings if key not in options]
    if left:
        assumed = " and the ".join(f"{settings[key]} {summary.texts.get(key, '?')}" for key in left)
        flags = " ".join(f"--{key.replace('_', '-')} …" for key in left)
        found.append(
            f"vela assumes the {assumed}: the figures depend on it, name your chip's (edgekit compile {flags})"
        )
    if 0 < on_cpu < len(graph.operators):
        found.append(f"{on_cpu} of {len(graph.operators)} operators stay on the CPU: their time is in no figure")
    if said.free_axes:
        found.append(f"{said.free_axes} tensors have a free first dimension: vela took 1 for it")
    rows = max((tensor.shape[0] for tensor in graph.card.inputs if len(tensor.shape) > 1), default=1)
    if rows > 1:
        found.append(f"the model takes {rows} rows at once: the figures are for all of them together")
    budget = options.get("arena_cache_size")
    used = summary.memory.get("sram_bytes", 0)
    if isinstance(budget, int) and used > budget:
        found.append(f"the activations take {used:,} bytes, more than the arena cache size of {budget:,}")
    return (*found, *said.warnings)
