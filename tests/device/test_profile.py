"""Time per operator: what LiteRT's profiler tells, whose operators they are, and that others tell nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import edgekit_device.profile as module
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_device import InputError, ModelError
from edgekit_device.errors import ProfileError
from edgekit_device.operators import GraphOperator, match
from edgekit_device.profile import profile_model

from tests.device.models import MODELS
from tests.device.stub_delegate import compile_stub, compiled_model
from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model

SECONDS = 0.05


def _chain(side: int = 16, channels: int = 8) -> bytes:
    """conv 3x3 -> GATHER of rows (no XNNPACK kernel) -> conv 1x1: XNNPACK takes over two parts of three."""
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    random = np.random.default_rng(5)
    image = (1, side, side, channels)
    tensors = [
        Tensor("image", "float32", image),
        Tensor(
            "k3", "float32", (channels, 3, 3, channels), random.normal(size=(channels, 3, 3, channels)).astype("f4")
        ),
        Tensor("bias", "float32", (channels,), np.ones(channels, np.float32)),
        Tensor("first", "float32", image),
        Tensor("rows", "int32", (1,), np.zeros(1, np.int32)),
        Tensor("middle", "float32", image),
        Tensor(
            "k1", "float32", (channels, 1, 1, channels), random.normal(size=(channels, 1, 1, channels)).astype("f4")
        ),
        Tensor("last;merged", "float32", image),
    ]
    ops = [
        Op("CONV_2D", (0, 1, 2), (3,), options),
        Op("GATHER", (3, 4), (5,), schema.GatherOptionsT()),
        Op("CONV_2D", (5, 6, 2), (7,), options),
    ]
    return build(Graph(tensors, ops, (0,), (7,), "serving_default"))


# -- what it tells --------------------------------------------------------------------------------------------------


def test_plain_kernels_are_the_operators_of_the_graph() -> None:
    """Without XNNPACK each operator runs as itself, in order, under the name of what it makes."""
    facts = profile_model(_chain(), runtime="litert", delegate="none", seconds=SECONDS)

    assert [(op.index, op.type, op.name) for op in facts.operators] == [
        (0, "CONV_2D", "first"), (1, "GATHER", "middle"), (2, "CONV_2D", "last")
    ]  # fmt: skip
    assert facts.source == "profiler of litert 2.3.0, plain kernels"


def test_xnnpack_s_kernels_are_told_apart_and_traced_back() -> None:
    """Two partitions and an operator of the runtime's own between them; each kernel is some operator's."""
    facts = profile_model(_chain(), runtime="litert", seconds=SECONDS)
    found = [(op.index, op.name) for op in facts.operators if op.index >= 0]

    assert found == [(0, "first"), (1, "middle"), (2, "last")]
    assert any(op.type.startswith("Convolution (NHWC, F32)") for op in facts.operators)
    assert [op.type for op in facts.operators if op.index == 1] == ["GATHER"]
    assert facts.source.endswith(", xnnpack")


def test_shares_add_up_and_fit_into_the_whole() -> None:
    """Operators lie within the inference: a microsecond each is what rounding may add."""
    facts = profile_model(_chain(64, 16), runtime="litert", threads=2, seconds=SECONDS)
    times = [op.mean_ms or 0.0 for op in facts.operators]

    assert sum(op.share or 0.0 for op in facts.operators) == pytest.approx(1.0)
    assert [op.share for op in facts.operators] == [pytest.approx(time / sum(times)) for time in times]
    assert facts.total_ms is not None
    assert 0 < sum(times) <= facts.total_ms + 0.001 * len(times)


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_can_be_profiled(name: str) -> None:
    """Several inputs, integers that are indices, no signature, a note behind the file."""
    facts = profile_model(MODELS[name](), runtime="litert", seconds=0.0)

    assert facts.operators


def test_the_slower_half_and_other_paths_are_left_out() -> None:
    """Runs that others disturbed, and a run that went another way."""

    def run(whole: int, *tags: str) -> module.ProfiledRun:
        return module.ProfiledRun(module.Event("Invoke", 0, whole), [module.Event(tag, 0, 1) for tag in tags])

    runs = [run(30, "A", "B"), run(10, "A", "B"), run(5, "A"), run(20, "A", "B"), run(40, "A", "B")]

    assert [kept.whole.elapsed_us for kept in module._undisturbed(runs)] == [10, 20]


# -- whose kernels they are -----------------------------------------------------------------------------------------

GRAPH = [
    GraphOperator(0, "QUANTIZE", "q"),
    GraphOperator(1, "CONV_2D", "a"),
    GraphOperator(2, "DEPTHWISE_CONV_2D", "b"),
    GraphOperator(3, "ADD", "c"),
    GraphOperator(4, "FULLY_CONNECTED", "d"),
]
CONV, DEPTHWISE, MATRIX, ADD = (
    "Convolution (NHWC, QC8) IGEMM", "Convolution (NHWC, QC8) DWConv", "Fully Connected (NC, QS8, QC8W) GEMM", "Add (ND)"
)  # fmt: skip


def _places(*kernels: str) -> list[int | None]:
    found = match(kernels, range(len(kernels)), GRAPH)
    return [None if operator is None else operator.place for operator in found]


def test_kernels_of_a_family_are_its_operators_in_order() -> None:
    """Whatever else XNNPACK runs in between."""
    assert _places("Convert (NC)", CONV, DEPTHWISE, ADD, MATRIX) == [None, 1, 2, 3, 4]
    assert _places(MATRIX, DEPTHWISE, MATRIX) == [1, 2, 4]


def test_a_family_that_does_not_count_up_is_not_traced() -> None:
    """Fewer kernels than operators: nobody can tell which was merged. Other families are traced all the same."""
    assert _places(CONV, ADD, MATRIX) == [None, 3, None]
    assert _places(CONV, CONV, MATRIX, MATRIX) == [None] * 4


def test_kernels_that_do_not_fit_their_operators_are_not_traced() -> None:
    """A depthwise kernel runs no matrix, an image's kernel no vector."""
    assert _places(DEPTHWISE, DEPTHWISE, DEPTHWISE) == [None] * 3
    assert _places(CONV, DEPTHWISE, CONV) == [None] * 3


