"""The comparison as one page that needs nothing else: no network, no fonts, and no JavaScript to be read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from edgekit_device.report import BenchmarkReport

from ..errors import MissingExtraError
from ..records import ClassScore, ComparedVariant, Comparison, Evaluation, Failure, Parity
from . import across, figures, measured, summary
from .chart import decimate
from .conditions import moments
from .curve import Curve, sustained_curve
from .measured import texts
from .pictures import latency_spread, trade_off
from .placement import placements
from .run_with import run_with_facts
from .summary import Column, plain

__all__ = ["render_html", "script_json"]

SAMPLES_KEPT = 400
CLASSES_SHOWN = 60
MATRIX_MOST = 20
CONFUSIONS_SHOWN = 15
FAILURES_SHOWN = 200
PLACEMENTS_SHOWN = 60


@dataclass(frozen=True)
class Tile:
    """A figure of the chosen variant, large, with what it is compared to."""

    title: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Measurement:
    """What of one report is no list of figures: rows of tables, and the curve in both layouts."""

    moments: tuple[tuple[str, ...], ...]
    curves: tuple[tuple[str, Curve], ...]
    operators: tuple[tuple[str, ...], ...]
    profiled_by: str
    trials: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Detail:
    """All that is known of one variant; ``facts`` are titled lists of (name, text)."""

    variant: ComparedVariant
    name: str
    facts: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    classes: tuple[ClassScore, ...]
    class_note: str
    matrix: tuple[tuple[str, tuple[tuple[str, float, bool], ...]], ...]
    confusions: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]
    measured: tuple[Measurement, ...]


def render_html(comparison: Comparison) -> str:
    """The comparison as an HTML page; raises MissingExtraError when jinja2 is not installed."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("an HTML report needs jinja2: pip install 'edgekit[report]'") from error
    source = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["plain"] = plain
    return environment.from_string(source).render(_context(comparison))


