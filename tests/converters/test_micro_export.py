"""The C++ of an export compiles without a warning and does what it says; TFLM itself is a stub of its signatures here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from edgekit_converters import TargetError
from edgekit_converters.targets.micro.export import export_micro
from edgekit_converters.targets.micro.text import c_float, c_string, comment, identifier
from edgekit_converters.targets.records import CompiledFiles
from edgekit_converters.targets.target import find_target

from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model, schema

pytest.importorskip("tflite_micro")

MICRO = find_target("micro")
STUB = Path(__file__).parent / "tflm_stub"
COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no g++ on this machine")
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")
HOSTILE = ['say "hi"', "back\\slash", "line\nbreak", "what??/", "naïve 日本", "*/ int x;", "\x1b[31mred", "100%s"]


@dataclass(frozen=True)
class Ran:
    """What the compiled program was given, and what it said."""

    said: str
    code: int
    report: tuple[str, ...]
    model: bytes

    def reported(self, key: str) -> list[str]:
        """What the stub wrote down under ``key``, in order."""
        return [line.removeprefix(f"{key} ") for line in self.report if line.startswith(f"{key} ")]


def _run(
    made: CompiledFiles, folder: Path, outputs: Sequence[np.ndarray], *, new: bool = False, fails: bool = False
) -> Ran:
    """Compile an export as strictly as can be, and run it with an interpreter whose outputs are these."""
    for name, content in made.files.items():
        (folder / name).write_bytes(content)
    for number, values in enumerate(outputs):
        (folder / str(number)).write_bytes(values.tobytes())
    sources = sorted(str(path) for path in folder.glob("*.cc"))
    layout = ["-DTFLM_STUB_NEW"] if new else []
    assert COMPILER is not None
    # The stub is a system folder to the compiler: warnings are about the export.
    command = [COMPILER, *STRICT, *layout, "-isystem", str(STUB), *sources, "-o", str(folder / "program")]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (compiled.returncode, compiled.stderr) == (0, "")
    size = len(next(iter(made.files.values())))
    environment = {
        "STUB_REPORT": str(folder / "report"),
        "STUB_MODEL": str(folder / "seen"),
        "STUB_MODEL_BYTES": str(size),
        "STUB_OUTPUTS": str(folder),
        **({"STUB_FAILS": "1"} if fails else {}),
    }
    ran = subprocess.run([str(folder / "program")], capture_output=True, env={**os.environ, **environment}, check=False)
    report = (folder / "report").read_text().splitlines()
    return Ran(ran.stdout.decode("utf-8"), ran.returncode, tuple(report), (folder / "seen").read_bytes())


def _constant(made: CompiledFiles, name: str) -> str:
    header = next(text for name, text in made.files.items() if name.endswith("_model.h")).decode()
    found = re.search(rf"\b{name}(?:\[\])? = ([^;]+);", header)
    assert found is not None
    return found[1]


@needs_compiler
@pytest.mark.parametrize("new", [False, True], ids=["tflite", "tflite-micro-namespace"])
def test_an_int8_export_holds_the_models_bytes_and_asks_for_what_it_needs(new: bool, tmp_path: Path) -> None:
    """Bytes, alignment, arena and operators are those of the report; zeros go in as the zero point, the label comes out."""
    model = dense_model("int8", "int8")
    made = export_micro(model, MICRO, name="keyword net", labels=[f"word {i}" for i in range(32)])
    steps = np.arange(32, dtype=np.int8)
    steps[7] = 90
    ran = _run(made, tmp_path, [steps], new=new)
    assert next(iter(made.files)) == "keyword_net.tflite"
    assert ran.model == model == made.files["keyword_net.tflite"]
    assert ran.reported("alignment") == ran.reported("arena_alignment") == ["0"]
    assert ran.reported("operator") == ["AddFullyConnected"]
    needed = made.report.memory["arena_bytes"]
    reserved = made.report.memory["arena_reserved_bytes"]
    assert needed * 1.1 <= reserved < needed * 1.1 + 16
    assert reserved % 16 == 0
    assert ran.reported("arena") == [str(reserved)] == [_constant(made, "kArenaBytes")]
    assert ran.reported("input") == [f"0 {np.full(16, 3, np.int8).tobytes().hex()}"]
    assert (ran.code, ran.said) == (0, f"word 7 {0.5 * (90 - 3):f}\n")


@needs_compiler
def test_float_and_int16_inputs_and_outputs_are_taken_as_they_are(tmp_path: Path) -> None:
    """A float model with float ends has no quantization in it; an int16 one has steps of two bytes."""
    for precision, outputs, fill, said in (
        ("float32", np.linspace(0, 2, 32, dtype=np.float32), np.float32(0), "number 31: 2.000000"),
        ("int16x8", np.arange(-5, 27, dtype=np.int16), np.int16(0), f"number 31: {0.5 * 26:f}"),
    ):
        folder = tmp_path / precision
        folder.mkdir()
        made = export_micro(dense_model(precision), MICRO, name="net")
        ran = _run(made, folder, [outputs])
        assert ran.reported("input") == [f"0 {np.full(16 // fill.itemsize, fill).tobytes().hex()}"]
        assert ran.said == f"output 0: the largest of 32 values is {said}\n"


@needs_compiler
def test_several_inputs_and_outputs_and_labels_of_the_second(tmp_path: Path) -> None:
    """Each has its constants and functions; labels, however hostile, belong to the output that has as many values."""
    tensors = [
        Tensor("a */ b\\", "float32", (1, 3)),
        Tensor("start", "int32", (1, 3)),
        Tensor("sum", "float32", (1, 3)),
        Tensor("cast", "float32", (1, 3)),
        Tensor("wide", "float32", (1, 8)),
        Tensor("size", "int32", (2,), values=np.array([1, 8], np.int32)),
        Tensor("one", "float32", (1, 1), values=np.ones((1, 1), np.float32)),
    ]
    ops = [
        Op("CAST", (1,), (3,)),
        Op("ADD", (0, 3), (2,), schema.AddOptionsT()),
        Op("BROADCAST_TO", (6, 5), (4,)),
    ]
    made = export_micro(build(Graph(tensors, ops, (0, 1), (2, 4))), MICRO, name="8*net/??", labels=HOSTILE)
    for best, label in enumerate(HOSTILE):
        folder = tmp_path / str(best)
        folder.mkdir()
        if best:  # compiling once is enough
            shutil.copytree(tmp_path / "0", folder, dirs_exist_ok=True)
        scores = np.zeros(8, np.float32)
        scores[best] = 1
        ran = _run(made, folder, [np.array([1, 3, 2], np.float32), scores]) if not best else _again(folder, scores)
        shown = "".join(character if character.isprintable() else " " for character in label)
        assert ran.said == f"output 0: the largest of 3 values is number 1: 3.000000\n{shown} 1.000000\n"
    assert _run_report(tmp_path / "0", "operator") == ["AddAdd", "AddBroadcastTo", "AddCast"]
    assert _run_report(tmp_path / "0", "input") == ["0 " + "00" * 12 + "aa" * 4, "1 " + "00" * 12 + "aa" * 4]


def _again(folder: Path, scores: np.ndarray | None) -> Ran:
    """Run what is compiled already, with other values of output 1."""
    if scores is not None:
        (folder / "1").write_bytes(scores.tobytes())
    environment = {
        "STUB_REPORT": str(folder / "report"),
        "STUB_MODEL": str(folder / "seen"),
        "STUB_MODEL_BYTES": "8",
        "STUB_OUTPUTS": str(folder),
    }
    ran = subprocess.run([str(folder / "program")], capture_output=True, env={**os.environ, **environment}, check=False)
    return Ran(ran.stdout.decode("utf-8"), ran.returncode, (), b"")


def _run_report(folder: Path, key: str) -> list[str]:
    lines = (folder / "report").read_text().splitlines()
    return [line.removeprefix(f"{key} ") for line in lines if line.startswith(f"{key} ")]


@needs_compiler
def test_a_model_that_does_not_start_says_where_the_arenas_size_is(tmp_path: Path) -> None:
    """AllocateTensors() that fails ends the program with 1 and a line, not with a crash."""
    ran = _run(export_micro(conv_model("int8"), MICRO, name="net"), tmp_path, [], fails=True)
    assert (ran.code, ran.said) == (1, "the model does not start: see the arena's size in net_model.h\n")


@needs_compiler
def test_a_models_variables_get_a_place(tmp_path: Path) -> None:
    """VAR_HANDLE operators of one name are one variable, and the interpreter is made with room for it."""
    options = schema.VarHandleOptionsT()
    options.sharedName = options.container = "state"
    tensors = [Tensor("handle", "resource", (1,)), Tensor("in", "float32", (1, 4)), Tensor("out", "float32", (1, 4))]
    ops = [
        Op("VAR_HANDLE", (), (0,), options),
        Op("ASSIGN_VARIABLE", (0, 1), ()),
        Op("READ_VARIABLE", (0,), (2,)),
    ]
    made = export_micro(build(Graph(tensors, ops, (1,), (2,))), MICRO, name="state-net")
    ran = _run(made, tmp_path, [np.array([1, 2, 3, 4], np.float32)])
    assert ran.reported("variables") == ["1"]
    assert ran.reported("operator") == ["AddAssignVariable", "AddReadVariable", "AddVarHandle"]


@pytest.mark.skipif(shutil.which("cmake") is None or COMPILER is None, reason="no cmake on this machine")
def test_the_cmake_project_builds_against_a_folder_of_headers(tmp_path: Path) -> None:
    """With TFLM_ROOT it configures and builds the program."""
    for name, content in export_micro(dense_model("int8"), MICRO, name="net-2").files.items():
        (tmp_path / name).write_bytes(content)
    configure = ["cmake", "-S", str(tmp_path), "-B", str(tmp_path / "build"), f"-DTFLM_ROOT={STUB}"]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(tmp_path / "build")], check=True, capture_output=True)
    assert (tmp_path / "build" / "net_2").is_file()


def test_the_header_says_shape_type_scale_and_zero_point_as_the_model_has_them() -> None:
    """Read back from the text, the float to the bit."""
    made = export_micro(conv_model("int8", "uint8"), MICRO, name="net", arena_headroom=0.5)
    assert _constant(made, "kInput0Shape") == "{1, 8, 8, 3}"
    assert _product(_constant(made, "kInput0Elements")) == 8 * 8 * 3
    assert np.float32(_constant(made, "kInput0Scale").removesuffix("f")) == np.float32(0.5)
    assert _constant(made, "kInput0ZeroPoint") == "131"
    assert int(_constant(made, "kOperators")) == 2  # QUANTIZE at both ends, CONV_2D
    needed = made.report.memory["arena_bytes"]
    assert int(_constant(made, "kArenaBytes")) == -(-needed * 3 // 2 // 16) * 16
    assert made.report.options == {"arena_headroom": 0.5}


def _product(text: str) -> int:
    """The value of a product of numbers."""
    return int(np.prod([int(factor) for factor in text.split(" * ")]))


@needs_compiler
def test_a_board_is_held_against_what_tflm_answered_to_the_first_sample(tmp_path: Path) -> None:
    """With samples the program runs one of them first: equal answers are said, and so is one step of difference."""
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    model = dense_model("int8")
    samples = np.random.default_rng(2).uniform(-60, 60, (3, 1, 64)).astype(np.float32)
    steps = np.clip(np.rint(samples[0] / np.float32(0.5)) + 3, -128, 127).astype(np.int8)
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=2**16)
    interpreter.set_input(steps, 0)
    interpreter.invoke()
    answer = interpreter.get_output(0)
    made = export_micro(model, MICRO, name="net", samples=list(samples))
    ran = _run(made, tmp_path, [answer])
    assert ran.reported("input")[0] == f"0 {steps.reshape(-1)[:16].tobytes().hex()}"
    assert ran.said.startswith("example: 0 of 32 output values differ from the PC's\noutput 0: the largest")
    (tmp_path / "0").write_bytes((answer + np.eye(1, 32, 5, dtype=np.int8)).tobytes())
    again = _again(tmp_path, None)
    assert again.said.startswith("example: 1 of 32 output values differ from the PC's\nthe board does not answer as")


def test_parity_on_samples_is_in_the_readme_as_in_the_report() -> None:
    """With samples the README says on how many, without them that none were given."""
    model = dense_model("int8")
    samples = list(np.random.default_rng(1).uniform(-60, 60, (5, 64)).astype(np.float32))
    made = export_micro(model, MICRO, name="net", samples=samples)
    share = made.report.figures["parity_identical"]
    assert f"On 5 samples {share:.2%} of the output values were LiteRT's to the bit" in made.files["README.md"].decode()
    assert "no samples were given" in export_micro(model, MICRO, name="net").files["README.md"].decode()


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (conv_model("float16"), {}, "TFLM does not run 1 of 2 operators"),
        (dense_model("int8"), {"arena_headroom": -0.1}, r"arena headroom .* from 0 to 100"),
        (dense_model("int8"), {"arena_headroom": float("nan")}, r"arena headroom .* from 0 to 100"),
    ],
    ids=["refused", "negative", "nan"],
)
def test_what_cannot_be_exported_is_wrong_input_and_makes_no_file(model: bytes, options: dict, message: str) -> None:
    """Exit code 2, with what was expected."""
    with pytest.raises(TargetError, match=message) as raised:
        export_micro(model, MICRO, name="net", **options)
    assert raised.value.exit_code == 2


def test_labels_that_no_output_has_as_many_of_are_left_out_and_that_is_said() -> None:
    """Two classes of one score are no two values: the export is made without them."""
    made = export_micro(dense_model("int8"), MICRO, name="net", labels=["no", "yes"])
    assert made.report.warnings[0] == "2 labels are left out: no output has as many values (32)"
    assert b"kLabels" not in made.files["net_model.cc"] + made.files["net_model.h"] + made.files["main.cc"]


def test_every_float32_reads_back_to_the_bit() -> None:
    """Nine digits and a suffix; a whole number gets its point, without which it would be no float literal."""
    bits = np.random.default_rng(5).integers(0, 2**32, 2000, dtype=np.uint32)
    values = bits.view(np.float32)
    for value in values[np.isfinite(values)]:
        literal = c_float(float(value))
        assert re.fullmatch(r"-?(\d+\.\d*|\d+(\.\d+)?e[+-]\d+|\d*\.\d+)f", literal)
        assert np.float32(literal.removesuffix("f")) == value
    with pytest.raises(ValueError, match="finite"):
        c_float(float("inf"))


def test_names_become_identifiers_that_are_free_to_use() -> None:
    """No keyword, no reserved double underscore, no digit in front, nothing empty."""
    names = ["int8", "8-bit net", "float", "__init__", "a..b//c", "", "日本", "x" * 300, "*/ evil"]
    made = [identifier(name) for name in names]
    assert made[:5] == ["int8", "model_8_bit_net", "float_net", "init_net", "a_b_c"]
    assert all(re.fullmatch(r"[A-Za-z][0-9A-Za-z]*(_[0-9A-Za-z]+)*", name) and len(name) <= 70 for name in made)
    assert comment("a */ b\\\nnext??/") == "a _/ b__next__/"
    assert c_string("ä" * 150).count("\\303\\244") == 100  # 200 bytes, cut between characters
