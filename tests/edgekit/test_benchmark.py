"""Measuring variants, and holding the device's outputs against the host's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import LatencyFacts, ModelFacts

from edgekit import bench, compare
from edgekit.benchmark import bench_run, outputs_parity
from edgekit.devices import BenchRequest, Completed, Device, FakeTransport
from edgekit.errors import DeviceError, UsageError
from edgekit.records import Variant
from edgekit.store import RunStore, file_sha256


def test_a_run_is_measured_in_a_process_of_its_own(run_folder: Path, data: Path) -> None:
    """Every variant on the real local device, with accuracy, and with outputs equal to the host's."""
    reports = bench(run_folder, data=data, runs=20, threads=2)
    store = RunStore.open(run_folder)

    assert set(reports.by_variant) == {"float32", "float16", "dynamic-int8", "int8"}
    for variant in store.variants():
        report, parity = reports.by_variant[variant.name], store.parity(variant)
        assert report.model.sha256 == variant.sha256
        assert (report.latency.count, report.runtime.threads, report.accuracy.count) == (20, 2, 100)
        assert store.report(variant) == report
        assert parity is not None
        assert (parity.count, parity.same_answer) == (100, 1.0)
    assert reports.by_variant["float32"].accuracy.accuracy == 1.0
    assert compare(run_folder).gate.passed


def test_one_model_is_measured_too(float_model: Path, data: Path) -> None:
    """Also with its accuracy."""
    [report] = bench(float_model, data=data, runs=5)

    assert (report.latency.count, report.accuracy.accuracy, report.accuracy.count) == (5, 1.0, 100)


def test_one_variant_that_fails_does_not_stop_the_others(run_folder: Path) -> None:
    """Its error is in failures; the reports of the others are kept; when all fail the first error is raised."""

    def answer(arguments: Sequence[str], _: Path) -> Completed:
        models = sent(arguments)
        if [path.name for path in models] == ["int8.tflite"]:
            return Completed(-6, "", "boom\n")
        crash = json.dumps({"error": "the runtime crashed (SIGABRT)", "exit_code": 3, "model": "int8.tflite"})
        lines = [crash if path.name == "int8.tflite" else report_on(path) for path in models]
        return Completed(3 if crash in lines else 0, "\n".join(lines), "edgekit-device: error: the runtime crashed\n")

    with Device(FakeTransport(answer)) as device:
        found = bench(run_folder, device=device)
        with pytest.raises(DeviceError, match="SIGABRT"):
            bench(run_folder, device=device, variants=["int8"])
        apart = bench(run_folder, device=device, separately=True)

    assert str(found.failures["int8"]) == "fake failed on int8.tflite: the runtime crashed (SIGABRT)"
    assert (list(apart.failures), list(apart.by_variant)) == (["int8"], list(found.by_variant))

    assert list(found.failures) == ["int8"]
    assert len(found) == 3
    assert {line.name for line in compare(run_folder).variants if line.median_ms is not None} == set(found.by_variant)


def sent(arguments: Sequence[str]) -> list[Path]:
    """The models of a bench command; a device is asked other things as well."""
    return [Path(argument) for argument in arguments if argument.endswith(".tflite")]


def report_on(path: Path) -> str:
    """What a device prints of a model."""
    return BenchmarkReport(model=ModelFacts(file_sha256(path)), latency=LatencyFacts(1, median_ms=1.0)).to_json()


def test_only_what_is_missing_is_measured_again(run_folder: Path) -> None:
    """Together; reports that answer the same request are kept, those that answer another are not."""

    def answer(arguments: Sequence[str], _: Path) -> Completed:
        return Completed(0, "\n".join(report_on(path) for path in sent(arguments)))

    store = RunStore.open(run_folder)
    known = store.variants()
    with Device(FakeTransport(answer)) as device:
        bench_run(store, known[:2], device, BenchRequest(), again=False)
        found = bench_run(store, known, device, BenchRequest(), again=False)
        bench_run(store, known, device, BenchRequest(precision=0.01), again=False)
        asked = [command for command in device.transport.commands if command[0] == "bench"]  # type: ignore[attr-defined]
    commands = [[path.stem for path in sent(command)] for command in asked]

    names = [variant.name for variant in known]
    assert commands == [names[:2], names[2:], names]
    assert list(found.by_variant) == names


def test_a_device_that_dies_on_the_way_keeps_what_it_said(run_folder: Path) -> None:
    """The reports that came are stored; whoever has none failed with the command."""

    def answer(arguments: Sequence[str], _: Path) -> Completed:
        if not sent(arguments):
            return Completed(2)
        return Completed(-9, report_on(sent(arguments)[0]) + '\nrubbish\n{"model": 1}\n{"error": 1}', timed_out=True)

    with Device(FakeTransport(answer)) as device:
        found = bench(run_folder, device=device, deadline_s=30, sustained_s=10)

    first, *others = [variant.name for variant in RunStore.open(run_folder).variants()]
    assert (list(found.by_variant), list(found.failures)) == ([first], others)
    for name in others:
        assert "within 160 s and was ended" in str(found.failures[name])


def test_variants_are_measured_in_turns_by_a_real_device(run_folder: Path) -> None:
    """One session; the same rounds for all; each in a process of its own."""
    reports = bench(run_folder, budget_s=0.3).by_variant.values()

    assert len({report.session.id for report in reports}) == 1
    assert [(report.session.position, report.session.variants) for report in reports] == [(n, 4) for n in range(4)]
    assert all(len(report.session.block_medians_ms) >= 5 for report in reports)
    assert all(report.latency.stop in ("narrow", "budget") for report in reports)


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_outputs_that_cannot_be_read_are_the_device_s_fault(
    run_folder: Path, data: Path, content: bytes | None
) -> None:
    """No report is kept of a device whose outputs nobody saw."""

    def answer(arguments: Sequence[str], folder: Path) -> Completed:
        if content is not None:
            (folder / "outputs.npz").write_bytes(content)
        return Completed(0, report_on(Path(arguments[1])))

    with Device(FakeTransport(answer)) as device, pytest.raises(DeviceError, match=r"cannot be read|did not write"):
        bench(run_folder, device=device, data=data, variants=["int8"])
    assert list((run_folder / "reports").iterdir()) == []


def test_parity_counts_equal_values_and_answers() -> None:
    """Against numbers worked out by hand."""
    host = np.array([[0.0, 1.0], [1.0, 0.0]], "float32")
    device = np.array([[0.0, 1.0], [0.25, 0.5]], "float32")
    found = outputs_parity(Variant("m", "m", sha256="s"), [host], [device])

    assert (found.count, found.identical, found.max_abs_diff, found.same_answer) == (2, 0.5, 0.75, 0.5)
    assert found.model_sha256 == "s"
    pictures = [np.zeros((1, 2, 2, 1), "float32")]
    assert outputs_parity(Variant("m", "m"), pictures, pictures).same_answer is None
    with pytest.raises(DeviceError, match="expected outputs of shapes"):
        outputs_parity(Variant("m", "m"), [host], [device[:1]])


def test_a_single_model_has_no_variants(float_model: Path) -> None:
    """--variant is for runs."""
    with pytest.raises(UsageError, match="--variant"):
        bench(float_model, variants=["int8"])
