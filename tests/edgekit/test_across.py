"""Boards and targets side by side: no figure without what it is, and nothing computed between measured and modelled ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from edgekit_converters.targets.records import (
    COMPILED,
    EXECUTED,
    MODELLED,
    PREDICTED,
    Estimate,
    MappingCheck,
    OpPlacement,
    TargetReport,
)
from edgekit_device import BenchmarkReport
from edgekit_device.report import BoardFacts, LatencyFacts, MemoryFacts, ModelFacts, RuntimeFacts

from edgekit import compare
from edgekit.records import Comparison, Evaluation, TargetLine, Variant
from edgekit.store import RunStore
from tests.conftest import Cli

FILES = {"float32": b"float" * 400, "int8": b"int8" * 100}
RUNTIME = RuntimeFacts("litert", "2.3.0", "xnnpack", 4)
PI4, PI5 = BoardFacts(model="Pi 4", id="aaaaaaaaaa"), BoardFacts(model="Pi 5", id="bbbbbbbbbb")
EDGETPU_OPS = (OpPlacement(0, "CONV_2D", "edgetpu"), OpPlacement(1, "TILE", "cpu", "not supported", "use Resizing"))


def sha256(content: bytes) -> str:
    """As a variant's record has it."""
    return hashlib.sha256(content).hexdigest()


