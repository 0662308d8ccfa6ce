"""What the Edge TPU compiler prints and writes, of every version there was, whole and damaged."""

from __future__ import annotations

import pytest
from edgekit_converters.targets.edgetpu.failures import FAILURES, recognise_failure
from edgekit_converters.targets.edgetpu.log import (
    LINE_CAP,
    MOST_ATTEMPTS,
    MOST_MESSAGES,
    MOST_MODELS,
    MOST_ROWS,
    TEXT_CAP,
    find_version,
    parse_log,
)
from edgekit_converters.targets.edgetpu.statuses import STATUSES, find_status
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.converters import edgetpu_texts as texts

MAPPED = "Mapped to Edge TPU"
LATER = "More than one subgraph is not supported"
LIMIT = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
ROWS = (
    ("ADD", 4, MAPPED),
    ("CONV_2D", 11, MAPPED),
    ("CONV_2D", 2, LATER),
    ("RESHAPE", 1, LIMIT),
    ("SOFTMAX", 1, LATER),
)
WHOLE = (("CONV_2D", 9, MAPPED), ("FULLY_CONNECTED", 1, MAPPED))


def test_partly_mapped_model_is_read_with_every_figure():
    """Names, sizes in bytes, counts and the table of a model of which three operators stay on the processor."""
    text = f"{texts.VERSION_16}\n" + texts.success(texts.block("lake", ROWS, streamed="300.25KiB"))
    log = parse_log(text)
    (model,) = log.models
    assert (log.version, log.succeeded, log.failure, log.compile_ms) == ("16.0.384591198", True, None, 731)
    assert (model.input_model, model.output_model) == ("lake.tflite", "out/lake_edgetpu.tflite")
    assert model.operation_log == "out/lake_edgetpu.log"
    assert (model.input_bytes, model.output_bytes) == (round(2.5 * 2**20), round(768.5 * 2**10))
    assert (model.cached_bytes, model.remaining_bytes) == (round(1.25 * 2**20), round(6.5 * 2**20))
    assert (model.streamed_bytes, model.subgraphs, model.operators) == (round(300.25 * 2**10), 1, 19)
    assert (model.on_tpu, model.on_cpu, model.said_on_tpu, model.said_on_cpu) == (15, 4, 15, 4)
    assert [(row.type, row.count, row.status) for row in model.rows] == list(ROWS)
    assert log.attempts[0].messages == ()
    assert (log.attempts[0].timeout_s, log.attempts[0].in_time) == (180, True)


def test_wholly_mapped_model_without_the_table():
    """Where nothing stays on the processor the compiler prints no counts: they follow from the total."""
    log = parse_log(texts.success(texts.block("lake", WHOLE, shown=False)))
    assert (log.models[0].on_tpu, log.models[0].on_cpu, log.models[0].rows) == (10, 0, ())


@pytest.mark.parametrize("version", ["1.0.249710469", "2.1.302470888", "14.1.317412892", "15.0.340273435"])
def test_older_compilers_print_neither_timer_nor_verdict(version):
    """Before 16 "compiled successfully" is all they say, and "Internal compiler error" when it was not."""
    head = f"Edge TPU Compiler version {version}\n\n"
    log = parse_log(f"{head}Model compiled successfully in 41 ms.\n\n{texts.block('old', ROWS)}\n")
    assert (log.version, log.succeeded, log.compile_ms, log.models[0].on_cpu) == (version, True, 41, 4)
    failed = parse_log(f"{head}Internal compiler error. Aborting! \n")
    assert failed.succeeded is False
    assert failed.failure.kind == "internal"
    refused = parse_log(f"{head}Invalid model: old.tflite\nModel not quantized\n")
    assert (refused.succeeded, refused.failure.kind) == (False, "not-quantized")


def test_memory_available_of_compiler_2():
    """Compiler 2.0 prints the memory available, and not what remains."""
    text = "Input model: a.tflite\nOn-chip memory available for caching model parameters: 1.75MiB\n"
    (model,) = parse_log(text).models
    assert (model.available_bytes, model.remaining_bytes) == (round(1.75 * 2**20), None)


def test_operation_log_file_says_no_verdict():
    """A .log has the version, names and table; whether it succeeded it does not say."""
    log = parse_log(texts.log_file("lake", ROWS))
    (model,) = log.models
    assert (log.version, log.succeeded) == ("16.0.384591198", None)
    assert (model.input_model, model.on_tpu, model.on_cpu) == ("lake.tflite", 15, 4)


def test_models_compiled_together_are_told_apart():
    """Each co-compiled model keeps its own figures."""
    log = parse_log(
        texts.success(texts.block("one", ROWS, cached="3.00MiB"), texts.block("two", WHOLE, cached="18.00KiB"))
    )
    assert [(model.input_model, model.cached_bytes) for model in log.models] == [
        ("one.tflite", 3 * 2**20),
        ("two.tflite", 18 * 2**10),
    ]
    assert [model.on_cpu for model in log.models] == [4, 0]
    assert len(log.attempts) == 1


