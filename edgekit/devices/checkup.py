"""Can this device be measured on? Looked at step by step, each with what was found and what to type."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgekit_device.sensors import throttle_names
from edgekit_device.text import clean_text

from ..errors import EdgekitError
from .address import SSHAddress, parse_address
from .connection import Connection
from .device_wheel import device_version
from .opening import known_device, open_connection, open_transport
from .pythons import choose_python, find_pythons
from .registry import DeviceEntry, Registry
from .setup import setup_status
from .setup_record import SetupRecord

__all__ = ["Checkup", "Finding", "check_device"]

DEADLINE_S = 120.0
SKEW_S = 120.0  # more is told: reports carry the board's clock
DISK_MB, MEMORY_MB = 200.0, 64.0  # less is told
FULL_MB = 8.0  # less than a model needs
FACT_CAP = 1 << 16
# Each fact on a line of its own, behind a tab. $1 is edgekit's folder there; what is not there stays empty.
FACTS = r"""
PATH=$PATH:/usr/bin:/bin
fact() { printf '%s\t%s\n' "$1" "$(printf '%s' "$2" | tr '\n\t' '  ')"; }
read_fact() { fact "$1" "$(cat "$2" 2>/dev/null | tr -d '\000' | head -c 300)"; }
fact clock "$(date +%s)"
fact machine "$(uname -m)"
fact bits "$(getconf LONG_BIT 2>/dev/null)"
fact system "$(. /etc/os-release 2>/dev/null; printf '%s' "$PRETTY_NAME")"
read_fact model /proc/device-tree/model
read_fact governor /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor
read_fact throttled /sys/devices/platform/soc/soc:firmware/get_throttled
fact vcgencmd "$(vcgencmd get_throttled 2>/dev/null)"
fact memory "$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo 2>/dev/null)"
fact disk "$(df -Pk . 2>/dev/null | awk 'NR == 2 { print $4 }')"
if [ -e "$1/lock" ] && command -v flock >/dev/null; then
    ( flock -n 9 ) 9<"$1/lock" 2>/dev/null || fact holder "$(head -c 4000 "$1/lock")"
fi
if [ -x "$1/env/bin/python" ]; then
    EDGEKIT_DEVICE_HOME=$(cd -- "$1" && pwd -P)
    export EDGEKIT_DEVICE_HOME
    said=$("$1/env/bin/python" -I -m edgekit_device info --json 2>&1 </dev/null)
    fact "info $?" "$said"
fi
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``ok`` is False when it stands in the way of measuring, None when it is worth knowing."""

    name: str
    ok: bool | None
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Checkup:
    """All that was found of a device."""

    device: str
    address: str
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether a benchmark would run now."""
        return all(finding.ok is not False for finding in self.findings)

    @property
    def reason(self) -> str:
        """Why it would not; empty when it would."""
        wrong = next((finding for finding in self.findings if finding.ok is False), None)
        if wrong is None:
            return ""
        what = "" if wrong.name == "reached" else f"{wrong.name}: "
        return what + wrong.found + (f". {wrong.advice}" if wrong.advice else "")


def check_device(name: str) -> Checkup:
    """Look at the device called ``name``; raises UsageError when there is none. What cannot be reached is a finding."""
    if name == "local":
        return Checkup(name, "this machine", tuple(_process_findings(name)))
    entry = known_device(name)
    if not isinstance(parse_address(entry.address), SSHAddress):
        return Checkup(entry.name, entry.address, tuple(_process_findings(entry.name)))
    return Checkup(entry.name, entry.address, tuple(_board_findings(entry)))


def _process_findings(name: str) -> Iterator[Finding]:
    try:
        transport = open_transport(name)
        try:
            done = transport.run(["info", "--json"], deadline_s=DEADLINE_S)
        finally:
            transport.close()
    except EdgekitError as error:
        yield Finding("reached", False, clean_text(str(error), 400))
        return
    yield Finding("reached", True, "a process of this machine")
    yield _runtimes(f"info {done.exit_code}", done.stdout if done.exit_code == 0 else done.stderr, "edgekit doctor")


def _board_findings(entry: DeviceEntry) -> Iterator[Finding]:
    connection = open_connection(entry)
    try:
        before = time.time()
        facts = _facts(connection, entry.folder)
        asked_s = time.time() - before
        yield Finding("reached", True, f"{entry.address}, with the host key you know it by")
        Registry().saw(entry.name)
        yield from _what_it_is(facts)
        record = setup_status(connection, entry.folder)
        yield from _setup(connection, entry, record, facts)
        yield from _state(facts, before, asked_s)
    except EdgekitError as error:
        yield Finding("reached", False, clean_text(str(error), 600))
    finally:
        connection.close()


def _facts(connection: Connection, folder: str) -> dict[str, str]:
    done = connection.execute(["/bin/sh", "-c", FACTS, "sh", folder], deadline_s=DEADLINE_S)
    lines = (line.partition("\t") for line in done.stdout.splitlines())
    return {clean_text(key): value.strip()[:FACT_CAP] for key, tab, value in lines if tab}


