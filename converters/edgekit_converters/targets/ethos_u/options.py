"""``VelaOptions``: what vela is told about the chip and its memories, checked before anything runs."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import TargetError
from ..target import Target

__all__ = ["ACCELERATORS", "OPTIMISE", "VelaOptions", "family"]

# `vela --help` of ethos-u-vela 5.2.0, --accelerator-config.
ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-u65-{macs}" for macs in (256, 512)),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)
OPTIMISE = ("Performance", "Size")
MOST_ARENA_BYTES = 2**32  # vela: the largest address an Ethos-U55 or U65 can reach
_SECTION = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class VelaOptions:
    """Options of vela; None leaves the choice to the target, or to vela.

    ``accelerator_config`` is a size of the target's family (ethos-u65-512). ``system_config`` and ``memory_mode`` name
    sections of the configuration ``vela_config`` (an .ini file in vela's format; without it the one vela ships): clock and
    memory speeds of the chip, and which memory holds what. ``optimise`` is Performance or Size. ``arena_cache_size`` is the
    memory for activations in bytes that vela aims at.

    Raises TargetError for a value vela would not take.
    """

    accelerator_config: str | None = None
    system_config: str | None = None
    memory_mode: str | None = None
    vela_config: str | None = None
    optimise: str | None = None
    arena_cache_size: int | None = None

    def __post_init__(self) -> None:
        _check_choice("accelerator configuration", self.accelerator_config, ACCELERATORS)
        _check_choice("optimisation", self.optimise, OPTIMISE)
        for what, value in (("system configuration", self.system_config), ("memory mode", self.memory_mode)):
            if value is not None and not _SECTION.fullmatch(value):
                raise _wrong(f"expected a {what} by its name in vela's configuration file, got {value!r}")
        if self.vela_config is not None:
            self._check_config(self.vela_config)
        size = self.arena_cache_size
        if size is not None and (
            isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= MOST_ARENA_BYTES
        ):
            raise _wrong(f"expected an arena cache size of 1 to {MOST_ARENA_BYTES} bytes, got {size!r}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> VelaOptions:
        """Options by name, dashes or underscores; None leaves one out. Raises TargetError for a name that is none."""
        names = [item.name for item in dataclasses.fields(cls)]
        given = {key.replace("-", "_"): value for key, value in values.items() if value is not None}
        for key in given:
            _check_choice("option of vela", key, names)
        return cls(**given)

    def accelerator(self, target: Target) -> str:
        """What vela calls the accelerator. Raises TargetError for a size of another family than the target's."""
        wanted = self.accelerator_config or target.config
        if not wanted.startswith(f"{family(target)}-"):
            sizes = ", ".join(name for name in ACCELERATORS if name.startswith(family(target)))
            raise _wrong(f"expected a size of {family(target)} for the target {target.name} ({sizes}), got {wanted}")
        return wanted

    @property
    def config_path(self) -> str | None:
        """Where the configuration is: absolute where the file is here, because vela runs in a folder of its own and takes
        FOLDER/FILE.ini for one it ships."""
        path = None if self.vela_config is None else Path(self.vela_config)
        return str(path.resolve()) if path is not None and path.is_file() else self.vela_config

    def arguments(self, target: Target) -> list[str]:
        """The options as vela's command line takes them."""
        given = {
            "--accelerator-config": self.accelerator(target),
            "--system-config": self.system_config,
            "--memory-mode": self.memory_mode,
            "--config": self.config_path,
            "--optimise": self.optimise,
            "--arena-cache-size": self.arena_cache_size,
        }
        return [f"{name}={value}" for name, value in given.items() if value is not None]

    def to_dict(self) -> dict[str, Any]:
        """The options that were given."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def _check_config(self, config: str) -> None:
        path = Path(config)
        if path.suffix != ".ini":
            raise _wrong(f"expected a vela configuration file ending in .ini, got {config!r}")
        if not path.is_file() and not _is_shipped(path):
            raise _wrong(f"expected a vela configuration file, there is none at {config!r}")
        if self.system_config is None or self.memory_mode is None:
            raise _wrong(
                "expected a system configuration and a memory mode with a configuration file, got the file alone: "
                "name the sections in it that describe your chip (--system-config, --memory-mode)"
            )


def family(target: Target) -> str:
    """The family of an accelerator without its size: ethos-u55."""
    return "-".join(target.config.split("-")[:2])


def _is_shipped(path: Path) -> bool:
    """Whether vela looks a path up among the configurations it ships: FOLDER/FILE.ini, such as Arm/vela.ini."""
    return not path.is_absolute() and len(path.parts) == 2 and path.parts[0] not in (".", "..", "~")


def _check_choice(what: str, value: str | None, choices: tuple[str, ...] | list[str]) -> None:
    if value is None or value in choices:
        return
    close = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    raise _wrong(f"unknown {what} {value!r}{hint} Choose from: {', '.join(choices)}")


def _wrong(message: str) -> TargetError:
    return TargetError(message, refused=True)
