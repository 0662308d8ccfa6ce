"""Running an edgetpu_compiler: found, asked, held to a deadline, and believed only what its files bear out.

The compiler is the stub of ``tests/edgetpu_compiler_stub.py``, a real process; the last test runs Coral's where there is one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from edgekit_converters.errors import ModelFileError, TargetError
from edgekit_converters.targets import child_process
from edgekit_converters.targets.child_process import OUTPUT_CAP, Outcome, run_tool
from edgekit_converters.targets.edgetpu import installed
from edgekit_converters.targets.edgetpu.actual import report_compiled
from edgekit_converters.targets.edgetpu.compiled_model import has_package
from edgekit_converters.targets.edgetpu.compiler import Compiler, compile_edgetpu, find_compiler
from edgekit_converters.targets.edgetpu.installed import ENVIRONMENT
from edgekit_converters.targets.edgetpu.log import parse_log
from edgekit_converters.targets.edgetpu.options import EdgeTpuOptions
from edgekit_converters.targets.edgetpu.preparation import file_stem, prepare
from edgekit_converters.targets.edgetpu.verdict import judge
from edgekit_converters.targets.records import COMPILED, CompiledFiles, TargetReport
from edgekit_converters.targets.target import find_target

from tests.converters import edgetpu_texts as texts
from tests.converters.edgetpu_chains import chain
from tests.edgetpu_builder import compiled_model
from tests.edgetpu_compiler_stub import DTYPE, LATER, LIMITED, install_stub

CORAL = find_target("coral")
V16 = "16.0.384591198"
TYPES = ("CONV_2D", "ADD", "CONV_2D", "RELU")
DAMAGES = 300


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which has to be empty again in the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def stub(folder: Path, mode: str, version: str = V16) -> Compiler:
    """The stub as a compiler that was found."""
    return Compiler(install_stub(folder / "bin", mode, version, EDGETPU_STUB_PIDS=str(folder / "pids")), version)


def compiled(
    folder: Path, mode: str, model: bytes | None = None, version: str = V16, **options: object
) -> CompiledFiles:
    """A model compiled by the stub."""
    (made,) = compile_edgetpu({"lake": model or chain(*TYPES)}, CORAL, compiler=stub(folder, mode, version), **options)
    return made


def refusal(folder: Path, mode: str, model: bytes | None = None, version: str = V16, **options: object) -> TargetError:
    """The error of a compilation that must fail."""
    with pytest.raises(TargetError) as error:
        compiled(folder, mode, model, version, **options)
    return error.value


def test_compiler_is_found_by_argument_environment_and_path_in_this_order(tmp_path, monkeypatch):
    """Each place gives way to the one before; the version is what the program says."""
    on_path, named, given = (install_stub(tmp_path / name, version=f"{i}.0.1") for i, name in enumerate("abc", 14))
    monkeypatch.setenv("PATH", f"{on_path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert find_compiler() == Compiler(on_path, "14.0.1")
    monkeypatch.setenv(ENVIRONMENT, str(named))
    assert find_compiler() == Compiler(named, "15.0.1")
    assert find_compiler(str(given)) == Compiler(given, "16.0.1")
    monkeypatch.chdir(tmp_path)
    assert find_compiler("c/edgetpu_compiler").path == given


def test_without_a_compiler_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    """The lines to type, the variable, and that a program was missing, not the model wrong."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(TargetError, match="no edgetpu_compiler is installed here") as error:
        find_compiler()
    assert error.value.exit_code == 3
    for line in (
        "coral-edgetpu-stable main",
        "sudo apt-get install edgetpu-compiler",
        ENVIRONMENT,
        "docs/edgetpu-compile.md",
    ):
        assert line in str(error.value)


