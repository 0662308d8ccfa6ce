"""Where the Edge TPU compiler really put each operator, beside where edgekit's rules said it would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from ..operators import Operator
from ..records import COMPILED, MappingCheck, OpPlacement, TargetReport
from ..target import Target
from .compiled_model import first_off, read_compiled, read_packages
from .container import PARAMETER_CACHING
from .installed import Compiler
from .latency import estimate_latency
from .log import CompilerLog
from .matching import placed_by_compiler
from .memory import Memory
from .options import EdgeTpuOptions
from .preparation import Job
from .statuses import LATER, find_status
from .verdict import Made

__all__ = ["report_compiled", "shares_memory"]

SHOWN = 10


def report_compiled(
    job: Job,
    made: Sequence[Made],
    log: CompilerLog,
    target: Target,
    *,
    options: EdgeTpuOptions,
    compiler: Compiler,
) -> TargetReport:
    """What became of ``job``: one file, or its segments. Operators are those of the model given, by their index in it.

    Of segments, each for an Edge TPU of its own, bytes and subgraphs are the sum of all.
    """
    parts = [read_compiled(file.content, target) for file in made if file.packaged]
    placed = _placed(job, made)
    ops = _placements(job, made, placed)
    on_target = sum(placed)
    cached, streamed = (_sum(getattr(part, name) for part in parts) for name in ("cached_bytes", "streamed_bytes"))
    mapped = [op for op, there in zip(job.graph.operators, placed, strict=True) if there]
    check = _check(job, placed, options)
    alone = parts[0] if len(made) == 1 else TargetReport(target.name, target.kind, COMPILED)
    estimate = alone.estimate
    if estimate is None and len(made) == 1:
        estimate = estimate_latency(mapped, Memory(cached, streamed), target)
    return TargetReport(
        name=target.name,
        kind=target.kind,
        basis=COMPILED,
        said_by=f"edgetpu_compiler {compiler.version}",
        ops=ops,
        subgraphs=sum(part.subgraphs for part in parts),
        on_target=on_target,
        on_cpu=len(ops) - on_target,
        first_off_target=first_off(ops),
        min_runtime=max((part.min_runtime for part in parts if part.min_runtime is not None), default=None),
        cached_bytes=cached,
        streamed_bytes=streamed,
        estimate=estimate,
        memory={**alone.memory, **_memory(made)},
        figures={**alone.figures, **_figures(log, made)},
        layers=tuple(layer for part in parts for layer in part.layers),
        mapping_check=check,
        warnings=_warnings(made, parts, placed, check, options, compiler),
        options={name: value for name, value in asdict(options).items() if name != "show_operations"},
        model_sha256=job.graph.card.sha256,
    )


def _placed(job: Job, made: Sequence[Made]) -> tuple[bool, ...]:
    """Which operators the compiler took: of segments, those that none of them leaves to the processor."""
    if not job.graph.operators:
        return ()
    each = [placed_by_compiler(job.graph, file.graph) if file.packaged else _untouched(job, file) for file in made]
    return tuple(all(votes) for votes in zip(*each, strict=True))


def _untouched(job: Job, file: Made) -> tuple[bool, ...]:
    """False for the operators of a segment that has nothing for an Edge TPU; of the others it says nothing."""
    names = {tensor.name for op in file.graph.operators for tensor in op.outputs if tensor is not None}
    writes = [{tensor.name for tensor in op.outputs if tensor is not None} for op in job.graph.operators]
    return tuple(not (written & names) for written in writes)


def _placements(job: Job, made: Sequence[Made], placed: Sequence[bool]) -> tuple[OpPlacement, ...]:
    predicted = {op.index: op for op in job.prediction.ops}
    said = _reasons(made)
    ops = []
    for operator, there in zip(job.graph.operators, placed, strict=True):
        ours = predicted.get(operator.index) or OpPlacement(operator.index, operator.type, "cpu")
        reason = "" if there else _reason(operator, ours, said)
        ops.append(
            OpPlacement(
                index=operator.index,
                type=operator.type,
                placement="edgetpu" if there else "cpu",
                reason=reason,
                remedy="" if there else _remedy(reason, ours),
                layer=ours.layer,
                version=operator.version,
            )
        )
    return tuple(ops)


def _reasons(made: Sequence[Made]) -> dict[str, tuple[str, ...]]:
    """The compiler's statuses of operators left on the processor, by type."""
    said: dict[str, dict[str, None]] = {}
    for file in made:
        for row in file.block.rows:
            if not row.mapped:
                said.setdefault(row.type, {})[row.status] = None
    # A reason of its own before the one that only follows from another's: the table's order is random.
    return {type_: tuple(sorted(statuses, key=lambda text: (text == LATER, text))) for type_, statuses in said.items()}


