"""Models measured in turns, each in a process of its own; and what happens when one of them does not behave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from edgekit_device import BenchmarkReport, DeviceRuntimeError, Model, ModelCrashError, turns
from edgekit_device.evaluation import read_samples
from edgekit_device.plan import Plan
from edgekit_device.turns import Job, Outcome, measure_in_turns

from tests.conftest import Cli
from tests.device.model_contract import KERNEL, floats

NAMES = ("dense.tflite", "conv.tflite", "conv_int8.tflite")


def session(models: Path, plan: Plan, *jobs: Job, **options: Callable[[], float | None]) -> list[Outcome]:
    """What became of every model, in their order; nothing is left of their processes."""
    before = children(os.getpid())
    asked = jobs or tuple(Job(models / name) for name in NAMES)
    found = dict(measure_in_turns(asked, plan, **options))
    assert children(os.getpid()) == before
    return [found[at] for at in range(len(asked))]


def children(pid: int | str) -> list[str]:
    """The processes that ``pid`` has made."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def reports(outcomes: list[Outcome]) -> list[BenchmarkReport]:
    """Those that are reports."""
    return [outcome for outcome in outcomes if isinstance(outcome, BenchmarkReport)]


@pytest.mark.parametrize("environment", ["device_python", "tflite_python"])
def test_the_command_prints_one_line_for_each_model(
    device_cli: Cli, models: Path, environment: str, request: pytest.FixtureRequest
) -> None:
    """A report each, of one session, with as many rounds for all, and what each needed before."""
    paths = [models / name for name in NAMES]
    options = ("--budget", 0.8, "--json", "--run", "r", *(f"--variant={path.stem}" for path in paths))
    done = device_cli("bench", *paths, *options, python=request.getfixturevalue(environment))
    found = [BenchmarkReport.from_json(line) for line in done.stdout.splitlines()]

    assert (done.returncode, done.stderr) == (0, "")
    assert [report.model.name for report in found] == list(NAMES)
    assert [(report.run, report.variant) for report in found] == [("r", Path(name).stem) for name in NAMES]
    assert len({report.session.id for report in found}) == 1
    assert [report.session.position for report in found] == [0, 1, 2]
    for report in found:
        latency, memory = report.latency, report.memory.peak_rss_mb
        assert report.session.variants == 3
        assert len(report.session.block_medians_ms) >= 12
        assert report.session.noise_floor is not None
        assert None not in vars(latency).values()
        assert latency.median_low_ms <= latency.median_ms <= latency.median_high_ms  # type: ignore[operator]
        assert memory is not None
        assert 10 < memory < 200
        assert report.before.memory_available_mb is not None
        assert report.after.busy_others is not None


def test_an_exact_count_is_exact_for_everyone(models: Path) -> None:
    """Ten rounds, in which all models run side by side; no two reports share an id."""
    found = reports(session(models, Plan(runs=40, warmup=2)))

    assert [report.latency.count for report in found] == [40] * 3
    assert [len(report.session.block_medians_ms) for report in found] == [10] * 3
    assert {report.latency.stop for report in found} == {"count"}
    assert len({report.id for report in found}) == 3


def test_samples_give_every_model_its_accuracy(models: Path, tmp_path: Path) -> None:
    """After the turns, with outputs of their own."""
    x = floats(30, 64)
    np.savez(tmp_path / "d.npz", x=x, y=(x @ KERNEL.T + 1).argmax(axis=1))
    samples = read_samples(str(tmp_path / "d.npz"))
    jobs = [Job(models / "dense.tflite", samples, str(tmp_path / f"o{at}.npz")) for at in range(2)]
    found = reports(session(models, Plan(runs=10, warmup=1), *jobs))

    assert [(report.accuracy.accuracy, report.accuracy.count) for report in found] == [(1.0, 30)] * 2
    assert all(np.load(tmp_path / f"o{at}.npz")["output_0"].shape == (30, 32) for at in range(2))


