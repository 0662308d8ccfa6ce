"""Delegates by name, and a real delegate library loaded through both real runtimes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from edgekit_device import BenchmarkReport, DelegateError, InputError, Model, delegates
from edgekit_device._runtime import load_runtime
from edgekit_device.accelerators.compiled import EDGETPU_OPERATOR, LIBRARY_VARIABLE, custom_operators
from edgekit_device.cli import main
from edgekit_device.delegates import DelegateRequest, choose_delegate, parse_delegate
from edgekit_device.loading import open_interpreter

from tests.device.stub_delegate import compile_stub, compiled_model
from tests.tflite_builder import conv_model, dense_model

RUNTIMES = ["litert", "tflite"]
HANG_S = 2.0


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", DelegateRequest("auto")),
        ("none", DelegateRequest("none")),
        ("xnnpack", DelegateRequest("xnnpack")),
        ("edgetpu", DelegateRequest("edgetpu", "libedgetpu.so.1")),
        ("edgetpu:usb", DelegateRequest("edgetpu", "libedgetpu.so.1", (("device", "usb"),))),
        ("edgetpu:pci:1", DelegateRequest("edgetpu", "libedgetpu.so.1", (("device", "pci:1"),))),
        ("edgetpu::0", DelegateRequest("edgetpu", "libedgetpu.so.1", (("device", ":0"),))),
        (
            "edgetpu:usb:0;performance=low;usb.always_dfu=TRUE;usb.max_bulk_in_queue_length=255",
            DelegateRequest(
                "edgetpu",
                "libedgetpu.so.1",
                (
                    ("device", "usb:0"),
                    ("Performance", "Low"),
                    ("Usb.AlwaysDfu", "True"),
                    ("Usb.MaxBulkInQueueLength", "255"),
                ),
            ),
        ),
        ("external:/opt/x.so;a=1;b=c=d", DelegateRequest("external", "/opt/x.so", (("a", "1"), ("b", "c=d")))),
        ("/opt/x.so", DelegateRequest("external", "/opt/x.so")),
        ("libx.so.2", DelegateRequest("external", "libx.so.2")),
    ],
)
def test_a_delegate_is_read_from_its_name(
    text: str, expected: DelegateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options of the Edge TPU come out in libedgetpu's own spelling; those of others stay as they are."""
    monkeypatch.delenv(LIBRARY_VARIABLE, raising=False)
    monkeypatch.setattr("sys.platform", "linux")

    assert parse_delegate(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edgtpu", r"unknown delegate 'edgtpu' \(did you mean 'edgetpu'\?\): choose from auto, none, xnnpack, edgetpu"),
        ("gpu", "unknown delegate 'gpu'"),
        ("", "unknown delegate ''"),
        ("none;a=b", "unknown delegate"),
        ("auto:1", "unknown delegate"),
        ("external:", r"expected external:PATH"),
        ("external:x.so;fast", r"expected options as ;key=value, got 'fast'"),
        ("edgetpu:", r"unknown Edge TPU 'edgetpu:'"),
        ("edgetpu:gpu:0", r"choose from edgetpu, edgetpu:usb\[:N\]"),
        ("edgetpu:usb:x", "unknown Edge TPU"),
        (
            "edgetpu;performance=Low",
            r"expected an explicit Edge TPU beside performance, such as edgetpu:usb:0;performance",
        ),
        ("edgetpu:usb;performance=Low", "ignores options without an index"),
        ("edgetpu:usb:0;performence=Low", r"unknown option 'performence'.*did you mean 'performance'"),
        ("edgetpu:usb:0;performance=fast", "expected performance as Low, Medium, High, Max, got 'fast'"),
        ("edgetpu:usb:0;usb.max_bulk_in_queue_length=256", "a number from 0 to 255, got '256'"),
    ],
)
def test_an_unknown_delegate_is_refused_with_what_there_is(text: str, message: str) -> None:
    """Nothing misspelt becomes another delegate in silence."""
    with pytest.raises(InputError, match=message):
        parse_delegate(text)


