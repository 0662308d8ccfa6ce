"""What a diagnosis says: each layer's error, blame and wins, and which operators to keep at a higher precision for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .fidelity import Grid, TensorFidelity

__all__ = ["NO_TIME", "Diagnosis", "LayerDiagnosis", "Win", "finite", "rank_layers"]

# Less than this is the noise of rounding: errors of layers add up or cancel.
WORTH_DB = 0.25
NO_TIME = "not measured: the time was spent on layers with more error"


@dataclass(frozen=True)
class Win:
    """What a model with some operators at a higher precision is nearer to the float one than the int8 model.

    ``sqnr_db`` is the gain in dB at the outputs (the mean over the float ones), infinite when they become exact, and
    ``accuracy`` that in accuracy where there are labels. Both are None where nothing was measured: ``reason`` says why.
    """

    op_indices: tuple[int, ...] = ()
    sqnr_db: float | None = None
    accuracy: float | None = None
    reason: str = ""

    @property
    def asked(self) -> bool:
        """Whether it was measured, or at least why not is known."""
        return self.sqnr_db is not None or bool(self.reason)

    @property
    def value(self) -> float:
        """The gain in dB, 0 where nothing was measured."""
        return 0.0 if self.sqnr_db is None else self.sqnr_db


@dataclass(frozen=True)
class LayerDiagnosis:
    """One layer: operators that follow each other and come from one Keras layer.

    ``op_indices`` are those of its operators in subgraph 0 of the float model that can be kept in float, as
    ``QuantizeOptions.keep_float`` takes them. ``output`` is the fidelity of its last operator's output, ``inherited`` the
    largest channel noise of its inputs, and ``added`` what it has more than those (each from 0 to 1: see
    ``TensorFidelity.noise``). ``alone`` is noise / signal at the model's outputs with only this layer in int8, None where
    that was not measured; ``guilt`` what of it is not the tensor it reads, for which the layer before is blamed. ``win`` is
    that of the layer alone in float32, ``win_joint`` with the layers that read it, ``win_int16`` that of the layer and
    those at int16. ``readers`` are the operators that read it. ``rank`` 1 is the guiltiest.
    """

    layer: str
    op_types: tuple[str, ...]
    op_indices: tuple[int, ...]
    output: TensorFidelity | None
    inherited: float
    added: float
    readers: tuple[int, ...] = ()
    alone: float | None = None
    guilt: float | None = None
    win: Win = field(default_factory=Win)
    win_joint: Win = field(default_factory=Win)
    win_int16: Win = field(default_factory=Win)
    rank: int = 0

    @property
    def keep(self) -> tuple[int, ...]:
        """The operators to keep at a higher precision for this layer's sake; none when it is not guilty.

        With those that read it where that wins clearly more, or where rounding its output is most of its error: between
        them that output stays in int8 otherwise.
        """
        best = self.win_joint if self.win_joint.value > self.win.value + WORTH_DB else self.win
        if best.value >= WORTH_DB:
            return best.op_indices
        if not self.op_indices or (self.guilt is None and self.added <= 0) or self.guilt == 0:
            return ()
        return tuple(sorted({*self.op_indices, *self.readers})) if self.grid_share > 0.5 else self.op_indices

    @property
    def grid_share(self) -> float:
        """Which part of the error of its output is that of rounding to its grid, from 0 to 1."""
        seen = self.output
        return 0.0 if seen is None or not seen.noise or not seen.grid_noise else min(1.0, seen.grid_noise / seen.noise)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: an infinite or unknown figure is null, and why no win is known is in ``notes``."""
        seen = self.output
        wins = {"win": self.win, "win_joint": self.win_joint, "win_int16": self.win_int16}
        notes = {name: item.reason for name, item in wins.items() if item.reason}
        return {
            "layer": self.layer,
            "op_types": list(self.op_types),
            "op_indices": list(self.op_indices),
            "sqnr_db": seen and seen.sqnr_db,
            "cosine": seen and seen.cosine,
            "channel_noise": seen and seen.noise,
            "grid_noise": seen and seen.grid_noise,
            "inherited_noise": self.inherited,
            "added_noise": self.added,
            "alone_sqnr_db": -10 * math.log10(self.alone) if self.alone else None,
            "range": seen and {"min": seen.low, "max": seen.high, "p0.01": seen.low_tail, "p99.99": seen.high_tail},
            "int8_range": seen and _grid_json(seen.grid),
            "clipped_share": seen and seen.clipped,
            **{name: finite(item.sqnr_db) for name, item in wins.items()},
            "accuracy_win": self.win.accuracy,
            "accuracy_win_joint": self.win_joint.accuracy,
            "accuracy_win_int16": self.win_int16.accuracy,
            "joint_indices": list(self.win_joint.op_indices),
            "keep": list(self.keep),
            "notes": notes,
            "rank": self.rank,
        }


@dataclass(frozen=True)
class Diagnosis:
    """All layers in graph order, and the two models they were compared in.

    ``output_sqnr_db`` is the mean over the float outputs, None when it is infinite or there are none; the accuracies
    need labels. ``blamed`` and ``measured`` count the layers whose blame and whose wins were measured within the time.
    """

    layers: tuple[LayerDiagnosis, ...]
    samples: int
    output_sqnr_db: float | None
    float_accuracy: float | None
    int8_accuracy: float | None
    agreement: float | None
    blamed: int
    measured: int
    seconds: float
    precision: str = "int8"
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, the layers in graph order."""
        facts = {name: value for name, value in vars(self).items() if name != "layers"}
        named = {index: layer.layer for layer in self.layers for index in layer.op_indices}
        whole = sum(layer.guilt or 0.0 for layer in self.layers)
        layers = [
            {
                **layer.to_dict(),
                "blame": layer.guilt / whole if layer.guilt is not None and whole > 0 else layer.guilt,
                "keep_layers": list(dict.fromkeys(named[index] for index in layer.keep)),
            }
            for layer in self.layers
        ]
        return {**facts, "options": dict(self.options), "layers": layers}


def rank_layers(diagnosis: Diagnosis | Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Groups of operator indices to keep at a higher precision, the guiltiest first; also from a diagnosis as JSON.

    A group is the layer alone, or with the layers that read it where only that wins more. Layers without a measured win
    follow by the error they add; those that are not guilty are left out.
    """
    raw = diagnosis.to_dict() if isinstance(diagnosis, Diagnosis) else diagnosis
    by_guilt = sorted(raw["layers"], key=lambda layer: int(layer["rank"]))
    groups = (tuple(int(index) for index in layer["keep"]) for layer in by_guilt)
    return [group for group in dict.fromkeys(groups) if group]


def _grid_json(grid: Grid | None) -> dict[str, Any] | None:
    if grid is None:
        return None
    raw = asdict(grid)
    return {"min": raw.pop("low"), "max": raw.pop("high"), **raw}


def finite(value: float | None) -> float | None:
    """None for what is infinite."""
    return value if value is not None and math.isfinite(value) else None
