"""The state of a board, its heat, power and slowdown, from file trees and firmware that stand for boards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import edgekit_device.sensors as sensors
import pytest
from edgekit_device import conditions, energy
from edgekit_device.board import board_id
from edgekit_device.conditions import Watch, available_mb, remarks
from edgekit_device.energy import EnergyMeter, find_meter, measure_energy
from edgekit_device.report import ConditionsFacts
from edgekit_device.sustained import Heat, slowdown, sustain

Tree = Callable[[dict[str, str]], Path]
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Write files below a root, which is returned."""

    def write(files: dict[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return write


def process(pid: int, name: str, user: int, system: int = 0, children: int = 0) -> dict[str, str]:
    """A process with so many ticks (man 5 proc: 14 utime, 15 stime, 16 cutime, 17 cstime)."""
    return {f"proc/{pid}/stat": f"{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {user} {system} {children} 0 20 0 1"}


def cpu(number: int, **facts: str) -> dict[str, str]:
    """A core's cpufreq folder."""
    return {f"sys/devices/system/cpu/cpu{number}/cpufreq/{name}": value for name, value in facts.items()}


BOARD = {
    **cpu(0, scaling_governor="ondemand", scaling_cur_freq="600000", scaling_max_freq="1500000"),
    **cpu(1, scaling_governor="ondemand", scaling_cur_freq="1500000", scaling_max_freq="1500000"),
    "sys/class/thermal/thermal_zone0/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "71000\n",
    "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "48312\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50004\n",
    "proc/loadavg": "0.52 0.40 0.30 1/100 1234\n",
    "proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 2048000 kB\nSwapTotal: 102400 kB\nSwapFree: 51200 kB\n",
    "proc/stat": "cpu  1000 0 500 90000 10 0 0 0 700 0\ncpu0 1 2 3\n",
}


def test_every_condition_is_read(tree: Tree) -> None:
    """All cores, the processor's zone, flags of now and of before, load, memory and swap."""
    root = tree(BOARD)
    found = Watch(root).look()

    assert (found.governor, found.frequency_mhz, found.frequency_max_mhz) == ("ondemand", 1050.0, 1500.0)
    assert (found.temperature_c, found.load_1m) == (48.312, 0.52)
    assert (found.throttling, found.throttled_before) == ("throttled", "under-voltage, throttled")
    assert (found.memory_available_mb, found.swap_used_mb) == (2000.0, 50.0)
    assert available_mb(root) == 2000.0


def test_an_empty_board_has_no_conditions(tmp_path: Path) -> None:
    """Nothing is guessed."""
    assert Watch(tmp_path).look() == ConditionsFacts()
    assert available_mb(tmp_path) is None
    assert find_meter(tmp_path) is None
    assert remarks(ConditionsFacts(), ConditionsFacts()) == ()


def test_others_are_counted_apart_from_ourselves(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two seconds: 500 ticks busy, 200 of them ours (60 by a child that has ended since), of the others two are named."""
    now = [100.0]
    monkeypatch.setattr(conditions.time, "monotonic", lambda: now[0])
    own, child = os.getpid(), 999_999
    root = tree({
        **BOARD,
        **process(own, "edgekit", 50, children=0), **process(child, "worker", 40),
        **process(7, "chromium)\x1b[2J (x", 1000), **process(8, "sleepy", 30), **process(9, "apt", 0, 10),
    })  # fmt: skip
    watch = Watch(root, own=[child])
    now[0] += 2
    (root / f"proc/{child}/stat").unlink()
    tree({
        "proc/stat": "cpu  1400 0 600 90100 10 0 0 0 900 0\n",
        **process(own, "edgekit", 150, 40, children=100),  # 140 of its own, and the child's 40 + 60
        **process(7, "chromium)\x1b[2J (x", 1180, 20), **process(8, "sleepy", 31), **process(9, "apt", 60, 20),
    })  # fmt: skip
    found = watch.look()

    assert found.busy_others == pytest.approx((500 - 200) / (2 * TICKS))
    assert found.others == ("chromium) [2J (x", "apt")


@pytest.mark.parametrize(("seconds", "known"), [(0.1, False), (0.5, True)])
def test_an_instant_says_nothing_of_how_busy_others_were(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, seconds: float, known: bool
) -> None:
    """Ten ticks may hold another core's whole turn: two cores would seem four."""
    now = [100.0]
    monkeypatch.setattr(conditions.time, "monotonic", lambda: now[0])
    watch = Watch(tree({**BOARD, "proc/stat": "cpu 100 0 0 100 0 0 0 0 0 0\n"}))
    now[0] += seconds
    tree({"proc/stat": "cpu 140 0 0 100 0 0 0 0 0 0\n"})

    assert (watch.look().busy_others is not None) is known


@pytest.mark.parametrize("content", ["", "cpu\n", "cpu a b c d\n", "rubbish"])
def test_a_stat_that_cannot_be_read_says_nothing(tree: Tree, content: str) -> None:
    """Neither does a process whose line is cut."""
    root = tree({**BOARD, "proc/stat": content, "proc/5/stat": "5 (x) S 1"})
    found = Watch(root).look()

    assert (found.busy_others, found.others) == (None, ())


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        ([("acpitz", "20000"), ("x86_pkg_temp", "61000")], 61.0),
        ([("cpu-0-thermal", "50000"), ("cpu-1-thermal", "55000"), ("soc-thermal", "90000")], 55.0),
        ([("", "33000")], 33.0),
        ([("battery", "30000"), ("wifi", "44000")], 30.0),
        ([("cpu-thermal", "-274000"), ("soc-thermal", "41000")], 41.0),
        ([("cpu-thermal", "hot")], None),
    ],
)
def test_the_processor_s_zone_is_picked(tree: Tree, zones: list[tuple[str, str]], expected: float | None) -> None:
    """By its type, the hottest of several; the first where none is named; what is switched off does not count."""
    files = {}
    for number, (kind, temperature) in enumerate(zones):
        folder = f"sys/class/thermal/thermal_zone{number}"
        files |= {f"{folder}/temp": temperature, **({f"{folder}/type": kind} if kind else {})}

    assert sensors.cpu_temperature(tree(files)) == expected


def test_a_pc_counts_its_throttling(tree: Tree) -> None:
    """The kernel's counters are since boot; nobody tells of now. Cores of different governors are both named."""
    counter = "sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"
    root = tree({
        counter.format(0): "3", counter.format(1): "0",
        **cpu(0, scaling_governor="powersave"), **cpu(1, scaling_governor="performance"),
    })  # fmt: skip

    assert sensors.throttling(root) == ("", "throttled by heat 3 times")
    assert sensors.governor(root) == "performance, powersave"
    tree({counter.format(0): "0"})
    assert sensors.throttling(root) == ("", "none")


VCGENCMD = """#!/bin/sh
case "$1" in
get_throttled) {throttled};;
pmic_read_adc) cat {pmic};;
esac
"""


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a vcgencmd on the path that answers so."""

    def install(throttled: str, pmic: str = "") -> None:
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "pmic").write_text(pmic)
        program = tmp_path / "bin" / "vcgencmd"
        program.write_text(VCGENCMD.format(throttled=throttled, pmic=tmp_path / "pmic"))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    return install


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("echo throttled=0x50005", ("under-voltage, throttled", "under-voltage, throttled")),
        ("echo throttled=0x20002", ("frequency capped", "frequency capped")),
        ("echo throttled=0x80000", ("none", "soft temperature limit")),
        ("echo throttled=0x0", ("none", "none")),
        ("echo error=1", ("", "")),
        ("echo VCHI initialization failed", ("", "")),
        ("exit 255", ("", "")),
        ("exec sleep 60", ("", "")),
    ],
)
def test_the_firmware_is_asked_where_sysfs_says_nothing(
    firmware: Callable[..., None], monkeypatch: pytest.MonkeyPatch, answer: str, expected: tuple[str, str]
) -> None:
    """A vcgencmd that fails, hangs or talks nonsense is no answer."""
    monkeypatch.setattr(sensors, "ANSWER_WITHIN_S", 0.5)
    firmware(answer)

    assert sensors.throttling(Path("/")) == expected


def test_a_made_up_tree_does_not_ask_this_board(firmware: Callable[..., None], tree: Tree) -> None:
    """The firmware belongs to the machine the process runs on."""
    firmware("echo throttled=0x5")

    assert sensors.throttling(tree({})) == ("", "")


def test_what_was_wrong_is_said_in_words() -> None:
    """One sentence for each; figures in units."""
    before = ConditionsFacts("ondemand", 1500.0, 1500.0, 50.0, "none", "none", swap_used_mb=10.0)
    after = ConditionsFacts(
        "ondemand",
        900.0,
        1500.0,
        85.0,
        "none",
        "throttled",
        busy_others=1.31,
        others=("chromium", "apt"),
        swap_used_mb=74.0,
    )

    assert remarks(before, after) == (
        "the frequency governor is ondemand, not performance: the processor's pace depends on its load",
        "the processor was slowed down during the runs: throttled",
        "other processes kept 1.3 cores busy (chromium, apt)",
        "memory ran short: 64 MiB more were swapped out during the runs",
        "the frequency dropped by 40% during the runs, from 1500 to 900 MHz",
    )
    throttled = ConditionsFacts("performance", throttling="under-voltage", throttled_before="under-voltage")
    assert remarks(throttled, throttled) == ("the processor is slowed down: under-voltage",)
    quiet = ConditionsFacts("performance", 1500.0, 1500.0, 50.0, "none", "throttled", 0.1, 0.05, ("x",), 500.0, 0.0)
    assert remarks(quiet, quiet) == ()


@pytest.mark.parametrize(
    ("content", "there"),
    [("0123456789abcdef0123456789abcdef\n", True), ("uninitialized\n", False), ("", False), ("0" * 31 + "g", False)],
)
def test_a_board_has_a_number_of_its_own(tree: Tree, content: str, there: bool) -> None:
    """It is not the machine id, and does not hold it; no machine id, no number."""
    found = board_id(tree({"etc/machine-id": content}))

    assert bool(found) == there
    assert not there or (
        len(found) == 32 and content.strip() not in found and found != board_id(tree({"etc/machine-id": "f" * 32}))
    )


# -- sustained --------------------------------------------------------------------------------------------------


class HotBoard:
    """An invoke of 10 ms on a board that slows to half its pace after a minute, and a clock that sees it."""

    now = 0

    def invoke(self) -> None:
        """Let time pass."""
        self.now += 10_000_000 * (1 if self.now < 60e9 else 2)

    def heat(self) -> Heat:
        """Hotter by the minute."""
        return 40 + self.now / 6e9, (1500.0 if self.now < 60e9 else 750.0), ("none" if self.now < 90e9 else "throttled")


def test_a_board_that_gets_hot_shows_it_as_a_curve() -> None:
    """180 s: 120 slices, the last minute against the first, flags, and one temperature and frequency for each slice."""
    board = HotBoard()
    found = sustain(board.invoke, 180.0, lambda: board.now, board.heat)

    assert len(found.times_s) == len(found.medians_ms) == len(found.temperatures_c) == len(found.frequencies_mhz) == 120
    assert found.duration_s == pytest.approx(180, abs=0.1)
    assert (found.slowdown, found.throttling) == (2.0, "throttled")
    assert found.medians_ms[0] == 10.0
    assert found.medians_ms[-1] == 20.0
    assert found.temperatures_c[-1] == pytest.approx(70, abs=0.1)


def test_slow_inferences_make_fewer_slices() -> None:
    """One inference at least in each; a sensor that fails once gives no curve that is shifted."""
    board = HotBoard()
    answers: list[Heat] = [(None if number == 3 else 50.0, None, "") for number in range(200)]
    found = sustain(board.invoke, 0.5, lambda: board.now, lambda: answers.pop(0))

    assert len(found.times_s) == 50
    assert (found.temperatures_c, found.frequencies_mhz, found.throttling, found.slowdown) == ((), (), "", 1.0)


def test_a_slowdown_needs_a_curve() -> None:
    """Below four slices nothing is said; of a short one the ends are compared."""
    assert slowdown([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]) is None
    assert slowdown([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 3.0]) == 3.0
    assert slowdown([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 1.0, 3.0]) is None


# -- energy -----------------------------------------------------------------------------------------------------

PMIC = """     3V7_WL_SW_A current(0)=0.10000000A
   VDD_CORE_A current(7)=2.00000000A
     3V7_WL_SW_V volt(8)=3.70000000V
   VDD_CORE_V volt(15)=0.75000000V
      EXT5V_V volt(24)=5.14000000V
"""


def test_a_power_monitor_is_read_in_watts(tree: Tree) -> None:
    """hwmon gives microwatts; one without power1_input is passed over."""
    meter = find_meter(tree({"sys/class/hwmon/hwmon0/name": "cpu_thermal", "sys/class/hwmon/hwmon1/name": "ina226",
                             "sys/class/hwmon/hwmon1/power1_input": "4250000"}))  # fmt: skip
    assert meter is not None
    assert meter.watts is not None

    assert (meter.source, meter.watts()) == ("hwmon ina226", 4.25)


def test_a_raspberry_pi_5_sums_its_rails(firmware: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Amperes times volts of the rails that have both: 0.37 W and 1.5 W; the 5 V input has no current."""
    firmware("echo throttled=0x0", PMIC)
    monkeypatch.setattr(energy, "_hwmon", lambda _: None)
    meter = energy._pmic(Path("/"))
    assert meter is not None
    assert meter.watts is not None

    assert meter.watts() == pytest.approx(1.87)
    firmware("echo throttled=0x0", 'error=1 error_msg="Command not registered"\n')
    assert energy._pmic(Path("/")) is None


def test_a_package_s_counter_wraps(tree: Tree) -> None:
    """RAPL counts microjoules up to a limit and starts again."""
    folder = "sys/class/powercap/intel-rapl:0"
    root = tree({f"{folder}/name": "package-0", f"{folder}/energy_uj": "900000", f"{folder}/max_energy_range_uj": "1000000",
                 "sys/class/powercap/intel-rapl:0:0/name": "core"})  # fmt: skip
    meter = find_meter(root)
    assert meter is not None

    def work() -> None:
        time.sleep(0.1)
        tree({f"{folder}/energy_uj": "100000"})

    power, elapsed = meter.mean_power(work)
    assert meter.source == "rapl package-0"
    assert power == pytest.approx(0.2 / elapsed)


@pytest.mark.parametrize(
    ("files", "watts"),
    [
        ({"status": "Discharging", "power_now": "9500000"}, 9.5),
        ({"status": "Discharging", "voltage_now": "12000000", "current_now": "-500000"}, 6.0),
        ({"status": "Discharging", "voltage_now": "12000000"}, None),
        ({"status": "Charging", "power_now": "9500000"}, None),
    ],
)
def test_a_battery_tells_while_it_is_used(tree: Tree, files: dict[str, str], watts: float | None) -> None:
    """Power, or voltage times current; on the mains it says nothing of the board."""
    folder = "sys/class/power_supply/BAT0"
    root = tree({f"{folder}/type": "Battery", **{f"{folder}/{name}": value for name, value in files.items()},
                 "sys/class/power_supply/AC/type": "Mains"})  # fmt: skip
    meter = find_meter(root)

    assert (meter is None) == (watts is None)
    assert meter is None or (meter.watts is not None and meter.watts() == pytest.approx(watts))


def test_an_inference_costs_what_is_drawn_above_idle() -> None:
    """5 W against 3 W idle, for inferences of about 10 ms: 20 mJ; no cost is said where running draws no more."""
    idle = EnergyMeter("made up", watts=lambda: 3.0).idle(0.1)
    meter = EnergyMeter("made up", watts=lambda: 5.0)
    calls: list[float] = []

    def invoke() -> None:
        time.sleep(0.01)
        calls.append(time.monotonic())

    started = time.monotonic()
    found = measure_energy(meter, invoke, idle, 0.3)
    expected = 2.0 * (calls[-1] - started) / len(calls) * 1e3

    assert (found.source, found.idle_w, found.power_w) == ("made up", 3.0, 5.0)
    assert found.per_inference_mj == pytest.approx(expected, rel=0.2)
    assert measure_energy(meter, lambda: time.sleep(0.05), 6.0, 0.1).per_inference_mj is None
    assert measure_energy(EnergyMeter("broken", watts=lambda: None), lambda: None, 3.0, 0.1).power_w is None
