"""What TensorFlow Lite Micro makes of a model: its own interpreter runs it on this machine and says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...layers import name_layers
from ...model_card import ModelCard, OpCard, read_model_card
from ..records import EXECUTED, OpPlacement, TargetReport
from ..target import Target
from .example import Example
from .interpret import CRASHED, Session, Trial, find_tflm
from .reading import count_variables, has_weights_behind
from .refusals import failed_node, reason_of, remedy_of
from .samples import Sample, compare, prepare
from .slices import slice_operators

__all__ = ["DEADLINE_S", "check_micro", "examine"]

DEADLINE_S = 300.0
MIN_ARENA_BYTES, MAX_ARENA_BYTES = 64 * 2**20, 2**30
BIG_ARENA_BYTES = 2**20
UNSUPPORTED, MICRO = "unsupported", "micro"
LOST_WEIGHTS = (
    "its weights lie behind the flatbuffer (buffers with an offset), which TFLM does not read: it would take zeros"
)
HOST = (
    "the arena was found on this 64-bit machine with TFLM's reference kernels: a 32-bit chip needs less for pointers, kernels "
    "made for a chip (CMSIS-NN, Xtensa) may ask for buffers of their own; nothing here says how fast the model is there"
)


@dataclass(frozen=True)
class _Parity:
    """Figures of the comparison with LiteRT, and why there are none."""

    figures: Mapping[str, float] = field(default_factory=dict)
    warning: str = ""


def check_micro(
    tflite: bytes,
    target: Target,
    *,
    samples: Sequence[Sample] = (),
    layers: Sequence[str | None] = (),
    deadline_s: float = DEADLINE_S,
) -> TargetReport:
    """Run a model in TFLM, in a child process: does it run, with how much memory, with LiteRT's answers?

    ``memory`` holds arena_bytes (the smallest tensor arena with which the model initialises and runs, found by bisection),
    arena_used_bytes, arena_head_bytes and arena_tail_bytes (what TFLM prints after an inference; planning the arena can take
    more than is used then, and what is lost to alignment counts as used) and model_bytes (read-only memory; the kernels'
    code comes on top). ``figures`` are of the ``samples``, which ``samples.prepare`` describes: parity_samples,
    parity_identical (share of output values equal to LiteRT's to the bit), parity_max_abs_diff (real-world units; absent
    where it is infinite), parity_same_argmax where the output is one row of scores (share of samples whose largest is in the
    same place), and parity_reference_identical (with LiteRT's reference kernels).

    Where TFLM does not run the model, every operator is tried alone, so that each has its own reason, and ``refusal`` sums up.

    Raises ModelFileError for bytes that are no .tflite, MissingPackageError without TFLM, TargetError when a sample does not
    fit or the deadline passes.
    """
    return examine(tflite, target, samples=samples, layers=layers, deadline_s=deadline_s)[0]


def examine(
    tflite: bytes,
    target: Target,
    *,
    samples: Sequence[Sample] = (),
    layers: Sequence[str | None] = (),
    deadline_s: float = DEADLINE_S,
) -> tuple[TargetReport, Example | None]:
    """``check_micro``, and the first sample with TFLM's answer to it where there are samples and the model runs."""
    said_by = find_tflm()
    card = read_model_card(tflite)
    names = list(layers or name_layers(tflite, card=card))
    prepared = prepare(samples, card)
    with Session(deadline_s) as session:
        lost = LOST_WEIGHTS if has_weights_behind(tflite) else ""
        session.write_samples(prepared)
        # What is kept in variables outlives an inference, and in LiteRT a reset: no sample may see another's.
        fresh = count_variables(tflite) > 0
        whole = session.try_models([tflite], _arena(card), measure=True, fresh=fresh)[0]
        failed = {} if whole.ran else _failed_alone(session, tflite, card, whole)
        parity, example = _Parity(), None
        if whole.ran and prepared and not lost:
            parity = _parity(session, session.run_litert(tflite, fresh=fresh), card, len(prepared))
            example = Example(prepared[0], {i: rows[0] for i, rows in session.outputs("micro").items()})
    ops = tuple(_placement(op, card, failed, names) for op in card.ops)
    refused = [op for op in ops if op.placement == UNSUPPORTED]
    refusal = lost or ("" if whole.ran else _refusal(whole, refused, len(ops)))
    report = TargetReport(
        name=target.name,
        kind=target.kind,
        basis=EXECUTED,
        said_by=said_by,
        ops=ops,
        subgraphs=0 if refusal else 1,
        on_target=len(ops) - len(refused),
        first_off_target=refused[0].index if refused else None,
        refusal=refusal,
        remedy=_remedy(refused) if refusal else "",
        memory={} if refusal else _memory(whole, tflite),
        figures=parity.figures,
        warnings=() if refusal else _warnings(card, target, whole, parity),
        model_sha256=card.sha256,
    )
    return report, example


def _arena(card: ModelCard) -> int:
    """An arena in which every model fits: all that is computed side by side, and room to spare. It costs nothing until used."""
    computed = sum(tensor.size_bytes for tensor in (*card.tensors, *card.other_tensors) if not tensor.constant)
    return min(MAX_ARENA_BYTES, max(MIN_ARENA_BYTES, 4 * computed))


def _failed_alone(session: Session, tflite: bytes, card: ModelCard, whole: Trial) -> dict[int, Trial]:
    """The trials of the operators that do not run, by their position: those tried alone, and the one TFLM names."""
    alone = list(slice_operators(tflite, card))
    trials = session.try_models([model for _, model in alone], _arena(card))
    failed = {index: trial for (index, _), trial in zip(alone, trials, strict=True) if not trial.ran}
    named = failed_node(whole.printed)
    if named is not None and named[1] < len(card.ops) and card.ops[named[1]].type == named[0]:
        failed.setdefault(named[1], whole)
    return failed


def _placement(op: OpCard, card: ModelCard, failed: Mapping[int, Trial], layers: Sequence[str | None]) -> OpPlacement:
    layer = (layers[op.index] if op.index < len(layers) else None) or ""
    trial = failed.get(op.index)
    if trial is None:
        return OpPlacement(op.index, op.type, MICRO, layer=layer, version=op.version)
    operands = [card.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
    reason, remedy = reason_of(op, trial), remedy_of(op, operands)
    return OpPlacement(op.index, op.type, UNSUPPORTED, reason, remedy, layer, op.version)


def _refusal(whole: Trial, refused: Sequence[OpPlacement], total: int) -> str:
    if refused:
        first = refused[0]
        return f"TFLM does not run {len(refused)} of {total} operators; the first is {first.type} {first.index}: {first.reason}"
    said = " ".join(whole.printed.split())[:300]
    if whole.stage == CRASHED:
        return (
            f"TFLM's process died of the model ({whole.death}), each operator alone runs{': ' + said if said else ''}"
        )
    return f"TFLM does not {whole.stage} the model, each operator alone runs: {said or 'it gave no reason'}"


def _remedy(refused: Sequence[OpPlacement]) -> str:
    """The remedy of most operators."""
    remedies = [op.remedy for op in refused if op.remedy]
    return max(remedies, key=remedies.count) if remedies else ""


def _memory(whole: Trial, tflite: bytes) -> dict[str, int]:
    used = {
        f"arena_{name}_bytes": whole.used[key] for name, key in (("used", "total"), ("head", "head"), ("tail", "tail"))
    }
    return {"arena_bytes": whole.needed_bytes, **used, "model_bytes": len(tflite)}


def _parity(session: Session, failure: str, card: ModelCard, count: int) -> _Parity:
    ours, theirs, reference = (session.outputs(who) for who in ("micro", "litert", "reference"))
    if not theirs:
        return _Parity(warning=f"LiteRT does not run the model ({failure}): nothing to compare with")
    identical, apart = compare(ours, theirs, card.outputs)
    figures = {"parity_samples": float(count), "parity_identical": identical}
    warning = ""
    if np.isfinite(apart):
        figures["parity_max_abs_diff"] = apart
    else:
        warning = "where one of TFLM and LiteRT gives a number, the other gives none (NaN) or an infinite one"
    if len(ours) == 1 and ours[0].ndim == 3 and ours[0].shape[-1] > 1:  # samples, one row, scores
        figures["parity_same_argmax"] = float(np.mean(ours[0].argmax(-1) == theirs[0].argmax(-1)))
    if reference:
        figures["parity_reference_identical"] = compare(ours, reference, card.outputs)[0]
    return _Parity(figures, warning)


def _warnings(card: ModelCard, target: Target, whole: Trial, parity: _Parity) -> tuple[str, ...]:
    return tuple(
        text for text in (*_model_warnings(card), *_memory_warnings(target, whole), parity.warning, HOST) if text
    )


def _model_warnings(card: ModelCard) -> list[str]:
    said = []
    if any(tensor.constant and tensor.dtype == "float32" and tensor.size_bytes > 4 for tensor in card.tensors):
        said.append(
            "a float model: most microcontrollers compute floats slowly or in software, and int8 takes a quarter of the memory: "
            "edgekit convert MODEL --data DATA --target micro"
        )
    for tensor in card.inputs:
        signature = list(tensor.shape_signature or ())
        if -1 in signature[1:]:  # a free number of rows is one row, as stored
            said.append(f"input {tensor.name} has a free dimension {signature}: TFLM takes it as {list(tensor.shape)}")
        elif tensor.shape and len(tensor.shape) > 1 and tensor.shape[0] > 1:
            said.append(f"input {tensor.name} has {tensor.shape[0]} rows: TFLM computes all of them at every inference")
    return said


def _memory_warnings(target: Target, whole: Trial) -> list[str]:
    said = []
    used = whole.used["total"]
    if whole.needed_bytes > used:
        said.append(
            f"planning takes {whole.needed_bytes - used:,} bytes more than the {used:,} that TFLM says are used afterwards: "
            "with those alone it does not start"
        )
    if target.ram_bytes is not None and whole.needed_bytes > target.ram_bytes:
        said.append(
            f"the arena of {whole.needed_bytes:,} bytes is more than the {target.ram_bytes:,} bytes {target.title} has"
        )
    elif target.ram_bytes is None and whole.needed_bytes > BIG_ARENA_BYTES:
        said.append(
            f"the arena of {whole.needed_bytes:,} bytes is more than a microcontroller without external memory has"
        )
    return said
