"""What Arm's vela makes of a model for an Ethos-U: a report that is modelled, not measured, and the compiled file."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import ModelFileError, TargetError
from ...layers import name_layers
from ..operators import EDGETPU_OPERATOR, ETHOS_U_OPERATOR, OperatorGraph, read_operators
from ..records import COMPILED, CompiledFiles, OpPlacement, TargetReport
from ..target import CPU, ETHOS_U, Target
from .compiled import accelerators_of, ethos_u_operators
from .database import read_database
from .options import VelaOptions, family
from .report import modelled
from .run import Vela, configurations, find_vela, run_vela
from .summary import read_said, read_summary

__all__ = ["VelaOptions", "compile_ethos_u", "model_ethos_u"]

DEADLINE_S = 300.0
MOST_MODEL_BYTES = 2**31
_FOR_REPORTS = ("--enable-debug-db", "--verbose-cycle-estimate", "--verbose-weights")


def model_ethos_u(
    tflite: bytes,
    target: Target,
    *,
    options: VelaOptions | None = None,
    name: str = "model",
    layers: Sequence[str | None] = (),
    deadline_s: float = DEADLINE_S,
) -> TargetReport:
    """What vela makes of ``tflite`` on ``target``: placement of every operator of subgraph 0 with vela's own reason, memory,
    cycles, and the inference time of its model of the chip.

    A file that vela compiled before is read, not compiled again: its report says what it is for. ``layers`` name the Keras
    layer of each operator where the caller knows better than the file. That nothing runs on the accelerator is no error:
    ``refusal`` says so.

    Raises ModelFileError for bytes that are no .tflite, MissingPackageError without vela, TargetError when vela refuses,
    dies, or takes longer than ``deadline_s``.
    """
    graph = read_operators(tflite)
    options = options or VelaOptions()
    compiled = _already_compiled(tflite, graph, target, options)
    return compiled or _compiled(tflite, graph, target, options, name, layers, deadline_s).report


def compile_ethos_u(
    tflite: bytes,
    target: Target,
    *,
    name: str,
    options: VelaOptions | None = None,
    layers: Sequence[str | None] = (),
    deadline_s: float = DEADLINE_S,
) -> CompiledFiles:
    """Compile for ``target``: NAME_vela.tflite for the interpreter with Arm's driver, and vela's summary as it wrote it.

    Raises what ``model_ethos_u`` raises, and TargetError (``refused``) where nothing would run on the accelerator, or the
    file is compiled already.
    """
    graph = read_operators(tflite)
    options = options or VelaOptions()
    before = _already_compiled(tflite, graph, target, options)
    if before is not None:
        what = before.refusal or "it is compiled for an Ethos-U already"
        raise TargetError(
            f"{name} cannot be compiled for {target.name}: {what}; {before.remedy or _ORIGINAL}", refused=True
        )
    made = _compiled(tflite, graph, target, options, name, layers, deadline_s)
    if made.report.refusal:
        raise TargetError(
            f"{name} cannot be compiled for {target.name}: {made.report.refusal}"
            + (f"; {made.report.remedy}" if made.report.remedy else ""),
            refused=True,
            log=made.log,
        )
    return made


_ORIGINAL = "take the model it was compiled from"


def _already_compiled(tflite: bytes, graph: OperatorGraph, target: Target, options: VelaOptions) -> TargetReport | None:
    """The report of a file that a compiler has been over; None for a plain model."""
    wanted = options.accelerator(target)
    ours = ethos_u_operators(graph)
    if any(op.custom and op.type == EDGETPU_OPERATOR for op in graph.operators):
        refusal, said_by = f"it is compiled for an Edge TPU ({EDGETPU_OPERATOR}), not for an Ethos-U", "the file"
        return _of_compiled(graph, target, refusal, said_by, EDGETPU_OPERATOR, {})
    if not ours:
        return None
    made_for = accelerators_of(tflite, graph)
    wrong = [name for name in made_for if name != wanted]
    refusal = f"it is compiled for {', '.join(wrong)}, not for {wanted}: Arm's driver turns it down" if wrong else ""
    facts = {"accelerator_config": ", ".join(made_for)} if made_for else {}
    return _of_compiled(graph, target, refusal, "the command streams in the file", "", facts)


def _of_compiled(
    graph: OperatorGraph, target: Target, refusal: str, said_by: str, stranger: str, facts: Mapping[str, str]
) -> TargetReport:
    def place(kind: str) -> str:
        return ETHOS_U if kind == ETHOS_U_OPERATOR else "unsupported" if kind == stranger else CPU

    ops = tuple(OpPlacement(op.index, op.type, place(op.type), version=op.version) for op in graph.operators)
    ours = [op for op in ops if op.placement == ETHOS_U]
    others = [op for op in ops if op.placement != ETHOS_U]
    return TargetReport(
        name=target.name,
        kind=target.kind,
        basis=COMPILED,
        said_by=said_by,
        ops=ops,
        subgraphs=len(ours),
        on_target=len(ours),
        on_cpu=len(others),
        first_off_target=others[0].index if others else None,
        refusal=refusal,
        remedy=_ORIGINAL if refusal else "",
        warnings=() if refusal else ("compiled by vela already: figures are of the model it was compiled from",),
        options=dict(facts),
        model_sha256=graph.card.sha256,
    )


@dataclass(frozen=True)
class _Files:
    """What vela wrote: the compiled model, and the summary under its own name."""

    model: bytes
    summary_name: str
    summary: str
    database: Path


def _compiled(
    tflite: bytes,
    graph: OperatorGraph,
    target: Target,
    options: VelaOptions,
    name: str,
    layers: Sequence[str | None],
    deadline_s: float,
) -> CompiledFiles:
    """Run vela over ``tflite`` in a private folder and read what it leaves there."""
    vela = find_vela()
    stem = _stem(name)
    arguments = [*options.arguments(target), "--output-dir=out", *_FOR_REPORTS, f"{stem}.tflite"]
    with tempfile.TemporaryDirectory(prefix="edgekit-vela-") as scratch:
        folder = Path(scratch)
        (folder / f"{stem}.tflite").write_bytes(tflite)
        try:
            done = run_vela(vela, arguments, deadline_s=deadline_s, folder=folder)
        except TargetError as error:
            raise _advised(error, vela, options, target) from error
        files = _collect(folder / "out", stem)
        evidence = read_summary(files.summary), read_database(files.database, len(graph.operators)), read_said(done.log)
    made = _read_made(files.model)
    report = modelled(
        graph,
        made,
        target,
        vela.title,
        evidence,
        layers=layers or name_layers(tflite, card=graph.card),
        options=options.to_dict(),
    )
    _check(graph, made, report)
    outputs = {f"{stem}_vela.tflite": files.model, files.summary_name: files.summary.encode()}
    return CompiledFiles(report, outputs, done.log, done.seconds)


def _advised(error: TargetError, vela: Vela, options: VelaOptions, target: Target) -> TargetError:
    """``error`` with what there is to choose from, where vela does not find or cannot use a section of its configuration."""
    text = str(error)
    section = re.search(r"Section (System_Config|Memory_Mode)\.", text)
    if section is not None:
        names = configurations(vela, options.config_path, section[1])
        own = [name for name in names if name.startswith(family(target).replace("-", "_").title())]
        return TargetError(f"{text}. Choose from: {', '.join(own or names)}", refused=True, log=error.log)
    if "Invalid configuration of" in text:
        advice = "the memory mode does not go with the system configuration, choose another (--memory-mode)"
        return TargetError(f"{text}: {advice}", refused=True, log=error.log)
    return error


def _stem(name: str) -> str:
    """``name`` as vela and every file system take it."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100].lstrip(".-") or "model"


