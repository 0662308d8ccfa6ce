"""Several models in one command of a device: what is sent, and whose each answer is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import LatencyFacts, ModelFacts

from edgekit.devices import BenchItem, BenchRequest, Completed, Device, FakeTransport
from edgekit.devices.request import parse_precision
from edgekit.errors import DeviceError, UsageError
from edgekit.store import file_sha256


def report(path: Path) -> str:
    """What a device prints of a model."""
    facts = ModelFacts(file_sha256(path), path.stat().st_size, path.name)
    return BenchmarkReport(model=facts, latency=LatencyFacts(1, median_ms=1.0)).to_json()


def models(folder: Path, *names: str) -> list[Path]:
    """Files that differ."""
    paths = [folder / name for name in names]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]))
    return paths


def sent(arguments: Sequence[str]) -> list[Path]:
    """The models of the command, as the device has them."""
    return [Path(argument) for argument in arguments if argument.endswith(".tflite")]


def test_one_command_holds_all_that_was_asked(tmp_path: Path) -> None:
    """Options once, samples once, outputs and variants for each; outputs come back to their places."""
    paths = models(tmp_path, "a.tflite", "b.tflite")
    data = tmp_path / "x.npz"
    data.write_bytes(b"samples")

    def answer(arguments: Sequence[str], folder: Path) -> Completed:
        for at, path in enumerate(sent(arguments)):
            (folder / f"outputs-{at}.npz").write_bytes(path.name.encode())
        return Completed(0, "\n".join(report(path) for path in sent(arguments)))

    request = BenchRequest(2, runs=9, precision=0.01, budget_s=3.0, sustained_s=60.0, delegate="xnnpack", profile=True)
    transport = FakeTransport(answer)
    items = [BenchItem(path, path.stem, data, tmp_path / f"{path.stem}.npz") for path in paths]
    with Device(transport) as device:
        found = device.bench_together(items, request, run="r1")
        there = transport.folder

    [command] = transport.commands
    assert list(command) == [
        *("bench", str(there / "a.tflite"), str(there / "b.tflite"), "--json", "--threads", "2", "--runtime", "auto"),
        *(
            "--delegate=xnnpack",
            "--runs",
            "9",
            "--precision",
            "0.01",
            "--budget",
            "3.0",
            "--sustained",
            "60.0",
            "--profile",
        ),
        *("--deadline=900", "--data", str(there / "samples-0.npz"), "--outputs", "outputs-0.npz"),
        *("--outputs", "outputs-1.npz", "--run=r1", "--variant=a", "--variant=b"),
    ]
    assert [item.model.name for item in found if isinstance(item, BenchmarkReport)] == ["a.tflite", "b.tflite"]
    assert [(tmp_path / f"{name}.npz").read_text() for name in "ab"] == ["a.tflite", "b.tflite"]


def test_files_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    """Each has its own report, whatever order they come in; two that are the same file have one each."""
    paths = models(tmp_path, "1/m.tflite", "2/m.tflite", "c.tflite")
    paths.append(tmp_path / "copy.tflite")
    paths[-1].write_bytes(paths[-2].read_bytes())
    with Device(FakeTransport(lambda told, _: Completed(0, "\n".join(map(report, sent(told)[::-1]))))) as device:
        found = device.bench_together([BenchItem(path) for path in paths], BenchRequest())

    hashes = [item.model.sha256 for item in found if isinstance(item, BenchmarkReport)]
    assert hashes == [file_sha256(path) for path in paths]


def test_every_model_fails_for_its_own_reason(tmp_path: Path) -> None:
    """Its line of error, a report without a latency, outputs that never came, silence."""
    paths = models(tmp_path, *(f"{name}.tflite" for name in "abcde"))

    def answer(arguments: Sequence[str], folder: Path) -> Completed:
        a, b, c, d, _ = sent(arguments)
        (folder / "outputs-3.npz").write_bytes(b"x")
        lines = [
            json.dumps({"error": "no \x1b[2J such op", "exit_code": 2, "model": a.name}),
            report(b).replace('"median_ms":1.0', '"median_ms":null'),
            report(c),
            report(d),
            "rubbish",
            json.dumps({"error": "x", "model": "nobody.tflite"}),
            json.dumps({"model": {"sha256": 5}}),
            "[" * 100_000,
        ]
        return Completed(2, "\n".join(lines), "edgekit-device: error: no such op\n")

    with Device(FakeTransport(answer)) as device:
        items = [BenchItem(path, outputs=tmp_path / f"{path.stem}.npz") for path in paths]
        a, b, c, d, e = device.bench_together(items, BenchRequest())

    assert isinstance(a, UsageError)
    assert str(a) == "fake refuses a.tflite: no [2J such op"
    assert isinstance(b, DeviceError)
    assert "without a latency" in str(b)
    assert isinstance(c, DeviceError)
    assert "did not write outputs-2.npz" in str(c)
    assert isinstance(d, BenchmarkReport)
    assert isinstance(e, UsageError)
    assert str(e) == "fake refuses e.tflite: no such op"


def test_silence_is_an_error_of_everyone(tmp_path: Path) -> None:
    """A command that ends well and says nothing has measured nothing."""
    items = [BenchItem(path) for path in models(tmp_path, "a.tflite", "b.tflite")]
    with Device(FakeTransport(lambda *_: Completed(0))) as device:
        found = device.bench_together(items, BenchRequest())

    assert [str(item) for item in found] == ["fake answered no report on a.tflite, b.tflite"] * 2


@pytest.mark.parametrize(("text", "value"), [("2%", 0.02), ("0.02", 0.02), (" .5 % ", 0.005), ("100%", 1.0)])
def test_a_precision_is_a_fraction(text: str, value: float) -> None:
    """Or per cent, when it says so."""
    assert parse_precision(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["2", "1", "0", "", "-1%", "2 per cent", "nan", "101%"])
def test_a_precision_that_could_mean_two_things_is_refused(text: str) -> None:
    """2 is 200 % or 2 %: nobody knows."""
    with pytest.raises(UsageError, match=r"expected --precision as 2% or 0\.02"):
        parse_precision(text)
