"""Whether a run of the Edge TPU compiler did what it says: its exit, its words, and the files it left."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import ModelFileError, TargetError
from ..child_process import Outcome
from ..operators import OperatorGraph, read_operators
from .compiled_model import has_package, is_compiled, read_packages
from .container import PLACEHOLDER
from .failures import Failure, recognise_failure
from .installed import Compiler
from .log import CompilerLog, ModelBlock, OperatorRow, clean_text, parse_log
from .options import EdgeTpuOptions
from .preparation import Job, first_reason

__all__ = ["LOG_CAP", "Made", "judge", "legible"]

LOG_CAP = 200_000  # characters of the compiler's output kept with an error, or with the files
STUB_BYTES = 4096
MOST_BYTES = 2**31  # of a FlatBuffer


@dataclass(frozen=True)
class Made:
    """A file the compiler made, read: ``packaged`` where it holds work for an Edge TPU; ``block`` is what the compiler says of
    it, ``log`` the .log beside it (empty where there is none)."""

    file: str
    content: bytes
    graph: OperatorGraph
    packaged: bool
    block: ModelBlock
    log: str = ""


def legible(text: str) -> str:
    """The end of what the compiler printed, its lines without characters that a terminal would obey."""
    lines = text[-LOG_CAP:].replace("\r\n", "\n").split("\n")
    return "\n".join("".join(mark if mark.isprintable() else " " for mark in line) for line in lines)


def judge(
    outcome: Outcome, log: CompilerLog, folder: Path, jobs: Sequence[Job], options: EdgeTpuOptions, compiler: Compiler
) -> tuple[tuple[Made, ...], ...]:
    """The files made of each job, in ``folder``. Success is exit code 0, every file there, readable, and with a real package.

    Raises TargetError with what the compiler said, what that means and what to do; ``log`` holds the end of its output.
    """
    judgement = _Judgement(outcome, log, options, compiler)
    judgement.expect_finished(jobs)
    made = tuple(tuple(judgement.read(folder, file, job) for file in job.outputs(options.num_segments)) for job in jobs)
    for job, files in zip(jobs, made, strict=True):
        if not any(file.packaged for file in files):
            raise judgement.nothing_mapped(job, [file.block for file in files])
        judgement.expect_runtime(files)
    return made


@dataclass(frozen=True)
class _Judgement:
    """What a judgement is made from."""

    outcome: Outcome
    log: CompilerLog
    options: EdgeTpuOptions
    compiler: Compiler

    def error(self, message: str, *, refused: bool) -> TargetError:
        return TargetError(message, refused=refused, log=legible(self.outcome.text))

    @property
    def who(self) -> str:
        return f"edgetpu_compiler {self.compiler.version}"

    def expect_finished(self, jobs: Sequence[Job]) -> None:
        """Raise for a compiler that hung, crashed, failed, or says that it did."""
        names = ", ".join(clean_text(job.name, 100) for job in jobs)
        outcome, log = self.outcome, self.log
        if outcome.timed_out:
            raise self.error(
                f"{self.who} was not done with {names} after {outcome.seconds:.0f} s and was ended with its children: compile a "
                "smaller model, or give it more time: --deadline-s",
                refused=False,
            )
        if outcome.returncode == 0 and log.succeeded is not False:
            return
        failure = log.failure or self._printed_failure()
        if failure is None or (outcome.signal_name and failure.kind == "internal"):
            raise self.error(self._silent(names), refused=False)
        raise self.error(
            f'{self.who} compiles nothing of {names}. It says "{failure.message.strip()}": {failure.meaning}. '
            f"What to do: {self._remedy(failure)}",
            refused=failure.refused,
        )

    def _printed_failure(self) -> Failure | None:
        messages = [line for attempt in self.log.attempts for line in attempt.messages]
        return recognise_failure(messages)

    def _remedy(self, failure: Failure) -> str:
        remedy = failure.remedy
        if self.options.search_delegate and "--search-delegate" in remedy:
            return f"--search-delegate found no part of it ({len(self.log.attempts)} tried): use a smaller input, or other layers"
        return remedy

    def _silent(self, names: str) -> str:
        code, signal_name = self.outcome.returncode, self.outcome.signal_name
        how = f"was ended by {signal_name}" if signal_name else f"ended with exit code {code}"
        said = next((line for attempt in reversed(self.log.attempts) for line in reversed(attempt.messages)), "")
        told = f"its last words: {said}" if said else "without a word why"
        return (
            f"{self.who} {how} while compiling {names}, {told}. Try it again, as it has failed by chance, or --search-delegate, "
            "which compiles what comes before the operator it fails on"
        )

    def read(self, folder: Path, file: str, job: Job) -> Made:
        """The file ``file`` of ``job``, when it is there and real."""
        content = _read_file(folder / file)
        name = clean_text(job.name, 100)
        if content is None:
            there = ", ".join(sorted(item.name for item in folder.iterdir())[:5]) or "nothing"
            raise self.error(
                f"{self.who} ended with exit code 0 and made no {file} of {name} (it made {clean_text(there, 300)}): nothing was "
                "compiled. Try it again, or --search-delegate",
                refused=False,
            )
        try:
            graph = read_operators(content)
        except ModelFileError as error:
            what = "a stub" if len(content) <= STUB_BYTES else "a file"
            raise self.error(
                f"{self.who} ended with exit code 0 and left {what} of {len(content):,} bytes as {file} that is no .tflite: "
                f"nothing was compiled of {name}. Try it again, or --search-delegate",
                refused=False,
            ) from error
        packaged = has_package(content)
        problem = "" if packaged else self._problem(file, content, graph, job)
        if problem:
            raise self.error(problem, refused=False)
        beside = _read_file((folder / file).with_suffix(".log"), LOG_CAP)
        text = "" if beside is None else beside.decode("utf-8", "replace")
        return Made(file, content, graph, packaged, _with_rows(self._block(file), text), text)

    def _problem(self, file: str, content: bytes, graph: OperatorGraph, job: Job) -> str:
        """Why a model without a package is no work of this compiler's; empty where it may be, with nothing mapped."""
        name, told = clean_text(job.name, 100), self._block(file).on_tpu
        if is_compiled(content) and PLACEHOLDER in content:
            return (
                f"{self.compiler.path} made a placeholder of {name} that no Edge TPU can run: it is not Coral's "
                "edgetpu_compiler. Name that one with --compiler PATH"
            )
        if is_compiled(content):
            return (
                f"{self.who} made {file} with an edgetpu-custom-op that holds no package for an Edge TPU: nothing can run it. "
                "Try it again, or install the compiler anew"
            )
        if not graph.operators:
            return (
                f"{self.who} ended with exit code 0 and left a stub of {len(content):,} bytes as {file}, a model without "
                f"operators: nothing was compiled of {name}. Try it again, or --search-delegate"
            )
        if told:
            return (
                f"{self.who} says that {told} operators of {name} run on the Edge TPU, and {file} holds no edgetpu-custom-op: "
                "what it says is not so. Install the compiler anew"
            )
        return ""

    def expect_runtime(self, files: Sequence[Made]) -> None:
        """Raise for files that need a newer runtime than was asked for."""
        wanted = self.options.min_runtime_version
        for file in files:
            needed = max((package.min_runtime for package in read_packages(file.content).values()), default=0)
            if wanted is not None and needed > wanted:
                raise self.error(
                    f"{self.who} was asked for files that run under runtime {wanted}, and {file.file} needs {needed}: update the "
                    "runtime on the board (libedgetpu1-std), or use an older compiler",
                    refused=False,
                )

    def _block(self, file: str) -> ModelBlock:
        """What the compiler says of the model it wrote as ``file``."""
        ours = [block for block in self.log.models if block.output_model.replace("\\", "/").split("/")[-1] == file]
        return ours[-1] if ours else ModelBlock()

    def nothing_mapped(self, job: Job, blocks: Sequence[ModelBlock]) -> TargetError:
        """A compilation that put nothing on the Edge TPU, which the compiler calls a success."""
        name = clean_text(job.name, 100)
        head = f"{self.who} calls {name} a success and mapped none of its operators to the Edge TPU"
        wanted = self.options.min_runtime_version
        if wanted is not None and job.prediction.on_target:
            return self.error(
                f"{head}: what it needs is newer than runtime {wanted}. Leave --min-runtime-version out, or raise it",
                refused=True,
            )
        if _is_float(job):
            why = f"the model is float, {first_reason(job.prediction)}"
        else:
            why = first_reason(job.prediction) if job.prediction.on_cpu else _statuses(blocks)
        return self.error(f"{head}: {why}", refused=True)


