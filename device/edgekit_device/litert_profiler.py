"""LiteRT's profiler, through the C interface of its wheel. A wrong structure here kills the process: call it in a child.

Signatures and structures are those of litert/c/ in google-ai-edge/LiteRT, as the library of ai-edge-litert 2.3.0 has them;
options are text in TOML under a name, which is what that interface's own helpers hand over.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from .tensors import TensorSpec, random_input, read_spec

__all__ = ["Event", "ProfiledRun", "profile_runs"]

MOST_RUNS = 200
LEAST_RUNS = 5
CPU = 1  # kLiteRtHwAcceleratorCpu
WRITE = 1  # kLiteRtTensorBufferLockModeWrite
BUILTIN_KERNELS = 2  # kLiteRtCpuKernelModeBuiltin
RANKED_TYPE_BYTES = 128  # LiteRtRankedTensorType has 72 (litert_model_types.h)
WHOLE = "Invoke"
# Event types of litert_profiler_event.h: of the runtime's operators, and of those that a delegate tells of.
DEFAULT, OPERATORS = 1, (2, 4, 8)

Handle = ctypes.c_void_p
Size = ctypes.c_size_t


class Event(NamedTuple):
    """One thing that ran: its name, its number in the graph or in the delegate, and how long it took."""

    tag: str
    number: int
    elapsed_us: int


class ProfiledRun(NamedTuple):
    """One inference and its operators, in the order they ran."""

    whole: Event
    operators: list[Event]


class _Record(ctypes.Structure):
    """ProfiledEventData (litert_profiler_event.h)."""

    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_int64 * 6),
        ("index", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


def profile_runs(content: bytes, threads: int, *, plain: bool, seconds: float) -> list[ProfiledRun]:
    """Compile the model and run it on seeded random inputs for about so many seconds, 5 to 200 times.

    ``plain`` turns XNNPACK off. Raises RuntimeError with the call that failed.
    """
    model = _Compiled(_library(), content, threads, plain)
    for _ in range(LEAST_RUNS):  # the first are no measure
        model.run()
    runs: list[ProfiledRun] = []
    until = time.monotonic() + seconds
    while len(runs) < LEAST_RUNS or (len(runs) < MOST_RUNS and time.monotonic() < until):
        runs.append(_read(model.profiled_run()))
    return runs


def _read(records: Sequence[_Record]) -> ProfiledRun:
    """The inference and its operators; the profiler notes what the runtime does for itself as well."""
    whole, operators = None, []
    for record in records:
        event = Event((record.tag or b"").decode("utf-8", "replace"), record.index, record.elapsed_us)
        if record.kind in OPERATORS:
            operators.append(event)
        elif record.kind == DEFAULT and event.tag == WHOLE:
            whole = event
    if whole is None or not operators:
        raise RuntimeError("the profiler saw no operators")
    return ProfiledRun(whole, operators)


def _library() -> Any:
    found = importlib.util.find_spec("ai_edge_litert")
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        raise RuntimeError("ai_edge_litert is not there")
    return ctypes.CDLL(os.path.join(folders[0], "libLiteRt.so"))


class _Compiled:
    """A model in LiteRT's CompiledModel, with buffers and a profiler. Nothing is freed: its process ends."""

    def __init__(self, library: Any, content: bytes, threads: int, plain: bool) -> None:
        self._library = library
        self._kept: list[Any] = [ctypes.create_string_buffer(content, len(content))]
        self._environment = self._make("LiteRtCreateEnvironment", 0, None)
        self._model = self._make("LiteRtCreateModelFromBuffer", self._environment, self._kept[0], Size(len(content)))
        options = self._make("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, CPU)
        self._add_options(options, "runtime_options_string", "enable_profiling = true\n")
        mode = f"kernel_mode = {BUILTIN_KERNELS}\n" if plain else ""
        self._add_options(options, "xnnpack", f"num_threads = {threads}\n{mode}")
        self._compiled = self._make("LiteRtCreateCompiledModel", self._environment, self._model, options)
        self._profiler = self._make("LiteRtCompiledModelGetProfiler", self._compiled)
        self._signature = self._make("LiteRtGetModelSignature", self._model, Size(0))
        self._inputs, self._outputs = self._buffers("Input"), self._buffers("Output")
        specs = _specs_by_name(content)
        for at, buffer in enumerate(self._inputs):
            self._fill(buffer, random_input(specs[self._input_name(at)]).tobytes())

    def run(self) -> None:
        """One inference."""
        counts = Size(len(self._inputs)), Size(len(self._outputs))
        self._call("LiteRtRunCompiledModel", self._compiled, Size(0), counts[0], self._inputs, counts[1], self._outputs)

    def profiled_run(self) -> Sequence[_Record]:
        """One inference, and what the profiler saw of it. The tags live as long as the model."""
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)
        self.run()
        self._call("LiteRtStopProfiler", self._profiler)
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        records = (_Record * count.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, count.value, records)
        return list(records)

    def _buffers(self, side: str) -> Any:
        count = Size()
        self._call(f"LiteRtGetNumSignature{side}s", self._signature, ctypes.byref(count))
        buffers = (Handle * count.value)()
        for at in range(count.value):
            tensor = self._make(f"LiteRtGetSignature{side}TensorByIndex", self._signature, Size(at))
            kind = (ctypes.c_uint8 * RANKED_TYPE_BYTES)()
            self._call("LiteRtGetRankedTensorType", tensor, kind)
            wanted = self._make(f"LiteRtGetCompiledModel{side}BufferRequirements", self._compiled, Size(0), Size(at))
            buffers[at] = self._make("LiteRtCreateManagedTensorBufferFromRequirements", self._environment, kind, wanted)
        return buffers

    def _input_name(self, at: int) -> str:
        name = ctypes.c_char_p()
        self._call("LiteRtGetSignatureInputName", self._signature, Size(at), ctypes.byref(name))
        return (name.value or b"").decode("utf-8", "replace")

    def _fill(self, buffer: int, content: bytes) -> None:
        place = Handle()
        self._call("LiteRtLockTensorBuffer", Handle(buffer), ctypes.byref(place), WRITE)
        ctypes.memmove(place, content, len(content))
        self._call("LiteRtUnlockTensorBuffer", Handle(buffer))

    def _add_options(self, options: Handle, name: str, text: str) -> None:
        payload = ctypes.create_string_buffer(text.encode())
        self._kept.append(payload)  # ours to free: the interface is given nothing to free it with
        opaque = self._make("LiteRtCreateOpaqueOptions", name.encode(), payload, _KEEP)
        self._call("LiteRtAddOpaqueOptions", options, opaque)

    def _make(self, function: str, *arguments: Any) -> Handle:
        """Call what gives a handle through its last argument."""
        handle = Handle()
        self._call(function, *arguments, ctypes.byref(handle))
        return handle

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise RuntimeError(f"{function} failed with status {status}")


_KEEP = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)


def _specs_by_name(content: bytes) -> dict[str, TensorSpec]:
    """The inputs by the names of the first signature, and by their tensors' own, which count where there is none."""
    from ._runtime import load_runtime

    interpreter = load_runtime("litert").interpreter(model_content=content, num_threads=1)
    specs = {spec.name: spec for spec in map(read_spec, interpreter.get_input_details())}
    for key in list(interpreter.get_signature_list())[:1]:
        details = interpreter.get_signature_runner(key).get_input_details()
        specs.update({name: read_spec(raw) for name, raw in details.items()})
    return specs
