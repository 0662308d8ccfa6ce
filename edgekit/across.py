"""One model across boards and targets: a line for each place and variant, every figure with what it is.

Lines of what was measured and of what was computed stand side by side and are never held against each other: no ratio, rank or
choice is made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit_device import BenchmarkReport, ReportError

from .candidate import Candidate
from .plausible import is_plausible, without_nonsense
from .records import ESTIMATED, EXECUTED, MEASURED, MODELLED, TargetLine, Variant
from .store import RunStore
from .target_reports import compiled_file

if TYPE_CHECKING:
    from edgekit_converters.targets.records import TargetReport

__all__ = ["across"]

MOST_HISTORY = 1000  # reports looked at, the newest of them
# What a target's tool calls the memory a model works in; the first that a report has is shown.
WORKING_MEMORY = {"arena": "arena", "tensor_arena": "arena", "sram": "SRAM", "dram": "DRAM"}
FLASH = ("flash", "off_chip_flash", "on_chip_flash", "model")
EDGETPU_MEMORY = "on chip"
MIB, MOST_MIB = 1 << 20, 1e9


def across(
    store: RunStore, candidates: Sequence[Candidate], reports: Sequence[tuple[str, TargetReport]]
) -> tuple[TargetLine, ...]:
    """What each place makes of each of ``candidates``: boards that measured it, then the targets of ``reports``; in a place in
    the order of the candidates.

    Of a board its newest report counts, also one that another board's has replaced since; where the comparison shows one of
    that board, that. A line of an emulated board has no latency.
    """
    order = {item.name: number for number, item in enumerate(candidates)}
    measured = sorted(_measured(store, candidates), key=lambda line: (line.target, order[line.variant]))
    variants = {item.name: item.variant for item in candidates}
    said = [_said(store, variants, name, report) for name, report in reports if name in order]
    return (*measured, *sorted(said, key=lambda line: (line.target, order[line.variant])))


@dataclass(frozen=True)
class _Board:
    """What tells boards apart: their own id, where they have one."""

    id: str
    title: str
    emulator: str

    @classmethod
    def of(cls, report: BenchmarkReport) -> _Board:
        board = report.board
        return cls(board.id, board.model or board.cpu or board.system or "a board", board.emulator)


def _measured(store: RunStore, candidates: Sequence[Candidate]) -> Iterator[TargetLine]:
    found: dict[tuple[str, _Board], BenchmarkReport] = dict(_newest(store, [item.variant for item in candidates]))
    for item in candidates:
        if item.report is not None:
            found[item.name, _Board.of(item.report)] = item.report
    titles = _titles({board for _, board in found})
    variants = {item.name: item.variant for item in candidates}
    for (name, board), report in found.items():
        yield _measured_line(variants[name], titles[board], without_nonsense(report))


def _newest(store: RunStore, variants: Sequence[Variant]) -> Iterator[tuple[tuple[str, _Board], BenchmarkReport]]:
    """The newest report of each variant's very file on each board, of the run's history."""
    by_file: dict[str, list[str]] = {}
    for variant in variants:
        by_file.setdefault(variant.sha256, []).append(variant.name)
    came: dict[tuple[str, _Board], str] = {}
    found: dict[tuple[str, _Board], BenchmarkReport] = {}
    for raw in _history(store):
        names = by_file.get(_model(raw), [])
        try:
            report = BenchmarkReport.from_dict(raw.get("report")) if names else None
        except ReportError:
            continue
        if report is None:
            continue
        name = raw.get("variant") if raw.get("variant") in names else names[0]
        place, received = (str(name), _Board.of(report)), str(raw.get("received"))
        if received > came.get(place, ""):
            came[place], found[place] = received, report
    yield from found.items()


def _history(store: RunStore) -> Iterator[Mapping[str, Any]]:
    dated = []
    for path in store.folder.glob("history/*.json"):
        try:
            dated.append((path.stat().st_mtime, path.name))
        except OSError:  # it went meanwhile
            continue
    for _, name in sorted(dated, reverse=True)[:MOST_HISTORY]:
        yield store.read_facts(f"history/{name}")


def _model(raw: Mapping[str, Any]) -> str:
    """The SHA-256 of what a report in the history measured; empty where it is none."""
    report = raw.get("report")
    model = report.get("model") if isinstance(report, Mapping) else None
    found = model.get("sha256") if isinstance(model, Mapping) else None
    return found if isinstance(found, str) else ""


def _titles(boards: Iterable[_Board]) -> dict[_Board, str]:
    """What each board is called: its model, and its id where two are called alike."""
    known = list(boards)
    plain = {board: board.title + (" (emulated)" if board.emulator else "") for board in known}
    return {
        board: f"{title} ({board.id[:6] or 'no id'})" if list(plain.values()).count(title) > 1 else title
        for board, title in plain.items()
    }


def _measured_line(variant: Variant, place: str, report: BenchmarkReport) -> TargetLine:
    runtime, latency, peak = report.runtime, report.latency, report.memory.peak_rss_mb
    emulated = bool(report.board.emulator)
    ran = f"{runtime.name} {runtime.version}".strip()
    threads = f"{runtime.threads} thread{'' if runtime.threads == 1 else 's'}"
    return TargetLine(
        variant=variant.name,
        target=place,
        basis=EXECUTED if emulated else MEASURED,  # an emulated board has measured nothing
        said_by=", ".join(filter(None, (ran, runtime.delegate, threads))),
        **({} if emulated else _times(latency.median_ms, latency.median_low_ms, latency.median_high_ms, MEASURED)),
        memory_bytes=None if emulated or peak is None or not 0 < peak < MOST_MIB else round(peak * MIB),
        memory_kind="peak RSS",
        note=f"emulated by {report.board.emulator}: no latency" if emulated else "",
    )


def _said(store: RunStore, variants: Mapping[str, Variant], name: str, report: TargetReport) -> TargetLine:
    memory, kind = _memory(report)
    return TargetLine(
        variant=name,
        target=report.name,
        basis=report.basis,
        said_by=report.said_by,
        **_latency(report),
        on_target=report.on_target,
        operators=len(report.ops) or report.on_target + report.on_cpu,
        subgraphs=report.pieces,
        memory_bytes=memory,
        memory_kind=kind,
        streamed_bytes=report.streamed_bytes,
        flash_bytes=next((value for name, value in _named(report) if name in FLASH), None),
        refusal=report.refusal,
        remedy=report.remedy,
        file=_file(store, variants.values(), name, report),
        note=_note(report),
    )


def _latency(report: TargetReport) -> dict[str, Any]:
    """A latency that nobody measured, called modelled where the target's tool has a model of the chip."""
    estimate = report.estimate
    if estimate is None or report.refusal:
        return {}
    basis = MODELLED if report.basis == MODELLED else ESTIMATED
    return _times(estimate.latency_ms, estimate.low_ms, estimate.high_ms, basis)


