"""A diagnosis for people: the worst layers first, what keeping them would win, and what the calibration samples need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import figures
from .markdown import escape
from .summary import plain

if TYPE_CHECKING:
    from rich.console import Console

    from ..diagnosis import DiagnosisReport

__all__ = ["render_diagnosis_markdown", "render_diagnosis_text"]

SIGNS = {"problem": "✗", "warning": "!", "note": "·"}
STYLES = {"problem": "red", "warning": "yellow", "note": "dim"}
ASCII = str.maketrans({"✗": "x", "·": "-", "Δ": "diff", figures.MISSING: "-", figures.MINUS: "-", "…": "~", "≥": ">="})
LONGEST_NAME = 40
LEAST_SHARE = 0.0001
CLEAR_BLAME = 0.1
CLEAR_DB = 1.0
WIDE = 110  # columns of a terminal that all figures fit in
LEGEND = (
    "SQNR: signal over error of the layer's output; blame: its share of the error at the model's output. What would be won "
    "there: by the layer alone in float32, with those that read it (+ readers), and by both at int16"
)


@dataclass(frozen=True)
class _Column:
    title: str
    text: Callable[[Mapping[str, Any]], str]
    right: bool = True
    secondary: bool = False


def render_diagnosis_text(report: DiagnosisReport, console: Console, *, most: int = 20) -> None:
    """Print the ``most`` worst layers and all findings on ``console``."""
    from rich.text import Text

    plain_ascii = console.options.ascii_only

    def say(line: str, style: str = "") -> None:
        console.print(Text(line.translate(ASCII) if plain_ascii else line, style=style), highlight=False)

    say(_headline(report), "bold")
    console.print(_table(report, most, console.width, plain_ascii), highlight=False)
    if len(report.layers) > most:
        say(f"and {figures.count(len(report.layers) - most)} more layers: see --json", "dim")
    say(LEGEND, "dim")
    for line in _advice(report):
        say(line)
    say("")
    say(f"Calibration: {figures.count(report.calibration.get('samples'))} samples", "bold")
    for finding in report.calibration.get("findings", ()):
        severity = str(finding["severity"])
        say(f"{SIGNS.get(severity, '·')} {plain(finding['text'], 1000)}", STYLES.get(severity, ""))


def render_diagnosis_markdown(report: DiagnosisReport, *, most: int = 20) -> str:
    """The same as GitHub-flavoured Markdown, ending in a newline."""
    shown = _columns(report)
    rows = [
        f"| {' | '.join(escape(column.text(layer)) for column in shown)} |" for layer in report.worst_first()[:most]
    ]
    head = f"| {' | '.join(escape(column.title) for column in shown)} |"
    rule = f"| {' | '.join('--:' if column.right else ':--' for column in shown)} |"
    findings = [
        f"- **{escape(finding['severity'])}** ({escape(finding['topic'])}): {escape(finding['text'])}"
        for finding in report.calibration.get("findings", ())
    ]
    blocks = [
        f"## {escape(_headline(report))}",
        "\n".join([head, rule, *rows]),
        f"<sub>{escape(LEGEND)}.</sub>",
        *(escape(line) for line in _advice(report)),
        "\n".join(["**Calibration**", "", *findings]) if findings else "",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _headline(report: DiagnosisReport) -> str:
    summary = report.summary
    facts = [
        f"{plain(report.model)} as {plain(report.recipe)}: {figures.decibels(summary.get('output_sqnr_db'))} at the output"
    ]
    if summary.get("int8_accuracy") is not None:
        accuracies = figures.percent(summary["int8_accuracy"]), figures.percent(summary.get("float_accuracy"))
        facts.append(f"accuracy {accuracies[0]} (float {accuracies[1]})")
    if summary.get("agreement") is not None:
        facts.append(f"agrees with float on {figures.percent(summary['agreement'])}")
    return f"{', '.join(facts)}, {figures.count(summary.get('samples'))} training samples"


def _columns(report: DiagnosisReport) -> tuple[_Column, ...]:
    """The figures of a layer; those of accuracy only where there are labels."""
    columns = [
        _Column("layer", lambda it: _short(it["layer"]), right=False),
        _Column("SQNR", lambda it: figures.decibels(it["sqnr_db"])),
        _Column(
            "cosine", lambda it: figures.MISSING if it["cosine"] is None else f"{it['cosine']:.4f}", secondary=True
        ),
        _Column("range", _range, secondary=True),
        _Column("clipped", _clipped, secondary=True),
        _Column("blame", lambda it: figures.percent(it["blame"])),
        _Column("alone", lambda it: _gain(it, "win")),
        _Column("+ readers", lambda it: _gain(it, "win_joint")),
        _Column("int16", lambda it: _gain(it, "win_int16")),
    ]
    if report.summary.get("int8_accuracy") is not None:
        columns.append(_Column("accuracy", _accuracy))
    return tuple(columns)


def _short(name: object) -> str:
    text = plain(name)
    return text if len(text) <= LONGEST_NAME else f"…{text[1 - LONGEST_NAME :]}"


def _range(layer: Mapping[str, Any]) -> str:
    seen = layer["range"]
    return figures.MISSING if not seen else f"{figures.difference(seen['min'])} … {figures.difference(seen['max'])}"


def _clipped(layer: Mapping[str, Any]) -> str:
    share = layer["clipped_share"]
    return f"< {figures.percent(LEAST_SHARE)}" if share and share < LEAST_SHARE else figures.percent(share)


def _gain(layer: Mapping[str, Any], key: str) -> str:
    if layer[key] is None and "exact" in str(layer["notes"].get(key, "")):
        return "exact"
    return figures.decibels(layer[key], signed=True)


def _accuracy(layer: Mapping[str, Any]) -> str:
    """What the better of both ways to keep it in float wins."""
    joint = layer["keep"] and layer["keep"] == layer["joint_indices"]
    return figures.points(layer["accuracy_win_joint" if joint else "accuracy_win"])


def _table(report: DiagnosisReport, most: int, width: int, plain_ascii: bool) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ASCII2 if plain_ascii else box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    shown = [column for column in _columns(report) if width >= WIDE or not column.secondary]
    for column in shown:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=column.right)
    for layer in report.worst_first()[:most]:
        cells = [column.text(layer) for column in shown]
        style = "bold" if (layer["blame"] or 0.0) >= CLEAR_BLAME else ""
        table.add_row(*(Text(cell.translate(ASCII) if plain_ascii else cell) for cell in cells), style=style)
    return table


def _advice(report: DiagnosisReport) -> Iterator[str]:
    """What to make of it."""
    summary, count = report.summary, len(report.layers)
    if summary.get("blamed", 0) < count or summary.get("measured", 0) < count:
        yield (
            f"Within the time, blame was measured for {summary.get('blamed', 0)} and wins for {summary.get('measured', 0)} of "
            f"{count} layers: more with --max-s"
        )
    winning = [layer for layer in report.worst_first() if max(layer["win"] or 0, layer["win_joint"] or 0) >= CLEAR_DB]
    if winning:
        names = ", ".join(f'"{plain(name)}"' for name in winning[0]["keep_layers"])
        yield f"To keep the worst in float, write a recipe of your own: [quantize] keep_float = [{names}]"
        yield "To find how many need it: edgekit convert --max-drop 0.01"
    elif any(layer["win"] is not None for layer in report.layers):
        yield "No layer alone is to blame: none wins much by staying in float. Try int8-mse, int8-equalized-corrected or qat-int8"
