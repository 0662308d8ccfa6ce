"""What targets make of a run's variants, kept in the run and read back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from edgekit_converters.targets.records import (
    COMPILED,
    MODELLED,
    PREDICTED,
    Estimate,
    LayerFigure,
    MappingCheck,
    OpPlacement,
    TargetReport,
)

from edgekit.errors import StoreError
from edgekit.records import Variant, from_dict, to_dict
from edgekit.store import RunStore
from edgekit.target_reports import compiled_file, read_target_reports

MODEL = b"model"
SHA256 = hashlib.sha256(MODEL).hexdigest()
WHOLE = TargetReport(
    name="coral",
    kind="edgetpu",
    basis=COMPILED,
    said_by="edgetpu_compiler 16.0",
    ops=(OpPlacement(0, "CONV_2D", "edgetpu"), OpPlacement(1, "TILE", "cpu", "not supported", "use Resizing", "up", 3)),
    subgraphs=1,
    on_target=1,
    on_cpu=1,
    first_off_target=1,
    min_runtime=14,
    cached_bytes=1024,
    streamed_bytes=0,
    estimate=Estimate(2.9, 1.8, 6.0, "a formula"),
    memory={"sram": 2048},
    figures={"cycles": 1e6},
    layers=(LayerFigure("up", "TILE", "cpu", {"macs": 3.0}),),
    mapping_check=MappingCheck(2, (0,), ()),
    warnings=("slow",),
    options={"search": True, "names": ["a"]},
    model_sha256=SHA256,
)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run with the variant int8."""
    made = RunStore.create(tmp_path / "run")
    made.save_variant(Variant("int8", "int8", sha256=SHA256, size_bytes=len(MODEL)), MODEL)
    return made


def test_a_report_is_read_back_as_it_was_saved(store: RunStore) -> None:
    """Every field, also the records and mappings inside, by target and variant."""
    other = replace(WHOLE, name="ethos-u55-128", basis=MODELLED, mapping_check=None, estimate=None)
    store.save_target_report("int8", other)
    store.save_target_report("int8", WHOLE)

    assert store.target_reports() == [("int8", WHOLE), ("int8", other)]
    assert (store.folder / "targets" / "coral" / "int8.json").is_file()


def test_a_figure_that_is_no_number_is_left_out(store: RunStore) -> None:
    """It does not cost the rest of the report."""
    nan, layer = float("nan"), LayerFigure("up", "TILE", "cpu", {"share": float("inf"), "macs": 3.0})
    store.save_target_report(
        "int8", replace(WHOLE, estimate=Estimate(nan), figures={"a": nan, "b": 1.0}, layers=(layer,))
    )

    [(_, report)] = store.target_reports()

    assert (report.estimate, report.figures, report.layers) == (None, {"b": 1.0}, WHOLE.layers)


def test_a_later_report_takes_the_place_of_the_earlier(store: RunStore) -> None:
    """What a compiler said replaces what was predicted of the same target."""
    store.save_target_report("int8", replace(WHOLE, basis=PREDICTED))
    store.save_target_report("int8", WHOLE)

    assert [report.basis for _, report in store.target_reports()] == [COMPILED]


@pytest.mark.parametrize("new", [b"other", None], ids=["converted anew", "gone"])
def test_a_report_of_another_file_is_stale(store: RunStore, new: bytes | None) -> None:
    """Of a variant that was converted anew, or is gone, nothing is claimed."""
    store.save_target_report("int8", WHOLE)
    if new is None:
        store.variant_path("int8").unlink()
    else:
        sha256 = hashlib.sha256(new).hexdigest()
        store.save_variant(Variant("int8", "int8", sha256=sha256, size_bytes=len(new)), new)

    assert store.target_reports() == []
    assert read_target_reports(store).stale == (("int8", "coral"),)


def test_a_run_without_targets_has_none(store: RunStore) -> None:
    """Neither the folder nor a report is needed."""
    assert not (store.folder / "targets").exists()
    assert store.target_reports() == []
    assert RunStore.open(store.folder).target_folder("coral").is_dir()


