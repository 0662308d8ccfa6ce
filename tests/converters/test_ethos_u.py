"""Arm Ethos-U: what vela itself prints is the oracle; its figures, placements and refusals must come through unchanged."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_converters.errors import MissingPackageError, ModelFileError, TargetError
from edgekit_converters.targets.child_process import OUTPUT_CAP
from edgekit_converters.targets.ethos_u import run
from edgekit_converters.targets.ethos_u.compiled import accelerators_of
from edgekit_converters.targets.ethos_u.database import read_database
from edgekit_converters.targets.ethos_u.options import ACCELERATORS
from edgekit_converters.targets.ethos_u.run import Vela, find_vela, run_vela
from edgekit_converters.targets.ethos_u.summary import read_said, read_summary
from edgekit_converters.targets.ethos_u.vela import VelaOptions, compile_ethos_u, model_ethos_u
from edgekit_converters.targets.operators import read_operators
from edgekit_converters.targets.records import COMPILED, MODELLED, CompiledFiles, TargetReport
from edgekit_converters.targets.target import find_target

from tests.tflite_builder import Graph, Op, Tensor, build, conv_model

pytest.importorskip("ethosu.vela")

U55 = find_target("ethos-u55-128")
SIDE = 16


def image(name: str, side: int = SIDE, signature: tuple[int, ...] | None = None) -> Tensor:
    return Tensor(name, "int8", (1, side, side, 4), None, (0.5,), (3,), signature=signature)


def pooled_model(side: int) -> bytes:
    """Two average poolings with SAME padding, a tanh between them; vela takes SAME kernels of up to 8 x 8."""

    def pool(size: int) -> object:
        options = schema.Pool2DOptionsT()
        options.padding, options.filterWidth, options.filterHeight = schema.Padding.SAME, size, size
        options.strideW = options.strideH = 1
        return options

    half = Tensor("squashed", "int8", (1, SIDE, SIDE, 4), None, (1 / 128,), (0,))
    tensors = [image("in"), image('first,pooled "so"\nand on'), half, dataclasses.replace(half, name="second")]
    ops = [
        Op("AVERAGE_POOL_2D", (0,), (1,), pool(3)),
        Op("TANH", (1,), (2,)),
        Op("AVERAGE_POOL_2D", (2,), (3,), pool(side)),
    ]
    return build(Graph(tensors, ops, (0,), (3,)))


@dataclass(frozen=True)
class Told:
    """What vela told somebody who ran it by hand: everything printed, and its table by layer."""

    printed: str
    layers: Sequence[dict[str, str]]

    def number(self, pattern: str) -> float:
        """The number printed in place of the group of ``pattern``."""
        found = re.search(pattern, self.printed)
        assert found is not None, pattern
        return float(found[1])

    def cycles(self, original: str) -> int:
        """The cycles of all that became of operators of one kind."""
        return sum(int(row["Op Cycles"]) for row in self.layers if row["Original Operator"] == original)


@pytest.fixture(scope="module")
def ends() -> bytes:
    """An int8 convolution with float ends."""
    return conv_model("int8", "float32")


@pytest.fixture(scope="module")
def compiled(ends: bytes) -> CompiledFiles:
    return compile_ethos_u(ends, U55, name="float ends")


@pytest.fixture(scope="module")
def told(ends: bytes, tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("by-hand")
    (folder / "hand.tflite").write_bytes(ends)
    arguments = ["--accelerator-config", "ethos-u55-128", "--verbose-performance", "--verbose-cycle-estimate"]
    done = subprocess.run(
        [sys.executable, "-m", "ethosu.vela", "hand.tflite", *arguments, "--verbose-weights", "--output-dir", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    with (folder / "hand_per-layer.csv").open() as lines:
        return Told(done.stdout, list(csv.DictReader(lines)))


def test_figures_are_those_vela_prints_itself(compiled: CompiledFiles, told: Told) -> None:
    """Cycles, MACs, times, memory and weights equal vela's own print, to the digits it prints."""
    report = compiled.report
    assert report.figures["cycles_total"] == told.number(r"Total cycles +(\d+) cycles")
    assert report.figures["cycles_npu"] == told.number(r"NPU cycles +(\d+) cycles")
    assert report.figures["cycles_off_chip_flash_access"] == told.number(r"Off-chip Flash Access cycles +(\d+) cycles")
    assert report.figures["macs"] == told.number(r"Neural network macs +(\d+) MACs")
    assert report.figures["core_clock_hz"] == 1e6 * told.number(r"Accelerator clock +(\d+) MHz")
    assert report.figures["inferences_per_s"] == pytest.approx(told.number(r"ms, +([\d.]+) inferences/s"), abs=0.005)
    assert report.figures["encoded_weights_bytes"] / 1024 == pytest.approx(
        told.number(r"NPU Encoded Weights Size +([\d.]+) KiB"), abs=0.005
    )
    assert report.figures["sram_bandwidth_gib_per_s"] == pytest.approx(
        told.number(r"Design peak SRAM bandwidth +([\d.]+) GB/s"), abs=0.005
    )
    assert report.memory["sram_bytes"] / 1024 == pytest.approx(told.number(r"Total SRAM used +([\d.]+) KiB"), abs=0.005)
    assert report.memory["off_chip_flash_bytes"] / 1024 == pytest.approx(
        told.number(r"Total Off-chip Flash used +([\d.]+) KiB"), abs=0.005
    )
    assert report.figures["cpu_operators"] == told.number(r"CPU operators = (\d+)")
    assert report.figures["npu_operators"] == told.number(r"NPU operators = (\d+)")


