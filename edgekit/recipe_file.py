"""The file of a recipe: TOML, every key of which is known, with a suggestion where it is not.

::

    name = "prune75-int8"            # decodable, or free
    base = "slim50-int8"             # optional: whose steps come first
    summary = "..."
    precision = "int8"

    [[steps]]
    technique = "prune"              # slim, distill, prune, cluster, qat, finetune
    sparsity = 0.75                  # the technique's own options

    [finetune]
    epochs = 5                       # the training after each step

    [quantize]
    calibration = "mse"
    keep_float = ["conv1"]           # Keras layers left in float
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit_converters import ConverterError
from edgekit_converters.settings import TECHNIQUES, quantize_settings, technique_settings

from .errors import UsageError, suggest
from .latency_target import check_latency
from .recipe_name import ASKED_PRECISIONS, Step
from .toml_file import read_toml

__all__ = ["RecipeFile", "parse_recipe", "read_recipe", "recipe_toml"]

CAP_BYTES = 256 * 1024
KEYS = ("name", "base", "summary", "precision", "steps", "finetune", "quantize")
LAYER_KEYS = ("keep_float", "keep_int16")
# It becomes the name of files.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")


@dataclass(frozen=True)
class RecipeFile:
    """What one file says, before its base is taken in; empty where it says nothing."""

    name: str
    base: str = ""
    summary: str = ""
    precision: str = ""
    steps: tuple[Step, ...] = ()
    finetune: Mapping[str, Any] = field(default_factory=dict)
    quantize: Mapping[str, Any] = field(default_factory=dict)


def read_recipe(path: Path) -> RecipeFile:
    """The recipe in a file; raises UsageError naming the file, the key, what was expected and what came."""
    raw = read_toml(path, "recipe", cap_bytes=CAP_BYTES, see="edgekit recipes")
    return parse_recipe({"name": path.stem, **raw}, str(path))


def parse_recipe(raw: Mapping[str, Any], where: str) -> RecipeFile:
    """The recipe a table says; ``where`` it came from is named in the UsageError of a wrong one."""
    for key in raw:
        if key not in KEYS:
            raise UsageError(f"{where}: unknown key {key!r}{suggest(key, KEYS)}")
    texts = {key: _text(where, key, raw[key]) for key in ("name", "base", "summary", "precision") if key in raw}
    if not NAME.fullmatch(texts.get("name", "")):
        raise UsageError(f"{where}: expected a name of letters, digits, '_', '.', '+' and '-', got {raw.get('name')!r}")
    if "precision" not in texts and "base" not in texts:
        raise UsageError(f'{where}: expected precision = "int8" (or another), or a base, got neither')
    if texts.get("precision", "int8") not in ASKED_PRECISIONS:
        raise UsageError(
            f"{where}: unknown precision {texts['precision']!r}{suggest(texts['precision'], ASKED_PRECISIONS)}"
        )
    tables = raw.get("steps", [])
    if not isinstance(tables, list):
        raise UsageError(f"{where}: expected steps as a list of tables ([[steps]]), got {type(tables).__name__}")
    return RecipeFile(
        **texts,
        steps=tuple(_step(where, table) for table in tables),
        finetune=_finetune(where, raw.get("finetune", {})),
        quantize=_quantize(where, raw.get("quantize", {})),
    )


def _text(where: str, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: expected text for {key}, got {value!r}")
    return value


def _table(where: str, name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected {name} as a table, got {type(value).__name__}")
    return value


def _step(where: str, raw: Any) -> Step:
    table = dict(_table(where, "a step", raw))
    technique = table.pop("technique", None)
    if technique not in TECHNIQUES:
        raise UsageError(f"{where}: unknown technique {technique!r}{suggest(str(technique), TECHNIQUES)}")
    _table(where, f"{technique}.finetune", table.get("finetune", {}))
    try:
        own = check_latency(table) if technique == "slim" else table
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    _checked(where, lambda: technique_settings(technique, own))
    return Step(technique, table)


def _finetune(where: str, raw: Any) -> Mapping[str, Any]:
    table = _table(where, "[finetune]", raw)
    _checked(where, lambda: technique_settings("finetune", {"finetune": table}))
    return table


def _quantize(where: str, raw: Any) -> Mapping[str, Any]:
    table = _table(where, "[quantize]", raw)
    for key in LAYER_KEYS:
        names = table.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UsageError(f"{where}: expected {key} as a list of Keras layer names, got {names!r}")
    _checked(where, lambda: quantize_settings({k: v for k, v in table.items() if k not in LAYER_KEYS}))
    return table


def _checked(where: str, check: Callable[[], Any]) -> None:
    try:
        check()
    except ConverterError as error:
        raise UsageError(f"{where}: {error}") from error


def recipe_toml(table: Mapping[str, Any]) -> str:
    """The file that says what ``table`` does, a recipe as ``Recipe.to_dict`` gives it; ``read_recipe`` reads it back."""
    lines = [f"{key} = {_toml_value(table[key])}" for key in ("name", "precision", "summary")]
    for step in table["steps"]:
        lines += ["", "[[steps]]", *_toml_pairs(step)]
    for title in ("finetune", "quantize"):
        if table[title]:
            lines += ["", f"[{title}]", *_toml_pairs(table[title])]
    return "\n".join(lines)


def _toml_pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in table.items()]


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_toml_pairs(value)) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
