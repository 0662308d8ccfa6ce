"""Measuring variants, and holding the device's outputs against the host's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import LatencyFacts, ModelFacts

from edgekit import bench, compare
from edgekit.benchmark import outputs_parity
from edgekit.devices import Completed, Device, FakeTransport
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
        path = Path(arguments[1])
        if path.name == "int8.tflite":
            return Completed(-6, "", "boom\n")
        return Completed(
            0, BenchmarkReport(model=ModelFacts(file_sha256(path)), latency=LatencyFacts(1, median_ms=1.0)).to_json()
        )

    with Device(FakeTransport(answer)) as device:
        found = bench(run_folder, device=device)
        with pytest.raises(DeviceError, match="SIGABRT"):
            bench(run_folder, device=device, variants=["int8"])

    assert list(found.failures) == ["int8"]
    assert len(found) == 3
    assert {line.name for line in compare(run_folder).variants if line.median_ms is not None} == set(found.by_variant)


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_outputs_that_cannot_be_read_are_the_device_s_fault(
    run_folder: Path, data: Path, content: bytes | None
) -> None:
    """No report is kept of a device whose outputs nobody saw."""

    def answer(arguments: Sequence[str], folder: Path) -> Completed:
        if content is not None:
            (folder / "outputs.npz").write_bytes(content)
        facts = ModelFacts(file_sha256(Path(arguments[1])))
        return Completed(0, BenchmarkReport(model=facts, latency=LatencyFacts(1, median_ms=1.0)).to_json())

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