def test_on_another_machine_the_message_says_where_it_runs(tmp_path, monkeypatch):
    """Coral's compiler is a program for x86-64 Linux; elsewhere a container or qemu is what helps."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(TargetError, match=r"Linux on x86-64 alone, and this is Linux on aarch64.*qemu-user"):
        find_compiler()


def test_on_windows_nothing_is_run(tmp_path, monkeypatch):
    """Not even a program that was named: it could not be ended with its children there."""
    program = install_stub(tmp_path)
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    with pytest.raises(TargetError, match="Linux on x86-64 alone, and this is Windows"):
        find_compiler(program)


@pytest.mark.parametrize(
    ("content", "mode", "said", "code"),
    [
        (None, 0, "where there is no file", 2),
        ("", 0o644, "may not be run. Type: chmod", 2),
        ("no shebang", 0o755, "is no program of this machine", 3),
        ("#!/nowhere/sh\n", 0o755, "cannot be run: No such file", 3),
        ("#!/bin/sh\necho edge-tpu 3\n", 0o755, r"ended with exit code 0 and said 'edge-tpu 3': it is not Coral's", 3),
        ("#!/bin/sh\nkill -SEGV $$\n", 0o755, "was ended by SIGSEGV", 3),
    ],
)
def test_program_that_is_no_compiler_is_named(tmp_path, content, mode, said, code):
    """What stands at the path given, and whether the path or the program is wrong."""
    program = tmp_path / "edgetpu_compiler"
    if content is not None:
        program.write_text(content)
        program.chmod(mode)
    with pytest.raises(TargetError, match=said) as error:
        find_compiler(program)
    assert error.value.exit_code == code


def test_folder_and_impossible_path_for_a_compiler(tmp_path):
    """A folder is answered with the program's name in it."""
    with pytest.raises(TargetError, match=f"name the program in it, as {tmp_path}/edgetpu_compiler"):
        find_compiler(tmp_path)
    with pytest.raises(TargetError, match="to be a path"):
        find_compiler("a\0b")


def test_compiler_that_does_not_tell_its_version_is_ended(tmp_path, monkeypatch):
    """A program that waits for ever has to be another one."""
    monkeypatch.setattr(installed, "VERSION_DEADLINE_S", 0.2)
    program = tmp_path / "edgetpu_compiler"
    program.write_text("#!/bin/sh\nsleep 600\n")
    program.chmod(0o755)
    with pytest.raises(TargetError, match=r"did not answer within 0\.2 s"):
        find_compiler(program)


@pytest.mark.parametrize(
    ("version", "said"), [(V16, ""), ("15.0.340273435", "older than 16"), ("17.1.5", "unknown to edgekit")]
)
def test_other_versions_come_with_a_warning(tmp_path, version, said):
    """Older ones run, but predictions are of 16; so does one nobody has seen."""
    compiler = Compiler(tmp_path, version)
    assert (said in compiler.warning) if said else compiler.warning == ""


def test_whole_model_compiles(tmp_path, scratch):
    """The file with its package, the log, every operator on the Edge TPU, and the prediction agreeing."""
    model = chain(*TYPES)
    made = compiled(tmp_path, "succeed", model)
    report = made.report
    assert list(made.files) == ["lake_edgetpu.tflite", "lake_edgetpu.log"]
    assert has_package(made.files["lake_edgetpu.tflite"])
    assert made.files["lake_edgetpu.log"].decode().startswith(texts.VERSION_16)
    assert (report.basis, report.said_by) == (COMPILED, f"edgetpu_compiler {V16}")
    assert [op.placement for op in report.ops] == ["edgetpu"] * 4
    assert (report.on_target, report.on_cpu, report.subgraphs, report.first_off_target) == (4, 0, 1, None)
    assert (report.min_runtime, report.cached_bytes, report.streamed_bytes) == (14, 4096, 0)
    assert report.memory["on_chip_remaining"] == round(6.5 * 2**20)
    assert report.figures["compiler_ms"] == 731
    assert (report.mapping_check.agreed, report.mapping_check.predicted_on_target_only) == (4, ())
    assert report.model_sha256 == hashlib.sha256(model).hexdigest()
    assert report.warnings == ()
    assert "Compilation succeeded!" in made.log
    assert list(scratch.iterdir()) == []


