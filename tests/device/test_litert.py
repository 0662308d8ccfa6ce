"""LiteRT's accelerators by name: what a name means, what really took a model over, and why one cannot be used.

The real CompiledModel of the wheel runs here on the processor, and on a GPU that is a program where Debian's Chromium brings one
(SwiftShader). What else an accelerator may do is played by stub_compiled_model.py, beside the real LiteRT, in the device's own
environment.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_device import BenchmarkReport, DelegateError, InputError, Model, ModelError
from edgekit_device._runtime import load_runtime
from edgekit_device.accelerators import vulkan
from edgekit_device.accelerators.compiled import main_signature
from edgekit_device.accelerators.litert import find_accelerators, tiny_model
from edgekit_device.accelerators.vulkan import Adapter
from edgekit_device.cli import main
from edgekit_device.delegates import parse_delegate
from edgekit_device.profile import ProfileError, profile_model
from edgekit_device.supervise import supervise

from tests.device.models import difference_and_product, two_signatures, unnamed
from tests.device.stub_compiled_model import write_stub
from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model

SOFTWARE_VULKAN = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
HANG_S = 3.0


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "accelerators", "loads"),
    [
        ("litert:cpu", ("cpu",), False),
        ("litert:gpu", ("gpu",), True),
        ("litert:npu", ("npu",), True),
        ("litert:cpu+gpu", ("gpu", "cpu"), True),
        ("litert:cpu+npu+gpu", ("npu", "gpu", "cpu"), True),
    ],
)
def test_a_name_is_a_set_of_accelerators(text: str, accelerators: tuple[str, ...], loads: bool) -> None:
    """In whatever order; with others than the processor's, code from outside comes into the process."""
    request = parse_delegate(text)

    assert (request.kind, request.accelerators, request.loads_code) == ("litert", accelerators, loads)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("litert", r"unknown accelerator '' of LiteRT in 'litert': choose from litert:cpu, litert:gpu"),
        ("litert:gup", r"unknown accelerator 'gup' .*did you mean 'gpu'"),
        ("litert:gpu+gpu", r"unknown accelerator 'gpu' of LiteRT in 'litert:gpu\+gpu'"),
        ("litert:gpu;x=1", r"unknown delegate 'litert:gpu;x=1'"),
        ("litrt:gpu", r"unknown delegate 'litrt:gpu' \(did you mean 'litert'\?\): choose from .*litert:gpu\+cpu"),
    ],
)
def test_a_misspelt_accelerator_is_refused(text: str, message: str) -> None:
    """With what was probably meant, and what there is."""
    with pytest.raises(InputError, match=message):
        parse_delegate(text)


# -- the real CompiledModel on the processor ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [dense_model, conv_model])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_processors_outputs_are_the_interpreters(make: Any, precision: str) -> None:
    """To the bit: both apply XNNPACK with the same kernels."""
    content = make(precision)
    with Model(content) as interpreted, Model(content, delegate="litert:cpu") as compiled:
        shape, dtype = interpreted.inputs[0].shape, interpreted.inputs[0].dtype
        rng = np.random.default_rng(3)
        for _ in range(5):
            x = rng.integers(-128, 128, shape).astype(dtype) if precision == "int8" else rng.normal(size=shape)
            assert np.array_equal(interpreted.predict(x), compiled.predict(x))
        assert [interpreted.runtime.delegate, compiled.runtime.delegate] == ["xnnpack", "litert-cpu"]
        assert compiled.inputs == interpreted.inputs
        assert compiled.outputs == interpreted.outputs


@pytest.mark.parametrize("dtype", ["int64", "int16", "uint8", "bool", "int32"])
def test_types_that_its_buffers_do_not_know_go_through(dtype: str) -> None:
    """LiteRT's Python buffers refuse int64 and int16: a tensor is handed over as bytes."""
    tensors = [Tensor("a", dtype, (1, 4)), Tensor("b", dtype, (1, 4))]
    content = build(Graph(tensors, [Op("CAST", (0,), (1,), schema.CastOptionsT())], (0,), (1,)))
    x = np.array([[1, 0, 1, 1]], dtype)

    with Model(content, delegate="litert:cpu") as model:
        result = model.predict(x)

    assert result.dtype == x.dtype
    assert np.array_equal(result, x)


def test_the_main_graphs_signature_is_found_in_the_file() -> None:
    """CompiledModel runs signatures, and Model runs subgraph 0."""
    assert main_signature(difference_and_product()) == "serving_default"
    assert main_signature(two_signatures()) == "plus"
    assert main_signature(unnamed()) is None


