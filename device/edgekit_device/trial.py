"""A delegate's library tried with a model in a child process: one built for another runtime kills whoever loads it."""

from __future__ import annotations

import mmap
from typing import Any, Optional

from ._runtime import Runtime, installed_runtimes
from .accelerators.diagnosis import diagnose_edgetpu, explain
from .accelerators.finding import Finding
from .delegates import DelegateRequest, delegate_options
from .errors import DelegateError, ModelCrashError, ModelError
from .loading import run_once
from .probe import CAN_FORK, probe

__all__ = ["try_delegate"]

DEADLINE_S = 120.0  # an Edge TPU on USB loads its firmware at the first use, and comes back under another id
STAGES = ("loading it", "taking over operators of {name}", "running {name}", "letting go of {name}")
NO_REASON = "it gave no delegate and no reason"

_passed: set[tuple[str, DelegateRequest, int, int]] = set()


def try_delegate(
    runtime: Runtime, content: bytes, threads: int, name: str, delegate: DelegateRequest
) -> DelegateRequest:
    """Load the library, make an interpreter with it and run ``content`` once, all in a child; what passed is not tried again.

    Returns ``delegate``, of LiteRT's accelerators with what the trial found to have taken the model over.

    Raises DelegateError that says in which of these it failed or crashed; for an Edge TPU with what stands in its way. Where
    processes cannot be forked nothing is tried.
    """
    key = (runtime.name, delegate, threads, hash(content))
    if delegate.kind == "litert":
        from .litert_trial import try_litert

        return try_litert(runtime, content, threads, name, delegate)
    if key in _passed or not CAN_FORK:
        return delegate
    stage = mmap.mmap(-1, 1)  # shared with the child: how far it came

    def attempt() -> None:
        options = _loaded(runtime, delegate)
        stage[0] = 1
        interpreter = runtime.interpreter(model_content=content, num_threads=threads, **options)
        interpreter.allocate_tensors()
        stage[0] = 2
        run_once(interpreter)
        stage[0] = 3

    try:
        probe(attempt, "trial", deadline_s=DEADLINE_S)
    except ModelError as error:
        raise _failure(error, STAGES[stage[0]].format(name=name), runtime, delegate) from error
    _passed.add(key)
    return delegate


def _loaded(runtime: Runtime, delegate: DelegateRequest) -> dict[str, Any]:
    """delegate_options, with the library's own words first: the runtimes put a line of theirs before them."""
    try:
        return delegate_options(runtime, delegate)
    except ValueError as error:
        raise ValueError(str(error).partition("\n")[2] or NO_REASON) from error


def _failure(error: ModelError, stage: str, runtime: Runtime, delegate: DelegateRequest) -> DelegateError:
    signal_name = error.signal_name if isinstance(error, ModelCrashError) else None
    words = str(error).partition("trial: ")[2]
    said = explain(words)
    findings = [said] if said else []
    if delegate.kind == "edgetpu":
        findings += diagnose_edgetpu(library=delegate.library, runtimes={runtime.name: runtime.version})
    missing = any(finding.code in ("library-missing", "library-broken") for finding in findings[:1])
    what = "the Edge TPU cannot be used" if missing else _how(signal_name, words, stage, delegate, runtime)
    return DelegateError(f"{what}. {_advice(findings, signal_name)}", findings=findings, signal_name=signal_name)


def _how(signal_name: Optional[str], words: str, stage: str, delegate: DelegateRequest, runtime: Runtime) -> str:
    who = f"the delegate {delegate.library}"
    if signal_name is None:
        return f"{who} failed while {stage}: {words.rstrip('.')}"
    if "did not finish" in words:
        return f"{who} hangs while {stage}: {words}"
    return f"{who} crashes the process ({signal_name}) while {stage}, under {runtime.name} {runtime.version}"


def _advice(findings: list[Finding], signal_name: Optional[str]) -> str:
    telling = [finding for finding in findings if signal_name is None or finding.code == "version-pair"]
    if telling:
        more = len(findings) - 1
        return telling[0].sentence + (f" ({more} more: type edgekit-device accelerators)" if more else "")
    if signal_name:
        others = ", ".join(f"{name} {version}" for name, version in installed_runtimes().items())
        return (
            "Nothing of it was loaded into this process. It was probably built for another version of the runtime: install a "
            f"pair that belongs together, or try another --runtime (here: {others})"
        )
    return "Check the path and that it was built for this system, or run without it: --delegate auto"
