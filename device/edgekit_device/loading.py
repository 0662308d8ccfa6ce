"""From a file to an interpreter: the bytes are checked, tried in a child process, and loaded."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Optional, Union

from ._runtime import Runtime, translate
from .delegates import AUTO, DelegateRequest, delegate_options, reopened_options
from .errors import DelegateError, InputError, ModelCrashError, ModelError
from .flatbuffer import verify
from .probe import probe
from .tensors import random_input, read_spec
from .text import clean_text

__all__ = [
    "RUNTIME_FAILURES",
    "ModelSource",
    "Opened",
    "check_threads",
    "open_interpreter",
    "probe_model",
    "read_model",
    "resize_interpreter",
    "run_once",
]

ModelSource = Union[str, os.PathLike[str], bytes]

# What the runtimes' extension modules raise; pybind11 turns C++ exceptions into these.
RUNTIME_FAILURES = (RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError, SystemError)


def read_model(model: ModelSource) -> tuple[bytes, str]:
    """The file's bytes and a name for messages; raises ModelError unless they are laid out like a .tflite."""
    if isinstance(model, (bytes, bytearray, memoryview)):
        content, name = bytes(model), "the model"
    elif isinstance(model, (str, os.PathLike)):
        name = clean_text(os.fspath(model))
        try:
            with open(model, "rb") as file:
                content = file.read()
        except (OSError, ValueError) as error:  # ValueError: a null character in the path
            raise ModelError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
    else:
        raise InputError(f"expected the model as a path or bytes, got {type(model).__name__}")
    if content[4:8] != b"TFL3" or len(content) < 16:
        raise ModelError(
            f"expected a .tflite model ('TFL3' at byte 4), got {len(content)} bytes starting "
            f"{content[:8].hex() or 'nothing'} in {name}: check the file, or convert the model again"
        )
    verify(content, name)
    return content, name


def check_threads(threads: int) -> None:
    """Raise InputError unless ``threads`` is a number of threads."""
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 256:
        raise InputError(f"expected threads (--threads) as a whole number from 1 to 256, got {threads!r}")


class Opened(NamedTuple):
    """An interpreter with its tensors allocated, and what took operators over: ``edgetpu``, ``external``, ``xnnpack``,
    ``flex``, ``litert-cpu`` …, ``none``; empty where the runtime does not tell."""

    interpreter: Any
    delegate: str


def open_interpreter(
    runtime: Runtime, content: bytes, threads: int, name: str, delegate: DelegateRequest = AUTO
) -> Opened:
    """Make an interpreter and allocate its tensors.

    Raises ModelError where the runtime refuses, DelegateError where a library that was tried before refuses now, or where
    XNNPACK was asked for and takes over nothing.
    """
    if delegate.kind == "litert":
        return _open_compiled(runtime, content, threads, name, delegate)
    try:
        options = reopened_options(runtime, delegate)
    except (*RUNTIME_FAILURES, OSError, AttributeError) as error:
        raise translate(error, DelegateError, f"{delegate.library} cannot be loaded for {name}") from error
    try:
        interpreter = runtime.interpreter(model_content=content, num_threads=threads, **options)
        # What the runtime applies by itself comes with the allocation: what is there before is the library's.
        claimed = delegate.loads_code and "DELEGATE" in _operators(interpreter)
        interpreter.allocate_tensors()
    except RUNTIME_FAILURES as error:
        raise translate(error, ModelError, f"{runtime.name} cannot load {name}") from error
    taken = delegate.kind if claimed else _taken_over(interpreter)
    if delegate.kind == "xnnpack" and taken not in ("xnnpack", ""):
        raise DelegateError(
            f"expected XNNPACK to take over operators of {name}, and {runtime.name} {runtime.version} gave it none: it has no "
            "kernels for these operators or this precision. Run it with --delegate auto, or with another --runtime"
        )
    return Opened(interpreter, taken)


def _open_compiled(runtime: Runtime, content: bytes, threads: int, name: str, delegate: DelegateRequest) -> Opened:
    """In LiteRT's CompiledModel; what took over is what the trial found."""
    from .litert_model import CompiledInterpreter  # most models need none of it

    try:
        interpreter = CompiledInterpreter(runtime, content, threads, delegate.accelerators)
        interpreter.allocate_tensors()
    except RUNTIME_FAILURES as error:
        raise translate(error, ModelError, f"{runtime.name} cannot load {name} in a CompiledModel") from error
    return Opened(interpreter, delegate.taken or "litert-cpu")


def _operators(interpreter: Any) -> set[str]:
    """Types of the operators of the graph as it is now; empty where a runtime lacks this private call."""
    try:
        return {str(operator["op_name"]) for operator in interpreter._get_ops_details()}
    except (AttributeError, KeyError, TypeError):
        return set()


def _taken_over(interpreter: Any) -> str:
    """What a runtime applied by itself: it calls every delegate DELEGATE, and these two are all that there are."""
    names = _operators(interpreter)
    if "DELEGATE" not in names:
        return "none" if names else ""
    return "flex" if any(name.startswith("Flex") for name in names) else "xnnpack"


def resize_interpreter(interpreter: Any, batch: int) -> None:
    """Allocate ``batch`` rows for every input and run once; raises ValueError unless every output then has as many."""
    for spec in (read_spec(raw) for raw in interpreter.get_input_details()):
        interpreter.resize_tensor_input(spec.index, [batch, *spec.shape[1:]])
    interpreter.allocate_tensors()
    run_once(interpreter)
    rows = {tuple(interpreter.get_tensor(raw["index"]).shape)[:1] for raw in interpreter.get_output_details()}
    if rows != {(batch,)}:
        raise ValueError(f"expected {batch} rows in every output, got {rows}")


def run_once(interpreter: Any) -> None:
    """Run on seeded random inputs: what lies in a tensor nobody has set may be no valid token."""
    for spec in (read_spec(raw) for raw in interpreter.get_input_details()):
        interpreter.set_tensor(spec.index, random_input(spec))
    interpreter.invoke()


def probe_model(
    runtime: Runtime,
    content: bytes,
    threads: int,
    name: str,
    *,
    batch: Optional[int] = None,
    delegate: DelegateRequest = AUTO,
) -> None:
    """Load, run (and resize to ``batch``) in a child process first.

    Raises ModelError where the runtime refuses and ModelCrashError where it takes the child down. The child frees the
    interpreter too: that is where damage done to the heap shows.
    """

    if delegate.kind == "litert":
        from .litert_model import check_compiled_model

        check_compiled_model(runtime)

    def load_and_run() -> None:
        if delegate.kind == "litert":
            interpreter = _open_compiled(runtime, content, threads, name, delegate).interpreter
        else:
            options = delegate_options(runtime, delegate)
            interpreter = runtime.interpreter(model_content=content, num_threads=threads, **options)
            interpreter.allocate_tensors()
        run_once(interpreter)
        for raw in interpreter.get_output_details():
            interpreter.get_tensor(raw["index"])
        interpreter.get_signature_list()
        if batch is not None:
            resize_interpreter(interpreter, batch)

    try:
        probe(load_and_run, f"{runtime.name} cannot load {name}")
    except ModelCrashError as error:
        if delegate.kind != "litert" or error.signal_name != "SIGILL":
            raise
        from .litert_model import ILLEGAL

        said = f"litert:cpu kills the process (SIGILL): {ILLEGAL}. Run it with --delegate auto"
        raise DelegateError(said, signal_name=error.signal_name) from error
