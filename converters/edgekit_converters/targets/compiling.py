"""Compile models for a target with the target's own tool."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import TargetError
from .records import CompiledFiles
from .target import CPU, EDGETPU, ETHOS_U, MICRO, Target

__all__ = ["DEADLINE_S", "OPTIONS", "compile_for", "missing_tool"]

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
    if target.kind == CPU:
        raise TargetError(
            f"{target.name} runs the .tflite as it is: there is nothing to compile. Measure it: edgekit bench --device NAME",
            refused=True,
        )
    if target.kind == EDGETPU:
        made = _edgetpu(models, target, said, deadline_s)
    elif target.kind == ETHOS_U:
        made = _ethos_u(models, target, said, deadline_s)
    else:
        made = _micro(models, target, said, labels or {}, samples, deadline_s)
    return {
        name: replace(files, report=replace(files.report, model_sha256=hashlib.sha256(models[name]).hexdigest()))
        for name, files in made.items()
    }


def missing_tool(target: Target) -> str:
    """Why the target's tool cannot be used on this machine, with the line that installs it; empty where it can."""
    from importlib.util import find_spec

    if target.kind == EDGETPU:
        from .edgetpu.compiler import find_compiler

        try:
            find_compiler()
        except TargetError as error:
            return f"{str(error).splitlines()[0].rstrip('.')}: see docs/edgetpu-compile.md"
    elif target.kind == ETHOS_U and find_spec("ethosu") is None and shutil.which("vela") is None:
        return "Vela is not installed: pip install 'edgekit[ethos-u]'"
    elif target.kind == MICRO and find_spec("tflite_micro") is None:
        return "TensorFlow Lite Micro is not installed: pip install 'edgekit[micro]'"
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
