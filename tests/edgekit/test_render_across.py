"""Boards and targets side by side in the terminal, in Markdown and on a page: a label beside every figure, for any string."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import pytest
from edgekit_converters.targets.records import (
    COMPILED,
    EXECUTED,
    MODELLED,
    PREDICTED,
    Estimate,
    LayerFigure,
    MappingCheck,
    OpPlacement,
    TargetReport,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import compare
from edgekit.records import Comparison, TargetLine, Variant
from edgekit.render import figures, render_html, render_markdown
from edgekit.render.across import across_title, is_across, latency_text, operators_text, places
from edgekit.render.placement import placements
from edgekit.store import RunStore
from tests.edgekit.any_reports import NUMBERS, TEXTS
from tests.edgekit.test_render import DASH, HOSTILE, Page, cells, comparison, printed

RULES, VELA, TFLM = "edgekit's rules for edgetpu_compiler 16", "ethos-u-vela 5.2.0", "tflite-micro"
BOARD = TargetLine(
    "int8",
    "Pi 4",
    "measured",
    "litert 2.3.0",
    4.213,
    4.2,
    4.3,
    "measured",
    memory_bytes=22 << 20,
    memory_kind="peak RSS",
)
EMULATED = TargetLine("int8", "Pi 5 (emulated)", EXECUTED, "litert 2.3.0", note="emulated by qemu: no latency")
CORAL = TargetLine(
    "int8",
    "coral",
    PREDICTED,
    RULES,
    2.9,
    1.8,
    6.0,
    "estimated",
    on_target=62,
    operators=64,
    subgraphs=1,
    memory_bytes=1 << 20,
    memory_kind="on chip",
    streamed_bytes=3 << 20,
)
REFUSED = TargetLine(
    "float32", "coral", PREDICTED, RULES, operators=64, on_target=0, refusal="float", remedy="use int8"
)
ETHOS = TargetLine(
    "int8",
    "ethos-u55-128",
    MODELLED,
    VELA,
    5.23,
    latency_basis="modelled",
    on_target=64,
    operators=64,
    subgraphs=2,
    memory_bytes=300 << 10,
    memory_kind="SRAM",
    flash_bytes=96 << 10,
    file="targets/ethos-u55-128/int8/int8_vela.tflite",
)
MICRO = TargetLine(
    "int8", "micro", EXECUTED, TFLM, on_target=64, operators=64, memory_bytes=58 << 10, memory_kind="arena"
)
LINES = (BOARD, EMULATED, CORAL, REFUSED, ETHOS, MICRO)

OPS = (
    *(OpPlacement(index, "CONV_2D", "edgetpu") for index in range(3)),
    OpPlacement(3, "RESIZE_BILINEAR", "cpu", "Resize is too large", "make it smaller", "up_1"),
    OpPlacement(4, "TILE", "cpu", "Operation not supported", "use Resizing", "up_2"),
    OpPlacement(5, "CONV_2D", "cpu", "More than one subgraph is not supported"),
    OpPlacement(6, "TILE", "cpu", "Operation not supported", "use Resizing", "up_3"),
)
SAID = TargetReport(
    "coral",
    "edgetpu",
    PREDICTED,
    RULES,
    OPS,
    1,
    3,
    4,
    3,
    min_runtime=14,
    cached_bytes=1 << 20,
    streamed_bytes=3 << 20,
    estimate=Estimate(2.9, 1.8, 6.0, "cycles at 500 MHz"),
    warnings=("a warning",),
)
MODEL = TargetReport(
    "ethos-u55-128",
    "ethos-u",
    MODELLED,
    VELA,
    tuple(OpPlacement(index, "CONV_2D", "ethos-u") for index in range(64)),
    2,
    64,
    memory={"sram_bytes": 300 << 10},
    figures={"cycles_total": 201795.0, "nothing": 0.0, "tops": 0.06197},
    layers=(LayerFigure("conv_1", "CONV_2D", "ethos-u", {"cycles": 1234.0, "network_share": 0.25}),),
    mapping_check=MappingCheck(64),
)


def shown(*lines: TargetLine, **changes: object) -> Comparison:
    """A comparison with these lines, or all of them."""
    reports = (("int8", SAID), ("int8", MODEL))
    return comparison("int8", "float32", across=lines or LINES, target_reports=reports, **changes)


def outputs(made: Comparison) -> dict[str, str]:
    """The comparison in every dress, as text."""
    texts = {f"terminal at {width}": printed(made, width) for width in (60, 80, 200)}
    return {**texts, "Markdown": render_markdown(made).replace("\\", ""), "page": Page(render_html(made)).text}


def test_a_latency_is_shown_with_what_it_is() -> None:
    """Measured to three digits, known by its bounds to two, and in words where there is none."""
    assert [latency_text(line) for line in LINES] == [
        "4.21 ms measured",
        DASH,
        "2.9 ms (1.8 to 6.0) estimated",
        "refused",
        "5.23 ms modelled",
        DASH,
    ]


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((2.9, 1.8, 6.0), "2.9 ms (1.8 to 6.0)"),
        ((0.2, 0.05, 1.0), "0.20 ms (0.050 to 1.0)"),
        ((100.4, 40.0, 1000.0), "100 ms (40 to 1,000)"),
        ((0.05, 0.04, 0.06), "50 µs (40 to 60)"),
    ],
)
def test_bounds_have_two_digits_and_the_unit_once(bounds: tuple[float, float, float], text: str) -> None:
    """Where all three have the same."""
    assert figures.milliseconds_within(*bounds) == text


def test_operators_are_counted_in_words() -> None:
    """All or so many, and pieces where the target has any."""
    assert [operators_text(line) for line in (BOARD, CORAL, REFUSED, ETHOS, MICRO)] == [
        DASH,
        "62 of 64 operators, 1 piece",
        DASH,
        "all 64 operators, 2 pieces",
        "all 64 operators",
    ]


@pytest.mark.parametrize("where", list(outputs(shown())))
def test_every_figure_is_labelled_everywhere(where: str) -> None:
    """Whatever was not measured is followed by its label, in every dress; the label column and the legend say it too."""
    text = " ".join(outputs(shown())[where].split())
    for figure in (
        "4.21 ms measured",
        "2.9 ms (1.8 to 6.0) estimated",
        "5.23 ms modelled",
        "300 KB SRAM modelled",
        "1.00 MB on chip predicted",
        "22.0 MB peak RSS",
        "58.0 KB arena",
    ):
        assert figure in text
    unlabelled = re.sub(r"(2\.9 ms \(1\.8 to 6\.0\) estimated|5\.23 ms modelled)", "", text)
    assert "2.9 ms" not in unlabelled
    assert "5.23" not in unlabelled
    assert re.search(r"96\.0 KB( in flash)? modelled", text)
    assert "coral refuses float32: float. Use int8" in text
    assert "int8 on coral: 3.00 MB of parameters are sent at every inference (predicted)" in text
    assert "Figures of different kinds are not held against each other" in text
    for said in (RULES, VELA, TFLM):
        assert said in text
    for word in ("measured: on", "estimated: computed", "modelled: computed", "predicted: by", "executed: by"):
        assert word in text
    assert "compiled: read" not in text


def test_what_was_compiled_is_not_called_computed() -> None:
    """What the compiler's file says of memory bears no such label."""
    text = printed(shown(BOARD, replace(CORAL, basis=COMPILED)), 200)

    assert "1.00 MB on chip" in text
    assert "on chip predicted" not in text
    assert "compiled: read from what the target's compiler made" in text


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), False),
        ((BOARD,), False),
        ((BOARD, replace(BOARD, variant="float32")), False),
        ((EMULATED,), False),
        ((BOARD, replace(BOARD, target="Pi 5")), True),
        ((BOARD, EMULATED), True),
        ((CORAL,), True),
        ((BOARD, MICRO), True),
    ],
)
def test_the_table_is_shown_where_it_says_more(lines: tuple[TargetLine, ...], expected: bool) -> None:
    """One board alone is what the table of the variants shows already."""
    made = comparison("int8", "float32", across=lines)

    assert is_across(made) == expected
    assert {
        ("Figures of different" in text or "measured: on the board" in text) for text in outputs(made).values()
    } == {expected}