def test_a_sustained_run_gives_each_model_its_curve(models: Path) -> None:
    """One after the other, 120 slices each."""
    found = reports(session(models, Plan(runs=10, warmup=1, sustained_s=0.6)))

    assert len(found) == 3
    for report in found:
        assert 100 <= len(report.sustained.medians_ms) <= 120
        assert report.sustained.duration_s == pytest.approx(0.6, abs=0.3)
        assert report.sustained.slowdown is not None


@pytest.fixture
def misbehave(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, Callable[[], object]], None]:
    """Let the model called so do something else from its n-th inference on."""

    def install(name: str, calls: int, action: Callable[[], object]) -> None:
        bare_invoke, done = Model.bare_invoke, [0]

        @contextmanager
        def odd_invoke(model: Model) -> Iterator[Callable[[], object]]:
            with bare_invoke(model) as invoke:

                def odd() -> None:
                    done[0] += 1
                    if done[0] > calls and os.path.basename(model.name) == name:
                        action()
                    invoke()

                yield odd

        monkeypatch.setattr(Model, "bare_invoke", odd_invoke)

    return install


@pytest.mark.parametrize("calls", [0, 30])
def test_a_crash_costs_only_its_own_model(
    models: Path, misbehave: Callable[[str, int, Callable[[], object]], None], calls: int
) -> None:
    """At its first inference or in the middle of a round; the last words of the runtime are kept."""

    def abort() -> None:
        os.write(2, b"INFO: chatter\nERROR: the kernel gave up\n")
        os.abort()

    misbehave("conv.tflite", calls, abort)
    first, crashed, last = session(models, Plan(runs=40, warmup=2))

    assert isinstance(crashed, ModelCrashError)
    assert crashed.signal_name == "SIGABRT"
    assert str(crashed) == "the runtime crashed (SIGABRT) on conv.tflite: ERROR: the kernel gave up"
    assert [report.latency.count for report in reports([first, last])] == [40, 40]


def test_a_hang_costs_only_its_own_model(
    models: Path, misbehave: Callable[[str, int, Callable[[], object]], None]
) -> None:
    """When its time is over its process is ended."""
    misbehave("conv.tflite", 30, lambda: time.sleep(60))
    first, hung, last = session(models, Plan(runs=40, warmup=2, deadline_s=4))

    assert isinstance(hung, ModelCrashError)
    assert "conv.tflite did not finish in the time it was given" in str(hung)
    assert "--deadline" in str(hung)
    assert len(reports([first, last])) == 2


@pytest.mark.parametrize(
    ("action", "message", "exit_code"),
    [
        ("raise LookupError('a bug')", "unexpected: 'a bug'|unexpected: a bug", 3),
        ("raise RuntimeError('no such op')", r"failed to run .*conv\.tflite: no such op", 3),
        ("raise FileNotFoundError(2, 'No such file', 'x')", "x: No such file", 3),
    ],
)
def test_what_one_raises_is_its_own_error(
    models: Path,
    misbehave: Callable[[str, int, Callable[[], object]], None],
    action: str,
    message: str,
    exit_code: int,
) -> None:
    """In the words and with the exit code of whatever was raised."""
    misbehave("conv.tflite", 5, lambda: exec(action))
    _, failed, _ = session(models, Plan(runs=20, warmup=1))

    assert isinstance(failed, DeviceRuntimeError)
    with pytest.raises(DeviceRuntimeError, match=message):
        raise failed
    assert failed.exit_code == exit_code


