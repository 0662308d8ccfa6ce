"""Boards and targets side by side, as words and cells: no figure without what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..records import COMPILED, ESTIMATED, EXECUTED, MEASURED, MODELLED, PREDICTED, Comparison, TargetLine
from . import figures
from .summary import plain

__all__ = [
    "APART",
    "AcrossColumn",
    "Place",
    "across_columns",
    "across_title",
    "basis_label",
    "is_across",
    "latency_text",
    "legend_lines",
    "operators_text",
    "places",
    "refusal_lines",
    "remark_lines",
]

# What each word says, for the legend.
MEANINGS = {
    MEASURED: "on the board named",
    ESTIMATED: "computed by edgekit, its bounds in brackets; nothing ran",
    MODELLED: "computed by the target's own tool from a model of the chip; nothing ran",
    PREDICTED: "by edgekit's own rules; nothing was compiled",
    COMPILED: "read from what the target's compiler made",
    EXECUTED: "by the target's own interpreter, or an emulated board, on this machine: that says nothing of its speed",
}
APART = "Figures of different kinds are not held against each other: what to ship rests on what was measured."
# Bases whose memory is computed too.
COMPUTED = (MODELLED, PREDICTED)
MOST_NAMES = 3


@dataclass(frozen=True)
class Place:
    """The lines of one board or target."""

    title: str
    lines: tuple[TargetLine, ...]

    @property
    def said_by(self) -> str:
        """The runtime or tool that said it; where there are several, each with what it said it of."""
        found: dict[str, list[str]] = {}
        for line in self.lines:
            if line.said_by:
                found.setdefault(plain(line.said_by, 100), []).append(plain(line.variant))
        if len(found) == 1:
            return next(iter(found))
        return "; ".join(f"{_listed(names)} by {tool}" for tool, names in found.items())


@dataclass(frozen=True)
class AcrossColumn:
    """One figure of every line, as text that says what it is; ``spelled`` is it where no head says what it counts."""

    title: str
    text: Callable[[TargetLine], str]
    hint: str = ""
    words: bool = False
    spelled: Callable[[TargetLine], str] | None = None

    def sentence(self, line: TargetLine) -> str:
        """The figure as part of a sentence."""
        return self.text(line) if self.spelled is None else self.spelled(line)


def is_across(comparison: Comparison) -> bool:
    """Whether there is more to say than the table of the variants does: a target, or a second board."""
    return len(places(comparison)) > 1 or any(line.operators is not None for line in comparison.across)


def across_title(comparison: Comparison) -> str:
    """What stands above the lines."""
    return (
        "Across targets"
        if any(line.basis == MEASURED for line in comparison.across)
        else "On targets nobody measured on"
    )


def places(comparison: Comparison) -> tuple[Place, ...]:
    """The lines by place, in their order."""
    return tuple(
        Place(plain(target), tuple(lines))
        for (target, _), lines in groupby(comparison.across, key=lambda it: (it.target, it.operators is None))
    )


def across_columns(comparison: Comparison) -> tuple[AcrossColumn, ...]:
    """The figures of each line, left to right, after the variant; those that no line has are left out."""
    shown = (
        AcrossColumn("basis", lambda line: plain(line.basis, 20), "what the line rests on", words=True),
        AcrossColumn("latency", latency_text, "one inference; each says what it is"),
        AcrossColumn(
            "operators",
            lambda line: operators_text(line, spelled=False),
            "how many of the model's operators run on the target",
            spelled=operators_text,
        ),
        AcrossColumn("memory", _memory, "what it works in; a peak RSS is the whole measuring process's"),
        AcrossColumn(
            "flash", _flash, "what of the model lies in flash", spelled=lambda line: _flash(line, " in flash")
        ),
    )
    return tuple(
        column
        for column in shown
        if column.title == "basis" or any(column.text(line) != figures.MISSING for line in comparison.across)
    )


def refusal_lines(comparison: Comparison) -> Iterator[str]:
    """Which variants a target refuses, and why, in words; those refused alike together."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for line in comparison.across:
        if line.refusal:
            key = plain(line.target), plain(line.refusal, 400), plain(line.remedy, 400)
            found.setdefault(key, []).append(plain(line.variant))
    for (target, refusal, remedy), names in found.items():
        yield f"{target} refuses {_listed(names)}: {refusal}" + (f". {_sentence(remedy)}" if remedy else "")


def remark_lines(comparison: Comparison) -> Iterator[str]:
    """What a line has to say beside its figures."""
    for line in comparison.across:
        name = f"{plain(line.variant)} on {plain(line.target)}"
        if line.streamed_bytes:
            label = f" ({basis_label(line).strip()})" if basis_label(line) else ""
            yield f"{name}: {figures.size(line.streamed_bytes)} of parameters are sent at every inference{label}"
        if line.note:
            yield f"{name}: {plain(line.note, 400)}"
        if line.file:
            yield f"{plain(line.variant)} for {plain(line.target)}: {plain(line.file, 300)}"


def legend_lines(comparison: Comparison) -> Iterator[str]:
    """What the words mean, those that occur, and that they do not mix."""
    used = {word for line in comparison.across for word in (line.basis, line.latency_basis)}
    yield from (f"{word}: {meaning}" for word, meaning in MEANINGS.items() if word in used)
    if used - {MEASURED, ""}:
        yield APART


def latency_text(line: TargetLine) -> str:
    """A latency with what it is: ``4.21 ms measured``, ``2.9 ms (1.8 to 6.0) estimated``."""
    if line.refusal:
        return "refused"
    if line.latency_ms is None:
        return figures.MISSING
    if line.latency_basis == MEASURED:
        return f"{figures.milliseconds(line.latency_ms)} {MEASURED}"
    known = figures.milliseconds(line.latency_ms)
    if line.latency_low_ms is not None and line.latency_high_ms is not None:
        known = figures.milliseconds_within(line.latency_ms, line.latency_low_ms, line.latency_high_ms)
    return f"{known} {plain(line.latency_basis, 20)}"


def operators_text(line: TargetLine, *, spelled: bool = True) -> str:
    """How many operators run on the target, in how many pieces; without ``spelled`` as it stands below a head."""
    if line.on_target is None or not line.operators or line.refusal:
        return figures.MISSING
    noun = " operators" if spelled else ""
    some = "all " if line.on_target == line.operators else f"{figures.count(line.on_target)} of "
    pieces = ""
    if line.subgraphs is not None and line.on_target:
        pieces = f", {line.subgraphs} piece{'' if line.subgraphs == 1 else 's'}"
    return f"{some}{figures.count(line.operators)}{noun}{pieces}"


def _memory(line: TargetLine) -> str:
    if line.memory_bytes is None:
        return figures.MISSING
    return f"{figures.size(line.memory_bytes)} {plain(line.memory_kind, 30)}{basis_label(line)}"


def _flash(line: TargetLine, where: str = "") -> str:
    return (
        figures.MISSING if line.flash_bytes is None else f"{figures.size(line.flash_bytes)}{where}{basis_label(line)}"
    )


def basis_label(line: TargetLine) -> str:
    """What follows a figure of a line that was computed: nothing where it was measured, or read from a file."""
    return f" {plain(line.basis, 20)}" if line.basis in COMPUTED else ""


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
