"""The comparison in the terminal, in Markdown and on a page, read back by independent parsers."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import json
import math
import random
import re
import subprocess
import sys

import pytest
from edgekit_device.report import (
    BenchmarkReport,
    BoardFacts,
    LatencyFacts,
    MemoryFacts,
    ModelFacts,
    RuntimeFacts,
)
from rich.console import Console

from edgekit.errors import MissingExtraError
from edgekit.records import ClassScore, ComparedVariant, Comparison, Evaluation, Failure, Gate, Parity
from edgekit.render import figures, pictures, render_html, render_markdown, render_text, summary
from edgekit.render.html import script_json

HOSTILE = "</script><!--<img src=x onerror=alert(1)>|`*[a](https://evil.example)\u2028\n\x1b[31m & \"q\" 'q'"
MINUS, TIMES, DASH = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"
VOID = {"meta", "br", "img", "link", "input", "hr", "source", "base", "embed"}


class Page(html.parser.HTMLParser):
    """The tags, attributes and texts of a page; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        """Read ``text`` to its end."""
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the closed tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost tag, which must be this one."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect scripts apart from text."""
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.text += data

    def count(self, tag: str, **attributes: str) -> int:
        """How many of ``tag`` have these attributes."""
        return sum(
            name == tag and all(found.get(key.rstrip("_")) == value for key, value in attributes.items())
            for name, found in self.tags
        )


def variant(name: str, rank: int = 1, median_ms: float | None = 3.2, **figures_of: object) -> ComparedVariant:
    """A line of a comparison with plausible figures."""
    base = ComparedVariant(
        name, rank, 98_304, 81_200, 0.9512, 0.003, 0.985, 0.998, median_ms, 3.48, 5.4, 21.0, 2.5, "litert 1.3", True
    )
    return dataclasses.replace(base, **figures_of)  # type: ignore[arg-type]


def report(median_ms: float = 3.2, count: int = 2000) -> BenchmarkReport:
    """A report with ``count`` samples around ``median_ms``."""
    draw = random.Random(count)
    samples = tuple(draw.lognormvariate(math.log(median_ms), 0.05) for _ in range(count))
    latency = LatencyFacts(
        count=count,
        init_ms=12.0,
        first_ms=5.4,
        warmup_count=20,
        warmup_mean_ms=3.4,
        mean_ms=3.3,
        median_ms=median_ms,
        std_ms=0.2,
        min_ms=min(samples),
        max_ms=max(samples),
        p5_ms=3.0,
        p90_ms=3.4,
        p95_ms=3.48,
        p99_ms=4.0,
        samples_ms=samples,
    )
    return BenchmarkReport(
        created="2025-05-12T09:14:03Z",
        model=ModelFacts("9f" * 32, 98_304, "m"),
        runtime=RuntimeFacts("litert", "1.3", "XNNPACK", 4),
        latency=latency,
        memory=MemoryFacts(21.0),
        board=BoardFacts(model="Some Board", governor="performance", temperature_c=51.2, frequency_mhz=1500.0),
        notes=("a note",),
    )


def evaluation(name: str, classes: int = 3) -> Evaluation:
    """An evaluation with as many classes, each confused with the next."""
    scores = tuple(ClassScore(f"class {i}", 0.9, 0.8, 0.85, 50) for i in range(classes))
    rows = tuple(
        tuple(40 if i == j else 10 if (i + 1) % classes == j else 0 for j in range(classes)) for i in range(classes)
    )
    return Evaluation(name, 50 * classes, 0.95, None, 0.98, None, scores, rows, "ab" * 32, "cd" * 32, "litert 1.3")