def test_estimate_is_velas_time_called_modelled(compiled: CompiledFiles) -> None:
    """The latency is cycles over clock, without bounds, and its basis says of what chip and that nobody measured it."""
    estimate = compiled.report.estimate
    assert estimate is not None
    figures = compiled.report.figures
    assert estimate.latency_ms == pytest.approx(1000 * figures["cycles_total"] / figures["core_clock_hz"], rel=1e-12)
    assert estimate.low_ms is None
    assert estimate.high_ms is None
    for part in ("ethos-u55-128 at 500 MHz", "Ethos_U55_High_End_Embedded", "Shared_Sram", "modelled, not measured"):
        assert part in estimate.basis
    assert compiled.report.basis == MODELLED
    assert compiled.report.said_by == f"ethos-u-vela {metadata.version('ethos-u-vela')}"


def test_layers_add_up_to_velas_own_table(compiled: CompiledFiles, told: Told) -> None:
    """One line for each operator on the accelerator, with the cycles vela's table gives what it made of it."""
    (layer,) = compiled.report.layers
    assert (layer.type, layer.placement, layer.figures["index"]) == ("CONV_2D", "ethos-u", 1)
    assert layer.figures["cycles"] == told.cycles("Conv2D")
    assert layer.figures["macs"] == sum(int(row["MAC Count"]) for row in told.layers)
    assert layer.figures["cycles_share"] == 1.0


def test_placement_is_of_the_operators_of_the_file(compiled: CompiledFiles) -> None:
    """Float ends stay on the CPU with vela's reason and a remedy; the convolution between them does not."""
    report = compiled.report
    assert [(op.index, op.type, op.placement) for op in report.ops] == [
        (0, "QUANTIZE", "cpu"),
        (1, "CONV_2D", "ethos-u"),
        (2, "DEQUANTIZE", "cpu"),
    ]
    assert (report.on_target, report.on_cpu, report.subgraphs, report.first_off_target) == (1, 2, 1, 0)
    assert report.ops[0].reason.startswith(
        "Operation has tensor with unsupported DataType Float32 (Feature-map dataTypes"
    )
    assert report.ops[2].reason == "Unsupported opType"
    assert all("--input-type int8 --output-type int8" in report.ops[i].remedy for i in (0, 2))
    assert "2 of 3 operators stay on the CPU" in " ".join(report.warnings)


