"""A model tried on LiteRT's accelerators in a process of its own: whether it runs there, what really took it over, and whether
its outputs are the CPU's.

A fresh process and not a fork: a GPU's driver does not survive one. What took over is believed on evidence alone. LiteRT
refuses a model of which ``gpu`` or ``npu`` alone leaves operators, but ``is_fully_accelerated()`` is true as well of a model that
the CPU's kernels took over whole, and an NPU whose compiler is missing hands its operators to the CPU in silence (LiteRT 2.3,
and the remarks in its environment.py). So the child's log is read for the work itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from ._runtime import Runtime, load_runtime
from .accelerators.compiled import custom_operators
from .accelerators.finding import ERROR, Finding
from .accelerators.vulkan import find_adapters
from .delegates import DelegateRequest
from .errors import DelegateError
from .litert_model import ILLEGAL, CompiledInterpreter, check_compiled_model
from .loading import run_once
from .probe import no_core_dump, signal_name
from .tensors import TensorSpec, read_spec
from .text import clean_text, first_line

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["main", "try_litert"]

DEADLINE_S = 120.0
LOG_CAP, ANSWER_CAP = 1 << 20, 1 << 16
STAGES = ("starting", "compiling {name}", "running {name}", "letting go of {name}")
# Outputs may differ by rounding: a GPU computes in halves, an NPU's steps are others. Beyond a tenth of an output's range, or
# a twentieth of its dtype's where that is more, they are other outputs.
OFF, OFF_STEPS = 0.1, 0.05
PARTLY = "Some ops are not accelerated"
COMPILED_FOR_NPU = "DISPATCH_OP"
WORK = {
    "gpu": r"(WebGPU|OpenCL|OpenGL|Metal|Vulkan)-based API",
    "npu": r"[1-9]\d* compiler plugins were applied success",
}
LIBRARIES = {"gpu": r"GPU accelerator\(([^/()]+)\) registered", "npu": r"Loading shared library: \S*?([^/\s]+)$"}
# The first that the log has is the reason; LiteRT's exceptions name a line of its source instead. Plugins for NPUs are loaded,
# and complained of, whatever is asked for.
REASONS = {
    "gpu": (r"Failed to initialize \w+ environment: (.+)", r"(GPU accelerator could not be loaded and registered.*)"),
    "npu": (
        r"(Cannot load library .+)",
        r"Exception in compilation: (.+)",
        r"Could not load shared library (.+)",
        r"Failed to apply compiler plugins: (.+)",
        r"(NPU accelerator could not be loaded and registered.*)",
    ),
    "cpu": (r"^ERROR: (?:\[[^]]*\] )?(.+)",),
}

_passed: dict[tuple[Any, ...], DelegateRequest] = {}


class _Outcome(NamedTuple):
    """How a child went: what it was asked for, the last stage it came to, what it told, its log, and the signal that ended it."""

    accelerators: tuple[str, ...]
    stage: int
    told: dict[str, Any]
    log: str
    signal_name: Optional[str]
    hung: bool = False


def try_litert(runtime: Runtime, content: bytes, threads: int, name: str, request: DelegateRequest) -> DelegateRequest:
    """``request`` with ``taken``: ``litert-gpu``, ``litert-npu``; ``litert-gpu+cpu`` where the CPU ran the rest, ``litert-cpu``
    where it ran all, ``litert-gpu-software`` where the GPU is the processor. What passed is not tried again.

    Raises DelegateError with LiteRT's own reason where it does not run there, crashes, hangs, or gives other outputs.
    """
    check_compiled_model(runtime)
    key = (runtime.name, request.accelerators, threads, hash(content))
    if key not in _passed:
        _passed[key] = _tried(content, threads, name, request)
    return _passed[key]


def _tried(content: bytes, threads: int, name: str, request: DelegateRequest) -> DelegateRequest:
    alone = tuple(accelerator for accelerator in request.accelerators if accelerator != "cpu")
    outcome = _run_child(content, threads, alone)
    partly = alone != request.accelerators and PARTLY in str(outcome.told.get("error"))
    if partly:
        outcome = _run_child(content, threads, request.accelerators)
    asked = "litert:" + "+".join(request.accelerators)
    if outcome.hung or outcome.signal_name or "off" not in outcome.told:
        raise _failure(outcome, name, asked)
    if outcome.told["off"]:
        raise DelegateError(
            f"{asked} gives other outputs of {name} than the CPU: {clean_text(outcome.told['off'])}, on the same random inputs. "
            "LiteRT does not run this model rightly there: run it with --delegate auto"
        )
    dispatched = ("npu",) if COMPILED_FOR_NPU in custom_operators(content) else ()  # which nothing else can run
    working = [name for name in alone if name in dispatched or re.search(WORK[name], outcome.log)]
    if not partly and alone == ("gpu",):
        working = ["gpu"]  # LiteRT refuses it unless the GPU runs every operator
    if alone == request.accelerators and not working:
        raise DelegateError(f"{asked} ran {name}, and nothing shows that anything but the CPU did: {_reason(outcome)}")
    return _credited(request, working, outcome, partly=partly)


def _credited(request: DelegateRequest, working: list[str], outcome: _Outcome, *, partly: bool) -> DelegateRequest:
    """What ran it, and the library and adapter it ran on."""
    names = list(working)
    options: tuple[tuple[str, str], ...] = ()
    if "gpu" in working:
        through_vulkan = re.search(r"(WebGPU|Vulkan)-based API", outcome.log)
        adapters = outcome.told["adapters"] if through_vulkan else []
        hardware = [adapter for adapter in adapters if not adapter[1]]
        if adapters and not hardware:
            names[names.index("gpu")] = "gpu-software"
        if len(hardware or adapters) == 1:
            options = (("adapter", clean_text((hardware or adapters)[0][0])),)
    if partly or not working:
        names.append("cpu")
    idle = [name for name in request.accelerators if name not in (*working, "cpu")]
    options += tuple((name, f"took nothing, {_reason(outcome)}") for name in idle)
    found = [re.search(LIBRARIES[name], outcome.log, re.MULTILINE) for name in working]
    library = "+".join(match.group(1) for match in found if match)
    if working and not partly:  # open what was tried
        request = dataclasses.replace(request, accelerators=tuple(working))
    return dataclasses.replace(request, library=library, options=options, taken="litert-" + "+".join(names))


def _failure(outcome: _Outcome, name: str, asked: str) -> DelegateError:
    stage = STAGES[outcome.stage].format(name=name)
    if outcome.hung:
        how = f"{asked} hangs while {stage}: it did not finish within {DEADLINE_S:g} s"
    elif outcome.signal_name:
        how = f"{asked} crashes the process ({outcome.signal_name}) while {stage}"
        how += f": {ILLEGAL}" if outcome.signal_name == "SIGILL" else ""
    else:
        how = f"{asked} cannot run {name}: {_reason(outcome)}"
        if PARTLY in str(outcome.told.get("error")) and re.search(WORK.get(asked.partition(":")[2], "-"), outcome.log):
            how = f"{asked} cannot run all of {name}: with the CPU for the rest it is {asked}+cpu"
    advice = "Type: edgekit-device accelerators, or run it with --delegate auto"
    finding = Finding("litert-refused", ERROR, _reason(outcome), "an accelerator with its driver", advice)
    return DelegateError(f"{how.rstrip('.')}. {advice}", findings=[finding], signal_name=outcome.signal_name)


def _reason(outcome: _Outcome) -> str:
    """Why, in LiteRT's words: the most telling line of its log, without the places in its source and the folders."""
    for pattern in (pattern for name in (*outcome.accelerators, "cpu") for pattern in REASONS[name]):
        found = re.search(pattern, outcome.log, re.MULTILINE)
        if found:
            return clean_text(re.sub(r"(?:/[^/\s\"':]+)+/(?=[^/\s\"':]+)", "", found.group(1)))
    last = "" if "off" in outcome.told else outcome.log.strip().rpartition("\n")[2]
    return clean_text(outcome.told.get("error") or last) or "LiteRT gives no reason"


