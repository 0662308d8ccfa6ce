"""Edge TPUs in made-up trees of /sys, /dev, /proc and /etc: none is at hand, so every branch has a tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from edgekit_device.accelerators.diagnosis import diagnose_edgetpu, explain
from edgekit_device.accelerators.edgetpu import edgetpu_conditions, find_edgetpus
from edgekit_device.accelerators.finding import Finding
from edgekit_device.accelerators.library import find_library
from edgekit_device.accelerators.nodes import User
from edgekit_device.cli import main

from tests.device.stub_delegate import compile_stub, compiled_model
from tests.tflite_builder import conv_model

OWNER = User(os.getuid(), frozenset({os.getgid()}))
STRANGER = User(12345, frozenset({12345}))
USB3, USB2 = "5000", "480"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that loads and tells a version."""
    return compile_stub(tmp_path_factory.mktemp("library"))


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def _usb(root: Path, *, product: str = "18d1:9302", speed: str = USB3, port: str = "2-1", device: int = 4) -> Path:
    """An Edge TPU on USB with its device file; returns that file."""
    vendor, product = product.split(":")
    folder = f"sys/bus/usb/devices/{port}"
    facts = {"idVendor": vendor, "idProduct": product, "speed": speed, "busnum": "2", "devnum": str(device)}
    _write(root, {f"{folder}/{name}": text for name, text in facts.items()})
    node = f"dev/bus/usb/002/{device:03d}"
    _write(root, {node: ""})
    return root / node


def _pci(root: Path, temperature: str = "45800", *, index: int = 0, trips: tuple[str, ...] = ()) -> Path:
    """An Edge TPU on PCIe with its device file; returns that file."""
    folder = f"sys/class/apex/apex_{index}"
    _write(root, {f"{folder}/temp": temperature, f"dev/apex_{index}": ""})
    _write(root, {f"{folder}/trip_point{number}_temp": text for number, text in enumerate(trips)})
    return root / f"dev/apex_{index}"


def _codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


# -- what is there --------------------------------------------------------------------------------------------------


def test_a_machine_without_any(tmp_path: Path) -> None:
    """No tree at all, and a tree of other devices."""
    assert find_edgetpus(tmp_path) == ()

    _write(tmp_path, {"sys/bus/usb/devices/usb1/idVendor": "1d6b", "sys/bus/usb/devices/usb1/idProduct": "0002"})

    assert find_edgetpus(tmp_path) == ()
    assert edgetpu_conditions(tmp_path).notes == ()


@pytest.mark.parametrize("product", ["1a6e:089a", "18d1:9302"])
def test_on_usb_under_both_ids(product: str, tmp_path: Path) -> None:
    """Before its first use it is one device, afterwards another; it has no temperature to tell."""
    _usb(tmp_path, product=product)
    (tpu,) = find_edgetpus(tmp_path)

    assert (tpu.kind, tpu.index, tpu.node, tpu.usb_id) == ("usb", 0, "/dev/bus/usb/002/004", product)
    assert (tpu.speed_mbps, tpu.temperature_c, tpu.throttling) == (5000.0, None, "")
    assert edgetpu_conditions(tmp_path).temperature_c is None
    assert edgetpu_conditions(tmp_path).notes == ("Edge TPU usb:0 at 5000 Mbit/s",)


def test_several_are_counted_by_kind(tmp_path: Path) -> None:
    """PCIe first, each kind from 0, in the kernel's order: 10 after 9."""
    for index in (10, 9):
        _pci(tmp_path, index=index)
    _usb(tmp_path, port="1-2", device=5)
    _usb(tmp_path, port="1-1", device=6)

    found = [(tpu.kind, tpu.index, tpu.name) for tpu in find_edgetpus(tmp_path)]

    assert found == [("pci", 0, "apex_9"), ("pci", 1, "apex_10"), ("usb", 0, "1-1"), ("usb", 1, "1-2")]