def test_segments_repeat_the_banner_and_all_must_succeed():
    """With -n every segment is a compilation; one that fails is a failure of the whole."""
    first = texts.success(texts.block("m_segment_0_of_2", WHOLE), milliseconds=10)
    second = texts.success(texts.block("m_segment_1_of_2", ROWS), milliseconds=30)
    log = parse_log(texts.VERSION_16 + "\n" + first + second)
    assert (log.succeeded, len(log.attempts), log.compile_ms) == (True, 2, 40)
    assert [model.input_model for model in log.models] == ["m_segment_0_of_2.tflite", "m_segment_1_of_2.tflite"]
    failed = parse_log(texts.VERSION_16 + "\n" + first + texts.failure("large-activations"))
    assert (failed.succeeded, failed.failure.kind, len(failed.models)) == (False, "large-activations", 1)


def search(last: str) -> str:
    """Two tries of a delegate search, of which the first fails."""
    return "\n".join(
        [
            texts.VERSION_16,
            "Searching for valid delegate with step 5",
            "Try to compile segment with 25 ops",
            texts.failure("large-activations") + "Try to compile segment with 20 ops",
            "Intermediate tensors: a/b;a/c,d:1",
            last,
        ]
    )


def test_delegate_search_succeeds_when_its_last_try_does():
    """Failed tries are kept with what they were about; the last one's models count."""
    log = parse_log(search(texts.success(texts.block("m", ROWS))))
    first, second = log.attempts
    assert (log.succeeded, log.failure, len(log.models)) == (True, None, 1)
    assert (first.operators, first.succeeded, first.failure.kind) == (25, False, "large-activations")
    assert (second.operators, second.intermediate_tensors) == (20, ("a/b;a/c", "d:1"))


def test_delegate_search_that_fails_tells_why_the_whole_model_did():
    """The later tries' bare failures do not hide the telling one."""
    log = parse_log(search(texts.failure("internal")))
    assert (log.succeeded, log.failure.kind) == (False, "large-activations")


@pytest.mark.parametrize("kind", texts.FAILURES)
def test_every_failure_text_is_recognised(kind):
    """Each failure has its kind, a sentence of the compiler's and words about it; the model is to blame or the tool."""
    log = parse_log(f"{texts.VERSION_16}\n{texts.failure(kind, 'lake')}")
    assert log.succeeded is False
    assert log.failure.kind == kind
    assert log.failure.refused == (kind not in ("internal", "crash", "out-of-memory"))
    assert log.failure.meaning
    assert log.failure.remedy
    assert "{" not in log.failure.meaning + log.failure.remedy


def test_facts_of_a_failure_are_in_its_meaning():
    """Operator and version, code and custom name come from the compiler's text."""
    said = {kind: parse_log(texts.failure(kind)).failure.meaning for kind in texts.FAILURES}
    assert "CONV_2D in version 6" in said["operator-version"]
    assert "code 150" in said["unknown-operator"]
    assert "called Hypot" in said["custom-operator"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "The number of lists given to intermediate_tensors doesn't match the number of input models.",
            "intermediate-tensors",
        ),
        ("unrecognized option '--timeout_sec'", "option"),
        ("/opt/edgetpu_compiler: line 3: 77 Segmentation fault (core dumped) ${d}/edgetpu_compiler", "crash"),
        ("ld: error while loading shared libraries: libx.so: cannot open shared object file", "broken-install"),
        ("Compilation failed: Internal error.", "internal"),
        ("Compilation child process timed out.", "timeout"),
    ],
)
def test_lines_that_are_printed_without_a_verdict(line, kind):
    """Messages of the shell around the compiler, of its options and of its timer."""
    assert recognise_failure([line]).kind == kind


def test_lines_of_a_good_run_are_no_failure():
    """The timer's lines and the partial notice name time-outs and what is not supported, and fail nothing."""
    assert recognise_failure([texts.TIMER, texts.IN_TIME, texts.PARTIAL, texts.SUCCEEDED]) is None


def test_kinds_of_failures_are_named_once():
    """A kind is one row of the table."""
    assert len({text.kind for text in FAILURES}) == len(FAILURES)


def test_the_page_names_every_failure_and_status(root):
    """docs/edgetpu-compile.md has a row for each kind of failure and each status, in the compiler's words."""
    page = (root / "docs" / "edgetpu-compile.md").read_text(encoding="utf-8")
    assert [text.kind for text in FAILURES if f"| `{text.kind}` |" not in page] == []
    assert [status.text for status in STATUSES if f"| `{status.text}` |" not in page] == []
    rows = [line.split(" | ")[1] for line in page.splitlines() if line.startswith("| `") and line.count(" | ") == 3]
    said = [text for cell in rows for text in cell.split("`")[1::2]]
    found = {failure.kind for text in said if (failure := recognise_failure([text]))}
    assert found == {text.kind for text in FAILURES} - {"timeout"}


