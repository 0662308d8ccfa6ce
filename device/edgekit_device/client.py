"""Speak to a hub: who it is, one request and its answer. Standard library alone.

The token goes to that hub and nowhere else: no redirect is followed. An answer is read up to a cap and a deadline.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import re
import ssl
import stat
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

from .errors import HubError, InputError
from .text import clean_text, first_line

__all__ = ["TIMEOUT_S", "Answer", "Hub", "ask_hub", "read_private", "read_token"]

TIMEOUT_S = 30.0
ANSWER_CAP_BYTES = 16 * 1024 * 1024
FILE_CAP_BYTES = 64 * 1024
LONGEST_WAIT_S = 300.0
TOKEN = re.compile(r"[\x21-\x7e]{16,512}")
PASSING = {408, 425, 429}  # and everything from 500


@dataclass(frozen=True)
class Hub:
    """A hub's address and the token for it. Raises InputError for an address that would show the token to others."""

    url: str
    token: str = field(repr=False)
    insecure_http: bool = False

    def __post_init__(self) -> None:
        """Refuse it here, not when the token has gone out."""
        shown = (
            "one that names a user" if "@" in self.url else repr(clean_text(self.url, 80))
        )  # with a password, perhaps
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise InputError(f"expected the hub's address such as https://hub.example, got {shown}") from error
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or "@" in self.url:
            raise InputError(
                f"expected the hub's address such as https://hub.example, without user, ? and #, got {shown}"
            )
        if parts.scheme == "http" and not self.insecure_http and not _is_loopback(host):
            raise InputError(
                f"http://{clean_text(host, 80)} would show the token to the network: use https, or say --insecure-http"
            )
        if not TOKEN.fullmatch(self.token):
            raise InputError("expected a token as edgekit hub token add prints it: one word of 16 to 512 characters")

    @property
    def is_near(self) -> bool:
        """Whether it runs on this machine: then no proxy is asked."""
        return _is_loopback(urlsplit(self.url).hostname or "")


@dataclass(frozen=True)
class Answer:
    """What a hub answered: a status below 300 or one that says why not, and the JSON object that came (or an empty one)."""

    status: int
    facts: dict[str, Any]


def ask_hub(hub: Hub, path: str, content: Optional[bytes] = None, *, timeout_s: float = TIMEOUT_S) -> Answer:
    """GET ``path`` (such as /v1/health), or POST ``content`` (JSON) to it.

    Raises HubError: one that passes for a hub that is away, busy (429), failing (5xx) or cut off; one that does not for a token
    it does not take, and for an address where no hub is. Other answers are the caller's to judge.
    """
    request = urllib.request.Request(hub.url.rstrip("/") + path, data=content)  # noqa: S310 - http and https only, see Hub
    request.add_header("Content-Type", "application/json")
    request.add_header("Accept", "application/json")
    request.add_unredirected_header("Authorization", f"Bearer {hub.token}")
    until = time.monotonic() + timeout_s
    try:
        with _opener(hub).open(request, timeout=timeout_s) as response:
            return _judged(hub, response.status, _read(response, until), response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return _judged(hub, error.code, _read(error, until), error.headers)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise HubError(f"{hub.url} cannot be reached: {_reason(error)}", passes=True) from error


def read_private(path: Path) -> str:
    """A small text file that nobody else can read; raises InputError when others can, or it cannot be read."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise InputError(f"expected a file, got {path}")
            if facts.st_mode & 0o077:
                raise InputError(
                    f"others can read {path} (mode {facts.st_mode & 0o777:o}), which holds a token: chmod 600 {path}"
                )
            return file.read(FILE_CAP_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def read_token(path: Path) -> str:
    """The token in a file of mode 600; raises InputError."""
    return read_private(path).strip()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Let a redirect be an answer: following it would hand the token to whoever it names."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: it is not followed."""
        return None


def _opener(hub: Hub) -> urllib.request.OpenerDirector:
    proxies = urllib.request.ProxyHandler({} if hub.is_near else None)
    return urllib.request.build_opener(
        proxies, _NoRedirect, urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )


def _read(response: Any, until: float) -> bytes:
    content = bytearray()
    while True:
        piece = response.read1(64 * 1024) if hasattr(response, "read1") else response.read(64 * 1024)
        content += piece
        if not piece:
            return bytes(content)
        if len(content) > ANSWER_CAP_BYTES:
            raise ValueError(f"it answered more than {ANSWER_CAP_BYTES} bytes")
        if time.monotonic() > until:
            raise TimeoutError("its answer drips")


def _judged(hub: Hub, status: int, content: bytes, headers: Any) -> Answer:
    facts = _object(content)
    said = clean_text(facts.get("detail"), 200)
    told = f": {said}" if said else ""
    if status in PASSING or status >= 500:
        raise HubError(f"{hub.url} answered {status}{told}", passes=True, wait_s=_wait_s(headers.get("Retry-After")))
    if status in (401, 403):
        raise HubError(
            f"{hub.url} does not take this token ({status}){told}. Make one there: edgekit hub token add NAME"
        )
    if 300 <= status < 400:
        there = clean_text(headers.get("Location"), 100)
        raise HubError(f"{hub.url} redirects to {there}, where the token is not sent: give the hub's own address")
    return Answer(status, facts)


def _object(content: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _wait_s(text: Optional[str]) -> float:
    """Retry-After in seconds; a date, which asks for a clock that is right, counts as nothing."""
    return min(LONGEST_WAIT_S, float(text)) if text and text.isdecimal() and len(text) < 10 else 0.0


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not accepted ({clean_text(cause.verify_message, 100)}); is this board's clock right?"
        )
    return getattr(cause, "strerror", None) or first_line(cause if isinstance(cause, Exception) else error)


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