DAMAGED: dict[str, Any] = {
    "cut": '{"name": "coral"',
    "a list": "[]",
    "a basis nobody knows": {**WHOLE.to_dict(), "basis": "measured"},
    "another target's": {**WHOLE.to_dict(), "name": "micro"},
    "a text for a number": {**WHOLE.to_dict(), "memory": {"sram": "much"}},
    "an operator without a place": {**WHOLE.to_dict(), "ops": [{"index": 0}]},
    "a number beyond sense": {**WHOLE.to_dict(), "memory": {"sram": 10**400}},
    "infinity": {**WHOLE.to_dict(), "figures": {"cycles": float("inf")}},
    "no number": {**WHOLE.to_dict(), "figures": {"cycles": float("nan")}},
    "a pit": {**WHOLE.to_dict(), "options": {"a": json.loads("[" * 200 + "]" * 200)}},
    "an estimate without a figure": {**WHOLE.to_dict(), "estimate": {"latency_ms": None}},
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_report_is_as_if_absent(store: RunStore, content: object) -> None:
    """It says nothing, and hides no other."""
    store.save_target_report("int8", replace(WHOLE, name="micro"))
    text = content if isinstance(content, str) else json.dumps(content)
    (store.target_folder("coral") / "int8.json").write_text(text)

    assert [report.name for _, report in store.target_reports()] == ["micro"]


def test_a_report_of_a_newer_edgekit_is_read(store: RunStore) -> None:
    """Fields that are not known yet are left out."""
    raw = {**WHOLE.to_dict(), "tomorrow": 1, "estimate": {"latency_ms": 3, "confidence": 2}}
    (store.target_folder("coral") / "int8.json").write_text(json.dumps(raw))

    [(_, report)] = store.target_reports()

    assert report == replace(WHOLE, estimate=Estimate(3.0))


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", ".hidden", "-x", "x" * 200, "a\n"])
def test_a_target_names_a_folder_of_the_run(store: RunStore, name: str) -> None:
    """No report can be written anywhere else."""
    with pytest.raises(StoreError, match="cannot name a folder"):
        store.save_target_report("int8", replace(WHOLE, name=name))


def test_a_folder_that_cannot_be_made_is_one_message(store: RunStore) -> None:
    """A file lies where the targets belong."""
    (store.folder / "targets").write_text("mine")

    with pytest.raises(StoreError, match=r"cannot make .*targets/coral"):
        store.save_target_report("int8", WHOLE)
    assert store.target_reports() == []


def test_the_compiled_model_is_the_first_of_the_files(store: RunStore) -> None:
    """A log or a header beside it is not it; where nothing was compiled there is none."""
    folder = store.target_folder("coral") / "int8"
    folder.mkdir()
    for name in ("a.log", "int8_edgetpu.tflite", ".int8.part"):
        (folder / name).write_text("x")

    assert compiled_file(store, "coral", "int8") == "targets/coral/int8/int8_edgetpu.tflite"
    assert compiled_file(store, "coral", "float32") == ""
    assert compiled_file(store, "micro", "int8") == ""


def test_what_a_killed_writer_left_is_swept(store: RunStore) -> None:
    """Also below targets."""
    left = store.target_folder("coral") / ".int8.json.0a1b2c3d.part"
    left.write_text("{")

    with store.locked():
        assert not left.exists()


def test_a_variant_says_what_it_was_compiled_from() -> None:
    """And one of an older edgekit was compiled for nothing."""
    compiled = Variant("int8-coral", "int8", target="coral", compiled_from="int8")
    old = {name: value for name, value in to_dict(compiled).items() if name not in ("target", "compiled_from")}

    assert from_dict(Variant, to_dict(compiled)) == compiled
    assert (from_dict(Variant, old).target, from_dict(Variant, old).compiled_from) == ("", "")
