"""What SSH costs: seconds per variant once connected, and whether a latency measured through it is the same one.

Over a real sshd on loopback, in turn with the local transport and with ``benchmark_litert_model``: ratios within one run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from latency import MAKE, reference
from measuring import DEVICE_PYTHON, ROOT, heading, in_turn, row

sys.path.insert(0, str(ROOT))

from edgekit.devices import BenchRequest, Device, LocalTransport, RemoteTransport, SSHConnection
from edgekit.devices.address import SSHAddress, parse_address
from tests.edgekit.sshd import SSHServer, ssh_server


def over_ssh(server: SSHServer) -> Device:
    """A board behind ``server``, set up with this machine's device environment."""
    there = server.home / ".edgekit-device"
    there.mkdir()
    (there / "env").symlink_to(DEVICE_PYTHON.parent.parent)
    os.environ.update(server.environment)
    address = parse_address(server.address)
    assert isinstance(address, SSHAddress)
    return Device(RemoteTransport(SSHConnection(address, "board")))


def wall_s(device: Device, model: Path, request: BenchRequest) -> float:
    """Seconds of one variant: sent, measured, reported."""
    started = time.perf_counter()
    device.bench(model, request)
    return time.perf_counter() - started


def median_ms(device: Device, model: Path, runs: int) -> float:
    """The latency it reports."""
    median = device.bench(model, BenchRequest(runs=runs)).latency.median_ms
    assert median is not None
    return median


def show_overhead(board: Device, local: Device, models: Path, pairs: int) -> None:
    """Seconds per variant that SSH adds, for a small file and a large one."""
    heading("SSH: seconds per variant once connected, over those of the local transport")
    request = BenchRequest(runs=50, warmup=5)
    for name in ("tiny", "small", "large"):
        model = models / f"{name}.tflite"
        there, here, _ = in_turn(
            lambda m=model: wall_s(board, m, request), lambda m=model: wall_s(local, m, request), pairs
        )
        label = f"{name} model, {model.stat().st_size / 2**20:.1f} MB"
        row(label, f"+{there - here:.2f} s ({there:.2f} s against {here:.2f} s)", "≤ 0.5 s", there - here <= 0.5)


def show_latency(board: Device, local: Device, models: Path, pairs: int) -> None:
    """The median through SSH over that of the local device, and over that of the runtime's own tool."""
    heading("SSH: the median it reports")
    for name, runs in (("small", 1000), ("large", 300)):
        model = models / f"{name}.tflite"
        others = {
            "the local transport": lambda m=model, r=runs: median_ms(local, m, r),
            "benchmark_litert_model": lambda m=model, r=runs: reference(str(m), 1, r, str(models)),
        }
        for other, measure in others.items():
            a, b, ratio = in_turn(lambda m=model, r=runs: median_ms(board, m, r), measure, pairs)
            figures = f"{ratio:.3f}× ({a:.4g} ms against {b:.4g} ms)"
            row(f"{name} model, over {other}", figures, "0.97× to 1.03×", abs(ratio - 1) <= 0.03)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        subprocess.run([sys.executable, "-c", MAKE.format(folder=folder)], check=True, cwd=ROOT, capture_output=True)
        server = stack.enter_context(ssh_server(Path(folder, "server")))
        board = stack.enter_context(over_ssh(server))
        local = stack.enter_context(Device(LocalTransport(str(DEVICE_PYTHON))))
        show_overhead(board, local, Path(folder), pairs)
        show_latency(board, local, Path(folder), pairs)


if __name__ == "__main__":
    main()