def test_compiled_file_holds_the_ethos_u_operator(compiled: CompiledFiles) -> None:
    """The model is the first file, named safely, beside vela's summary; what is on the CPU is still in it."""
    model, summary = compiled.files
    assert (model, summary) == ("float_ends_vela.tflite", "float_ends_summary_Ethos_U55_High_End_Embedded.csv")
    made = read_operators(compiled.files[model])
    assert [op.type for op in made.operators] == ["QUANTIZE", "ethos-u", "DEQUANTIZE"]
    assert accelerators_of(compiled.files[model], made) == ("ethos-u55-128",)
    assert "CPU operators = 2" in compiled.log


def test_a_file_vela_compiled_is_read_as_such(compiled: CompiledFiles) -> None:
    """Its report says for what accelerator it is; another one refuses it, and it is not compiled again."""
    made = compiled.files["float_ends_vela.tflite"]
    report = model_ethos_u(made, U55)
    assert (report.basis, report.refusal) == (COMPILED, "")
    assert [op.placement for op in report.ops] == ["cpu", "ethos-u", "cpu"]
    assert report.options == {"accelerator_config": "ethos-u55-128"}
    other = model_ethos_u(made, find_target("ethos-u55-256"))
    assert other.refusal.startswith("it is compiled for ethos-u55-128, not for ethos-u55-256")
    with pytest.raises(TargetError, match="compiled for an Ethos-U already") as caught:
        compile_ethos_u(made, U55, name="again")
    assert caught.value.refused


@pytest.fixture(scope="module")
def pooled() -> TargetReport:
    return model_ethos_u(pooled_model(9), U55)


def test_operators_are_told_apart_by_their_place(pooled: TargetReport) -> None:
    """Of two equal operators the refused one is on the CPU, though a name holds commas, quotes and lines."""
    assert [op.placement for op in pooled.ops] == ["ethos-u", "ethos-u", "cpu"]
    assert pooled.ops[2].reason.startswith("kernel width: 9 out of range (Kernel constraints:")
    assert "8 × 8" in pooled.ops[2].remedy
    assert {layer.figures["index"] for layer in pooled.layers} == {0, 1}


def test_the_remedy_is_one() -> None:
    """Pooling over 8 x 8 instead puts all of it on the accelerator, here of another family at a size of its own."""
    options = VelaOptions(accelerator_config="ethos-u85-512", optimise="Size")
    report = model_ethos_u(pooled_model(8), find_target("ethos-u85"), options=options)
    assert report.fully_on_target
    assert report.estimate is not None
    assert "ethos-u85-512 at 1000 MHz" in report.estimate.basis
    assert report.memory["dram_bytes"] > 0
    assert report.options["optimise"] == "Size"


def test_a_float_model_is_refused_with_the_remedy() -> None:
    """Nothing of it runs there: the report says so and estimates nothing; compiling it is an error."""
    report = model_ethos_u(conv_model(), U55)
    assert report.refusal.startswith("vela leaves every operator on the CPU; the first, CONV_2D: ")
    assert "Float32" in report.refusal
    assert "--recipe int8" in report.remedy
    assert (report.on_target, report.on_cpu, report.subgraphs, report.estimate) == (0, 1, 0, None)
    with pytest.raises(TargetError, match="every operator on the CPU") as caught:
        compile_ethos_u(conv_model(), U55, name="float")
    assert caught.value.exit_code == 2


def free_model(signature: tuple[int, ...]) -> bytes:
    tensors = [image("in", signature=signature), image("out", signature=signature)]
    return build(Graph(tensors, [Op("RELU", (0,), (1,))], (0,), (1,)))


def test_shapes_that_are_not_fixed_are_named() -> None:
    """A free side keeps an operator on the CPU; a free batch alone does not, which the next test sees."""
    report = model_ethos_u(free_model((-1, -1, -1, 4)), U55)
    assert report.refusal
    assert report.ops[0].reason.startswith("Dynamic non-batch dimension at axis 1")
    assert "whole shape" in report.remedy


