"""Why an Edge TPU cannot be used: what the runtimes leave at "Failed to load delegate from libedgetpu.so.1".

Causes and cures come from the issues of google-coral, frigate and TensorFlow; docs/coral.md lists them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

from .compiled import edgetpu_library
from .edgetpu import DFU_ID, USB3_MBPS, EdgeTpu, Root, find_edgetpus, read_text
from .finding import ERROR, WARNING, Finding
from .library import EdgeTpuLibrary, find_library
from .nodes import User, holders, may_open, who_am_i

__all__ = ["diagnose_edgetpu", "explain"]

GROUPS = {"usb": "plugdev", "pci": "apex"}  # as the Debian packages of libedgetpu and gasket-dkms set them
RULE_FOLDERS = ("etc/udev/rules.d", "lib/udev/rules.d", "usr/lib/udev/rules.d", "run/udev/rules.d")
INSTALL = (
    "Type: sudo apt-get install libedgetpu1-std (Coral's apt repository; above Python 3.9 the build for your runtime, "
    "docs/coral.md)"
)


def diagnose_edgetpu(
    root: Root = "/",
    *,
    library: Optional[str] = None,
    runtimes: Optional[Mapping[str, str]] = None,
    user: Optional[User] = None,
) -> list[Finding]:
    """Everything that stands in the way of an Edge TPU on the machine at ``root``, errors first; empty when nothing does.

    ``library`` is a file to look at instead of libedgetpu's usual places, ``runtimes`` the installed TFLite runtimes and
    their versions, and ``user`` who would open the device (this process). Nothing is changed and no device is opened.
    """
    base = Path(root)
    found = find_edgetpus(base)
    findings = list(_library(find_library(base, library), library, runtimes or {}))
    findings += _nothing_there(base) if not found else []
    for tpu in found:
        findings += _device(base, tpu, user or who_am_i())
    return sorted(findings, key=lambda finding: finding.severity != ERROR)


def explain(message: str) -> Optional[Finding]:
    """What a runtime's or libedgetpu's own words mean; None for words not known to be about an Edge TPU."""
    versions = re.search(r"requires runtime version \((\d+)\).*runtime version \((\d+)\)", message)
    if versions:
        needs, has = versions.groups()
        return Finding(
            "runtime-too-old",
            ERROR,
            f"the model was compiled for Edge TPU runtime {needs}, and the library has {has}",
            f"a model for runtime {has} or older",
            f"Compile it with: edgetpu_compiler --min_runtime_version {has} M.tflite, or install a newer libedgetpu",
        )
    for pattern, finding in SAYINGS:
        if re.search(pattern, message):
            return finding
    return None


# The first that fits: a delegate that fails leaves its operator unresolved, which is said after the reason.
SAYINGS = (
    (
        r"Unsupported data type in custom op handler",
        Finding(
            "abi-mismatch",
            ERROR,
            "libedgetpu was built for another TensorFlow Lite than the runtime that loaded it",
            "a pair that was built from the same version",
            "Install a libedgetpu built for your runtime's TensorFlow version: docs/coral.md names pairs",
        ),
    ),
    (
        r"(unresolved custom op|custom op for name).*edgetpu-custom-op",
        Finding(
            "not-delegated",
            ERROR,
            "the model is compiled for an Edge TPU and is run without one",
            "an Edge TPU and libedgetpu",
            "Type: edgekit-device accelerators, or run the model it was compiled from (without _edgetpu in its name)",
        ),
    ),
)


def _library(found: EdgeTpuLibrary, named: Optional[str], runtimes: Mapping[str, str]) -> Iterator[Finding]:
    wanted = named or edgetpu_library()
    if not found.path:
        yield Finding(
            "library-missing", ERROR, f"{wanted} is not there", "libedgetpu, which drives the Edge TPU", INSTALL
        )
    elif found.error:
        yield Finding(
            "library-broken",
            ERROR,
            f"{found.path} cannot be loaded: {found.error}",
            "a libedgetpu for this machine's architecture and C library",
            "Install the build for this system, and libusb: sudo apt-get install libusb-1.0-0",
        )
    else:
        yield from _pair(found, runtimes)


def _pair(found: EdgeTpuLibrary, runtimes: Mapping[str, str]) -> Iterator[Finding]:
    """Whether library and runtimes were built from one TensorFlow Lite: pairs that were not are known to crash."""
    if not found.package or not runtimes:
        return
    built = re.search(r"tf(\d+\.\d+)", found.package.lower())
    build = built.group(1) if built else "2.5"  # the stock 16.0 names none
    installed = ", ".join(f"{name} {version}" for name, version in runtimes.items())
    fitting = {"2.17": r"(2\.17|1\.0)\b", "2.19": r"(2\.19|1\.2)\b"}.get(build, re.escape(build) + r"\b")
    if not any(re.match(fitting, version) for version in runtimes.values()):
        yield Finding(
            "version-pair",
            WARNING,
            f"{found.package} is built for TensorFlow {build}, and the runtimes here are {installed}",
            "library and runtime of one version: other pairs are known to crash when the model is loaded",
            "edgekit tries the pair in a process of its own first. If it crashes there, install a pair that docs/coral.md names",
        )


def _nothing_there(base: Path) -> list[Finding]:
    cards = [
        entry.name
        for entry in sorted((base / "sys/bus/pci/devices").glob("*"))
        if (read_text(entry / "vendor"), read_text(entry / "device")) == ("0x1ac1", "0x089a")
    ]
    if cards:
        return [
            Finding(
                "driver-missing",
                ERROR,
                f"an Edge TPU is on PCIe ({cards[0]}), and the kernel shows no /dev/apex_0",
                "the drivers gasket and apex, loaded",
                "Type: sudo apt-get install gasket-dkms && sudo modprobe apex; then look at: dmesg | grep apex",
            )
        ]
    return [
        Finding(
            "no-device",
            ERROR,
            "no Edge TPU is there: none on USB under 1a6e:089a or 18d1:9302, none as /sys/class/apex",
            "one that the kernel sees",
            "Plug it in, at a port that gives it power; pass it through to a container or a virtual machine. Look: lsusb, lspci",
        )
    ]


def _device(base: Path, tpu: EdgeTpu, user: User) -> Iterator[Finding]:
    name = f"{tpu.kind}:{tpu.index}"
    node = base / tpu.node.lstrip("/")
    if not tpu.node or not node.exists():
        yield _node_missing(tpu, name)
    else:
        if not may_open(node, user):
            yield from _permission(base, tpu, name, node, user)
        yield from _busy(base, tpu, name)
    if tpu.kind == "usb":
        yield from _usb(base, tpu, name)
    elif tpu.dead:
        yield Finding(
            "dead-device",
            ERROR,
            f"{name} reads {tpu.temperature_c:g} °C, which is what a chip reads that no longer answers",
            "a temperature above that of the room",
            "Switch the board off and on again (a reboot may not be enough); check seating, supply and cooling",
        )
    elif tpu.throttling not in ("", "none"):
        yield Finding(
            "throttled",
            WARNING,
            f"{name} is at {tpu.temperature_c:.1f} °C: {tpu.throttling}",
            f"less than {tpu.trip_points_c[0]:g} °C, and 500 MHz",
            "Cool it, or ask for less: --delegate 'edgetpu:pci:0;performance=Medium'",
        )


def _node_missing(tpu: EdgeTpu, name: str) -> Finding:
    share = "/dev/bus/usb" if tpu.kind == "usb" else tpu.node
    return Finding(
        "node-missing",
        ERROR,
        f"the kernel sees {name}, and {tpu.node or 'its device file'} is not there",
        "the device file it is opened by",
        f"In a container: start it with --device {share}. Elsewhere: sudo udevadm trigger, or plug it in again",
    )


def _permission(base: Path, tpu: EdgeTpu, name: str, node: Path, user: User) -> Iterator[Finding]:
    mode = node.stat()
    group = GROUPS[tpu.kind]
    yield Finding(
        "permission",
        ERROR,
        f"{tpu.node} is {stat.filemode(mode.st_mode)} of user {mode.st_uid} and group {mode.st_gid}, and this is user "
        f"{user.uid} of groups {', '.join(map(str, sorted(user.groups)))}",
        f"read and write, which group {group} gives",
        f"Type: sudo usermod -aG {group} $USER, and log in again",
    )
    if not _has_rule(base, tpu.kind):
        rule = (
            'SUBSYSTEM=="usb", ATTRS{idVendor}=="1a6e", GROUP="plugdev" and the same for idVendor 18d1'
            if tpu.kind == "usb"
            else 'SUBSYSTEM=="apex", MODE="0660", GROUP="apex"'
        )
        yield Finding(
            "udev-rule-missing",
            ERROR,
            f"no udev rule gives {name} to a group",
            f"{rule}, as the Debian package brings",
            "Write it to /etc/udev/rules.d/60-edgetpu.rules, then: sudo udevadm control --reload-rules && sudo udevadm trigger",
        )


def _has_rule(base: Path, kind: str) -> bool:
    wanted = ("1a6e", "18d1") if kind == "usb" else ("apex",)
    texts = []
    for folder in RULE_FOLDERS:
        for path in sorted((base / folder).glob("*.rules")):
            try:
                texts.append(path.read_text("utf-8", "replace"))
            except OSError:
                continue
    return all(any(word in text for text in texts) for word in wanted)


def _busy(base: Path, tpu: EdgeTpu, name: str) -> Iterator[Finding]:
    for pid, command in holders(base, tpu.node):
        if pid != os.getpid():
            yield Finding(
                "busy",
                ERROR,
                f"{name} is open in process {pid} ({command})",
                "an Edge TPU that no other process holds",
                f"End that program (kill {pid}), or name another Edge TPU where there is one: --delegate edgetpu:{tpu.kind}:N",
            )


def _usb(base: Path, tpu: EdgeTpu, name: str) -> Iterator[Finding]:
    if tpu.speed_mbps is not None and tpu.speed_mbps < USB3_MBPS:
        yield Finding(
            "usb2",
            WARNING,
            f"{name} is connected at {tpu.speed_mbps:g} Mbit/s",
            "5000 Mbit/s (USB 3)",
            "Use a USB 3 port and the cable that came with it: inference is two to seven times slower over USB 2",
        )
    if tpu.usb_id == DFU_ID and _is_guest(base):
        yield Finding(
            "one-id",
            WARNING,
            f"{name} shows as {DFU_ID}, which it is until its first use, and this is a container or a virtual machine",
            f"both {DFU_ID} and 18d1:9302 passed through: it changes its id when it is first opened",
            "Pass both ids through, or the whole bus: --device /dev/bus/usb",
        )


def _is_guest(base: Path) -> bool:
    if any((base / mark).exists() for mark in (".dockerenv", "run/.containerenv", "run/systemd/container")):
        return True
    try:
        with (base / "proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            return " hypervisor" in file.read(20_000)
    except OSError:
        return False
