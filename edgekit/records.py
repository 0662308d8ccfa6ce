"""What a run holds: frozen records that are stored as JSON and handed to the renderers."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import types
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from edgekit_device import BenchmarkReport

from .errors import StoreError
from .plain import plain_json

if TYPE_CHECKING:
    from edgekit_converters.targets.records import TargetReport

__all__ = [
    "COMPILED",
    "ESTIMATED",
    "EXECUTED",
    "MEASURED",
    "MODELLED",
    "PREDICTED",
    "ClassScore",
    "ComparedVariant",
    "Comparison",
    "Evaluation",
    "Failure",
    "Gate",
    "LayerDifference",
    "OutputParity",
    "Parity",
    "TargetLine",
    "Variant",
    "file_facts",
    "from_dict",
    "to_dict",
]

Record = TypeVar("Record")

MEASURED = "measured"  # on a board, by edgekit-device
MODELLED = "modelled"  # computed by the target's own tool, from a model of the chip
ESTIMATED = "estimated"  # computed by edgekit, with bounds
# What else a target report rests on: edgekit_converters.targets.records, which reading a run does not load.
PREDICTED, COMPILED, EXECUTED = "predicted", "compiled", "executed"
LATENCY_BASES = (MEASURED, MODELLED, ESTIMATED)


@dataclass(frozen=True)
class Variant:
    """One produced ``.tflite`` and where it came from. Times in seconds, sizes in bytes.

    ``spec`` is the decodable name of its recipe. ``achieved`` holds what was measured on the file and by the techniques:
    macs, parameters, sparsity, clusters, kept, and one entry a step. ``run_with`` holds, for each device it was tuned on,
    how it runs fastest there: runtime, version, delegate, threads and median_ms.

    Where ``compiled_from`` names another variant, this one is what the compiler of ``target`` made of it: it runs where that
    accelerator is, and nowhere else.
    """

    name: str
    recipe: str
    path: str = ""
    sha256: str = ""
    size_bytes: int = 0
    zipped_bytes: int = 0
    convert_s: float = 0.0
    precision: str = ""
    input_type: str = "float32"
    output_type: str = "float32"
    quantizer: str = ""
    spec: str = ""
    achieved: Mapping[str, Any] = field(default_factory=dict)
    reused: bool = False
    source: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    run_with: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""
    compiled_from: str = ""


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class; ``support`` is how many samples truly are of it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Evaluation:
    """How right a variant is on held-out data, as fractions between 0 and 1; None where the task has no such figure.

    ``top5`` is None for five classes or fewer, where it could not be wrong. ``agreement`` is the share of samples on
    which the variant answers as the float model does. ``confusion[i][j]`` counts samples of class i answered as class j.
    Of several outputs the first is evaluated.
    """

    variant: str
    count: int
    accuracy: float | None = None
    top5: float | None = None
    agreement: float | None = None
    mean_absolute_error: float | None = None
    per_class: tuple[ClassScore, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    data_sha256: str = ""
    model_sha256: str = ""
    runtime: str = ""


@dataclass(frozen=True)
class OutputParity:
    """One output of the device beside the host's: the share of values equal to the bit, and the largest difference."""

    name: str
    identical: float
    max_abs_diff: float


@dataclass(frozen=True)
class LayerDifference:
    """The first operator whose tensor differs: its position in the graph, its type, its Keras layer where that is known.

    ``max_abs_diff`` is in real-world units, ``steps`` the same in steps of the tensor's quantization.
    """

    op: int
    type: str
    layer: str
    tensor: str
    identical: float
    max_abs_diff: float
    steps: float | None = None


@dataclass(frozen=True)
class Parity:
    """Outputs of the device beside those of the host for the same samples.

    ``identical`` is the share of output values equal to the bit, ``max_abs_diff`` in the output's real-world units,
    ``same_answer`` the share of samples with the same largest output; ``outputs`` says the same of each. Where they
    differ ``first_difference`` is the layer where they part, as far as that could be found.
    """

    variant: str
    count: int
    identical: float
    max_abs_diff: float
    same_answer: float | None = None
    model_sha256: str = ""
    outputs: tuple[OutputParity, ...] = ()
    first_difference: LayerDifference | None = None
    note: str = ""


@dataclass(frozen=True)
class ComparedVariant:
    """A line of the comparison; None where a figure was not measured. ``speedup`` is baseline latency over its own.

    ``gains`` says in what it is better than ``against``, the same precision without its techniques or else the baseline.
    ``verdict`` is faster, slower, no difference or not comparable to the baseline (empty for itself and where either has no
    latency), ``ratio`` its latency over the baseline's with an interval, as ``edgekit.difference`` has them.
    ``median_low_ms`` to ``median_high_ms`` is a 95 % interval of the median. ``run_with`` is the variant's.
    """

    name: str
    rank: int
    size_bytes: int
    zipped_bytes: int
    accuracy: float | None = None
    drop: float | None = None
    agreement: float | None = None
    top5: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None
    first_ms: float | None = None
    peak_rss_mb: float | None = None
    speedup: float | None = None
    runtime: str = ""
    on_front: bool = False
    failures: tuple[str, ...] = ()
    macs: int | None = None
    sparsity: float | None = None
    against: str | None = None
    gains: tuple[str, ...] = ()
    median_low_ms: float | None = None
    median_high_ms: float | None = None
    verdict: str = ""
    verdict_reason: str = ""
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    run_with: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """One limit one variant misses; ``unit`` is that of ``limit`` and ``value``."""

    variant: str
    limit_name: str
    limit: float
    value: float | None
    unit: str
    message: str