def _run_child(content: bytes, threads: int, accelerators: tuple[str, ...]) -> _Outcome:
    """Run ``main`` in a fresh Python; its process group ends with it, whatever it started."""
    code = "from edgekit_device.litert_trial import main; main()"
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    with tempfile.TemporaryFile() as model, tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as log:
        model.write(content)
        model.seek(0)
        command, env = [sys.executable, "-c", code, str(threads), *accelerators], {**os.environ, "PYTHONPATH": paths}
        streams: dict[str, Any] = {"stdin": model, "stdout": answer, "stderr": log}
        hung = False
        try:
            child = subprocess.Popen(command, env=env, cwd=os.sep, start_new_session=True, **streams)
        except OSError as error:
            raise DelegateError(f"litert:{'+'.join(accelerators)} is tried in a Python of its own: {error}") from error
        try:
            child.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            hung = True
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        told: dict[str, Any] = {}
        for line in _read(answer, ANSWER_CAP).splitlines():
            told.update(json.loads(line))
        name = signal_name(-child.returncode) if child.returncode < 0 else None
        return _Outcome(accelerators, int(told.pop("stage", 0)), told, _read(log, LOG_CAP), name, hung)


def _read(file: IO[bytes], cap: int) -> str:
    file.seek(0)
    return file.read(cap).decode("utf-8", "replace")