def test_a_main_graph_without_a_signature_beside_others_is_refused() -> None:
    """CompiledModel could only run the other graph."""
    main = Graph([Tensor("x", "float32", (1, 4)), Tensor("y", "float32", (1, 4))], [_twice()], (0,), (1,))
    other = Graph([Tensor("x", "float32", (1, 4)), Tensor("y", "float32", (1, 4))], [_twice()], (0,), (1,), "other")

    with pytest.raises(ModelError, match="no signature runs its main graph"):
        Model(build(main, other), delegate="litert:cpu")


def _twice() -> Op:
    return Op("ADD", (0, 0), (1,), schema.AddOptionsT())


def test_the_model_that_accelerators_are_tried_with_doubles() -> None:
    """It is what the builder makes, kept as text."""
    tensors = [Tensor("x", "float32", (1, 4)), Tensor("sum", "float32", (1, 4))]

    assert tiny_model() == build(Graph(tensors, [_twice()], (0,), (1,)))
    with Model(tiny_model(), delegate="litert:cpu") as model:
        assert np.asarray(model.predict(np.array([[1, 2, 3, 4]], np.float32))).tolist() == [[2, 4, 6, 8]]


# -- real refusals, and a real GPU path -------------------------------------------------------------------------------


def test_a_gpu_that_is_not_there_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT's exception names a line of its source; its log says why."""
    monkeypatch.setenv("VK_ICD_FILENAMES", os.devnull)
    for delegate in ("litert:gpu", "litert:gpu+cpu"):
        with pytest.raises(DelegateError, match=rf"{re.escape(delegate)} cannot run the model: .*[Aa]dapter") as raised:
            Model(dense_model(), delegate=delegate)
        assert raised.value.findings[0].code == "litert-refused"
        assert "litert_compiled_model.h" not in str(raised.value)


def test_an_npu_that_is_not_there_is_refused_or_named_as_the_cpu() -> None:
    """With the CPU beside it LiteRT says all is accelerated, and nothing of it ran on an NPU: the report says so."""
    with pytest.raises(DelegateError, match="litert:npu cannot run the model: "):
        Model(conv_model(), delegate="litert:npu")

    with Model(conv_model(), delegate="litert:npu+cpu") as model:
        facts = model.runtime

    assert facts.delegate == "litert-cpu"
    assert facts.delegate_options.startswith("npu=took nothing, ")


@pytest.mark.skipif(not SOFTWARE_VULKAN.is_file(), reason="needs Debian's chromium-common, which brings SwiftShader")
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_gpu_that_is_a_program_runs_and_is_named_as_one(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real WebGPU accelerator: its outputs are the CPU's, and the processor is not called a GPU.

    Halves have 11 bits: products and sums of 27 values and their rounding stay within 27 of their units, int8 within a step.
    """
    monkeypatch.setenv("VK_ICD_FILENAMES", str(SOFTWARE_VULKAN))
    with Model(conv_model(precision)) as plain, Model(conv_model(precision), delegate="litert:gpu") as model:
        x = np.random.default_rng(1).uniform(-1, 1, (2, *plain.inputs[0].shape[1:])).astype(np.float32)
        expected, result = np.asarray(plain.predict(x)), np.asarray(model.predict(x))
        bound = model.outputs[0].scale if precision == "int8" else 27 * 2.0**-11 * np.abs(expected).max()
        facts = model.runtime

    assert np.abs(result - expected).max() <= bound
    assert (facts.delegate, facts.delegate_library) == ("litert-gpu-software", "libLiteRtWebGpuAccelerator.so")
    assert facts.delegate_options.startswith("adapter=SwiftShader")


# -- the stub beside the real LiteRT ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stub and a float model."""
    folder = tmp_path_factory.mktemp("compiled")
    write_stub(folder)
    (folder / "float.tflite").write_bytes(dense_model())
    return folder


@pytest.fixture
def played(stub: Path, clean_environment: dict[str, str], device_python: Path) -> Any:
    """played(behaviour, delegate, …): what came of each, in one process of the device's environment; the last one's log."""

    def run(behaviour: str, *delegates: str, adapters: object = ()) -> tuple[list[dict[str, Any]], str]:
        program = Path(__file__).with_name("delegate_attempts.py")
        asked = json.dumps([[str(stub / "float.tflite"), delegate] for delegate in delegates])
        done = subprocess.run(
            [device_python, program, "litert", asked, str(HANG_S)],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            env={
                **clean_environment,
                "PYTHONPATH": str(stub),
                "STUB_COMPILED": behaviour,
                "STUB_ADAPTERS": json.dumps(adapters),
            },
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])["results"], done.stderr

    return run


GPU, SOFTWARE = ["A GPU", False], ["llvmpipe", True]