@pytest.mark.parametrize("status", STATUSES, ids=lambda status: status.name)
def test_every_status_is_known_in_any_spacing(status):
    """Statuses are found in the compiler's words; only one of them is the Edge TPU."""
    assert find_status(f"  {status.text.replace(' ', '  ')} ") is status
    assert status.mapped == (status.text == MAPPED)
    assert status.mapped or status.remedy


def test_status_cut_in_a_copy_and_one_nobody_knows():
    """The beginning is enough for the long one about the rank; an unknown one is kept as it is, on the processor."""
    assert find_status("Tensor has unsupported rank (up to 3 innermost dimensio").name == "rank"
    assert find_status("Tensor has unsupported rank").name == "rank"
    (model,) = parse_log(texts.log_file("m", (("ROLL", 3, "Operation was never heard of"),))).models
    assert (model.rows[0].known, model.rows[0].status, model.on_cpu) == (None, "Operation was never heard of", 3)


@pytest.mark.parametrize("cut", range(0, 1100, 50))
def test_cut_text_is_read_as_far_as_it_goes(cut):
    """A text that ends anywhere gives what stands before the cut, and no verdict that was not printed."""
    whole = f"{texts.VERSION_16}\n" + texts.success(texts.block("lake", WHOLE))
    log = parse_log(whole[:cut])
    assert log.succeeded is (True if cut >= len(whole) - 1 else None)
    assert log.version in ("", "16.0.384591198", "16") or cut < 60


def test_unknown_lines_are_kept_up_to_a_cap_without_control_characters():
    """Nothing is lost in silence: the lines that do not fit are counted."""
    lines = [f"\x1b[31mwarning {number}\x07" for number in range(MOST_MESSAGES + 7)]
    log = parse_log("\n".join([texts.VERSION_16, *lines]))
    (attempt,) = log.attempts
    assert len(attempt.messages) == MOST_MESSAGES
    assert log.dropped_lines == 7
    assert attempt.messages[0] == "[31mwarning 0"


def test_numbers_too_long_to_be_counts_are_messages():
    """A damaged figure becomes no number."""
    log = parse_log(
        f"Total number of operations: {'9' * 5000}\nInput size: {'9' * 400}.00MiB\nADD   {'9' * 60}   {MAPPED}\n"
    )
    assert log.models == ()
    assert len(log.attempts[0].messages) == 3


def test_text_without_end_keeps_its_beginning_and_its_end():
    """Of a text over the cap the middle goes; a line without end is cut."""
    noise = "x" * LINE_CAP + "\n"
    text = f"{texts.VERSION_16}\n{texts.TIMER}\n{noise * (TEXT_CAP // LINE_CAP + 9)}{texts.IN_TIME}\n{texts.FAILED}\n"
    log = parse_log(text)
    assert (log.version, log.succeeded) == ("16.0.384591198", False)
    assert max(len(line) for line in log.attempts[0].messages) <= 300


def test_models_rows_and_tries_without_end_are_counted():
    """A search that goes on for ever keeps its last try, and its verdict; what is left out is counted."""
    tries = parse_log("Try to compile segment with 3 ops\n" * (MOST_ATTEMPTS + 5) + texts.SUCCEEDED)
    assert (len(tries.attempts), tries.dropped_lines) == (MOST_ATTEMPTS, 5)
    assert tries.attempts[-1].succeeded is True
    rows = parse_log(texts.log_file("m", (("ADD", 1, MAPPED),) * (MOST_ROWS + 3)))
    assert (len(rows.models[0].rows), rows.dropped_lines) == (MOST_ROWS, 3)
    models = parse_log("Input model: a.tflite\n" * (MOST_MODELS + 2))
    assert (len(models.models), models.dropped_lines) == (MOST_MODELS, 2)


def test_version_of_a_compiler():
    """The version is read wherever the sentence stands; a number alone is none."""
    assert find_version(f"hello\n{texts.VERSION_16}\n") == "16.0.384591198"
    assert find_version("16.0.384591198") == ""


PIECES = [
    *texts.success(texts.block("a", ROWS)).splitlines(),
    *(line for lines in texts.FAILURES.values() for line in lines),
    texts.FAILED,
    texts.VERSION_16,
    "Searching for valid delegate with step 1",
    "Try to compile segment with 3 ops",
    "Intermediate tensors: ,,a,",
    "Input: ",
    "ADD   ",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=40)), max_size=40))
def test_any_lines_in_any_order_are_read(lines):
    """Lines of the compiler and rubbish, mixed: always a record whose counts are whole numbers of this text."""
    log = parse_log("\n".join(lines))
    verdicts = sum(line.strip() in (texts.SUCCEEDED.strip(), texts.FAILED.strip()) for line in lines)
    assert len(log.attempts) >= verdicts
    for model in log.models:
        assert model.on_tpu is None or model.on_tpu >= 0
        assert model.on_cpu is None or model.on_cpu >= 0


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_read(text):
    """No text makes the parser raise, and what it keeps is printable."""
    log = parse_log(text)
    assert all(line.isprintable() for attempt in log.attempts for line in attempt.messages)
