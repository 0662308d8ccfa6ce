"""Where a device is: ``ssh://[user@]host[:port]`` or ``emulated:///path/of/a/userland``."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from edgekit_device.report import clean_text

from ..errors import UsageError

__all__ = [
    "CONFIG_VARIABLE",
    "EMULATED",
    "SSH",
    "Address",
    "EmulatedAddress",
    "SSHAddress",
    "is_address",
    "parse_address",
]

CONFIG_VARIABLE = "EDGEKIT_SSH_CONFIG"  # another config than ~/.ssh/config
SSH = "ssh://"
EMULATED = "emulated://"
EXPECTED = (
    "expected ssh://[user@]host[:port], such as ssh://pi@raspberrypi.local, or the name of a host in your SSH config"
)
# What reaches ssh as an argument: nothing that it, a proxy command or a shell could take for something else.
USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+-]*", re.ASCII)
HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?", re.ASCII)
LONGEST = 255


@dataclass(frozen=True)
class SSHAddress:
    """``host`` may be an alias of the user's SSH config; what is None is left to that config."""

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.user is None else f"{self.user}@"
        return f"{SSH}{user}{host}" + ("" if self.port is None else f":{self.port}")

    @property
    def words(self) -> str:
        """What a user types after ``ssh`` (or ``ssh-copy-id``) to reach the same place by hand, by the same config."""
        config = os.environ.get(CONFIG_VARIABLE)
        other = f"-F {shlex.quote(config)} " if config else ""
        port = "" if self.port is None else f"-p {self.port} "
        return other + port + (self.host if self.user is None else f"{self.user}@{self.host}")


@dataclass(frozen=True)
class EmulatedAddress:
    """An ARM userland in a folder of this machine, run by qemu."""

    path: Path

    def __str__(self) -> str:
        return f"{EMULATED}{self.path}"


Address = SSHAddress | EmulatedAddress


def is_address(text: str) -> bool:
    """Whether ``text`` means to be an address and not the name of a device."""
    return "://" in text


def parse_address(text: str) -> Address:
    """The address that ``text`` spells; raises UsageError with what is wrong with it."""
    if not text.isprintable() or any(character.isspace() for character in text) or len(text) > 4 * LONGEST:
        raise UsageError(f"the address {clean_text(text, 80)!r} has spaces or control characters in it: {EXPECTED}")
    if text.startswith(EMULATED):
        return _emulated(text.removeprefix(EMULATED))
    if not text.startswith(SSH):
        hint = "" if is_address(text) else f". Did you mean {SSH}{text}?"
        raise UsageError(f"the address {text!r} is none edgekit knows: {EXPECTED}{hint}")
    return _ssh(text, text.removeprefix(SSH).removesuffix("/"))


def _ssh(text: str, place: str) -> SSHAddress:
    if any(mark in place for mark in "/?#"):
        raise UsageError(f"the address {text!r} has a path in it; a device is a host alone: {EXPECTED}")
    user, _, host_port = place.rpartition("@")
    if ":" in user:
        # Not repeated in the message: it would be in a terminal's history and a CI's log twice.
        raise UsageError(
            "the address has a password in it, which edgekit neither takes nor stores. Let your key in once: "
            f"ssh-copy-id {user.partition(':')[0]}@{host_port}"
        )
    host, port = _host_and_port(text, host_port)
    if "@" in place and not USER.fullmatch(user):
        raise UsageError(f"the address {text!r} names no user that ssh could take ({user!r}): {EXPECTED}")
    if len(host) > LONGEST or not (HOST.fullmatch(host) or IPV6.fullmatch(host)):
        raise UsageError(f"the address {text!r} names no host that ssh could take ({host!r}): {EXPECTED}")
    return SSHAddress(host, user if "@" in place else None, port)


def _host_and_port(text: str, place: str) -> tuple[str, int | None]:
    if place.startswith("["):
        host, closed, rest = place[1:].partition("]")
        if not closed or ":" not in host or (rest and not rest.startswith(":")):
            raise UsageError(f"the address {text!r} has no IPv6 address in its brackets, as in ssh://pi@[fe80::1]:22")
    else:
        host, colon, port = place.partition(":")
        if ":" in port:
            raise UsageError(f"an IPv6 address goes in brackets: expected ssh://[{place}], got {text!r}")
        rest = colon + port
    return unquote(host) if "%25" in host else host, _port(text, rest)


def _port(text: str, rest: str) -> int | None:
    if not rest:
        return None
    digits = rest[1:]
    number = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 5 else 0
    if not 1 <= number <= 65535:
        raise UsageError(f"the address {text!r} has no port from 1 to 65535 after its colon, got {digits!r}")
    return number


def _emulated(path: str) -> EmulatedAddress:
    if not path.startswith("/") or path == "/":
        raise UsageError(
            f"expected emulated:// and the absolute path of a userland, as in emulated:///srv/arm64, got {path!r}. "
            "Build one: scripts/arm-userland"
        )
    return EmulatedAddress(Path(path))
