"""``edgekit-device`` on a machine behind a Connection: a work folder there, a command in it, and nothing left after."""

from __future__ import annotations

import contextlib
import getpass
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

from edgekit_device.home import HOME_VARIABLE
from edgekit_device.lock import HOLDER_VARIABLE
from edgekit_device.text import clean_text

from ..errors import DeviceError
from .connection import Connection
from .registry import HOME_THERE
from .transport import Completed

__all__ = ["RemoteTransport", "holder"]

SHORT_S = 60.0
NO_SETUP = 90  # what OPEN ends with where there is no private environment

PLACES = "PATH=$PATH:/usr/bin:/bin; "  # of the tools below, whatever a login leaves out
# $1 home (relative to the user's), $2 work folder below it. Says the absolute home, and whether reports wait. A work folder
# that is older than a day is of a host that was killed; so is what arrived of a file that nobody has asked for since.
OPEN = f"""
[ -x "$1/env/bin/python" ] || exit {NO_SETUP}
mkdir -p -- "$1/work/$2" "$1/work/incoming" && chmod 700 -- "$1/work" && cd -- "$1" && pwd -P || exit 1
find work -mindepth 1 -maxdepth 1 ! -name incoming -mtime +0 -exec rm -rf -- {{}} + 2>/dev/null
find work/incoming -mindepth 1 -mtime +0 -exec rm -f -- {{}} + 2>/dev/null
for report in outbox/*.json outbox/rejected/*.json; do [ ! -e "$report" ] || {{ echo waiting; break; }}; done
exit 0
"""
# $1 home, $2 work folder (both absolute), $3 how many files arrived; then pairs of where and what name; then the command.
# The files are renamed in the same round trip that runs the command, or were by one whose answer was lost. -I: no
# PYTHONPATH, nothing from the work folder.
RUN = """
home=$1 work=$2 count=$3
shift 3
mkdir -p -- "$work" && cd -- "$work" || exit 1
while [ "$count" -gt 0 ]; do
    [ ! -e "$1" ] && [ -e "$2" ] || mv -f -- "$1" "$2" || exit 1
    shift 2
    count=$((count - 1))
done
exec "$home/env/bin/python" -I -m edgekit_device "$@"
"""
# $1 the folder of work folders, $2 our own; the former goes when nobody else works there.
CLOSE = 'cd -- "$1" && rm -rf -- "$2" "incoming/$2".* && cd .. && rmdir -- "$1/incoming" "$1" 2>/dev/null; exit 0'


class RemoteTransport:
    """A Transport over any Connection, which it closes.

    ``home`` is where ``edgekit device setup`` has put its things, relative to the user's home there. A file is sent to
    ``<home>/work/incoming`` under the name of its content, so that a copy that was interrupted goes on with the next
    command, and moves into this transport's own work folder. Raises DeviceError when the machine cannot be reached or
    was never set up: then nothing is made there. ``reports_wait`` is whether its outbox held any when it was opened.
    """

    def __init__(self, connection: Connection, home: str = HOME_THERE, *, setup_line: str = "") -> None:
        self.connection, self.name = connection, connection.name
        self._arrived: list[tuple[str, str]] = []
        self._closed = False
        self.reports_wait = False
        folder = secrets.token_hex(8)
        try:
            self._home = self._open(home, folder, setup_line or f"edgekit device setup {self.name}")
        except BaseException:
            connection.close()
            raise
        self._work = f"{self._home}/work/{folder}"

    def put(self, local: Path, name: str) -> str:
        """Send a file; what is there of it already is not sent again."""
        target = f"{self._work}/{Path(name).name}"
        incoming = f"{self._home}/work/incoming/{self._work.rpartition('/')[2]}.{len(self._arrived)}"
        self.connection.send(local, incoming)
        self._arrived.append((incoming, target))
        return target

    def run(self, arguments: Sequence[str], *, deadline_s: float) -> Completed:
        """Run ``edgekit-device`` there, in the work folder."""
        moves = [path for pair in self._arrived for path in pair]
        command = [
            "sh",
            "-c",
            RUN,
            "edgekit-device",
            self._home,
            self._work,
            str(len(self._arrived)),
            *moves,
            *arguments,
        ]
        environment = {HOME_VARIABLE: self._home, HOLDER_VARIABLE: holder()}
        completed = self.connection.execute(command, deadline_s=deadline_s, environment=environment)
        self._arrived.clear()
        return completed

    def get(self, remote: str, local: Path) -> None:
        """Fetch a file of the work folder."""
        name = Path(remote).name
        waiting = {target: incoming for incoming, target in self._arrived}
        there = f"{self._work}/{name}"
        self.connection.fetch(waiting.get(there, there), local)

    def close(self) -> None:
        """Remove the work folder and let go of the machine; a machine that is gone is swept by whoever comes next."""
        if self._closed:
            return
        self._closed = True
        try:
            with contextlib.suppress(DeviceError):
                command = ["/bin/sh", "-c", PLACES + CLOSE, "sh", *self._work.rsplit("/", 1)]
                self.connection.execute(command, deadline_s=SHORT_S)
        finally:
            self.connection.close()

    def _open(self, home: str, folder: str, setup_line: str) -> str:
        done = self.connection.execute(["/bin/sh", "-c", PLACES + OPEN, "sh", home, folder], deadline_s=SHORT_S)
        if done.exit_code == NO_SETUP:
            raise DeviceError(f"{self.name} was never set up: there is no {home}/env on it. Run: {setup_line}")
        found, _, waiting = done.stdout.strip().partition("\n")
        self.reports_wait = waiting.strip() == "waiting"
        if done.exit_code != 0 or not found.startswith("/"):
            said = clean_text((done.stderr or done.stdout).strip()[-200:])
            raise DeviceError(
                f"{self.name} has no place for the work to be done in {home}/work: {said or 'it did not say why'}"
            )
        return found


def holder() -> str:
    """Who measures, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