def _read_file(path: Path, cap: int = MOST_BYTES) -> bytes | None:
    """A regular file's content, its end where it is larger than ``cap``; None for anything else."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return None
        with path.open("rb") as file:
            file.seek(max(0, found.st_size - cap))
            return file.read(cap)
    except OSError:
        return None


def _with_rows(block: ModelBlock, text: str) -> ModelBlock:
    """``block`` with the table of the .log where the compiler printed none."""
    if block.rows or not text:
        return block
    rows = [row for model in parse_log(text).models for row in model.rows]
    return replace(block, rows=tuple(rows))


def _is_float(job: Job) -> bool:
    dtypes = {tensor.dtype for op in job.graph.operators for tensor in op.operands}
    return not dtypes & {"int8", "uint8"}


def _statuses(blocks: Sequence[ModelBlock]) -> str:
    """The compiler's own reasons, the most frequent ones."""
    rows: list[OperatorRow] = sorted((row for block in blocks for row in block.rows), key=lambda row: -row.count)
    said = [f"{row.count} {row.type}: {row.status}" for row in rows[:3]]
    known = rows[0].known if rows else None
    remedy = f"; {known.remedy}" if known is not None and known.remedy else ""
    return "; ".join(said) + remedy if said else "it gives no reason; see what edgekit inspect --target coral says"