def test_partly_mapped_model_tells_the_compilers_reasons(tmp_path):
    """Operators on the processor bear the compiler's words, and where it contradicts the prediction the record says so."""
    report = compiled(tmp_path, "partial:2").report
    assert [(op.placement, op.reason) for op in report.ops] == [
        ("edgetpu", ""),
        ("edgetpu", ""),
        ("cpu", LIMITED),
        ("cpu", LATER),
    ]
    assert all(op.remedy for op in report.ops[2:])
    assert (report.on_target, report.on_cpu, report.first_off_target) == (2, 2, 2)
    assert (report.mapping_check.agreed, report.mapping_check.predicted_on_target_only) == (2, (2, 3))
    assert report.warnings == (
        "edgekit predicted 2 operator(s) on the Edge TPU that the compiler placed otherwise: 2, 3",
    )


def test_several_reasons_for_one_type_are_all_told(tmp_path):
    """The compiler's table knows types, not operators: where two of a type have two reasons, both are said."""
    report = compiled(tmp_path, "partial:1", chain("ADD", "RELU", "RELU", "RELU")).report
    assert {op.reason for op in report.ops[1:]} == {f"{LIMITED} or: {LATER}"}


def test_what_the_rules_refuse_keeps_the_rules_remedy(tmp_path):
    """Where prediction and compiler agree on the reason, the remedy is the one with this operator's numbers."""
    report = compiled(tmp_path, "partial:1", chain("CONV_2D", "HARD_SWISH")).report
    (ours,) = [op for op in report.ops if op.type == "HARD_SWISH"]
    assert ours.placement == "cpu"
    assert "relu6" in ours.remedy.lower()
    assert report.mapping_check.agreed == 2


def test_nothing_mapped_is_no_success(tmp_path, scratch):
    """Exit code 0 with every operator on the processor is an error about the model, and leaves nothing behind."""
    error = refusal(tmp_path, "nothing")
    assert error.refused
    assert f"calls lake a success and mapped none of its operators to the Edge TPU: 2 CONV_2D: {DTYPE}" in str(error)
    assert "Compilation succeeded!" in error.log
    assert list(scratch.iterdir()) == []


def test_float_model_is_refused_before_and_named_after(tmp_path):
    """The pre-flight saves the wait; forced, the compiler's success is called what it is."""
    model = chain("CONV_2D", "ADD", dtype="float32")
    before = refusal(tmp_path, "nothing", model)
    assert "nothing of it would run on the Edge TPU" in str(before)
    assert "The compiler was not run: --force" in str(before)
    assert not before.log
    after = refusal(tmp_path, "nothing", model, force=True)
    assert "the model is float, operator 0 (CONV_2D)" in str(after)
    assert "quantize the model: edgekit convert" in str(after)


def test_runtime_asked_for_too_old_is_the_cause_of_nothing_mapped(tmp_path):
    """A low -m "compiles" with nothing mapped: the message is about the option."""
    error = refusal(tmp_path, "nothing", options=EdgeTpuOptions(min_runtime_version=10))
    assert "what it needs is newer than runtime 10. Leave --min-runtime-version out" in str(error)


def test_runtime_asked_for_is_held_against_the_file(tmp_path):
    """The record has the runtime of the file; a file that needs a newer one than was asked for is not handed on."""
    options = EdgeTpuOptions(min_runtime_version=12)
    made = compiled(tmp_path, "succeed", options=options)
    assert (made.report.min_runtime, made.report.mapping_check) == (12, None)
    error = refusal(tmp_path, "deaf", options=options)
    assert r"asked for files that run under runtime 12, and lake_edgetpu.tflite needs 14" in str(error)


def test_own_timer_longer_than_the_deadline_is_refused(tmp_path):
    """The compiler would be ended before its own timer ends it."""
    error = refusal(tmp_path, "succeed", options=EdgeTpuOptions(timeout_s=60), deadline_s=30)
    assert "--timeout-s 60 is longer than --deadline-s 30" in str(error)
    assert error.refused


