"""``edgekit.toml``: one experiment, from data to verdict, as data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edgekit_converters.zoo import ARCHITECTURES

from .comparison import Limits
from .conversion import ConversionRequest
from .data import Preprocessing, parse_size
from .devices import BenchRequest
from .devices.opening import known_device
from .devices.registry import LOCAL
from .errors import UsageError, suggest
from .recipe import find_recipes
from .target_plan import TargetPlan, plan_for
from .toml_file import read_toml

__all__ = [
    "BenchSection",
    "CompareSection",
    "ConvertSection",
    "DataSection",
    "FinetuneSection",
    "ModelSection",
    "RunConfig",
    "load_config",
]

CAP_BYTES = 1024 * 1024
EVERY_PRECISION = ("float32", "float16", "dynamic-int8", "int8", "int16x8")


@dataclass(frozen=True)
class DataSection:
    """``[data]``: where samples come from, and the preprocessing that belongs to the model."""

    source: str = ""
    folder: str = ""
    scale: float = 1.0
    offset: float = 0.0
    size: str = ""
    test_limit: int = 0


@dataclass(frozen=True)
class ModelSection:
    """``[model]``: a ``path``, or an ``architecture`` of the zoo to train with these settings."""

    path: str = ""
    architecture: str = ""
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    trust: bool = False


@dataclass(frozen=True)
class ConvertSection:
    """``[convert]``: which recipes, and how int8 models are fed and calibrated (0 samples: the default).

    ``target`` names where the variants are to run: what is not said is then its choice, with float32 to compare with; else all
    precisions, with float ends.

    With ``search`` the recipes are only the beginning: where none keeps ``compare.max_drop``, one is searched for.
    """

    recipes: tuple[str, ...] | None = None
    target: str = ""
    input_type: str = ""
    output_type: str = ""
    calibration_samples: int = 0
    search: bool = False

    @property
    def plan(self) -> TargetPlan:
        """What to convert; raises UsageError for what the target can never run."""
        recipes = EVERY_PRECISION if self.recipes is None and not self.target else self.recipes
        types = (self.input_type or None, self.output_type or None)
        plan = plan_for(self.target, recipes=recipes, input_type=types[0], output_type=types[1])
        return plan if recipes is not None else replace(plan, recipes=tuple(dict.fromkeys(("float32", *plan.recipes))))


@dataclass(frozen=True)
class FinetuneSection:
    """``[finetune]``: how recipes that train do it; what is left out (0 or empty) stays as the recipe has it."""

    epochs: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    loss: str = ""
    teacher: str = ""
    augment: str = ""

    @property
    def overrides(self) -> dict[str, Any]:
        """What was said."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class BenchSection:
    """``[bench]``: on which device and how; 0 runs mean at least 50 and one second."""

    device: str = "local"
    threads: int = 1
    runtime: str = "auto"
    runs: int = 0
    deadline_s: float = 900.0

    @property
    def request(self) -> BenchRequest:
        """What the device is asked; raises UsageError for what no device can do."""
        return BenchRequest(self.threads, self.runtime, self.runs or None, None, self.deadline_s)


@dataclass(frozen=True)
class CompareSection:
    """``[compare]``: the baseline and the limits."""

    baseline: str = ""
    max_drop: float | None = None
    max_latency_ms: float | None = None
    max_size_kb: float | None = None

    @property
    def limits(self) -> Limits:
        """The limits as a record."""
        return Limits(self.max_drop, self.max_latency_ms, self.max_size_kb)


@dataclass(frozen=True)
class RunConfig:
    """A whole ``edgekit.toml``. Where data and model lie may be said relative to the file; ``out`` is relative to where
    one stands, as ``--out`` is."""

    name: str = ""
    out: str = ""
    seed: int = 0
    folder: Path = Path()
    data: DataSection = field(default_factory=DataSection)
    model: ModelSection = field(default_factory=ModelSection)
    convert: ConvertSection = field(default_factory=ConvertSection)
    finetune: FinetuneSection = field(default_factory=FinetuneSection)
    bench: BenchSection = field(default_factory=BenchSection)
    compare: CompareSection = field(default_factory=CompareSection)

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of ``[data]``."""
        size = parse_size(self.data.size) if self.data.size else None
        return Preprocessing(self.data.scale, self.data.offset, size)

    @property
    def conversion(self) -> ConversionRequest:
        """What ``[convert]`` asks for."""
        section, plan = self.convert, self.convert.plan
        return ConversionRequest(
            find_recipes(plan.recipes),
            plan.input_type,
            plan.output_type,
            self.preprocessing,
            section.calibration_samples or None,
            self.seed,
            trust=self.model.trust,
            finetune=self.finetune.overrides,
            device=self.bench.device,
            threads=self.bench.threads,
            target=plan.target,
        )

    def beside(self, path: str) -> str:
        """``path`` as seen from the configuration's folder, where it names something there; else as it is."""
        candidate = self.folder / path
        return str(candidate) if candidate.exists() else path


