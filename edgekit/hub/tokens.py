"""Bearer tokens: 256 random bits, shown once, kept as their SHA-256 alone.

A fast hash is right for them: nobody guesses 256 bits, however fast. It would not be for a password.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from ..errors import UsageError, suggest

__all__ = ["SCOPES", "check_name", "check_scope", "hash_token", "make_token", "same"]

SCOPES = ("device", "read")
PREFIX = "edgekit-hub-"  # so that a scanner for leaked secrets knows one when it sees it
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def make_token() -> str:
    """A new token."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What is kept of a token: SHA-256, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def same(one: str, other: str) -> bool:
    """Whether two hashes are equal, in a time that does not tell where they differ."""
    return secrets.compare_digest(one, other)


def check_name(name: str) -> str:
    """``name`` when it can be a token's; raises UsageError."""
    if NAME.fullmatch(name):
        return name
    raise UsageError(
        f"expected a name of letters, digits, '.', '_' and '-' (at most 64, the first a letter or digit), got {name[:80]!r}"
    )


def check_scope(scope: str) -> str:
    """``scope`` when there is such a one; raises UsageError."""
    if scope not in SCOPES:
        raise UsageError(f"unknown scope {scope!r}{suggest(scope, SCOPES)}")
    return scope
