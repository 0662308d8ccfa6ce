"""``edgekit compile`` and ``convert --target``: what lands in a run or a folder, with the tools there are and without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters.targets.edgetpu.compiled_model import is_compiled
from edgekit_device.embedded import read_note

from edgekit import compare, convert
from edgekit.cli.main import main
from edgekit.compiling import compile_for
from edgekit.errors import ModelInputError, UsageError
from edgekit.store import RunStore
from tests.edgetpu_compiler_stub import install_stub
from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model

MICRO_FILES = {"CMakeLists.txt", "README.md", "int8.tflite", "int8_model.cc", "int8_model.h", "main.cc"}


@pytest.fixture
def run_folder(made_run: Path, tmp_path: Path) -> Path:
    """A run of four variants of its own."""
    return Path(shutil.copytree(made_run, tmp_path / "run"))


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for edgetpu_compiler, where edgekit looks for one: it maps everything."""
    program = install_stub(tmp_path / "bin")
    monkeypatch.setenv("EDGEKIT_EDGETPU_COMPILER", str(program))
    return program


@pytest.fixture
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_EDGETPU_COMPILER", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")


def test_a_run_gets_a_compiled_variant(run_folder: Path, compiler: Path) -> None:
    """Of its int8 variant alone: a file that a Coral runs, that still knows how to be fed, and what the compiler said."""
    (made,) = compile_for(run_folder, "coral")
    store = RunStore.open(run_folder)
    variant = store.variant("int8-coral")
    assert variant is not None
    content = Path(variant.path).read_bytes()

    assert made.variant == variant
    assert (variant.target, variant.compiled_from, variant.precision) == ("coral", "int8", "int8")
    assert is_compiled(content)
    assert read_note(content) == read_note(store.variant_path("int8").read_bytes())
    assert [(name, report.basis, report.on_cpu) for name, report in store.target_reports()] == [("int8", "compiled", 0)]
    assert [path.parent for path in made.paths] == [run_folder / "targets" / "coral" / "int8"] * len(made.paths)
    assert all(path.is_file() for path in made.paths)


def test_a_run_gets_what_runs_elsewhere_beside_its_variants(run_folder: Path, data: Path) -> None:
    """A C array for a microcontroller, tried on the data; it is no variant that a board could be sent."""
    (made,) = compile_for(run_folder, "micro", variants=["int8"], data=data)
    store = RunStore.open(run_folder)

    assert {path.name for path in made.paths} >= MICRO_FILES
    assert made.variant is None
    assert [item.name for item in store.variants() if item.target] == []
    ((name, report),) = [item for item in store.target_reports() if item[1].name == "micro" and item[0] == "int8"]
    assert name == "int8"
    assert report.figures["parity_samples"] == 100
    assert report.memory["arena_bytes"] > 0


