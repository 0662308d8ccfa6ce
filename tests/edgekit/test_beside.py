"""A baseline whose files are measured again, in turns with the new ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import LatencyFacts, ModelFacts, SessionFacts

from edgekit.beside import bench_beside
from edgekit.cli.main import main
from edgekit.devices import Completed, Device, FakeTransport
from edgekit.errors import DeviceError, UsageError
from edgekit.gate import judge
from edgekit.store import file_sha256


@pytest.fixture
def old_model(float_model: Path, tmp_path: Path) -> Path:
    """The float model as another file of another name, with a byte more behind it."""
    path = tmp_path / "old.tflite"
    path.write_bytes(float_model.read_bytes() + b"\0")
    return path


def device(asked: list[list[str]], slow: Callable[[Path], float]) -> FakeTransport:
    """A device that measures all it is given in one session; ``slow`` says how long a file takes, below 0 that it fails."""

    def answer(arguments: Sequence[str], _: Path) -> Completed:
        asked.append(list(arguments))
        models = [Path(text) for text in arguments[1 : list(arguments).index("--json")]]
        lines = []
        for place, path in enumerate(models):
            median = slow(path)
            facts = SessionFacts("one", place, len(models), (median,) * 20)
            made = BenchmarkReport(
                model=ModelFacts(file_sha256(path), name=path.name),
                latency=LatencyFacts(100, median_ms=median),
                session=facts,
            )
            failed = f'{{"error": "no memory", "exit_code": 3, "model": "{path.name}"}}'
            lines.append(made.to_json() if median > 0 else failed)
        return Completed(0, "\n".join(lines) + "\n")

    return FakeTransport(answer)


def test_old_and_new_are_measured_in_one_session(float_model: Path, old_model: Path) -> None:
    """The old first, with the options of the measurement; single models are paired whatever their names."""
    asked: list[list[str]] = []
    transport = device(asked, lambda path: 1.0 if path.name == "old.tflite" else 1.2)
    with Device(transport) as opened:
        now, before = bench_beside(float_model, old_model, device=opened, threads=2, budget_s=3.0)
    (arguments,) = asked
    found = judge(now.by_variant, before)

    assert [Path(text).name for text in arguments[1:3]] == ["old.tflite", "dense.tflite"]
    assert {"--threads", "2", "--budget", "3.0"} <= set(arguments)
    assert (list(now.by_variant), list(before.reports)) == (["dense"], ["dense"])
    assert found.exit_code == 1
    assert found.lines[0].difference is not None
    assert found.lines[0].difference.paired


def test_the_variants_of_two_runs_are_paired_by_name(run_folder: Path, tmp_path: Path) -> None:
    """What only the new one has is measured and called new; only what is asked for is measured."""
    old = Path(shutil.copytree(run_folder, tmp_path / "old"))
    (old / "variants" / "int8.json").unlink()
    asked: list[list[str]] = []
    with Device(device(asked, lambda _: 1.0)) as opened:
        now, before = bench_beside(run_folder, old, device=opened, variants=["float32", "int8"])
    outcomes = {line.variant: line.outcome for line in judge(now.by_variant, before).lines}

    assert outcomes == {"float32": "passed", "int8": "new"}
    assert asked[0].index("--json") == 1 + 3


def test_a_failure_on_either_side_is_told_apart(float_model: Path, old_model: Path) -> None:
    """The baseline's is raised: there is nothing to judge; the only new one's as well."""
    for failing in ("old.tflite", "dense.tflite"):
        with (
            Device(device([], lambda path, name=failing: -1.0 if path.name == name else 1.0)) as opened,  # type: ignore[misc]
            pytest.raises(DeviceError, match="no memory"),
        ):
            bench_beside(float_model, old_model, device=opened)


def test_nothing_in_common_is_an_error(run_folder: Path, float_model: Path) -> None:
    """Before anything is measured; --variant is for runs."""
    asked: list[list[str]] = []
    with Device(device(asked, lambda _: 1.0)) as opened:
        with pytest.raises(UsageError, match="expected a variant of the same name"):
            bench_beside(run_folder, float_model, device=opened)
        with pytest.raises(UsageError, match="--variant"):
            bench_beside(float_model, float_model, device=opened, variants=["x"])
    assert asked == []


@pytest.mark.parametrize("extra", [["--data", "digits"], ["--separately"]])
def test_accuracy_and_turns_do_not_go_together_here(
    float_model: Path, old_model: Path, extra: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, in words."""
    assert main(["bench", str(float_model), "--against", str(old_model), *extra]) == 2
    assert "for their latency alone" in capsys.readouterr().err


def test_a_model_as_baseline_is_measured_for_real(
    float_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file twice on the local device, in turns: it passes, and says how it was judged."""
    copy = Path(shutil.copy(float_model, tmp_path / "dense.tflite"))

    assert main(["bench", str(float_model), "--against", str(copy), "--runs", "200"]) == 0
    assert "rounds in turns" in capsys.readouterr().out
