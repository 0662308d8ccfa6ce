"""A device as the host sees it: give it a model, get a report, whatever lies between."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from edgekit_device import BenchmarkReport, ReportError
from edgekit_device.emulation import strip_times
from edgekit_device.report import clean_text

from ..errors import DeviceError, EdgekitError, UsageError
from ..store import file_sha256
from .opening import open_transport
from .request import BenchItem, BenchRequest
from .together import measure_together
from .transport import OUTPUT_CAP_BYTES, USAGE_EXIT, Completed, Transport

__all__ = ["Device", "open_device"]

LINE_CAP = 400


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
        request: BenchRequest,
        *,
        data: Path | None = None,
        outputs: Path | None = None,
        run: str = "",
        variant: str = "",
    ) -> BenchmarkReport:
        """Send ``model`` (and samples), run ``edgekit-device bench`` there and read its report.

        With ``outputs`` the device's outputs for the samples come back to that path. ``run`` and ``variant`` are written into
        the report, for the case that it comes home another way. Raises DeviceError when the
        process crashes, outlives the deadline, or answers no report of this very file; UsageError with the device's own
        words when it refuses the input.
        """
        arguments = ["bench", self.transport.put(model, model.name), "--json", *request.arguments]
        if data is not None:
            arguments += ["--data", self.transport.put(data, "samples.npz")]
        if outputs is not None:
            arguments += ["--outputs", "outputs.npz"]
        if run:
            arguments += [f"--run={run}", f"--variant={variant}"]
        deadline_s = request.deadline_for(1)
        completed = self.transport.run(arguments, deadline_s=deadline_s)
        self.check_ended_well(completed, model.name, deadline_s)
        report = self.read_report(completed.stdout, model)
        if outputs is not None:
            self.transport.get("outputs.npz", outputs)
        return report

    def bench_together(
        self, items: Sequence[BenchItem], request: BenchRequest, *, run: str = ""
    ) -> list[BenchmarkReport | EdgekitError]:
        """Measure models in turns, in one session of one command; each has its report, or the error it alone failed with.

        The outputs of those that were measured are at their paths. A single one is measured as ``bench`` does. Raises
        DeviceError when the device cannot be reached.
        """
        if len(items) == 1:
            only = items[0]
            try:
                return [
                    self.bench(only.model, request, data=only.data, outputs=only.outputs, run=run, variant=only.variant)
                ]
            except EdgekitError as error:
                return [error]
        return measure_together(self, items, request, run)

    def tune(self, model: Path, *, budget_s: float, deadline_s: float, options: Sequence[str] = ()) -> BenchmarkReport:
        """Let the device try every way to run ``model`` for about ``budget_s`` seconds; the report is measured with the best
        and lists all (``tuning``). ``options`` are further ones of ``edgekit-device tune``. Raises what ``bench`` raises."""
        arguments = ["tune", self.transport.put(model, model.name), "--json", "--budget", f"{budget_s:g}", *options]
        completed = self.transport.run(arguments, deadline_s=deadline_s)
        self.check_ended_well(completed, model.name, deadline_s)
        return self.read_report(completed.stdout, model)

    def predict(self, model: Path, inputs: Path, outputs: Path, request: BenchRequest) -> None:
        """Run ``model`` on the arrays of ``inputs`` (.npy, or .npz by signature name) there, with the runtime, delegate and
        threads of ``request``; ``outputs`` gets an .npz with ``output_0``, …. Raises what ``bench`` raises."""
        arguments = ["run", self.transport.put(model, model.name), "--input", self.transport.put(inputs, inputs.name)]
        arguments += ["--output", "predicted.npz", "--json", *request.runtime_arguments]
        completed = self.transport.run(arguments, deadline_s=request.deadline_s)
        self.check_ended_well(completed, model.name, request.deadline_s)
        self.transport.get("predicted.npz", outputs)

    def check_ended_well(self, completed: Completed, model: str, deadline_s: float) -> None:
        """Raise what a command that did not end well means, DeviceError or UsageError; ``model`` is for the message."""
        tail = _telling_line(completed.stderr)
        if completed.timed_out:
            raise DeviceError(
                f"{self.name} did not finish {model} within {deadline_s:g} s and was ended: it hangs, or needs a longer "
                "--deadline",
                output=completed.stderr,
            )
        if completed.flooded:
            raise DeviceError(
                f"{self.name} printed more than {OUTPUT_CAP_BYTES} bytes for {model} and was ended: expected one report",
                output=completed.stdout[:LINE_CAP],
            )
        if completed.exit_code == USAGE_EXIT:
            raise UsageError(f"{self.name} refuses {model}: {tail}")
        if completed.exit_code != 0:
            raise DeviceError(f"{self.name} {_how(completed.exit_code)} on {model}: {tail}", output=completed.stderr)

    def read_report(self, text: str, model: Path) -> BenchmarkReport:
        """The report on ``model`` that the device printed; raises DeviceError unless it is one."""
        try:
            report = BenchmarkReport.from_json(text.strip())
        except ReportError as error:
            raise DeviceError(f"{self.name} answered rubbish for {model.name}: {error}", output=text) from error
        expected = file_sha256(model)
        if report.model.sha256 != expected:
            raise DeviceError(
                f"{self.name} reports on another file than {model.name} (SHA-256 {report.model.sha256[:12] or 'not said'}, "
                f"expected {expected[:12]}): measure it again"
            )
        # An emulated board may run a device package that does not know it: its times are thrown away here as well.
        emulator = getattr(self.transport, "emulator", "") or report.board.emulator
        if emulator:
            return strip_times(report, emulator)
        if report.latency.median_ms is None or report.latency.median_ms < 0:
            raise DeviceError(f"{self.name} answered a report on {model.name} without a latency: measure it again")
        return report


def open_device(name: str = "local") -> Device:
    """The device called ``name``: ``local``, one that ``edgekit device add`` has named, or an address such as
    ``ssh://pi@raspberrypi.local``. Raises UsageError with the known ones, DeviceError when it cannot be reached."""
    return Device(open_transport(name))


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"failed (exit {exit_code})"
    try:
        return f"was killed ({signal.Signals(-exit_code).name})"
    except ValueError:
        return f"was killed (signal {-exit_code})"


def _telling_line(text: str) -> str:
    """The first line that names an error, else the last one; what a device prints is capped and stripped."""
    lines = [clean_text(line, LINE_CAP) for line in text.splitlines() if line.strip() and not line.startswith("INFO:")]
    telling = [line for line in lines if "error:" in line] or lines[-1:]
    if not telling:
        return "it said nothing"
    missing = "No module named" in telling[0] and "edgekit_device" in telling[0]
    hint = '. Install it there: pip install "edgekit-device[litert]"' if missing else ""
    return telling[0].removeprefix("edgekit-device: error: ") + hint