def test_files_are_compiled_into_a_folder_and_nothing_is_replaced(tmp_path: Path) -> None:
    """Two of them get a folder each; what is there and differs stays, until --force."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.tflite").write_bytes(dense_model("int8"))
    given, out = [tmp_path / "one.tflite", tmp_path / "two.tflite"], tmp_path / "out"
    made = compile_for(given, "micro", out=out)
    (out / "one" / "main.cc").write_text("mine")

    assert [path.parent for item in made for path in item.paths[:1]] == [out / "one", out / "two"]
    with pytest.raises(UsageError, match=r"main\.cc is there and differs.*--force"):
        compile_for(given[:1], "micro", out=out / "one")
    assert (out / "one" / "main.cc").read_text() == "mine"
    compile_for(given[:1], "micro", out=out / "one", force=True)
    assert (out / "one" / "main.cc").read_text() != "mine"


def test_models_share_an_edge_tpu(tmp_path: Path, compiler: Path) -> None:
    """--together hands all to one run of the compiler."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.tflite").write_bytes(dense_model("int8"))
    made = compile_for([tmp_path / "one.tflite", tmp_path / "two.tflite"], "coral", out=tmp_path / "out", together=True)

    assert [item.name for item in made] == ["one", "two"]
    assert made[0].log == made[1].log
    assert all(is_compiled(item.paths[0].read_bytes()) for item in made)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"target": "corral"}, UsageError, "unknown target 'corral'; did you mean 'coral'"),
        (
            {"target": "micro", "options": {"search_delegate": True}},
            UsageError,
            "--search-delegate belongs to edgetpu targets",
        ),
        (
            {"target": "coral", "options": {"arena_headroom": 0.1}},
            UsageError,
            "--arena-headroom belongs to micro targets",
        ),
        ({"target": "micro", "together": True}, UsageError, "only models for an Edge TPU are compiled together"),
        ({"target": "micro", "out": "elsewhere"}, UsageError, "is kept in the run: leave --out out"),
        ({"target": "micro", "variants": ["int9"]}, UsageError, "has no variant 'int9'; did you mean 'int8'"),
        ({"target": "raspberry-pi-4"}, UsageError, "nothing to compile"),
    ],
)
def test_what_cannot_be_compiled_is_said(
    run_folder: Path, asked: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Before anything is made."""
    with pytest.raises(error, match=message):
        compile_for(run_folder, **asked)
    assert list((run_folder / "targets").rglob("*.*")) == []


def test_a_compiler_that_is_not_there_is_named_and_the_prediction_kept(run_folder: Path) -> None:
    """With the way to get one; nothing is compiled."""
    with pytest.raises(UsageError, match="--compiler says /no/compiler, where there is no file"):
        compile_for(run_folder, "coral", options={"compiler": "/no/compiler"})

    assert [(name, report.basis) for name, report in RunStore.open(run_folder).target_reports()] == [
        ("int8", "predicted")
    ]
    assert not (run_folder / "targets" / "coral" / "int8").exists()


def test_a_variant_that_a_target_refuses_says_so_in_the_comparison(run_folder: Path) -> None:
    """Beside one that it takes: weights alone in int8 have no kernels on a microcontroller."""
    made = compile_for(run_folder, "micro", variants=["int8", "dynamic-int8"])
    lines = {line.variant: line for line in compare(run_folder).across}

    assert (list(made.by_variant), list(made.failures)) == (["int8"], ["dynamic-int8"])
    assert lines["int8"].refusal == ""
    assert "with filter type: INT8 not supported" in lines["dynamic-int8"].refusal


def test_bad_models_are_named(tmp_path: Path, made_run: Path) -> None:
    """No model, no .tflite, two of one name, a run among files."""
    (tmp_path / "text.tflite").write_text("text")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    twins = [tmp_path / "a" / "m.tflite", tmp_path / "b" / "m.tflite"]
    for path in twins:
        path.write_bytes(dense_model("int8"))

    with pytest.raises(UsageError, match="at least one model"):
        compile_for([], "micro")
    with pytest.raises(ModelInputError, match=r"expected a \.tflite"):
        compile_for(tmp_path / "text.tflite", "micro")
    with pytest.raises(UsageError, match="two called 'm'"):
        compile_for(twins, "micro")
    with pytest.raises(UsageError, match="one run folder, or"):
        compile_for([twins[0], made_run], "micro")


@pytest.mark.usefixtures("_no_compiler")
def test_converting_for_a_coral_without_its_compiler_predicts(
    float_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """int8 in and out, the prediction kept in the run, and a note with the way to the compiler."""
    run = tmp_path / "run"
    assert (
        main(["convert", str(float_model), "--data", str(data), "--target", "coral", "--out", str(run), "--json"]) == 0
    )
    printed = capfd.readouterr()
    found = json.loads(printed.out)

    assert [(item["name"], item["input_type"], item["output_type"]) for item in found["variants"]] == [("int8",) * 3]
    assert found["targets"]["int8"]["basis"] == "predicted"
    assert "not compiled: no edgetpu_compiler" in printed.err
    assert [(name, report.name) for name, report in RunStore.open(run).target_reports()] == [("int8", "coral")]
    assert compare(run).across[0].target == "coral"


def test_converting_for_a_coral_compiles_where_the_compiler_is(
    float_model: Path, data: Path, tmp_path: Path, compiler: Path
) -> None:
    """The float variant beside it stays as the baseline, and is not compiled."""
    made = convert(float_model, data=data, recipes=["float32", "int8"], target="coral-usb", out=tmp_path / "run")

    assert made.failures == {}
    assert made[0].target_report is None
    assert made[1].compiled is not None
    assert made[1].compiled.variant is not None
    assert made[1].compiled.variant.name == "int8-coral-usb"


@pytest.mark.keras  # LeakyReLU goes to TFLite's own quantizer
def test_layers_that_will_stay_behind_are_named_before_anything_is_calibrated(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each once, with what to type; what is only lost behind them is counted."""
    path = tmp_path / "leaky.tflite"
    tensors = [Tensor(f"t{i}", "float32", (1, 64)) for i in range(4)]
    ops = [Op("TANH", (0,), (1,)), Op("LEAKY_RELU", (1,), (2,), schema.LeakyReluOptionsT()), Op("TANH", (2,), (3,))]
    path.write_bytes(build(Graph(tensors, ops, (0,), (3,), signature_key="serving_default")))
    assert main(["convert", str(path), "--data", str(data), "--target", "coral", "--out", str(tmp_path / "run")]) == 0
    said = capfd.readouterr().err.split("converting to int8")[0]

    assert said.count("will stay on the processor") == 1
    assert "PReLU" in said
    assert "coral: 1 of 3 operators would run on the Edge TPU" in said


def test_without_a_run_the_target_is_asked_all_the_same(float_model: Path, data: Path) -> None:
    """The bytes and the prediction; nothing is written."""
    (made,) = convert(float_model, data=data, target="coral")

    assert made.target_report is not None
    assert (made.target_report.name, made.target_report.basis, made.compiled) == ("coral", "predicted", None)


def test_inspect_says_what_a_target_makes_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The contract of --json, and lines for people."""
    path = tmp_path / "m.tflite"
    path.write_bytes(dense_model("int8"))
    assert main(["inspect", str(path), "--target", "coral", "--json"]) == 0
    target = json.loads(capsys.readouterr().out)["target"]
    assert main(["inspect", str(path), "--target", "coral"]) == 0
    shown = capsys.readouterr().out

    fields = {
        "name",
        "ops",
        "subgraphs",
        "on_target",
        "on_cpu",
        "min_runtime",
        "cached_bytes",
        "streamed_bytes",
        "estimate",
    }
    assert fields <= set(target)
    assert {"index", "type", "placement", "reason", "remedy", "layer"} <= set(target["ops"][0])
    assert (target["name"], target["on_target"], target["on_cpu"], target["subgraphs"]) == ("coral", 1, 0, 1)
    assert target["ops"][0]["placement"] == "edgetpu"
    assert "1 of 1 operators on the target in 1 piece(s)" in shown


def test_what_a_tool_printed_before_it_failed_is_shown(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its last lines, before the error that explains them."""
    monkeypatch.setenv("EDGEKIT_EDGETPU_COMPILER", str(install_stub(tmp_path / "bin", "bare")))
    assert main(["compile", str(run_folder), "--target", "coral"]) != 0
    lines = capfd.readouterr().err.splitlines()

    told = [number for number, line in enumerate(lines) if line.startswith("  | ")]
    said = next(number for number, line in enumerate(lines) if line.startswith("edgekit: error: "))
    assert told
    assert told[-1] < said
    assert any("Edge TPU Compiler version 16" in lines[number] for number in told)


def test_a_compiled_file_is_opened_and_not_compiled_again(
    run_folder: Path, compiler: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named as such by both verbs."""
    compile_for(run_folder, "coral")
    path = run_folder / "variants" / "int8-coral.tflite"
    assert main(["inspect", str(path), "--target", "coral", "--json"]) == 0
    target = json.loads(capsys.readouterr().out)["target"]
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == target
    assert main(["compile", str(path), "--target", "coral"]) == 2
    refused = capsys.readouterr().err

    assert (target["basis"], target["ops"][0]["type"], target["ops"][0]["placement"]) == (
        "compiled",
        "edgetpu-custom-op",
        "edgetpu",
    )
    assert target["min_runtime"] is not None
    assert "compiled" in refused


def test_targets_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """By name, whole, as JSON; an unknown one with what was meant."""
    assert main(["targets"]) == 0
    assert "coral-dev-board" in capsys.readouterr().out
    assert main(["targets", "micro", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compiler"] == "tflite-micro"
    assert main(["targets", "raspberry-pi-zero-2"]) == 0
    assert "512 MB" in capsys.readouterr().out
    assert main(["targets", "pi5"]) == 2
    assert "raspberry-pi-5" in capsys.readouterr().err


def test_operators_of_a_target_are_listed_with_what_it_asks(capsys: pytest.CaptureFixture[str]) -> None:
    """Where edgekit has a table of them; elsewhere it says whom to ask."""
    assert main(["targets", "coral", "--operators"]) == 0
    listed = dict(
        line.split(maxsplit=1) if " " in line else (line, "") for line in capsys.readouterr().out.splitlines()
    )
    assert "no fused activation" in listed["MAX_POOL_2D"]
    assert "HARD_SWISH" not in listed
    assert main(["targets", "micro", "--operators", "--json"]) == 0
    assert "HARD_SWISH" in [item["type"] for item in json.loads(capsys.readouterr().out)["operators"]]
    assert main(["targets", "ethos-u65", "--operators"]) == 2
    assert "vela knows" in capsys.readouterr().err
    assert main(["targets", "--operators"]) == 2
    assert "expected a target" in capsys.readouterr().err


def test_the_dearest_operators_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a model that Vela has a table of cycles for: one operator takes nearly all."""
    path = tmp_path / "m.tflite"
    path.write_bytes(conv_model("int8"))
    assert main(["inspect", str(path), "--target", "ethos-u55-128"]) == 0

    assert "  most cycles: CONV_2D 0 (" in capsys.readouterr().out