@pytest.mark.parametrize(
    ("temperature", "clock", "throttling"),
    [
        ("84999", 500.0, "none"),
        ("85000", 250.0, "clock at most 250 MHz"),
        ("90000", 125.0, "clock at most 125 MHz"),
        ("101000", 62.5, "clock at most 62.5 MHz"),
    ],
)
def test_heat_lowers_the_clock_at_trip_points(temperature: str, clock: float, throttling: str, tmp_path: Path) -> None:
    """Temperature is in thousandths; each of the three trip points halves the clock."""
    _pci(tmp_path, temperature, trips=("85000", "90000", "95000"))
    (tpu,) = find_edgetpus(tmp_path)
    conditions = edgetpu_conditions(tmp_path)

    assert (tpu.trip_points_c, tpu.clock_mhz, tpu.throttling) == ((85.0, 90.0, 95.0), clock, throttling)
    assert (conditions.temperature_c, conditions.throttling) == (int(temperature) / 1000, throttling)


def test_trip_points_are_the_modules_where_the_device_has_none(tmp_path: Path) -> None:
    """Older drivers show them as parameters of the module."""
    _pci(tmp_path, "86000")
    names = (f"sys/module/apex/parameters/trip_point{number}_temp" for number in range(3))
    _write(tmp_path, dict(zip(names, ("85000", "90000", "95000"), strict=True)))

    assert find_edgetpus(tmp_path)[0].clock_mhz == 250.0


def test_without_trip_points_no_clock_is_claimed(tmp_path: Path) -> None:
    """Numbers are measured or absent."""
    _pci(tmp_path, "86000")

    assert find_edgetpus(tmp_path)[0].clock_mhz is None
    assert edgetpu_conditions(tmp_path).throttling == ""


@pytest.mark.parametrize("temperature", ["-89700", "-88550", "-87900"])
def test_a_dead_device_is_named_as_such(temperature: str, tmp_path: Path) -> None:
    """What a chip reads that no longer answers is no temperature."""
    _pci(tmp_path, temperature, trips=("85000", "90000", "95000"))

    assert find_edgetpus(tmp_path)[0].dead
    assert edgetpu_conditions(tmp_path).temperature_c is None
    assert "no longer answers" in edgetpu_conditions(tmp_path).notes[0]


@pytest.mark.parametrize("text", ["", "warm", "nan", "inf", "-20000"])
def test_what_is_no_temperature_is_absent_and_cold_is_not_dead(text: str, tmp_path: Path) -> None:
    """Twenty degrees below zero is a board outdoors."""
    _pci(tmp_path, text)
    (tpu,) = find_edgetpus(tmp_path)

    assert not tpu.dead
    assert tpu.temperature_c == (-20.0 if text == "-20000" else None)


# -- the library ----------------------------------------------------------------------------------------------------


def test_the_library_tells_its_version_and_package(tmp_path: Path, library: Path) -> None:
    """Found where Debian puts it; dpkg knows which build it is."""
    place = tmp_path / "usr/lib/aarch64-linux-gnu/libedgetpu.so.1"
    place.parent.mkdir(parents=True)
    place.write_bytes(library.read_bytes())
    stanza = "Package: libedgetpu1-std\nStatus: install ok installed\nVersion: 16.0tf2.19.1-1.bookworm"
    _write(tmp_path, {"var/lib/dpkg/status": f"Package: libc6\nStatus: install ok installed\n\n{stanza}\n"})
    found = find_library(tmp_path)

    assert found.path == str(place)
    assert found.version == "BuildLabel(stub), RuntimeVersion(14)"
    assert found.package == "libedgetpu1-std 16.0tf2.19.1-1.bookworm"
    assert found.error == ""


def test_a_library_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    """A file of another architecture, and a library that is no delegate; asked in a process of their own."""
    _write(tmp_path, {"libedgetpu.so.1": "no library"})

    assert "libedgetpu.so.1" in find_library(tmp_path, str(tmp_path / "libedgetpu.so.1")).error
    assert "no TFLite delegate" in find_library(tmp_path, str(compile_stub(tmp_path, symbols=False))).error
    assert find_library(tmp_path).path == ""


