"""``Model``: one loaded .tflite behind one call, over whichever TFLite runtime the board has."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

from ._runtime import Runtime, load_runtime, translate
from .embedded import read_note
from .errors import ClosedError, InferenceError, InputError, ModelError
from .probe import probe
from .quant import dequantize, quantize
from .report import RuntimeFacts, clean_text

__all__ = ["Model", "TensorSpec"]

Array = npt.NDArray[Any]
Inputs = Union[Array, Sequence[Array], Mapping[str, Array]]
Outputs = Union[Array, tuple[Array, ...], dict[str, Array]]

LARGEST_BATCH = 64


@dataclass(frozen=True)
class TensorSpec:
    """An input or output as the runtime declares it; ``scale`` is 0.0 where the tensor is not quantized."""

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero_point: int = 0

    @property
    def quantized(self) -> bool:
        """Whether integers of this tensor stand for real values."""
        return self.scale != 0.0 and self.dtype.kind in "iu"


class Model:
    """A model ready to run.

    ``model`` is a path or the bytes of a .tflite. ``runtime`` is ``auto``, ``litert``, ``tflite`` or ``tf``.
    ``probe=True`` loads and runs the model once in a child process first, so that a file that would kill the process
    raises ModelCrashError instead; pass False for files you made yourself, to save that second load.

    ``predict`` may be called from several threads: calls wait for each other.

    Raises ModelError, ModelCrashError, RuntimeMissingError, InputError (threads below 1).
    """

    def __init__(
        self,
        model: Union[str, os.PathLike[str], bytes],
        *,
        threads: int = 1,
        runtime: str = "auto",
        probe: bool = True,
    ) -> None:
        if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 256:
            raise InputError(f"expected threads as a whole number from 1 to 256, got {threads!r}")
        self._content, self.name = _read(model)
        self._threads = threads
        self._runtime: Runtime = load_runtime(runtime)
        self._lock = threading.Lock()
        self._resizable: Optional[bool] = None
        self._fast: Optional[tuple[int, np.dtype[Any], tuple[int, ...], int]] = None
        if probe:
            _probe(self._runtime, self._content, threads, self.name)
        self._interpreter: Any = None
        self._load()
        self._native_batch = self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else 1

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def runtime(self) -> RuntimeFacts:
        """Name and version of the runtime, the delegate that took over operators, and the threads."""
        return RuntimeFacts(self._runtime.name, self._runtime.version, self._delegate(), self._threads)

    @property
    def note(self) -> dict[str, Any]:
        """edgekit's note inside the file (preprocessing, provenance); empty when there is none."""
        return read_note(self._content)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file's bytes, in hexadecimal."""
        return hashlib.sha256(self._content).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Size of the file in bytes."""
        return len(self._content)

    @property
    def batch(self) -> int:
        """The leading dimension the model is allocated for now."""
        return self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else 1

    # -- running it ---------------------------------------------------------------------------------------------

    def predict(self, inputs: Inputs, *, signature: Optional[str] = None) -> Outputs:
        """Run the model on ``inputs``: one array, a sequence in input order, or a mapping by signature name.

        Arrays have the model's shape; the leading dimension may be any N (the model is resized, or run row by row
        where it cannot be). For a quantized input, floats are real-world values and come back as real-world float32
        outputs; integers of the tensor's own dtype are native steps and come back native. A mapping gives a dict of
        outputs by signature name; otherwise one output is an array and several are a tuple in output order.

        Raises InputError, InferenceError, ClosedError.
        """
        if type(inputs) is np.ndarray and self._fast is not None:
            index, dtype, shape, output = self._fast
            if inputs.dtype is dtype and inputs.shape == shape:
                with self._lock:
                    try:
                        self._set(index, inputs)
                        self._invoke()
                        fast: Array = self._get(output)
                        return fast
                    except (RuntimeError, ValueError) as error:
                        raise self._failed(error) from error
        with self._lock:
            return self._predict(inputs, signature)

    def resize(self, batch: int) -> None:
        """Allocate the model for ``batch`` rows; raises InputError when its graph has a fixed batch."""
        with self._lock:
            self._ensure_open()
            if batch < 1 or not self._try_resize(batch):
                raise InputError(
                    f"expected a batch this model can be resized to, got {batch}: "
                    f"its graph is fixed at {self._native_batch} (convert it with a free batch, or predict row by row)"
                )

    def invoke(self) -> None:
        """Run the model on whatever its input tensors hold: the bare call that a benchmark times."""
        try:
            self._invoke()
        except (RuntimeError, ValueError) as error:
            raise self._failed(error) from error

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        """Fill the input tensors, in order, with arrays of exactly their dtype and shape."""
        for spec, value in zip(self.inputs, inputs):
            self._set(spec.index, value)

    def close(self) -> None:
        """Free the runtime's memory; later calls raise ClosedError. Closing twice is fine."""
        with self._lock:
            self._interpreter = None
            self._fast = None
            self._set = self._invoke = self._get = self._closed

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        shapes = ", ".join(f"{spec.dtype}{list(spec.shape)}" for spec in self.inputs)
        return f"<edgekit_device.Model {self.name} ({shapes}) on {self._runtime.name} {self._runtime.version}>"

    # -- inside -------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            interpreter = self._runtime.interpreter(model_content=self._content, num_threads=self._threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError, TypeError) as error:
            raise translate(error, ModelError, f"{self._runtime.name} cannot load {self.name}") from error
        self._adopt(interpreter)

    def _adopt(self, interpreter: Any) -> None:
        """Take ``interpreter`` into use and read its tensors; bound methods keep the hot path short."""
        self._interpreter = interpreter
        self._set, self._invoke, self._get = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor
        self.inputs: tuple[TensorSpec, ...] = tuple(_spec(raw) for raw in interpreter.get_input_details())
        self.outputs: tuple[TensorSpec, ...] = tuple(_spec(raw) for raw in interpreter.get_output_details())
        self._fast = None
        if len(self.inputs) == len(self.outputs) == 1:
            only, out = self.inputs[0], self.outputs[0]
            if only.quantized or not out.quantized:
                self._fast = (only.index, only.dtype, only.shape, out.index)
        self.signatures: dict[str, dict[str, list[str]]] = interpreter.get_signature_list()

    def _predict(self, inputs: Inputs, signature: Optional[str]) -> Outputs:
        self._ensure_open()
        if isinstance(inputs, Mapping):
            return self._predict_named(inputs, signature)
        if signature is not None:
            raise InputError("expected a mapping of input names with signature=, got arrays by position")
        values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        outputs = self._run(self._checked(values))
        return outputs[0] if len(outputs) == 1 else outputs

    def _predict_named(self, inputs: Mapping[str, Array], signature: Optional[str]) -> dict[str, Array]:
        ins, outs = self._signature(signature)
        if set(inputs) != set(ins):
            raise InputError(f"expected inputs named {sorted(ins)}, got {sorted(map(str, inputs))}")
        by_index = {ins[name]: np.asarray(value) for name, value in inputs.items()}
        results = self._run(self._checked([by_index[spec.index] for spec in self.inputs]))
        by_output = {spec.index: result for spec, result in zip(self.outputs, results)}
        return {name: by_output[index] for name, index in outs.items()}

    def _signature(self, key: Optional[str]) -> tuple[dict[str, int], dict[str, int]]:
        """Tensor index by name, for the inputs and outputs of a signature; tensor names where the file has none."""
        if key is None and len(self.signatures) != 1:
            if not self.signatures:
                return {s.name: s.index for s in self.inputs}, {s.name: s.index for s in self.outputs}
            raise InputError(f"expected signature= one of {sorted(self.signatures)}: this model has several")
        if key is not None and key not in self.signatures:
            raise InputError(f"expected a signature of {sorted(self.signatures)}, got {key!r}")
        runner = self._interpreter.get_signature_runner(key)
        ins = {name: int(raw["index"]) for name, raw in runner.get_input_details().items()}
        outs = {name: int(raw["index"]) for name, raw in runner.get_output_details().items()}
        primary_ins, primary_outs = {s.index for s in self.inputs}, {s.index for s in self.outputs}
        if set(ins.values()) != primary_ins or not set(outs.values()) <= primary_outs:
            raise InputError(f"signature {key!r} is not the model's main graph: only the main graph can be run by name")
        return ins, outs

    def _checked(self, values: Sequence[Any]) -> list[Array]:
        """The inputs as arrays whose number, rank, shape and rows fit the model."""
        if len(values) != len(self.inputs):
            names = ", ".join(spec.name for spec in self.inputs)
            raise InputError(f"expected {len(self.inputs)} input(s) ({names}), got {len(values)}")
        arrays = [np.asarray(value) for value in values]
        for spec, array in zip(self.inputs, arrays):
            if array.ndim != len(spec.shape) or array.shape[1:] != spec.shape[1:] or 0 in array.shape:
                expected = "(" + ", ".join(["N", *(str(size) for size in spec.shape[1:])]) + ")"
                hint = ": add the leading axis with x[None]" if array.shape == spec.shape[1:] else ""
                raise InputError(f"expected {spec.name} of shape {expected}, got {array.shape}{hint}")
        rows = {len(array) for array in arrays if array.ndim}
        if len(rows) > 1:
            raise InputError(f"expected the same number of rows in every input, got {sorted(rows)}")
        return arrays

    def _run(self, arrays: list[Array]) -> tuple[Array, ...]:
        native = {array.dtype == spec.dtype for spec, array in zip(self.inputs, arrays) if spec.quantized}
        if len(native) > 1:
            raise InputError("expected real-world floats for every quantized input, or native integers for every one")
        steps = [_to_tensor(spec, array) for spec, array in zip(self.inputs, arrays)]
        raw = self._run_rows(steps)
        if native == {True}:
            return raw
        return tuple(
            dequantize(value, spec.scale, spec.zero_point) if spec.quantized else value
            for spec, value in zip(self.outputs, raw)
        )

    def _run_rows(self, steps: list[Array]) -> tuple[Array, ...]:
        """Run any number of rows: at once, in resized batches, or one native batch at a time."""
        if not steps or not steps[0].ndim or len(steps[0]) == self.batch:
            return self._run_once(steps)
        rows = len(steps[0])
        resized = self._resizable is not False and self._try_resize(min(rows, LARGEST_BATCH))
        size = self.batch if resized else self._native_batch
        pieces = [self._run_piece([s[at : at + size] for s in steps], size) for at in range(0, rows, size)]
        return tuple(np.concatenate(parts) for parts in zip(*pieces))

    def _run_piece(self, steps: list[Array], size: int) -> tuple[Array, ...]:
        """Run at most ``size`` rows; a short last piece is filled up with its first row and cut again."""
        rows = len(steps[0])
        if rows == size:
            return self._run_once(steps)
        filled = [np.concatenate([s, np.repeat(s[:1], size - rows, axis=0)]) for s in steps]
        return tuple(value[:rows] for value in self._run_once(filled))

    def _run_once(self, steps: list[Array]) -> tuple[Array, ...]:
        try:
            for spec, value in zip(self.inputs, steps):
                self._set(spec.index, value)
            self._invoke()
            return tuple(self._get(spec.index) for spec in self.outputs)
        except (RuntimeError, ValueError) as error:
            raise self._failed(error) from error

    def _try_resize(self, batch: int) -> bool:
        """Resize every input's leading dimension; on refusal start afresh at the native batch and say False."""
        if batch == self.batch:
            return True
        try:
            for spec in self.inputs:
                self._interpreter.resize_tensor_input(spec.index, [batch, *spec.shape[1:]])
            self._interpreter.allocate_tensors()
            self._invoke()
            rows = {tuple(self._get(spec.index).shape)[:1] for spec in self.outputs}
            self._resizable = rows == {(batch,)}
        except (RuntimeError, ValueError):
            self._resizable = False
        if self._resizable:
            self._adopt(self._interpreter)
        else:
            self._load()
        return bool(self._resizable)

    def _delegate(self) -> str:
        """The name of the delegate that took over operators, ``none``, or empty where the runtime does not tell."""
        try:
            operators = self._interpreter._get_ops_details()
        except Exception:  # a private call of the runtime: absent in some versions
            return ""
        taken = any(str(operator.get("op_name", "")).upper() == "DELEGATE" for operator in operators)
        return "xnnpack" if taken else "none"

    def _ensure_open(self) -> None:
        if self._interpreter is None:
            self._closed()

    def _closed(self, *_: object) -> Any:
        raise ClosedError(f"{self.name} was closed: make a new Model to predict again")

    def _failed(self, error: Exception) -> Exception:
        return translate(error, InferenceError, f"{self._runtime.name} failed to run {self.name}")


