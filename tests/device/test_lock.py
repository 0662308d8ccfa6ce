"""One measurement at a time on a board, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from edgekit_device.errors import BoardBusyError
from edgekit_device.lock import HOLDER_VARIABLE, board_held

from tests.conftest import Cli

HOLD = """
import sys, time
from pathlib import Path
from edgekit_device.lock import board_held
with board_held("bench", Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the board."""
    environment = {**os.environ, HOLDER_VARIABLE: "ada@laptop\x1b[2J"}
    command = [sys.executable, "-c", HOLD, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_one_is_told_who_holds_the_board(tmp_path: Path) -> None:
    """Who, with what, in which process and since when, in printable characters; the first goes on."""
    with holder(tmp_path) as process:
        with pytest.raises(BoardBusyError) as caught, board_held("tune", tmp_path):
            pass
        assert process.poll() is None

    message = str(caught.value)
    assert f"held by ada@laptop [2J (bench, process {process.pid}) since 2" in message
    assert message.isprintable()
    assert caught.value.exit_code == 3


def test_the_board_is_free_again_when_its_holder_died(tmp_path: Path) -> None:
    """Killed without a chance to clean up; and nothing is left when the next one is done."""
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / "lock").exists()
        with board_held("bench", tmp_path):
            facts = json.loads((tmp_path / "lock").read_text())

    assert (facts["verb"], facts["pid"]) == ("bench", os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    """The home is made where it is missing, and the lock is not kept."""
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), board_held("bench", tmp_path / "new"):
            raise ValueError("inside")

    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[1]", b'{"holder": 5, "pid": "x"}', b"{" * 100_000])
def test_a_damaged_lock_names_somebody(tmp_path: Path, content: bytes) -> None:
    """What stands in the file is never trusted."""
    with holder(tmp_path):
        (tmp_path / "lock").write_bytes(content)
        with pytest.raises(BoardBusyError, match="held by somebody"), board_held("bench", tmp_path):
            pass


def test_a_machine_that_is_no_board_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home is stateless: two at once are fine there."""
    monkeypatch.setenv("EDGEKIT_DEVICE_HOME", "")
    monkeypatch.chdir(tmp_path)
    with board_held("bench"), board_held("bench"):
        assert list(tmp_path.iterdir()) == []


def test_two_benches_on_one_board(
    device_cli: Cli, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second ends with 3 before it loads a model, and works when the first is over."""
    monkeypatch.setenv("EDGEKIT_DEVICE_HOME", str(tmp_path))
    with holder(tmp_path):
        refused = device_cli("bench", models / "dense.tflite", "--runs", 1)
    done = device_cli("bench", models / "dense.tflite", "--runs", 1, "--json")

    assert (refused.returncode, refused.stdout) == (3, "")
    assert "this board is held by ada@laptop" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "lock").exists()


def test_many_at_once_never_hold_it_together(tmp_path: Path) -> None:
    """Six processes that try again and again: each finds itself alone every time, also while the file comes and goes."""
    code = """
import os, sys, time
from pathlib import Path
from edgekit_device.errors import BoardBusyError
from edgekit_device.lock import board_held
home, done = Path(sys.argv[1]), 0
while done < 15:
    try:
        with board_held("bench", home):
            os.close(os.open(home / "alone", os.O_CREAT | os.O_EXCL))
            time.sleep(0.0005)
            os.unlink(home / "alone")
            done += 1
    except BoardBusyError:
        time.sleep(0.0003)
"""
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(6)]
    until = time.monotonic() + 60

    assert [process.wait(timeout=max(1.0, until - time.monotonic())) for process in running] == [0] * 6
    assert list(tmp_path.iterdir()) == []
