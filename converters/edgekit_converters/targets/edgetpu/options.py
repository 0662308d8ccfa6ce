"""Options of the Edge TPU compiler: checked before it is run, and written the way the version at hand takes them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...errors import TargetError

__all__ = ["COMPILER_TIMEOUT_S", "EdgeTpuOptions"]

COMPILER_TIMEOUT_S = 180  # the compiler's own default
OLDEST_RUNTIME, NEWEST_RUNTIME = 10, 14
# What each version's files need at most, and what -m can ask for (libedgetpu runs 10 to 14).
_NEWEST_RUNTIMES = {1: 10, 2: 13, 14: 13, 15: 13}
_SINCE = {"search_delegate": 16, "timeout_s": 16, "num_segments": 15, "multiple_subgraphs": 14}
_FLAGS = {
    "search_delegate": "--search-delegate",
    "timeout_s": "--timeout-s",
    "num_segments": "--num-segments",
    "multiple_subgraphs": "--multiple-subgraphs",
}
_RANGES = {
    "min_runtime_version": ("--min-runtime-version", OLDEST_RUNTIME, NEWEST_RUNTIME),
    "delegate_search_step": ("--delegate-search-step", 1, 1000),
    "num_segments": ("--num-segments", 1, 64),
    "timeout_s": ("--timeout-s", 1, 86_400),
}
MOST_TENSORS, LONGEST_TENSOR = 256, 1000


@dataclass(frozen=True)
class EdgeTpuOptions:
    """How to compile; None leaves the compiler's own default.

    ``min_runtime_version`` is the oldest Edge TPU runtime the file must run under (10 to 14). ``search_delegate`` has the
    compiler look for the largest part it can compile, ``delegate_search_step`` operators at a time (1). ``multiple_subgraphs``
    allows several pieces on the Edge TPU, which the compiler calls experimental. ``num_segments`` cuts one model for as many
    Edge TPUs in a row. ``intermediate_tensors`` end the Edge TPU's part: what comes behind them stays on the processor.
    ``timeout_s`` are the seconds the compiler gives itself for one compilation (180). ``show_operations`` prints the table.

    Raises TargetError (the input must change) for a value out of range or a pair that contradicts itself.
    """

    min_runtime_version: int | None = None
    search_delegate: bool = False
    delegate_search_step: int | None = None
    multiple_subgraphs: bool = False
    num_segments: int = 1
    intermediate_tensors: tuple[str, ...] = ()
    timeout_s: int | None = None
    show_operations: bool = True

    def __post_init__(self) -> None:
        for name, (flag, least, most) in _RANGES.items():
            _check_range(getattr(self, name), flag, least, most)
        for name in ("search_delegate", "multiple_subgraphs", "show_operations"):
            if not isinstance(getattr(self, name), bool):
                raise _refused(f"expected {name} to be true or false, got {getattr(self, name)!r:.80}")
        _check_tensors(self.intermediate_tensors)
        if self.delegate_search_step is not None and not self.search_delegate:
            raise _refused("--delegate-search-step is the step of --search-delegate: give both, or neither")
        if self.intermediate_tensors and self.search_delegate:
            raise _refused(
                "--search-delegate looks for the tensors that --intermediate-tensors names: give one of the two"
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> EdgeTpuOptions:
        """Options from names and plain values; None means the default, ``intermediate_tensors`` may be one text ``a,b``.

        Raises TargetError for an unknown name, with what was probably meant, and for values as the class does.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else "."
                raise _refused(
                    f"unknown option of the Edge TPU compiler {str(name)!r:.80}{hint} Choose from: {', '.join(known)}"
                )
        given = {name: value for name, value in values.items() if value is not None}
        if isinstance(given.get("timeout_s"), float) and given["timeout_s"].is_integer():
            given["timeout_s"] = int(given["timeout_s"])
        if "intermediate_tensors" in given:
            given["intermediate_tensors"] = _names(given["intermediate_tensors"])
        return cls(**given)

    @property
    def seconds_each(self) -> int:
        """What the compiler gives itself for one compilation."""
        return self.timeout_s or COMPILER_TIMEOUT_S

    def check_models(self, count: int) -> None:
        """Raise TargetError where these options do not go with ``count`` models compiled together."""
        if count > 1 and self.num_segments > 1:
            raise _refused(f"--num-segments cuts one model, got {count} to compile together: compile them one by one")
        if count > 1 and self.intermediate_tensors:
            raise _refused(f"--intermediate-tensors are of one model, got {count} to compile together: one by one")

    def arguments(self, version: str) -> list[str]:
        """The compiler's arguments, before the models; raises TargetError for an option that ``version`` does not have."""
        major = int(version.split(".")[0])
        self._check_version(major, version)
        made = ["--show_operations"] if self.show_operations else []
        if self.min_runtime_version is not None:
            made += ["--min_runtime_version", str(self.min_runtime_version)]
        if self.intermediate_tensors:
            made += ["--intermediate_tensors", ",".join(self.intermediate_tensors)]
        if self.num_segments > 1:
            made += ["--num_segments", str(self.num_segments)]
        if self.search_delegate:
            made += ["--search_delegate", "--delegate_search_step", str(self.delegate_search_step or 1)]
        if self.multiple_subgraphs:
            made += ["-a"]  # undocumented; its long name was never seen in use
        if major >= _SINCE["timeout_s"]:
            made += ["--timeout_sec", str(self.seconds_each)]
        return made

    def _check_version(self, major: int, version: str) -> None:
        for name, since in _SINCE.items():
            default = next(field.default for field in fields(self) if field.name == name)
            if getattr(self, name) != default and major < since:
                raise _refused(f"{_FLAGS[name]} needs edgetpu_compiler {since} or newer, this one is {version}")
        newest = _NEWEST_RUNTIMES.get(major, NEWEST_RUNTIME)
        if self.min_runtime_version is not None and self.min_runtime_version > newest:
            raise _refused(
                f"edgetpu_compiler {version} writes files for runtimes up to {newest}, got --min-runtime-version "
                f"{self.min_runtime_version}: leave it out, or use compiler 16"
            )


def _refused(message: str) -> TargetError:
    return TargetError(message, refused=True)


def _check_range(value: Any, flag: str, least: int, most: int) -> None:
    if value is None and flag != "--num-segments":
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _refused(f"expected {flag} to be a whole number from {least} to {most}, got {value!r:.80}")


def _names(value: Any) -> tuple[str, ...]:
    """Tensor names from a sequence, or from one text with commas."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return tuple(value)
    raise _refused(f"expected intermediate_tensors to be names, or one text with commas, got {value!r:.80}")


def _check_tensors(names: tuple[str, ...]) -> None:
    """Names the compiler can be given: it takes commas and colons for separators, and a minus for an option."""
    if not isinstance(names, tuple):
        raise _refused(f"expected intermediate_tensors to be a tuple of names, got {names!r:.80}")
    if len(names) > MOST_TENSORS:
        raise _refused(f"expected at most {MOST_TENSORS} intermediate tensors, got {len(names)}")
    for name in names:
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_TENSOR or not name.isprintable():
            raise _refused(
                f"expected printable tensor names of 1 to {LONGEST_TENSOR} characters in --intermediate-tensors, got {name!r:.80}"
            )
        if name[0] == "-" or "," in name or ":" in name:
            raise _refused(
                f"the compiler cannot be told of the tensor {name!r:.80}: it takes a comma or a colon for the end of a name and "
                "a minus for an option (google-coral/edgetpu#778). Name another tensor, or use --search-delegate"
            )