def _read(model: Union[str, os.PathLike[str], bytes]) -> tuple[bytes, str]:
    """The file's bytes and a name for messages; raises ModelError unless they start like a .tflite."""
    if isinstance(model, (bytes, bytearray, memoryview)):
        content, name = bytes(model), "the model"
    else:
        name = clean_text(os.fspath(model))
        try:
            with open(model, "rb") as file:
                content = file.read()
        except OSError as error:
            raise ModelError(f"cannot read {name}: {error.strerror or error}") from error
    if content[4:8] != b"TFL3" or len(content) < 16:
        raise ModelError(
            f"expected a .tflite model ('TFL3' at byte 4), got {len(content)} bytes starting "
            f"{content[:8].hex() or 'nothing'} in {name}: check the file, or convert the model again"
        )
    return content, name


def _probe(runtime: Runtime, content: bytes, threads: int, name: str) -> None:
    def load_and_run() -> None:
        interpreter = runtime.interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        interpreter.invoke()

    probe(load_and_run, f"{runtime.name} cannot load {name}")


def _spec(raw: Mapping[str, Any]) -> TensorSpec:
    scale, zero_point = raw["quantization"]
    return TensorSpec(
        name=clean_text(raw["name"]),
        index=int(raw["index"]),
        shape=tuple(int(size) for size in raw["shape"]),
        dtype=np.dtype(raw["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )


def _to_tensor(spec: TensorSpec, array: Array) -> Array:
    """``array`` in the tensor's dtype; raises InputError where that would change its meaning."""
    if array.dtype == spec.dtype:
        return array
    kind, wanted = array.dtype.kind, spec.dtype.kind
    if spec.quantized and kind == "f":
        return quantize(array, spec.scale, spec.zero_point, spec.dtype)
    if not spec.quantized and wanted == "f" and kind in "fiub":
        return array.astype(spec.dtype)
    if not spec.quantized and wanted in "iu" and kind in "iu":
        limits = np.iinfo(spec.dtype)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise InputError(f"expected {spec.name} within {spec.dtype}, got values up to {array.max()}")
        return array.astype(spec.dtype)
    takes = f"floats (real-world values) or {spec.dtype} (native steps)" if spec.quantized else f"{spec.dtype}"
    raise InputError(f"expected {spec.name} as {takes}, got {array.dtype}: convert it with .astype(...)")