def test_a_delegate_is_text() -> None:
    """A library handle or None is no name."""
    with pytest.raises(InputError, match="as text, got NoneType"):
        Model(dense_model(), delegate=None)  # type: ignore[arg-type]


# -- models compiled for an Edge TPU ------------------------------------------------------------------------------


def test_a_compiled_model_is_known_by_its_custom_operator() -> None:
    """Read from the file itself, not from its name."""
    assert custom_operators(compiled_model()) == {EDGETPU_OPERATOR}
    assert custom_operators(conv_model("int8")) == frozenset()


def test_auto_means_the_edge_tpu_for_a_compiled_model_alone() -> None:
    """No other model has anything to do there."""
    auto = parse_delegate("auto")

    assert choose_delegate(auto, compiled_model(), "m").kind == "edgetpu"
    assert choose_delegate(auto, dense_model(), "m") == auto


def test_an_edge_tpu_is_refused_to_a_model_that_was_not_compiled_for_it() -> None:
    """It would run on the processor alone and be reported as accelerated."""
    with pytest.raises(InputError, match="compile its int8 variant with edgetpu_compiler"):
        Model(dense_model("int8"), delegate="edgetpu")


# -- a real library through real runtimes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stub libraries and models."""
    folder = tmp_path_factory.mktemp("stub")
    compile_stub(folder)
    compile_stub(folder, symbols=False)
    (folder / "text.so").write_text("no library at all")
    (folder / "edgetpu.tflite").write_bytes(compiled_model())
    (folder / "float.tflite").write_bytes(dense_model())
    (folder / "int8.tflite").write_bytes(dense_model("int8"))
    return folder


