"""The wheel of edgekit-device that a host sends to its boards."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgekit.devices import device_wheel
from edgekit.devices.device_wheel import device_version, write_device_wheel
from tests.conftest import build_wheels


def _content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_same_package_makes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the clock nor the place counts: a board is not set up again for nothing."""
    (tmp_path / "elsewhere").mkdir()
    first = write_device_wheel(tmp_path)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")

    second = write_device_wheel(tmp_path / "elsewhere")

    assert first.name == second.name == f"edgekit_device-{device_version()}-py3-none-any.whl"
    assert first.read_bytes() == second.read_bytes()


def test_it_holds_what_the_built_wheel_holds(root: Path, tmp_path: Path) -> None:
    """Every file hatch packs, byte for byte; WHEEL and RECORD name another maker and are compared by what they promise."""
    build_wheels(tmp_path, root / "device")
    built = _content(next(tmp_path.glob("*.whl")))
    (tmp_path / "ours").mkdir()

    ours = _content(write_device_wheel(tmp_path / "ours"))

    info = f"edgekit_device-{device_version()}.dist-info"
    made = {f"{info}/WHEEL", f"{info}/RECORD"}
    assert {name: text for name, text in ours.items() if name not in made and name != f"{info}/METADATA"} == {
        name: text for name, text in built.items() if name not in made and name != f"{info}/METADATA"
    }
    assert set(ours) == set(built)
    assert _named_in_record(ours[f"{info}/RECORD"]) == _named_in_record(built[f"{info}/RECORD"])
    assert b"Tag: py3-none-any" in ours[f"{info}/WHEEL"]


def _named_in_record(record: bytes) -> set[str]:
    return {line.split(",")[0] for line in record.decode().splitlines()}


def test_pip_installs_it_and_the_command_runs(tmp_path: Path) -> None:
    """RECORD, METADATA and the entry point are as installers expect them; without its dependencies it knows its version."""
    wheel = write_device_wheel(tmp_path)
    env = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(env)], check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(env / "bin" / "python"),
        "install",
        "-q",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    with open(env / "lib" / f"python3.{sys.version_info[1]}" / "site-packages" / "numpy.pth", "w") as file:
        import numpy as np

        file.write(str(Path(np.__file__).parent.parent))

    done = subprocess.run(
        [env / "bin" / "edgekit-device", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": ""},
    )

    assert done.stdout == f"edgekit-device {device_version()}\n"


def test_a_package_that_is_not_installed_gets_the_least_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run from its source it can be sent all the same."""
    monkeypatch.setattr(device_wheel, "PROJECT", "edgekit-device-that-nobody-has-installed")

    content = _content(write_device_wheel(tmp_path))

    metadata = content[f"edgekit_device-{device_version()}.dist-info/METADATA"].decode()
    assert f"Version: {device_version()}\n" in metadata
    assert "Requires-Dist: numpy>=1.23" in metadata
