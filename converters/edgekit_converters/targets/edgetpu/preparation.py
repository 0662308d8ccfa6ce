"""Models before the Edge TPU compiler sees them: what it would refuse is refused here, and file names made safe."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ...errors import ModelFileError, TargetError
from ...layers import name_layers
from ..edgetpu_map import predict
from ..operators import OperatorGraph, read_operators
from ..records import TargetReport
from ..target import EDGETPU, Target
from .compiled_model import is_compiled
from .options import EdgeTpuOptions

__all__ = ["MOST_MODELS", "Job", "file_stem", "prepare"]

MOST_MODELS = 16  # of one co-compilation; they share 8 MB
LONGEST_STEM = 80


@dataclass(frozen=True)
class Job:
    """A model to compile: its ``name`` as given, the safe ``stem`` of its files, and what edgekit's rules say of it."""

    name: str
    stem: str
    tflite: bytes
    graph: OperatorGraph
    prediction: TargetReport

    def outputs(self, segments: int) -> tuple[str, ...]:
        """The files the compiler makes of it."""
        if segments == 1:
            return (f"{self.stem}_edgetpu.tflite",)
        return tuple(f"{self.stem}_segment_{i}_of_{segments}_edgetpu.tflite" for i in range(segments))


def prepare(
    models: Mapping[str, bytes], target: Target, options: EdgeTpuOptions, *, force: bool = False
) -> tuple[Job, ...]:
    """Read the models and refuse what cannot come to a good end, so that nobody waits for the compiler to say it worse.

    ``force`` lets through what edgekit only predicts: a refusal of the compiler, and that nothing would be mapped.
    Raises TargetError (the input must change), or ModelFileError for bytes that are no .tflite.
    """
    if target.kind != EDGETPU:
        raise TargetError(
            f"edgetpu_compiler compiles for an Edge TPU, and {target.name} is {target.kind}", refused=True
        )
    if not 0 < len(models) <= MOST_MODELS:
        raise TargetError(f"expected 1 to {MOST_MODELS} models to compile together, got {len(models)}", refused=True)
    options.check_models(len(models))
    jobs: list[Job] = []
    for name, tflite in models.items():
        job = _job(name, tflite, target, options, [job.stem for job in jobs])
        _check_tensors(job, options)
        if not force:
            _check_prediction(job)
        jobs.append(job)
    return tuple(jobs)


def file_stem(name: str, taken: Collection[str] = ()) -> str:
    """A file name for a model called ``name``, without its ending: no path, no odd characters, none that is ``taken``.

    The compiler puts it into the names of its files, and a shell around it may not quote them.
    """
    last = re.split(r"[/\\]", name)[-1]
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", re.sub(r"(?i)\.tflite$", "", last)).lstrip(".-")[:LONGEST_STEM] or "model"
    stem, number = plain, 2
    while stem in taken:
        stem, number = f"{plain}_{number}", number + 1
    return stem


def _job(name: str, tflite: bytes, target: Target, options: EdgeTpuOptions, taken: Collection[str]) -> Job:
    try:
        graph = read_operators(tflite)
    except ModelFileError as error:
        raise ModelFileError(f"{_shown(name)}: {error}") from error
    if is_compiled(tflite):
        raise TargetError(
            f"{_shown(name)} is compiled for an Edge TPU already (edgekit inspect shows what is in it): hand over the "
            "int8 .tflite it was compiled from",
            refused=True,
        )
    layers = name_layers(tflite, card=graph.card)
    prediction = predict(graph, target, layers=layers, multiple_subgraphs=options.multiple_subgraphs)
    return Job(name, file_stem(name, taken), tflite, graph, prediction)


def _check_tensors(job: Job, options: EdgeTpuOptions) -> None:
    known = {tensor.name for tensor in job.graph.card.tensors}
    for name in options.intermediate_tensors:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TargetError(f"{_shown(job.name)} has no tensor {name!r:.200}{hint}", refused=True)


def _check_prediction(job: Job) -> None:
    said = job.prediction
    if said.refusal:
        raise TargetError(f"{_shown(job.name)}: {_joined(said.refusal, said.remedy)}. {_FORCE}", refused=True)
    if said.on_target == 0:
        raise TargetError(
            f"{_shown(job.name)}: nothing of it would run on the Edge TPU: {first_reason(said)}. {_FORCE}", refused=True
        )


_FORCE = "The compiler was not run: --force does it all the same"


def first_reason(report: TargetReport) -> str:
    """Why the first operator that is left on the processor for a reason of its own is, and what to do about it."""
    ops = [op for op in report.ops if op.reason]
    first = next((op for op in ops if op.remedy), ops[0] if ops else None)
    if first is None:
        return "it has no operators"
    return _joined(f"operator {first.index} ({first.type}): {first.reason}", first.remedy)


def _joined(what: str, remedy: str) -> str:
    return f"{what.rstrip('.')}; {remedy.rstrip('.')}" if remedy else what.rstrip(".")


def _shown(name: str) -> str:
    return "".join(mark if mark.isprintable() else "?" for mark in name[:120])
