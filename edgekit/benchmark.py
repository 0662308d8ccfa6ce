"""Measure variants on a device, and hold its outputs against the host's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from edgekit_device import BenchmarkReport
from edgekit_device import errors as device_errors
from edgekit_device.tasks import answers

from .data import Preprocessing, Split, load_data
from .devices import Device, open_device
from .errors import DeviceError, EdgekitError, UsageError
from .evaluation import outputs_of, test_split
from .progress import Progress, Silent
from .records import Parity, Variant
from .store import RunStore

__all__ = ["bench", "bench_run", "outputs_parity"]

Array = npt.NDArray[Any]


def bench(
    model: str | os.PathLike[str],
    *,
    device: str | Device = "local",
    threads: int = 1,
    runtime: str = "auto",
    runs: int | None = None,
    warmup: int | None = None,
    data: Any = None,
    deadline_s: float = 900.0,
) -> BenchmarkReport:
    """Measure one .tflite on ``device``; with ``data``, its accuracy there too.

    Raises UsageError for a model or data that the device refuses, DeviceError when it fails.
    """
    path = Path(model)
    if not path.is_file():
        raise UsageError(f"expected a .tflite file or a run folder, got {path}, which does not exist")
    with ExitStack() as stack:
        opened = _opened(device, stack)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
        samples = None if data is None else _write_samples(scratch, test_split(load_data(data))[0])
        return opened.bench(
            path, threads=threads, runtime=runtime, runs=runs, warmup=warmup, data=samples, deadline_s=deadline_s
        )


def bench_run(
    store: RunStore,
    *,
    device: str | Device = "local",
    names: Sequence[str] = (),
    threads: int = 1,
    runtime: str = "auto",
    runs: int | None = None,
    warmup: int | None = None,
    data: Any = None,
    deadline_s: float = 900.0,
    again: bool = True,
    progress: Progress | None = None,
) -> tuple[list[tuple[Variant, BenchmarkReport]], dict[str, EdgekitError]]:
    """Measure every variant of a run (or those named), keeping each report as soon as it is there.

    ``again=False`` keeps reports that answer the same request. A variant on which the device fails does not stop the
    others: its error is in the second value. With ``data``, accuracy and parity with the host are measured too.
    """
    shown = progress or Silent()
    variants = [item for item in store.variants() if not names or item.name in names]
    if not variants:
        raise UsageError(
            f"{store.folder} has no variants to measure. Make some: edgekit convert MODEL --out {store.folder}"
        )
    split = None if data is None else test_split(load_data(data))[0]
    done: list[tuple[Variant, BenchmarkReport]] = []
    failures: dict[str, EdgekitError] = {}
    with ExitStack() as stack:
        opened = _opened(device, stack)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
        request = {"device": opened.name, "threads": threads, "runtime": runtime, "runs": runs, "warmup": warmup}
        request["data"] = None if split is None else split.sha256
        for number, variant in enumerate(variants):
            known = None if again else store.report(variant, request)
            if known is not None:
                shown.note(f"{variant.name}: measured before, kept")
                done.append((variant, known))
                continue
            shown.step(f"measuring {variant.name} on {opened.name}")
            shown.update(number, len(variants))
            samples = None if split is None else _write_samples(scratch, _sized(split, variant.preprocessing))
            outputs = scratch / f"{variant.name}.outputs.npz" if split is not None else None
            try:
                report = opened.bench(
                    Path(variant.path),
                    threads=threads,
                    runtime=runtime,
                    runs=runs,
                    warmup=warmup,
                    data=samples,
                    outputs=outputs,
                    deadline_s=deadline_s,
                )
                _check_identity(opened.name, variant, report)
            except EdgekitError as error:
                shown.note(f"{variant.name}: failed: {error}")
                failures[variant.name] = error
                continue
            store.save_report(variant.name, report, request)
            if split is not None and outputs is not None:
                store.save_parity(_parity(variant, split, outputs, threads))
            done.append((variant, report))
        shown.update(len(variants), len(variants))
    return done, failures


def outputs_parity(name: str, host: Sequence[Array], device: Sequence[Array]) -> Parity:
    """How close two sets of outputs of shape (N, …) are; raises DeviceError when their shapes differ."""
    if [value.shape for value in host] != [value.shape for value in device]:
        raise DeviceError(
            f"expected outputs of shapes {[v.shape for v in host]} for {name}, got {[v.shape for v in device]}"
        )
    total = sum(value.size for value in host)
    same = sum(int((a == b).sum()) for a, b in zip(host, device, strict=True))
    worst = max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in zip(host, device, strict=True))
    try:
        same_answer = float((answers(host[0]) == answers(device[0])).mean())
    except device_errors.DataError:
        same_answer = None
    return Parity(name, len(host[0]), same / total, worst, same_answer)


def _opened(device: str | Device, stack: ExitStack) -> Device:
    return device if isinstance(device, Device) else stack.enter_context(open_device(device))


def _parity(variant: Variant, split: Split, outputs: Path, threads: int) -> Parity:
    try:
        with np.load(outputs, allow_pickle=False) as archive:
            from_device = [archive[f"output_{index}"] for index in range(len(archive.files))]
    except Exception as error:  # numpy raises a dozen kinds for damaged files
        raise DeviceError(f"the device's outputs for {variant.name} cannot be read: {error}") from error
    from_host, _, _ = outputs_of(variant.path, split, threads=threads)
    return outputs_parity(variant.name, from_host, from_device)


def _check_identity(device: str, variant: Variant, report: BenchmarkReport) -> None:
    if report.model.sha256 != variant.sha256:
        raise DeviceError(
            f"{device} reports on another file than {variant.name} (SHA-256 {report.model.sha256[:12]}…, expected "
            f"{variant.sha256[:12]}…): measure it again"
        )


def _sized(split: Split, preprocessing: Mapping[str, Any]) -> Split:
    """The split resized as the variant wants its samples; scale and offset are the device's part."""
    size = Preprocessing.from_dict(preprocessing).size
    if size is None:
        return split
    resize = Preprocessing(size=size)
    return Split({name: resize.apply(values) for name, values in split.inputs.items()}, split.labels)


def _write_samples(scratch: Path, split: Split) -> Path:
    """The split as the device reads it: ``x`` or ``x.NAME``, and ``y``."""
    path = scratch / "samples.npz"
    names = list(split.inputs)
    arrays = {"x" if len(names) == 1 else f"x.{name}": values for name, values in split.inputs.items()}
    if split.labels is not None:
        arrays["y"] = split.labels
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path