def test_a_file_that_is_no_model_is_one_line(device_cli: Cli, models: Path, tmp_path: Path) -> None:
    """Its error, exit code and name beside the others' reports; the command ends with that code."""
    (tmp_path / "bad.tflite").write_bytes(b"rubbish")
    paths = models / "dense.tflite", tmp_path / "bad.tflite", tmp_path / "absent.tflite"
    done = device_cli("bench", *paths, "--runs", 5, "--json", "--variant=a", "--variant=b", "--variant=c")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    errors = {line["variant"]: line for line in lines if "error" in line}
    text = device_cli("bench", *paths, "--runs", 5)

    assert done.returncode == text.returncode == 2
    assert [line["variant"] for line in lines if "schema" in line] == ["a"]
    assert (errors["b"]["model"], errors["b"]["exit_code"]) == ("bad.tflite", 2)
    assert "expected a .tflite model" in errors["b"]["error"]
    assert "cannot read" in errors["c"]["error"]
    assert "Traceback" not in done.stderr + text.stderr
    assert "dense.tflite: litert" in text.stdout
    assert [name in text.stderr for name in ("bad.tflite", "absent.tflite")] == [True, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "a", "--data", "b", "--data", "c"], "expected --data once for each of 2 model(s), got it 3 times"),
        (["--variant", "a"], "expected --variant once for each"),
        (["--precision", "3"], "a precision (--precision) above 0"),
        (["--budget", "0"], "seconds (--budget) above 0"),
        (["--sustained", "nan"], "seconds (--sustained) from 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(device_cli: Cli, models: Path, options: list[str], message: str) -> None:
    """Before anything is loaded."""
    done = device_cli("bench", models / "dense.tflite", models / "conv.tflite", *options)

    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_models_that_do_not_fit_together_are_measured_in_groups(models: Path) -> None:
    """As many at once as memory allows, one at least, and a note in every report that says so."""
    free = iter([1000.0, 10.0])  # room for a second, none for a third
    found = reports(session(models, Plan(runs=20, warmup=1), free_mb=lambda: next(free)))
    first, second, third = found

    assert first.session.id == second.session.id != third.session.id
    assert [report.session.variants for report in found] == [2, 2, 1]
    assert "memory did not suffice for all models at once: 2 of 3 models measured in this session" in first.notes
    assert any("this model alone" in note for note in third.notes)
    assert len(reports(session(models, Plan(runs=20, warmup=1), free_mb=lambda: None))) == 3


def test_without_fork_each_is_measured_by_itself(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of one; an error is still its own."""
    monkeypatch.setattr(turns, "CAN_FORK", False)
    jobs = Job(models / "dense.tflite"), Job(b"rubbish"), Job((models / "conv.tflite").read_bytes())
    first, failed, last = session(models, Plan(runs=10, warmup=1), *jobs)

    assert isinstance(failed, DeviceRuntimeError)
    assert [report.session.variants for report in reports([first, last])] == [1, 1]


@contextmanager
def running(device_python: Path, models: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A long bench of three models, and the supervised process that measures them, once all are loaded."""
    command = [device_python, "-m", "edgekit_device", "bench", *(models / name for name in NAMES)]
    with subprocess.Popen(
        [*command, "--runs", "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            supervised = children(process.pid)
            if supervised and len(children(supervised[0])) == 3:
                break
            time.sleep(0.05)
        try:
            yield process, supervised[0]
        finally:
            process.kill()


def all_gone(pids: list[str]) -> bool:
    """Whether these processes are over, or are within a few seconds."""
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_of_them(device_python: Path, models: Path, number: int) -> None:
    """Exit 130, no traceback, nobody left."""
    with running(device_python, models) as (process, supervised):
        workers = children(supervised)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=20)

    assert (process.returncode, stdout, stderr) == (130, "", "")
    assert len(workers) == 3
    assert all_gone([supervised, *workers])


def test_workers_do_not_outlive_their_parent(device_python: Path, models: Path) -> None:
    """Killed without a chance to say goodbye, as by the kernel when memory runs out."""
    with running(device_python, models) as (process, supervised):
        workers = children(supervised)
        os.kill(int(supervised), signal.SIGKILL)
        _, stderr = process.communicate(timeout=20)

    assert process.returncode == 3
    assert "SIGKILL" in stderr
    assert all_gone(workers)
