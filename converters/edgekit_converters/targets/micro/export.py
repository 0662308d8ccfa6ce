"""``export_micro``: a model as C++ source for TensorFlow Lite Micro, after TFLM ran it here."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import replace

from ...errors import TargetError
from ...model_card import ModelCard, read_model_card
from ..records import CompiledFiles, TargetReport
from ..target import Target
from .check import DEADLINE_S, examine
from .example import fits
from .operators import resolver_calls
from .reading import count_variables
from .samples import Sample
from .source import Facts, sources
from .text import C_TYPES

__all__ = ["ARENA_HEADROOM", "export_micro"]

ARENA_HEADROOM = 0.1
MOST_HEADROOM = 100.0
MOST_MODEL_BYTES = 64 * 2**20
ALIGNMENT = 16


def export_micro(
    tflite: bytes,
    target: Target,
    *,
    name: str,
    labels: Sequence[str] = (),
    samples: Sequence[Sample] = (),
    arena_headroom: float | None = None,
    deadline_s: float = DEADLINE_S,
) -> CompiledFiles:
    """A model as ``NAME.tflite``, ``NAME_model.h``, ``NAME_model.cc``, ``main.cc``, ``CMakeLists.txt`` and ``README.md``.

    With ``samples`` also ``NAME_example.h``: the first of them with TFLM's answer, which the program holds the board against.

    The array holds the bytes of the .tflite, whatever is appended to them included. ``labels`` name the values of the first
    output that has as many, and are left out (with a warning) where none has. ``arena_headroom`` is the fraction of memory
    beyond what was needed here (0.1 where None). The report is that of ``check_micro``, with the arena of the program as
    ``arena_reserved_bytes``.

    Raises TargetError (refused) where TFLM does not run the model, and for options or types that do not fit; else
    what ``check_micro`` raises.
    """
    begun = time.perf_counter()
    headroom = _checked_headroom(arena_headroom)
    card = read_model_card(tflite)
    _check_types(card, len(tflite))
    report, example = examine(tflite, target, samples=samples, deadline_s=deadline_s)
    if report.refusal:
        raise TargetError(f"{report.refusal}; {report.remedy}".rstrip("; "), refused=True)
    facts = Facts(
        stem=re.sub(r"[^0-9A-Za-z._-]", "_", name)[:100].lstrip(".-") or "model",
        tflite=tflite,
        card=card,
        calls=_calls(card),
        labels=tuple(labels),
        labelled=_labelled(card, labels),
        memory=report.memory,
        arena_bytes=ALIGNMENT * math.ceil(report.memory["arena_bytes"] * (1 + headroom) / ALIGNMENT),
        headroom=headroom,
        said_by=report.said_by,
        parity=_parity_line(report),
        resource_variables=count_variables(tflite),
        example=example if example is not None and fits(example) else None,
    )
    files = {f"{facts.stem}.tflite": tflite, **sources(facts)}
    return CompiledFiles(_reserved(report, facts), files, compile_s=time.perf_counter() - begun)


def _reserved(report: TargetReport, facts: Facts) -> TargetReport:
    """The report with what the program reserves."""
    return replace(
        report,
        memory={**report.memory, "arena_reserved_bytes": facts.arena_bytes},
        options={**report.options, "arena_headroom": facts.headroom},
        warnings=(*_label_warning(facts), *report.warnings),
    )


def _calls(card: ModelCard) -> tuple[str, ...]:
    ops = (*card.ops, *card.other_ops)
    try:
        return resolver_calls((op.type, op.custom) for op in ops)
    except KeyError as error:
        raise TargetError(
            f"TFLM runs {error.args[0]}, but edgekit does not know which Add… of MicroMutableOpResolver stands for it",
            refused=True,
        ) from error


def _checked_headroom(fraction: float | None) -> float:
    if fraction is None:
        return ARENA_HEADROOM
    if not 0 <= fraction <= MOST_HEADROOM:
        raise TargetError(
            f"expected an arena headroom (--arena-headroom) from 0 to {MOST_HEADROOM:g} (0.1 is ten percent), got {fraction:g}",
            refused=True,
        )
    return float(fraction)


def _labelled(card: ModelCard, labels: Sequence[str]) -> int | None:
    """The number of the first output that has as many values as there are labels, None where there is none."""
    sizes = [math.prod(tensor.shape) for tensor in card.outputs]
    return sizes.index(len(labels)) if labels and len(labels) in sizes else None


def _label_warning(facts: Facts) -> tuple[str, ...]:
    if not facts.labels or facts.labelled is not None:
        return ()
    sizes = ", ".join(str(math.prod(tensor.shape)) for tensor in facts.card.outputs)
    return (f"{len(facts.labels)} labels are left out: no output has as many values ({sizes})",)


def _check_types(card: ModelCard, size_bytes: int) -> None:
    if size_bytes > MOST_MODEL_BYTES:
        raise TargetError(
            f"expected a model for a microcontroller, got {size_bytes:,} bytes: at most {MOST_MODEL_BYTES:,} are written as C",
            refused=True,
        )
    for tensor in (*card.inputs, *card.outputs):
        if tensor.dtype not in C_TYPES:
            raise TargetError(
                f"expected inputs and outputs of {', '.join(C_TYPES)}, got {tensor.dtype} ({tensor.name}): convert the model "
                "with --input-type int8 --output-type int8",
                refused=True,
            )
        if not all(math.isfinite(scale) for scale in tensor.scales):
            raise TargetError(
                f"expected a finite scale, got that of {tensor.name}: the file is damaged; convert the model again",
                refused=True,
            )


def _parity_line(report: TargetReport) -> str:
    figures = report.figures
    if "parity_samples" not in figures:
        return "Its answers were not held against LiteRT's: no samples were given (`--data`)."
    apart = figures.get("parity_max_abs_diff")
    furthest = "" if apart is None else f", and none was further away than {apart:.4g}"
    samples, identical = figures["parity_samples"], figures["parity_identical"]
    return f"On {samples:.0f} samples {identical:.2%} of the output values were LiteRT's to the bit{furthest}."
