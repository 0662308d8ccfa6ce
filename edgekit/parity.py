"""Outputs of a device beside those of the host: how near they are, and the first layer where they part."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from edgekit_device import Model
from edgekit_device import errors as device_errors
from edgekit_device.arrays import write_npy, write_npz
from edgekit_device.embedded import read_note
from edgekit_device.tasks import answers, model_input, predict_all

from .boundary import translated
from .data import Preprocessing, Split, resize
from .devices import BenchRequest, Device
from .errors import DeviceError, EdgekitError
from .records import LayerDifference, OutputParity, Parity, Variant

__all__ = ["first_difference", "outputs_parity", "read_outputs", "with_first_difference"]

Array = npt.NDArray[Any]
LOOKED_AT = 4  # samples: the first difference shows on any, and every tensor of each is sent back


def outputs_parity(variant: Variant, host: Sequence[Array], device: Sequence[Array]) -> Parity:
    """How close two sets of outputs of shape (N, …) are, all together and output by output.

    Raises DeviceError when their shapes differ.
    """
    if [value.shape for value in host] != [value.shape for value in device]:
        raise DeviceError(
            f"expected outputs of shapes {[v.shape for v in host]} for {variant.name}, got {[v.shape for v in device]}"
        )
    pairs = list(zip(host, device, strict=True))
    each = tuple(OutputParity(f"output {number}", *_nearness(*pair)) for number, pair in enumerate(pairs))
    same = sum(int(_equal(a, b).sum()) for a, b in pairs) / sum(value.size for value in host)
    try:
        same_answer = float((answers(host[0]) == answers(device[0])).mean())
    except device_errors.DataError:
        same_answer = None
    worst = max(item.max_abs_diff for item in each)
    return Parity(variant.name, len(host[0]), same, worst, same_answer, variant.sha256, each)


def with_first_difference(
    parity: Parity, device: Device, variant: Variant, split: Split, request: BenchRequest
) -> Parity:
    """``parity`` with the first layer whose tensors differ; as it is where the outputs agree, or nothing can be told."""
    if parity.identical == 1.0:
        return parity
    try:
        return replace(parity, first_difference=first_difference(device, variant, split, request))
    except EdgekitError as error:
        return replace(parity, note=f"the first differing layer was not found: {error}")


def first_difference(device: Device, variant: Variant, split: Split, request: BenchRequest) -> LayerDifference | None:
    """The first operator, in the order of computation, whose output on the device is not the host's; None where all agree.

    Every tensor of a few samples is computed on both sides by the runtimes and delegates that answer. Raises DeviceError
    when the device fails, ConversionError for a model that cannot be looked into, such as a compiled one.
    """
    from edgekit_converters.reveal import reveal_tensors

    content = Path(variant.path).read_bytes()
    with translated():
        revealed, tensors = reveal_tensors(content)
    inputs = _prepared(variant, split, content)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        model, there = Path(scratch) / "revealed.tflite", Path(scratch) / "tensors.npz"
        model.write_bytes(revealed)
        device.predict(model, _write_inputs(Path(scratch), inputs), there, request)
        on_device = read_outputs(variant.name, there)
    with translated(), Model(revealed, threads=request.threads) as loaded:
        on_host = predict_all(loaded, inputs, note={})
    if len(on_device) != len(on_host):
        raise DeviceError(f"expected {len(on_host)} tensors of {variant.name} from {device.name}, got {len(on_device)}")
    for tensor, ours, theirs in zip(tensors, on_host, on_device, strict=True):
        if ours.shape != theirs.shape:
            raise DeviceError(f"expected {tensor.tensor} as {ours.shape} from {device.name}, got {theirs.shape}")
        identical, worst = _nearness(ours, theirs)
        if identical < 1.0:
            steps = worst / tensor.scale if tensor.scale else None
            return LayerDifference(tensor.op, tensor.type, tensor.layer or "", tensor.tensor, identical, worst, steps)
    return None


def read_outputs(name: str, path: Path) -> list[Array]:
    """The arrays ``output_0``, … that a device wrote; raises DeviceError when they cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [archive[f"output_{index}"] for index in range(len(archive.files))]
    except Exception as error:  # numpy raises a dozen kinds for damaged files
        raise DeviceError(f"the device's outputs for {name} cannot be read: {error}") from error


def _prepared(variant: Variant, split: Split, content: bytes) -> dict[str, Array]:
    """A few samples as the model takes them: resized, scaled, floats where they stand for real values."""
    wanted = Preprocessing.from_dict(variant.preprocessing)
    few = split.take(range(min(LOOKED_AT, split.count)))
    note = read_note(content)
    return {name: model_input(value, note) for name, value in resize(few, wanted.size).inputs.items()}


def _write_inputs(folder: Path, inputs: dict[str, Array]) -> Path:
    if len(inputs) == 1:
        write_npy(str(folder / "inputs.npy"), next(iter(inputs.values())))
        return folder / "inputs.npy"
    write_npz(str(folder / "inputs.npz"), inputs)
    return folder / "inputs.npz"


def _nearness(ours: Array, theirs: Array) -> tuple[float, float]:
    """The share of values that are equal to the bit, and the largest difference (infinite where one is no number)."""
    difference = np.abs(ours.astype(np.float64) - theirs)
    difference[_equal(ours, theirs)] = 0.0
    worst = float(np.where(np.isfinite(difference), difference, np.inf).max(initial=0.0))
    return float(_equal(ours, theirs).mean()), worst


def _equal(ours: Array, theirs: Array) -> npt.NDArray[np.bool_]:
    """NaN in the same place is the same answer."""
    same: npt.NDArray[np.bool_] = (ours == theirs) | ((ours != ours) & (theirs != theirs))
    return same
