"""Emulated devices, as far as they need no ARM userland: what is refused, what is started, and that no time gets through.

The rest runs in real userlands: tests/arm, by scripts/test-arm.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import BoardFacts, LatencyFacts, ModelFacts
from rich.console import Console

from edgekit.comparison import Limits
from edgekit.devices import BenchRequest, Completed, Device, FakeTransport, open_device
from edgekit.devices.emulated import MARKER, EmulatedTransport, read_userland
from edgekit.devices.local import LocalTransport
from edgekit.errors import DeviceError, UsageError
from edgekit.store import file_sha256

GOOD: dict[str, Any] = {
    "format": 1,
    "arch": "arm64",
    "cpu": "cortex-a72",
    "root": "root",
    "python": "root/usr/bin/python3.11",
    "sites": {"litert": "sites/litert", "tflite": "sites/tflite"},
}
Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """build(**changes): a folder that looks like a userland, its marker changed; a value of None leaves the key out."""

    def make(text: str | None = None, **changes: object) -> Path:
        folder = tmp_path / "userlands" / "arm64"
        for part in ("root/usr/bin", "sites/litert", "sites/tflite"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "root/usr/bin/python3.11").touch()
        marker = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
        (folder / MARKER).write_text(json.dumps(marker) if text is None else text)
        return folder

    return make


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """qemu(code): a program called qemu-aarch64-static on the PATH that runs ``code`` in place of an ARM program."""

    def write(code: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "qemu-aarch64-static"
        program.write_text(f"#!{sys.executable}\n{textwrap.dedent(code)}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return program

    return write


def test_a_userland_is_read_from_its_marker(build: Build) -> None:
    """Paths within the folder, the preferred runtime first."""
    folder = build()
    userland = read_userland(folder)

    assert userland.emulator == "qemu-aarch64"
    assert (userland.root, userland.python) == (folder / "root", folder / "root/usr/bin/python3.11")
    assert list(userland.sites) == ["litert", "tflite"]
    assert read_userland(build(arch="armhf")).emulator == "qemu-arm"


def test_qemu_is_told_the_processor_and_the_root(
    build: Build, qemu: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real transport starts it: arguments in order, ARM packages alone, nothing of this machine's libraries."""
    qemu(
        """
        import json, os, sys
        print(json.dumps([sys.argv[1:], dict(os.environ), os.listdir(os.environ["PYTHONPATH"].split(":")[0])]))
        """
    )
    for name in ("LD_PRELOAD_X", "QEMU_STRACE_X", "PYTHONPATH", "KEPT"):
        monkeypatch.setenv(name, "x")
    folder = build()
    transport = EmulatedTransport(f"{folder}?cpu=max,sme=off", name="pi")
    arguments, environment, package = json.loads(transport.run(["info", "--json"], deadline_s=60).stdout)
    site = environment["PYTHONPATH"].split(":")[1]
    transport.close()

    system = ["-cpu", "max,sme=off", "-L", str(folder / "root"), str(folder / "root/usr/bin/python3.11")]
    assert arguments == [*system, "-m", "edgekit_device", "info", "--json"]
    assert package == ["edgekit_device"]
    assert site == str(folder / "sites/litert")
    assert environment["EDGEKIT_EMULATOR"] == "qemu-aarch64"
    assert environment["EDGEKIT_DEVICE_HOME"] == ""
    assert environment["KEPT"] == "x"
    assert not {"LD_PRELOAD_X", "QEMU_STRACE_X"} & set(environment)
    assert transport.name == "pi"
    assert not transport.folder.exists()


