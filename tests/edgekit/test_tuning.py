"""Tuning on a device: what is kept of it, and how it is told."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import (
    LatencyFacts,
    ModelFacts,
    OperatorTime,
    ProfileFacts,
    RuntimeFacts,
    TuningFacts,
    TuningTrial,
)
from rich.console import Console

from edgekit import bench, compare
from edgekit.devices import BenchRequest, Completed, Device, FakeTransport, open_device
from edgekit.errors import DeviceError, UsageError
from edgekit.profiling import operator_layers
from edgekit.progress import Silent
from edgekit.records import Variant
from edgekit.render import render_html, render_markdown
from edgekit.render.profile import profile_lines
from edgekit.render.text import render_text
from edgekit.run_with import kept_way
from edgekit.store import RunStore, file_sha256
from edgekit.tuning import tune_variants, tuned_requests
from tests.conftest import Cli
from tests.tflite_builder import conv_model

FACTS = {"runtime": "litert", "version": "2.3.0", "delegate": "xnnpack", "threads": 4, "median_ms": 3.912}
TRIALS = (TuningTrial("litert", "2.3.0", "xnnpack", 4, 3.9), TuningTrial("tflite", "2.14.0", "none", 1, 41.3))


def _answer(arguments: Sequence[str], _: Path) -> Completed:
    """A device that tunes, refuses int8, and keeps nothing."""
    if arguments[0] == "outbox":
        return Completed(2, "", "edgekit-device: error: this machine keeps no reports\n")
    path = Path(arguments[1])
    if path.name == "int8.tflite":
        return Completed(2, "", "edgekit-device: error: no way to run it works here\n")
    report = BenchmarkReport(
        model=ModelFacts(file_sha256(path)),
        runtime=RuntimeFacts("litert", "2.3.0", "xnnpack", 4),
        latency=LatencyFacts(10, median_ms=3.912),
        tuning=TuningFacts(TRIALS),
    )
    return Completed(0, report.to_json())


# -- for real -------------------------------------------------------------------------------------------------------


def test_a_variant_is_tuned_on_the_real_local_device(run_folder: Path) -> None:
    """Every delegate and number of threads tried there; the best is in the record, for this device, and stays a variant."""
    store = RunStore.open(run_folder)
    [before] = store.variants(["int8"])
    with open_device("local") as device:
        found = tune_variants(store, [before], device, BenchRequest(), budget_s=1.0)
    [after] = store.variants(["int8"])
    trials = found.by_variant["int8"].tuning.trials
    kept = kept_way(after.run_with, "local")

    assert {trial.delegate for trial in trials} >= {"xnnpack", "none", "litert:cpu"}
    assert kept is not None
    assert (kept["runtime"], kept["threads"]) == ("litert", trials[0].threads)
    assert kept["delegate"] == trials[0].delegate
    assert kept_way(after.run_with, "pi4") is None
    assert replace(after, run_with={}) == before
    assert store.knows_report(found.by_variant["int8"].id)
    assert store.report(after) is None  # a benchmark's report is shown, not the tuning's


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_the_best_is_kept_by_device_and_failures_are_told(run_folder: Path) -> None:
    """One variant that cannot be tuned does not stop the others; a second device is kept beside the first."""
    store = RunStore.open(run_folder)
    chosen = store.variants(["float32", "int8"])
    for name in ("fake", "pi4"):
        transport = FakeTransport(_answer)
        transport.name = name
        with Device(transport) as device:
            found = tune_variants(store, chosen, device, BenchRequest(), budget_s=7)
        options = ("--json", "--budget", "7", "--run", store.run_id(), "--variant", "float32")
        assert transport.commands[0][2:] == options

    assert set(found.by_variant) == {"float32"}
    assert isinstance(found.failures["int8"], UsageError)
    [tuned] = store.variants(["float32"])
    assert tuned.run_with == {"fake": FACTS, "pi4": FACTS}
    assert store.variants(["int8"])[0].run_with == {}


def test_a_device_that_reports_on_another_file_is_not_believed(run_folder: Path) -> None:
    """As with every report."""
    wrong = BenchmarkReport(model=ModelFacts("0" * 64), latency=LatencyFacts(1, median_ms=1.0)).to_json()
    store = RunStore.open(run_folder)
    with (
        Device(FakeTransport(lambda *_: Completed(0, wrong))) as device,
        pytest.raises(DeviceError, match="another file than int8"),
    ):
        tune_variants(store, store.variants(["int8"]), device, BenchRequest())

    assert store.variants(["int8"])[0].run_with == {}


def test_a_variant_that_is_gone_meanwhile_is_left_alone(run_folder: Path) -> None:
    """There is no record to write into."""
    store = RunStore.open(run_folder)
    store.save_run_with("nothing", "pi4", FACTS)

    assert not (run_folder / "variants" / "nothing.json").exists()


@pytest.mark.parametrize(
    "damage",
    [
        {"runtime": "rm -rf"},
        {"threads": 0},
        {"threads": "4"},
        {"threads": True},
        {"delegate": None},
    ],
)
def test_a_record_that_makes_no_sense_is_no_tuning(damage: dict[str, object]) -> None:
    """A run folder may be edited by anybody; what comes out goes onto a command line."""
    assert kept_way({"pi4": FACTS}, "pi4") == FACTS
    assert kept_way({"pi4": {**FACTS, **damage}}, "pi4") is None
    assert kept_way({"pi4": "fast"}, "pi4") is None


# -- what becomes of it -----------------------------------------------------------------------------------------------

TUNED = {"pi4": FACTS, "local": {**FACTS, "threads": 1, "median_ms": None}}


class Told(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)


def test_variants_that_run_alike_are_measured_together() -> None:
    """As tuned on this device, the others as asked; what was taken from tuning is said."""
    tuned, other, plain = (
        Variant("a", "int8", run_with=TUNED), Variant("b", "int8", run_with=TUNED), Variant("c", "float32")
    )  # fmt: skip
    asked, told = BenchRequest(runs=7), Told()
    groups = tuned_requests([tuned, plain, other], "pi4", asked, told)

    assert groups == [
        ([tuned, other], replace(asked, threads=4, runtime="litert", delegate="xnnpack")),
        ([plain], asked),
    ]
    assert told.notes == [f"{name}: as tuned on pi4, litert, xnnpack, 4 threads (3.91 ms)" for name in "ab"]
    assert tuned_requests([tuned], "pi5", asked) == [([tuned], asked)]


def test_a_comparison_says_how_a_variant_runs_best(run_folder: Path) -> None:
    """In the terminal, in Markdown and in HTML; of variants that were not tuned, nothing."""
    store = RunStore.open(run_folder)
    store.save_run_with("int8", "pi4", FACTS)
    comparison = compare(run_folder)
    console = Console(width=200, record=True, file=io.StringIO())
    render_text(comparison, console)
    line = "int8 runs best on pi4 with litert, xnnpack, 4 threads (3.91 ms)"

    shown = console.export_text()
    assert line in shown
    assert shown.count("runs best") == 1
    assert line in render_markdown(comparison)
    assert "litert, xnnpack, 4 threads (3.91 ms)" in render_html(comparison)


# -- a profile in a terminal --------------------------------------------------------------------------------------------


def _profile(count: int) -> ProfileFacts:
    """``count`` operators, the first the slowest; they take all but half a millisecond."""
    times = [float(count - place) for place in range(count)]
    operators = tuple(
        OperatorTime(place, "CONV_2D", f"tensor{place};more", time, time / sum(times))
        for place, time in enumerate(times)
    )
    return ProfileFacts("profiler of litert 2.3.0, plain kernels", sum(times) + 0.5, operators)


def test_the_slowest_operators_are_shown_with_their_layers() -> None:
    """By layer where it is known, else by the tensor; the rest in one line, and the time between them."""
    lines = [line.strip() for line in profile_lines(_profile(10), ("stem", None))]

    assert lines[0] == "operators, slowest first (profiler of litert 2.3.0, plain kernels):"
    assert [" ".join(line.split()) for line in lines[1:3]] == [
        "10.0 ms 18.2 % CONV_2D stem", "9.00 ms 16.4 % CONV_2D tensor1"
    ]  # fmt: skip
    assert " ".join(lines[9].split()) == "3.00 ms 5.5 % 2 more"
    assert " ".join(lines[10].split()) == "0.500 ms the runtime between them"
    assert len(lines) == 11


def test_operators_nobody_can_place_have_no_layer() -> None:
    """-1 is no place: it is not the last layer."""
    profile = ProfileFacts("x", None, (OperatorTime(-1, "Convert (NC)", "", 1.0, 1.0),))
    lines = list(profile_lines(profile, ("stem", "head")))

    assert lines[1].split()[-2:] == ["Convert", "(NC)"]


def test_without_a_profile_nothing_is_shown() -> None:
    """Most reports have none."""
    assert list(profile_lines(ProfileFacts())) == []


def test_what_a_device_says_is_cleaned() -> None:
    """Names come from a file, by way of a board."""
    profile = ProfileFacts("x\x1b[31m", 1.0, (OperatorTime(0, "CONV\n2D", "a\x07b", 1.0, 1.0),))

    assert all(character.isprintable() for line in profile_lines(profile) for character in line)


def test_layers_come_from_the_file_s_own_names(run_folder: Path, tmp_path: Path) -> None:
    """One .tflite or a variant of a run; nothing where there is no readable model."""
    (tmp_path / "m.tflite").write_bytes(conv_model())
    (tmp_path / "text.tflite").write_text("no model")

    assert operator_layers(tmp_path / "m.tflite") == (None,)
    assert len(operator_layers(run_folder, "int8")) >= 1
    assert operator_layers(run_folder, "absent") == ()
    assert operator_layers(tmp_path / "text.tflite") == ()


# -- edgekit bench ------------------------------------------------------------------------------------------------------


def _board(arguments: Sequence[str], folder: Path) -> Completed:
    """A board that tunes float32 to four threads and everything else to one, and measures as it is told."""
    if arguments[0] == "outbox":
        return Completed(2, "", "no outbox")
    options = dict(itertools.pairwise(arguments))
    lines = []
    for path in [Path(item) for item in arguments if item.endswith(".tflite")]:
        threads = int(options.get("--threads", 4 if path.name == "float32.tflite" else 1))
        delegate = next((item.partition("=")[2] for item in arguments if item.startswith("--delegate=")), "xnnpack")
        report = BenchmarkReport(
            id=f"{len(lines)}{arguments[0]}{threads}".ljust(32, "0"),
            model=ModelFacts(file_sha256(path), name=path.name),
            runtime=RuntimeFacts(options.get("--runtime", "litert"), "2.3.0", delegate, threads),
            latency=LatencyFacts(10, median_ms=3.912),
            tuning=TuningFacts((TuningTrial("litert", "2.3.0", "xnnpack", threads, 3.9),))
            if arguments[0] == "tune"
            else TuningFacts(),
        )
        lines.append(report.to_json())
    return Completed(0, "\n".join(lines))


def test_bench_tunes_keeps_and_measures_so_from_then_on(run_folder: Path) -> None:
    """--tune first; later without; and what is said outright goes before what was tuned."""
    first = FakeTransport(_board)
    with Device(first) as device:
        reports = bench(run_folder, device=device, variants=["float32", "int8"], tune=True)
    verbs = [command[0] for command in first.commands if command[0] != "outbox"]

    acknowledged = [item for command in first.commands if command[:2] == ("outbox", "ack") for item in command]
    assert "0tune4".ljust(32, "0") in acknowledged
    assert verbs[:2] == ["tune", "tune"]
    assert set(verbs[2:]) == {"bench"}
    assert {name: report.runtime.threads for name, report in reports.by_variant.items()} == {"float32": 4, "int8": 1}
    assert [report.tuning.trials[0].threads for report in reports] == [4, 1]
    kept = RunStore.open(run_folder)
    assert [kept.report(v).tuning.trials != () for v in kept.variants(["float32", "int8"])] == [True, True]

    told = Told()
    with Device(FakeTransport(_board)) as device:
        later = bench(run_folder, device=device, variants=["float32", "int8"], progress=told)
        asked = bench(run_folder, device=device, variants=["float32", "int8"], threads=2)

    assert [report.runtime.threads for report in later] == [4, 1]
    assert [report.runtime.threads for report in asked] == [2, 2]
    assert "float32: as tuned on fake, litert, xnnpack, 4 threads (3.91 ms)" in told.notes


def test_one_model_is_tuned_too(float_model: Path) -> None:
    """There is no record to keep it in: the report has it."""
    with Device(FakeTransport(_board)) as device:
        [report] = bench(float_model, device=device, tune=True)

    assert report.runtime.threads == 1
    assert [trial.threads for trial in report.tuning.trials] == [1]


@pytest.mark.parametrize("said", [{"threads": 2}, {"runtime": "litert"}, {"delegate": "none"}])
def test_tuning_beside_what_it_finds_is_a_contradiction(said: dict[str, Any], run_folder: Path) -> None:
    """Either the device finds it, or it is said."""
    with pytest.raises(UsageError, match=f"leave out --{next(iter(said))}"):
        bench(run_folder, tune=True, **said)


def test_a_device_that_cannot_tune_is_told_of(run_folder: Path) -> None:
    """When no variant can be tuned, nothing is measured: the device is older, or emulated."""
    refusing = FakeTransport(lambda *_: Completed(2, "", "edgekit-device: error: this one is emulated\n"))
    with Device(refusing) as device, pytest.raises(UsageError, match="emulated"):
        bench(run_folder, device=device, tune=True)


def test_the_command_measures_as_tuned_unless_it_is_told_otherwise(run_folder: Path, edgekit_cli: Cli) -> None:
    """On the real local device, with a default that is not said and one that is."""
    RunStore.open(run_folder).save_run_with("int8", "local", {**FACTS, "delegate": "none", "threads": 1})
    quick = ("--variant", "int8", "--runs", 5, "--warmup", 1, "--json")
    tuned = edgekit_cli("bench", run_folder, *quick)
    told = edgekit_cli("bench", run_folder, *quick, "--threads", 1)

    assert tuned.returncode == told.returncode == 0, tuned.stderr + told.stderr
    delegates = [json.loads(done.stdout)["reports"][0]["runtime"]["delegate"] for done in (tuned, told)]
    assert delegates == ["none", "xnnpack"]
    assert "int8: as tuned on local, litert, none, 1 thread" in tuned.stderr