@pytest.mark.parametrize(
    ("behaviour", "delegate", "adapters", "taken", "options"),
    [
        ("works", "litert:gpu", [GPU], "litert-gpu", "adapter=A GPU"),
        ("works", "litert:gpu", [GPU, SOFTWARE], "litert-gpu", "adapter=A GPU"),
        ("works", "litert:gpu", [GPU, GPU], "litert-gpu", ""),
        ("works", "litert:gpu", [], "litert-gpu", ""),
        ("works", "litert:gpu", [SOFTWARE], "litert-gpu-software", "adapter=llvmpipe"),
        ("works", "litert:gpu+cpu", [GPU], "litert-gpu", "adapter=A GPU"),
        ("part", "litert:gpu+cpu", [GPU], "litert-gpu+cpu", "adapter=A GPU"),
        ("opencl", "litert:gpu", [SOFTWARE], "litert-gpu", ""),
        (
            "part-unused",
            "litert:gpu+cpu",
            [GPU],
            "litert-cpu",
            "gpu=took nothing, GPU accelerator could not be loaded and registered.",
        ),
        ("works", "litert:npu", [], "litert-npu", ""),
        ("part", "litert:npu+cpu", [], "litert-npu+cpu", ""),
        ("silent", "litert:npu+cpu", [], "litert-cpu", "npu=took nothing, LiteRT gives no reason"),
    ],
)
def test_what_really_took_over_is_reported(
    behaviour: str, delegate: str, adapters: list[Any], taken: str, options: str, played: Any
) -> None:
    """Part of a model, all of it or nothing; a GPU, or a program that plays one. LiteRT says "fully" of each."""
    ((result,), _) = played(behaviour, delegate, adapters=adapters)
    facts = result["runtime"]

    assert (facts["delegate"], facts["delegate_options"]) == (taken, options)
    library = {"gpu": "libLiteRtWebGpuAccelerator.so", "npu": "libLiteRtDispatch_IntelOpenvino.so", "cpu": ""}
    assert facts["delegate_library"] == ("" if behaviour == "opencl" else library[taken[7:10]])


@pytest.mark.parametrize(
    ("behaviour", "delegate", "signal", "message"),
    [
        ("crash", "litert:gpu", "SIGSEGV", "litert:gpu crashes the process (SIGSEGV) while running"),
        ("illegal", "litert:cpu", "SIGILL", "litert:cpu kills the process (SIGILL): the GPU library that LiteRT loads"),
        ("illegal", "litert:gpu", "SIGILL", "(SIGILL) while compiling {model}: the GPU library that LiteRT loads"),
        ("hang", "litert:npu", "SIGKILL", f"hangs while compiling {{model}}: it did not finish within {HANG_S:g} s"),
        ("refuse", "litert:gpu", None, "litert:gpu cannot run {model}: INTERNAL: No adapters found"),
        ("part", "litert:npu", None, "cannot run all of {model}: with the CPU for the rest it is litert:npu+cpu"),
        ("part", "litert:gpu", None, "litert:gpu cannot run {model}: Some ops are not accelerated"),
        ("wrong", "litert:gpu", None, "gives other outputs of {model} than the CPU: "),
        ("unfinite", "litert:gpu", None, "is not finite where the CPU's is"),
        ("silent", "litert:npu", None, "nothing shows that anything but the CPU did"),
        ("absent", "litert:gpu", None, "litert 2.3.0 has no CompiledModel"),
        ("absent", "litert:cpu", None, 'expected LiteRT of at least 2.3. Type: pip install "ai-edge-litert>=2.3"'),
    ],
)
def test_what_cannot_be_believed_or_run_is_an_error(
    behaviour: str, delegate: str, signal: str | None, message: str, played: Any, stub: Path
) -> None:
    """A DelegateError, and the process that asked lives on: nothing of it was loaded there."""
    ((result,), _) = played(behaviour, delegate)

    assert (result["error"], result["exit_code"], result["signal"]) == ("DelegateError", 3, signal)
    assert message.format(model=stub / "float.tflite") in result["message"]


def test_an_inference_on_an_accelerator_ends_when_its_outputs_are_there(played: Any) -> None:
    """Such a run only queues the work: without a read of the outputs a benchmark would time the queue."""
    orders = [
        [line for line in played("order", delegate)[1].splitlines() if line in ("run", "read")]
        for delegate in ("litert:gpu", "litert:cpu")
    ]

    assert orders == [["run", "read", "read"], ["run", "read"]]


