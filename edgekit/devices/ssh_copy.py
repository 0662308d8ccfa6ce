"""Files through an SSH connection: checked by their SHA-256, whole or absent, and going on where a copy stopped."""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from ..errors import DeviceError
from ..store import file_sha256
from .remote_scripts import fetch_script, new_mark, send_script
from .ssh_errors import copy_error, lost_error
from .ssh_master import Master, end_process

__all__ = ["fetch_file", "send_file"]

STALL_S = 60.0  # without a single byte either way
DIGEST_BYTES_PER_S = 5e6  # the slowest board hashes more
RESUMED_FROM_BYTES = 256 * 1024  # less is quicker sent again than asked about
BLOCK = 1 << 16
NOISE_CAP = 1 << 20


def send_file(master: Master, local: Path, remote: str) -> None:
    """Copy ``local`` to ``remote``. What arrived before the link broke stays there beside it, named by the content; it is
    removed when the disk is full, or the content turns out to be another."""
    try:
        size, sha256 = local.stat().st_size, file_sha256(local)
        source = local.open("rb")
    except OSError as error:
        raise DeviceError(f"cannot copy {local} to {master.name}: {error.strerror or error}") from error
    folder, slash, _ = remote.rpartition("/")
    part = f"{folder}{slash}.{sha256[:32]}.part"
    mark = new_mark()
    resume = size >= RESUMED_FROM_BYTES
    script = send_script(mark, _plain(remote), _plain(part), size, sha256, resume=resume)
    patience_s = STALL_S + size / DIGEST_BYTES_PER_S
    with source, _Talk(master, script, mark, f"{local.name} was copied there") as talk:
        answer = talk.line(patience_s) if resume else ["from", "0"]
        if answer[0] == "from":
            source.seek(min(size, talk.number(answer)))
            talk.pour(source)
            answer = talk.line(patience_s)
        if answer[0] not in ("done", "have"):
            raise copy_error(master.name, local.name, answer[1:], talk.complaints())