@pytest.mark.parametrize("kind", texts.FAILURES)
def test_every_failure_is_an_error_in_our_words(tmp_path, kind):
    """The compiler's sentence, what it means, what to do; exit 2 where the model has to change, 3 where it does not."""
    error = refusal(tmp_path, f"fail:{kind}")
    assert error.exit_code == (3 if kind in ("internal", "crash", "out-of-memory") else 2)
    assert f"edgetpu_compiler {V16} compiles nothing of lake. It says " in str(error)
    assert "What to do: " in str(error)
    assert "Compilation failed!" in error.log


@pytest.mark.parametrize("kind", ["internal", "not-quantized"])
def test_older_compilers_fail_without_a_verdict(tmp_path, kind):
    """Compiler 15 prints its sentence alone."""
    error = refusal(tmp_path, f"fail:{kind}", version="15.0.340273435")
    assert ("Internal compiler error" in str(error)) == (kind == "internal")
    assert "Compilation" not in error.log


def test_older_compiler_compiles_with_a_warning(tmp_path):
    """Compiler 15 is given no option it does not have; its "compiled successfully" and its file are enough."""
    made = compiled(tmp_path, "succeed", version="15.0.340273435")
    assert "older than 16" in made.report.warnings[0]
    assert made.report.on_target == 4


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("leave:internal", "compiles nothing of lake"),
        ("bare", "ended with exit code 1 while compiling lake, without a word why"),
        ("crash:11", "was ended by SIGSEGV while compiling lake"),
        ("shell:11", "the compiler crashed on this model"),
        ("exit:131", r"was ended by SIGQUIT while compiling lake, without a word"),
        ("exit:161", "was ended by signal 33 while compiling"),
        ("late:9", "ended with exit code 9 while compiling lake, its last words: something odd"),
        ("missing", r"exit code 0 and made no lake_edgetpu\.tflite of lake \(it made lake_edgetpu\.log\)|made nothing"),
        ("link", r"made no lake_edgetpu\.tflite"),
        ("stub", r"left a stub of 1,024 bytes as lake_edgetpu\.tflite that is no \.tflite"),
        ("hollow", r"left a stub of [0-9,]+ bytes as lake_edgetpu\.tflite, a model without operators"),
        ("placeholder", r"placeholder of lake that no Edge TPU can run"),
        ("noise", "edgetpu-custom-op that holds no package"),
        ("liar", "says that 4 operators of lake run on the Edge TPU, and"),
    ],
)
def test_what_is_not_a_compiled_model_is_not_handed_on(tmp_path, scratch, mode, said):
    """Crashes, stubs, placeholders and lies are the compiler's failure, exit code 3, and no file comes of them."""
    with pytest.raises(TargetError, match=said) as error:
        compiled(tmp_path, mode)
    assert error.value.exit_code == 3
    assert list(scratch.iterdir()) == []


def _alive(pids: Path) -> list[int]:
    """Which of the processes noted in ``pids`` live; what was killed is given a while to go, as a busy machine takes it."""
    numbers = [int(number) for number in pids.read_text().split()]
    until = time.monotonic() + 10
    while (alive := [number for number in numbers if _lives(number)]) and time.monotonic() < until:
        time.sleep(0.02)
    return alive


