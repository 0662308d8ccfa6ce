"""Addresses and the registry: what a user types, and what is kept of it."""

from __future__ import annotations

import json
import multiprocessing
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.devices.address import EmulatedAddress, SSHAddress, parse_address
from edgekit.devices.registry import Registry
from edgekit.errors import StoreError, UsageError


@pytest.mark.parametrize(
    ("text", "address", "words"),
    [
        ("ssh://raspberrypi.local", SSHAddress("raspberrypi.local"), "raspberrypi.local"),
        ("ssh://pi@10.0.0.7", SSHAddress("10.0.0.7", "pi"), "pi@10.0.0.7"),
        ("ssh://pi@host:2222/", SSHAddress("host", "pi", 2222), "-p 2222 pi@host"),
        ("ssh://lab_pi-4", SSHAddress("lab_pi-4"), "lab_pi-4"),
        ("ssh://pi@[fe80::1]:22", SSHAddress("fe80::1", "pi", 22), "-p 22 pi@fe80::1"),
        ("ssh://[fe80::1%25eth0]", SSHAddress("fe80::1%eth0"), "fe80::1%eth0"),
    ],
)
def test_an_address_of_a_board(text: str, address: SSHAddress, words: str) -> None:
    """User and port are left to the user's config when they are not said; it reads back as what it was."""
    assert parse_address(text) == address
    assert parse_address(str(address)) == address
    assert address.words == words


def test_an_address_of_a_userland() -> None:
    """Its options stay with the path."""
    assert parse_address("emulated:///srv/arm64?cpu=x") == EmulatedAddress(Path("/srv/arm64?cpu=x"))
    assert str(parse_address("emulated:///srv/arm64")) == "emulated:///srv/arm64"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pi@host", "Did you mean ssh://pi@host?"),
        ("http://host", "none edgekit knows"),
        ("SSH://host", "none edgekit knows"),
        ("", "none edgekit knows"),
        ("ssh://", "no host"),
        ("ssh://pi@", "no host"),
        ("ssh://@host", "no user"),
        ("ssh://-oProxyCommand=id", "no host"),
        ("ssh://-l@host", "no user"),
        ("ssh://pi;id@host", "no user"),
        ("ssh://$(id)", "no host"),
        ("ssh://ho`st", "no host"),
        ("ssh://h\\ost", "no host"),
        ("ssh://" + "h" * 256, "no host"),
        ("ssh://host/home", "path in it"),
        ("ssh://host?x", "path in it"),
        ("ssh://host#x", "path in it"),
        ("ssh://host:", "no port from 1 to 65535"),
        ("ssh://host:0", "no port from 1 to 65535"),
        ("ssh://host:65536", "no port from 1 to 65535"),
        ("ssh://host:２２", "no port from 1 to 65535"),
        ("ssh://host:22x", "no port from 1 to 65535"),
        ("ssh://fe80::1", "goes in brackets: expected ssh://[fe80::1]"),
        ("ssh://[fe80::1", "no IPv6 address in its brackets"),
        ("ssh://[host]", "no IPv6 address in its brackets"),
        ("ssh://[fe80::1]x", "no IPv6 address in its brackets"),
        ("ssh://host\n", "control characters"),
        ("ssh://a b", "control characters"),
        ("ssh://ho\x1b[2Jst", "control characters"),
        ("ssh://\u202ehost", "control characters"),
        ("emulated://srv", "absolute path"),
        ("emulated:///", "absolute path"),
    ],
)
def test_what_is_no_address_is_refused(text: str, message: str) -> None:
    """Before anything of it reaches ssh; in printable characters."""
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        parse_address(text)

    assert str(caught.value).isprintable()
    assert caught.value.exit_code == 2


def test_a_password_is_refused_and_not_repeated() -> None:
    """A message ends in logs."""
    with pytest.raises(UsageError, match=r"has a password in it.*ssh-copy-id pi@host") as caught:
        parse_address("ssh://pi:secret@host")

    assert "secret" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """What is taken holds nothing that an option, a shell or a terminal could read otherwise."""
    try:
        address = parse_address(f"ssh://{text}")
    except UsageError:
        return
    assert isinstance(address, SSHAddress)
    for part in (address.host, address.user or "x"):
        assert part.isascii()
        assert not part.startswith("-")
        assert not set(part) & set(" \t\r\n'\"`$;&|<>()*?\\!{}#")


# -- the registry ------------------------------------------------------------------------------------------------------