def _reason(operator: Operator, ours: OpPlacement, said: Mapping[str, tuple[str, ...]]) -> str:
    """Why ``operator`` is on the processor: the table knows only types, so where it has several reasons for one, the one that
    edgekit's rules gave, and else all of them."""
    statuses = said.get("CUSTOM" if operator.custom else operator.type, ())
    if ours.reason in statuses or not statuses:
        return ours.reason
    return statuses[0] if len(statuses) == 1 else " or: ".join(statuses)


def _remedy(reason: str, ours: OpPlacement) -> str:
    status = find_status(reason)
    if ours.remedy and (ours.reason == reason or status is None or status.text != LATER):
        return ours.remedy
    return status.remedy if status is not None else ""


def _check(job: Job, placed: Sequence[bool], options: EdgeTpuOptions) -> MappingCheck | None:
    """The prediction beside the outcome; None where the options ask for something else than was predicted."""
    asked = options.search_delegate or options.intermediate_tensors or options.num_segments > 1
    predicted = {op.index: op.placement == "edgetpu" for op in job.prediction.ops}
    if asked or options.min_runtime_version is not None or len(predicted) != len(placed):
        return None
    both = [(i, predicted.get(i, False), there) for i, there in enumerate(placed)]
    return MappingCheck(
        agreed=sum(ours == theirs for _, ours, theirs in both),
        predicted_on_target_only=tuple(i for i, ours, theirs in both if ours and not theirs),
        actually_on_target_only=tuple(i for i, ours, theirs in both if theirs and not ours),
    )


def _memory(made: Sequence[Made]) -> dict[str, int]:
    """What the compiler says of memory, rounded as it prints it; of segments with their number."""
    memory: dict[str, int] = {}
    for number, file in enumerate(made):
        place = f"segment_{number}_" if len(made) > 1 else ""
        said = {
            "on_chip_used": file.block.cached_bytes,
            "on_chip_remaining": file.block.remaining_bytes,
            "off_chip_streamed": file.block.streamed_bytes,
            "compiled_file": len(file.content),
        }
        memory.update({place + name: value for name, value in said.items() if value is not None})
    return memory


def _figures(log: CompilerLog, made: Sequence[Made]) -> dict[str, float]:
    tries = len(log.attempts) - len(log.last_attempts)
    figures: dict[str, float] = {}
    if log.compile_ms is not None:
        figures["compiler_ms"] = float(log.compile_ms)
    if tries:
        figures["failed_tries"] = float(tries)
    if len(made) > 1:
        figures["segments"] = float(len(made))
    return figures


def _warnings(
    made: Sequence[Made],
    parts: Sequence[TargetReport],
    placed: Sequence[bool],
    check: MappingCheck | None,
    options: EdgeTpuOptions,
    compiler: Compiler,
) -> tuple[str, ...]:
    said = [compiler.warning] if compiler.warning else []
    said += [warning for part in parts for warning in part.warnings]
    counts = [file.block.on_tpu for file in made]
    told = sum(count for count in counts if count is not None)
    if None not in counts and told != sum(placed):
        said.append(
            f"the compiler says {told} operator(s) run on the Edge TPU, by the names of tensors edgekit finds {sum(placed)}"
        )
    said += _differences(check)
    said += [f"{file.file} has nothing for an Edge TPU: it runs on the processor" for file in made if not file.packaged]
    if options.multiple_subgraphs:
        said.append(
            "--multiple-subgraphs is experimental: each piece costs a way to the processor and back; measure it"
        )
    if options.search_delegate and any(file.block.on_cpu for file in made):
        said.append("--search-delegate left the end of the model on the processor, so that the rest compiles")
    return tuple(dict.fromkeys(said))


def _differences(check: MappingCheck | None) -> list[str]:
    """What the compiler did otherwise than edgekit's rules say, a line each way."""
    if check is None:
        return []
    both = (("on the Edge TPU", check.predicted_on_target_only), ("on the processor", check.actually_on_target_only))
    return [
        f"edgekit predicted {len(indices)} operator(s) {where} that the compiler placed otherwise: "
        + ", ".join(map(str, indices[:SHOWN]))
        + (" …" if len(indices) > SHOWN else "")
        for where, indices in both
        if indices
    ]


def shares_memory(made: Iterable[Made]) -> bool:
    """Whether the parameters of all files stay on the chip together, as those of co-compiled models do: by their token."""
    packages = [package for file in made for package in read_packages(file.content).values()]
    caching = [one for package in packages for one in package.executables if one.type == PARAMETER_CACHING]
    return len({one.caching_token for one in caching}) <= 1


def _sum(values: Iterable[int | None]) -> int | None:
    known = list(values)
    return None if None in known or not known else sum(value for value in known if value is not None)
