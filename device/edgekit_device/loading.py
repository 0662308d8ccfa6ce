"""From a file to an interpreter: the bytes are checked, tried in a child process, and loaded."""

from __future__ import annotations

import os
from typing import Any, Optional, Union

from ._runtime import Runtime, translate
from .errors import InputError, ModelError
from .flatbuffer import verify
from .probe import probe
from .tensors import random_input, read_spec
from .text import clean_text

__all__ = [
    "RUNTIME_FAILURES",
    "ModelSource",
    "check_threads",
    "open_interpreter",
    "probe_model",
    "read_model",
    "resize_interpreter",
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


def open_interpreter(runtime: Runtime, content: bytes, threads: int, name: str) -> Any:
    """An interpreter with its tensors allocated; raises ModelError where the runtime refuses."""
    try:
        interpreter = runtime.interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    except RUNTIME_FAILURES as error:
        raise translate(error, ModelError, f"{runtime.name} cannot load {name}") from error
    return interpreter


def resize_interpreter(interpreter: Any, batch: int) -> None:
    """Allocate ``batch`` rows for every input and run once; raises ValueError unless every output then has as many."""
    for spec in (read_spec(raw) for raw in interpreter.get_input_details()):
        interpreter.resize_tensor_input(spec.index, [batch, *spec.shape[1:]])
    interpreter.allocate_tensors()
    _run_once(interpreter)
    rows = {tuple(interpreter.get_tensor(raw["index"]).shape)[:1] for raw in interpreter.get_output_details()}
    if rows != {(batch,)}:
        raise ValueError(f"expected {batch} rows in every output, got {rows}")


def _run_once(interpreter: Any) -> None:
    """Run on seeded random inputs: what lies in a tensor nobody has set may be no valid token."""
    for spec in (read_spec(raw) for raw in interpreter.get_input_details()):
        interpreter.set_tensor(spec.index, random_input(spec))
    interpreter.invoke()


def probe_model(runtime: Runtime, content: bytes, threads: int, name: str, *, batch: Optional[int] = None) -> None:
    """Load, run (and resize to ``batch``) in a child process first.

    Raises ModelError where the runtime refuses and ModelCrashError where it takes the child down. The child frees the
    interpreter too: that is where damage done to the heap shows.
    """

    def load_and_run() -> None:
        interpreter = runtime.interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        _run_once(interpreter)
        for raw in interpreter.get_output_details():
            interpreter.get_tensor(raw["index"])
        interpreter.get_signature_list()
        if batch is not None:
            resize_interpreter(interpreter, batch)

    probe(load_and_run, f"{runtime.name} cannot load {name}")