def test_devices_are_kept_by_name(tmp_path: Path) -> None:
    """In a file of their owner's alone, which another registry reads back."""
    added = Registry(tmp_path).add("pi4", "ssh://pi@host:22/")
    Registry(tmp_path).add("a.b-c_9", "emulated:///srv/arm64")

    assert Registry(tmp_path).names() == ["local", "a.b-c_9", "pi4"]
    assert Registry(tmp_path).entry("pi4") == added
    assert (added.address, added.folder, added.seen) == ("ssh://pi@host:22", ".edgekit-device", "")
    assert stat.S_IMODE((tmp_path / "devices.json").stat().st_mode) == 0o600


def test_the_home_is_made_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing makes nothing; adding does, at EDGEKIT_HOME."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "new" / "home"))
    assert Registry().entries() == {}
    assert not (tmp_path / "new").exists()
    Registry().add("pi4", "ssh://host")
    assert (tmp_path / "new" / "home" / "devices.json").is_file()


@pytest.mark.parametrize("name", ["", "Pi", "pi 4", "-pi", ".pi", "pi/4", "pi\n", "ä", "ssh://host", "x" * 64, "local"])
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    """Among them the one that is this machine's."""
    with pytest.raises(UsageError) as caught:
        Registry(tmp_path).add(name, "ssh://host")

    assert str(caught.value).isprintable()
    assert Registry(tmp_path).entries() == {}


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    """Unless it is said to be replaced; the message has the line to type."""
    registry = Registry(tmp_path)
    registry.add("pi4", "ssh://host")
    with pytest.raises(UsageError, match=r"at ssh://host\. .*edgekit device add pi4 ssh://other --force"):
        registry.add("pi4", "ssh://other")
    registry.add("pi4", "ssh://other", force=True)

    assert registry.entry("pi4").address == "ssh://other"


def test_an_unknown_name_comes_with_the_known_ones(tmp_path: Path) -> None:
    """And how to add one; it is shown in printable characters."""
    Registry(tmp_path).add("pi4", "ssh://host")
    with pytest.raises(
        UsageError, match=r"unknown device 'pi5'; did you mean 'pi4'\? Choose from: local, pi4\. Add yours"
    ):
        Registry(tmp_path).entry("pi5")
    with pytest.raises(UsageError) as caught:
        Registry(tmp_path).remove("\x1b[2J")
    assert str(caught.value).isprintable()


def test_a_device_is_forgotten(tmp_path: Path) -> None:
    """The others stay."""
    registry = Registry(tmp_path)
    registry.add("a", "ssh://host")
    registry.add("b", "ssh://host")
    registry.remove("a")

    assert registry.names() == ["local", "b"]


def test_when_a_device_was_seen(tmp_path: Path) -> None:
    """Is kept for those that are known, and never a reason to fail."""
    registry = Registry(tmp_path)
    registry.add("pi4", "ssh://host")
    registry.saw("pi4")
    registry.saw("unknown")

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", registry.entry("pi4").seen)
    assert registry.names() == ["local", "pi4"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"format": 1, "devices": 1}',
        b'{"format": 1, "devices": [1]}',
        b'{"format": 1, "devices": [{"name": "x"}]}',
        b'{"format": 1, "devices": [{"name": "x", "address": 1}]}',
        b'{"format": 1, "devices": [{"name": "x", "address": "ssh://-o"}]}',
        b'{"format": 1, "devices": [{"name": "../x", "address": "ssh://h"}]}',
        b'{"format": 2, "devices": []}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_said_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """It is never written over: it may be mended."""
    (tmp_path / "devices.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"devices\.json"):
        Registry(tmp_path).entries()
    with pytest.raises(StoreError, match=r"devices\.json"):
        Registry(tmp_path).add("pi4", "ssh://host")

    assert (tmp_path / "devices.json").read_bytes() == content


def test_facts_of_a_later_edgekit_are_tolerated(tmp_path: Path) -> None:
    """Fields it does not know are read over."""
    listed = {"format": 1, "devices": [{"name": "pi4", "address": "ssh://host", "colour": "red"}]}
    (tmp_path / "devices.json").write_text(json.dumps(listed))

    assert Registry(tmp_path).entry("pi4").address == "ssh://host"


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """With the variable that names another."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="EDGEKIT_HOME"):
        Registry(tmp_path / "file" / "home").add("pi4", "ssh://host")


def _add(home: Path, number: int) -> None:
    Registry(home).add(f"pi{number}", "ssh://host")


def test_two_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    """Eight processes, eight devices."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_add, args=(tmp_path, number)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert len(Registry(tmp_path).entries()) == 8
