"""The child process in which models are trained, exported and quantized: whatever aborts there leaves the caller alive.

``python -m edgekit_converters.worker`` reads one JSON job per line and answers one JSON line per event: ``progress``,
``stage`` (what now begins, with a deadline of its own or none), ``result`` or ``error``. Arrays and models travel as files
named in the job. Its argument is the id of the parent process, which it outlives by no more than about a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
import traceback
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import errors
from .reason import first_line

if TYPE_CHECKING:
    from .int8.observations import Observations
    from .training.samples import Samples

__all__ = ["main"]

Array = npt.NDArray[Any]
Emit = Callable[[Mapping[str, Any]], None]

# The HDF5 library reads some damaged files for ever; a gigabyte from a slow disk takes a tenth of this.
READ_DEADLINE_S = 600.0
_OBSERVED: dict[tuple[bytes, ...], Observations] = {}


def main() -> int:
    """Serve jobs until standard input ends, or the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer: it ends this process
    parent = int(sys.argv[1]) if len(sys.argv) > 1 else os.getppid()
    threading.Thread(target=_leave_with_parent, args=(parent,), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # libraries print to standard output; only answers belong there

    def emit(event: Mapping[str, Any]) -> None:
        answers.write(json.dumps(event) + "\n")

    for line in sys.stdin:
        emit(_answer(json.loads(line), emit))
    return 0


def _answer(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    started = time.perf_counter()
    name = job.pop("job")
    try:
        if name not in _JOBS:
            raise errors.ConverterError(f"expected a job of {', '.join(_JOBS)}, got {name!r}")
        result = _JOBS[name](emit=emit, **job)
    except Exception as error:  # whatever a job raises is an answer: this process serves the next one
        return {"event": "error", **_described(error, name)}
    return {"event": "result", "seconds": time.perf_counter() - started, **result}


def _described(error: Exception, job: str) -> dict[str, Any]:
    """``error`` as its kind, one line, and the facts that its kind carries."""
    if isinstance(error, errors.ConverterError):
        problems = list(error.problems) if isinstance(error, errors.PromiseError) else []
        return {"kind": type(error).__name__, "message": str(error), "problems": problems}
    if isinstance(error, MemoryError):
        message = f"not enough memory to {job} this model: use a machine with more, or a smaller model"
    elif isinstance(error, OSError):
        message = f"cannot {job}: {error.strerror or first_line(error)}: {error.filename or 'no file named'}"
    else:
        traceback.print_exception(error)  # into the output that the parent keeps
        message = f"'{job}' failed unexpectedly: {type(error).__name__}: {first_line(error)}"
    return {"kind": "ConverterError", "message": message}


def _train(emit: Emit, data: str, scale: float, offset: float, settings: dict[str, Any], out: str) -> dict[str, Any]:
    from .training.train import TrainingSettings, train

    arrays = _arrays(data)
    inputs = _scaled(arrays["x"], scale, offset)

    def progress(done: int, total: int, text: str) -> None:
        emit({"event": "progress", "done": done, "total": total, "text": text})

    train(inputs, arrays["y"], TrainingSettings(**settings), progress).save(out)
    return {}


def _compress(
    emit: Emit,
    model: str,
    out: str,
    steps: list[dict[str, Any]],
    data: str | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    fine_tuning: dict[str, Any] | None = None,
    seed: int = 0,
    trust: bool = False,
    checkpoints: str | None = None,
    read_deadline_s: float = READ_DEADLINE_S,
) -> dict[str, Any]:
    from .compress import Step, check_steps, compress
    from .load import load_model
    from .settings import settings_from
    from .training.checkpoint import write_whole
    from .training.finetune import FineTuning

    tuning = settings_from(FineTuning, {"seed": seed, **(fine_tuning or {})}, "finetune")
    listed = [Step(str(step["technique"]), step.get("options") or {}) for step in steps]
    check_steps(listed, tuning)
    emit({"event": "stage", "text": f"read {model}", "deadline_s": read_deadline_s})
    loaded = load_model(model, trust=trust)
    emit({"event": "stage", "text": "compress", "deadline_s": None})

    def progress(done: int, total: int, text: str) -> None:
        emit({"event": "progress", "done": done, "total": total, "text": text})

    made = compress(
        loaded,
        listed,
        None if data is None else _training_samples(data, scale, offset),
        tuning,
        checkpoints=None if checkpoints is None else Path(checkpoints),
        progress=progress,
        trust=trust,
    )
    write_whole(Path(out), made.model.save)
    return {"facts": made.facts}


def _training_samples(data: str, scale: float, offset: float) -> Samples:
    """Arrays ``x``, or ``x.NAME`` for each input, preprocessed to ``x`` × scale + offset, with ``y`` where it is there."""
    from .training.samples import Samples

    arrays = _arrays(data)
    labels = arrays.pop("y", None)
    named = {name.removeprefix("x.") if name != "x" else name: array for name, array in arrays.items()}
    if (scale, offset) != (1.0, 0.0):
        named = {name: _scaled(array, scale, offset) for name, array in named.items()}
    return Samples(named, labels)


def _scaled(array: Array, scale: float, offset: float) -> Array:
    """``array`` × scale + offset in float32, without more copies than the one."""
    scaled = array.astype(np.float32)
    scaled *= np.float32(scale)
    scaled += np.float32(offset)
    return scaled


def _export(
    emit: Emit,
    model: str,
    out: str,
    batch: int = 1,
    shapes: dict[str, list[int]] | None = None,
    trust: bool = False,
    read_deadline_s: float = READ_DEADLINE_S,
) -> dict[str, Any]:
    from .export import export_float
    from .load import load_model

    emit({"event": "stage", "text": f"read {model}", "deadline_s": read_deadline_s})
    loaded = load_model(model, trust=trust)
    emit({"event": "stage", "text": "convert", "deadline_s": None})
    export = export_float(loaded, batch=batch, shapes=shapes)
    Path(out).write_bytes(export.tflite)
    return {"framework": export.framework, "max_abs_diff": export.max_abs_diff, "layers": list(export.layers)}


def _quantize(
    emit: Emit,
    model: str,
    out: str,
    precision: str,
    input_type: str,
    output_type: str,
    samples: str | None = None,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    from .quantize import QuantizeOptions, ensure_quantizable, needs_calibration, quantize

    content = Path(model).read_bytes()
    ensure_quantizable(content)
    calibrated = samples is not None and needs_calibration(precision)
    seen = _observations(content, Path(str(samples))) if calibrated else None
    made = quantize(
        content,
        precision=precision,
        input_type=input_type,
        output_type=output_type,
        samples=None if seen is None else seen.samples,
        options=QuantizeOptions.from_dict(options or {}),
        observations=seen,
    )
    Path(out).write_bytes(made.tflite)
    return {name: value for name, value in vars(made).items() if name != "tflite"}


def _diagnose(
    emit: Emit,
    model: str,
    samples: str,
    precision: str = "int8",
    options: dict[str, Any] | None = None,
    layers: list[str | None] | None = None,
    measured: str | None = None,
    labels: str | None = None,
    wins: bool = True,
    budget_s: float | None = None,
    audited: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """``labels`` is an .npz with those of ``samples`` and ``measured``; ``audited`` holds more arguments of the audit."""
    from .diagnosis.diagnose import diagnose
    from .quantize import QuantizeOptions

    def progress(done: int, total: int, text: str) -> None:
        emit({"event": "progress", "done": done, "total": total, "text": text})

    content, calibration = Path(model).read_bytes(), _arrays(samples)
    known = {} if labels is None else _arrays(labels)
    common: dict[str, Any] = {
        "layers": layers or (),
        "options": QuantizeOptions.from_dict(options or {}),
        "precision": precision,
        "measured_on": None if measured is None else _arrays(measured),
        "progress": progress,
    }
    asked = known.get("samples" if measured is None else "measured")
    found = diagnose(content, calibration, labels=asked, wins=wins, budget_s=budget_s, **common).to_dict()
    if audited is None:
        return {"diagnosis": found}
    from .diagnosis.audit import audit

    others = None if audited.get("others") is None else _arrays(audited["others"])
    facts = {name: value for name, value in audited.items() if name != "others"}
    seen = audit(content, calibration, labels=known.get("samples"), others=others, **facts, **common)
    return {"diagnosis": found, "calibration": seen.to_dict()}


_JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "train": _train,
    "compress": _compress,
    "export": _export,
    "quantize": _quantize,
    "diagnose": _diagnose,
}


def _observations(model: bytes, samples: Path) -> Observations:
    """What is known of the model on the samples: kept from one job to the next, as long as both are the same."""
    from .int8.observations import Observations

    key = tuple(hashlib.sha256(content).digest() for content in (model, samples.read_bytes()))
    if key not in _OBSERVED:
        _OBSERVED.clear()
        _OBSERVED[key] = Observations(model, _arrays(str(samples)))
    return _OBSERVED[key]


def _arrays(path: str) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:  # pickles, damage, an .npy
        raise errors.CalibrationError(f"expected arrays in an .npz file, got {path}: {first_line(error)}") from error


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
