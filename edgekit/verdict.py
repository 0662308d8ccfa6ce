"""A choice in words: why this variant, and what to keep in mind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .candidate import EPSILON, Candidate, drop_against, is_as_fast, is_slower, latency_difference
from .difference import NO_DIFFERENCE
from .gains import nothing_gained
from .render import figures
from .runnable import is_compiled

__all__ = ["caveats", "left_out", "measured_on", "outdated", "reason"]

FEW_SAMPLES = 1000
CAUSES_SHOWN = 4


def reason(
    choice: Candidate | None, base: Candidate, candidates: Sequence[Candidate], failing: set[str], allowed_drop: float
) -> str:
    """Why ``choice``: what it gains and loses against ``base``, and why no faster or smaller one was taken.

    ``failing`` names those that miss a limit.
    """
    if choice is None:
        which = "the only variant misses" if len(candidates) == 1 else f"each of the {len(candidates)} variants misses"
        return f"{which} at least one limit"
    if len(candidates) == 1:
        return "there is no other variant to compare it with"
    passed_over = _passed_over(choice, base, candidates, failing, allowed_drop)
    if choice is base:
        why = "; ".join(passed_over) or "no other variant is faster, or as fast and smaller"
        return f"it is the baseline itself, and nothing better was found: {why}"
    return "; ".join([", ".join(_gains(choice, base)), *passed_over])


def _gains(choice: Candidate, base: Candidate) -> Iterable[str]:
    yield _speed(choice, base)
    smaller = base.variant.size_bytes / max(choice.variant.size_bytes, 1)
    if choice.variant.size_bytes == base.variant.size_bytes:
        yield "of the same size"
    elif smaller > 1:
        yield f"{figures.ratio(smaller)} smaller"
    else:
        yield f"{figures.ratio(1 / smaller)} larger"
    yield _accuracy(choice, base)


def _speed(choice: Candidate, base: Candidate) -> str:
    found = latency_difference(base, choice)
    if found is None or not choice.median_ms or not base.median_ms:
        return f"compared with {base.name} (latency was not measured for both)"
    mine, theirs = figures.milliseconds(choice.median_ms), figures.milliseconds(base.median_ms)
    if not found.comparable:
        return f"in {mine} where {base.name} took {theirs}, which is not comparable"
    change = figures.change(base.median_ms / choice.median_ms)
    if found.verdict == NO_DIFFERENCE:
        word = f"as fast as {base.name}" if change == "as fast" else f"as fast as {base.name} within the noise"
    else:
        word = f"{found.verdict if change == 'as fast' else change} than {base.name}"
    return f"{word} ({mine} instead of {theirs})"


def _accuracy(choice: Candidate, base: Candidate) -> str:
    drop = drop_against(base, choice)
    if drop is None:
        return "accuracy not compared (not measured for both on the same data)"
    if abs(drop) <= EPSILON:
        return f"the same accuracy ({figures.percent(choice.accuracy)})"
    change = figures.points(abs(drop)).lstrip("+")
    return (
        f"{change} {'less' if drop > 0 else 'more'} accurate ({figures.percent(choice.accuracy)} instead of "
        f"{figures.percent(base.accuracy)})"
    )


def _passed_over(
    choice: Candidate, base: Candidate, candidates: Sequence[Candidate], failing: set[str], allowed_drop: float
) -> list[str]:
    """Why each variant that is faster, or as fast and smaller, than ``choice`` was not taken; grouped by the cause."""
    allowed = figures.points(allowed_drop).lstrip("+")
    tempting = [item for item in candidates if item is not choice and _tempts(item, choice)]
    groups: dict[str, list[str]] = {}
    for item in tempting:
        drop = drop_against(base, item)
        if item.name in failing:
            groups.setdefault("misses a limit", []).append(item.name)
        elif drop is not None and drop > allowed_drop + EPSILON:
            groups.setdefault(f"loses more than {allowed} of accuracy", []).append(item.name)
        elif drop is None:
            groups.setdefault("has no accuracy to compare", []).append(item.name)
        elif item.median_ms is None:
            groups.setdefault("was not timed", []).append(item.name)
        elif not _compare(item, choice):
            groups.setdefault(f"its latency is not comparable with {choice.name}'s", []).append(item.name)
        else:
            groups.setdefault("is faster by no more than the noise, and not smaller", []).append(item.name)
    return [f"{', '.join(names)}: {cause}" for cause, names in groups.items()]


def _tempts(item: Candidate, choice: Candidate) -> bool:
    smaller = item.variant.size_bytes < choice.variant.size_bytes
    if item.median_ms is None or choice.median_ms is None:
        return smaller
    return item.median_ms < choice.median_ms or (smaller and is_as_fast(item, choice))


def _compare(item: Candidate, other: Candidate) -> bool:
    found = latency_difference(other, item)
    return found is None or found.comparable


def measured_on(candidates: Sequence[Candidate]) -> Mapping[str, str]:
    """Board, runtime, delegate and threads of the first report, as far as they are known."""
    report = next((item.report for item in candidates if item.report is not None), None)
    if report is None:
        return {}
    board, runtime = report.board, report.runtime
    facts = {
        "board": board.model,
        "cpu": board.cpu,
        "emulator": f"{board.emulator} (no latency)" if board.emulator else "",
        "cores": str(board.cores or ""),
        "governor": board.governor,
        "temperature": figures.celsius(board.temperature_c) if board.temperature_c is not None else "",
        "throttling": board.throttling,
        "runtime": f"{runtime.name} {runtime.version}".strip(),
        "delegate": runtime.delegate,
        "threads": str(runtime.threads),
        "system": board.system,
    }
    return {name: value for name, value in facts.items() if value}


def caveats(candidates: Sequence[Candidate], base: Candidate, choice: Candidate | None = None) -> tuple[str, ...]:
    """What makes the figures less comparable or less certain than they look, and the choice with them."""
    return (
        *_mixed(candidates),
        *_not_comparable(candidates, base, choice),
        *_unmeasured(candidates),
        *_uncertain(candidates, base),
        *_parted(candidates),
        *nothing_gained(candidates, base),
    )


def left_out(damaged: Sequence[str], stale: Sequence[tuple[str, str]]) -> Iterable[str]:
    """What a run holds and nothing is said of: variants that are not whole, and (variant, target) of reports on other files."""
    if damaged:
        yield f"left out, as their files are not the ones that were written: {', '.join(damaged)}. Convert them again"
    for target in dict.fromkeys(target for _, target in stale):
        names = ", ".join(name for name, where in stale if where == target)
        again = f"edgekit compile RUN --target {target}, or convert with --target, looks again"
        yield f"what {target} made of another {names} is left out: {again}"


def outdated(candidates: Sequence[Candidate], compared: Sequence[Candidate]) -> Iterable[str]:
    """Which compiled variants take no part, or were compiled from a file that has been converted anew."""
    by_name = {item.name: item.variant for item in candidates}
    for item in candidates:
        variant = item.variant
        if not is_compiled(variant):
            continue
        if item not in compared:
            yield (
                f"{item.name} was compiled for {variant.target} and not measured: edgekit bench RUN --variant {item.name} "
                "--device NAME"
            )
        source = by_name.get(variant.compiled_from)
        if source is not None and variant.key and variant.key != source.sha256:
            yield (
                f"{item.name} was compiled from another {source.name} than there is now: edgekit compile RUN --target "
                f"{variant.target}"
            )


def _parted(candidates: Sequence[Candidate]) -> Iterable[str]:
    """Where a device answers something else than the host."""
    for item in candidates:
        parity = item.parity
        if parity is None or parity.same_answer in (None, 1.0):
            continue
        found = parity.first_difference
        where = "" if found is None else f"; they part at {figures.layer_difference(found)}"
        yield (
            f"{item.name}: the device gives another answer than the host for {figures.percent(1 - parity.same_answer)} of the "
            f"samples{where}"
        )


def _mixed(candidates: Sequence[Candidate]) -> Iterable[str]:
    if len({item.variant.source.get("sha256") for item in candidates}) > 1:
        yield "the variants were made from different models: convert them again from one"


def _not_comparable(candidates: Sequence[Candidate], base: Candidate, choice: Candidate | None) -> Iterable[str]:
    """Whose latency compares neither with the baseline's nor, where that is another matter, with the choice's."""
    told: set[str] = {base.name}
    for held in (base, choice):
        causes: dict[str, list[str]] = {}
        names: list[str] = []
        for item in candidates:
            found = None if held is None or item.name in told else latency_difference(held, item)
            if found is not None and not found.comparable:
                names.append(item.name)
                for cause in found.reasons:
                    causes.setdefault(cause, []).append(item.name)
        if names and held is not None:
            told.update(names)
            who = f"{', '.join(names)}: latency not comparable with {held.name}'s"
            yield f"{who}: {'; '.join(_causes(causes, len(names)))}. Measure them together: edgekit bench RUN"


def _causes(causes: Mapping[str, Sequence[str]], of: int) -> Iterable[str]:
    """Each cause once, with whose it is where it is not everybody's; the first few of many."""
    for cause, names in list(causes.items())[:CAUSES_SHOWN]:
        own = len(names) < of and not any(name in cause for name in names)
        yield f"{cause} for {', '.join(names)}" if own else cause
    if len(causes) > CAUSES_SHOWN:
        yield f"and {len(causes) - CAUSES_SHOWN} more"