def _collect(folder: Path, stem: str) -> _Files:
    """The files of one run. Raises TargetError when one is missing: vela ended well without having done its work."""
    summaries = sorted(folder.glob("*_summary_*.csv")) if folder.is_dir() else []
    model, database = folder / f"{stem}_vela.tflite", folder / f"{stem}_debug.xml"
    missing = [
        what
        for what, there in (
            ("a summary", bool(summaries)),
            (model.name, model.is_file()),
            (database.name, database.is_file()),
        )
        if not there
    ]
    if missing:
        raise TargetError(
            f"expected vela to write a compiled model and its summary, {' and '.join(missing)} is not there"
        )
    if model.stat().st_size > MOST_MODEL_BYTES:
        raise TargetError(f"expected a compiled model of at most 2 GiB, got {model.stat().st_size} bytes")
    return _Files(model.read_bytes(), summaries[0].name, summaries[0].read_text("utf-8", "replace"), database)


def _read_made(model: bytes) -> OperatorGraph:
    try:
        return read_operators(model)
    except ModelFileError as error:
        raise TargetError(f"vela wrote a file that is no model: {error}") from error


def _check(graph: OperatorGraph, made: OperatorGraph, report: TargetReport) -> None:
    """The file must be what the report says: as many operators on the CPU, and an ``ethos-u`` operator where any are not."""
    left = len(made.operators) - report.subgraphs
    if left != report.on_cpu or (report.subgraphs == 0) != (report.on_cpu == len(graph.operators)):
        raise TargetError(
            f"vela's file and its report differ: {left} operators beside {report.subgraphs} ethos-u ones in the file, "
            f"{report.on_cpu} of {len(graph.operators)} on the CPU in the report"
        )