def test_the_title_says_whether_anything_was_measured() -> None:
    """A table of predictions alone does not pass for more."""
    assert across_title(shown()) == "Across targets"
    assert across_title(shown(CORAL)) == "On targets nobody measured on"


def test_lines_of_one_place_stand_together_with_what_said_them() -> None:
    """Once where it is the same for all, else by variant."""
    other = replace(BOARD, variant="float32", said_by="tflite-runtime 2.14")

    assert [
        (place.title, len(place.lines), place.said_by) for place in places(shown(BOARD, other, CORAL, REFUSED))
    ] == [
        ("Pi 4", 2, "int8 by litert 2.3.0; float32 by tflite-runtime 2.14"),
        ("coral", 2, RULES),
    ]


def test_variants_refused_alike_are_named_together() -> None:
    """The first three, and how many more."""
    lines = [replace(REFUSED, variant=f"v{number}") for number in range(5)]

    assert "coral refuses v0, v1, v2 and 2 more: float. Use int8" in printed(shown(*lines), 200)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_terminal_cuts_no_figure_at_any_width(width: int) -> None:
    """A table where it fits, else sentences."""
    text = printed(shown(), width)
    table = text[text.index("Across targets") :]

    assert max(map(len, table.splitlines())) <= width
    assert "…" not in table
    assert ("int8     predicted" in table) == (width >= 120)