def _what_it_is(facts: Mapping[str, str]) -> Iterator[Finding]:
    machine, bits = clean_text(facts.get("machine")), clean_text(facts.get("bits"))
    model = clean_text(facts.get("model"))
    userland = f", {bits}-bit userland" if bits else ""
    yield Finding("board", True, " ".join(part for part in (model, f"{machine}{userland}") if part))
    if facts.get("system"):
        yield Finding("system", True, clean_text(facts["system"]))


def _setup(
    connection: Connection, entry: DeviceEntry, record: SetupRecord | None, facts: Mapping[str, str]
) -> Iterator[Finding]:
    line = f"Run: edgekit device setup {entry.name}"
    info = next((key for key in facts if key.startswith("info ")), "")
    if not info:
        try:
            python, _ = choose_python(find_pythons(connection))
            version = ".".join(str(number) for number in python.version)
            yield Finding("python", True, f"{version} at {python.executable}")
        except EdgekitError as error:
            yield Finding("python", False, clean_text(str(error), 400))
        yield Finding("setup", False, "never set up", line)
        return
    if record is not None:
        yield Finding("python", True, clean_text(f"{record.python_version} at {record.python}"))
    installed, ours = record.edgekit_device if record else "", device_version()
    if installed == ours:
        yield Finding("setup", True, f"edgekit-device {installed}, as on this host")
    else:
        found = f"edgekit-device {installed}" if installed else "an environment without a record"
        yield Finding("setup", None, f"{found}, this host has {ours}", line)
    yield _runtimes(info, facts[info], line)


def _runtimes(key: str, said: str, line: str) -> Finding:
    """What ``edgekit-device info`` answers; ``key`` ends with its exit code."""
    try:
        runtimes: Any = json.loads(said)["runtimes"] if key.endswith(" 0") else None
        names = [clean_text(f"{name} {version}") for name, version in runtimes.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        heard = clean_text(said[-300:], 300) or "it said nothing"
        return Finding("runtimes", False, f"edgekit-device does not answer: {heard}", line)
    if not names:
        return Finding("runtimes", False, "none installed", line)
    return Finding("runtimes", True, ", ".join(names))


def _state(facts: Mapping[str, str], before: float, asked_s: float) -> Iterator[Finding]:
    governor = clean_text(facts.get("governor"))
    if governor:
        steady = governor == "performance"
        advice = "Latencies vary less with: sudo cpupower frequency-set -g performance"
        yield Finding("governor", True if steady else None, governor, "" if steady else advice)
    yield from _throttling(facts.get("throttled") or facts.get("vcgencmd", "").rpartition("=")[2])
    yield from _room("memory", facts.get("memory", ""), MEMORY_MB, "stop other programs there")
    yield from _room("disk", facts.get("disk", ""), DISK_MB, "free some space there")
    yield from _clock(facts.get("clock", ""), before, asked_s)
    if "holder" in facts:
        yield Finding("free", False, f"busy: {_holder(facts['holder'])}", "Try again when it is done")


def _throttling(word: str) -> Iterator[Finding]:
    """The Raspberry Pi firmware's get_throttled word."""
    try:
        bits = int(word, 16)
    except ValueError:
        return
    if not 0 <= bits < 1 << 32:
        return
    now, past = throttle_names(bits)
    if now != "none":
        yield Finding("throttling", None, f"{now} right now", "Look at its power supply and cooling")
    elif past != "none":
        yield Finding("throttling", None, f"not now; since it was started: {past}")
    else:
        yield Finding("throttling", True, "none")


def _room(name: str, kilobytes: str, enough_mb: float, advice: str) -> Iterator[Finding]:
    if not (kilobytes.isascii() and kilobytes.isdecimal() and len(kilobytes) <= 15):
        return
    free_mb = int(kilobytes) / 1024
    ok = True if free_mb >= enough_mb else False if free_mb < FULL_MB else None
    yield Finding(f"free {name}", ok, f"{free_mb:,.0f} MB", "" if ok else f"It may not be enough: {advice}")


def _clock(seconds: str, before: float, asked_s: float) -> Iterator[Finding]:
    digits = seconds.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 15):
        return
    ahead = int(seconds) - before
    # It was read at an unknown moment while we waited, and to the second.
    off = max(0.0, abs(ahead) - asked_s - 1)
    if off < SKEW_S:
        yield Finding("clock", True, "agrees with this host's")
        return
    side = "ahead of" if ahead > 0 else "behind"
    yield Finding(
        "clock", None, f"its clock is {_span(off)} {side} this host's", "Set it there: sudo timedatectl set-ntp true"
    )


def _span(seconds: float) -> str:
    for unit, length in (("year", 365.25 * 86400), ("day", 86400.0), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= length:
            count = round(seconds / length)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:.0f} s"


def _holder(raw: str) -> str:
    """Who holds the board, in the words of its lock file."""
    try:
        facts = json.loads(raw)
    except (ValueError, RecursionError):
        facts = None
    facts = facts if isinstance(facts, dict) else {}
    who = clean_text(facts.get("holder"), 100) or "somebody"
    verb, since = clean_text(facts.get("verb"), 20), clean_text(facts.get("since"), 30)
    return who + (f" runs {verb}" if verb else " measures on it") + (f" since {since}" if since else "")