def main() -> None:
    """The child: the model on standard input, threads and accelerators as arguments, lines of JSON on standard output."""
    no_core_dump()
    answer = os.dup(1)
    os.dup2(2, 1)  # LiteRT says things on standard output too

    def tell(**facts: Any) -> None:
        os.write(answer, json.dumps(facts).encode() + b"\n")

    content, threads, accelerators = sys.stdin.buffer.read(), int(sys.argv[1]), sys.argv[2:]
    try:
        runtime = load_runtime("litert")
        tell(stage=1)
        compiled = CompiledInterpreter(runtime, content, threads, accelerators)
        compiled.allocate_tensors()
        tell(stage=2)
        run_once(compiled)
        off = _off(runtime, content, compiled)
        tell(stage=3, off=off, adapters=find_adapters() if "gpu" in accelerators else [])
    except Exception as error:
        lines = [line.strip(" └") for line in str(error).splitlines() if line.strip()]
        tell(error=clean_text(lines[-1] if lines else first_line(error), 600))
        os._exit(1)
    # What is still queued on a GPU when Python ends crashes it: nothing is, every run was waited for.


def _off(runtime: Runtime, content: bytes, compiled: CompiledInterpreter) -> str:
    """How outputs are not the Interpreter's; empty where they are, or where it runs no such model (compiled for an NPU)."""
    plain = runtime.interpreter(model_content=content, num_threads=1)
    try:
        plain.allocate_tensors()
        run_once(plain)
    except (RuntimeError, ValueError):
        return ""
    for spec in map(read_spec, plain.get_output_details()):
        expected, got = plain.get_tensor(spec.index), compiled.get_tensor(spec.index)
        if expected.shape != got.shape:
            return f"{spec.name} of shape {got.shape} and not {expected.shape}"
        # Of labels and counts a near tie may make others.
        off = _gap(spec, expected, got) if spec.quantized or spec.dtype.kind == "f" else ""
        if off:
            return off
    return ""


def _gap(spec: TensorSpec, expected: Array, got: Array) -> str:
    wanted, given = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(given)):
        return f"{spec.name} is not finite where the CPU's is, or the other way round"
    if not finite.any():
        return ""
    gap = float(np.abs(wanted - given)[finite].max())
    spread = float(max(np.ptp(wanted[finite]), np.abs(wanted[finite]).max()))
    steps = int(np.iinfo(spec.dtype).max) - int(np.iinfo(spec.dtype).min) if spec.quantized else 0
    if gap <= max(OFF * spread, OFF_STEPS * steps):
        return ""
    return f"{spec.name} by up to {gap:.4g}{' steps' if steps else ''}, over a range of {spread:.4g}"