def test_the_runtime_s_own_operators_are_known_by_place() -> None:
    """Beside kernels of a delegate, whose numbers are their own."""
    found = match(["CONV_2D", ADD, "FULLY_CONNECTED"], [1, 0, 4], GRAPH)

    assert [None if operator is None else operator.place for operator in found] == [1, 3, 4]


# -- where there is none --------------------------------------------------------------------------------------------


def test_tflite_runtime_has_no_profiler(tflite_python: Path, clean_environment: dict[str, str], tmp_path: Path) -> None:
    """Absent, and said so: nothing is made up."""
    (tmp_path / "m.tflite").write_bytes(dense_model())
    code = "from edgekit_device.profile import profile_model\nprofile_model('m.tflite')"
    done = subprocess.run(
        [tflite_python, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=clean_environment
    )

    assert "ProfileError: tflite 2.14.0 gives no time per operator" in done.stderr


def test_an_older_litert_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its interface is another."""
    real = module.load_runtime("litert")
    monkeypatch.setattr(module, "load_runtime", lambda _: real._replace(version="1.4.0"))

    with pytest.raises(
        ProfileError, match=r"litert 1\.4\.0 gives no time per operator: expected LiteRT of at least 2\.3"
    ):
        profile_model(dense_model())


def test_an_edge_tpu_shows_nothing_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does any other library."""
    monkeypatch.setenv("EDGEKIT_EDGETPU_LIBRARY", str(compile_stub(tmp_path)))

    with pytest.raises(ProfileError, match="the delegate edgetpu gives no time per operator"):
        profile_model(compiled_model(), runtime="litert")


@pytest.mark.parametrize("failure", ["crash", "error"])
def test_a_profiler_that_fails_is_a_message(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a child: a structure that changed kills that alone."""

    def fail(*_: object, **__: object) -> None:
        if failure == "crash":
            os.abort()
        raise RuntimeError("LiteRtCreateOptions failed with status 3")

    monkeypatch.setattr(module, "profile_runs", fail)

    with pytest.raises(ProfileError, match="SIGABRT" if failure == "crash" else "failed with status 3"):
        profile_model(conv_model(), runtime="litert")


def test_bad_input_is_refused() -> None:
    """As everywhere."""
    with pytest.raises(ModelError):
        profile_model(b"nothing")
    with pytest.raises(InputError, match="threads"):
        profile_model(dense_model(), threads=0)
    with pytest.raises(InputError, match="unknown delegate"):
        profile_model(dense_model(), delegate="xnpack")