_SECTIONS = {
    "data": DataSection,
    "model": ModelSection,
    "convert": ConvertSection,
    "finetune": FinetuneSection,
    "bench": BenchSection,
    "compare": CompareSection,
}
_TOP = ("name", "out", "seed")


def load_config(path: Path) -> RunConfig:
    """Read an ``edgekit.toml``; raises UsageError naming the key, what was expected and what came."""
    raw = read_toml(path, "configuration", cap_bytes=CAP_BYTES, see="examples/digits/edgekit.toml")
    known = (*_TOP, *_SECTIONS)
    for key in raw:
        if key not in known:
            raise UsageError(f"{path}: unknown key {key!r}{suggest(key, known)}")
    sections = {name: _section(path, name, kind, raw.get(name, {})) for name, kind in _SECTIONS.items()}
    top = {name: _value(path, name, raw[name], "int" if name == "seed" else "str") for name in _TOP if name in raw}
    config = RunConfig(**{"name": path.resolve().parent.name, **top, "folder": path.parent, **sections})
    _check(path, config)
    return config


def _section(path: Path, name: str, kind: type, raw: Any) -> Any:
    if not isinstance(raw, Mapping):
        raise UsageError(f"{path}: expected [{name}] as a table, got {type(raw).__name__}")
    kinds = {item.name: str(item.type) for item in fields(kind)}
    for key in raw:
        if key not in kinds:
            raise UsageError(f"{path}: unknown key {key!r} in [{name}]{suggest(key, kinds)}")
    return kind(**{key: _value(path, f"{name}.{key}", value, kinds[key]) for key, value in raw.items()})


def _value(path: Path, key: str, value: Any, kind: str) -> Any:
    """``value`` as the annotation ``kind`` says; raises UsageError."""
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if kind.startswith("float") and isinstance(value, (int, float)) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
        raise UsageError(f"{path}: expected a finite number for {key}, got {value}")
    if kind.startswith("tuple") and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    wanted = {"str": "text", "bool": "true or false", "int": "a whole number of at least 0"}.get(
        kind, "a number" if kind.startswith("float") else "a list of names"
    )
    raise UsageError(f"{path}: expected {wanted} for {key}, got {value!r}")


def _check(path: Path, config: RunConfig) -> None:
    """Refuse now what would fail after minutes of training."""
    if not config.data.source:
        raise UsageError(f'{path}: expected [data] source = "digits", an .npz, a folder or module:function, got none')
    if not re.fullmatch(r"[\w][\w .-]*", config.name):
        raise UsageError(f"{path}: expected a name of letters, digits, '-', '_' and '.', got {config.name!r}")
    _check_model(path, config.model)
    if config.convert.search and config.compare.max_drop is None:
        raise UsageError(f"{path}: expected compare.max_drop for convert.search to keep, got none: add max_drop = 0.01")
    try:
        _ = config.preprocessing, config.compare.limits, config.bench.request, config.conversion
        if config.bench.device != LOCAL:
            known_device(config.bench.device)
    except UsageError as error:
        raise type(error)(f"{path}: {error}") from error


def _check_model(path: Path, model: ModelSection) -> None:
    if bool(model.path) == bool(model.architecture):
        got = "both" if model.path else "neither"
        raise UsageError(f"{path}: expected [model] with either a path or an architecture, got {got}")
    if model.architecture and model.architecture not in ARCHITECTURES:
        raise UsageError(
            f"{path}: unknown architecture {model.architecture!r}{suggest(model.architecture, ARCHITECTURES)}"
        )
    for name, value in (("epochs", model.epochs), ("batch_size", model.batch_size)):
        if value < 1:
            raise UsageError(f"{path}: expected model.{name} of at least 1, got {value}")
    if not model.learning_rate > 0:
        raise UsageError(f"{path}: expected a model.learning_rate above 0, got {model.learning_rate}")