def _lives(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_compiler_that_hangs_is_ended_with_its_children(tmp_path, scratch):
    """Neither ignores SIGKILL; what was printed until then is kept."""
    error = refusal(tmp_path, "hang", deadline_s=4.0)  # time enough to start, also on a busy machine
    assert "was not done with lake after 4 s and was ended with its children" in str(error)
    assert error.exit_code == 3
    assert _alive(tmp_path / "pids") == []
    assert texts.TIMER in error.log
    assert list(scratch.iterdir()) == []


def test_interrupted_wait_ends_the_compiler_too(tmp_path, scratch):
    """Ctrl-C while the compiler runs leaves neither it nor its child nor its folder."""

    def interrupt(number: int, frame: object) -> None:
        if not (tmp_path / "pids").exists():
            signal.setitimer(signal.ITIMER_REAL, 0.05)  # it has not started its child yet
            return
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            compiled(tmp_path, "hang", deadline_s=60.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert _alive(tmp_path / "pids") == []
    assert list(scratch.iterdir()) == []


def test_child_left_behind_is_ended_with_the_compiler(tmp_path):
    """A compiler that ends before its child does not leave it running."""
    assert compiled(tmp_path, "heir").report.on_target == 4
    assert _alive(tmp_path / "pids") == []


def test_child_that_left_the_group_does_not_hold_up_the_answer(tmp_path, monkeypatch):
    """A grandchild in a session of its own keeps the pipe open; the compiler's answer is not waited for any longer."""
    monkeypatch.setattr(child_process, "LAST_WORDS_S", 0.1)
    assert compiled(tmp_path, "orphan").report.on_target == 4
    child = int((tmp_path / "pids").read_text().split()[1])
    assert psutil.pid_exists(child)  # it was there all the time
    os.kill(child, signal.SIGKILL)


def test_endless_output_is_cut_in_the_middle(tmp_path):
    """Of 100 MB a fixed part is kept, the verdict at its end included, and the gap is marked."""
    made = compiled(tmp_path, "flood")
    assert made.report.on_target == 4
    assert len(made.log) <= 200_000
    assert made.log.rstrip().endswith("Compilation succeeded!")
    outcome = run_tool(["sh", "-c", "yes | head -c 9000000"], folder=tmp_path, deadline_s=60)
    assert outcome.dropped_bytes + len(outcome.text.split("\n… ")[0]) > 9_000_000 - 2 * OUTPUT_CAP
    assert len(outcome.text) <= 2 * OUTPUT_CAP
    assert "bytes are left out here" in outcome.text


def test_tool_that_closes_its_output_is_waited_for(tmp_path):
    """A closed pipe is not the end of the process: its exit code is."""
    outcome = run_tool(["sh", "-c", "echo said; exec >&- 2>&-; sleep 0.2; exit 7"], folder=tmp_path, deadline_s=30)
    assert (outcome.returncode, outcome.text) == (7, "said\n")


def test_compiler_is_given_nothing_outside_its_folder(tmp_path):
    """So that a script may run it in a container: its folder is the working one, and every path is in it."""
    program = tmp_path / "edgetpu_compiler"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/said\nls > {tmp_path}/there\nexit 1\n')
    program.chmod(0o755)
    with pytest.raises(TargetError):
        compile_edgetpu({"../a": chain("ADD"), "b": chain("RELU")}, CORAL, compiler=Compiler(program, V16))
    expected = "--out_dir out --show_operations --timeout_sec 180 a.tflite b.tflite"
    assert (tmp_path / "said").read_text().split() == expected.split()
    assert (tmp_path / "there").read_text().split() == ["a.tflite", "b.tflite", "out"]


def test_table_that_is_not_printed_is_read_from_the_log(tmp_path):
    """Without --show_operations the reasons come from the .log beside the file; several pieces come with a warning."""
    options = EdgeTpuOptions(show_operations=False, multiple_subgraphs=True)
    report = compiled(tmp_path, "partial:2", options=options).report
    assert [op.reason for op in report.ops] == ["", "", LIMITED, LATER]
    assert report.warnings[-1].startswith("--multiple-subgraphs is experimental")


def judged(folder: Path, said: str, model: bytes, content: bytes) -> TargetReport:
    """The report of a compiler that printed ``said`` and left ``content``."""
    options, compiler = EdgeTpuOptions(), Compiler(folder, V16)
    jobs, outcome, log = prepare({"lake": model}, CORAL, options), Outcome(0, said, 0, 0.1), parse_log(said)
    (folder / "lake_edgetpu.tflite").write_bytes(content)
    (made,) = judge(outcome, log, folder, jobs, options, compiler)
    return report_compiled(jobs[0], made, log, CORAL, options=options, compiler=compiler)


def test_compiler_that_counts_otherwise_than_its_file_is_told(tmp_path):
    """The file is believed, by the names of its tensors, and the report says what the compiler printed."""
    model = chain("CONV_2D", "ADD", "HARD_SWISH")
    said = texts.success(texts.block("lake", (("CONV_2D", 1, "Mapped to Edge TPU"), ("ADD", 2, LATER))))
    report = judged(tmp_path, said, model, compiled_model(model, pieces=[range(2)]))
    assert report.on_target == 2
    expected = "the compiler says 1 operator(s) run on the Edge TPU, by the names of tensors edgekit finds 2"
    assert report.warnings == (expected,)
    assert report.ops[2].reason == "Operation not supported"


def test_operator_the_compiler_took_against_the_rules_is_told(tmp_path):
    """The difference is told in the other direction too."""
    model = chain("CONV_2D", "HARD_SWISH")
    report = judged(tmp_path, "", model, compiled_model(model))
    assert report.mapping_check.actually_on_target_only == (1,)
    assert report.warnings == (
        "edgekit predicted 1 operator(s) on the processor that the compiler placed otherwise: 1",
    )


def test_custom_operators_have_the_reason_of_the_tables_custom(tmp_path):
    """The table calls every custom operator CUSTOM; a status nobody knows is handed on."""
    model = chain("CONV_2D", "TFLite_Detection_PostProcess")
    said = texts.success(
        texts.block("lake", (("CONV_2D", 1, "Mapped to Edge TPU"), ("CUSTOM", 1, "Never heard of it")))
    )
    report = judged(tmp_path, said, model, compiled_model(model, pieces=[range(1)]))
    assert (report.ops[1].placement, report.ops[1].reason) == ("cpu", "Never heard of it")


def test_model_without_operators_is_refused(tmp_path):
    """There is nothing to compile in it."""
    assert "it has no operators" in str(refusal(tmp_path, "succeed", chain()))


def test_models_compiled_together_come_back_in_order(tmp_path):
    """One record each, of its own file, in the order that gives the first the first claim on the memory."""
    models = {"wide": chain(*TYPES), "small": chain("CONV_2D")}
    wide, small = compile_edgetpu(models, CORAL, compiler=stub(tmp_path, "succeed"))
    assert (next(iter(wide.files)), next(iter(small.files))) == ("wide_edgetpu.tflite", "small_edgetpu.tflite")
    assert (wide.report.on_target, small.report.on_target) == (4, 1)
    assert wide.log == small.log
    assert wide.report.warnings == small.report.warnings == ()


def test_models_that_do_not_share_the_memory_after_all_are_told(tmp_path):
    """What co-compilation is for can be seen in the files: one caching token. Without it both records say so."""
    models = {"wide": chain(*TYPES), "small": chain("CONV_2D")}
    for made in compile_edgetpu(models, CORAL, compiler=stub(tmp_path, "apart")):
        assert "pushes the others' parameters off the chip" in made.report.warnings[-1]


def test_segments_are_files_of_their_own(tmp_path):
    """The pieces in order, then their logs; operators are those of the model given, bytes the sum of all."""
    made = compiled(tmp_path, "succeed", options=EdgeTpuOptions(num_segments=2))
    names = [f"lake_segment_{i}_of_2_edgetpu" for i in range(2)]
    assert list(made.files) == [f"{name}.tflite" for name in names] + [f"{name}.log" for name in names]
    report = made.report
    assert (len(report.ops), report.on_target, report.subgraphs) == (4, 4, 2)
    assert (report.cached_bytes, report.figures["segments"]) == (2 * 4096, 2)
    assert report.memory["segment_1_on_chip_used"] == round(1.25 * 2**20)
    assert report.mapping_check is None
    assert report.estimate is None


def test_segment_with_nothing_for_an_edge_tpu_is_told(tmp_path):
    """Its operators are on the processor, with the compiler's reason; the other segment's are where they were put."""
    report = compiled(tmp_path, "half", options=EdgeTpuOptions(num_segments=2)).report
    assert [(op.placement, op.reason) for op in report.ops] == [("edgetpu", "")] * 2 + [("cpu", DTYPE)] * 2
    assert (report.subgraphs, report.on_target, report.min_runtime) == (1, 2, 14)
    assert report.warnings == (
        "lake_segment_1_of_2_edgetpu.tflite has nothing for an Edge TPU: it runs on the processor",
    )


def test_damaged_files_of_a_compiler_are_judged_in_our_words(tmp_path):
    """Whatever bytes it leaves, and says it mapped: a record, or an error that names the model; 300 damages."""
    model, random = chain(*TYPES), np.random.default_rng(3)
    whole, options, compiler = compiled_model(model), EdgeTpuOptions(), Compiler(tmp_path, V16)
    jobs = prepare({"lake": model}, CORAL, options)
    outcome = Outcome(0, texts.success(texts.block("lake", (("ADD", 4, "Mapped to Edge TPU"),))), 0, 0.1)
    log, ends = parse_log(outcome.text), []
    for _ in range(DAMAGES):
        content = bytearray(whole)
        for place in random.integers(0, len(whole), size=random.integers(1, 9)):
            content[place] = random.integers(0, 256)
        del content[random.integers(1, len(whole) + 1) if random.random() < 0.2 else len(whole) :]
        (tmp_path / "lake_edgetpu.tflite").write_bytes(content)
        try:
            (made,) = judge(outcome, log, tmp_path, jobs, options, compiler)
            report = report_compiled(jobs[0], made, log, CORAL, options=options, compiler=compiler)
            assert len(report.ops) == 4
            ends.append("made of lake")
        except TargetError as error:
            ends.append(str(error))
    assert all("lake" in end for end in ends)
    assert 0 < ends.count("made of lake") < DAMAGES


def test_delegate_search_keeps_the_part_that_compiles(tmp_path):
    """Of a search the last try counts; what it left out is on the processor, and nothing is held against the prediction."""
    made = compiled(tmp_path, "search:2", options=EdgeTpuOptions(search_delegate=True, delegate_search_step=2))
    assert [op.placement for op in made.report.ops] == ["edgetpu", "edgetpu", "cpu", "cpu"]
    assert made.report.figures["failed_tries"] == 1
    assert "left the end of the model on the processor" in made.report.warnings[0]
    assert made.report.mapping_check is None


def test_search_that_finds_nothing_does_not_advise_a_search(tmp_path):
    """The remedy is not what was just tried."""
    error = refusal(tmp_path, "search:0", options=EdgeTpuOptions(search_delegate=True))
    assert "large activation tensors" in str(error)
    assert "--search-delegate found no part of it (1 tried)" in str(error)


def test_already_compiled_model_is_refused_even_by_force(tmp_path):
    """The compiler can do nothing for its own work."""
    error = refusal(tmp_path, "succeed", compiled_model(chain(*TYPES)), force=True)
    assert "lake is compiled for an Edge TPU already" in str(error)
    assert error.refused


def test_operator_newer_than_the_compiler_is_refused_before_it_runs(tmp_path):
    """GELU is refused with the compiler's words; forced, the compiler says it itself."""
    model = chain("CONV_2D", "GELU")
    error = refusal(tmp_path, "bare", model)
    assert "GELU" in str(error)
    assert not error.log
    forced = refusal(tmp_path, "fail:unknown-operator", model, force=True)
    assert "operator code 150 came after the TensorFlow Lite inside the compiler" in str(forced)


def test_intermediate_tensors_have_to_be_the_models(tmp_path):
    """A misspelt tensor is answered with what was meant; a real one is handed on."""
    error = refusal(tmp_path, "succeed", options=EdgeTpuOptions(intermediate_tensors=("made/11",)))
    assert "lake has no tensor 'made/11'; did you mean 'made/" in str(error)
    made = compiled(tmp_path, "succeed", options=EdgeTpuOptions(intermediate_tensors=("made/1",)))
    assert made.report.options["intermediate_tensors"] == ("made/1",)
    assert made.report.mapping_check is None


def test_bytes_that_are_no_model_are_named(tmp_path):
    """The error names the model among several."""
    models = {"good": chain("ADD"), "bad": b"nothing"}
    with pytest.raises(ModelFileError, match=r"^bad: expected"):
        compile_edgetpu(models, CORAL, compiler=stub(tmp_path, "succeed"))


def test_other_targets_and_no_models_are_refused(tmp_path):
    """The compiler is for Edge TPUs, and wants something to do."""
    with pytest.raises(TargetError, match="raspberry-pi-5 is cpu"):
        compile_edgetpu({"m": chain("ADD")}, find_target("raspberry-pi-5"))
    with pytest.raises(TargetError, match="expected 1 to 16 models to compile together, got 0"):
        compile_edgetpu({}, CORAL)
    with pytest.raises(TargetError, match="--num-segments cuts one model, got 2"):
        compile_edgetpu(dict.fromkeys("ab", chain("ADD")), CORAL, options=EdgeTpuOptions(num_segments=2))


def test_compiler_that_vanished_since_it_was_found(tmp_path):
    """A program that cannot be started any more is the world's failure."""
    with pytest.raises(TargetError, match="cannot be run: No such file") as error:
        compile_edgetpu({"m": chain("ADD")}, CORAL, compiler=Compiler(tmp_path / "gone", V16))
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("m.tflite", "m"),
        ("mobilenet_v2_1.0_224.TFLITE", "mobilenet_v2_1.0_224"),
        ("../../etc/pass wd", "pass_wd"),
        ("C:\\models\\ä;rm -rf.tflite", "__rm_-rf"),
        ("--help", "help"),
        ("...", "model"),
        ("", "model"),
        ("x" * 500, "x" * 80),
    ],
)
def test_names_become_safe_file_names(name, stem):
    """No path, no option, no character that a shell would obey."""
    assert file_stem(name) == stem


