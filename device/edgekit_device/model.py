"""``Model``: one loaded .tflite behind one call, over whichever TFLite runtime the board has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from ._runtime import load_runtime, translate
from .delegates import choose_delegate, parse_delegate
from .embedded import read_note
from .errors import ClosedError, DeviceRuntimeError, InferenceError, InputError, ModelError
from .loading import (
    RUNTIME_FAILURES,
    ModelSource,
    check_threads,
    open_interpreter,
    probe_model,
    read_model,
    resize_interpreter,
)
from .quant import dequantize
from .tensors import TensorSpec, read_spec, to_array, to_tensor

if TYPE_CHECKING:
    from typing import Union

    import numpy.typing as npt

    from .report import RuntimeFacts

    Array = npt.NDArray[Any]
    Inputs = Union[Array, Sequence[Array], Mapping[str, Array]]
    Outputs = Union[Array, tuple[Array, ...], dict[str, Array]]

__all__ = ["Model"]

LARGEST_BATCH = 64


class Model:
    """A model ready to run.

    ``model`` is a path or the bytes of a .tflite. ``runtime`` is ``auto``, ``litert``, ``tflite`` or ``tf``. ``delegate`` is
    ``auto`` (what the runtime does by itself, and the Edge TPU for a model compiled for one), ``none``, ``xnnpack``,
    ``edgetpu``, ``external:PATH.so``, ``litert:gpu`` … (``parse_delegate`` has all forms). What loads a library is always
    tried with this model in a child process first: a mismatched one kills the process that loads it.
    ``probe=True`` loads and runs the model once in a child process first, so that a file that would kill the process
    raises ModelCrashError instead; pass False for files you made yourself, to save that second load. It is a trial,
    not a proof: a damaged file may pass it and still crash later. Run files you do not trust in a process of their
    own, as ``edgekit-device`` does.

    ``predict`` may be called from several threads: calls wait for each other.

    Raises ModelError, ModelCrashError, RuntimeMissingError, DelegateError, InputError (threads below 1, an unknown delegate).
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    signatures: dict[str, dict[str, list[str]]]
    _interpreter: Any
    _invoke: Callable[[], Any]
    _fast: Optional[tuple[Any, ...]]

    def __init__(
        self,
        model: ModelSource,
        *,
        threads: int = 1,
        runtime: str = "auto",
        delegate: str = "auto",
        probe: bool = True,
    ) -> None:
        check_threads(threads)
        asked = parse_delegate(delegate)
        self._content, self.name = read_model(model)
        self._delegate = choose_delegate(asked, self._content, self.name)
        self._threads = threads
        self._probing = probe
        self._runtime = load_runtime(runtime)
        self._lock = threading.Lock()
        # What a GPU's driver does to a resized model no fork can try.
        self._resizable: Optional[bool] = (
            False if self._delegate.kind == "litert" and self._delegate.loads_code else None
        )
        self._named: dict[Optional[str], tuple[dict[str, int], dict[str, int]]] = {}
        if self._delegate.loads_code:
            from .trial import try_delegate  # most models need none of it

            self._delegate = try_delegate(self._runtime, self._content, threads, self.name, self._delegate)
        elif probe:
            probe_model(self._runtime, self._content, threads, self.name, delegate=self._delegate)
        self._load()
        self._native_batch = self.batch
        self._batched = self.batch > 0 and all(s.shape and s.shape[0] == self.batch for s in self.inputs)

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def runtime(self) -> RuntimeFacts:
        """Name and version of the runtime, the delegate that took over operators, and the threads."""
        from .report import RuntimeFacts

        facts = self._delegate.library, self._delegate.options_text
        return RuntimeFacts(self._runtime.name, self._runtime.version, self._taken_over, self._threads, *facts)

    @property
    def note(self) -> dict[str, Any]:
        """edgekit's note inside the file (preprocessing, provenance); empty when there is none."""
        return read_note(self._content)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file's bytes, in hexadecimal."""
        import hashlib

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

        Arrays have the model's shape; the leading dimension may be any N where every input has the same one (the
        model is resized, or run row by row where it cannot be). For a quantized input, floats are real-world values
        and come back as real-world float32 outputs; integers of the tensor's own dtype are native steps and come back
        native. A mapping gives a dict of outputs by signature name; otherwise one output is an array and several are
        a tuple in output order.

        Raises InputError, InferenceError, ClosedError.
        """
        with self._lock:
            if self._fast is not None and signature is None and type(inputs) is np.ndarray:
                # One array that fits as it is: nothing stands between the caller and the runtime.
                dtype, shape, set_tensor, index, invoke, get_tensor, output = self._fast
                if inputs.dtype is dtype and inputs.shape == shape:
                    try:
                        set_tensor(index, inputs)
                        invoke()
                        result: Array = get_tensor(output)
                        return result
                    except RUNTIME_FAILURES as error:
                        raise self._failed(error) from error
            return self._predict(inputs, signature)

    def resize(self, batch: int) -> None:
        """Allocate the model for ``batch`` rows; raises InputError when its graph has a fixed batch."""
        with self._lock:
            self._ensure_open()
            if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
                raise InputError(f"expected a batch of at least 1, got {batch!r}")
            if not self._try_resize(batch):
                raise InputError(
                    f"expected a batch this model can be resized to, got {batch}: its graph is fixed at "
                    f"{self._native_batch} (convert it with a free batch, or let predict() run it row by row)"
                )

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        """Fill the input tensors, in order, with arrays of exactly their dtype and shape; raises InputError."""
        with self._lock:
            self._ensure_open()
            self._check_count(inputs)
            for spec, value in zip(self.inputs, inputs):
                if value.dtype != spec.dtype or value.shape != spec.shape:
                    raise InputError(
                        f"expected {spec.name} as {spec.dtype}{list(spec.shape)}, got {value.dtype}{list(value.shape)}"
                    )
                self._interpreter.set_tensor(spec.index, value)

    def invoke(self) -> None:
        """Run the model on whatever its input tensors hold."""
        with self._lock:
            try:
                self._invoke()
            except RUNTIME_FAILURES as error:
                raise self._failed(error) from error

    @contextmanager
    def bare_invoke(self) -> Iterator[Callable[[], Any]]:
        """The runtime's own invoke, for timing: nothing of this package stands in between.

        The model is locked meanwhile; what the runtime raises in the block becomes InferenceError.
        """
        with self._lock:
            self._ensure_open()
            try:
                yield self._invoke
            except RUNTIME_FAILURES as error:
                raise self._failed(error) from error

    def close(self) -> None:
        """Free the runtime's memory; later calls raise ClosedError. Closing twice is fine."""
        with self._lock:
            self._interpreter = None
            self._fast = None
            self._named.clear()
            self._invoke = self._raise_closed

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        shapes = ", ".join(f"{spec.dtype}{list(spec.shape)}" for spec in self.inputs)
        return f"<edgekit_device.Model {self.name} ({shapes}) on {self._runtime.name} {self._runtime.version}>"

    # -- inside: loading ----------------------------------------------------------------------------------------

    def _load(self) -> None:
        opened = open_interpreter(self._runtime, self._content, self._threads, self.name, self._delegate)
        self._taken_over = opened.delegate
        try:
            self._adopt(opened.interpreter)
        except RUNTIME_FAILURES as error:
            raise translate(error, ModelError, f"{self._runtime.name} cannot describe {self.name}") from error

    def _adopt(self, interpreter: Any) -> None:
        """Take ``interpreter`` into use and read its tensors, which a resize has changed."""
        self._interpreter = interpreter
        self._invoke = interpreter.invoke
        self.inputs = tuple(read_spec(raw) for raw in interpreter.get_input_details())
        self.outputs = tuple(read_spec(raw) for raw in interpreter.get_output_details())
        self.signatures = interpreter.get_signature_list()
        self._fast = self._fast_path(interpreter)

    def _fast_path(self, interpreter: Any) -> Optional[tuple[Any, ...]]:
        """What ``predict`` needs for one input and one output that are neither quantized nor dequantized."""
        if not len(self.inputs) == len(self.outputs) == 1:
            return None
        (only,), (out,) = self.inputs, self.outputs
        if out.quantized and not only.quantized:
            return None
        calls = interpreter.set_tensor, only.index, interpreter.invoke, interpreter.get_tensor, out.index
        return (only.dtype, only.shape, *calls)

    def _try_resize(self, batch: int) -> bool:
        """Resize every input's leading dimension; on refusal start afresh at the native batch and say False.

        The first new batch is tried in a child as well: a graph may load and run, and crash when resized.
        """
        if batch == self.batch:
            return True
        if not self._batched or self._resizable is False:
            return False
        try:
            if self._probing and self._resizable is None:
                probe_model(
                    self._runtime, self._content, self._threads, self.name, batch=batch, delegate=self._delegate
                )
            resize_interpreter(self._interpreter, batch)
            self._adopt(self._interpreter)
            self._resizable = True
        except (ModelError, *RUNTIME_FAILURES):
            # A batch too large for the memory says nothing of the smaller ones that worked before.
            self._resizable = self._resizable or False
            self._load()
            return False
        return True

    # -- inside: running ----------------------------------------------------------------------------------------

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
        if signature not in self._named:
            self._named[signature] = self._signature(signature)
        ins, outs = self._named[signature]
        if set(inputs) != set(ins):
            raise InputError(f"expected inputs named {sorted(ins)}, got {sorted(map(str, inputs))}")
        by_index = {ins[name]: value for name, value in inputs.items()}
        results = self._run(self._checked([by_index[spec.index] for spec in self.inputs]))
        by_output = {spec.index: result for spec, result in zip(self.outputs, results)}
        return {name: by_output[index] for name, index in outs.items()}

    def _signature(self, key: Optional[str]) -> tuple[dict[str, int], dict[str, int]]:
        """Tensor index by name, for the inputs and outputs of a signature; tensor names where the file has none."""
        if key is not None and key not in self.signatures:
            raise InputError(f"expected a signature of {sorted(self.signatures)}, got {key!r}")
        if key is None and len(self.signatures) > 1:
            raise InputError(f"expected signature= one of {sorted(self.signatures)}: this model has several")
        if not self.signatures:
            ins, outs = ({s.name: s.index for s in specs} for specs in (self.inputs, self.outputs))
        else:
            try:
                runner = self._interpreter.get_signature_runner(key)
                ins, outs = (
                    {name: int(raw["index"]) for name, raw in details.items()}
                    for details in (runner.get_input_details(), runner.get_output_details())
                )
            except RUNTIME_FAILURES as error:
                raise self._failed(error) from error
        if set(ins.values()) != {s.index for s in self.inputs} or not set(outs.values()) <= {
            s.index for s in self.outputs
        }:
            raise InputError("expected names for the model's main graph, which alone is run by name: pass a sequence")
        return ins, outs

    def _check_count(self, values: Sequence[Any]) -> None:
        if len(values) != len(self.inputs):
            names = ", ".join(spec.name for spec in self.inputs)
            raise InputError(f"expected {len(self.inputs)} input(s) ({names}), got {len(values)}")

    def _checked(self, values: Sequence[Any]) -> list[Array]:
        """The inputs as arrays whose number, rank, shape and rows fit the model."""
        self._check_count(values)
        arrays = [to_array(spec, value) for spec, value in zip(self.inputs, values)]
        for spec, array in zip(self.inputs, arrays):
            if not self._fits(spec, array):
                first = "N" if self._batched else str(spec.shape[0]) if spec.shape else ""
                expected = ", ".join([first, *(str(size) for size in spec.shape[1:])])
                hint = ": add the leading axis with x[None]" if array.shape == spec.shape[1:] else ""
                raise InputError(f"expected {spec.name} of shape ({expected}), got {array.shape}{hint}")
        rows = {len(array) for array in arrays} if self._batched else set()
        if len(rows) > 1:
            raise InputError(f"expected the same number of rows in every input, got {sorted(rows)}")
        return arrays

    def _fits(self, spec: TensorSpec, array: Array) -> bool:
        if not self._batched:
            return array.shape == spec.shape
        return array.ndim == len(spec.shape) and array.shape[1:] == spec.shape[1:] and len(array) > 0

    def _run(self, arrays: list[Array]) -> tuple[Array, ...]:
        native = {array.dtype == spec.dtype for spec, array in zip(self.inputs, arrays) if spec.quantized}
        if len(native) > 1:
            raise InputError("expected real-world floats for every quantized input, or native integers for every one")
        raw = self._run_rows([to_tensor(spec, array) for spec, array in zip(self.inputs, arrays)])
        if native == {True}:
            return raw
        return tuple(
            dequantize(value, spec.scale, spec.zero_point) if spec.quantized else value
            for spec, value in zip(self.outputs, raw)
        )

    def _run_rows(self, steps: list[Array]) -> tuple[Array, ...]:
        """Run any number of rows: at once, in resized batches, or one native batch at a time."""
        if not self._batched or not steps or len(steps[0]) == self.batch:
            return self._run_once(steps)
        rows = len(steps[0])
        size = self.batch if self._try_resize(min(rows, LARGEST_BATCH)) else self._native_batch
        pieces = [self._run_piece([s[at : at + size] for s in steps], size) for at in range(0, rows, size)]
        return tuple(np.concatenate(parts) for parts in zip(*pieces))

    def _run_piece(self, steps: list[Array], size: int) -> tuple[Array, ...]:
        """Run at most ``size`` rows; a short last piece is filled up with its first row and cut again."""
        rows = len(steps[0])
        if rows < size:
            steps = [np.concatenate([s, np.repeat(s[:1], size - rows, axis=0)]) for s in steps]
        results = self._run_once(steps)
        if any(value.shape[:1] != (size,) for value in results):
            shapes = ", ".join(str(value.shape) for value in results)
            raise InputError(
                f"expected {self._native_batch} row(s), as {self.name} has: its outputs of shape {shapes} do not hold "
                "one row for each input row, so that more rows cannot be run in turn"
            )
        return tuple(value[:rows] for value in results)

    def _run_once(self, steps: list[Array]) -> tuple[Array, ...]:
        try:
            for spec, value in zip(self.inputs, steps):
                self._interpreter.set_tensor(spec.index, value)
            self._interpreter.invoke()
            return tuple(self._interpreter.get_tensor(spec.index) for spec in self.outputs)
        except RUNTIME_FAILURES as error:
            raise self._failed(error) from error

    def _ensure_open(self) -> None:
        if self._interpreter is None:
            self._raise_closed()

    def _raise_closed(self) -> None:
        raise ClosedError(f"{self.name} was closed: make a new Model to predict again")

    def _failed(self, error: BaseException) -> DeviceRuntimeError:
        return translate(error, InferenceError, f"{self._runtime.name} failed to run {self.name}")
