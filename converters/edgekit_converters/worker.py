"""The child process in which models are trained, exported and quantized: whatever aborts there leaves the caller alive.

``python -m edgekit_converters.worker`` reads one JSON job per line and answers one JSON line per event: ``progress``,
``result`` or ``error``. Arrays and models travel as files named in the job.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import errors

__all__ = ["main"]

Array = npt.NDArray[Any]
Emit = Callable[[Mapping[str, Any]], None]


def main() -> int:
    """Serve jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer: it ends this process
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # libraries print to standard output; only answers belong there

    def emit(event: Mapping[str, Any]) -> None:
        answers.write(json.dumps(event) + "\n")

    for line in sys.stdin:
        emit(_answer(json.loads(line), emit))
    return 0


def _answer(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        result = JOBS[job.pop("job")](emit=emit, **job)
    except errors.ConverterError as error:
        return {"event": "error", "kind": type(error).__name__, "message": str(error)}
    except MemoryError:
        return {"event": "error", "kind": "ConverterError", "message": "not enough memory to convert this model"}
    except OSError as error:
        return {"event": "error", "kind": "OSError", "message": f"{error.strerror or error}: {error.filename or ''}"}
    return {"event": "result", "seconds": time.perf_counter() - started, **result}


def _train(emit: Emit, data: str, scale: float, offset: float, settings: dict[str, Any], out: str) -> dict[str, Any]:
    from .train import TrainingSettings, train

    arrays = _arrays(data)
    inputs = arrays["x"].astype(np.float32) * np.float32(scale) + np.float32(offset)

    def progress(done: int, total: int, text: str) -> None:
        emit({"event": "progress", "done": done, "total": total, "text": text})

    train(inputs, arrays["y"], TrainingSettings(**settings), progress).save(out)
    return {}


def _export(
    emit: Emit, model: str, out: str, batch: int = 1, shapes: dict[str, list[int]] | None = None, trust: bool = False
) -> dict[str, Any]:
    from .export import export_float
    from .load import load_model

    export = export_float(load_model(model, trust=trust), batch=batch, shapes=shapes)
    Path(out).write_bytes(export.tflite)
    return {"framework": export.framework, "max_abs_diff": export.max_abs_diff}


def _quantize(
    emit: Emit, model: str, out: str, precision: str, input_type: str, output_type: str, samples: str | None = None
) -> dict[str, Any]:
    from .calibrate import collect_ranges
    from .quantize import needs_calibration, quantize

    content = Path(model).read_bytes()
    arrays = _arrays(samples) if samples is not None and needs_calibration(precision) else None
    ranges = None
    if arrays is not None:
        # One pass over the samples serves every precision made from the same float model.
        key = (model, samples)
        if key not in _RANGES:
            _RANGES[key] = collect_ranges(content, arrays)
        ranges = _RANGES[key]
    made = quantize(
        content, precision=precision, input_type=input_type, output_type=output_type, samples=arrays, ranges=ranges
    )
    Path(out).write_bytes(made.tflite)
    return {"quantizer": made.quantizer, "input_type": made.input_type, "output_type": made.output_type}


_RANGES: dict[tuple[str, str | None], Any] = {}
JOBS: dict[str, Callable[..., dict[str, Any]]] = {"train": _train, "export": _export, "quantize": _quantize}


def _arrays(path: str) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