def _times(latency_ms: float | None, low_ms: float | None, high_ms: float | None, basis: str) -> dict[str, Any]:
    """A latency as a line has it, with its bounds where both make sense; nothing where it makes none."""
    if latency_ms is None or not is_plausible(latency_ms):
        return {}
    bounds = {}
    if low_ms is not None and high_ms is not None and is_plausible(low_ms) and is_plausible(high_ms):
        bounds = {"latency_low_ms": low_ms, "latency_high_ms": high_ms}
    return {"latency_ms": latency_ms, **bounds, "latency_basis": basis}


def _memory(report: TargetReport) -> tuple[int | None, str]:
    if report.cached_bytes is not None:
        return report.cached_bytes, EDGETPU_MEMORY
    named = dict(_named(report))
    return next(((named[name], kind) for name, kind in WORKING_MEMORY.items() if name in named), (None, ""))


def _named(report: TargetReport) -> Iterator[tuple[str, int]]:
    return ((name.lower().removesuffix("_bytes"), value) for name, value in report.memory.items())


def _file(store: RunStore, variants: Iterable[Variant], name: str, report: TargetReport) -> str:
    """What was compiled: as a variant of the run, or else the file below targets/."""
    made = (item for item in variants if item.compiled_from == name and item.target == report.name)
    variant = next(made, None)
    return compiled_file(store, report.name, name) if variant is None else f"variants/{variant.name}.tflite"


def _note(report: TargetReport) -> str:
    """Where a compiler did something else than was predicted."""
    check = report.mapping_check
    differ = 0 if check is None else len(check.predicted_on_target_only) + len(check.actually_on_target_only)
    return f"the rules had said otherwise of {differ} operator{'' if differ == 1 else 's'}" if differ else ""
