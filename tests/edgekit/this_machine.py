"""A Connection to this machine with a home of its own: a board for the tests of setup, without a network in between."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgekit.devices.transport import Completed
from edgekit.errors import DeviceError

Hook = Callable[[str], None]


class ThisMachine:
    """Runs commands with ``folder`` as the user's home and ``path`` as PATH.

    ``sent`` and ``ran`` remember what was asked; ``before_send`` and ``before_run`` may raise, as a cut line does.
    ``largest_file`` is the most bytes a file there may have: the kernel refuses more, as a full disk would.
    """

    name = "pi4"

    def __init__(self, folder: Path, path: str = os.defpath) -> None:
        self.home = folder
        self.path = path
        self.sent: list[str] = []
        self.ran: list[Sequence[str]] = []
        self.before_send: Hook = lambda name: None
        self.before_run: Hook = lambda action: None
        self.largest_file: int | None = None

    def execute(
        self,
        command: Sequence[str],
        *,
        deadline_s: float,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        folder: str = "",
    ) -> Completed:
        """Run the command here, and end what it leaves behind."""
        self.ran.append(command)
        self.before_run(command[3] if len(command) > 3 and command[1] == "-I" else command[0])
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.home / folder,
                env={"HOME": str(self.home), "PATH": self.path, **(environment or {})},
                start_new_session=True,
                preexec_fn=self._limit if self.largest_file else None,
            )
        except FileNotFoundError:
            return Completed(127, "", f"{command[0]}: not found")
        try:
            out, err = process.communicate(stdin, timeout=deadline_s)
            return Completed(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
        except subprocess.TimeoutExpired:
            return Completed(-9, timed_out=True)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def send(self, local: Path, remote: str) -> None:
        """Copy the file; the folder has to be there."""
        self.before_send(Path(remote).name)
        self.sent.append(Path(remote).name)
        if not (self.home / remote).parent.is_dir():
            raise DeviceError(f"{self.name} has no folder for {remote}")
        try:
            shutil.copyfile(local, self.home / remote)
        except OSError as error:
            raise DeviceError(f"{self.name} cannot keep {remote}: {error.strerror}") from error

    def fetch(self, remote: str, local: Path) -> None:
        """Copy the file."""
        shutil.copyfile(self.home / remote, local)

    def close(self) -> None:
        """Nothing is held."""

    def _limit(self) -> None:
        assert self.largest_file is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_file, self.largest_file))
