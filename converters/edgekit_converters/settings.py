"""Settings from plain data: a table of TOML or JSON becomes the frozen dataclass of its technique, or an error that says why.

Nothing here imports TensorFlow: a recipe is checked before anything heavy starts.
"""

from __future__ import annotations

import difflib
import importlib
import types
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import TechniqueError

__all__ = ["TECHNIQUES", "quantize_settings", "settings_from", "technique_settings"]

Settings = TypeVar("Settings")

# Where the settings of each technique are declared.
TECHNIQUES: dict[str, tuple[str, str] | None] = {
    "slim": ("slim", "SlimSettings"),
    "distill": ("training.distill", "DistillSettings"),
    "prune": ("tfmot.prune", "PruneSettings"),
    "cluster": ("tfmot.cluster", "ClusterSettings"),
    "qat": ("tfmot.qat", "QatSettings"),
    "finetune": None,
}
FINETUNE_KEY = "finetune"


def technique_settings(technique: str, options: Mapping[str, Any]) -> Any:
    """The settings of a step; None for plain fine-tuning, which has none of its own.

    ``options`` may hold a table ``finetune``, the step's own training, which is checked too. Raises TechniqueError for an
    unknown technique or option, and for a value no technique takes.
    """
    if technique not in TECHNIQUES:
        raise TechniqueError(f"unknown technique {technique!r}{_suggest(technique, TECHNIQUES)}")
    own = {key: value for key, value in options.items() if key != FINETUNE_KEY}
    settings_from(_declared("training.finetune", "FineTuning"), options.get(FINETUNE_KEY, {}), f"{technique}.finetune")
    declared = TECHNIQUES[technique]
    if declared is None:
        if own:
            raise TechniqueError(f"expected no options for {technique} but a table 'finetune', got {', '.join(own)}")
        return None
    return settings_from(_declared(*declared), own, technique)


def quantize_settings(options: Mapping[str, Any]) -> Any:
    """QuantizeOptions from plain data; raises TechniqueError for an unknown key or value."""
    return settings_from(_declared("int8.options", "QuantizeOptions"), options, "quantize")


def settings_from(kind: type[Settings], table: Mapping[str, Any], what: str) -> Settings:
    """``kind``, a dataclass, with the values of ``table``; lists become tuples and whole numbers floats where declared.

    Raises TechniqueError naming ``what``, the key, what was expected and what came.
    """
    hints = get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise TechniqueError(f"unknown option {key!r} of {what}{_suggest(key, hints)}")
    try:
        return kind(**{key: _value(f"{what}.{key}", value, hints[key]) for key, value in table.items()})
    except TypeError as error:  # a field without a default is missing
        raise TechniqueError(f"{what} needs more to be said: {error}. Its options: {', '.join(hints)}") from error


def _declared(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f".{module}", __package__), name)


def _value(where: str, value: Any, hint: Any) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, Union):
        return None if value is None else _value(where, value, next(kind for kind in inner if kind is not type(None)))
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_value(where, item, inner[0]) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kind = origin or hint
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    wanted = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "tuple": "a list"}
    name = getattr(kind, "__name__", str(kind))
    raise TechniqueError(f"expected {wanted.get(name, 'a table')} for {where}, got {value!r}")


def _suggest(name: str, choices: Iterable[str]) -> str:
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=1)
    return (f"; did you mean {close[0]!r}?" if close else ".") + f" Choose from: {', '.join(known)}"