def test_only_the_first_subgraph_is_placed_and_batches_are_said() -> None:
    """Operators of further subgraphs do not take the places of the first's; two rows and a free batch are warned of."""
    rows = (Tensor("in", "int8", (2, 4), None, (0.5,), (3,)), Tensor("out", "int8", (2, 4), None, (0.5,), (3,)))
    first = Graph(rows, [Op("RELU", (0,), (1,))], (0,), (1,))
    free = [image("x", signature=(-1, SIDE, SIDE, 4)), image("y"), image("z")]
    second = Graph(free, [Op("RELU", (0,), (1,)), Op("RELU6", (1,), (2,))], (0,), (2,))
    report = model_ethos_u(build(first, second), U55)
    assert [(op.type, op.placement) for op in report.ops] == [("RELU", "ethos-u")]
    assert any("2 rows at once" in text for text in report.warnings)
    assert "1 tensors have a free first dimension: vela took 1 for it" in report.warnings


def test_vela_says_what_it_does_not_take() -> None:
    """An unknown section of the configuration ends in vela's words and what there is, not in its traceback."""
    choices = "Ethos_U55_Deep_Embedded, Ethos_U55_High_End_Embedded"
    with pytest.raises(
        TargetError, match=rf"refuses: .*System_Config\.Nonsense not found .*Choose from: {choices}$"
    ) as caught:
        model_ethos_u(conv_model("int8"), U55, options=VelaOptions(system_config="Nonsense"))
    assert caught.value.refused
    assert "Traceback" not in str(caught.value)
    assert "Traceback" in caught.value.log


def test_memories_that_do_not_fit_are_said(tmp_path: Path) -> None:
    """A memory mode that the system of one's own configuration file has no memory for is refused with advice."""
    own = tmp_path / "mine.ini"
    shipped = Path(
        str(metadata.distribution("ethos-u-vela").locate_file("ethosu/config_files/Arm/vela.ini"))
    ).read_text()
    own.write_text(shipped.replace("Ethos_U55_Deep_Embedded", "Mine"))
    options = VelaOptions(vela_config=str(own), system_config="Mine", memory_mode="Dedicated_Sram")
    with pytest.raises(TargetError, match=r"refuses: .*arena_mem_area=OffChipFlash.*choose another \(--memory-mode\)"):
        model_ethos_u(conv_model("int8"), U55, options=options)


def test_strangers_are_turned_down_before_vela_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file for an Edge TPU is named as such, a damaged one is no model; vela is not even looked for."""

    def find_none() -> Vela:
        raise AssertionError("vela was looked for")

    monkeypatch.setattr("edgekit_converters.targets.ethos_u.vela.find_vela", find_none)
    stranger = build(Graph([image("in"), image("out")], [Op("edgetpu-custom-op", (0,), (1,), custom=True)], (0,), (1,)))
    report = model_ethos_u(stranger, U55)
    assert "compiled for an Edge TPU" in report.refusal
    assert report.ops[0].placement == "unsupported"
    with pytest.raises(TargetError, match="Edge TPU"):
        compile_ethos_u(stranger, U55, name="m")
    with pytest.raises(ModelFileError):
        model_ethos_u(conv_model("int8")[:300], U55)


# The first words of the command streams that vela 5.2.0 wrote for the same convolution, by accelerator.
STREAMS = {
    "ethos-u55-32": 0x1005,
    "ethos-u55-64": 0x1006,
    "ethos-u55-128": 0x1807,
    "ethos-u55-256": 0x3008,
    "ethos-u65-256": 0x10003008,
    "ethos-u65-512": 0x10006009,
    "ethos-u85-128": 0x20000117,
    "ethos-u85-256": 0x20000118,
    "ethos-u85-512": 0x20001119,
    "ethos-u85-1024": 0x2000251A,
    "ethos-u85-2048": 0x2000261B,
}


def streamed(*words: int) -> tuple[str, ...]:
    values = np.array(words, "<u4").view(np.uint8)
    tensors = [image("in"), Tensor("stream", "uint8", values.shape, values), image("out")]
    model = build(Graph(tensors, [Op("ethos-u", (1, 0), (2,), custom=True)], (0,), (2,)))
    return accelerators_of(model, read_operators(model))


def test_every_accelerator_is_read_from_its_command_stream() -> None:
    """The driver's header names the accelerator of each of vela's configurations; other bytes name none."""
    cop1 = int.from_bytes(b"COP1", "little")
    assert {name: streamed(cop1, 0x100001, word, 0) for name, word in STREAMS.items()} == {
        name: (name,) for name in ACCELERATORS
    }
    assert streamed(7, 0x100001, 0x1807) == ()
    assert streamed(cop1, 0x100002, 0x1807) == ()
    assert streamed(cop1, 0x100001, 0xF0001807) == ()
    assert streamed(cop1) == ()


def script(*lines: str) -> Vela:
    """A child in vela's place."""
    return Vela((sys.executable, "-c", "\n".join(lines)), "0")