def save(store: RunStore, name: str, content: bytes, **facts: Any) -> Variant:
    """A variant of ``content``."""
    made = Variant(name, name, sha256=sha256(content), size_bytes=len(content), source={"sha256": "s"}, **facts)
    return store.save_variant(made, content)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run with float32 and int8, both evaluated."""
    made = RunStore.create(tmp_path / "run")
    for name, content in FILES.items():
        save(made, name, content)
        made.save_evaluation(Evaluation(name, 10_000, 0.98, data_sha256="d", model_sha256=sha256(content)))
    return made


def report(name: str, median_ms: float | None = 2.0, board: BoardFacts = PI4, **changes: Any) -> BenchmarkReport:
    """What ``board`` measured of a variant of the run."""
    latency = LatencyFacts(21, median_ms=median_ms, median_low_ms=median_ms, median_high_ms=median_ms)
    made = BenchmarkReport(
        id=hashlib.sha256(repr((name, median_ms, board, changes)).encode()).hexdigest()[:32],
        model=ModelFacts(sha256(FILES[name])),
        latency=latency if median_ms is not None else LatencyFacts(),
        runtime=RUNTIME,
        memory=MemoryFacts(20.0),
        board=board,
    )
    return replace(made, **changes)


def said(variant: str = "int8", **changes: Any) -> TargetReport:
    """What a coral target makes of a variant of the run."""
    made = TargetReport(
        "coral", "edgetpu", PREDICTED, "rules", EDGETPU_OPS, 1, 1, 1, 1, model_sha256=sha256(FILES[variant])
    )
    return replace(made, **changes)


def figures(line: TargetLine) -> dict[str, Any]:
    """What a line says of latency."""
    names = ("latency_ms", "latency_low_ms", "latency_high_ms", "latency_basis")
    return {name: value for name in names if (value := getattr(line, name))}


def by_place(comparison: Comparison) -> dict[tuple[str, str], TargetLine]:
    """The lines of a comparison by place and variant."""
    return {(line.target, line.variant): line for line in comparison.across}


# -- a figure and its label ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("basis", "latency_basis"),
    [
        ("measured", "measured"),
        (MODELLED, "modelled"),
        (PREDICTED, "estimated"),
        (COMPILED, "estimated"),
        (EXECUTED, "estimated"),
    ],
)
def test_a_latency_stands_with_its_label(basis: str, latency_basis: str) -> None:
    """Of each kind of line, those latencies that it can have."""
    line = TargetLine("int8", "x", basis, latency_ms=1.0, latency_basis=latency_basis)

    assert (line.latency_ms, line.latency_basis) == (1.0, latency_basis)


@pytest.mark.parametrize(
    ("basis", "wrong"),
    [
        ("measured", {"latency_ms": 1.0}),
        ("measured", {"latency_ms": 1.0, "latency_basis": "guessed"}),
        ("measured", {"latency_basis": "measured"}),
        ("measured", {"latency_ms": 1.0, "latency_basis": "modelled"}),
        ("measured", {"latency_ms": 1.0, "latency_basis": "estimated"}),
        (MODELLED, {"latency_ms": 1.0, "latency_basis": "measured"}),
        (PREDICTED, {"latency_ms": 1.0, "latency_basis": "measured"}),
        (COMPILED, {"latency_ms": 1.0, "latency_basis": "measured"}),
        (EXECUTED, {"latency_ms": 1.0, "latency_basis": "measured"}),
        (PREDICTED, {"latency_low_ms": 1.0, "latency_high_ms": 2.0}),
        (PREDICTED, {"latency_low_ms": 1.0, "latency_basis": "estimated"}),
        (MODELLED, {"latency_ms": 0.0, "latency_basis": "modelled"}),
        (MODELLED, {"latency_ms": float("nan"), "latency_basis": "modelled"}),
        (MODELLED, {"latency_ms": 1.0, "latency_high_ms": float("inf"), "latency_basis": "modelled"}),
        (MODELLED, {"memory_bytes": 1}),
    ],
)
def test_a_figure_without_its_label_cannot_be_built(basis: str, wrong: Mapping[str, Any]) -> None:
    """Nor one under a label that is not its own."""
    with pytest.raises(ValueError, match=r"expected|cannot stand"):
        TargetLine("int8", "x", basis, **wrong)


# -- boards ----------------------------------------------------------------------------------------------------------


def test_each_board_that_measured_a_variant_has_a_line(store: RunStore) -> None:
    """The report that is shown and, of another board, the newest of the history; all of them measured."""
    store.save_report("int8", report("int8", 9.0, PI5), received="2026-01-01T00:00:00Z")
    store.save_report("int8", report("int8", 1.5, PI5), received="2026-01-02T00:00:00Z")
    store.save_report("int8", report("int8", 4.0, PI4), received="2026-01-03T00:00:00Z")
    store.save_report("float32", report("float32", 8.0, PI4), received="2026-01-03T00:00:00Z")

    lines = by_place(compare(store))

    assert {place: line.latency_ms for place, line in lines.items()} == {
        ("Pi 4", "int8"): 4.0,
        ("Pi 4", "float32"): 8.0,
        ("Pi 5", "int8"): 1.5,
    }
    assert {(line.basis, line.latency_basis, line.said_by) for line in lines.values()} == {
        ("measured", "measured", "litert 2.3.0, xnnpack, 4 threads")
    }
    assert (lines["Pi 4", "int8"].memory_bytes, lines["Pi 4", "int8"].memory_kind) == (20 * 1024**2, "peak RSS")


def test_a_line_says_what_the_table_of_the_variants_says(store: RunStore) -> None:
    """Of the board of the report that is shown, that report: a later one of tuning, which lies in the history, is another."""
    store.save_report("int8", report("int8", 4.0), received="2026-01-01T00:00:00Z")
    store.keep_report("int8", report("int8", 1.0), "2026-02-01T00:00:00Z")

    found = compare(store)

    assert [line.latency_ms for line in found.across] == [4.0]
    assert [line.median_ms for line in found.variants if line.name == "int8"] == [4.0]


def test_boards_of_one_model_are_told_apart(store: RunStore) -> None:
    """By the id they say of themselves."""
    store.save_report("int8", report("int8", 5.0, replace(PI4, id="cccccccccc")), received="2026-01-01T00:00:00Z")
    store.save_report("int8", report("int8", 4.0, PI4), received="2026-01-02T00:00:00Z")

    assert {line.target: line.latency_ms for line in compare(store).across} == {
        "Pi 4 (aaaaaa)": 4.0,
        "Pi 4 (cccccc)": 5.0,
    }


def test_what_was_measured_of_another_file_is_not_shown(store: RunStore) -> None:
    """Nor what the history holds that is no report."""
    store.save_report("int8", report("int8", 4.0, model=ModelFacts("0" * 64)))
    for number, content in enumerate(["{", "[]", '{"report": 3}', '{"report": {"model": {"sha256": 1}}}']):
        (store.folder / "history" / f"{number:032x}.json").write_text(content)
    raw = {"variant": ["int8"], "received": 1, "report": {"model": {"sha256": sha256(FILES["int8"])}}}
    (store.folder / "history" / f"{9:032x}.json").write_text(json.dumps(raw))

    assert compare(store).across == ()


def test_an_emulated_board_has_no_latency(store: RunStore) -> None:
    """Whatever its report says: it ran, and nothing was measured."""
    emulated = replace(PI4, emulator="qemu-aarch64")
    store.save_report("int8", report("int8", 4.0, emulated))

    [line] = compare(store).across

    assert (line.target, line.basis, line.memory_bytes, figures(line)) == ("Pi 4 (emulated)", "executed", None, {})
    assert line.note == "emulated by qemu-aarch64: no latency"


@pytest.mark.parametrize("median_ms", [0.0, 1e300, -1.0])
def test_a_time_nothing_can_take_is_left_out(store: RunStore, median_ms: float) -> None:
    """The line stays, without a latency."""
    store.save_report("int8", report("int8", median_ms))

    [line] = compare(store).across

    assert figures(line) == {}


# -- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"estimate": Estimate(2.9, 1.8, 6.0)},
            {"latency_ms": 2.9, "latency_low_ms": 1.8, "latency_high_ms": 6.0, "latency_basis": "estimated"},
        ),
        ({"basis": COMPILED, "estimate": Estimate(2.9)}, {"latency_ms": 2.9, "latency_basis": "estimated"}),
        ({"basis": MODELLED, "estimate": Estimate(0.4)}, {"latency_ms": 0.4, "latency_basis": "modelled"}),
        ({"basis": MODELLED, "estimate": Estimate(0.4, 0.1)}, {"latency_ms": 0.4, "latency_basis": "modelled"}),
        ({"basis": EXECUTED}, {}),
        ({"estimate": Estimate(float("inf"))}, {}),
        ({"estimate": Estimate(1e12)}, {}),
        ({"estimate": Estimate(-1.0)}, {}),
        ({"estimate": Estimate(2.9, 0.0, 6.0)}, {"latency_ms": 2.9, "latency_basis": "estimated"}),
        ({"estimate": Estimate(2.9), "refusal": "float"}, {}),
    ],
)
def test_a_target_s_latency_is_never_called_measured(
    store: RunStore, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    """It is modelled where the tool has a model of the chip, else estimated; where the target refuses there is none."""
    store.save_target_report("int8", said(**changes))

    [line] = compare(store).across

    assert figures(line) == expected


def test_a_line_has_what_the_target_said(store: RunStore) -> None:
    """Operators, pieces, memory by what it is of, and where the compiler did not do as predicted."""
    store.save_target_report(
        "int8",
        said(basis=COMPILED, cached_bytes=10, streamed_bytes=20, mapping_check=MappingCheck(5, (1,), (2, 3))),
    )
    micro = {"name": "micro", "kind": "micro", "basis": EXECUTED, "subgraphs": 0}
    store.save_target_report("int8", said(**micro, memory={"model": 400, "arena": 2048, "arena_head": 1}))
    ethos = {"name": "ethos-u65", "kind": "ethos-u", "basis": MODELLED}
    store.save_target_report("int8", said(**ethos, memory={"sram_bytes": 5, "off_chip_flash": 7}))
    (store.target_folder("ethos-u65") / "int8").mkdir()
    (store.target_folder("ethos-u65") / "int8" / "int8_vela.tflite").write_bytes(b"x")

    lines = {line.target: line for line in compare(store).across}

    assert lines["coral"] == TargetLine(
        variant="int8",
        target="coral",
        basis=COMPILED,
        said_by="rules",
        on_target=1,
        operators=2,
        subgraphs=1,
        memory_bytes=10,
        memory_kind="on chip",
        streamed_bytes=20,
        note="the rules had said otherwise of 3 operators",
    )
    facts = [(it.memory_bytes, it.memory_kind, it.flash_bytes, it.subgraphs, it.file) for it in lines.values()]
    assert facts[1:] == [
        (5, "SRAM", 7, 1, "targets/ethos-u65/int8/int8_vela.tflite"),
        (2048, "arena", 400, None, ""),
    ]


def test_boards_come_before_targets_and_the_best_variant_first(store: RunStore) -> None:
    """In each place the variants stand as the comparison ranks them."""
    for name, median_ms in (("float32", 8.0), ("int8", 2.0)):
        store.save_report(name, report(name, median_ms))
        store.save_target_report(name, said(name))

    assert [(line.target, line.variant) for line in compare(store).across] == [
        ("Pi 4", "int8"),
        ("Pi 4", "float32"),
        ("coral", "int8"),
        ("coral", "float32"),
    ]


# -- what is not computed --------------------------------------------------------------------------------------------


def test_nothing_is_ranked_or_chosen_by_what_was_not_measured(store: RunStore) -> None:
    """A modelled latency a thousand times shorter changes no rank, ratio, choice, front, gate or word of the reason."""
    store.save_report("int8", report("int8", 2.0))
    before = compare(store)
    for name, latency_ms in (("float32", 0.0001), ("int8", 500.0)):
        store.save_target_report(name, said(name, basis=MODELLED, estimate=Estimate(latency_ms)))
        store.save_target_report(name, said(name, name="coral-usb", estimate=Estimate(latency_ms)))
    after = compare(store)

    apart = {"across": (), "target_reports": (), "created": ""}
    assert len(after.across) == 5
    assert replace(after, **apart) == replace(before, **apart)  # type: ignore[arg-type]
    assert [line.median_ms for line in after.variants if line.name == "float32"] == [None]


def test_reports_of_other_variants_are_left_out_where_some_are_named(store: RunStore) -> None:
    """A comparison of one variant shows the targets of that one."""
    for name in FILES:
        store.save_target_report(name, said(name))

    found = compare(store, variants=["int8"])

    assert [line.variant for line in found.across] == ["int8"]
    assert [name for name, _ in found.target_reports] == ["int8"]


# -- what does not hold any more -------------------------------------------------------------------------------------


def test_a_report_of_a_file_that_was_converted_anew_is_a_caveat(store: RunStore) -> None:
    """It is not shown, and what shows it again is said."""
    for name in FILES:
        store.save_target_report(name, said(name))
    save(store, "int8", b"another")

    found = compare(store)

    assert [line.variant for line in found.across] == ["float32"]
    assert (
        "what coral made of another int8 is left out: edgekit compile RUN --target coral, or convert with --target, looks again"
        in found.caveats
    )


def test_an_old_run_compares_as_ever(store: RunStore) -> None:
    """Without reports or targets there is nothing beside the variants."""
    found = compare(store)

    assert (found.across, found.target_reports) == ((), ())
    assert not [caveat for caveat in found.caveats if "left out" in caveat]


# -- compiled variants -----------------------------------------------------------------------------------------------


def test_a_compiled_variant_takes_part_once_it_is_measured(store: RunStore) -> None:
    """Before that it is neither ranked nor shipped, and a caveat says how to measure it; its file stands in the line."""
    save(store, "int8-coral", b"c", target="coral", compiled_from="int8", key=sha256(FILES["int8"]))
    store.save_target_report("int8", said())
    caveat = "int8-coral was compiled for coral and not measured: edgekit bench RUN --variant int8-coral --device NAME"

    before = compare(store)
    measured = report("int8", 0.5, replace(PI5, model="Coral"), model=ModelFacts(sha256(b"c")))
    store.save_report("int8-coral", measured)
    after = compare(store)

    assert ["int8-coral" in {line.name for line in found.variants} for found in (before, after)] == [False, True]
    assert [caveat in found.caveats for found in (before, after)] == [True, False]
    assert before.choice == "int8"
    assert before.baseline == "float32"
    assert by_place(before)["coral", "int8"].file == "variants/int8-coral.tflite"
    assert figures(by_place(after)["Coral", "int8-coral"])["latency_ms"] == 0.5
    assert (
        "accuracy was not measured for int8-coral: edgekit bench RUN --variant int8-coral --device NAME --data D"
        in after.caveats
    )


def test_a_compiled_variant_is_compared_where_it_is_named(store: RunStore) -> None:
    """Also unmeasured; it is no baseline where there is another."""
    save(store, "int8-coral", b"c" * 10_000, target="coral", compiled_from="int8")

    found = compare(store, variants=["int8", "int8-coral"])

    assert {line.name for line in found.variants} == {"int8", "int8-coral"}
    assert found.baseline == "int8"


def test_a_variant_compiled_from_an_older_file_says_so(store: RunStore) -> None:
    """The one it came from was converted anew meanwhile."""
    save(store, "int8-coral", b"c", target="coral", compiled_from="int8", key="0" * 64)

    assert (
        "int8-coral was compiled from another int8 than there is now: edgekit compile RUN --target coral"
        in compare(store).caveats
    )


# -- the command -----------------------------------------------------------------------------------------------------


def test_compare_and_report_show_targets(store: RunStore, edgekit_cli: Cli) -> None:
    """The table on the terminal, everything in JSON, and the same in the files of a report."""
    store.save_report("int8", report("int8", 4.21))
    store.save_target_report("int8", said(estimate=Estimate(2.9, 1.8, 6.0, "a formula")))
    shown = edgekit_cli("compare", store.folder)
    raw = json.loads(edgekit_cli("compare", store.folder, "--json").stdout)
    written = edgekit_cli("report", store.folder)

    assert "Across targets" in shown.stdout
    assert "2.9 ms (1.8 to 6.0) estimated" in shown.stdout
    assert [(line["target"], line["latency_basis"]) for line in raw["across"]] == [
        ("Pi 4", "measured"),
        ("coral", "estimated"),
    ]
    [[name, told]] = raw["target_reports"]
    assert (name, told["ops"][1]["remedy"], told["estimate"]["basis"]) == ("int8", "use Resizing", "a formula")
    assert written.returncode == 0, written.stderr
    assert json.loads((store.folder / "report.json").read_text())["across"] == raw["across"]
    for file in ("report.md", "report.html"):
        assert "4.21 ms measured" in (store.folder / file).read_text()
        assert "2.9 ms (1.8 to 6.0) estimated" in (store.folder / file).read_text()
