"""What one report measured, as titled figures: the latency, the way it ran, the board, power, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgekit_device.report import BenchmarkReport

from ..records import ComparedVariant
from . import figures
from .conditions import moments
from .summary import plain

__all__ = [
    "board_facts",
    "cold_facts",
    "energy_facts",
    "operator_rows",
    "runtime_facts",
    "steady_facts",
    "sustained_facts",
    "texts",
    "trial_rows",
]

Facts = Iterator[tuple[str, str]]
OPERATORS_SHOWN = 10
TRIALS_SHOWN = 12


def cold_facts(report: BenchmarkReport) -> Facts:
    """The way to the first answer, apart from the steady state."""
    latency = report.latency
    named = {
        "import the runtime": latency.import_ms,
        "load and prepare": latency.init_ms,
        "first inference": latency.first_ms,
    }
    known = {name: value for name, value in named.items() if value is not None}
    yield from ((name, figures.milliseconds(value)) for name, value in known.items())
    if len(known) > 1:
        yield "all together", figures.milliseconds(sum(known.values()))
    if latency.warmup_mean_ms is not None:
        settled = {True: ", settled", False: ", never settled", None: ""}[latency.warmup_stable]
        warmup = f"{figures.milliseconds(latency.warmup_mean_ms)} over {figures.count(latency.warmup_count)}{settled}"
        yield "warm-up mean", warmup


def steady_facts(report: BenchmarkReport, line: ComparedVariant) -> Facts:
    """One inference after the other; emulated ones have no times."""
    latency = report.latency
    if report.board.emulator:
        yield "emulated", f"by {plain(report.board.emulator)}: no latency"
        return
    ended = {"narrow": ", until narrow enough", "budget": ", until the time was spent"}.get(latency.stop, "")
    yield "inferences", figures.count(latency.count) + ended
    yield from _known({"median": latency.median_ms})
    if line.median_low_ms is not None and line.median_high_ms is not None:
        yield "95 % interval of it", figures.milliseconds_between(line.median_low_ms, line.median_high_ms)
    if line.verdict:
        yield "verdict", f"{plain(line.verdict)}: {plain(line.verdict_reason, 400)}"
    if report.session.noise_floor is not None:
        yield "against itself", f"within {figures.percent(report.session.noise_floor)}"
    if report.session.variants > 1:
        yield (
            "measured",
            f"in turns with {report.session.variants - 1} more, {len(report.session.block_medians_ms)} rounds",
        )
    yield from _known(
        {
            "mean": latency.mean_ms,
            "standard deviation": latency.std_ms,
            "min": latency.min_ms,
            "5 % under": latency.p5_ms,
            "90 % under": latency.p90_ms,
            "95 % under": latency.p95_ms,
            "99 % under": latency.p99_ms,
            "max": latency.max_ms,
        }
    )


def sustained_facts(report: BenchmarkReport) -> Facts:
    """What minutes without a pause did to it."""
    facts = report.sustained
    if facts.duration_s is None:
        return
    yield "without a pause", figures.seconds(facts.duration_s)
    if facts.slowdown is not None:
        yield "its end", f"{figures.slowdown(facts.slowdown)} against its beginning"
    yield from texts({"throttling": facts.throttling})


def energy_facts(report: BenchmarkReport) -> Facts:
    """What the board's own sensor says of the power drawn."""
    energy = report.energy
    named = {
        "idle": (energy.idle_w, figures.watts),
        "at work": (energy.power_w, figures.watts),
        "one inference": (energy.per_inference_mj, figures.millijoules),
    }
    found = [(name, shown(value)) for name, (value, shown) in named.items() if value is not None]
    yield from found
    if found:
        yield from texts({"told by": energy.source})


def runtime_facts(report: BenchmarkReport) -> Facts:
    """What ran it, and what that took."""
    runtime = report.runtime
    yield from texts(
        {
            "runtime": f"{plain(runtime.name)} {plain(runtime.version)}".strip(),
            "delegate": runtime.delegate or "none",
            "its library": runtime.delegate_library,
            "its options": runtime.delegate_options,
            "threads": str(runtime.threads),
        }
    )
    if report.memory.peak_rss_mb is not None:
        yield "peak RSS", figures.mebibytes(report.memory.peak_rss_mb)
    if report.accuracy.accuracy is not None:
        checked = figures.count(report.accuracy.count)
        yield "accuracy on the device", f"{figures.percent(report.accuracy.accuracy)} of {checked} samples"


def board_facts(report: BenchmarkReport) -> Facts:
    """Which machine it was; its state where nothing tells that of before and after."""
    board = report.board
    state = {
        "governor": board.governor,
        "frequency": figures.megahertz(board.frequency_mhz) if board.frequency_mhz is not None else "",
        "temperature": figures.celsius(board.temperature_c) if board.temperature_c is not None else "",
        "throttling": board.throttling,
    }
    yield from texts(
        {
            "board": board.model,
            "processor": board.cpu,
            "emulated by": board.emulator,
            "architecture": board.architecture,
            "cores": str(board.cores) if board.cores else "",
            **({} if moments(report) else state),
            "memory": figures.mebibytes(board.memory_mb) if board.memory_mb is not None else "",
            "system": board.system,
            "python": board.python,
            "numpy": board.numpy,
            "measured": report.created,
        }
    )


def trial_rows(report: BenchmarkReport) -> tuple[tuple[str, ...], ...]:
    """The ways to run it that were tried: runtime, delegate, threads, and the median or why there is none."""
    return tuple(
        (
            plain(f"{trial.runtime} {trial.version}".strip()),
            plain(trial.delegate or "none"),
            str(trial.threads),
            plain(trial.error, 120) if trial.median_ms is None else figures.milliseconds(trial.median_ms),
        )
        for trial in report.tuning.trials[:TRIALS_SHOWN]
    )


def operator_rows(report: BenchmarkReport) -> tuple[tuple[str, ...], ...]:
    """The operators that take longest: their place and type, the tensor they make, their time and their share."""
    slowest = sorted(report.profile.operators, key=lambda operator: -(operator.mean_ms or 0.0))[:OPERATORS_SHOWN]
    return tuple(
        (
            plain(operator.type, 40) if operator.index < 0 else f"{operator.index} {plain(operator.type, 40)}",
            plain(operator.name, 60),
            figures.milliseconds(operator.mean_ms),
            figures.percent(operator.share),
        )
        for operator in slowest
    )


def texts(named: Mapping[str, str]) -> Facts:
    """Those of ``named`` that say anything, without control characters."""
    return ((name, plain(text, 200)) for name, text in named.items() if text)


def _known(named: Mapping[str, float | None]) -> Facts:
    return ((name, figures.milliseconds(value)) for name, value in named.items() if value is not None)
