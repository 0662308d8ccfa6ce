"""What an audit comes to, in plain sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .hypotheses import AS_IS, CLEAR_BITS, SIGNIFICANCE, Trial

if TYPE_CHECKING:
    from .audit import Audit, TensorAudit

__all__ = ["SEVERITIES", "Finding", "findings_of"]

SEVERITIES = ("problem", "warning", "note")
# A share of the other split's values beyond the range, of channels that never vary, of the range that is tail or grew.
LARGE_UNCOVERED, LARGE_DEAD, LARGE_STRETCH, LARGE_GROWTH, LARGE_SHRINK = 0.001, 0.25, 4.0, 0.1, 0.5
MANY_TENSORS, FEW_CLASSES = 0.1, 0.9
STEADY_DB, WORSE_DB = 0.5, 1.5
LISTED = 8


@dataclass(frozen=True)
class Finding:
    """One sentence or two on a ``topic``; a problem costs accuracy, a warning may, a note is worth knowing."""

    severity: str
    topic: str
    text: str


def findings_of(audit: Audit) -> tuple[Finding, ...]:
    """All findings, problems first."""
    found = [*_preprocessing(audit), *_outliers(audit), *_coverage(audit), *_samples(audit), *_amount(audit)]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def _preprocessing(audit: Audit) -> Iterator[Finding]:
    base = next((trial for trial in audit.preprocessing if trial.name == AS_IS), None)
    others = [trial for trial in audit.preprocessing if trial.name != AS_IS]
    if base is None or not others:
        return
    if base.accuracy is not None and base.balanced is not None:
        best = max(others, key=lambda trial: (trial.balanced or 0.0, trial.accuracy or 0.0))
        clear = best.better > best.worse and best.p_value is not None and best.p_value < SIGNIFICANCE / len(others)
        if clear and (best.balanced or 0.0) > base.balanced and audit.classes_seen > 1:
            yield Finding(
                "problem",
                "preprocessing",
                f"the model seems to expect its input {best.name}: {best.accuracy:.1%} of the labelled samples are right "
                f"then, {base.accuracy:.1%} {AS_IS}. {_what_to_do(best)}",
            )
        return
    informed = [trial for trial in others if trial.information is not None]
    if base.information is None or not informed:
        return
    best = max(informed, key=lambda trial: trial.information or 0.0)
    if (best.information or 0.0) > max(base.information + CLEAR_BITS, 2 * base.information):
        yield Finding(
            "note",
            "preprocessing",
            f"a hint only, without labels: the answers say more ({best.information:.2f} bits, {base.information:.2f} {AS_IS}) "
            f"with the input {best.name}. Give labels (y_train) to have it judged",
        )


def _what_to_do(trial: Trial) -> str:
    if trial.scale is None or trial.offset is None:
        return "Prepare the data like that"
    offset = f" --offset {trial.offset:.6g}" if abs(trial.offset) > 1e-9 else ""
    return f"Type --scale {trial.scale:.6g}{offset}"


def _outliers(audit: Audit) -> Iterator[Finding]:
    tensors = (*audit.inputs, *audit.layers)
    shrinking = [(item, item.outliers) for item in tensors if item.outliers is not None]
    blamed = Counter(sample for _, outliers in shrinking for sample in {*outliers.low_samples, *outliers.high_samples})
    grave = [item.name for item, outliers in shrinking if outliers.shrink >= LARGE_SHRINK]
    many = len(shrinking) > MANY_TENSORS * len(tensors)
    if shrinking:
        worst, outliers = max(shrinking, key=lambda pair: pair[1].shrink)
        named = [f"{sample} in {count}" for sample, count in blamed.most_common()]
        yield Finding(
            "problem" if grave else "warning" if many else "note",
            "outliers",
            f"the ranges of {len(shrinking)} of {len(tensors)} tensors are set by a few samples ({_listed(named)}): without "
            f"them that of {worst.name} shrinks by "
            f"{outliers.shrink:.0%}. Look at these samples; leave them out, or use the recipe int8-percentile",
        )
    stretched = [item for item in tensors if item.stretch is not None and item.stretch >= LARGE_STRETCH]
    if stretched:
        worst = max(stretched, key=lambda item: item.stretch or 0.0)
        yield Finding(
            "warning",
            "outliers",
            f"0.02 % of the values make up most of the range of {_listed([item.name for item in stretched])}: "
            f"{worst.name} is {worst.stretch:.1f} times as wide as what all others need. Try the recipe int8-percentile or "
            "int8-mse",
        )


def _coverage(audit: Audit) -> Iterator[Finding]:
    uncovered = [item for item in (*audit.inputs, *audit.layers) if 1 - _covered(item) > LARGE_UNCOVERED]
    if uncovered:
        worst = min(uncovered, key=_covered)
        yield Finding(
            "warning",
            "coverage",
            f"{1 - _covered(worst):.2%} of the other split's values in {worst.name} lie outside the calibrated range "
            f"({len(uncovered)} tensors lose more than {LARGE_UNCOVERED:.1%}): calibrate with more, or more varied, samples",
        )
    dead = [item for item in audit.layers if item.dead_channels > LARGE_DEAD * item.channels]
    if dead:
        worst = max(dead, key=lambda item: item.dead_channels / item.channels)
        yield Finding(
            "note",
            "coverage",
            f"{worst.dead_channels} of {worst.channels} channels of {worst.name} never vary"
            f"{f', nor do many of {len(dead) - 1} more layers' if len(dead) > 1 else ''}: the samples do not reach them, or "
            "training left them dead",
        )
    if audit.classes_seen < audit.classes:
        yield Finding(
            "warning" if audit.classes_seen < FEW_CLASSES * audit.classes else "note",
            "coverage",
            f"only {audit.classes_seen} of {audit.classes} classes are among the samples: draw more of them",
        )


def _covered(item: TensorAudit) -> float:
    return 1.0 if item.covered is None else item.covered


def _samples(audit: Audit) -> Iterator[Finding]:
    if audit.constant_samples:
        yield Finding(
            "warning",
            "samples",
            f"{len(audit.constant_samples)} samples hold one single value each ({_numbered(audit.constant_samples)}): are "
            "they images?",
        )
    if audit.repeated_samples:
        yield Finding(
            "note",
            "samples",
            f"{len(audit.repeated_samples)} samples repeat earlier ones ({_numbered(audit.repeated_samples)}): they add nothing",
        )


def _amount(audit: Audit) -> Iterator[Finding]:
    """Whether more samples would change something, or fewer would do."""
    if len(audit.amounts) < len((4, 2, 1)):
        return
    ratios = [amount.sqnr_db for amount in audit.amounts]
    half, full = ratios[-2], ratios[-1]
    if half is None or full is None:
        return
    before = max(ratio for ratio in ratios[:-1] if ratio is not None)
    growing = [item for item in audit.layers if item.growth > LARGE_GROWTH]
    said = f"{half:.1f} dB of SQNR with {audit.amounts[-2].samples} samples, {full:.1f} dB with {audit.samples}"
    if before - full > WORSE_DB:
        yield Finding(
            "warning",
            "amount",
            f"more samples made it worse ({before:.1f} dB of SQNR with fewer, {full:.1f} dB with {audit.samples}): each "
            "outlier widens a range for good. Use the recipe int8-percentile, which forgets them",
        )
    elif full - half > STEADY_DB or len(growing) > MANY_TENSORS * len(audit.layers):
        names = _listed([item.name for item in growing])
        moved = f"; the second half widened the ranges of {names} by over {LARGE_GROWTH:.0%}" if growing else ""
        yield Finding("warning", "amount", f"the ranges are still moving ({said}{moved}): calibrate with more samples")
    else:
        yield Finding("note", "amount", f"more samples would not change the result ({said})")


def _numbered(rows: Sequence[int]) -> str:
    return "numbers " + _listed([str(row) for row in rows])


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:LISTED])
    return shown if len(names) <= LISTED else f"{shown} and {len(names) - LISTED} more"