def test_a_vela_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    """At the deadline the process goes, and so does what it started; what it printed is kept."""
    pid = tmp_path / "pid"
    hanging = script(
        "import pathlib, subprocess, sys, time",
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])",
        f"path = pathlib.Path({str(pid)!r})",
        "path.with_suffix('.new').write_text(str(child.pid)); path.with_suffix('.new').rename(path)",
        "print('before', flush=True)",
        "time.sleep(600)",
    )
    with pytest.raises(TargetError, match="to be done within 5 s") as caught:
        run_vela(hanging, [], deadline_s=5)
    assert caught.value.log == "before\n"
    assert not caught.value.refused
    assert wait_until(lambda: not running(int(pid.read_text())))


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


@pytest.mark.parametrize(
    ("lines", "message", "refused"),
    [
        (("import os, signal", "os.kill(os.getpid(), signal.SIGSEGV)"), "died of SIGSEGV", False),
        (("raise RuntimeError('Compilation failed: no')",), "refuses: Compilation failed: no", True),
        (("raise KeyError('0')",), "failed with KeyError: 0", False),
        (("print('odd'); raise SystemExit(9)",), "exit code 9: odd", False),
    ],
)
def test_a_vela_that_fails_is_named(lines: tuple[str, ...], message: str, refused: bool) -> None:
    """A signal, an exception and a bare exit code become one sentence; a refusal is the model's fault, a crash is not."""
    with pytest.raises(TargetError, match=message) as caught:
        run_vela(script(*lines), [], deadline_s=60)
    assert caught.value.refused is refused


def test_a_vela_that_floods_is_capped() -> None:
    """Of endless output the beginning and the end are kept."""
    done = run_vela(script("print('first'); print('x' * 9_000_000); print('last')"), [], deadline_s=60)
    assert len(done.log) < OUTPUT_CAP + 100
    assert done.log.startswith("first\n")
    assert done.log.endswith("last\n")


