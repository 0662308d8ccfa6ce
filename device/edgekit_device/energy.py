"""What the board draws, where it has a sensor that says so: idle, while a model runs, and per inference.

A sensor measures the whole board, or what its maker put behind it: a difference between idle and running is what the
inference costs. None of these was available to whoever wrote this; the tests read made-up trees.
"""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from .report import EnergyFacts
from .sensors import ask_firmware, read_number, read_text
from .timing import Invoke

__all__ = ["EnergyMeter", "find_meter", "measure_energy"]

IDLE_S = 0.5
RUNNING_S = 1.0
LEAST_RUNS = 3
EVERY_S = 0.05
# A Raspberry Pi 5: "VDD_CORE_A current(7)=1.96960000A" beside "VDD_CORE_V volt(15)=0.75010000V", one pair for each rail.
RAIL = re.compile(r"^\s*(\w+)_([AV])\s+\w+\(\d+\)=([0-9.]+)[AV]\s*$", re.MULTILINE)


@dataclass(frozen=True)
class EnergyMeter:
    """A sensor: ``watts`` now, or ``joules`` since some moment (None where it does not answer)."""

    source: str
    watts: Optional[Callable[[], Optional[float]]] = None
    joules: Optional[Callable[[], Optional[float]]] = None
    wraps_at_j: float = 0.0

    def idle(self, seconds: float = IDLE_S) -> Optional[float]:
        """Mean power while this process sleeps."""
        return self.mean_power(lambda: time.sleep(seconds))[0]

    def mean_power(self, action: Callable[[], object]) -> tuple[Optional[float], float]:
        """Mean watts while ``action`` runs, None where the sensor fails, and how many seconds that took."""
        readings: list[Optional[float]] = []
        over = threading.Event()
        reader = threading.Thread(target=self._read_now_and_then, args=(readings, over), daemon=True)
        before, started = self.joules and self.joules(), time.monotonic()
        if self.watts is not None:
            reader.start()
        try:
            action()
        finally:
            elapsed = time.monotonic() - started
            over.set()
            if self.watts is not None:
                reader.join()
        after = self.joules and self.joules()
        if before is not None and after is not None and elapsed > 0:
            return (after - before + (self.wraps_at_j if after < before else 0.0)) / elapsed, elapsed
        known = [reading for reading in readings if reading is not None]
        return (statistics.fmean(known) if known else None), elapsed

    def _read_now_and_then(self, readings: list[Optional[float]], over: threading.Event) -> None:
        while not over.wait(EVERY_S):
            readings.append(self.watts and self.watts())


def find_meter(root: Union[str, Path] = "/") -> Optional[EnergyMeter]:
    """The board's sensor that sees most of it: a power monitor, a Raspberry Pi 5's regulators, RAPL, a battery in use.

    None where there is none that answers.
    """
    base = Path(root)
    for find in (_hwmon, _pmic, _rapl, _battery):
        meter = find(base)
        if meter is not None:
            return meter
    return None


def measure_energy(
    meter: EnergyMeter, invoke: Invoke, idle_w: Optional[float], seconds: float = RUNNING_S
) -> EnergyFacts:
    """Run for about ``seconds``, three inferences at least; what is drawn above idle, shared among them, is one's energy.

    It stays absent where running draws no more than idling.
    """
    count = 0

    def run() -> None:
        nonlocal count
        until = time.monotonic() + seconds
        while count < LEAST_RUNS or time.monotonic() < until:
            invoke()
            count += 1

    power, elapsed = meter.mean_power(run)
    above = None if power is None or idle_w is None else power - idle_w
    return EnergyFacts(
        source=meter.source,
        idle_w=idle_w,
        power_w=power,
        per_inference_mj=1e3 * above * elapsed / count if above is not None and above > 0 else None,
    )


def _hwmon(base: Path) -> Optional[EnergyMeter]:
    """A power monitor such as the INA2xx (Documentation/hwmon/ina2xx.rst): ``power1_input`` in microwatts."""
    for folder in sorted((base / "sys/class/hwmon").glob("hwmon*")):
        node = folder / "power1_input"
        if read_number(node) is not None:
            return EnergyMeter(f"hwmon {read_text(folder / 'name') or folder.name}", watts=_scaled(node, 1e-6))
    return None


def _pmic(base: Path) -> Optional[EnergyMeter]:
    """A Raspberry Pi 5's power management: the sum over its rails, without what losses and USB devices draw."""

    def watts() -> Optional[float]:
        amperes: dict[str, float] = {}
        volts: dict[str, float] = {}
        for rail, unit, value in RAIL.findall(ask_firmware(base, "pmic_read_adc")):
            (amperes if unit == "A" else volts)[rail] = float(value)
        both = amperes.keys() & volts.keys()
        return sum(amperes[rail] * volts[rail] for rail in both) if both else None

    return EnergyMeter("raspberry pi pmic", watts=watts) if watts() is not None else None


def _rapl(base: Path) -> Optional[EnergyMeter]:
    """An x86 package's counter (Documentation/power/powercap): microjoules, which only root may read on most systems."""
    for folder in sorted((base / "sys/class/powercap").glob("intel-rapl:*")):
        if read_text(folder / "name").startswith("package") and read_number(folder / "energy_uj") is not None:
            wraps = (read_number(folder / "max_energy_range_uj") or 0.0) / 1e6
            source = f"rapl {read_text(folder / 'name')}"
            return EnergyMeter(source, joules=_scaled(folder / "energy_uj", 1e-6), wraps_at_j=wraps)
    return None


def _battery(base: Path) -> Optional[EnergyMeter]:
    """A battery that is being used (Documentation/power/power_supply_class.rst): one on the mains tells nothing."""
    for folder in sorted((base / "sys/class/power_supply").glob("*")):
        if read_text(folder / "type") != "Battery" or read_text(folder / "status") != "Discharging":
            continue
        source = f"battery {folder.name}"
        if read_number(folder / "power_now") is not None:
            return EnergyMeter(source, watts=_scaled(folder / "power_now", 1e-6))
        nodes = folder / "voltage_now", folder / "current_now"
        if None not in [read_number(node) for node in nodes]:
            return EnergyMeter(source, watts=lambda nodes=nodes: _product(nodes))  # type: ignore[misc]
    return None


def _scaled(node: Path, factor: float) -> Callable[[], Optional[float]]:
    def read() -> Optional[float]:
        value = read_number(node)
        return None if value is None else value * factor

    return read


def _product(nodes: Sequence[Path]) -> Optional[float]:
    """Microvolts times microamperes, as watts; some kernels give a discharging current a minus."""
    volts, amperes = (read_number(node) for node in nodes)
    return None if volts is None or amperes is None else abs(volts * amperes) * 1e-12
