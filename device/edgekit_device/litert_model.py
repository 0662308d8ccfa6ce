"""LiteRT's CompiledModel behind the calls of an Interpreter, so that one Model runs over either.

CompiledModel (ai_edge_litert/compiled_model.py, 2.3) knows accelerators by name and tells no quantization: what the tensors
are is read from an Interpreter that is never allocated. A GPU's or an NPU's run returns before the work is done (seen: 20
inferences queued in 1 ms that took 133 ms), so that ``invoke`` waits there until the outputs can be read.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ._runtime import Runtime
from .accelerators.compiled import main_signature
from .errors import DelegateError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["ILLEGAL", "CompiledInterpreter", "check_compiled_model"]

NAMES = ("CompiledModel", "CpuOptions", "HardwareAccelerator", "Options")
INSTALL = 'pip install "ai-edge-litert>=2.3"'
# What the aarch64 wheel of 2.3.0 says itself on a Cortex-A72: "compiled with lse enabled".
ILLEGAL = (
    "the GPU library that LiteRT loads for every CompiledModel is built for newer processors (on ARM v8.1 and up: a "
    "Raspberry Pi 5, not 4, 3 or Zero 2)"
)


def check_compiled_model(runtime: Runtime) -> Any:
    """LiteRT's module of CompiledModel; raises DelegateError where ``runtime`` has none, with what installs it."""
    wanted = f"{runtime.name} {runtime.version} has no CompiledModel, which litert:cpu, litert:gpu and litert:npu are"
    if runtime.name != "litert":
        raise DelegateError(f"{wanted}: expected LiteRT. Type: {INSTALL}, and run it with --runtime litert")
    try:
        module = importlib.import_module("ai_edge_litert.compiled_model")
        for name in NAMES:
            getattr(module, name)
    except (ImportError, AttributeError, OSError) as error:
        raise DelegateError(f"{wanted} ({error}): expected LiteRT of at least 2.3. Type: {INSTALL}") from error
    return module


class CompiledInterpreter:
    """The main graph of a model in a CompiledModel for ``accelerators`` (``npu``, ``gpu``, ``cpu``).

    It has the calls of an Interpreter that ``Model`` makes, which raise what LiteRT raises: RuntimeError, ValueError.
    """

    invoke: Callable[[], Any]

    def __init__(self, runtime: Runtime, content: bytes, threads: int, accelerators: Sequence[str]) -> None:
        litert = check_compiled_model(runtime)
        self._content = content  # LiteRT may point into it
        self._waits = tuple(accelerators) != ("cpu",)
        self._plain = runtime.interpreter(model_content=content, num_threads=1)
        self._inputs = [dict(raw) for raw in self._plain.get_input_details()]
        self._outputs = [dict(raw) for raw in self._plain.get_output_details()]
        flags = litert.HardwareAccelerator(0)
        for name in accelerators:
            flags |= litert.HardwareAccelerator[name.upper()]
        options = litert.Options(hardware_accelerators=flags, cpu_options=litert.CpuOptions(num_threads=threads))
        self._model = litert.CompiledModel.from_buffer(content, options=options)
        self._find_main_graph()
        self._stale = True

    def get_input_details(self) -> list[dict[str, Any]]:
        """The inputs in the graph's order, with the shapes as they are now."""
        return self._inputs

    def get_output_details(self) -> list[dict[str, Any]]:
        """The outputs in the graph's order, with the shapes as they are now."""
        return self._outputs

    def get_signature_list(self) -> dict[str, Any]:
        """The signatures by key, as an Interpreter gives them."""
        signatures: dict[str, Any] = self._plain.get_signature_list()
        return signatures

    def get_signature_runner(self, key: Any = None) -> Any:
        """The names of a signature; it runs nothing, for its Interpreter is not allocated."""
        return self._plain.get_signature_runner(key)

    def resize_tensor_input(self, index: int, shape: Sequence[int]) -> None:
        """Give an input another shape, from the next ``allocate_tensors`` on."""
        self._model.resize_input_tensor(self._input_at[index], [int(size) for size in shape], self._graph, strict=False)
        self._stale = True

    def allocate_tensors(self) -> None:
        """Make the buffers that the shapes need."""
        if not self._stale:
            return
        sides = (
            (self._inputs, self._input_at, self._model.get_input_tensor_details(self._key)),
            (self._outputs, self._output_at, self._model.get_output_tensor_details(self._key)),
        )
        for specs, places, details in sides:
            shapes = [detail["shape"] for detail in details.values()]
            for spec in specs:
                spec["shape"] = np.array(shapes[places[spec["index"]]], np.int32)
        self._in_buffers = self._model.create_input_buffers(self._graph)
        self._out_buffers = self._model.create_output_buffers(self._graph)
        run = partial(self._model.run_by_index, self._graph, self._in_buffers, self._out_buffers)
        self.invoke = (
            partial(_run_and_wait, run, [self._reader(spec) for spec in self._outputs]) if self._waits else run
        )
        self._stale = False

    def set_tensor(self, index: int, value: Array) -> None:
        """Fill an input; raises ValueError unless ``value`` has its bytes."""
        spec = next(spec for spec in self._inputs if spec["index"] == index)
        if value.dtype != np.dtype(spec["dtype"]) or value.shape != tuple(spec["shape"]):
            raise ValueError(f"expected {spec['dtype']}{list(spec['shape'])}, got {value.dtype}{list(value.shape)}")
        # As bytes: the buffers know fewer types than models have, int64 is none of them.
        content = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        self._in_buffers[self._input_at[index]].write(content)

    def get_tensor(self, index: int) -> Array:
        """An output's values, the caller's own."""
        return self._reader(next(spec for spec in self._outputs if spec["index"] == index))()

    def _reader(self, spec: dict[str, Any]) -> Callable[[], Array]:
        buffer, dtype = self._out_buffers[self._output_at[spec["index"]]], np.dtype(spec["dtype"])
        shape = tuple(int(size) for size in spec["shape"])
        return partial(_read, buffer, math.prod(shape) * dtype.itemsize, dtype, shape)

    def _find_main_graph(self) -> None:
        """Its signature in CompiledModel, which makes one up for a model without, and each tensor's place there."""
        key = main_signature(self._content)
        if key is None and self.get_signature_list():
            raise ValueError("no signature runs its main graph, and CompiledModel runs signatures alone")
        self._key = next(iter(self._model.get_signature_list())) if key is None else key
        self._graph = self._model.get_signature_index(self._key)
        ins = self._model.get_input_tensor_details(self._key).values()
        outs = self._model.get_output_tensor_details(self._key).values()
        self._input_at = {int(detail["index"]): at for at, detail in enumerate(ins)}
        self._output_at = {int(detail["index"]): at for at, detail in enumerate(outs)}
        told = [{int(spec["index"]) for spec in specs} for specs in (self._inputs, self._outputs)]
        if told != [set(self._input_at), set(self._output_at)]:
            raise ValueError(f"its signature {self._key!r} does not name every input and output of the main graph")


def _read(buffer: Any, count: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    content: Array = buffer.read(count, np.uint8)
    return content.view(dtype).reshape(shape)


def _run_and_wait(run: Callable[[], Any], readers: Sequence[Callable[[], Array]]) -> None:
    run()
    for read in readers:
        read()
