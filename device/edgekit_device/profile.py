"""Time per operator, as the runtime's own profiler tells it; absent where a runtime gives none.

LiteRT from 2.3 has a profiler in the C library of its wheel (litert/c/litert_profiler.h), which its Python API does not show:
it is called here through ctypes, in a child process, apart from every measured latency, which profiling slows. Operators that
XNNPACK took over come with XNNPACK's own names. tflite-runtime's wheel has no profiler, and an Edge TPU shows nothing of
itself: ProfileError. The profiler counts whole microseconds: an operator of less is seen as 0.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

from ._runtime import Runtime, load_runtime
from .delegates import DelegateRequest, choose_delegate, parse_delegate
from .errors import ModelError, ProfileError
from .litert_profiler import Event, ProfiledRun, profile_runs
from .loading import ModelSource, check_threads, read_model
from .operators import GraphOperator, graph_operators, match
from .probe import CAN_FORK, probe
from .report import OperatorTime, ProfileFacts

__all__ = ["profile_model"]

LEAST_VERSION = (2, 3)
DEADLINE_S = 120.0


class _Answer(NamedTuple):
    """What the child found: the runs, and the operators of the graph without any delegate."""

    runs: list[ProfiledRun]
    graph: list[GraphOperator]


def profile_model(
    model: ModelSource, *, runtime: str = "auto", threads: int = 1, delegate: str = "auto", seconds: float = 1.0
) -> ProfileFacts:
    """Run ``model`` for about ``seconds`` with the profiler on; operators in the order they run.

    An operator's ``index`` is its place in the .tflite's graph and ``name`` the tensor it makes; -1 and empty where XNNPACK
    merged or added operators so that nobody can tell. ``total_ms`` is a whole profiled inference: operators, and the runtime
    between them.

    Raises ProfileError where the runtime or the delegate gives no profile, ModelError for bytes that are no model.
    """
    check_threads(threads)
    asked = parse_delegate(delegate)
    content, name = read_model(model)
    chosen = load_runtime(runtime)
    found = choose_delegate(asked, content, name)
    _check_possible(chosen, found)
    kind = found.kind
    answer = _in_a_child(content, name, chosen, threads, kind, seconds)
    runs = _undisturbed(answer.runs)
    first = runs[0].operators
    means = [
        sum(event.elapsed_us for event in events) / len(runs) / 1e3 for events in zip(*(r.operators for r in runs))
    ]
    matched = match([event.tag for event in first], [event.number for event in first], answer.graph)
    whole = sum(means) or 1.0
    operators = tuple(
        OperatorTime(-1 if op is None else op.place, event.tag, "" if op is None else op.output, mean, mean / whole)
        for event, op, mean in zip(first, matched, means)
    )
    total_ms = sum(run.whole.elapsed_us for run in runs) / len(runs) / 1e3
    return ProfileFacts(f"profiler of {chosen.name} {chosen.version}, {_kernels(kind)}", total_ms, operators)


def _check_possible(runtime: Runtime, delegate: DelegateRequest) -> None:
    numbers = tuple(int(part) for part in runtime.version.split(".")[:2] if part.isdecimal())
    if runtime.name != "litert" or numbers < LEAST_VERSION:
        raise ProfileError(
            f"{runtime.name} {runtime.version} gives no time per operator: expected LiteRT of at least "
            f'{".".join(map(str, LEAST_VERSION))}. Type: pip install "edgekit-device[litert]"'
        )
    if delegate.loads_code:
        kind = "+".join(delegate.accelerators) or delegate.kind
        raise ProfileError(f"the delegate {kind} gives no time per operator: profile with --delegate auto or none")
    if not CAN_FORK:
        raise ProfileError("a profile is measured in a forked process, and this system forks none")


def _in_a_child(content: bytes, name: str, runtime: Runtime, threads: int, kind: str, seconds: float) -> _Answer:
    with tempfile.TemporaryFile("w+") as file:

        def measure() -> None:
            runs = profile_runs(content, threads, plain=kind == "none", seconds=seconds)
            json.dump({"runs": runs, "graph": graph_operators(runtime, content)}, file)
            file.flush()

        try:
            probe(measure, f"{runtime.name} cannot profile {name}", deadline_s=DEADLINE_S + seconds)
        except ModelError as error:
            raise ProfileError(str(error)) from error
        file.seek(0)
        raw: dict[str, Any] = json.load(file)
    runs = [ProfiledRun(Event(*whole), [Event(*event) for event in operators]) for whole, operators in raw["runs"]]
    return _Answer(runs, [GraphOperator(*operator) for operator in raw["graph"]])


def _undisturbed(runs: Sequence[ProfiledRun]) -> list[ProfiledRun]:
    """The faster half of the runs that ran the same operators as the first: others on the board disturb the slower half.

    A mean is taken of them and not a median, which whole microseconds make coarse.
    """
    tags = [event.tag for event in runs[0].operators]
    alike = [run for run in runs if [event.tag for event in run.operators] == tags]
    return sorted(alike, key=lambda run: run.whole.elapsed_us)[: (len(alike) + 1) // 2]


def _kernels(kind: str) -> str:
    return "plain kernels" if kind == "none" else "xnnpack"