def test_names_that_become_the_same_are_told_apart(tmp_path):
    """Two models never share a file."""
    made = compile_edgetpu({"a b": chain("ADD"), "a_b": chain("RELU")}, CORAL, compiler=stub(tmp_path, "succeed"))
    assert [next(iter(files.files)) for files in made] == ["a_b_edgetpu.tflite", "a_b_2_edgetpu.tflite"]
    assert [files.report.ops[0].type for files in made] == ["ADD", "RELU"]


def test_control_characters_of_the_compiler_do_not_reach_a_terminal(tmp_path):
    """What is kept of its output has lines and printable characters alone."""
    program = tmp_path / "edgetpu_compiler"
    program.write_text("#!/bin/sh\nprintf '\\033]0;owned\\007Invalid model: x\\nModel not quantized\\n'; exit 1\n")
    program.chmod(0o755)
    with pytest.raises(TargetError, match="Model not quantized") as error:
        compile_edgetpu({"m": chain("ADD")}, CORAL, compiler=Compiler(program, V16))
    assert all(mark.isprintable() or mark == "\n" for mark in error.value.log + str(error.value))


def test_corals_own_compiler_compiles_a_chain():
    """The real compiler, where this machine has one: four operators map, and the record is as with the stub."""
    try:
        compiler = find_compiler()
    except TargetError as error:
        pytest.skip(f"Coral's compiler is not here, so it was not run: {str(error).splitlines()[0]}")
    began = time.monotonic()
    (made,) = compile_edgetpu({"lake": chain(*TYPES)}, CORAL, compiler=compiler)
    report = made.report
    assert has_package(made.files["lake_edgetpu.tflite"])
    assert report.min_runtime in range(10, 15)
    assert report.on_target == report.mapping_check.agreed == 4
    assert made.compile_s <= time.monotonic() - began