def comparison(*names: str, **changes: object) -> Comparison:
    """A complete comparison of these variants, of which the first is shipped and the last is the baseline."""
    names = names or ("int8", "int16x8", "dynamic-int8", "float16", "float32")
    variants = tuple(variant(name, rank, 1.0 + 2 * rank, on_front=rank < 3) for rank, name in enumerate(names, 1))
    made = Comparison(
        title="a run",
        variants=variants,
        front=tuple(it.name for it in variants if it.on_front),
        choice=names[0],
        reason="the fastest within the budget",
        gate=Gate(True, {"max_drop": 0.01, "max_p95_ms": 10.0, "max_size_kb": 300}),
        baseline=names[-1],
        measured_on={"board": "Some Board", "threads": "4"},
        caveats=("only one board was measured",),
        evaluations=tuple(evaluation(name) for name in names),
        reports=tuple((it.name, report(it.median_ms or 1)) for it in variants),
        parities=(Parity(names[0], 200, 0.998, 0.0039, 1.0),),
        created="2025-05-12T09:20:11Z",
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def failed() -> Comparison:
    """A comparison in which nothing meets the limits."""
    misses = (
        Failure("int8", "max_p95_ms", 1.0, 3.4812, "ms", "too slow at the 95th percentile"),
        Failure("float32", "max_size_kb", 300, None, "kb", ""),
    )
    return comparison(choice=None, reason="every variant misses a limit", gate=Gate(False, {"max_p95_ms": 1.0}, misses))


def printed(shown: Comparison, width: int, encoding: str = "utf-8") -> str:
    """What a console of that width prints."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    render_text(shown, Console(file=file, width=width))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, DASH),
        (float("nan"), DASH),
        (0, "0 ms"),
        (3.2149, "3.21 ms"),
        (9.999, "10.0 ms"),
        (0.4123, "0.412 ms"),
        (0.1, "0.100 ms"),
        (0.04125, "41.2 µs"),
        (123.4, "123 ms"),
        (1234.5, "1,234 ms"),
        (12_345, "12.3 s"),
    ],
)
def test_milliseconds_have_three_significant_digits(value: float | None, text: str) -> None:
    """Durations are in ms, tiny ones in µs, and no digit before the point is lost."""
    assert figures.milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, DASH),
        (512, "512 B"),
        (1024, "1.00 KB"),
        (98_304, "96.0 KB"),
        (1023.6 * 1024, "1.00 MB"),
        (3 * 2**20, "3.00 MB"),
    ],
)
def test_sizes_count_by_1024(value: float | None, text: str) -> None:
    """1 KB is 1024 bytes, 1 MB is 1024 KB."""
    assert figures.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, DASH),
        (0.9834, "98.3 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.9998, "99.98 %"),
        (0.0003, "0.03 %"),
        (0.5, "50.0 %"),
    ],
)
def test_percent_never_rounds_to_a_false_hundred(value: float | None, text: str) -> None:
    """One decimal, or more where one would claim perfection."""
    assert figures.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, DASH),
        (-0.003, f"{MINUS}0.3 pt"),
        (0.0041, "+0.4 pt"),
        (0.0, "0 pt"),
        (-0.0, "0 pt"),
        (-0.0003, f"{MINUS}0.03 pt"),
    ],
)
def test_points_carry_their_sign(value: float | None, text: str) -> None:
    """Differences are in percentage points with a real minus sign."""
    assert figures.points(value) == text


def test_ratios_counts_and_plain_differences() -> None:
    """Two digits for a factor, separators in a count, three digits for a number of unknown scale."""
    assert [figures.ratio(it) for it in (None, 2.149, 0.314, 12.4, 0.99)] == [
        DASH,
        *(f"{it}{TIMES}" for it in ("2.1", "0.31", "12", "0.99")),
    ]
    assert [figures.change(it) for it in (2.149, 0.5, 1.01, None)] == [
        f"2.1{TIMES} faster",
        f"2.0{TIMES} slower",
        "as fast",
        DASH,
    ]
    assert (figures.count(12345), figures.count(None), figures.difference(-0.00391)) == (
        "12,345",
        DASH,
        f"{MINUS}0.00391",
    )
    assert (figures.mebibytes(21.0), figures.megahertz(1500.0), figures.celsius(51.2)) == (
        "21.0 MB",
        "1,500 MHz",
        "51 °C",
    )


@pytest.mark.parametrize(
    ("name", "value", "unit", "text"),
    [
        ("max_p95_ms", 10.0, "", "10 ms"),
        ("max_p95_ms", 3.4812, "ms", "3.48 ms"),
        ("max_size_kb", 300, "kb", "300 KB"),
        ("max_size_kb", 305.178, "kb", "305 KB"),
        ("max_rss_mb", 64, "", "64 MB"),
        ("max_size_bytes", 2048, "", "2.00 KB"),
        ("max_drop", 0.005, "", "0.5 pt"),
        ("max_drop", 0.5, "pt", "0.5 pt"),
        ("max_drop", 2, "%", "2 %"),
        ("min_accuracy", 0.9, "", "90.0 %"),
        ("min_speedup", 1.5, "", f"1.5{TIMES}"),
        ("max_layers", 12, "layers", "12 layers"),
        ("max_p95_ms", None, "ms", DASH),
    ],
)
def test_limits_are_shown_in_their_own_unit(name: str, value: float | None, unit: str, text: str) -> None:
    """A limit is shown as typed, a measured value rounded, each in the unit given or told by the name."""
    assert figures.limit(name, value, unit) == text


def test_evenly_spaced_ticks_have_the_same_decimals() -> None:
    """Ticks of one axis line up."""
    assert figures.ticks((95.0, 95.25, 95.5)) == ("95.00", "95.25", "95.50")
    assert figures.ticks((0.5, 1.0, 2000.0), even=False) == ("0.5", "1", "2,000")


def test_axis_units_follow_the_largest_value() -> None:
    """Microseconds for the very fast, megabytes for the large."""
    assert (figures.latency_unit(0.05)[1], figures.latency_unit(3)[1]) == ("µs", "ms")
    assert (figures.size_unit(2048)[1], figures.size_unit(2**21)[1]) == ("KB", "MB")


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_every_figure_at_its_width(width: int) -> None:
    """No line is wider than the console, no figure is cut, and there are no colour codes outside of a terminal."""
    shown = comparison()
    text = printed(shown, width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "…" not in text
    for column in summary.columns(shown):
        assert column.title in text
        assert all(column.text(it) in text for it in shown.variants)
    assert "★  int8" in text
    assert "Ship int8: the fastest within the budget" in text
    assert "! only one board was measured" in text


def test_the_terminal_says_what_missed() -> None:
    """A failed gate is named, line by line, in words and figures."""
    text = printed(failed(), 100)
    assert "Nothing meets the limits: every variant misses a limit" in text
    assert "✗ int8: too slow at the 95th percentile" in text
    assert f"✗ float32: max size is {DASH}, allowed 300 KB" in text


def test_the_terminal_keeps_a_long_list_of_failures_short() -> None:
    """Of thirty failures twenty are printed and the rest counted."""
    misses = tuple(Failure(f"v{i}", "max_p95_ms", 1.0, 2.0, "ms", "too slow") for i in range(30))
    text = printed(comparison(choice=None, gate=Gate(False, {}, misses)), 100)
    assert text.count("too slow") == 20
    assert "and 10 more" in text


def test_an_ascii_terminal_gets_ascii() -> None:
    """Without Unicode the signs become ASCII instead of an error."""
    text = printed(comparison("int8", "größe"), 120, "ascii")
    assert "*  int8" in text
    assert "-0.3 pt" in text
    assert "2.5x" in text


def test_the_terminal_reads_no_markup_in_names() -> None:
    """A name with brackets and control characters is printed as text."""
    text = printed(comparison("[red]x[/red]", "a\x1b[31mb"), 120)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text


def test_the_terminal_cuts_a_very_long_name_but_no_figure() -> None:
    """The name gives way, the figures do not."""
    text = printed(comparison("n" * 500, "b"), 80)
    assert max(map(len, text.splitlines()[2:])) <= 80
    assert "3.00 ms" in text


def cells(row: str) -> list[str]:
    """The cells of a Markdown table row, escaped pipes left inside."""
    return re.split(r"(?<!\\)\|", row.strip())[1:-1]


def test_markdown_tables_have_as_many_cells_in_every_row() -> None:
    """Head, rule and every variant have as many cells as there are columns, hostile names or not."""
    shown = comparison(HOSTILE, "a|b", "float32")
    rows = [line for line in render_markdown(shown).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(shown.variants)
    assert {len(cells(row)) for row in rows} == {2 + len(summary.columns(shown))}


def test_markdown_cannot_be_injected() -> None:
    """Every angle bracket, pipe, backtick and bracket of a foreign string is escaped."""
    hostile = dataclasses.replace(comparison(HOSTILE, "b"), title=HOSTILE, caveats=(HOSTILE,), reason=HOSTILE)
    text = re.sub(r"</?sub>", "", render_markdown(hostile))
    assert "<" not in text
    assert not re.search(r"(?<!\\)[`\[\]]", text)
    assert "\x1b" not in text
    assert "\u2028" not in text


def test_markdown_says_verdict_gate_board_and_caveats() -> None:
    """What a reviewer needs is there."""
    text = render_markdown(comparison())
    assert "**Ship int8**: the fastest within the budget" in text
    assert "**Gate passed.** Limits: max drop 1 pt, max p95 10 ms, max size 300 KB." in text
    assert "- board: Some Board" in text
    assert "- only one board was measured" in text
    text = render_markdown(failed())
    assert "**Nothing meets the limits**" in text
    assert "**Gate failed.**" in text
    assert "- int8: too slow at the 95th percentile" in text


def test_the_page_asks_for_nothing_from_outside() -> None:
    """There is no address in the page but its own fragments, and the policy forbids the rest."""
    text = render_html(comparison())
    page = Page(text)
    loading = [
        (key, value) for _, found in page.tags for key, value in found.items() if key in {"src", "href", "srcset"}
    ]
    assert loading == [("href", "#caveats")]
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text.replace("http-equiv", ""))
    assert page.count("link") == page.count("img") == page.count("iframe") == 0
    policy = next(found["content"] for tag, found in page.tags if found.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:" in policy


def test_hostile_names_stay_text_on_the_page() -> None:
    """Names, labels, notes and messages cannot add a tag, an attribute or a script."""
    tame = Page(render_html(comparison("a", "b")))
    bad = comparison(HOSTILE, "b", title=HOSTILE, reason=HOSTILE, caveats=(HOSTILE,), measured_on={HOSTILE: HOSTILE})
    wild = Page(render_html(bad))
    assert {tag for tag, _ in wild.tags} == {tag for tag, _ in tame.tags}
    assert len(wild.scripts) == len(tame.scripts) == 2
    assert not any(key.startswith("on") for _, found in wild.tags for key in found)


def test_the_data_on_the_page_reads_back() -> None:
    """The JSON island gives back the names exactly and decimates the samples."""
    page = Page(render_html(comparison(HOSTILE, "b")))
    data = json.loads(page.scripts[0])
    assert data["variants"][0]["name"] == data["choice"] == HOSTILE
    assert data["variants"][0]["raw"]["size"] == 98_304
    assert [len(it["samples"]) for it in data["samples_ms"]] == [400, 400]


@pytest.mark.parametrize("text", ["</script>", "<!-- <script>", "\u2028\u2029", "&amp;", "\ud800"])
def test_json_for_a_script_is_inert_and_reads_back(text: str) -> None:
    """No character that means something to an HTML parser is left, and JSON gives the same text."""
    inert = script_json({text: [text, float("nan")]})
    assert not set(inert) & set("<>&\u2028\u2029")
    assert json.loads(inert) == {text: [text, None]}


def test_the_table_has_a_row_for_every_variant() -> None:
    """Rows equal variants; every column can be sorted by its raw value."""
    shown = comparison()
    page = Page(render_html(shown))
    assert page.count("th", scope="row", **{"data-value": "int8"}) == 1
    assert page.count("th", **{"aria-sort": "none"}) == 1 + len(summary.columns(shown))
    assert sum("data-value" in found for tag, found in page.tags if tag == "td") == 5 * len(summary.columns(shown))
    assert page.count("details") == 5
    assert page.count("tr", class_="chosen") == 1


def test_the_pictures_can_be_reached_by_keyboard() -> None:
    """Every bubble takes the focus and says its figures, in both layouts."""
    page = Page(render_html(comparison()))
    bubbles = [found for tag, found in page.tags if tag == "g" and "data-variant" in found]
    assert len(bubbles) == 2 * 5
    assert all(found["tabindex"] == "0" and "median" in (found["aria-label"] or "") for found in bubbles)


def test_the_page_tells_all_that_is_known_of_a_variant() -> None:
    """Latency split, board, parity, fingerprints and notes are on the page."""
    text = Page(render_html(comparison())).text
    for fact in (
        "12.0 ms",
        "5.40 ms",
        "3.40 ms over 20",
        "Some Board",
        "51 °C",
        "9f" * 32,
        "a note",
        "0.0039",
        "XNNPACK",
    ):
        assert fact in text
    assert "Ship int8" in text
    assert "Limits: max drop 1 pt, max p95 10 ms, max size 300 KB." in text


def test_the_page_says_that_nothing_meets_the_limits() -> None:
    """A failed gate is the headline, and its table shows limit and value."""
    text = Page(render_html(failed())).text
    assert "Nothing meets the limits" in text
    assert "Failed." in text
    assert "3.48 ms" in text
    assert "too slow at the 95th percentile" in text


def test_without_accuracy_the_picture_shows_size() -> None:
    """The page says so, and the axis is a size."""
    bare = tuple(dataclasses.replace(it, accuracy=None, drop=None, agreement=None) for it in comparison().variants)
    text = Page(render_html(comparison(variants=bare))).text
    assert "Accuracy was not measured: the picture shows size instead." in text
    assert "Size (KB)" in text


def test_without_latency_the_picture_shows_size() -> None:
    """No report, no latency: accuracy stands over size, and the second picture is left out."""
    bare = tuple(dataclasses.replace(it, median_ms=None, p95_ms=None, speedup=None) for it in comparison().variants)
    text = Page(render_html(comparison(variants=bare, reports=()))).text
    assert "Latency was not measured: the picture shows size instead." in text
    assert "How steady" not in text


def test_a_variant_that_lacks_a_figure_is_named_below_the_picture() -> None:
    """Nothing goes missing silently."""
    first, *rest = comparison().variants
    text = Page(render_html(comparison(variants=(dataclasses.replace(first, accuracy=None), *rest)))).text
    assert "Not drawn, for want of a figure: int8." in text


@pytest.mark.parametrize(
    "shown",
    [
        Comparison("", (), (), None, "", Gate(True)),
        Comparison("t", (ComparedVariant("only", 1, 0, 0),), (), None, "", Gate(True)),
        comparison("one"),
        comparison("x" * 5000, "y" * 5000),
        comparison("same", "same"),
        dataclasses.replace(comparison("a"), reports=(("a", BenchmarkReport()), ("gone", report(0.01, 3)))),
        dataclasses.replace(comparison("a"), reports=(("a", report(2, 10)), ("a", report(300, 10)))),
        dataclasses.replace(comparison("a"), evaluations=(evaluation("a", 120),)),
        dataclasses.replace(comparison("a"), variants=(variant("a", accuracy=0.0, median_ms=0.0, peak_rss_mb=None),)),
    ],
    ids=["nothing", "bare", "single", "long", "twins", "empty report", "two boards", "many classes", "zeroes"],
)
def test_every_renderer_copes_with_what_is_missing(shown: Comparison) -> None:
    """Empty, bare, twinned or huge: there is a page, a document and a print-out."""
    assert Page(render_html(shown)).count("h1") == 1
    assert render_markdown(shown).endswith("\n")
    assert printed(shown, 80)


def test_thirty_variants_stay_under_the_size_promised() -> None:
    """Five variants with 2,000 samples each stay below 150 KB, thirty below 1 MB."""
    assert len(render_html(comparison()).encode()) < 150 * 1024
    assert len(render_html(comparison(*(f"v{i}" for i in range(30)))).encode()) < 1024 * 1024


def test_labels_in_the_picture_do_not_overlap() -> None:
    """With thirty variants the names that are drawn stay apart, at both widths."""
    draw = random.Random(5)
    many = tuple(
        variant(f"variant-{i}", i, draw.uniform(1, 50), accuracy=draw.uniform(0.9, 0.97), size_bytes=20_000 * (i + 1))
        for i in range(30)
    )
    for width in (400, 860):
        picture = pictures.trade_off(comparison("variant-0", variants=many), width, 420)
        assert picture is not None
        boxes = [bubble.label.box for bubble in picture.bubbles if bubble.label]
        assert len(boxes) + picture.unlabelled == 30
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_a_missing_jinja2_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to type."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgekit\[report\]'"):
        render_html(comparison())


def test_importing_the_package_loads_neither_rich_nor_jinja2() -> None:
    """A clean interpreter proves it."""
    code = "import sys, edgekit.render as r; print(r.__all__, 'rich' in sys.modules, 'jinja2' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "['render_html', 'render_markdown', 'render_text'] False False"
