"""``set_up`` on ARM boards: Debian's own Python in an emulated userland, wheels chosen, unpacked and run there for real."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgekit.devices.emulated import MARKER
from edgekit.devices.setup import set_up, setup_status, uninstall
from tests.conftest import ROOT
from tests.edgekit.this_machine import ThisMachine
from tests.tflite_builder import dense_model

pytestmark = pytest.mark.arm
HOME = ".edgekit-device"
QEMU = {"arm64": "qemu-aarch64-static", "armhf": "qemu-arm-static"}


def _board(folder: Path, architecture: str) -> ThisMachine:
    """A machine whose python3 is the userland's. A script stands for the program, and for its copies in environments: it
    starts qemu under its own name, by which Python finds its environment; the kernel need not know of qemu."""
    userland = Path(os.environ.get("EDGEKIT_ARM_FOLDER") or ROOT / ".arm") / architecture
    if not (userland / MARKER).is_file():
        pytest.skip(f"no {architecture} userland is built: scripts/arm-userland {architecture}")
    facts = json.loads((userland / MARKER).read_text())
    root, usr = userland / facts["root"], folder / "board" / "usr"
    for name in ("bin", "lib"):
        (usr / name).mkdir(parents=True)
    for name in ("python3.11", "python3"):
        (usr / "lib" / name).symlink_to(root / "usr" / "lib" / name)
    program = usr / "bin" / "python3.11"
    program.write_text(
        f'#!/bin/sh\nexec {QEMU[architecture]} -0 "$0" -cpu {facts["cpu"]} -L {root} {root}/usr/bin/python3.11 "$@"\n'
    )
    program.chmod(0o755)
    (usr / "bin" / "python3").symlink_to("python3.11")
    (folder / "home").mkdir()
    return ThisMachine(folder / "home", f"{usr / 'bin'}:{os.defpath}")


@pytest.mark.parametrize(
    ("architecture", "runtime", "wheels_for", "runtimes", "own_numpy"),
    [
        ("armhf", "auto", "armv7l", {"tflite": "2.14.0"}, False),
        ("arm64", "auto", "aarch64", {"litert": "2.3.0"}, True),
        ("arm64", "both", "aarch64", {"litert": "2.3.0", "tflite": "2.14.0"}, True),
    ],
)
def test_an_arm_board_is_set_up_and_measures(
    tmp_path: Path, architecture: str, runtime: str, wheels_for: str, runtimes: dict[str, str], own_numpy: bool
) -> None:
    """64 bits get LiteRT, 32 bits tflite-runtime over the numpy of apt; what was put there runs a model."""
    board = _board(tmp_path, architecture)

    record = set_up(board, HOME, runtime=runtime, python="python3")

    (board.home / "m.tflite").write_bytes(dense_model())
    run = [f"{HOME}/env/bin/python", "-I", "-m", "edgekit_device", "bench", "m.tflite", "--runs", "1", "--json"]
    done = board.execute(run, deadline_s=240, environment={"EDGEKIT_DEVICE_HOME": ""})
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert (record.architecture, record.runtimes, record.system_packages) == (wheels_for, runtimes, not own_numpy)
    assert any(name.startswith("numpy-") for name in record.wheels) == own_numpy
    assert report["runtime"]["version"] == next(iter(runtimes.values()))
    assert report["board"]["architecture"] == wheels_for
    assert setup_status(board, HOME) is not None
    assert uninstall(board, HOME)
    assert [path.name for path in board.home.iterdir()] == ["m.tflite"]


def test_32_bits_have_no_litert(tmp_path: Path) -> None:
    """It is told before anything is fetched, with what to ask for instead."""
    from edgekit.errors import DeviceError

    board = _board(tmp_path, "armhf")

    with pytest.raises(DeviceError, match=r"Python 3\.11 on armv7l .*Use --runtime tflite, or a 64-bit system"):
        set_up(board, HOME, runtime="litert", python="python3")
