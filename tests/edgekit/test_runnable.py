"""A variant that was compiled for an accelerator is evaluated and measured where one is, and left out elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import LatencyFacts, ModelFacts

from edgekit import bench, evaluate
from edgekit.beside import bench_beside
from edgekit.devices import Completed, Device, FakeTransport
from edgekit.errors import DeviceError, EdgekitError, UsageError
from edgekit.progress import Silent
from edgekit.records import Variant
from edgekit.runnable import has_edgetpu, host_file, on_processors, to_measure
from edgekit.store import RunStore, file_sha256
from tests.edgekit.conftest import dense_scores
from tests.tflite_builder import DENSE_INPUTS, DENSE_UNITS, Graph, Op, Tensor, build, dense_model

PLAIN = Variant("int8", "int8")
COMPILED = Variant("int8-coral", "int8", target="coral", compiled_from="int8")


class Notes(Silent):
    """Remembers what was noted."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Remember it."""
        self.notes.append(text)


def compiled_model() -> bytes:
    """A model of one operator that only an Edge TPU has."""
    shapes = [Tensor("input", "float32", (1, DENSE_INPUTS)), Tensor("output", "float32", (1, DENSE_UNITS))]
    return build(Graph(shapes, [Op("edgetpu-custom-op", (0,), (1,), custom=True)], (0,), (1,)))


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run with a float model and, as a variant, what was compiled from it."""
    made = RunStore.create(tmp_path / "run")
    plain, compiled = dense_model(), compiled_model()
    for name, content, facts in (
        ("float32", plain, {}),
        (
            "float32-coral",
            compiled,
            {"target": "coral", "compiled_from": "float32", "key": hashlib.sha256(plain).hexdigest()},
        ),
    ):
        sha256 = hashlib.sha256(content).hexdigest()
        made.save_variant(Variant(name, name, sha256=sha256, size_bytes=len(content), **facts), content)
    return made


def answer(arguments: Sequence[str], folder: Path) -> Completed:
    """A board with an Edge TPU: it measures every model, and answers samples as numpy does, but for the last."""
    lines = []
    for path in (Path(argument) for argument in arguments if argument.endswith(".tflite")):
        facts = BenchmarkReport(model=ModelFacts(file_sha256(path)), latency=LatencyFacts(1, median_ms=1.0))
        lines.append(facts.to_json())
    if "--outputs" in arguments:
        with np.load(next(argument for argument in arguments if argument.endswith("samples.npz"))) as archive:
            scores = dense_scores(archive["x"]).astype("float32")
        scores[-1] += 1
        np.savez(folder / "outputs.npz", output_0=scores)
    return Completed(0, "\n".join(lines))


def measured(found: Sequence[BenchmarkReport], store: RunStore) -> list[str]:
    """The variants that were measured, by their files."""
    names = {variant.sha256: variant.name for variant in store.variants()}
    return [names[report.model.sha256] for report in found]


@pytest.mark.parametrize(
    ("named", "delegate", "expected", "noted"),
    [
        ((), None, ["int8"], ["int8-coral: compiled for coral, left out"]),
        ((), "xnnpack", ["int8"], ["int8-coral: compiled for coral, left out"]),
        ((), "edgetpu", ["int8-coral"], ["not compiled for an Edge TPU, left out: int8"]),
        ((), "edgetpu:usb:0", ["int8-coral"], ["not compiled for an Edge TPU, left out: int8"]),
        (("int8", "int8-coral"), None, ["int8", "int8-coral"], []),
        (("int8", "int8-coral"), "edgetpu", ["int8", "int8-coral"], []),
    ],
)
def test_what_is_measured(named: tuple[str, ...], delegate: str | None, expected: list[str], noted: list[str]) -> None:
    """What was named, else what the delegate can run; the others with a note."""
    progress = Notes()

    with Device(FakeTransport(answer)) as device:
        found = to_measure([PLAIN, COMPILED], named, delegate, device, progress)

    assert [variant.name for variant in found] == expected
    assert [note.split(". ")[0] for note in progress.notes] == noted


def test_a_delegate_without_a_compiled_variant_leaves_nothing_out() -> None:
    """The device says itself that the model was not compiled for it."""
    with Device(FakeTransport(answer)) as device:
        assert to_measure([PLAIN], (), "edgetpu", device) == [PLAIN]


READY = {"edgetpus": [{"kind": "usb", "index": 0}], "findings": [{"severity": "warning"}]}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Completed(0, json.dumps(READY)), True),
        (Completed(0, json.dumps({**READY, "findings": [{"severity": "error"}]})), False),
        (Completed(0, json.dumps({**READY, "edgetpus": []})), False),
        (Completed(0, json.dumps({**READY, "findings": 3})), False),
        (Completed(0, json.dumps({**READY, "findings": [{}]})), False),
        (Completed(0, "[]"), False),
        (Completed(0, "no JSON"), False),
        (Completed(2, json.dumps(READY)), False),
    ],
)
def test_a_device_with_an_edge_tpu_measures_all(said: Completed, expected: bool) -> None:
    """Where it says that one is there and nothing stands in its way; it is asked only where that decides anything."""
    asked: list[str] = []

    def accelerators(arguments: Sequence[str], _: Path) -> Completed:
        asked.append(arguments[0])
        return said

    with Device(FakeTransport(accelerators)) as device:
        found = [to_measure([PLAIN, COMPILED], (), delegate, device) for delegate in (None, "auto", "none")]
        to_measure([PLAIN], (), None, device)
        to_measure([PLAIN, COMPILED], ["int8"], None, device)

    assert [len(variants) for variants in found] == [1 + expected, 1 + expected, 1]
    assert asked == ["accelerators", "accelerators"]


def test_a_device_that_cannot_be_asked_has_no_edge_tpu() -> None:
    """The measurement that follows says what is wrong."""

    def gone(_: Sequence[str], __: Path) -> Completed:
        raise DeviceError("gone")

    with Device(FakeTransport(gone)) as device:
        assert not has_edgetpu(device)


def test_a_run_of_compiled_variants_alone_says_how_to_measure_them() -> None:
    """There is nothing to evaluate here."""
    with pytest.raises(UsageError, match=r"got int8-coral: .* edgekit bench RUN --variant int8-coral --device NAME"):
        on_processors([COMPILED])


def test_evaluate_leaves_a_compiled_variant_out(store: RunStore, arrays: dict[str, np.ndarray]) -> None:
    """With a note that says where it can be measured."""
    progress = Notes()

    found = evaluate(store.folder, arrays, progress=progress)

    assert list(found.by_variant) == ["float32"]
    assert found[0].accuracy == 1.0
    assert not found.failures
    assert progress.notes == [
        "float32-coral: compiled for coral, left out. Measure it where one is: edgekit bench RUN --variant float32-coral "
        "--device NAME"
    ]


def test_a_compiled_variant_that_is_named_fails_alone(store: RunStore, arrays: dict[str, np.ndarray]) -> None:
    """Where no Edge TPU is; the others are evaluated."""
    found = evaluate(store.folder, arrays, variants=["float32", "float32-coral"])

    assert list(found.by_variant) == ["float32"]
    assert "Edge TPU" in str(found.failures["float32-coral"])
    with pytest.raises(EdgekitError, match="Edge TPU"):
        evaluate(store.folder, arrays, variants=["float32-coral"])


def test_bench_measures_compiled_variants_where_that_is_asked_for(store: RunStore) -> None:
    """Not by themselves; by name, or with the delegate that runs them."""
    with Device(FakeTransport(answer)) as device:
        plain = bench(store.folder, device=device)
        named = bench(store.folder, device=device, variants=["float32-coral"])
        delegate = bench(store.folder, device=device, delegate="edgetpu:usb:0")

    assert [measured(found, store) for found in (plain, named, delegate)] == [
        ["float32"],
        ["float32-coral"],
        ["float32-coral"],
    ]


def test_a_compiled_variant_answers_beside_what_it_was_compiled_from(
    store: RunStore, arrays: dict[str, np.ndarray]
) -> None:
    """The host cannot run it: the device's outputs are held against the host's of the original."""
    [compiled] = store.variants(["float32-coral"])
    with Device(FakeTransport(answer)) as device:
        assert not bench(store.folder, device=device, variants=["float32-coral"], data=arrays).failures

    parity = store.parity(compiled)
    assert parity is not None
    assert (parity.count, parity.same_answer, parity.first_difference) == (100, 1.0, None)
    assert parity.max_abs_diff == pytest.approx(1.0, abs=1e-4)
    assert parity.note == "held against float32 on the host, which it was compiled from"


def test_outputs_are_held_against_the_very_file(store: RunStore) -> None:
    """Where that was converted anew, or is gone, there is nothing to hold them against."""
    plain, compiled = store.variant("float32"), store.variant("float32-coral")
    assert plain is not None
    assert compiled is not None

    assert (host_file(plain), host_file(compiled)) == (Path(plain.path), Path(plain.path))
    Path(plain.path).write_bytes(b"other")
    assert host_file(compiled) is None
    Path(plain.path).unlink()
    assert host_file(compiled) is None


def test_the_baseline_of_a_gate_leaves_compiled_variants_out(store: RunStore) -> None:
    """They are measured in turns with nothing on this machine."""
    with Device(FakeTransport(answer)) as device:
        found, baseline = bench_beside(store.folder, store.folder, device=device)

    assert list(found.by_variant) == list(baseline.reports) == ["float32"]
