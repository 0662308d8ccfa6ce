"""A device as the host sees it: give it a model, get a report, whatever lies between."""

from __future__ import annotations

import signal
from pathlib import Path
from types import TracebackType

from edgekit_device import BenchmarkReport, ReportError
from edgekit_device.report import clean_text

from ..errors import DeviceError, UsageError, suggest
from .local import LocalTransport
from .transport import Completed, Transport

__all__ = ["DEVICES", "Device", "open_device"]

DEVICES = ("local",)
DEADLINE_S = 900.0
USAGE_EXIT = 2


class Device:
    """A reachable device; a context manager that leaves nothing behind on it."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.transport.name

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.transport.close()

    def bench(
        self,
        model: Path,
        *,
        threads: int = 1,
        runtime: str = "auto",
        runs: int | None = None,
        warmup: int | None = None,
        data: Path | None = None,
        outputs: Path | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> BenchmarkReport:
        """Send ``model`` (and samples), run ``edgekit-device bench`` there and read its report.

        With ``outputs`` the device's outputs for the samples come back to that path. Raises DeviceError when the
        process crashes, outlives the deadline, or answers no report; UsageError with the device's own words when it
        refuses the input.
        """
        arguments = ["bench", self.transport.put(model, model.name), "--json"]
        arguments += ["--threads", str(threads), "--runtime", runtime]
        arguments += ["--runs", str(runs)] if runs is not None else []
        arguments += ["--warmup", str(warmup)] if warmup is not None else []
        if data is not None:
            arguments += ["--data", self.transport.put(data, "samples.npz")]
        if outputs is not None:
            arguments += ["--outputs", "outputs.npz"]
        completed = self.transport.run(arguments, deadline_s=deadline_s)
        report = self._report(completed, model.name, deadline_s)
        if outputs is not None:
            self.transport.get("outputs.npz", outputs)
        return report

    def _report(self, completed: Completed, model: str, deadline_s: float) -> BenchmarkReport:
        tail = _last_line(completed.stderr)
        if completed.timed_out:
            raise DeviceError(
                f"{self.name} did not finish {model} within {deadline_s:g} s and was ended: it hangs, or needs a longer "
                "--deadline",
                output=completed.stderr,
            )
        if completed.exit_code == USAGE_EXIT:
            raise UsageError(f"{self.name} refuses {model}: {tail}")
        if completed.exit_code != 0:
            raise DeviceError(f"{self.name} {_how(completed.exit_code)} on {model}: {tail}", output=completed.stderr)
        try:
            return BenchmarkReport.from_json(completed.stdout.strip())
        except ReportError as error:
            raise DeviceError(f"{self.name} answered rubbish for {model}: {error}", output=completed.stdout) from error


def open_device(name: str = "local") -> Device:
    """The device called ``name``; raises UsageError with the known ones."""
    if name not in DEVICES:
        raise UsageError(f"unknown device {name!r}{suggest(name, DEVICES)}")
    return Device(LocalTransport())


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"failed (exit {exit_code})"
    try:
        return f"was killed ({signal.Signals(-exit_code).name})"
    except ValueError:
        return f"was killed (signal {-exit_code})"


def _last_line(text: str) -> str:
    lines = [clean_text(line, 400) for line in text.splitlines() if line.strip() and not line.startswith("INFO:")]
    telling = [line for line in lines if "error:" in line] or lines[-1:]
    return telling[0].removeprefix("edgekit-device: error: ") if telling else "it said nothing"
