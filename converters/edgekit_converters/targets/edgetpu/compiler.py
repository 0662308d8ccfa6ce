"""Compile for an Edge TPU with the edgetpu_compiler a user has installed, and believe it only what its files bear out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...errors import TargetError
from ..child_process import Outcome, run_tool
from ..records import CompiledFiles, TargetReport
from ..target import Target
from .actual import report_compiled, shares_memory
from .installed import Compiler, find_compiler
from .log import CompilerLog, parse_log
from .options import EdgeTpuOptions
from .preparation import Job, prepare
from .verdict import Made, judge, legible

__all__ = ["Compiler", "compile_edgetpu", "find_compiler"]

SPARE_S = 30.0  # beyond the compiler's own timer, for reading and writing
SEARCH_S = 3600.0  # a search is as many compilations as it takes


def compile_edgetpu(
    models: Mapping[str, bytes],
    target: Target,
    *,
    options: EdgeTpuOptions | None = None,
    compiler: Compiler | None = None,
    deadline_s: float | None = None,
    force: bool = False,
) -> tuple[CompiledFiles, ...]:
    """Compile ``models`` (names and int8 .tflite bytes) for an Edge TPU; several are compiled together, to share its memory.

    One record comes back for each, in their order: the compiled .tflite (of segments all of them, in order) and the
    compiler's .log, by file name; a report of where every operator went, beside the prediction; what the compiler printed.
    The first of co-compiled models has the first claim on the memory. ``deadline_s`` ends the compiler and its children (by
    default when its own timer should have). ``force`` runs it also on what edgekit predicts it will refuse or not map.

    Raises TargetError: ``refused`` where the model or an option has to change, not where there is no compiler, or it hangs,
    crashes or leaves what cannot run. Raises ModelFileError for bytes that are no .tflite. No file is left behind.
    """
    options = options or EdgeTpuOptions()
    if deadline_s is not None and options.timeout_s is not None and options.timeout_s > deadline_s:
        raise TargetError(
            f"--timeout-s {options.timeout_s} is longer than --deadline-s {deadline_s:g}, which everything has: raise that",
            refused=True,
        )
    jobs = prepare(models, target, options, force=force)
    compiler = compiler or find_compiler()
    arguments = options.arguments(compiler.version)
    with tempfile.TemporaryDirectory(prefix="edgekit-edgetpu-", ignore_cleanup_errors=True) as private:
        folder = Path(private)
        outcome = _run(folder, jobs, compiler, arguments, deadline_s or _deadline_s(options))
        log = parse_log(outcome.text)
        made = judge(outcome, log, folder / "out", jobs, options, compiler)
    done = tuple(
        _files(job, files, log, outcome, target, options, compiler) for job, files in zip(jobs, made, strict=True)
    )
    if len(done) > 1 and not shares_memory(file for files in made for file in files):
        return tuple(replace(one, report=_apart(one.report)) for one in done)
    return done


def _apart(report: TargetReport) -> TargetReport:
    warning = "compiled together, and yet each pushes the others' parameters off the chip: their tokens differ"
    return replace(report, warnings=(*report.warnings, warning))


def _deadline_s(options: EdgeTpuOptions) -> float:
    return SEARCH_S if options.search_delegate else options.num_segments * options.seconds_each + SPARE_S


def _run(folder: Path, jobs: tuple[Job, ...], compiler: Compiler, arguments: list[str], deadline_s: float) -> Outcome:
    """Run the compiler on copies of the models; it sees no other path of this machine."""
    (folder / "out").mkdir()
    for job in jobs:
        (folder / f"{job.stem}.tflite").write_bytes(job.tflite)
    command = [str(compiler.path), "--out_dir", "out", *arguments, *(f"{job.stem}.tflite" for job in jobs)]
    try:
        return run_tool(command, folder=folder, deadline_s=deadline_s)
    except OSError as error:
        raise TargetError(f"{compiler.path} cannot be run: {error.strerror or error}") from error


def _files(
    job: Job,
    made: tuple[Made, ...],
    log: CompilerLog,
    outcome: Outcome,
    target: Target,
    options: EdgeTpuOptions,
    compiler: Compiler,
) -> CompiledFiles:
    files = {file.file: file.content for file in made}
    files.update({f"{Path(file.file).stem}.log": file.log.encode() for file in made if file.log})
    report = report_compiled(job, made, log, target, options=options, compiler=compiler)
    return CompiledFiles(report, files, log=legible(outcome.text), compile_s=outcome.seconds)
