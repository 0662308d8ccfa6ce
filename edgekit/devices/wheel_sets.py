"""Which wheels a board gets: a table of what PyPI has for boards, and the choice from it.

Every version is exact, what a runtime requires included: two boards set up by one edgekit run the same code, and their
reports can be compared. What decides the rows (read from the index, November 2026):

- ai-edge-litert has wheels for 64-bit ARM and x86 alone; 2.3.0 for Python 3.10 to 3.14, the last for 3.9 is 2.1.0.
- tflite-runtime ended with 2.14.0: Python 3.9 to 3.11, built against numpy 1; on ARM it needs glibc 2.34, 2.13.0 does not.
- numpy: the newest that has wheels for all Pythons of a row, and the one edgekit's own tests run with where it can be.
  There is none for 32-bit ARM: the board's own package (python3-numpy) serves, or a wheel in a folder.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DeviceError, UsageError, suggest
from .wheel_tags import Target, normalized

__all__ = ["ARCHITECTURES", "SETUP_RUNTIMES", "WHEEL_SETS", "WheelSet", "choose_wheels"]

ARCHITECTURES = ("aarch64", "armv7l", "x86_64")
SETUP_RUNTIMES = ("auto", "litert", "tflite", "both")
ARM = ("aarch64", "armv7l")
LITERT_NEEDS = ("flatbuffers==25.12.19", "tqdm==4.70.1", "typing_extensions==4.16.0")
LITERT = ("ai-edge-litert==2.3.0", "protobuf==7.36.2", *LITERT_NEEDS)
NUMPY_1 = "numpy==1.26.4"  # the last that tflite-runtime's extension modules can be loaded with


@dataclass(frozen=True)
class WheelSet:
    """Wheels that work together: for CPython ``pythons`` (lowest and highest minor of 3.x) on ``architectures`` with at
    least ``glibc``. ``requirements`` are exact; ``runtimes`` are the names edgekit-device gives what it finds."""

    runtimes: tuple[str, ...]
    pythons: tuple[int, int]
    architectures: tuple[str, ...]
    glibc: tuple[int, int]
    requirements: tuple[str, ...]

    @property
    def name(self) -> str:
        """What a user asks for: one of SETUP_RUNTIMES."""
        return self.runtimes[0] if len(self.runtimes) == 1 else "both"

    def fits(self, target: Target) -> bool:
        """Whether its wheels can be used on ``target``."""
        low, high = self.pythons
        return (
            target.python[0] == 3
            and low <= target.python[1] <= high
            and target.architecture in self.architectures
            and target.glibc >= self.glibc
        )

    def pinned(self, target: Target) -> tuple[str, ...]:
        """The requirements an index has wheels of for ``target``."""
        return tuple(item for item in self.requirements if item not in self.from_board(target))

    def from_board(self, target: Target) -> tuple[str, ...]:
        """The requirements the board's own packages must meet."""
        numpy = tuple(item for item in self.requirements if normalized(item.split("==")[0]) == "numpy")
        return numpy if target.architecture == "armv7l" else ()


# The first that fits is taken: LiteRT is maintained and has the fast int8 kernels (11 times faster on x86).
WHEEL_SETS = (
    WheelSet(
        ("litert",),
        (11, 14),
        ("aarch64", "x86_64"),
        (2, 27),
        (*LITERT, "numpy==2.4.6", "ml_dtypes==0.6.0", "backports.strenum==1.2.8"),
    ),
    WheelSet(
        ("litert",),
        (10, 10),
        ("aarch64", "x86_64"),
        (2, 27),
        (*LITERT, "numpy==2.2.6", "ml_dtypes==0.6.0", "backports.strenum==1.3.1"),
    ),
    WheelSet(
        ("litert",),
        (9, 9),
        ("aarch64", "x86_64"),
        (2, 27),
        ("ai-edge-litert==2.1.0", "protobuf==6.33.6", *LITERT_NEEDS, "numpy==2.0.2", "backports.strenum==1.3.1"),
    ),
    WheelSet(("tflite",), (9, 11), ARM, (2, 34), ("tflite-runtime==2.14.0", NUMPY_1)),
    WheelSet(("tflite",), (9, 11), ("x86_64",), (2, 17), ("tflite-runtime==2.14.0", NUMPY_1)),
    WheelSet(("tflite",), (9, 10), ARM, (2, 17), ("tflite-runtime==2.13.0", NUMPY_1)),
    WheelSet(
        ("litert", "tflite"),
        (11, 11),
        ("aarch64", "x86_64"),
        (2, 34),
        (*LITERT, "tflite-runtime==2.14.0", NUMPY_1, "ml_dtypes==0.5.4", "backports.strenum==1.2.8"),
    ),
    WheelSet(
        ("litert", "tflite"),
        (10, 10),
        ("aarch64", "x86_64"),
        (2, 34),
        (*LITERT, "tflite-runtime==2.14.0", NUMPY_1, "ml_dtypes==0.5.4", "backports.strenum==1.3.1"),
    ),
)


def choose_wheels(target: Target, runtime: str = "auto") -> WheelSet:
    """The set for ``target``; ``auto`` takes the first single runtime that fits.

    Raises UsageError for an unknown ``runtime``, DeviceError saying what would work where no wheels are to be had.
    """
    if runtime not in SETUP_RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}{suggest(runtime, SETUP_RUNTIMES)}")
    names = ("litert", "tflite") if runtime == "auto" else (runtime,)
    candidates = [item for item in WHEEL_SETS if item.name in names]
    fitting = [item for item in candidates if item.fits(target)]
    if not fitting:
        raise DeviceError(_nothing_fits(target, runtime, candidates))
    return fitting[0]


def _nothing_fits(target: Target, runtime: str, candidates: list[WheelSet]) -> str:
    what = "TFLite runtime wheel" if runtime == "auto" else f"wheel of runtime {runtime!r}"
    here = f"Python {target.python[0]}.{target.python[1]} on {target.architecture}"
    if target.architecture == "armv7l" and all(item.architectures == ("aarch64", "x86_64") for item in candidates):
        return f"{here} has no {what}: LiteRT has none for 32-bit systems. Use --runtime tflite, or a 64-bit system"
    same = [item for item in candidates if target.architecture in item.architectures]
    if not same:
        return f"{here} has no {what}: they are made for {', '.join(ARCHITECTURES)}"
    on_python = [item for item in same if item.pythons[0] <= target.python[1] <= item.pythons[1]]
    if on_python:
        oldest = min(item.glibc for item in on_python)
        return (
            f"{here} has no {what} for glibc {target.glibc[0]}.{target.glibc[1]}: expected {oldest[0]}.{oldest[1]} or newer. "
            "Use a newer system (Raspberry Pi OS bookworm has 2.36)"
        )
    low, high = min(item.pythons[0] for item in same), max(item.pythons[1] for item in same)
    wider = ", or a 64-bit system" if target.architecture == "armv7l" else ""
    if runtime != "auto":
        wider += ", or leave --runtime out"
    return (
        f"{here} has no {what}; use Python 3.{min(high, 11)} (Raspberry Pi OS bookworm) or another of 3.{low} to 3.{high}, "
        f"named with --python{wider}"
    )