def test_an_ascii_terminal_gets_ascii() -> None:
    """Also in the table of the targets."""
    text = printed(shown(), 200, "ascii")

    assert "! coral refuses float32" in text
    assert "2.9 ms (1.8 to 6.0) estimated" in text


def hostile() -> Comparison:
    """Every string of every line and report is somebody's attack."""
    line = replace(
        CORAL,
        **dict.fromkeys(("variant", "target", "said_by", "memory_kind", "remedy", "file", "note"), HOSTILE),
    )
    refused = replace(
        line, latency_ms=None, latency_low_ms=None, latency_high_ms=None, latency_basis="", refusal=HOSTILE
    )
    op = OpPlacement(0, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    layer = LayerFigure(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: 1.0})
    said = replace(
        SAID,
        name=HOSTILE,
        said_by=HOSTILE,
        ops=(op, replace(op, index=1, placement="cpu")),
        first_off_target=0,
        estimate=Estimate(2.9, 1.8, 6.0, HOSTILE),
        memory={HOSTILE: 1},
        figures={HOSTILE: 1.0},
        layers=(layer,),
        warnings=(HOSTILE,),
    )
    return comparison("int8", "float32", across=(line, refused, BOARD), target_reports=((HOSTILE, said),))


def test_hostile_strings_are_text_everywhere() -> None:
    """No control character, no markup and no tag comes through, and the page still nests."""
    made = hostile()
    page, markdown = Page(render_html(made)), re.sub(r"</?sub>|<br>", "", render_markdown(made))

    assert "\x1b" not in printed(made, 200) + markdown + page.text
    assert "<" not in markdown
    assert not re.search(r"(?<!\\)[`\[\]]", markdown)
    assert page.count("img") == 0
    assert page.count("script") == 2
    assert page.count("details") == len(made.variants) + 2


def test_markdown_rows_have_as_many_cells_as_their_head() -> None:
    """Hostile names or not."""
    for made in (shown(), hostile()):
        text = render_markdown(made)
        rows = [line for line in text[text.index("### ") :].splitlines() if line.startswith("|")]

        assert len(rows) == 2 + len(made.across)
        assert len({len(cells(row)) for row in rows}) == 1


def test_the_page_has_a_row_for_each_line_below_its_place() -> None:
    """And the cells of each make a whole row."""
    page = Page(render_html(shown()))

    assert page.count("th", scope="rowgroup") == 5
    assert page.count("tr", class_="refused") == 1
    assert [page.count("span", class_=f"tag {kind}") for kind in ("sure", "computed")] == [1, 5]


def test_the_page_says_what_keeps_operators_off_the_accelerator() -> None:
    """By reason, the most frequent first, with the layers and what to type; then where the model runs, stretch by stretch."""
    coral, ethos = placements(shown())

    assert (coral.name, coral.summary) == ("int8 on coral", "62 of 64 operators, 1 piece; predicted")
    assert [(it.reason, it.operators, it.remedies) for it in coral.causes] == [
        ("Operation not supported", "4 TILE (up_2), 6 TILE (up_3)", ("use Resizing",)),
        ("Resize is too large", "3 RESIZE_BILINEAR (up_1)", ("make it smaller",)),
        ("More than one subgraph is not supported", "5 CONV_2D", ()),
    ]
    assert coral.runs == (
        ("0 to 2", "Edge TPU", "3 CONV_2D"),
        ("3 to 6", "processor", "2 TILE, RESIZE_BILINEAR, CONV_2D"),
    )
    assert dict(coral.facts) == {
        "said by": RULES,
        "latency": "2.9 ms (1.8 to 6.0) estimated: cycles at 500 MHz",
        "the chain breaks at": "3 RESIZE_BILINEAR (up_1)",
        "needs Edge TPU runtime": "14 or newer",
        "parameters on chip": "1.00 MB predicted",
        "sent at every inference": "3.00 MB predicted",
    }
    assert coral.warnings == ("a warning",)
    assert (ethos.causes, ethos.runs) == ((), (("0 to 63", "Ethos-U", "64 CONV_2D"),))
    assert ethos.layer_head == ("layer", "operator", "on", "cycles modelled", "network share modelled")
    assert ethos.layers == (("conv_1", "CONV_2D", "Ethos-U", "1,234", "25.0 %"),)
    facts = dict(ethos.facts)
    assert (facts["memory, sram"], facts["cycles total"], facts["tops"]) == (
        "300 KB modelled",
        "201,795 modelled",
        "0.062 modelled",
    )
    assert "nothing" not in facts
    assert list(facts)[2:5] == ["memory, sram", "cycles total", "tops"]
    assert facts["predicted as the compiler did"] == "64 operators"
    text = " ".join(Page(render_html(shown())).text.split())
    assert "Operation not supported 4 TILE (up_2), 6 TILE (up_3) use Resizing" in text.replace(
        "supported4", "supported 4"
    ).replace(")use", ") use")