def script_json(value: object) -> str:
    """``value`` as JSON that cannot end the script element it stands in; what is not a finite number becomes null."""
    text = json.dumps(_finite(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _context(comparison: Comparison) -> dict[str, Any]:
    columns = summary.columns(comparison)
    wide = trade_off(comparison, 860, 430)
    return {
        "comparison": comparison,
        "headline": summary.headline(comparison),
        "columns": columns,
        "rows": [(it, summary.mark(comparison, it), plain(it.name, 60)) for it in comparison.variants],
        "tiles": tuple(_tiles(comparison)),
        "trade_offs": _sized(wide, trade_off(comparison, 400, 420, biggest=20)),
        "spreads": _sized(
            latency_spread(comparison, 860, aside=True), latency_spread(comparison, 400, aside=False, dots=160)
        ),
        "roles": {bubble.role for bubble in wide.bubbles} if wide else set(),
        "across": _across(comparison) if across.is_across(comparison) else None,
        "failures": [_failure(failure) for failure in comparison.gate.failures[:FAILURES_SHOWN]],
        "failures_left": max(0, len(comparison.gate.failures) - FAILURES_SHOWN),
        "limits": summary.limits_line(comparison),
        "details": [_detail(comparison, it) for it in comparison.variants],
        "made": tuple(_made(comparison)),
        "bubble_text": [_in_words(columns, it) for it in comparison.variants],
        "size_note": figures.SIZE_NOTE,
        "percent": figures.percent,
        "count": figures.count,
        "island": script_json(_island(comparison, columns)),
    }


def _across(comparison: Comparison) -> dict[str, Any]:
    """Boards and targets side by side."""
    legend = tuple(across.legend_lines(comparison))
    return {
        "title": across.across_title(comparison),
        "columns": across.across_columns(comparison),
        "places": across.places(comparison),
        "refusals": tuple(across.refusal_lines(comparison)),
        "remarks": tuple(across.remark_lines(comparison)),
        "legend": tuple(line for line in legend if line != across.APART),
        "apart": across.APART if across.APART in legend else "",
        "placements": placements(comparison)[:PLACEMENTS_SHOWN],
    }


def _sized(wide: object, narrow: object) -> list[tuple[str, object]]:
    """Both layouts of a picture with the class that shows one of them; nothing where there is nothing to draw."""
    return [] if wide is None else [("wide", wide), ("narrow", narrow)]


def _island(comparison: Comparison, columns: tuple[Column, ...]) -> dict[str, Any]:
    """What the page's script reads: the figures as shown for the tooltips, and raw for other readers."""
    return {
        "title": comparison.title,
        "created": comparison.created,
        "choice": comparison.choice,
        "front": comparison.front,
        "variants": [
            {"name": it.name, "shown": _shown(columns, it), "raw": {c.title: c.value(it) for c in columns}}
            for it in comparison.variants
        ],
        "samples_ms": [
            {
                "variant": name,
                "samples": [round(value, 5) for value in decimate(report.latency.samples_ms, SAMPLES_KEPT)],
            }
            for name, report in comparison.reports
        ],
    }


def _shown(columns: tuple[Column, ...], variant: ComparedVariant) -> list[tuple[str, str]]:
    return [(column.title, text) for column in columns if (text := column.text(variant)) != figures.MISSING]


def _in_words(columns: tuple[Column, ...], variant: ComparedVariant) -> str:
    return f"{plain(variant.name)}: " + ", ".join(f"{title} {text}" for title, text in _shown(columns, variant))


def _tiles(comparison: Comparison) -> Iterator[Tile]:
    named = {it.name: it for it in comparison.variants}
    chosen, baseline = named.get(comparison.choice or ""), named.get(comparison.baseline or "")
    if chosen is None:
        return
    against = plain(comparison.baseline, 24) if baseline is not None and baseline is not chosen else ""
    if chosen.accuracy is not None:
        change = f"{figures.points(-chosen.drop)} vs {against}" if against and chosen.drop is not None else ""
        yield Tile(plain(comparison.metric, 24).replace("_", " "), figures.percent(chosen.accuracy), change)
    if chosen.median_ms is not None:
        faster = f"{figures.change(chosen.speedup)} than {against}" if against and chosen.speedup is not None else ""
        yield Tile(
            "median latency", figures.milliseconds(chosen.median_ms), faster.replace("as fast than", "as fast as")
        )
    if chosen.p95_ms is not None:
        yield Tile("p95 latency", figures.milliseconds(chosen.p95_ms))
    if chosen.size_bytes:
        yield Tile("size", figures.size(chosen.size_bytes), _smaller(chosen, baseline) if against else "")
    if chosen.peak_rss_mb is not None:
        yield Tile("peak memory", figures.mebibytes(chosen.peak_rss_mb))


def _smaller(chosen: ComparedVariant, baseline: ComparedVariant | None) -> str:
    if baseline is None or not baseline.size_bytes:
        return ""
    times = baseline.size_bytes / chosen.size_bytes
    return (
        f"{figures.ratio(times)} smaller"
        if times >= 1.05
        else f"{plain(baseline.name, 24)}: {figures.size(baseline.size_bytes)}"
    )


def _failure(failure: Failure) -> dict[str, str]:
    return {
        "variant": plain(failure.variant),
        "limit": summary.limit_title(failure.limit_name),
        "allowed": figures.limit(failure.limit_name, failure.limit, failure.unit),
        "value": figures.limit(failure.limit_name, failure.value, failure.unit),
        "message": plain(failure.message, 400),
    }


def _detail(comparison: Comparison, variant: ComparedVariant) -> Detail:
    evaluation = next((it for it in comparison.evaluations if it.variant == variant.name), None)
    parity = next((it for it in comparison.parities if it.variant == variant.name), None)
    reports = [report for name, report in comparison.reports if name == variant.name]
    groups = [("Evaluation", _evaluation_facts(evaluation)), ("Device beside host", _parity_facts(parity))]
    for place, report in enumerate(reports, 1):
        suffix = f" #{place}" if len(reports) > 1 else ""
        groups += [
            (f"Steady latency{suffix}", measured.steady_facts(report, variant)),
            (f"Cold start{suffix}", measured.cold_facts(report)),
            (f"Runtime{suffix}", measured.runtime_facts(report)),
            (f"Board{suffix}", measured.board_facts(report)),
            (f"Energy{suffix}", measured.energy_facts(report)),
            (f"Sustained{suffix}", measured.sustained_facts(report)),
        ]
    groups.append(("Runs best", run_with_facts(variant.run_with)))
    groups.append(("SHA-256", _fingerprints(evaluation, reports)))
    scores = evaluation.per_class if evaluation else ()
    worst = sorted(scores, key=lambda score: score.f1)[:CLASSES_SHOWN] if len(scores) > CLASSES_SHOWN else scores
    shortened = f"The {CLASSES_SHOWN} worst of {figures.count(len(scores))} classes by F1."
    return Detail(
        variant=variant,
        name=plain(variant.name),
        facts=tuple((title, facts) for title, found in groups if (facts := tuple(found))),
        classes=tuple(worst),
        class_note=shortened if len(scores) > CLASSES_SHOWN else "",
        matrix=_matrix(evaluation),
        confusions=_confusions(evaluation),
        notes=tuple(plain(note, 200) for report in reports for note in report.notes),
        measured=tuple(map(_measurement, reports)),
    )


def _measurement(report: BenchmarkReport) -> Measurement:
    curves = [(kind, sustained_curve(report.sustained, width)) for kind, width in (("wide", 860), ("narrow", 400))]
    return Measurement(
        moments=moments(report),
        curves=tuple((kind, curve) for kind, curve in curves if curve is not None),
        operators=measured.operator_rows(report),
        profiled_by=plain(report.profile.source, 80),
        trials=measured.trial_rows(report),
    )


Facts = Iterator[tuple[str, str]]


def _evaluation_facts(evaluation: Evaluation | None) -> Facts:
    if evaluation is None:
        return
    yield "samples", figures.count(evaluation.count)
    for name, value in (
        ("accuracy", evaluation.accuracy),
        ("top-5 accuracy", evaluation.top5),
        ("agreement", evaluation.agreement),
    ):
        if value is not None:
            yield name, figures.percent(value)
    if evaluation.mean_absolute_error is not None:
        yield "mean absolute error", figures.difference(evaluation.mean_absolute_error)
    yield from texts({"runtime": evaluation.runtime})


def _parity_facts(parity: Parity | None) -> Facts:
    if parity is None:
        return
    yield "samples", figures.count(parity.count)
    yield "identical output values", figures.percent(parity.identical)
    yield "largest difference", figures.difference(parity.max_abs_diff)
    if parity.same_answer is not None:
        yield "same answer", figures.percent(parity.same_answer)
    if len(parity.outputs) > 1:
        for output in parity.outputs:
            yield (
                output.name,
                f"{figures.percent(output.identical)} identical, {figures.difference(output.max_abs_diff)}",
            )
    if parity.first_difference is not None:
        yield "first layer that differs", figures.layer_difference(parity.first_difference)
    if parity.note:
        yield "note", plain(parity.note)


def _fingerprints(evaluation: Evaluation | None, reports: Sequence[BenchmarkReport]) -> Facts:
    models = [report.model.sha256 for report in reports] + ([evaluation.model_sha256] if evaluation else [])
    for sha256 in dict.fromkeys(plain(text) for text in models if text):
        yield "model", sha256
    if evaluation is not None and evaluation.data_sha256:
        yield "data", plain(evaluation.data_sha256)


def _matrix(evaluation: Evaluation | None) -> tuple[tuple[str, tuple[tuple[str, float, bool], ...]], ...]:
    """Rows of the confusion matrix as (class, ((count, share of the row, right answer), ...)); empty when too large."""
    if evaluation is None or not 0 < len(evaluation.confusion) <= MATRIX_MOST:
        return ()
    return tuple(
        (
            _label(evaluation, i),
            tuple((figures.count(cell), round(cell / max(1, sum(row)), 2), i == j) for j, cell in enumerate(row)),
        )
        for i, row in enumerate(evaluation.confusion)
    )


def _confusions(evaluation: Evaluation | None) -> tuple[tuple[str, str, str], ...]:
    """The most frequent mistakes as (is, answered as, count), where the matrix is too large to show."""
    if evaluation is None or len(evaluation.confusion) <= MATRIX_MOST:
        return ()
    mistakes = [
        (cell, i, j) for i, row in enumerate(evaluation.confusion) for j, cell in enumerate(row) if i != j and cell
    ]
    worst = sorted(mistakes, reverse=True)[:CONFUSIONS_SHOWN]
    return tuple((_label(evaluation, i), _label(evaluation, j), figures.count(cell)) for cell, i, j in worst)


def _label(evaluation: Evaluation, index: int) -> str:
    return plain(evaluation.per_class[index].label, 40) if index < len(evaluation.per_class) else str(index)


def _made(comparison: Comparison) -> Facts:
    """When and with what the figures were made, each version once."""
    if comparison.created:
        yield "compared", plain(comparison.created)
    reports = [report for _, report in comparison.reports]
    runtimes = {f"{plain(it.runtime.name)} {plain(it.runtime.version)}".strip(): None for it in reports}
    hosts = {plain(it.runtime): None for it in comparison.evaluations}
    named = {
        "accuracy measured with": hosts,
        "latency measured with": runtimes,
        "python on the device": {plain(it.board.python): None for it in reports},
        "numpy on the device": {plain(it.board.numpy): None for it in reports},
    }
    for name, said in named.items():
        if found := [text for text in said if text]:
            yield name, ", ".join(found)
