"""Recipes: what is asked of a conversion, as data. One TOML file each in ``edgekit/recipes``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from edgekit_converters import needs_calibration

from .errors import UsageError, suggest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Recipe", "find_recipe", "find_recipes", "recipes"]


@dataclass(frozen=True)
class Recipe:
    """A named way to make a variant."""

    name: str
    precision: str
    summary: str = ""

    @property
    def calibrated(self) -> bool:
        """Whether it needs calibration samples."""
        return needs_calibration(self.precision)


@cache
def recipes() -> dict[str, Recipe]:
    """The built-in recipes by name."""
    folder = resources.files("edgekit").joinpath("recipes")
    found = [
        Recipe(**tomllib.loads(item.read_text(encoding="utf-8")))
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".toml")
    ]
    return {recipe.name: recipe for recipe in found}


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``; raises UsageError with a suggestion."""
    known = recipes()
    if name not in known:
        raise UsageError(f"unknown recipe {name!r}{suggest(name, known)}")
    return known[name]


def find_recipes(names: Iterable[str]) -> tuple[Recipe, ...]:
    """Several recipes, each once, in the order given; raises UsageError for none at all."""
    wanted = tuple(find_recipe(name) for name in dict.fromkeys(names))
    if not wanted:
        raise UsageError(f"expected at least one recipe. Choose from: {', '.join(recipes())}")
    return wanted
