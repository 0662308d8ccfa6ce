"""Measure variants on a device, and hold its outputs against the host's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from edgekit_device import BenchmarkReport
from edgekit_device.report import TuningFacts

from .collecting import acknowledge_measured, collect_before_bench
from .data import Preprocessing, Split, resize
from .devices import BenchItem, BenchRequest, Device, open_device
from .errors import EdgekitError, UsageError
from .evaluation import common_size, load_test, noted_preprocessing, outputs_of
from .parity import outputs_parity, read_outputs, with_first_difference
from .progress import Progress, Silent
from .records import Parity, Variant
from .results import Results
from .runnable import host_file, is_compiled, to_measure
from .store import RunStore
from .subject import open_subject
from .tuning import tune_variants, tuned_request, tuned_requests

__all__ = ["bench", "bench_run"]

Array = npt.NDArray[Any]
SAMPLES = "samples.npz"


def bench(
    model: str | os.PathLike[str],
    *,
    device: str | Device = "local",
    variants: Sequence[str] = (),
    threads: int | None = None,
    runtime: str | None = None,
    runs: int | None = None,
    warmup: int | None = None,
    deadline_s: float = 900.0,
    delegate: str | None = None,
    precision: float | None = None,
    budget_s: float | None = None,
    sustained_s: float | None = None,
    profile: bool = False,
    separately: bool = False,
    tune: bool = False,
    data: Any = None,
    data_folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Results[BenchmarkReport]:
    """Measure every variant of a run folder (or those in ``variants``), or one .tflite, on ``device``.

    The variants of a run are measured in turns, block by block, so that what the board does meanwhile touches all alike;
    ``separately`` measures one after the other. How long and how precisely is said as in ``BenchRequest``.

    With ``tune`` the device tries first which threads, runtime and delegate are fastest for each variant; what it finds is kept
    in the run. Where none of the three is said, a variant is measured as it was tuned on this device, or else with one thread
    and what the device prefers.

    With ``data`` (anything ``load_data`` takes) accuracy on its test split is measured there too, and for a run how near
    the device's outputs are to the host's. Reports are kept in the run as soon as they are there. A variant that fails
    is in ``failures``; its error is raised when all fail. What was compiled for an accelerator is left out unless it is in
    ``variants``, the device has an Edge TPU, or ``delegate`` is one's, which measures nothing else.

    Raises UsageError for a model or data that the device refuses, DeviceError when it fails.
    """
    said: dict[str, Any] = {"threads": threads, "runtime": runtime, "delegate": delegate}
    asked = {name: value for name, value in said.items() if value is not None}
    if tune and asked:
        raise UsageError(f"tuning finds threads, runtime and delegate itself: leave out --{', --'.join(asked)}")
    request = replace(
        BenchRequest(
            runs=runs,
            warmup=warmup,
            deadline_s=deadline_s,
            precision=precision,
            budget_s=budget_s,
            sustained_s=sustained_s,
            profile=profile,
        ),
        **asked,
    )
    subject = open_subject(model)
    with ExitStack() as stack:
        opened = device if isinstance(device, Device) else stack.enter_context(open_device(device))
        if isinstance(subject, RunStore):
            stack.enter_context(subject.locked())
            known = to_measure(subject.variants(variants), variants, delegate, opened, progress)
            split = None if data is None else load_test(data, common_size(known), data_folder)[0]
            how: dict[str, Any] = {"split": split, "separately": separately, "progress": progress}
            if asked:
                return bench_run(subject, known, opened, request, **how).or_raise()
            return _bench_as_tuned(subject, known, opened, request, tune=tune, **how).or_raise()
        if variants:
            raise UsageError("--variant chooses among the variants of a run folder, got a single model")
        (progress or Silent()).step(f"measuring {subject.name} on {opened.name}")
        trials = TuningFacts()
        if tune:
            request, trials = tuned_request(subject, opened, request)
        report = replace(_bench_one(subject, opened, request, data, data_folder), tuning=trials)
        acknowledge_measured(opened, [report], progress)
        return Results({subject.stem: report})


def _bench_one(
    model: Path, device: Device, request: BenchRequest, data: Any, data_folder: str | os.PathLike[str] | None
) -> BenchmarkReport:
    if data is None:
        return device.bench(model, request)
    size = noted_preprocessing(model).size
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        samples = _write_samples(Path(scratch), resize(load_test(data, size, data_folder)[0], size))
        return device.bench(model, request, data=samples)


def bench_run(
    store: RunStore,
    variants: Sequence[Variant],
    device: Device,
    request: BenchRequest,
    *,
    split: Split | None = None,
    again: bool = True,
    separately: bool = False,
    progress: Progress | None = None,
    tuned: Results[BenchmarkReport] | None = None,
) -> Results[BenchmarkReport]:
    """Measure ``variants`` of a run whose lock is held, in turns unless ``separately``.

    The reports take over what was tried from ``tuned``, reports of the same variants.
    ``again=False`` keeps reports that answer the same request; what is missing is measured together.
    """
    shown = progress or Silent()
    done: dict[str, BenchmarkReport] = {}
    failures: dict[str, EdgekitError] = {}
    asked = _asked(device, request, split)
    run_id = collect_before_bench(device, store, shown)
    wanted: list[Variant] = []
    for variant in variants:
        known = None if again else store.report(variant, asked)
        if known is None:
            wanted.append(variant)
        else:
            shown.note(f"{variant.name}: measured before, kept")
            done[variant.name] = known
    measured: list[BenchmarkReport] = []
    for group in [[variant] for variant in wanted] if separately else [wanted] if wanted else []:
        shown.step(f"measuring {_said(group)} on {device.name}")
        shown.update(len(done) + len(failures), len(variants))
        for variant, outcome, parity in _measure(device, group, request, split, run_id):
            if isinstance(outcome, EdgekitError):
                failures[variant.name] = outcome
                continue
            if parity is not None:
                store.save_parity(parity)
            if tuned is not None and variant.name in tuned.by_variant:
                outcome = replace(outcome, tuning=tuned.by_variant[variant.name].tuning)
            store.save_report(variant.name, outcome, asked)
            done[variant.name] = outcome
            measured.append(outcome)
    acknowledge_measured(device, measured, shown)
    shown.update(len(variants), len(variants))
    return Results({variant.name: done[variant.name] for variant in variants if variant.name in done}, failures)


def _bench_as_tuned(
    store: RunStore,
    variants: Sequence[Variant],
    device: Device,
    request: BenchRequest,
    *,
    tune: bool,
    progress: Progress | None,
    **how: Any,
) -> Results[BenchmarkReport]:
    """Measure each variant the way it was tuned on ``device``, those that run alike in one session; ``tune`` them first."""
    tuned = None
    if tune:
        tuned = tune_variants(store, variants, device, request, progress=progress)
        variants = store.variants(variant.name for variant in variants)
    found = [
        bench_run(store, group, device, own, progress=progress, tuned=tuned, **how)
        for group, own in tuned_requests(variants, device.name, request, progress)
    ]
    return _in_order(variants, found)


def _in_order(variants: Sequence[Variant], found: Sequence[Results[BenchmarkReport]]) -> Results[BenchmarkReport]:
    """What was measured in several sessions as one answer, in the order asked for."""
    done = {name: report for part in found for name, report in part.by_variant.items()}
    failures = {name: error for part in found for name, error in part.failures.items()}
    return Results({variant.name: done[variant.name] for variant in variants if variant.name in done}, failures)


def _said(group: Sequence[Variant]) -> str:
    names = ", ".join(variant.name for variant in group)
    return f"{names} in turns" if len(group) > 1 else names


def _asked(device: Device, request: BenchRequest, split: Split | None) -> dict[str, Any]:
    """What decides a report, apart from the model: a report that answers the same is not measured again."""
    data = None if split is None else split.sha256
    return {"device": device.name, **request.decides, "data": data}


def _measure(
    device: Device, group: Sequence[Variant], request: BenchRequest, split: Split | None, run_id: str
) -> Iterator[tuple[Variant, BenchmarkReport | EdgekitError, Parity | None]]:
    """Measure ``group`` in one session; every variant with its report and, given ``split``, its parity, or its error."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        folder = Path(scratch)
        try:
            outcomes = device.bench_together(_items(group, split, folder), request, run=run_id)
        except EdgekitError as error:
            outcomes = [error] * len(group)
        for at, (variant, outcome) in enumerate(zip(group, outcomes, strict=True)):
            parity = None
            if split is not None and not isinstance(outcome, EdgekitError):
                try:
                    from_device = read_outputs(variant.name, _outputs(folder, at))
                    parity = _parity(variant, from_device, device, split, request)
                except EdgekitError as error:
                    outcome = error
            yield variant, outcome, parity