# -- what stands in the way -------------------------------------------------------------------------------------------


def test_a_device_that_can_be_used_has_no_findings(tmp_path: Path, library: Path) -> None:
    """USB 3, permitted, held by nobody."""
    _usb(tmp_path)

    assert diagnose_edgetpu(tmp_path, library=str(library), user=OWNER) == []


def test_nothing_there_says_how_to_get_it(tmp_path: Path) -> None:
    """Library and device are missing: two errors, each with something to type."""
    findings = diagnose_edgetpu(tmp_path)

    assert _codes(findings) == ["library-missing", "no-device"]
    assert "sudo apt-get install libedgetpu1-std" in findings[0].advice
    assert "lsusb" in findings[1].advice


def test_a_card_without_its_driver_is_not_an_absent_card(tmp_path: Path, library: Path) -> None:
    """The PCIe bus shows it under 1ac1:089a; the kernel has no apex device."""
    _write(
        tmp_path, {f"sys/bus/pci/devices/0000:01:00.0/{n}": v for n, v in (("vendor", "0x1ac1"), ("device", "0x089a"))}
    )
    (finding,) = diagnose_edgetpu(tmp_path, library=str(library))

    assert finding.code == "driver-missing"
    assert "gasket-dkms" in finding.advice


def test_a_broken_library_is_told_apart_from_a_missing_one(tmp_path: Path) -> None:
    """It is there; it cannot be loaded."""
    _usb(tmp_path)
    broken = tmp_path / "broken.so"
    broken.write_text("no library")

    assert _codes(diagnose_edgetpu(tmp_path, library=str(broken), user=OWNER)) == ["library-broken"]


@pytest.mark.parametrize("make", [_usb, _pci], ids=["usb", "pci"])
def test_a_device_file_that_is_not_there(make: Callable[[Path], Path], tmp_path: Path, library: Path) -> None:
    """The kernel sees the device and the container does not."""
    make(tmp_path).unlink()
    (finding,) = diagnose_edgetpu(tmp_path, library=str(library), user=OWNER)

    assert finding.code == "node-missing"
    assert "--device /dev/" in finding.advice


@pytest.mark.parametrize(
    ("make", "group", "rules"),
    [
        (_usb, "plugdev", 'ATTRS{idVendor}=="1a6e"\nATTRS{idVendor}=="18d1"'),
        (_pci, "apex", 'SUBSYSTEM=="apex", GROUP="apex"'),
    ],
    ids=["usb", "pci"],
)
def test_permissions_name_the_group_and_the_rule(
    make: Callable[[Path], Path], group: str, rules: str, tmp_path: Path, library: Path
) -> None:
    """A stranger may not open it; without a udev rule no group could either. Everybody may once the mode says so."""
    node = make(tmp_path)
    node.chmod(0o660)

    def findings(user: User) -> list[Finding]:
        return diagnose_edgetpu(tmp_path, library=str(library), user=user)

    assert _codes(findings(STRANGER)) == ["permission", "udev-rule-missing"]
    assert f"sudo usermod -aG {group} $USER" in findings(STRANGER)[0].advice
    assert "-rw-rw----" in findings(STRANGER)[0].found
    assert _codes(findings(User(12345, frozenset({node.stat().st_gid})))) == []
    assert _codes(findings(User(0, frozenset()))) == []

    _write(tmp_path, {"etc/udev/rules.d/60-edgetpu.rules": rules})

    assert _codes(findings(STRANGER)) == ["permission"]

    node.chmod(0o666)

    assert findings(STRANGER) == []


def test_a_rule_for_one_id_alone_is_not_enough(tmp_path: Path, library: Path) -> None:
    """The device changes its id at the first use, and the rule must know both."""
    _usb(tmp_path).chmod(0o600)
    _write(tmp_path, {"lib/udev/rules.d/60-edgetpu.rules": 'ATTRS{idVendor}=="1a6e"'})

    assert "udev-rule-missing" in _codes(diagnose_edgetpu(tmp_path, library=str(library), user=STRANGER))