def test_a_refusal_is_told_in_the_details_too() -> None:
    """With what to do instead, and no latency."""
    refusal = replace(SAID, ops=(), refusal="float", remedy="use int8", on_target=0)
    made = comparison("float32", across=(REFUSED,), target_reports=(("float32", refusal),))

    [found] = placements(made)

    assert found.summary == "refused; predicted"
    assert (dict(found.facts)["refused"], dict(found.facts)["instead"]) == ("float", "use int8")
    assert "latency" not in dict(found.facts)


def test_a_long_model_is_summed_up() -> None:
    """Hundreds of reasons, stretches and figures keep the page short; what is left out is counted."""
    ops = tuple(OpPlacement(i, f"OP_{i}", "cpu" if i % 2 else "edgetpu", f"reason {i}") for i in range(500))
    long = replace(SAID, ops=ops, figures={f"figure_{i}": float(i) for i in range(1, 100)})
    many = replace(long, ops=tuple(replace(op, reason="one") for op in ops))

    made = [placements(comparison("int8", across=(CORAL,), target_reports=(("int8", it),)))[0] for it in (long, many)]

    assert (len(made[0].causes), made[0].causes_left, len(made[0].runs)) == (40, 210, 60)
    assert made[1].causes[0].operators.endswith(" and 242 more")
    assert dict(made[0].facts)["more"] == "89 figures in report.json"


ANY_OP = st.fixed_dictionaries(
    {"index": st.integers(-3, 500), "type": TEXTS, "placement": st.sampled_from(["cpu", "edgetpu", "micro", HOSTILE])},
    optional={"reason": TEXTS, "remedy": TEXTS, "layer": TEXTS},
)
ANY_LAYER = st.fixed_dictionaries(
    {"name": TEXTS, "type": TEXTS, "placement": TEXTS, "figures": st.dictionaries(TEXTS, NUMBERS, max_size=3)}
)
ANY_REPORT = st.fixed_dictionaries(
    {
        "name": st.just("coral"),
        "kind": st.sampled_from(["edgetpu", "cpu", "micro", "ethos-u", "?"]),
        "basis": st.sampled_from(["predicted", "compiled", "modelled", "executed", "measured"]),
        "model_sha256": st.just(hashlib.sha256(b"m").hexdigest()),
    },
    optional={
        **dict.fromkeys(("said_by", "refusal", "remedy"), TEXTS),
        **dict.fromkeys(("subgraphs", "on_target", "first_off_target", "cached_bytes", "streamed_bytes"), NUMBERS),
        "ops": st.lists(ANY_OP, max_size=4),
        "estimate": st.fixed_dictionaries({"latency_ms": NUMBERS}, optional={"low_ms": NUMBERS, "high_ms": NUMBERS}),
        "memory": st.dictionaries(st.sampled_from(["sram", "arena", "model", HOSTILE]), st.integers(-5, 2**70)),
        "figures": st.dictionaries(TEXTS, NUMBERS, max_size=3),
        "layers": st.lists(ANY_LAYER, max_size=2),
        "warnings": st.lists(TEXTS, max_size=2),
    },
)


@settings(max_examples=30, deadline=None)
@given(raw=ANY_REPORT)
def test_whatever_lies_in_a_run_is_shown_or_left_out(
    raw: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any JSON of a report's shape, in every dress: no traceback, no control character, a page that nests."""
    store = RunStore.create(tmp_path_factory.mktemp("any"))
    digest = hashlib.sha256(b"m").hexdigest()
    store.save_variant(Variant("int8", "int8", sha256=digest, size_bytes=1), b"m")
    (store.target_folder("coral") / "int8.json").write_text(json.dumps(raw))

    made = compare(store)

    assert [line.latency_basis for line in made.across] in ([], [""], ["estimated"], ["modelled"])
    assert "\x1b" not in printed(made, 40) + render_markdown(made) + Page(render_html(made)).text