def _parity(
    variant: Variant, from_device: Sequence[Array], device: Device, split: Split, request: BenchRequest
) -> Parity | None:
    """The device's outputs beside the host's; of a compiled variant beside those of the one it was compiled from."""
    model = host_file(variant)
    if model is None:
        return None
    from_host, _, _ = outputs_of(model, split, threads=request.threads)
    parity = outputs_parity(variant, from_host, from_device)
    if is_compiled(variant):
        return replace(parity, note=f"held against {variant.compiled_from} on the host, which it was compiled from")
    return with_first_difference(parity, device, variant, split, request)


def _items(group: Sequence[Variant], split: Split | None, folder: Path) -> list[BenchItem]:
    """What is sent of each variant; those that take images of the same size share the file of samples."""
    if split is None:
        return [BenchItem(Path(variant.path), variant.name) for variant in group]
    sizes = [Preprocessing.from_dict(variant.preprocessing).size for variant in group]
    files = {size: folder / f"samples-{number}" for number, size in enumerate(dict.fromkeys(sizes))}
    for size, place in files.items():
        place.mkdir()
        _write_samples(place, resize(split, size))
    return [
        BenchItem(Path(variant.path), variant.name, files[size] / SAMPLES, _outputs(folder, at))
        for at, (variant, size) in enumerate(zip(group, sizes, strict=True))
    ]


def _outputs(folder: Path, at: int) -> Path:
    return folder / f"outputs-{at}.npz"


def _write_samples(folder: Path, split: Split) -> Path:
    """The split as the device reads it: ``x`` or ``x.NAME``, and ``y``."""
    path = folder / SAMPLES
    single = len(split.inputs) == 1
    arrays: Mapping[str, Array] = {"x" if single else f"x.{name}": value for name, value in split.inputs.items()}
    labels = {} if split.labels is None else {"y": split.labels}
    np.savez(path, **arrays, **labels)  # type: ignore[arg-type]
    return path
