"""Whether two reports may be held against each other, and if not, all the reasons."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit_device import BenchmarkReport

from .render import figures

__all__ = ["are_paired", "obstacles"]

# Others that keep more than this share of all cores busy disturb a latency by more than any floor here allows for.
BUSY_SHARE = 0.25
# A core's worth of others beyond what the measurement leaves free.
BUSY_MARGIN = 0.25
# Less than this is an idle process moved aside.
SWAPPED_MB = 8.0
SAME_CLOCK = 0.01

Names = tuple[str, str]


def are_paired(before: BenchmarkReport, after: BenchmarkReport) -> bool:
    """Whether the two were measured in turns, in one session."""
    return bool(before.session.id) and before.session.id == after.session.id


def obstacles(before: BenchmarkReport, after: BenchmarkReport, names: Names) -> Iterator[str]:
    """Each reason why the latencies of the two do not compare.

    In one session both ran in the same process at the same time: delegates may differ, they are how a variant runs
    there, and a busy board slows both alike.
    """
    paired = are_paired(before, after)
    yield from _other_machine(before, after, names)
    yield from _other_way(before, after, paired)
    for name, report in zip(names, (before, after), strict=True):
        yield from _disturbed(name, report, paired)


def _other_machine(before: BenchmarkReport, after: BenchmarkReport, names: Names) -> Iterator[str]:
    a, b = before.board, after.board
    for name, board in zip(names, (a, b), strict=True):
        if board.emulator:
            yield f"{name} ran in an emulator ({board.emulator}), whose times are no latencies"
    machines = [f"{board.model}, {board.cpu}".strip(", ") or "unknown" for board in (a, b)]
    if (a.model, a.cpu, a.architecture) != (b.model, b.cpu, b.architecture):
        yield f"different boards ({' and '.join(machines)})"
    elif a.id and b.id and a.id != b.id:
        yield f"different boards of one model ({machines[0]})"
    governors = [report.before.governor or report.board.governor for report in (before, after)]
    if governors[0] != governors[1]:
        yield f"different governors ({_both(governors)})"
    tops = [report.before.frequency_max_mhz for report in (before, after)]
    if tops[0] and tops[1] and abs(tops[0] / tops[1] - 1) > SAME_CLOCK:
        yield f"different top frequencies ({' and '.join(map(figures.megahertz, tops))})"


def _other_way(before: BenchmarkReport, after: BenchmarkReport, paired: bool) -> Iterator[str]:
    a, b = before.runtime, after.runtime
    runtimes = [f"{runtime.name} {runtime.version}".strip() for runtime in (a, b)]
    if runtimes[0] != runtimes[1]:
        yield f"different runtimes ({_both(runtimes)})"
    if a.threads != b.threads:
        yield f"different thread counts ({a.threads} and {b.threads})"
    if paired:
        return
    delegates = [" ".join(filter(None, (it.delegate, it.delegate_library, it.delegate_options))) for it in (a, b)]
    if delegates[0] != delegates[1]:
        yield f"different delegates ({_both(delegates)})"


def _disturbed(name: str, report: BenchmarkReport, paired: bool) -> Iterator[str]:
    said = (report.before.throttling, report.after.throttling, report.board.throttling)
    throttled = dict.fromkeys(text for text in said if text not in ("", "none"))
    if throttled:
        yield f"the board was throttled while {name} was measured ({', '.join(throttled)})"
    swapped = (report.after.swap_used_mb or 0.0) - (report.before.swap_used_mb or 0.0)
    if report.before.swap_used_mb is not None and swapped > SWAPPED_MB:
        yield f"the board swapped while {name} was measured ({figures.mebibytes(swapped)} went out)"
    cores = report.board.cores
    busy = max(report.before.busy_others or 0.0, report.after.busy_others or 0.0)
    free = min(BUSY_SHARE * cores, cores - report.runtime.threads + BUSY_MARGIN)
    if cores and not paired and busy > max(BUSY_MARGIN, free):
        yield f"other processes kept {busy:.1f} of {cores} cores busy while {name} was measured"


def _both(texts: list[str]) -> str:
    return " and ".join(text or "unknown" for text in texts)
