"""The device's outputs beside the host's: output by output, and the first layer where they part."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edgekit_converters.int8.surgery import FlatModel
from edgekit_device import Model
from edgekit_device.tasks import predict_all

from edgekit.data import Split
from edgekit.devices import BenchRequest, Completed, Device, FakeTransport, LocalTransport
from edgekit.errors import DeviceError
from edgekit.parity import first_difference, outputs_parity, with_first_difference
from edgekit.records import Variant, from_dict, to_dict
from tests.tflite_builder import Graph, Op, Tensor, build


def chain(int8: bool = False) -> bytes:
    """x -> first (x + 1) -> second (first * 2) -> third (second - 3)."""
    from ai_edge_litert import schema_py_generated as schema

    kind, scales, zeros = ("int8", (0.1,), (0,)) if int8 else ("float32", (), ())
    names = ("x", "model/first/add", "model/second/mul", "model/third/sub")
    tensors = [Tensor(name, kind, (1, 4), None, scales, zeros) for name in names]
    for name, value in (("one", 1), ("two", 2), ("three", 3)):
        values = np.full((1, 4), value * 10 if int8 else value, kind)
        tensors.append(Tensor(name, kind, (1, 4), values, scales, zeros))
    version = 2 if int8 else 1
    ops = [
        Op("ADD", (0, 4), (1,), schema.AddOptionsT(), version=version),
        Op("MUL", (1, 5), (2,), schema.MulOptionsT(), version=version),
        Op("SUB", (2, 6), (3,), schema.SubOptionsT(), version=version),
    ]
    return build(Graph(tensors, ops, (0,), (3,), "serving_default"))


def changed(model: bytes, op: int, value: float) -> bytes:
    """``model`` with another constant in operator ``op``: a device whose kernel is wrong there."""
    flat = FlatModel(model)
    before = flat.constant(flat.inputs(op)[1])
    assert before is not None
    flat.set_operand(op, 1, np.full_like(before, value))
    return flat.to_bytes()


class WrongKernel(LocalTransport):
    """The real device, but for operator ``op``, which computes with another constant in whatever model it is given."""

    def __init__(self, python: str, op: int, value: float) -> None:
        super().__init__(python)
        self._op, self._value = op, value

    def put(self, local: Path, name: str) -> str:
        """Send a model that is wrong."""
        there = Path(super().put(local, name))
        if name.endswith(".tflite"):
            there.write_bytes(changed(there.read_bytes(), self._op, self._value))
        return str(there)


@pytest.fixture
def variant(tmp_path: Path) -> Variant:
    """The chain as a variant."""
    path = tmp_path / "chain.tflite"
    path.write_bytes(chain())
    return Variant("chain", "float32", path=str(path))


SPLIT = Split({"x": np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype("float32")})


@pytest.mark.parametrize(("op", "value", "name"), [(0, 1.5, "first"), (1, 2.5, "second"), (2, 2.0, "third")])
def test_the_first_layer_that_differs_is_named(
    variant: Variant, device_python: Path, op: int, value: float, name: str
) -> None:
    """On a real device whose one operator computes something else; by hand: x + 1, (x + 1) * 2, (x + 1) * 2 - 3."""
    with Device(WrongKernel(str(device_python), op, value)) as device:
        found = first_difference(device, variant, SPLIT, BenchRequest())

    assert found is not None
    assert (found.op, found.layer, found.tensor) == (op, name, f"model/{name}/{('add', 'mul', 'sub')[op]}")
    few = SPLIT.inputs["x"][:4]
    worst = {0: 0.5, 1: 0.5 * float(np.abs(few + 1).max()), 2: 1.0}[op]
    assert found.max_abs_diff == pytest.approx(worst, rel=1e-5)
    assert (found.identical, found.steps) == (0.0, None)


def test_a_difference_in_steps(tmp_path: Path, device_python: Path) -> None:
    """An int8 tensor's difference is told in steps of its scale too."""
    path = tmp_path / "chain.tflite"
    path.write_bytes(chain(int8=True))
    with Device(WrongKernel(str(device_python), 0, 12)) as device:  # 1.2 instead of 1.0: two steps of 0.1
        found = first_difference(device, Variant("chain", "int8", path=str(path)), SPLIT, BenchRequest())

    assert found is not None
    assert found.op == 0
    assert found.steps == pytest.approx(2, abs=1.001)  # each side rounds to its own nearest step


def test_where_all_agree_there_is_no_first_difference(variant: Variant, device_python: Path) -> None:
    """The same runtime on the same machine gives the same bits in every tensor."""
    with Device(LocalTransport(str(device_python))) as device:
        assert first_difference(device, variant, SPLIT, BenchRequest()) is None


def test_parity_is_told_output_by_output(variant: Variant) -> None:
    """Against numbers worked out by hand; NaN in the same place is the same answer; the record survives the disk."""
    host = [np.array([[1.0, 2.0]], "float32"), np.array([[np.nan, 5.0]], "float32")]
    device = [np.array([[1.0, 2.5]], "float32"), np.array([[np.nan, 5.0]], "float32")]
    found = outputs_parity(variant, host, device)

    assert [(item.identical, item.max_abs_diff) for item in found.outputs] == [(0.5, 0.5), (1.0, 0.0)]
    assert (found.identical, found.max_abs_diff) == (0.75, 0.5)
    assert from_dict(type(found), to_dict(found)) == found


def test_a_device_that_cannot_tell_leaves_a_note(variant: Variant) -> None:
    """The parity stands, and says why nothing more is known."""

    def answer(arguments: Sequence[str], _: Path) -> Completed:
        return Completed(3, "", "edgekit-device: error: out of memory\n")

    parity = outputs_parity(variant, [np.zeros((1, 2))], [np.ones((1, 2))])
    with Device(FakeTransport(answer)) as device:
        found = with_first_difference(parity, device, variant, SPLIT, BenchRequest())

    assert found == replace(parity, note=found.note)
    assert "first differing layer was not found: fake failed (exit 3)" in found.note


def test_tensors_of_another_model_are_refused(variant: Variant, tmp_path: Path) -> None:
    """Too few of them, or of other shapes: the device's fault, in one message."""
    inputs = {"x": SPLIT.inputs["x"][:4]}
    whole = predict_all(Model(chain()), inputs)

    def answer_with(arrays: dict[str, np.ndarray]) -> FakeTransport:
        def answer(_: Sequence[str], folder: Path) -> Completed:
            np.savez(folder / "predicted.npz", **arrays)
            return Completed(0, "{}")

        return FakeTransport(answer)

    with Device(answer_with({"output_0": whole[0]})) as device, pytest.raises(DeviceError, match="expected 3 tensors"):
        first_difference(device, variant, SPLIT, BenchRequest())
    wrong = {f"output_{index}": np.zeros((4, 5)) for index in range(3)}
    with Device(answer_with(wrong)) as device, pytest.raises(DeviceError, match=r"as \(4, 4\) from fake, got \(4, 5\)"):
        first_difference(device, variant, SPLIT, BenchRequest())


def test_a_quantized_model_is_revealed_as_it_answers(run_folder: Path, device_python: Path) -> None:
    """A converted int8 variant too: nothing differs from the host's, tensor by tensor."""
    path = shutil.copy(run_folder / "variants" / "int8.tflite", run_folder / "copy.tflite")
    split = Split({"x": np.random.default_rng(1).uniform(-1, 1, (4, 64)).astype("float32")})
    with Device(LocalTransport(str(device_python))) as device:
        assert first_difference(device, Variant("int8", "int8", path=str(path)), split, BenchRequest()) is None