def fetch_file(master: Master, remote: str, local: Path) -> None:
    """Copy ``remote`` to ``local``."""
    mark = new_mark()
    name = remote.rpartition("/")[2]
    aside = local.parent / f".{local.name}.{mark[-8:]}.part"
    with _Talk(master, fetch_script(mark, _plain(remote)), mark, f"{name} was copied from there") as talk:
        answer = talk.line(STALL_S)
        if answer[0] != "size":
            raise DeviceError(f"{master.name} did not write {name}: {_WHY.get(answer[-1], 'it cannot be read there')}")
        try:
            with aside.open("xb") as file:
                size = talk.number(answer)
                digest = talk.take(size, file)
            answer = talk.line(STALL_S + size / DIGEST_BYTES_PER_S)
            if answer not in (["sum", digest], ["sum", "unknown"]):
                raise DeviceError(f"{name} arrived damaged from {master.name}, or changed on the way: try once more")
            os.replace(aside, local)
        except OSError as error:
            raise DeviceError(f"cannot write {local}: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()


_WHY = {
    "absent": "there is no such file",
    "nofile": "it is no file, but something else",
    "unreadable": "the user there may not read it",
}


def _plain(path: str) -> str:
    """A path no tool can take for an option."""
    return f"./{path}" if path.startswith("-") else path


class _Talk:
    """One script there, and what goes to and fro; every wait is bounded, and the script ends with the block."""

    def __init__(self, master: Master, script: str, mark: str, doing: str) -> None:
        self._master, self._mark, self._doing = master, mark.encode(), doing
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the block's end
        self._heard = b""
        self._arrived = 0
        self._process: subprocess.Popen[bytes] = master.start(script, self._errors)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._in.fileno(), False)

    def __enter__(self) -> _Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            end_process(self._process, patience_s=1.0)
        finally:
            self._errors.close()

    def complaints(self) -> str:
        """What ssh and the tools there have said on standard error."""
        self._errors.seek(0)
        return self._errors.read(BLOCK).decode("utf-8", "replace")

    def line(self, patience_s: float) -> list[str]:
        """The words of the script's next line; raises DeviceError when it does not come, unless more arrives there meanwhile."""
        until = time.monotonic() + patience_s
        while (words := self._next_line()) is None or words[0] == "at":
            if words is None:
                self._heard += self._more(max(0.0, until - time.monotonic()))
            elif self._grew(words):
                until = time.monotonic() + patience_s
        return words

    def number(self, words: list[str]) -> int:
        """The count in a line of the script."""
        if len(words) != 2 or not (words[1].isascii() and words[1].isdecimal() and len(words[1]) <= 18):
            raise DeviceError(f"{self._master.name} answered rubbish while {self._doing}: expected a count of bytes")
        return int(words[1])

    def pour(self, source: IO[bytes]) -> None:
        """Give the rest of ``source``; stops when the script has something to say before its end."""
        until = time.monotonic() + STALL_S
        for block in iter(lambda: source.read(BLOCK), b""):
            left = memoryview(block)
            while left:
                readable, writable = self._ready(max(0.0, until - time.monotonic()))
                if writable:
                    try:
                        left = left[os.write(self._in.fileno(), left) :]
                    except BrokenPipeError:
                        return
                    until = time.monotonic() + STALL_S
                if readable:
                    piece = os.read(self._out.fileno(), BLOCK)
                    self._heard += piece
                    if not piece or self._has_news():
                        return
        self._in.close()

    def _next_line(self) -> list[str] | None:
        start = b"\n" + self._mark + b" "
        words, ended, rest = self._heard.partition(start)[2].partition(b"\n")
        if not ended:
            if len(self._heard) > NOISE_CAP:
                raise DeviceError(
                    f"{self._master.name} printed {NOISE_CAP} bytes that nobody asked for: see its ~/.bashrc"
                )
            return None
        self._heard = rest
        return words.decode("utf-8", "replace").split() or [""]

    def _has_news(self) -> bool:
        """Whether the script has said more than how far it is; that is taken out of what was heard."""
        while b"\n" in (after := self._heard.partition(b"\n" + self._mark + b" ")[2]):
            if not after.startswith(b"at "):
                return True
            self._grew(self._next_line() or ["at", "0"])
        return False

    def _grew(self, words: list[str]) -> bool:
        before, self._arrived = self._arrived, max(self._arrived, self.number(words))
        return self._arrived > before

    def take(self, count: int, sink: IO[bytes]) -> str:
        """Write the next ``count`` bytes to ``sink``; returns their SHA-256."""
        digest = hashlib.sha256()
        for piece in self._pieces(count):
            digest.update(piece)
            sink.write(piece)
        return digest.hexdigest()

    def _pieces(self, count: int) -> Iterator[bytes]:
        while count:
            piece, self._heard = self._heard[:count], self._heard[count:]
            if not piece:
                self._heard = self._more(STALL_S)
                continue
            count -= len(piece)
            yield piece

    def _more(self, patience_s: float) -> bytes:
        with selectors.DefaultSelector() as ready:
            ready.register(self._out, selectors.EVENT_READ)
            if not ready.select(timeout=patience_s):
                raise self._lost("it says nothing any more")
        piece = os.read(self._out.fileno(), BLOCK)
        if not piece:
            raise self._lost("")
        return piece

    def _ready(self, patience_s: float) -> tuple[bool, bool]:
        with selectors.DefaultSelector() as ready:
            ready.register(self._out, selectors.EVENT_READ)
            ready.register(self._in, selectors.EVENT_WRITE)
            found = [key.fileobj for key, _ in ready.select(timeout=patience_s)]
        if not found:
            raise self._lost(f"nothing moved for {STALL_S:g} s")
        return self._out in found, self._in in found

    def _lost(self, why: str) -> DeviceError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        complaints = "\n".join((self.complaints(), "" if why else self._master.why_lost(), why))
        return lost_error(self._master.name, self._master.address, self._doing, complaints, self._process.poll() or 255)