@pytest.mark.parametrize(
    ("query", "asked", "site"),
    [
        ("", [], "litert"),
        ("?runtime=tflite", [], "tflite"),
        ("?runtime=tflite", ["--runtime", "auto"], "tflite"),
        ("?runtime=tflite", ["--runtime", "litert"], "litert"),
        ("", ["--runtime=tflite"], "tflite"),
        ("", ["--runtime", "tf"], "litert"),  # the device says that it is not installed
        ("", ["--runtime"], "litert"),  # the device says what is missing
    ],
)
def test_the_runtime_asked_for_chooses_the_packages(
    query: str, asked: list[str], site: str, build: Build, qemu: Callable[[str], Path]
) -> None:
    """LiteRT and tflite-runtime want different versions of numpy."""
    qemu("")
    transport = EmulatedTransport(f"{build()}{query}")
    environment = transport.environment(["bench", "m.tflite", *asked])
    transport.close()

    assert environment["PYTHONPATH"].endswith(f"sites/{site}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": ""}, r"cannot read .*edgekit-userland\.json"),
        ({"text": "[" * 100_000}, "cannot read"),
        ({"text": "[]"}, "made by another edgekit"),
        ({"format": 2}, "made by another edgekit .expected format 1"),
        ({"arch": "riscv64"}, "is damaged"),
        ({"arch": None}, "is damaged"),
        ({"cpu": 7}, "is damaged"),
        ({"sites": {}}, "is damaged"),
        ({"sites": ["litert"]}, "is damaged"),
        ({"sites": {"litert": "sites/none"}}, "is damaged"),
        ({"sites": {"litert": "../../elsewhere"}}, "is damaged"),
        ({"python": "/usr/bin/python3"}, "is damaged"),
        ({"root": ""}, "is damaged"),
    ],
)
def test_a_marker_that_cannot_be_is_refused(changes: dict[str, Any], message: str, build: Build) -> None:
    """Damaged, of another version, or pointing out of its folder: build it again."""
    with pytest.raises(UsageError, match=f"{message}.*scripts/arm-userland"):
        read_userland(build(**changes))


def test_a_folder_that_is_no_userland_says_what_to_type(build: Build, tmp_path: Path) -> None:
    """Absent, foreign, or the folder above."""
    folder = build()
    with pytest.raises(UsageError, match=r"is not there\. Build one: scripts/arm-userland arm64"):
        read_userland(tmp_path / "none")
    with pytest.raises(UsageError, match=r"is no userland of edgekit's\. Build one"):
        read_userland(tmp_path)
    with pytest.raises(UsageError, match="is none itself: expected one of arm64 in it"):
        read_userland(folder.parent)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?runtme=tflite", "unknown option 'runtme' .* did you mean 'runtime'"),
        ("?runtime=tf", "has no runtime 'tf'.*litert, tflite"),
        ("?runtime=", "has no runtime ''"),
        ("?cpu=-version", "expected a processor of qemu's"),
        ("?cpu=", "expected a processor of qemu's"),
    ],
)
def test_an_option_it_does_not_have_is_refused(query: str, message: str, build: Build) -> None:
    """Before anything is started."""
    with pytest.raises(UsageError, match=message):
        EmulatedTransport(f"{build()}{query}")


