"""Compile models for a target with the target's own tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import MissingPackageError, TargetError
from .records import CompiledFiles
from .target import CPU, EDGETPU, ETHOS_U, MICRO, Target

__all__ = ["DEADLINE_S", "OPTIONS", "check_compilable", "compile_for", "missing_tool"]

DEADLINE_S = 600.0
# The options of each kind's tool; what belongs to another is refused before anything runs.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    EDGETPU: (
        "compiler",
        "min_runtime_version",
        "search_delegate",
        "delegate_search_step",
        "multiple_subgraphs",
        "num_segments",
        "intermediate_tensors",
        "timeout_s",
        "force",
    ),
    ETHOS_U: ("accelerator_config", "system_config", "memory_mode", "vela_config", "optimise", "arena_cache_size"),
    MICRO: ("arena_headroom",),
    CPU: (),
}


def compile_for(
    models: Mapping[str, bytes],
    target: Target,
    *,
    options: Mapping[str, Any] | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    samples: Sequence[Any] = (),
    deadline_s: float = DEADLINE_S,
) -> dict[str, CompiledFiles]:
    """Compile ``models`` (names and .tflite bytes) for ``target``; several are compiled together, sharing an Edge TPU's cache.

    ``options`` are those of ``OPTIONS`` for the target's kind. ``labels`` (by model) and ``samples`` are for
    microcontrollers: class names in the C source, and what the outputs are held against LiteRT's with.

    Raises TargetError when the target compiles nothing, its tool refuses a model or fails, MissingPackageError when
    the tool is not installed, ModelFileError for bytes that are no .tflite. No file is made then.
    """
    said = dict(options or {})
    check_compilable(target)
    if target.kind == EDGETPU:
        return _edgetpu(models, target, said, deadline_s)
    if target.kind == ETHOS_U:
        return _ethos_u(models, target, said, deadline_s)
    return _micro(models, target, said, labels or {}, samples, deadline_s)


def check_compilable(target: Target) -> None:
    """Raise TargetError (refused) for a target that runs the .tflite as it is."""
    if target.kind == CPU:
        raise TargetError(
            f"{target.name} runs the .tflite as it is: there is nothing to compile. Measure it: edgekit bench --device NAME",
            refused=True,
        )


def missing_tool(target: Target) -> str:
    """Why the target's tool cannot be used on this machine, with the line that installs it; empty where it can."""
    if target.kind == EDGETPU:
        from .edgetpu.compiler import find_compiler

        try:
            find_compiler()
        except TargetError as error:  # its help runs over several lines, which the page has too
            return f"{str(error).splitlines()[0].rstrip('.')}: see docs/edgetpu-compile.md"
        return ""
    try:
        if target.kind == ETHOS_U:
            from .ethos_u.run import find_vela

            find_vela()
        elif target.kind == MICRO:
            from .micro.interpret import find_tflm

            find_tflm()
    except MissingPackageError as error:
        return str(error)
    return ""


def _edgetpu(
    models: Mapping[str, bytes], target: Target, said: dict[str, Any], deadline_s: float
) -> dict[str, CompiledFiles]:
    from .edgetpu.compiler import compile_edgetpu, find_compiler
    from .edgetpu.options import EdgeTpuOptions

    compiler = find_compiler(said.pop("compiler", None))
    force = bool(said.pop("force", False))
    options = EdgeTpuOptions.from_mapping(said)
    made = compile_edgetpu(models, target, options=options, compiler=compiler, deadline_s=deadline_s, force=force)
    return dict(zip(models, made, strict=True))


def _ethos_u(
    models: Mapping[str, bytes], target: Target, said: dict[str, Any], deadline_s: float
) -> dict[str, CompiledFiles]:
    from .ethos_u.vela import VelaOptions, compile_ethos_u

    options = VelaOptions.from_mapping(said)
    return {
        name: compile_ethos_u(tflite, target, name=name, options=options, deadline_s=deadline_s)
        for name, tflite in models.items()
    }


def _micro(
    models: Mapping[str, bytes],
    target: Target,
    said: dict[str, Any],
    labels: Mapping[str, Sequence[str]],
    samples: Sequence[Any],
    deadline_s: float,
) -> dict[str, CompiledFiles]:
    from .micro.export import export_micro

    return {
        name: export_micro(
            tflite, target, name=name, labels=labels.get(name, ()), samples=samples, deadline_s=deadline_s, **said
        )
        for name, tflite in models.items()
    }
