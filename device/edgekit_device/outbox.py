"""The durable outbox of a board: a report stays a file here until somebody says that they have it.

    outbox/000000000042-ID.json            waiting; the number only grows, whatever the clock does
    outbox/rejected/000000000042-ID.json   refused by a hub for good, and beside it ….reason.txt
    outbox/damaged/…                       unreadable: what a power cut or a dying card left
    outbox/acknowledged                    numbers and ids of the last that were delivered: they are not taken in again

A report is written aside, flushed to disk, renamed, and the folder flushed: after ``put`` has returned, a power cut does
not lose it on a disk that keeps what it has confirmed; before, there is no half of it. **When the outbox is full the oldest are
kept and the new report is refused with an error**: nothing that was taken in is ever dropped. Any number of processes
may write, drain and acknowledge at once (flock).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from .durable import ASIDE_SUFFIX, append_durably, flush_folder, is_torn, make_folder, move_durably, write_durably
from .errors import OutboxError
from .report import BenchmarkReport
from .text import clean_text

__all__ = ["MOST_BYTES", "MOST_REPORTS", "MOST_REPORT_BYTES", "Entry", "Outbox", "is_report_id"]

MOST_REPORTS = 10_000
MOST_BYTES = 64 * 1024 * 1024
MOST_REPORT_BYTES = 2 * 1024 * 1024  # the largest a report can be: every list at its cap
MOST_ACKNOWLEDGED = 10_000
MOST_DAMAGED = 20
LOCK_WAIT_S = 30.0
LOOK_EVERY_S = 0.01
NAME = re.compile(r"(\d{12})-([A-Za-z0-9][A-Za-z0-9_-]{0,63})\.json")


@dataclass(frozen=True)
class Entry:
    """One report in the outbox: its place in the order, its id, its file, and why a hub refused it, if one did."""

    sequence: int
    id: str
    path: Path
    size_bytes: int
    rejected: str = ""


class Outbox:
    """The outbox in ``folder``, made at the first ``put``. Raises OutboxError where the folder cannot be read or written."""

    def __init__(
        self,
        folder: Path,
        *,
        most_reports: int = MOST_REPORTS,
        most_bytes: int = MOST_BYTES,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> None:
        self.folder = folder
        self._most_reports = most_reports
        self._most_bytes = most_bytes
        self._lock_wait_s = lock_wait_s

    def put(self, report: BenchmarkReport) -> Optional[Path]:
        """Keep ``report`` and return its file; None when this very id was delivered before, which is harmless.

        Raises OutboxError when the outbox or the disk is full, for an id that cannot be a file's name, and for another
        report under an id that is there.
        """
        if not is_report_id(report.id):
            raise OutboxError(
                f"expected a report with an id of letters, digits, - and _, got {clean_text(report.id, 80)!r}"
            )
        content = (report.to_json() + "\n").encode()
        with self._held("keep a report in"):
            entries = [*self.waiting(), *self.rejected()]
            there = next((entry for entry in entries if entry.id == report.id), None)
            if there is not None:
                return _unchanged(there, content)
            delivered = self._delivered()
            if report.id in delivered:
                return None
            self._check_room(entries, len(content))
            last = max((*(entry.sequence for entry in entries), *delivered.values()), default=0)
            return write_durably(self.folder / f"{last + 1:012d}-{report.id}.json", content)

    def waiting(self) -> list[Entry]:
        """What waits to be delivered, oldest first."""
        return self._entries(self.folder)

    def rejected(self) -> list[Entry]:
        """What a hub refused for good, oldest first; a host that drains the outbox takes it all the same."""
        return self._entries(self.folder / "rejected")

    def damaged(self) -> int:
        """How many unreadable files were moved aside (the last MOST_DAMAGED are kept)."""
        with _translated("read", self.folder):
            return sum(1 for _ in (self.folder / "damaged").glob("*"))

    def find(self, report_id: str) -> Entry:
        """The entry of ``report_id``; raises OutboxError when there is none."""
        entries = [*self.waiting(), *self.rejected()]
        for entry in entries:
            if entry.id == report_id:
                return entry
        raise OutboxError(
            f"no report {clean_text(report_id, 80)!r} among the {len(entries)} of {self.folder}. See: edgekit-device outbox list"
        )

    def read(self, entry: Entry) -> Optional[str]:
        """The report of ``entry`` as one line of JSON, as it was written.

        None when it has been delivered meanwhile, or is damaged: then it is moved aside.
        """
        try:
            with entry.path.open("rb") as file:
                content = file.read(MOST_REPORT_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError:  # a bad sector stands in the way of this file alone
            content = b""
        if _is_whole(content, entry.id):
            return content.decode().strip()
        self._set_aside(entry)
        return None

    def drain(
        self, most: Optional[int] = None, most_bytes: Optional[int] = None, *, with_rejected: bool = True
    ) -> Iterator[tuple[str, str]]:
        """Ids and reports (one line of JSON each), waiting and then rejected, oldest first; none is removed.

        At most ``most``, and no more than ``most_bytes`` of text in all, but always one.
        """
        given = used = 0
        for entry in (*self.waiting(), *(self.rejected() if with_rejected else ())):
            full = most_bytes is not None and used + entry.size_bytes > most_bytes
            if given and (full or (most is not None and given >= most)):
                return
            line = self.read(entry)
            if line is not None:
                given, used = given + 1, used + len(line)
                yield entry.id, line

    def acknowledge(self, ids: Iterable[str]) -> list[str]:
        """Remove reports that somebody has; returns the ids that were there. Unknown ids are none of ours, and harmless."""
        wanted = set(ids)
        with self._held("acknowledge reports in"):
            found = [entry for entry in (*self.waiting(), *self.rejected()) if entry.id in wanted]
            self._remember(found)
            self._remove(found)
        return [entry.id for entry in found]

    def reject(self, report_id: str, reason: str) -> None:
        """Move a waiting report out of the way of the others, with the reason a hub gave for refusing it."""
        with self._held("set a report aside in"):
            entry = next((entry for entry in self.waiting() if entry.id == report_id), None)
            if entry is None:
                return
            folder = self.folder / "rejected"
            make_folder(folder)
            write_durably(
                (folder / entry.path.name).with_suffix(".reason.txt"), (clean_text(reason, 1000) + "\n").encode()
            )
            move_durably(entry.path, folder)

    # -- inside -------------------------------------------------------------------------------------------------

    def _entries(self, folder: Path) -> list[Entry]:
        found = []
        try:
            with os.scandir(folder) as items:
                for item in items:
                    match = NAME.fullmatch(item.name)
                    if match and item.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):  # delivered while we look
                            size = item.stat(follow_symlinks=False).st_size
                            found.append(
                                Entry(int(match[1]), match[2], Path(item.path), size, _reason(Path(item.path)))
                            )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _outbox_error("read", folder, error) from error
        return sorted(found, key=lambda entry: entry.sequence)

    def _check_room(self, entries: list[Entry], size_bytes: int) -> None:
        if size_bytes > MOST_REPORT_BYTES:
            raise OutboxError(
                f"expected a report of at most {MOST_REPORT_BYTES} bytes, got {size_bytes}: it is not kept"
            )
        used = sum(entry.size_bytes for entry in entries)
        if len(entries) >= self._most_reports or used + size_bytes > self._most_bytes:
            raise OutboxError(
                f"the outbox {self.folder} is full ({len(entries)} reports, {used} bytes; at most {self._most_reports} and "
                f"{self._most_bytes}): the oldest are kept and this report is not. Deliver them: edgekit device collect NAME "
                "on the host, or edgekit-device push"
            )

    def _delivered(self) -> dict[str, int]:
        """Ids that were acknowledged, with their numbers; a line torn by a power cut is passed over."""
        try:
            text = (self.folder / "acknowledged").read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return {}
        pairs = (line.split(" ") for line in text.splitlines())
        return {
            pair[1]: int(pair[0]) for pair in pairs if len(pair) == 2 and pair[0].isdecimal() and len(pair[0]) == 12
        }

    def _remember(self, entries: list[Entry]) -> None:
        """Before the files go: killed in between, they are removed at the next occasion instead of delivered again."""
        path = self.folder / "acknowledged"
        known = self._delivered()
        lines = [f"{entry.sequence:012d} {entry.id}\n" for entry in entries if entry.id not in known]
        if not lines:
            return
        try:
            if len(known) + len(lines) > 2 * MOST_ACKNOWLEDGED:
                kept = [f"{number:012d} {name}\n" for name, number in list(known.items())[-MOST_ACKNOWLEDGED:]]
                write_durably(path, "".join([*kept, *lines]).encode())
            else:
                append_durably(path, "".join(["\n" if is_torn(path) else "", *lines]).encode())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # what frees a full disk must work on a full disk
                raise

    def _remove(self, entries: Iterable[Entry]) -> None:
        folders = set()
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                entry.path.unlink()
            with contextlib.suppress(FileNotFoundError):
                entry.path.with_suffix(".reason.txt").unlink()
            folders.add(entry.path.parent)
        for folder in folders:
            flush_folder(folder)

    def _set_aside(self, entry: Entry) -> None:
        with self._held("set a damaged report aside in"):
            folder = self.folder / "damaged"
            make_folder(folder)
            with contextlib.suppress(FileNotFoundError):
                move_durably(entry.path, folder)
            for old in sorted(folder.iterdir())[:-MOST_DAMAGED]:
                old.unlink()

    def _sweep(self) -> None:
        """Finish what a killed process began: files half written go, and so do those already acknowledged."""
        for folder in (self.folder, self.folder / "rejected"):
            for leftover in folder.glob(f".*{ASIDE_SUFFIX}"):
                leftover.unlink()
        delivered = self._delivered()
        self._remove(entry for entry in (*self.waiting(), *self.rejected()) if entry.id in delivered)

    @contextlib.contextmanager
    def _held(self, verb: str) -> Iterator[None]:
        """Hold the outbox against other processes, swept; an OSError inside becomes an OutboxError."""
        with _translated(verb, self.folder):
            make_folder(self.folder)
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._take(handle)
                self._sweep()
                yield
            finally:
                os.close(handle)

    def _take(self, handle: int) -> None:
        import fcntl  # the host imports this module also where there is none

        until = time.monotonic() + self._lock_wait_s
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise OutboxError(
                        f"another edgekit-device has held {self.folder} for {self._lock_wait_s:g} s: end it, and try again"
                    ) from None
            time.sleep(LOOK_EVERY_S)


def is_report_id(text: str) -> bool:
    """Whether ``text`` can be the id of a report, and so the name of a file and an argument of a command."""
    return NAME.fullmatch(f"{0:012d}-{text}.json") is not None


def _is_whole(content: bytes, report_id: str) -> bool:
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and raw.get("id") == report_id and isinstance(raw.get("schema"), int)


def _unchanged(entry: Entry, content: bytes) -> Path:
    if entry.path.read_bytes() != content:
        raise OutboxError(f"the outbox holds another report under the id {entry.id}: {entry.path}. The first is kept")
    return entry.path


def _reason(path: Path) -> str:
    if path.parent.name != "rejected":
        return ""
    try:
        with path.with_suffix(".reason.txt").open(encoding="utf-8", errors="replace") as file:
            return clean_text(file.read(4000), 1000) or "no reason kept"
    except OSError:
        return "no reason kept"


@contextlib.contextmanager
def _translated(verb: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _outbox_error(verb, folder, error) from error


def _outbox_error(verb: str, folder: Path, error: OSError) -> OutboxError:
    hint = {
        errno.ENOSPC: "the disk is full: free some space, or deliver what waits",
        errno.EDQUOT: "the disk quota is used up: free some space, or deliver what waits",
        errno.EFBIG: "the file would be larger than this process may write (ulimit -f): raise the limit",
        errno.EACCES: "no permission: it belongs to another user, or EDGEKIT_DEVICE_HOME names a wrong place",
        errno.EROFS: "the file system is read-only: a failing card is mounted so; save what is on it",
    }.get(error.errno or 0, str(error.strerror or error))
    return OutboxError(f"cannot {verb} the outbox {folder}: {hint}")