def test_a_vela_that_writes_nothing_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 0 without the files is a failure that says which are missing."""
    monkeypatch.setattr("edgekit_converters.targets.ethos_u.vela.find_vela", lambda: script("pass"))
    with pytest.raises(TargetError, match=r"a summary and model_vela\.tflite and model_debug\.xml is not there"):
        model_ethos_u(conv_model("int8"), U55)


def test_without_the_package_a_vela_on_path_is_used_or_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one on PATH states its own version; without either the error ends with the install line."""

    def none_there(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(run.metadata, "version", none_there)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPackageError, match=r"pip install 'edgekit\[ethos-u\]'$"):
        find_vela()
    stand_in = tmp_path / "vela"
    stand_in.write_text(f"#!{sys.executable}\nprint('4.9.9')\n")
    stand_in.chmod(0o755)
    assert find_vela() == Vela((os.fspath(stand_in),), "4.9.9")
    stand_in.write_text("#!/no/such/interpreter\n")
    with pytest.raises(TargetError, match="cannot be started"):
        find_vela()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accelerator_config": "ethos-u55-129"}, "did you mean ethos-u55-128"),
        ({"optimise": "speed"}, "Choose from: Performance, Size"),
        ({"system_config": "a b"}, "by its name in vela's configuration file"),
        ({"memory_mode": "../x"}, "by its name in vela's configuration file"),
        ({"arena_cache_size": 0}, "arena cache size of 1 to"),
        ({"arena_cache_size": True}, "arena cache size of 1 to"),
        ({"vela_config": "here.ini"}, "there is none at 'here.ini'"),
        ({"vela_config": "Arm/vela.txt"}, "ending in .ini"),
        ({"vela_config": "Arm/vela.ini"}, "a system configuration and a memory mode"),
        ({"systemconfig": "x"}, "unknown option of vela 'systemconfig'; did you mean system_config"),
    ],
)
def test_wrong_options_are_told_before_vela_runs(values: dict[str, object], message: str) -> None:
    """Each says what was expected and lists or suggests what there is."""
    with pytest.raises(TargetError, match=re.escape(message)) as caught:
        VelaOptions.from_mapping(values)
    assert caught.value.exit_code == 2


def test_options_become_velas_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of one's own goes by its whole path, because vela takes FOLDER/FILE.ini for one it ships."""
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "boards" / "mine.ini"
    own.parent.mkdir()
    own.write_text("[System_Config.Mine]\n")
    options = VelaOptions.from_mapping(
        {"vela-config": "boards/mine.ini", "system-config": "Mine", "memory-mode": "Sram_Only", "optimise": None}
    )
    assert options.arguments(U55) == [
        "--accelerator-config=ethos-u55-128",
        "--system-config=Mine",
        "--memory-mode=Sram_Only",
        f"--config={own}",
    ]
    assert VelaOptions(arena_cache_size=1000).arguments(U55)[-1] == "--arena-cache-size=1000"
    with pytest.raises(
        TargetError, match=r"expected a size of ethos-u55 for the target ethos-u55-128 .*, got ethos-u85-256"
    ):
        VelaOptions(accelerator_config="ethos-u85-256").arguments(U55)


SUMMARY = (
    "experiment,network,accelerator_configuration,core_clock,arena_cache_size,sram_memory_used,inferences_per_second,"
    "inference_time,new_figure,cycles_total\ndefault,m,Ethos_U55_32,2e8,2.5,1.5,nan,0.5,7,100\n"
)


def test_summary_comes_with_its_units() -> None:
    """KiB become bytes, names end with their unit, a figure that is no number is left out, an unknown one is kept."""
    summary = read_summary(SUMMARY)
    assert summary.memory == {"sram_bytes": 1536}
    assert summary.figures == {
        "core_clock_hz": 2e8,
        "arena_cache_bytes": 2560,
        "inference_time_s": 0.5,
        "new_figure": 7,
        "cycles_total": 100,
    }
    assert summary.texts["accelerator_configuration"] == "Ethos_U55_32"


@pytest.mark.parametrize("text", ["", "a,b\n1\n", "a\n1\n2\n", "core_clock\n5\n"])
def test_what_is_no_summary_is_said(text: str) -> None:
    """Missing rows, unequal rows and a summary without cycles are refused."""
    with pytest.raises(TargetError, match="vela's answer cannot be read"):
        read_summary(text)


SOURCE = '"id","operator","ext_key"\n1,"Conv2D",1\n2,"Relu",0\n3,"Conv2D",0\n'
PERF = (
    '"id","source_id","operator","name","staging_usage","op_cycles","Sram_ac"\n'
    '9,1,"Conv2D","a "quoted", "name""",5,10,1\n8,1,"Add","plain",7,1,2\n7,2,"Passthrough","r",0,0,0\n6,0,"Memcpy","",1,4,0\n'
    '5,3,"Conv2D","of another subgraph",1,2,0\n'
)