def _unmeasured(candidates: Sequence[Candidate]) -> Iterable[str]:
    emulated = {name for names in _emulated(candidates).values() for name in names}
    untimed = [item.name for item in candidates if item.median_ms is None and item.name not in emulated]
    if untimed:
        yield f"latency was not measured for {', '.join(untimed)}: edgekit bench RUN"
    for emulator, names in _emulated(candidates).items():
        yield f"emulated by {emulator}: no latency for {', '.join(names)}. Measure on a board: edgekit bench RUN --device NAME"
    unseen = [item for item in candidates if item.accuracy is None and item.evaluation is None]
    for compiled in (False, True):
        of = [item.name for item in unseen if is_compiled(item.variant) == compiled]
        if of:
            how = f"bench RUN --variant {' --variant '.join(of)} --device NAME" if compiled else "evaluate RUN"
            yield f"accuracy was not measured for {', '.join(of)}: edgekit {how} --data D"
    unlabelled = [item.name for item in candidates if item.accuracy is None and item.evaluation is not None]
    if unlabelled:
        yield f"the data has no class labels, so there is no accuracy for {', '.join(unlabelled)}"


def _emulated(candidates: Sequence[Candidate]) -> dict[str, list[str]]:
    """Names of the variants that ran on an emulated processor, by what emulated it."""
    found: dict[str, list[str]] = {}
    for item in candidates:
        if item.report is not None and item.report.board.emulator:
            found.setdefault(item.report.board.emulator, []).append(item.name)
    return found


def _uncertain(candidates: Sequence[Candidate], base: Candidate) -> Iterable[str]:
    measured = [item for item in candidates if item.accuracy is not None]
    if base in measured and any(drop_against(base, item) is None for item in measured):
        yield "accuracies were measured on different data: evaluate every variant on the same"
    slower = [item.name for item in candidates if is_slower(item, base)]
    if slower:
        yield f"slower here than {base.name}: {', '.join(slower)}"
    counts = {item.evaluation.count for item in measured if item.evaluation is not None}
    if counts and min(counts) < FEW_SAMPLES:
        one = figures.points(1 / min(counts)).lstrip("+")
        yield f"accuracy is measured on {figures.count(min(counts))} samples: one of them is {one}"
