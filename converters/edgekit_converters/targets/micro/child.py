"""The child process in which models are run: TFLM checks little of a file and aborts where something does not fit.

``python -m edgekit_converters.targets.micro.child TASK FOLDER FIRST`` takes ``FOLDER/job.json`` and appends a JSON line for each
of its models, from number FIRST on, to ``FOLDER/TASK.jsonl``. Samples and outputs travel as arrays (.npz, nothing pickled).
Whatever TFLM prints goes to ``FOLDER/print``, which holds only what was printed for the model at hand.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["main"]

Array = npt.NDArray[Any]
PRINT_CAP = 20_000
FILE_CAP = 2**30
ALIGNMENT = 16
_USED = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
_PART = re.compile(r"'([^']{1,60})' used (\d+) bytes")


def main() -> int:
    """Answer for every model of the job, from the number given on."""
    task, folder, first = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    job: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    answer: Callable[[Path, Mapping[str, Any], Path], dict[str, Any]] = {"micro": _micro, "litert": _litert}[task]
    # Appending: what was printed last begins where the file was emptied, also when this process is gone the next moment.
    printed = folder / "print"
    handle = os.open(printed, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.dup2(handle, 2)
    _limit(math.ceil(job["deadline_s"]))
    with (folder / f"{task}.jsonl").open("a", encoding="utf-8") as answers:
        for name in job["models"][first:]:
            os.truncate(printed, 0)
            answers.write(json.dumps(answer(folder / name, job, printed)) + "\n")
            answers.flush()
    return 0


def _limit(cpu_s: int) -> None:
    """No core file, no endless file, and no endless loop: also when the parent, who would end it, is gone."""
    import resource

    for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, FILE_CAP), (resource.RLIMIT_CPU, cpu_s + 1)):
        resource.setrlimit(limit, (most, most))


def _micro(path: Path, job: Mapping[str, Any], printed: Path) -> dict[str, Any]:
    """Run one model in TFLM: ``stage`` is how far it came (initialise, invoke, done), ``print`` what was said about it."""
    model, arena = path.read_bytes(), int(job["arena_bytes"])
    try:
        interpreter = _interpreter(model, arena)
    except Exception as error:  # the wheel reads the file with code that raises whatever a damaged one makes it raise
        return {"stage": "initialise", "print": _read(printed), "error": str(error)[:300]}
    try:
        _run_on_zeros(interpreter, model)
    except (RuntimeError, ValueError, IndexError) as error:
        return {"stage": "invoke", "print": _read(printed), "error": str(error)[:300]}
    if not job["measure"]:
        return {"stage": "done", "print": _read(printed)}
    used = _allocations(interpreter, printed)
    needed = _smallest(model, used["total"], arena)
    count = _graph(model).OutputsLength()
    outputs = _outputs(lambda: _interpreter(model, needed), path.parent, count, fresh=bool(job["fresh"]))
    np.savez(path.parent / "micro.npz", **outputs)
    return {"stage": "done", "print": "", "used": used, "needed": needed}


def _interpreter(model: bytes, arena_bytes: int) -> Any:
    from tflite_micro.python.tflite_micro import runtime

    return runtime.Interpreter.from_bytes(model, arena_size=arena_bytes)


def _graph(model: bytes) -> Any:
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated

    return schema_py_generated.Model.GetRootAs(model, 0).Subgraphs(0)


def _run_on_zeros(interpreter: Any, model: bytes) -> None:
    for index in range(_graph(model).InputsLength()):
        details = interpreter.get_input_details(index)
        interpreter.set_input(np.zeros(details["shape"], details["dtype"]), index)
    interpreter.invoke()


def _read(printed: Path) -> str:
    return printed.read_bytes()[:PRINT_CAP].decode("utf-8", "replace")


def _allocations(interpreter: Any, printed: Path) -> dict[str, int]:
    """What TFLM prints of its arena after an inference: total, head, tail, and the parts of the tail by their name."""
    os.truncate(printed, 0)
    interpreter.print_allocations()
    text = _read(printed)
    return {name: int(value) for pattern in (_USED, _PART) for name, value in pattern.findall(text)}


def _smallest(model: bytes, used_bytes: int, most_bytes: int) -> int:
    """The smallest arena that initialises and runs, by bisection around what is used after an inference: planning needs room
    that is free again by then, and what is lost to alignment counts as used though a smaller arena may not lose it."""
    low, high, step = used_bytes, used_bytes, ALIGNMENT
    if _fits(model, used_bytes):
        while low > 0 and _fits(model, low := max(0, high - step)):
            high, step = low, step * 2
    else:
        while high < most_bytes and not _fits(model, high := min(most_bytes, low + step)):
            low, step = high, step * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(model, middle) else (middle, high)
    return high


def _fits(model: bytes, arena_bytes: int) -> bool:
    """Whether the model runs in an arena of this size; tried in a fork, because TFLM may die of one that is too small."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _run_on_zeros(_interpreter(model, arena_bytes), model)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _samples(folder: Path) -> Iterator[dict[int, Array]]:
    """The samples by number, each a dictionary of arrays by the input's number."""
    path = folder / "samples.npz"
    if not path.exists():
        return
    with np.load(path, allow_pickle=False) as stored:
        arrays = {int(name): stored[name] for name in stored.files}
    for row in range(min(len(values) for values in arrays.values())):
        yield {index: values[row] for index, values in arrays.items()}