@dataclass(frozen=True)
class Gate:
    """Whether any variant meets every limit, and which variant misses which."""

    passed: bool
    limits: Mapping[str, float] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class TargetLine:
    """What one place makes of one variant: a board that measured it, or a target whose tool or rules said something of it.

    ``basis`` is MEASURED, or that of the TargetReport (predicted, compiled, modelled, executed); ``said_by`` the runtime or the
    tool. A latency in milliseconds stands with its own ``latency_basis`` (MEASURED, MODELLED, ESTIMATED) or not at all, and is
    called measured where a board measured it, nowhere else. ``on_target`` of ``operators`` run on the accelerator, in
    ``subgraphs`` pieces; None where nothing was said. ``memory_kind`` is what ``memory_bytes`` are of; ``streamed_bytes`` of
    parameters are sent at every inference. ``refusal`` says why the place takes the variant not at all. ``file`` is what was
    compiled, relative to the run.

    Raises ValueError for a figure that does not say what it is.
    """

    variant: str
    target: str
    basis: str
    said_by: str = ""
    latency_ms: float | None = None
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    latency_basis: str = ""
    on_target: int | None = None
    operators: int | None = None
    subgraphs: int | None = None
    memory_bytes: int | None = None
    memory_kind: str = ""
    streamed_bytes: int | None = None
    flash_bytes: int | None = None
    refusal: str = ""
    remedy: str = ""
    file: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse a figure without its label, and one that is called measured and was not."""
        times = [time for time in (self.latency_ms, self.latency_low_ms, self.latency_high_ms) if time is not None]
        if not all(math.isfinite(time) and time > 0 for time in times):
            raise ValueError(f"expected latencies in milliseconds above 0, got {times}")
        if (times or self.latency_basis) and (self.latency_basis not in LATENCY_BASES or self.latency_ms is None):
            raise ValueError(
                f"expected a latency and what it is ({', '.join(LATENCY_BASES)}), got {times} and {self.latency_basis!r}"
            )
        if times and (self.latency_basis == MEASURED) != (self.basis == MEASURED):
            raise ValueError(f"a latency that is {self.latency_basis} cannot stand in a line that is {self.basis}")
        if self.memory_bytes is not None and not self.memory_kind:
            raise ValueError(f"expected what {self.memory_bytes} bytes of memory are of")


@dataclass(frozen=True)
class Comparison:
    """All variants side by side, best first, and what to ship.

    ``front`` names the variants that no other beats in accuracy, latency and size at once (the Pareto front);
    ``choice`` is None when the gate said no. ``measured_on`` describes board, runtime, delegate and threads. ``across`` has
    what each board and each target makes of each variant, by place; nothing is chosen or ranked by what was not measured.
    ``target_reports`` are the variants' TargetReports behind it.
    """

    title: str
    variants: tuple[ComparedVariant, ...]
    front: tuple[str, ...]
    choice: str | None
    reason: str
    gate: Gate
    baseline: str | None = None
    metric: str = "accuracy"
    measured_on: Mapping[str, str] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    reports: tuple[tuple[str, BenchmarkReport], ...] = ()
    parities: tuple[Parity, ...] = ()
    created: str = ""
    across: tuple[TargetLine, ...] = ()
    target_reports: tuple[tuple[str, TargetReport], ...] = ()


def file_facts(tflite: bytes) -> dict[str, Any]:
    """What a Variant's record says of its file: sha256, size_bytes and zipped_bytes (DEFLATE, level 9)."""
    return {
        "sha256": hashlib.sha256(tflite).hexdigest(),
        "size_bytes": len(tflite),
        "zipped_bytes": len(zlib.compress(tflite, 9)),
    }


def to_dict(record: Any) -> dict[str, Any]:
    """A record as plain JSON values."""
    plain: dict[str, Any] = plain_json(dataclasses.asdict(record))
    return plain


def from_dict(record: type[Record], raw: object) -> Record:
    """Read a record back, ignoring unknown fields; raises StoreError when one is missing or of the wrong type."""
    if not isinstance(raw, Mapping):
        raise StoreError(f"expected a {record.__name__} object, got {type(raw).__name__}")
    hints = get_type_hints(record)
    try:
        return record(**{name: _value(value, hints[name]) for name, value in raw.items() if name in hints})
    except TypeError as error:
        raise StoreError(f"a {record.__name__} record is damaged: {error}") from error


def _value(value: Any, hint: Any) -> Any:
    """``value`` as the annotation ``hint`` says, lists as tuples; raises TypeError."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, Union):
        return None if value is None else _value(value, next(kind for kind in inner if kind is not type(None)))
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_value(item, inner[0]) for item in value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value)
    if origin is Mapping and isinstance(value, Mapping):
        return {str(key): _value(item, inner[1]) for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kind = origin or hint
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    raise TypeError(f"expected {getattr(kind, '__name__', kind)}, got {value!r}")