def test_who_holds_it_is_named(tmp_path: Path, library: Path) -> None:
    """Found by the open files of every process; our own use is none of it."""
    _pci(tmp_path)
    for pid, command in ((4711, "frigate"), (os.getpid(), "ourselves")):
        _write(tmp_path, {f"proc/{pid}/comm": command})
        (tmp_path / f"proc/{pid}/fd").mkdir()
        (tmp_path / f"proc/{pid}/fd/7").symlink_to("/dev/apex_0")
    (tmp_path / "proc/4711/fd/3").symlink_to("socket:[1]")
    (finding,) = diagnose_edgetpu(tmp_path, library=str(library), user=OWNER)

    assert finding.code == "busy"
    assert "process 4711 (frigate)" in finding.found


def test_usb_2_is_a_warning(tmp_path: Path, library: Path) -> None:
    """It works, and slower."""
    _usb(tmp_path, speed=USB2)
    (finding,) = diagnose_edgetpu(tmp_path, library=str(library), user=OWNER)

    assert (finding.code, finding.severity) == ("usb2", "warning")
    assert "480 Mbit/s" in finding.found
    assert "no USB 3" in edgetpu_conditions(tmp_path).notes[0]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({".dockerenv": ""}, ["one-id"]),
        ({"run/.containerenv": ""}, ["one-id"]),
        ({"proc/cpuinfo": "flags : fpu hypervisor lahf"}, ["one-id"]),
        ({"proc/cpuinfo": "flags : fpu"}, []),
        ({}, []),
    ],
    ids=["docker", "podman", "virtual machine", "real machine", "no proc"],
)
def test_an_unused_device_in_a_guest_will_change_its_id(
    files: dict[str, str], expected: list[str], tmp_path: Path, library: Path
) -> None:
    """Passing one id through is not enough there; on a real machine it is nothing to speak of."""
    _usb(tmp_path, product="1a6e:089a")
    _write(tmp_path, files)

    assert _codes(diagnose_edgetpu(tmp_path, library=str(library), user=OWNER)) == expected


def test_a_used_device_in_a_guest_is_fine(tmp_path: Path, library: Path) -> None:
    """It has changed its id already."""
    _usb(tmp_path)
    _write(tmp_path, {".dockerenv": ""})

    assert diagnose_edgetpu(tmp_path, library=str(library), user=OWNER) == []


@pytest.mark.parametrize(
    ("temperature", "expected"), [("-88000", ["dead-device"]), ("91000", ["throttled"]), ("50000", [])]
)
def test_heat_and_death_are_findings(temperature: str, expected: list[str], tmp_path: Path, library: Path) -> None:
    """A dead device is an error, a hot one a warning."""
    _pci(tmp_path, temperature, trips=("85000", "90000", "95000"))

    assert _codes(diagnose_edgetpu(tmp_path, library=str(library), user=OWNER)) == expected


@pytest.mark.parametrize(
    ("version", "runtimes", "warned"),
    [
        ("16.0", {"litert": "2.3.0"}, True),
        ("16.0", {"tflite": "2.14.0"}, True),
        ("16.0", {"tflite": "2.5.0"}, False),
        ("16.0tf2.17.1-1", {"tflite": "2.17.1"}, False),
        ("16.0tf2.19.1-1.bookworm", {"litert": "1.2.0"}, False),
        ("16.0TF2.19.1-1", {"litert": "2.3.0", "tflite": "2.14.0"}, True),
        ("16.0tf2.19.1-1", {}, False),
    ],
)
def test_a_pair_that_does_not_belong_together_is_a_warning(
    version: str, runtimes: dict[str, str], warned: bool, tmp_path: Path, library: Path
) -> None:
    """Stock 16.0 is built for TensorFlow 2.5 and crashes under newer runtimes; other builds name theirs."""
    _usb(tmp_path)
    stanza = f"Package: libedgetpu1-std\nStatus: install ok installed\nVersion: {version}"
    _write(tmp_path, {"var/lib/dpkg/status": stanza})
    findings = diagnose_edgetpu(tmp_path, library=str(library), runtimes=runtimes, user=OWNER)

    assert _codes(findings) == (["version-pair"] if warned else [])
    assert all(finding.severity == "warning" for finding in findings)


