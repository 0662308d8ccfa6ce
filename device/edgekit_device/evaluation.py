"""Accuracy on the device: a data file in, a count of right answers (and the outputs, for parity) out.

Batch after batch: neither the data nor the outputs have to fit into the board's memory.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from .arrays import RowsFile, map_npz
from .errors import DataError
from .model import Model
from .report import AccuracyFacts
from .tasks import answers, predict_batches

__all__ = ["Samples", "measure_accuracy", "read_samples"]

Array = npt.NDArray[Any]
CAP_BYTES = 64 * 1024**3
ROWS = 256


@dataclass(frozen=True)
class Samples:
    """Raw inputs by name, labels of shape (N,) or None, and the SHA-256 of the file they came from."""

    inputs: dict[str, Array]
    labels: Optional[Array]
    sha256: str

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.inputs.values())))


def read_samples(path: str) -> Samples:
    """Read an ``.npz`` with ``x`` (or ``x.NAME`` per input) and optionally ``y``; ``x_test`` and ``y_test`` do as well.

    Raises DataError with what was expected and what is there.
    """
    try:
        if os.path.getsize(path) > CAP_BYTES:
            raise DataError(f"expected at most {CAP_BYTES} bytes of data, got {os.path.getsize(path)}: {path}")
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    arrays = map_npz(path)
    suffix = _suffix(path, arrays)
    inputs = {_input_name(name): value for name, value in arrays.items() if name.split(".")[0] == f"x{suffix}"}
    labels = arrays.get(f"y{suffix}")
    _check(path, inputs, labels)
    return Samples(inputs, None if labels is None else np.array(labels), digest.hexdigest())


def measure_accuracy(model: Model, samples: Samples, *, outputs_path: Optional[str] = None) -> AccuracyFacts:
    """Run every sample; with ``outputs_path`` the float outputs are kept there as ``.npz`` (``output_0``, …).

    ``outputs_sha256`` is over the outputs batch after batch: of one output, its very bytes.
    """
    labels = samples.labels
    classes = labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu" else None
    digest, done, correct = hashlib.sha256(), 0, 0
    with ExitStack() as stack:
        kept = None if outputs_path is None else stack.enter_context(RowsFile(outputs_path))
        for outputs in predict_batches(model, samples.inputs):
            for value in outputs:
                digest.update(np.ascontiguousarray(value).tobytes())
            if kept is not None:
                kept.append(outputs)
            if classes is not None:
                correct += int((answers(outputs[0]) == classes[done : done + len(outputs[0])]).sum())
            done += len(outputs[0])
    facts = AccuracyFacts(count=samples.count, data_sha256=samples.sha256, outputs_sha256=digest.hexdigest())
    return facts if classes is None else replace(facts, accuracy=correct / samples.count, correct=correct)


def _suffix(path: str, arrays: dict[str, Array]) -> str:
    """``_test`` where the file calls its samples so, as Keras's own data files do."""
    kinds = {name.split(".")[0] for name in arrays} & {"x", "x_test"}
    if len(kinds) != 1:
        found = "both" if kinds else sorted(arrays)[:10] or "nothing"
        raise DataError(f"expected an array 'x' or 'x_test' in {path}, and not both, got {found}")
    return kinds.pop()[1:]


def _check(path: str, inputs: dict[str, Array], labels: Optional[Array]) -> None:
    rows = {len(value) if value.ndim else 0 for value in [*inputs.values(), *([] if labels is None else [labels])]}
    if len(rows) != 1 or 0 in rows:
        raise DataError(
            f"expected the same number of samples, and at least one, in every array of {path}, got {sorted(rows)}"
        )
    for name, value in inputs.items():
        if value.dtype.kind not in "fiub":
            raise DataError(f"expected numbers in {name!r} of {path}, got {value.dtype}")
        if value.dtype.kind == "f" and not _finite(value):
            raise DataError(f"expected finite values in {name!r} of {path}, got NaN or infinity")


def _finite(value: Array) -> bool:
    return all(np.isfinite(value[at : at + ROWS]).all() for at in range(0, len(value), ROWS))


def _input_name(key: str) -> str:
    return key.partition(".")[2] or "x"
