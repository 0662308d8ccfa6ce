"""The board's facts, from file trees that stand for boards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from edgekit_device.board import peak_rss_mb, read_board

RASPBERRY = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\n\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
    "proc/meminfo": "MemTotal:        3883384 kB\nMemFree: 1 kB\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
}


def _tree(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_a_raspberry_pi(tmp_path: Path) -> None:
    """Model, CPU, governor, frequency, temperature, memory, and what the firmware's throttle word says of now."""
    board = read_board(_tree(tmp_path, dict(RASPBERRY)))

    assert board.model == "Raspberry Pi 4 Model B Rev 1.4"
    assert board.cpu == "Raspberry Pi 4 Model B Rev 1.4"
    assert (board.governor, board.frequency_mhz, board.temperature_c) == ("ondemand", 1500.0, 48.312)
    assert board.throttling == "under-voltage, throttled"
    assert board.memory_mb == 3883384 / 1024
    assert board.cores == os.cpu_count()


@pytest.mark.parametrize(
    ("word", "meaning"),
    [("0", "none"), ("0x0", "none"), ("f", "under-voltage, frequency capped, throttled, soft temperature limit"),
     ("50000", "none"), ("8", "soft temperature limit"), ("rubbish", ""), ("", "")],
)  # fmt: skip
def test_the_throttle_word(tmp_path: Path, word: str, meaning: str) -> None:
    """Bits 0 to 3 are now; 16 and up are since boot and say nothing of this run."""
    board = read_board(_tree(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": word}))

    assert board.throttling == meaning


def test_a_pc(tmp_path: Path) -> None:
    """Where there is no device tree the firmware's product name counts."""
    files = {
        "sys/class/dmi/id/product_name": "NUC\n",
        "proc/cpuinfo": "model name\t: Intel(R) N100\nmodel name\t: other\n",
    }
    board = read_board(_tree(tmp_path, files))

    assert (board.model, board.cpu, board.governor, board.throttling) == ("NUC", "Intel(R) N100", "", "")


def test_an_empty_tree_has_no_facts(tmp_path: Path) -> None:
    """Nothing is guessed: what is not told stays absent."""
    board = read_board(tmp_path)

    assert (board.model, board.cpu, board.governor, board.throttling) == ("", "", "", "")
    assert board.frequency_mhz is board.temperature_c is board.memory_mb is None


def test_damaged_files_are_absent_facts(tmp_path: Path) -> None:
    """Text where numbers were expected, NaN, control characters and bytes that are no UTF-8 do no harm."""
    files = {
        "proc/device-tree/model": b"Pi \xff\x1b[2J\0",
        "proc/meminfo": "MemTotal: lots\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "fast",
        "sys/class/thermal/thermal_zone0/temp": "nan",
    }
    board = read_board(_tree(tmp_path, files))

    assert board.model == "Pi \N{REPLACEMENT CHARACTER} [2J"
    assert board.frequency_mhz is board.temperature_c is board.memory_mb is None


def test_peak_rss_sees_what_this_process_held() -> None:
    """128 MiB that were touched and freed again are in the peak."""
    before = peak_rss_mb()
    block = bytearray(b"x") * (128 * 1024 * 1024)
    del block
    after = peak_rss_mb()

    assert before is not None
    assert after is not None
    assert after >= 128
    assert after >= before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the carried-over peak is Linux's")
def test_peak_rss_is_not_the_parents() -> None:
    """A small process started by one that held 256 MiB reports its own peak: ru_maxrss would report the parent's."""
    child = "from edgekit_device.board import peak_rss_mb; print(peak_rss_mb())"
    parent = (
        "import subprocess, sys; block = bytearray(b'x') * (256 * 1024 * 1024);"
        f"print(subprocess.run([sys.executable, '-c', {child!r}], capture_output=True, text=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)

    assert 5 < float(done.stdout) < 200


def test_peak_rss_is_absent_where_nobody_tells(tmp_path: Path) -> None:
    """Without /proc Linux gives no figure that could be trusted."""
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t   2048 kB\n")

    assert peak_rss_mb(str(status)) == 2.0
    if sys.platform.startswith("linux"):
        assert peak_rss_mb(str(tmp_path / "absent")) is None