def test_errors_come_before_warnings(tmp_path: Path, library: Path) -> None:
    """What cannot work is said first."""
    _usb(tmp_path, speed=USB2).chmod(0o600)
    severities = [f.severity for f in diagnose_edgetpu(tmp_path, library=str(library), user=STRANGER)]

    assert severities == ["error", "error", "warning"]


# -- others' words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "advice"),
    [
        (
            "Package requires runtime version (14), which is newer than this runtime version (13).",
            "runtime-too-old",
            "edgetpu_compiler --min_runtime_version 13",
        ),
        ("Encountered unresolved custom op: edgetpu-custom-op.", "not-delegated", "edgekit-device accelerators"),
        ("Didn't find custom op for name 'edgetpu-custom-op' with version 1", "not-delegated", "accelerators"),
        ("Internal: Unsupported data type in custom op handler: 1852731235", "abi-mismatch", "docs/coral.md"),
    ],
)
def test_runtimes_words_are_explained(words: str, code: str, advice: str) -> None:
    """Each saying of the field reports, and what to do about it."""
    finding = explain(words)

    assert finding is not None
    assert finding.code == code
    assert advice in finding.advice


def test_words_about_something_else_are_not() -> None:
    """Nothing is made up."""
    assert explain("Encountered unresolved custom op: Atan.") is None


# -- the command ------------------------------------------------------------------------------------------------------


def _command(*options: str) -> str:
    """What ``edgekit-device accelerators`` prints, in a process of its own: it loads LiteRT and forks, which a process with the
    threads of every other test is no place for."""
    command = [sys.executable, "-m", "edgekit_device", "accelerators", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_the_command_prints_findings_as_json() -> None:
    """This machine has no Edge TPU, and says what to do."""
    told = json.loads(_command("--json"))

    assert told["edgetpus"] == []
    assert {"library-missing", "no-device"} <= {finding["code"] for finding in told["findings"]}
    assert all(finding[part] for finding in told["findings"] for part in ("found", "expected", "advice"))


def test_the_command_prints_text() -> None:
    """One finding, three lines."""
    told = _command()

    assert "libedgetpu     not found" in told
    assert "error: no Edge TPU is there" in told


def test_the_command_lists_devices(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the names that --delegate takes, with what each tells of itself."""
    from edgekit_device.accelerators import edgetpu, litert

    _pci(tmp_path, "86000", trips=("85000", "90000", "95000"))
    _usb(tmp_path)
    found = find_edgetpus(tmp_path)
    monkeypatch.setattr(edgetpu, "find_edgetpus", lambda: found)
    monkeypatch.setattr(litert, "find_accelerators", lambda _runtime: ())  # those are another test's

    assert main(["accelerators"]) == 0
    lines = capfd.readouterr().out.splitlines()

    assert lines[0] == "edgetpu:pci:0  /dev/apex_0  86.0 °C  at most 250 MHz"
    assert lines[1] == "edgetpu:usb:0  /dev/bus/usb/002/004  18d1:9302  5000 Mbit/s"


def test_a_report_of_an_edge_tpu_says_how_it_was(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its temperature and what that does to its clock are in the notes, right after the last timed run; others' are not."""
    from edgekit_device import measure
    from edgekit_device.accelerators import edgetpu

    _pci(tmp_path, "86000", trips=("85000", "90000", "95000"))
    found = find_edgetpus(tmp_path)
    monkeypatch.setattr(edgetpu, "find_edgetpus", lambda _root: found)
    monkeypatch.setenv("EDGEKIT_EDGETPU_LIBRARY", str(library))
    expected = "Edge TPU pci:0 at 86.0 °C, throttling: clock at most 250 MHz"

    assert expected in measure(compiled_model(), runtime="litert", runs=5, warmup=1).notes
    assert expected not in measure(conv_model(), runtime="litert", runs=5, warmup=1).notes