def test_a_machine_without_qemu_is_told_the_package(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line to type; and a qemu that cannot be started is one message as well."""
    folder = build()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(DeviceError, match=r"no qemu-aarch64 .*sudo apt-get install qemu-user-static"):
        open_device(f"emulated://{folder}")
    program = tmp_path / "empty" / "qemu-aarch64"
    program.write_bytes(b"\x7fELF rubbish")
    program.chmod(0o755)
    with open_device(f"emulated://{folder}") as device, pytest.raises(DeviceError, match=r"cannot start .*qemu-user"):
        device.transport.run([], deadline_s=1)


def timed(model: Path, **board: str) -> BenchmarkReport:
    """A report with a latency."""
    facts = ModelFacts(file_sha256(model), 1, "m")
    return BenchmarkReport(model=facts, latency=LatencyFacts(9, median_ms=1.0), board=BoardFacts(**board))


def test_times_of_an_emulated_device_end_at_the_host(
    build: Build, qemu: Callable[[str], Path], float_model: Path
) -> None:
    """Even when the device package there is an old one that tells them."""
    report = timed(float_model)
    qemu(f"print({report.to_json()!r})")
    with open_device(f"emulated://{build()}") as device:
        got = device.bench(float_model, BenchRequest())

    assert got.latency == LatencyFacts()
    assert got.board.emulator == "qemu-aarch64"
    assert got.model == report.model


def test_a_board_that_says_it_is_emulated_has_no_latency_either(float_model: Path) -> None:
    """Through any transport: somebody runs edgekit-device in an emulated chroot and reaches it by SSH."""
    report = timed(float_model, emulator="qemu-arm")
    with Device(FakeTransport(lambda *_: Completed(0, report.to_json()))) as device:
        got = device.bench(float_model, BenchRequest())

    assert got.latency == LatencyFacts()
    assert got.notes == ("emulated by qemu-arm: no latency, for an emulator's times say nothing of a board's",)


def test_a_local_device_keeps_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is no board, whatever lies in the user's home."""
    monkeypatch.setenv("EDGEKIT_DEVICE_HOME", "/somewhere")
    transport = LocalTransport(sys.executable)
    environment = transport.environment([])
    transport.close()

    assert environment["EDGEKIT_DEVICE_HOME"] == ""
    assert "PYTHONPATH" not in environment
    assert set(environment) <= {*os.environ, "EDGEKIT_DEVICE_HOME"}


def test_a_comparison_says_emulated_in_place_of_a_latency(run_folder: Path) -> None:
    """Every variant's accuracy and size, one sentence for the missing latency, in every form of the report."""
    from edgekit import compare
    from edgekit.render import render_html, render_markdown, render_text
    from edgekit.store import RunStore

    store = RunStore.open(run_folder)
    for variant in store.variants():
        report = timed(store.variant_path(variant.name), emulator="qemu-arm")
        store.save_report(variant.name, dataclasses.replace(report, latency=LatencyFacts()))
    comparison = compare(run_folder, limits=Limits())

    assert all(item.median_ms is None for item in comparison.variants)
    shown = StringIO()
    render_text(comparison, Console(file=shown, width=200))
    for text in (shown.getvalue(), render_markdown(comparison), render_html(comparison)):
        assert "emulated by qemu-arm: no latency" in text


def test_slimming_to_a_latency_needs_a_real_board(
    monkeypatch: pytest.MonkeyPatch, float_model: Path, tmp_path: Path
) -> None:
    """There is no latency to look for: say so, and what to do instead."""
    from types import SimpleNamespace

    from edgekit import conversion

    report = timed(float_model, emulator="qemu-arm")
    fake = Device(FakeTransport(lambda *_: Completed(0, report.to_json())))
    monkeypatch.setattr(conversion, "open_device", lambda _: fake)
    (tmp_path / "timed.tflite").write_bytes(float_model.read_bytes())
    job = SimpleNamespace(scratch=tmp_path, _quantized=lambda *_: None, request=SimpleNamespace(device="pi", threads=1))
    with pytest.raises(UsageError, match=r"fake is emulated by qemu-arm and has no latency to slim to: .*--device"):
        conversion.ConversionJob._median_ms(job, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["arm65"], "expected arm64, armhf or all, and --folder DIR, got arm65"),
        (["--folder"], "--folder needs the folder"),
        (["arm64", "--folder", "/proc/none"], "cannot make the folder /proc/none"),
        (["arm64", "--folder", "TMP"], "is there and no userland of edgekit's: name another --folder"),
    ],
)
def test_the_script_refuses_what_it_cannot_do(arguments: list[str], message: str, root: Path, tmp_path: Path) -> None:
    """Exit 2, nothing downloaded, and somebody else's folder is left alone."""
    (tmp_path / "arm64").mkdir()
    (tmp_path / "arm64" / "mine").touch()
    command = [str(tmp_path) if argument == "TMP" else argument for argument in arguments]
    done = subprocess.run(
        [root / "scripts" / "arm-userland", *command], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 2
    assert message in done.stderr
    assert (tmp_path / "arm64" / "mine").exists()
