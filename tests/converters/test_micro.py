"""TFLM's own interpreter says of a model what it says of it: operators, arena, outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edgekit_converters import MissingPackageError, ModelFileError, TargetError, read_model_card
from edgekit_converters.targets.micro.check import check_micro
from edgekit_converters.targets.micro.interpret import CRASHED, DONE, INITIALISE, Session
from edgekit_converters.targets.micro.operators import BUILTINS, CUSTOMS
from edgekit_converters.targets.micro.samples import compare
from edgekit_converters.targets.micro.slices import slice_operators
from edgekit_converters.targets.target import find_target

from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model, schema

pytest.importorskip("tflite_micro")

MICRO = find_target("micro")
ARENA = 2**24
# TFLM and LiteRT asked directly, in a process of their own: TFLM may die of an arena that is too small.
ORACLE = """
import contextlib, io, json, os, sys, tempfile
import numpy as np
from tflite_micro.python.tflite_micro import runtime
from ai_edge_litert.interpreter import Interpreter
model, arenas = open(sys.argv[1], "rb").read(), json.loads(sys.argv[2])
said = {"starts": []}
for arena in arenas:
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        code = 1
        try:
            runtime.Interpreter.from_bytes(model, arena_size=arena).invoke()
            code = 0
        finally:
            os._exit(code)
    said["starts"].append(os.waitpid(pid, 0)[1] == 0)
micro = runtime.Interpreter.from_bytes(model, arena_size=1 << 24)
lite = Interpreter(model_content=model, num_threads=1)
lite.allocate_tensors()
both = []
for row in np.load(sys.argv[3]) if len(sys.argv) > 3 else []:
    micro.set_input(row, 0)
    micro.invoke()
    lite.set_tensor(lite.get_input_details()[0]["index"], row)
    lite.invoke()
    both.append((micro.get_output(0), lite.get_tensor(lite.get_output_details()[0]["index"])))
micro.invoke()
with tempfile.TemporaryFile() as printed:
    os.dup2(printed.fileno(), 2)
    micro.print_allocations()
    printed.seek(0)
    said["printed"] = printed.read().decode()