@pytest.fixture
def attempts(stub: Path, clean_environment: dict[str, str], request: pytest.FixtureRequest) -> Any:
    """attempts(runtime, (model, delegate), …): what came of each, in one process that survived all of them."""

    def run(runtime: str, *pairs: tuple[str, str], env: dict[str, str] | None = None) -> list[dict[str, Any]]:
        python = request.getfixturevalue({"litert": "device_python", "tflite": "tflite_python"}[runtime])
        asked = json.dumps([[str(stub / model), delegate.format(stub=stub)] for model, delegate in pairs])
        program = Path(__file__).with_name("delegate_attempts.py")
        done = subprocess.run(
            [python, program, runtime, asked, str(HANG_S)],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            env={**clean_environment, LIBRARY_VARIABLE: str(stub / "libstub.so"), **(env or {})},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
        return results

    return run


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_xnnpack_is_on_off_and_insisted_on(runtime: str, attempts: Any) -> None:
    """The outputs stay the same; tflite-runtime 2.14 has no XNNPACK kernels for int8, and says so when asked for them."""
    pairs = [(f"{kind}.tflite", delegate) for kind in ("float", "int8") for delegate in ("auto", "none", "xnnpack")]
    auto, none, xnnpack, auto8, none8, xnnpack8 = attempts(runtime, *pairs)

    assert [auto["runtime"]["delegate"], none["runtime"]["delegate"]] == ["xnnpack", "none"]
    assert xnnpack["runtime"] == auto["runtime"]
    assert none["outputs"] == [pytest.approx(auto["outputs"][0], abs=1e-5)]
    assert none8["runtime"]["delegate"] == "none"
    assert none8["outputs"] == [
        pytest.approx(auto8["outputs"][0], abs=1)
    ]  # int8: the kernels round alike but for a step
    if runtime == "litert":
        assert xnnpack8["runtime"]["delegate"] == "xnnpack"
    else:
        assert auto8["runtime"]["delegate"] == "none"
        assert xnnpack8["error"] == "DelegateError"
        assert "expected XNNPACK to take over operators" in xnnpack8["message"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_compiled_model_runs_on_the_delegate(runtime: str, attempts: Any, stub: Path, tmp_path: Path) -> None:
    """The library is loaded in a trial process, then in this one, with the options it was asked for; it does the work."""
    log = tmp_path / "log"
    results = attempts(
        runtime,
        ("edgetpu.tflite", "auto"),
        ("edgetpu.tflite", "edgetpu:usb:0;performance=high"),
        ("edgetpu.tflite", "external:{stub}/libstub.so;who=me"),
        env={"STUB_LOG": str(log)},
    )
    created = [line.rsplit("pid=", 1) for line in log.read_text().splitlines()]

    assert [result["outputs"] for result in results] == [[[7, 7, 7, 7]]] * 3
    assert [result["runtime"]["delegate"] for result in results] == ["edgetpu", "edgetpu", "external"]
    assert {result["runtime"]["delegate_library"] for result in results} == {str(stub / "libstub.so")}
    assert [result["runtime"]["delegate_options"] for result in results] == [
        "", "device=usb:0;Performance=High", "who=me"
    ]  # fmt: skip
    assert [options.strip() for options, _ in created[::2]] == ["", "device=usb:0 Performance=High", "who=me"]
    assert [options for options, _ in created[::2]] == [options for options, _ in created[1::2]]
    trials, uses = {pid for _, pid in created[::2]}, {pid for _, pid in created[1::2]}
    assert len(trials) == 3
    assert len(uses) == 1
    assert not trials & uses


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_delegate_that_takes_nothing_is_not_credited(runtime: str, attempts: Any) -> None:
    """A float model runs as ever, and the report names who ran it."""
    (result,) = attempts(runtime, ("float.tflite", "external:{stub}/libstub.so;behave=idle"))

    assert result["runtime"]["delegate"] == "xnnpack"
    assert result["runtime"]["delegate_library"].endswith("libstub.so")


FAILURES = {
    "null": (None, "failed while loading it: it gave no delegate and no reason"),
    "refuse": (None, "failed while loading it: the stub has no device today"),
    "crash-create": ("SIGSEGV", "crashes the process (SIGSEGV) while loading it"),
    "crash-prepare": ("SIGSEGV", "crashes the process (SIGSEGV) while taking over operators of"),
    "crash-invoke": ("SIGSEGV", "crashes the process (SIGSEGV) while running"),
    "hang": ("SIGKILL", f"hangs while loading it: it did not finish within {HANG_S:g} s"),
    "fail-prepare": (None, "failed while taking over operators of"),
    "idle": (None, "unresolved custom op: edgetpu-custom-op"),
}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_failing_delegate_is_a_message_and_leaves_the_process_alive(runtime: str, attempts: Any) -> None:
    """Eight ways to fail, one process: each error says in which step, none takes the process along."""
    pairs = [("edgetpu.tflite", f"external:{{stub}}/libstub.so;behave={how}") for how in FAILURES]
    results = dict(zip(FAILURES, attempts(runtime, *pairs), strict=True))

    assert {result["error"] for result in results.values()} == {"DelegateError"}
    assert {result["exit_code"] for result in results.values()} == {3}
    assert {how: result["signal"] for how, result in results.items()} == {how: s for how, (s, _) in FAILURES.items()}
    for how, (_, message) in FAILURES.items():
        assert message in results[how]["message"]
    assert results["fail-prepare"]["findings"] == ["abi-mismatch"]
    assert results["idle"]["findings"] == ["not-delegated"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_no_delegate_library_is_refused(runtime: str, attempts: Any) -> None:
    """No file, no library, a library without the two functions."""
    missing, text, nothing = attempts(
        runtime,
        ("float.tflite", "{stub}/absent.so"),
        ("float.tflite", "{stub}/text.so"),
        ("float.tflite", "external:{stub}/libnothing.so"),
    )

    assert {result["error"] for result in (missing, text, nothing)} == {"DelegateError"}
    assert "No such file" in missing["message"]
    assert "text.so" in text["message"]
    assert "undefined symbol: tflite_plugin_create_delegate" in nothing["message"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_compiled_model_without_an_edge_tpu_gets_the_diagnosis(runtime: str, attempts: Any, stub: Path) -> None:
    """Not "Failed to load delegate": what is missing, and what to type."""
    without, with_library = (
        attempts(runtime, ("edgetpu.tflite", "auto"), env={LIBRARY_VARIABLE: str(library), "STUB_BEHAVE": "null"})[0]
        for library in (stub / "libedgetpu.so.1", stub / "libstub.so")
    )

    assert without["findings"][0] == "library-missing"
    assert "sudo apt-get install libedgetpu1-std" in without["message"]
    assert "library-missing" not in with_library["findings"]
    assert "it gave no delegate and no reason" in with_library["message"]


def test_plain_kernels_run_without_a_compiled_delegate_for_resized_batches() -> None:
    """A delegate stays what it is when a model is resized."""
    import numpy as np

    with Model(dense_model(), delegate="none") as model:
        outputs = model.predict(np.zeros((3, 64), np.float32))

        assert np.asarray(outputs).shape == (3, 32)
        assert model.runtime.delegate == "none"


# -- the command ----------------------------------------------------------------------------------------------------


def test_the_command_measures_on_a_delegate(
    stub: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says which library did the work, with which options."""
    monkeypatch.setenv(LIBRARY_VARIABLE, str(stub / "libstub.so"))
    asked = ["--delegate", "edgetpu:usb:0;performance=Low", "--runtime", "litert", "--runs", "5", "--json"]

    assert main(["bench", str(stub / "edgetpu.tflite"), *asked]) == 0
    runtime = BenchmarkReport.from_json(capfd.readouterr().out).runtime

    assert (runtime.delegate, runtime.delegate_library) == ("edgetpu", str(stub / "libstub.so"))
    assert runtime.delegate_options == "device=usb:0;Performance=Low"


@pytest.mark.parametrize(
    ("delegate", "code", "message"),
    [
        ("edgtpu", 2, "did you mean 'edgetpu'"),
        (
            "external:{stub}/libstub.so;behave=crash-prepare",
            3,
            "crashes the process (SIGSEGV) while taking over operators",
        ),
        ("external:{stub}/libstub.so;behave=refuse", 3, "the stub has no device today"),
    ],
)
@pytest.mark.parametrize("verb", ["info", "run", "bench"])
def test_the_command_ends_with_a_message(
    verb: str, delegate: str, code: int, message: str, stub: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line, and the exit code of what must change: the input, or the world."""
    options = ["--delegate", delegate.format(stub=stub), "--runtime", "litert"]

    assert main([verb, str(stub / "edgetpu.tflite"), *options]) == code
    told = capfd.readouterr()
    assert message in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


# -- opened again after the trial -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fails", "calls", "opens"),
    [("edgetpu", 2, 3, True), ("edgetpu", 99, 6, False), ("external", 99, 1, False)],
)
def test_an_edge_tpu_is_given_time_to_come_back(
    kind: str, fails: int, calls: int, opens: bool, stub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On USB it leaves the bus when the trial process lets go of it; no other library is asked twice."""
    asked: list[str] = []
    real = load_runtime("litert")

    class Impatient:
        """The runtime's module, whose delegate is not there at first."""

        @staticmethod
        def load_delegate(library: str, options: dict[str, str]) -> Any:
            asked.append(library)
            if len(asked) <= fails:
                raise ValueError("Failed to load delegate from x\n")
            return real.module.load_delegate(library, options)

    monkeypatch.setattr(delegates, "REOPENING_PAUSE_S", 0.0)
    request = DelegateRequest(kind, str(stub / "libstub.so"))
    runtime = real._replace(module=Impatient)
    if opens:
        assert open_interpreter(runtime, compiled_model(), 1, "m", request).delegate == kind
    else:
        with pytest.raises(DelegateError, match=r"libstub\.so cannot be loaded for m: Failed to load delegate"):
            open_interpreter(runtime, compiled_model(), 1, "m", request)

    assert len(asked) == calls