def test_a_runtime_without_compiled_models_is_told_what_to_install(
    stub: Path, tflite_python: Path, clean_environment: dict[str, str]
) -> None:
    """tflite-runtime has none."""
    program = Path(__file__).with_name("delegate_attempts.py")
    asked = json.dumps([[str(stub / "float.tflite"), delegate] for delegate in ("litert:cpu", "litert:gpu")])
    command = [tflite_python, program, "tflite", asked, "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True, env=clean_environment)

    for result in json.loads(done.stdout)["results"]:
        assert result["error"] == "DelegateError"
        assert re.search(
            r"tflite 2\.\d+\.\d+ has no CompiledModel.*expected LiteRT\. Type: pip install", result["message"]
        )


# -- adapters ---------------------------------------------------------------------------------------------------------


class _Vulkan:
    """Two adapters as vulkan_core.h lays them out: a discrete GPU, and a processor."""

    ADAPTERS = ((2, b"GeForce\x1b[2J"), (4, b"llvmpipe (LLVM 15)"))

    def vkCreateInstance(self, info: Any, _allocator: None, instance: Any) -> int:
        assert bytes(info)[:4] == b"\1\0\0\0"
        instance._obj.value = 1
        return 0

    def vkEnumeratePhysicalDevices(self, _instance: Any, count: Any, devices: Any) -> int:
        count._obj.value = len(self.ADAPTERS)
        devices[0], devices[1] = 10, 11
        return 0

    def vkGetPhysicalDeviceProperties(self, device: ctypes.c_void_p, facts: Any) -> None:
        kind, name = self.ADAPTERS[(device.value or 10) - 10]
        facts[16:20] = kind.to_bytes(4, "little")
        facts[20 : 20 + len(name)] = name


def test_adapters_are_told_apart_from_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the type Vulkan gives each; names are cleaned, and a machine without Vulkan has none."""
    monkeypatch.setattr(vulkan.ctypes, "CDLL", lambda _name: _Vulkan())
    assert vulkan.find_adapters() == [Adapter("GeForce [2J", False), Adapter("llvmpipe (LLVM 15)", True)]

    def missing(_name: str) -> None:
        raise OSError

    monkeypatch.setattr(vulkan.ctypes, "CDLL", missing)
    assert vulkan.find_adapters() == []


# -- the commands -----------------------------------------------------------------------------------------------------


def test_accelerators_are_listed_by_name() -> None:
    """Each with the reason where it is not available; nothing is there without LiteRT."""

    def command(*options: str) -> str:
        started = [sys.executable, "-m", "edgekit_device", "accelerators", *options]
        environment = {**os.environ, "VK_ICD_FILENAMES": os.devnull}
        return subprocess.run(started, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout

    listed, told = json.loads(command("--json"))["litert"], command()

    assert [accelerator["name"] for accelerator in listed] == ["litert:cpu", "litert:gpu", "litert:npu"]
    assert [accelerator["available"] for accelerator in listed[:2]] == [True, False]
    assert "dapter" in listed[1]["reason"]
    assert "litert:cpu     available\n" in told
    assert "litert:gpu     not available: " in told
    assert find_accelerators(load_runtime("litert")._replace(name="tflite")) == ()


def test_a_benchmark_names_what_ran(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The report is all that is on standard output, whatever LiteRT says there; operators can be timed as well."""
    model = tmp_path / "m.tflite"
    model.write_bytes(conv_model("int8"))
    asked = ["--delegate", "litert:cpu", "--runs", "5", "--warmup", "0", "--profile", "--json"]

    assert main(["bench", str(model), *asked]) == 0
    report = BenchmarkReport.from_json(capfd.readouterr().out)

    assert report.runtime.delegate == "litert-cpu"
    assert report.latency.count == 5
    assert [operator.index for operator in report.profile.operators] == [0]


def test_an_accelerator_that_fails_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3: the world must change."""
    monkeypatch.setenv("VK_ICD_FILENAMES", os.devnull)
    model = tmp_path / "m.tflite"
    model.write_bytes(dense_model())

    assert main(["bench", str(model), "--delegate", "litert:gpu"]) == 3
    told = capfd.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"edgekit-device: error: litert:gpu cannot run .*m\.tflite: .*\n", told.err)


def test_an_accelerator_gives_no_time_per_operator() -> None:
    """The profiler would tell of the CPU's kernels."""
    with pytest.raises(ProfileError, match="the delegate gpu\\+cpu gives no time per operator"):
        profile_model(dense_model(), delegate="litert:gpu+cpu")


def test_what_a_driver_prints_stays_out_of_the_answer(capfd: pytest.CaptureFixture[str]) -> None:
    """LiteRT's GPU accelerator writes to standard output: a reader of JSON must not see it."""

    def command() -> int:
        os.write(1, b"INFO: Failed to load OpenCL library\n")
        print('{"answer": 1}')
        return 0

    assert supervise(command, "m.tflite") == 0
    assert capfd.readouterr().out == '{"answer": 1}\n'