said["outputs"] = [[np.asarray(one, np.float64).tolist() for one in pair] for pair in both]
print(json.dumps(said))
"""


def _oracle(folder: Path, model: bytes, arenas: list[int], steps: np.ndarray | None = None) -> dict:
    (folder / "m.tflite").write_bytes(model)
    command = [sys.executable, "-W", "ignore", "-c", ORACLE, str(folder / "m.tflite"), json.dumps(arenas)]
    if steps is not None:
        np.save(folder / "steps.npy", steps)
        command.append(str(folder / "steps.npy"))
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _float(name: str, shape: tuple[int, ...] = (1, 4), **facts: object) -> Tensor:
    return Tensor(name, "float32", shape, **facts)


def _chain(*ops: tuple[str, bool]) -> bytes:
    """Operators of one input and one output, one behind the other."""
    tensors = [_float(f"t{i}") for i in range(len(ops) + 1)]
    return build(
        Graph(
            tensors,
            [Op(name, (i,), (i + 1,), custom=custom) for i, (name, custom) in enumerate(ops)],
            (0,),
            (len(ops),),
        )
    )


def _deadly() -> bytes:
    """An ARG_MAX without its axis, which TFLM reads where there is nothing."""
    return build(Graph([_float("in"), Tensor("out", "int32", (1,))], [Op("ARG_MAX", (0,), (1,))], (0,), (1,)))


def _int4() -> bytes:
    """A fully connected layer whose weights take four bits."""
    packed = np.random.default_rng(0).integers(-128, 128, 4 * 2, dtype=np.int8)
    kernel = Tensor("kernel", "int4", (4, 4), values=packed, scales=(0.25,) * 4, zero_points=(0,) * 4)
    ends = [Tensor(name, "int8", (1, 4), None, (0.5,), (3,)) for name in ("in", "out")]
    bias = Tensor("bias", "int32", (4,), np.ones(4, np.int32), (0.125,) * 4, (0,) * 4)
    op = Op("FULLY_CONNECTED", (0, 1, 2), (3,), schema.FullyConnectedOptionsT(), version=10)
    return build(Graph([ends[0], kernel, bias, ends[1]], [op], (0,), (3,)))


def _endless() -> bytes:
    """A loop whose condition is always true."""
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    main = Graph([_float("in"), _float("out")], [Op("WHILE", (0,), (1,), options)], (0,), (1,))
    yes = Tensor("yes", "bool", (1,), values=np.ones(1, bool))
    condition = Graph([_float("x"), yes, Tensor("on", "bool", (1,))], [Op("LOGICAL_OR", (1, 1), (2,))], (0,), (2,))
    body = Graph([_float("x"), _float("y")], [Op("ABS", (0,), (1,))], (0,), (1,))
    return build(main, condition, body)


def test_the_table_of_operators_is_what_the_wheel_registers() -> None:
    """Behind a known operator TFLM trips over the unknown one that follows; an unknown one it names itself."""
    named = schema.VarHandleOptionsT()
    named.sharedName = "state"

    def before_unknown(name: str, *, custom: bool) -> bytes:
        options = named if name == "VAR_HANDLE" else None
        ops = [Op(name, (0,), (1,), options, custom=custom), Op("HASHTABLE", (1,), (2,))]
        return build(Graph([_float("a"), _float("b"), _float("c")], ops, (0,), (2,)))

    builtins = [name for name in vars(schema.BuiltinOperator) if name[0] != "_" and name not in ("CUSTOM", "HASHTABLE")]
    customs = [*CUSTOMS, "edgetpu-custom-op", "ethos-u", "Nobody"]
    models = [before_unknown(name, custom=False) for name in builtins]
    models += [before_unknown(name, custom=True) for name in customs]
    with Session(120) as session:
        trials = session.try_models(models, ARENA)
    known = [
        name for name, trial in zip([*builtins, *customs], trials, strict=True) if "opcode 'HASHTABLE'" in trial.printed
    ]
    assert sorted(known) == sorted([*BUILTINS, *CUSTOMS])


@pytest.mark.parametrize("precision", ["float32", "int8", "int16x8"])
def test_the_arena_is_the_smallest_that_works_and_the_rest_what_tflm_prints(precision: str, tmp_path: Path) -> None:
    """One byte less and TFLM does not start; the used bytes are those of its own print."""
    model = dense_model(precision)
    memory = check_micro(model, MICRO).memory
    said = _oracle(tmp_path, model, [memory["arena_bytes"] - 1, memory["arena_bytes"]])
    assert said["starts"] == [False, True]
    for name, key in (("total", "used"), ("head", "head"), ("tail", "tail")):
        assert f"Arena allocation {name} {memory[f'arena_{key}_bytes']} bytes" in said["printed"]
    assert memory["model_bytes"] == len(model)


def test_the_parity_is_that_of_the_two_interpreters_asked_directly(tmp_path: Path) -> None:
    """On the same steps the share of equal values and the largest difference come out the same."""
    model = conv_model("int8")
    card = read_model_card(model)
    real = np.random.default_rng(3).uniform(-60, 60, (40, 8, 8, 3)).astype(np.float32)
    scale, zero_point = card.inputs[0].scales[0], card.inputs[0].zero_points[0]
    steps = np.clip(np.rint(real / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)[:, None]
    report = check_micro(model, MICRO, samples=list(real))
    ours, theirs = np.array(_oracle(tmp_path, model, [], steps)["outputs"]).swapaxes(0, 1)
    assert report.basis == "executed"
    assert report.figures["parity_samples"] == 40
    assert report.figures["parity_identical"] == np.mean(ours == theirs)
    assert report.figures["parity_max_abs_diff"] == np.abs(ours - theirs).max() * card.outputs[0].scales[0]
    assert report.estimate is None
    assert report.fully_on_target


def test_every_operator_that_does_not_run_has_its_own_reason() -> None:
    """Not only the first: the builtin without a kernel, the custom one, and those in between that run."""
    report = check_micro(
        _chain(("ABS", False), ("GELU", False), ("NEG", False), ("MyOp", True), ("GELU", False)), MICRO
    )
    assert [op.placement for op in report.ops] == ["micro", "unsupported", "micro", "unsupported", "unsupported"]
    assert report.ops[1].reason == "Didn't find op for builtin opcode 'GELU'"
    assert "relu" in report.ops[1].remedy
    assert report.ops[3].reason == "Failed to get registration from op code CUSTOM: TFLM has no operator named MyOp"
    assert "AddCustom" in report.ops[3].remedy
    assert (report.on_target, report.first_off_target, report.memory) == (2, 1, {})
    assert report.refusal.startswith("TFLM does not run 3 of 5 operators; the first is GELU 1")


@pytest.mark.parametrize(
    ("model", "reason", "remedy"),
    [
        (conv_model("dynamic-int8"), "Hybrid models are not supported on TFLite Micro", "dynamic-range"),
        (dense_model("dynamic-int8"), "Input type: FLOAT32 with filter type: INT8 not supported", "dynamic-range"),
        (conv_model("float16"), "input->type == kTfLiteInt8", "float16 has no kernels in TFLM"),
        (_int4(), "filter->type != kTfLiteInt4", "weights of 4 bits"),
        (_chain(("edgetpu-custom-op", True)), "no operator named edgetpu-custom-op", "from before edgetpu_compiler"),
        (_chain(("ethos-u", True)), "no operator named ethos-u", "from before Vela"),
        (_chain(("FlexErf", True)), "no operator named FlexErf", "SELECT_TF_OPS"),
        (_deadly(), "TFLM's process died of it (SIGSEGV)", "replace the layer"),
    ],
    ids=["hybrid-conv", "hybrid-dense", "float16", "int4", "edgetpu", "vela", "flex", "crash"],
)
def test_a_refusal_is_in_tflms_words_and_says_what_to_do(model: bytes, reason: str, remedy: str) -> None:
    """The report says why and what next; no exception, no traceback, no dead test process."""
    report = check_micro(model, MICRO)
    refused = next(op for op in report.ops if op.placement == "unsupported")
    assert reason in refused.reason
    assert reason in report.refusal
    assert remedy in refused.remedy
    assert report.remedy == refused.remedy
    assert not report.fully_on_target


def test_a_crash_is_the_models_own_and_the_next_model_still_runs() -> None:
    """Of three models the second takes the process down; the third gets a new one."""
    with Session(60) as session:
        trials = session.try_models([dense_model(), _deadly(), dense_model("int8"), _chain(("GELU", False))], ARENA)
    assert [trial.stage for trial in trials] == [DONE, CRASHED, DONE, INITIALISE]
    assert trials[1].death == "SIGSEGV"


def test_a_model_that_never_ends_is_ended_at_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the deadline, and neither a process nor a folder is left."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(TargetError, match=r"done within 1.5 s, it was not and was ended") as raised:
        check_micro(_endless(), MICRO, deadline_s=1.5)
    assert raised.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path).encode() not in b"".join(
        path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _readable(path)
    )


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_weights_behind_the_flatbuffer_are_refused_not_taken_for_zeros() -> None:
    """TFLM runs such a file without its weights and says nothing: the report does."""
    ones = _float("ones", values=np.ones((1, 4), np.float32))
    graph = Graph([_float("a"), ones, _float("b")], [Op("ADD", (0, 1), (2,), schema.AddOptionsT())], (0,), (2,))
    assert check_micro(build(graph), MICRO).refusal == ""
    report = check_micro(build(graph, external=True), MICRO, samples=[np.zeros((1, 4), np.float32)])
    assert "behind the flatbuffer" in report.refusal
    assert report.figures == {}


def test_bytes_that_are_no_model_are_named_before_tflm_sees_them() -> None:
    """A text file, and half a model."""
    for content in (b"not a model at all", conv_model("int8")[:600]):
        with pytest.raises(ModelFileError, match="expected"):
            check_micro(content, MICRO)


def test_damage_that_the_model_card_does_not_see_is_named_too() -> None:
    """The card does not read the empty buffer 0; that it lies outside the file is found before TFLM is asked."""
    content = bytearray(conv_model("int8"))
    table = schema.Model.GetRootAs(content, 0)._tab
    first = table.Vector(table.Offset(12))  # the field buffers
    content[first : first + 4] = b"\xf0\xff\xff\xff"
    read_model_card(bytes(content))
    with pytest.raises(ModelFileError, match="point outside themselves"):
        check_micro(bytes(content), MICRO)


def test_rows_and_free_dimensions_run_as_stored_and_are_said() -> None:
    """Three rows are three rows; a free width is the stored one; a free number of rows needs no word."""

    def absolute(shape: tuple[int, ...], signature: tuple[int, ...] | None = None) -> tuple[str, ...]:
        tensors = [_float("in", shape, signature=signature), _float("out", shape, signature=signature)]
        report = check_micro(build(Graph(tensors, [Op("ABS", (0,), (1,))], (0,), (1,))), MICRO)
        assert report.refusal == ""
        return tuple(warning for warning in report.warnings if warning.startswith("input "))

    assert absolute((3, 4)) == ("input in has 3 rows: TFLM computes all of them at every inference",)
    assert absolute((1, 4), (1, -1)) == ("input in has a free dimension [1, -1]: TFLM takes it as [1, 4]",)
    assert absolute((1, 4), (-1, 4)) == ()


def test_samples_of_several_inputs_go_by_name() -> None:
    """Whatever their order in the sample, each array goes to the input of its name."""
    tensors = [_float("left"), _float("right", (1, 1)), _float("difference")]
    model = build(Graph(tensors, [Op("SUB", (0, 1), (2,), schema.SubOptionsT())], (0, 1), (2,)))
    samples = [{"right": np.full((1, 1), 2, np.float32), "left": np.arange(4, dtype=np.float32)}]
    figures = check_micro(model, MICRO, samples=samples).figures
    assert (figures["parity_identical"], figures["parity_max_abs_diff"]) == (1.0, 0.0)
    with pytest.raises(TargetError, match="arrays by name for 2 inputs"):
        check_micro(model, MICRO, samples=[np.zeros((1, 4), np.float32)])
    with pytest.raises(TargetError, match="a sample with the input right, got left"):
        check_micro(model, MICRO, samples=[{"left": np.zeros((1, 4), np.float32)}])


def test_no_number_in_both_is_equal_and_in_one_is_said() -> None:
    """The logarithm of -1 is no number anywhere; a difference that is no number stands in no figure."""
    logarithm = build(Graph([_float("in"), _float("out")], [Op("LOG", (0,), (1,))], (0,), (1,)))
    figures = check_micro(logarithm, MICRO, samples=[np.full((1, 4), -1, np.float32)]).figures
    assert (figures["parity_identical"], figures["parity_max_abs_diff"]) == (1.0, 0.0)
    outputs = read_model_card(logarithm).outputs
    share, apart = compare({0: np.array([1, np.nan])}, {0: np.array([1, 2.0])}, outputs)
    assert (share, apart) == (0.5, np.inf)


def test_samples_do_not_see_each_others_state() -> None:
    """What a variable holds after one sample is not there at the next, in neither interpreter."""
    options, once = schema.VarHandleOptionsT(), schema.CallOnceOptionsT()
    options.sharedName = options.container = "state"
    once.initSubgraphIndex = 1
    handle, handled = Tensor("handle", "resource", (1,)), Op("VAR_HANDLE", (), (0,), options)
    ops = [
        Op("CALL_ONCE", (), (), once),
        handled,
        Op("READ_VARIABLE", (0,), (2,)),
        Op("ADD", (2, 1), (3,), schema.AddOptionsT()),
        Op("ASSIGN_VARIABLE", (0, 3), ()),
    ]
    main = Graph([handle, _float("in"), _float("old"), _float("sum")], ops, (1,), (3,))
    zeros = _float("zeros", values=np.zeros((1, 4), np.float32))
    model = build(main, Graph([handle, zeros], [handled, Op("ASSIGN_VARIABLE", (0, 1), ())], (), ()))
    report = check_micro(model, MICRO, samples=[np.full((1, 4), value, np.float32) for value in (1, 2, 3)])
    assert report.refusal == ""
    assert report.figures["parity_identical"] == 1.0


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (np.zeros((1, 63), np.float32), r"shape \[1, 64\] for the input input, got \[1, 63\]"),
        (np.full((1, 64), np.nan, np.float32), "got NaN"),
    ],
    ids=["shape", "nan"],
)
def test_a_sample_that_does_not_fit_is_wrong_input(sample: np.ndarray, message: str) -> None:
    """Exit code 2, and what was expected."""
    with pytest.raises(TargetError, match=message) as raised:
        check_micro(dense_model("int8"), MICRO, samples=[sample])
    assert raised.value.exit_code == 2


def test_without_the_package_the_message_ends_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed behind the user's back."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edgekit\[micro\]'$"):
        check_micro(dense_model("int8"), MICRO)


def test_a_slice_is_one_operator_with_the_originals_constants_and_runs_to_the_same_answer() -> None:
    """The only operator of a model, cut out, gives that model's outputs; one that keeps a state elsewhere is left out."""
    model = conv_model("int8", "float32")
    card = read_model_card(model)
    slices = dict(slice_operators(model, card))
    assert {index: [op.type for op in read_model_card(cut).ops] for index, cut in slices.items()} == {
        index: [op.type] for index, op in enumerate(card.ops)
    }
    convolution = read_model_card(slices[1])
    assert [tensor.name for tensor in convolution.inputs] == ["input"]
    whole, alone = ({tensor.name: tensor for tensor in of.tensors} for of in (card, convolution))
    assert (alone["kernel"].scales, alone["kernel"].size_bytes) == (whole["kernel"].scales, whole["kernel"].size_bytes)
    state = Tensor("state", "resource", (1,))
    graph = Graph(
        [state, _float("in"), _float("out")], [Op("ASSIGN_VARIABLE", (0, 1), ()), Op("ABS", (1,), (2,))], (1,), (2,)
    )
    stateful = build(graph)
    assert [index for index, _ in slice_operators(stateful, read_model_card(stateful))] == [1]
