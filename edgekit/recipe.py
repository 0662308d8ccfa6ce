"""Recipes: what is asked of a conversion, as data.

One TOML file each: those of ``edgekit/recipes``, and a user's own beside them in ``$EDGEKIT_HOME/recipes`` (by default
``~/.edgekit/recipes``) or named by path. A name of the form of ``recipe_name`` needs no file at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from edgekit_converters import needs_calibration

from .errors import UsageError, suggest
from .recipe_file import RecipeFile, parse_recipe, read_recipe
from .recipe_name import Step, decode, encode

__all__ = ["Recipe", "Step", "edgekit_home", "find_recipe", "find_recipes", "recipes"]

BUILT_IN = "built-in"
FROM_NAME = "read from its name"


@dataclass(frozen=True)
class Recipe:
    """A named way to make a variant: ``steps`` change the Keras model, ``quantize`` says how it becomes ``precision``.

    ``finetune`` holds settings of the training that follows each step. ``quantize`` holds fields of QuantizeOptions, where
    ``keep_float`` and ``keep_int16`` name Keras layers. ``origin`` says where the recipe was found.
    """

    name: str
    precision: str
    summary: str = ""
    steps: tuple[Step, ...] = ()
    finetune: Mapping[str, Any] = field(default_factory=dict)
    quantize: Mapping[str, Any] = field(default_factory=dict)
    origin: str = BUILT_IN

    @property
    def calibrated(self) -> bool:
        """Whether it needs calibration samples."""
        return needs_calibration(self.precision)

    @property
    def trains(self) -> bool:
        """Whether it changes the Keras model before it is exported, for which training data is needed."""
        return bool(self.steps)

    @property
    def spec(self) -> str:
        """The name that says what it does, whatever it is called."""
        kept = len(self.quantize.get("keep_float", ())) + len(self.quantize.get("keep_int16", ()))
        return encode(self.precision, self.steps, self.quantize, kept)

    def to_dict(self) -> dict[str, Any]:
        """Everything it says, as its file has it."""
        return {
            "name": self.name,
            "precision": self.precision,
            "summary": self.summary,
            "steps": [{"technique": step.technique, **step.options} for step in self.steps],
            "finetune": dict(self.finetune),
            "quantize": dict(self.quantize),
        }


def recipes() -> dict[str, Recipe]:
    """The built-in recipes and the user's own, by name. Raises UsageError for a file of the user's that is wrong."""
    return {**_built_in(), **_users()}


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``, at the path ``name``, or spelt by it; raises UsageError with a suggestion."""
    if name.endswith(".toml"):
        return _based(read_recipe(Path(name)), str(Path(name)))
    known = recipes()
    if name in known:
        return known[name]
    spelt = decode(name)
    if spelt is None or "+" in name:
        raise UsageError(
            f"unknown recipe {name!r}{suggest(name, known)}. Techniques can be joined, as in slim50-prune75-qat-int8-mse; "
            "see edgekit recipes"
        )
    if spelt.kept_layers:
        raise UsageError(
            f"recipe {name!r} keeps {spelt.kept_layers} layers in float: which, only a recipe file can say"
        )
    table = {
        "name": name,
        "precision": spelt.precision,
        "steps": [{"technique": step.technique, **step.options} for step in spelt.steps],
        "quantize": dict(spelt.quantize),
    }
    return _based(parse_recipe(table, name), FROM_NAME)


def find_recipes(names: Iterable[str]) -> tuple[Recipe, ...]:
    """Several recipes, each once, in the order given; raises UsageError for none at all, or two of one name."""
    wanted = tuple(find_recipe(name) for name in dict.fromkeys(names))
    if not wanted:
        raise UsageError(f"expected at least one recipe. Choose from: {', '.join(recipes())}")
    called = [recipe.name for recipe in wanted]
    twice = sorted({name for name in called if called.count(name) > 1})
    if twice:
        raise UsageError(f"expected recipes of different names, got two called {twice[0]!r}: rename one in its file")
    return wanted


def edgekit_home() -> Path:
    """Where edgekit keeps what is the user's: EDGEKIT_HOME, or ``~/.edgekit``."""
    return Path(os.environ.get("EDGEKIT_HOME") or Path.home() / ".edgekit")


@cache
def _built_in() -> dict[str, Recipe]:
    folder = resources.files("edgekit").joinpath("recipes")
    with resources.as_file(folder) as path:
        found = [_based(read_recipe(item), BUILT_IN) for item in sorted(path.glob("*.toml"))]
    return {recipe.name: recipe for recipe in sorted(found, key=lambda item: (item.trains, len(item.spec), item.name))}


def _users() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for path in sorted((edgekit_home() / "recipes").glob("*.toml")):
        recipe = _based(read_recipe(path), str(path))
        if recipe.name in _built_in() or recipe.name in found:
            raise UsageError(f"{path}: the name {recipe.name!r} is taken: call it {recipe.name}+mine, or otherwise")
        found[recipe.name] = recipe
    return found


def _based(file: RecipeFile, origin: str) -> Recipe:
    """The recipe of a file, what it is based on taken in: the base's steps come first, its settings give way."""
    base = None
    if file.base:
        base = _built_in().get(file.base) or (None if decode(file.base) is None else find_recipe(file.base))
        if base is None:
            raise UsageError(f"{origin}: unknown base {file.base!r}{suggest(file.base, _built_in())}")
    recipe = Recipe(
        name=file.name,
        precision=file.precision or (base.precision if base else "int8"),
        summary=file.summary,
        steps=(*(base.steps if base else ()), *file.steps),
        finetune={**(base.finetune if base else {}), **file.finetune},
        quantize={**(base.quantize if base else {}), **file.quantize},
        origin=origin,
    )
    _check_name(recipe)
    return recipe if recipe.summary else Recipe(**{**vars(recipe), "summary": f"What its name says: {recipe.spec}."})


def _check_name(recipe: Recipe) -> None:
    """A name that can be decoded must say what the recipe does; a free one is the user's to choose."""
    says = decode(recipe.name)
    if says is None:
        return
    given = [(step.technique, step.options) for step in recipe.steps]
    wrong = (
        says.precision != recipe.precision
        or [step.technique for step in says.steps] != [technique for technique, _ in given]
        or any(
            options.get(key, value) != value
            for step, (_, options) in zip(says.steps, given, strict=True)
            for key, value in step.options.items()
        )
        or any(recipe.quantize.get(key) != value for key, value in says.quantize.items())
    )
    if wrong:
        raise UsageError(
            f"{recipe.origin}: the recipe is called {recipe.name!r} and does {recipe.spec!r}: call it {recipe.spec}, or "
            f"{recipe.spec}+something of your own"
        )