def _outputs(make: Callable[[], Any], folder: Path, count: int, *, fresh: bool) -> dict[str, Any]:
    """The outputs for every sample, stacked, by the output's number; with ``fresh`` each from an interpreter of its own."""
    found: dict[str, list[Array]] = {}
    interpreter = make()
    for sample in _samples(folder):
        if fresh:
            interpreter = make()
        interpreter.reset()  # a state from the sample before would be part of this one's answer
        for index, values in sample.items():
            interpreter.set_input(values, index)
        interpreter.invoke()
        for index in range(count):
            found.setdefault(str(index), []).append(np.array(interpreter.get_output(index)))
    return {name: np.stack(rows) for name, rows in found.items()}


def _litert(path: Path, job: Mapping[str, Any], printed: Path) -> dict[str, Any]:
    """Run the same samples in LiteRT: with the kernels it chooses, and with the reference ones."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = path.read_bytes()
    for name, resolver in (("litert", OpResolverType.AUTO), ("reference", OpResolverType.BUILTIN_REF)):
        with contextlib.suppress(FileNotFoundError):
            (path.parent / f"{name}.npz").unlink()

        def make(chosen: Any = resolver) -> Any:
            made = Interpreter(model_content=model, experimental_op_resolver_type=chosen, num_threads=1)
            made.allocate_tensors()
            return made

        try:
            outputs = _litert_outputs(make, path.parent, fresh=bool(job["fresh"]))
        except (RuntimeError, ValueError) as error:
            return {"stage": name, "print": _read(printed), "error": str(error)[:300]}
        np.savez(path.parent / f"{name}.npz", **outputs)
    return {"stage": "done", "print": ""}


def _litert_outputs(make: Callable[[], Any], folder: Path, *, fresh: bool) -> dict[str, Any]:
    interpreter = make()
    found: dict[str, list[Array]] = {}
    for sample in _samples(folder):
        if fresh:
            interpreter = make()
        interpreter.reset_all_variables()
        for index, values in sample.items():
            interpreter.set_tensor(interpreter.get_input_details()[index]["index"], values)
        interpreter.invoke()
        for index, output in enumerate(interpreter.get_output_details()):
            found.setdefault(str(index), []).append(interpreter.get_tensor(output["index"]))
    return {name: np.stack(rows) for name, rows in found.items()}


if __name__ == "__main__":
    sys.exit(main())