def database(tmp_path: Path, **tables: str) -> Path:
    path = tmp_path / "debug.xml"
    parts = [f'<table name="{name}">\n<![CDATA[\n{text}]]>\n</table>\n' for name, text in tables.items()]
    path.write_text("<debug>\n" + "".join(parts) + "</debug>\n")
    return path


def test_database_gives_places_and_sums(tmp_path: Path) -> None:
    """Cycles of what became of an operator add up, staging is its peak; what belongs to none is apart."""
    found = read_database(database(tmp_path, perf=PERF, other='"name"\nx\n', source=SOURCE), 2)
    assert found.on_cpu == {0}
    assert found.commands.keys() == {1}
    assert found.commands[1].count == 2
    assert found.commands[1].figures == {"staging_bytes": 7, "cycles": 11, "sram_cycles": 3}
    assert (found.inserted.count, found.inserted.figures["cycles"]) == (2, 6)


@pytest.mark.parametrize(
    ("tables", "operators"),
    [
        ({"perf": PERF, "source": SOURCE}, 4),
        ({"perf": PERF, "source": '"id","operator"\n1,"x"\n'}, 1),
        ({"perf": PERF, "source": '"id","ext_key"\n1,x\n'}, 1),
        ({"perf": PERF, "source": '"id","ext_key"\n1,7\n'}, 1),
        ({"perf": PERF}, 1),
    ],
)
def test_a_database_that_does_not_fit_is_said(tmp_path: Path, tables: dict[str, str], operators: int) -> None:
    """Other numbers of operators, missing columns and tables, and places that are none are refused."""
    with pytest.raises(TargetError, match="vela's answer cannot be read"):
        read_database(database(tmp_path, **tables), operators)


def test_a_database_cut_off_or_told_twice_is_said(tmp_path: Path) -> None:
    """A table without an end, and a name in the file that pretends to be a table, are refused."""
    path = database(tmp_path, perf=PERF, source=SOURCE)
    whole = path.read_text()
    path.write_text(whole[: whole.rindex("]]>")])
    with pytest.raises(TargetError, match="that ends"):
        read_database(path, 2)
    path.write_text(whole.replace("8,1", "8" * 70_000))
    with pytest.raises(TargetError, match="that ends"):
        read_database(path, 2)
    path.write_text(whole + whole)
    with pytest.raises(TargetError, match="got two"):
        read_database(path, 2)
    with pytest.raises(TargetError, match="expected a debug database"):
        read_database(tmp_path / "none.xml", 2)


def test_what_vela_says_is_read() -> None:
    """Reasons with their rule, counts and free axes; the defaults it warns of are no news, other warnings are."""
    said = read_said(
        "Warning: No memory mode specified. Using a default of X.\nWarning: something\nWarning: something\n"
        "Tensor 'a' has a dynamic signature in axis 0. Setting shape axis 0 to 1 and proceeding.\n\n"
        "Warning (supported operators) operator: DIV, ofm: 'it's'\nReason: Unsupported opType\n\n"
        "Warning (supported operators) operator: MEAN, ofm: 'm'\nReason: too many\nAt most:\n  - 3\n\n"
        "CPU operators = 2 (6.2%)\nNPU operators = 30 (93.8%)\n"
    )
    assert said.reasons == (("DIV", "it's", "Unsupported opType"), ("MEAN", "m", "too many (At most: - 3)"))
    assert (said.cpu_operators, said.npu_operators, said.free_axes) == (2, 30, 1)
    assert said.warnings == ("something",)
    assert read_said("").cpu_operators is None


def test_the_words_of_version_5_0_are_read_too() -> None:
    """Without quotes and commas, and with other messages right behind the rule."""
    said = read_said(
        "Warning (supported operators) operator:DIV ofm:d:0\nReason: Unsupported opType\n\n"
        "Warning (supported operators) operator:MEAN ofm:m\nReason: too many\nAt most: 3\n"
        'CPU performance estimation for "Passthrough" not implemented\n'
    )
    assert said.reasons == (("DIV", "d:0", "Unsupported opType"), ("MEAN", "m", "too many (At most: 3)"))
