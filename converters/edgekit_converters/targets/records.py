"""What a target makes of a model: one record for all of them, and where each figure in it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .target import EDGETPU, ETHOS_U

__all__ = [
    "BASES",
    "COMPILED",
    "EXECUTED",
    "MODELLED",
    "PREDICTED",
    "CompiledFiles",
    "Estimate",
    "LayerFigure",
    "MappingCheck",
    "OpPlacement",
    "TargetReport",
]

PREDICTED = "predicted"  # edgekit's own rules say so
COMPILED = "compiled"  # read from what the target's compiler made, or said
MODELLED = "modelled"  # the target's tool computed it from a model of the chip
EXECUTED = "executed"  # the target's own interpreter ran it on this machine
BASES = (PREDICTED, COMPILED, MODELLED, EXECUTED)


@dataclass(frozen=True)
class OpPlacement:
    """Where operator ``index`` of subgraph 0 runs.

    ``placement`` is edgetpu, ethos-u, micro or cpu, or unsupported where nothing on the target can run it. ``reason`` says
    why it is not on the accelerator, in the words of the target's own tool; ``remedy`` what to type instead, empty where
    none is known. ``layer`` is the Keras layer it came from, as far as the file tells.
    """

    index: int
    type: str
    placement: str
    reason: str = ""
    remedy: str = ""
    layer: str = ""
    version: int = 1

    @property
    def is_left(self) -> bool:
        """Whether it is not on an accelerator: on the processor, or nowhere."""
        return self.placement in ("cpu", "unsupported")


@dataclass(frozen=True)
class Estimate:
    """A latency nobody measured: ``low_ms`` to ``high_ms`` are its bounds, ``basis`` says who computed it, from what, and
    how the bounds were found. ``low_ms`` and ``high_ms`` are None where the tool states none."""

    latency_ms: float
    low_ms: float | None = None
    high_ms: float | None = None
    basis: str = ""


@dataclass(frozen=True)
class LayerFigure:
    """One line of a tool's table by layer: ``figures`` by name (cycles, macs, sram_bytes, network_share …)."""

    name: str
    type: str
    placement: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MappingCheck:
    """What was predicted beside what the compiler did: indices of operators where the two differ."""

    agreed: int
    predicted_on_target_only: tuple[int, ...] = ()
    actually_on_target_only: tuple[int, ...] = ()


@dataclass(frozen=True)
class TargetReport:
    """What ``name`` (a target) makes of one model.

    ``basis`` is one of BASES; ``said_by`` names the tool and its version. ``subgraphs`` is the number of pieces that run on
    the accelerator, ``first_off_target`` the first operator that breaks the chain (None where none does). ``refusal`` says,
    where it is not empty, that the target takes the model not at all, and why; ``remedy`` what to do about it.
    ``min_runtime`` is the lowest version of the Edge TPU runtime. ``cached_bytes`` of parameters stay on the chip between
    inferences, ``streamed_bytes`` are sent every time. ``memory`` holds bytes by name (sram, flash, arena …), ``figures``
    what else the tool prints (cycles, inferences_per_s …). ``mapping_check`` stands where a prediction met a compiler.
    """

    name: str
    kind: str
    basis: str
    said_by: str = ""
    ops: tuple[OpPlacement, ...] = ()
    subgraphs: int = 0
    on_target: int = 0
    on_cpu: int = 0
    first_off_target: int | None = None
    refusal: str = ""
    remedy: str = ""
    min_runtime: int | None = None
    cached_bytes: int | None = None
    streamed_bytes: int | None = None
    estimate: Estimate | None = None
    memory: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    layers: tuple[LayerFigure, ...] = ()
    mapping_check: MappingCheck | None = None
    warnings: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    model_sha256: str = ""

    @property
    def pieces(self) -> int | None:
        """``subgraphs`` where a model can be cut into pieces for the target; None where it runs as one."""
        return self.subgraphs if self.kind in (EDGETPU, ETHOS_U) else None

    @property
    def fully_on_target(self) -> bool:
        """Whether every operator runs on the accelerator."""
        return bool(self.ops) and self.on_cpu == 0 and not self.refusal

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        facts = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}


@dataclass(frozen=True)
class CompiledFiles:
    """What compiling for a target made: ``files`` by name, the first of them the model itself, the report, and what the
    tool printed (capped)."""

    report: TargetReport
    files: Mapping[str, bytes]
    log: str = ""
    compile_s: float = 0.0
