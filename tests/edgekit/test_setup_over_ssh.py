"""A board from its address to a measurement: the commands a new user types, over a real sshd."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from edgekit.devices.wheel_sets import choose_wheels

from .board_wheels import this_target, write_wheels
from .sshd import needed_ssh, ssh_server

Cli = Callable[..., "CompletedProcess[str]"]


def test_a_board_is_added_set_up_measured_and_left_without_a_trace(
    root: Path, tmp_path: Path, edgekit_cli: Cli, device_python: Path, float_model: Path
) -> None:
    """Setup, a second one that does nothing, a report of the very file, removal; the board's home is empty again."""
    needed_ssh()
    (tmp_path / "wheels").mkdir()
    site = next((device_python.parent.parent / "lib").glob("python3*")) / "site-packages"
    write_wheels(tmp_path / "wheels", choose_wheels(this_target()), this_target(), site, runtime=True)
    shutil.copytree(
        root / "device" / "edgekit_device", tmp_path / "frozen" / "edgekit_device"
    )  # whoever edits it meanwhile
    with ssh_server(tmp_path / "sshd") as server:
        environment = {
            **server.environment,
            "EDGEKIT_HOME": str(tmp_path / "ours"),
            "PYTHONPATH": str(tmp_path / "frozen"),
        }

        def edgekit(*arguments: object) -> CompletedProcess[str]:
            return edgekit_cli(*arguments, env=environment)

        assert edgekit("device", "add", "pi4", server.address).returncode == 0
        setup = (
            "device",
            "setup",
            "pi4",
            "--wheels",
            tmp_path / "wheels",
            "--python",
            os.path.realpath(sys.executable),
        )
        first = edgekit(*setup, "--json")
        assert first.returncode == 0, first.stderr
        second = edgekit(*setup, "--json")
        measured = edgekit("bench", float_model, "--device", "pi4", "--runs", "3", "--json")
        assert measured.returncode == 0, measured.stderr
        waiting = list((server.home / ".edgekit-device" / "outbox").glob("*.json"))
        removed = edgekit("device", "remove", "pi4")

    assert (json.loads(first.stdout)["change"], json.loads(second.stdout)["change"]) == ("installed", "unchanged")
    assert waiting == []
    assert removed.returncode == 0, removed.stderr
    assert list(server.home.iterdir()) == []
