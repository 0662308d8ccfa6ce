"""``convert --target``: what a target wants of a conversion, refused or filled in before anything is converted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit_converters.targets.target import EDGETPU, Target, find_target

from .boundary import translated
from .choices import IO_TYPES
from .errors import UsageError
from .recipe import find_recipes

__all__ = ["DEFAULT_RECIPES", "TargetPlan", "plan_for"]

DEFAULT_RECIPES = ("float32", "int8")
FLOAT_IO = "float32"


@dataclass(frozen=True)
class TargetPlan:
    """What to convert: recipes, and how the model is fed. ``target`` is None where nobody named one."""

    target: Target | None
    recipes: tuple[str, ...]
    input_type: str
    output_type: str


def plan_for(
    target: str | None,
    *,
    recipes: Sequence[str] | None = None,
    input_type: str | None = None,
    output_type: str | None = None,
    batch: int = 1,
) -> TargetPlan:
    """The recipes and types to convert with: those said, else the target's own first choice, else edgekit's defaults.

    An accelerator takes int8 in and out by default, because float there means operators left on the processor. Raises UsageError
    for an unknown target and for what it can never run.
    """
    if not target:
        return TargetPlan(
            None,
            DEFAULT_RECIPES if recipes is None else tuple(recipes),
            input_type or FLOAT_IO,
            output_type or FLOAT_IO,
        )
    with translated():
        found = find_target(target)
    _refuse_batch(found, batch)
    chosen = found.precisions[:1] if recipes is None else tuple(recipes)
    _refuse_precisions(found, chosen)
    types = [
        _io_type(found, said, known, side)
        for said, known, side in (
            (input_type, found.input_types, "input"),
            (output_type, found.output_types, "output"),
        )
    ]
    return TargetPlan(found, chosen, *types)


def _refuse_batch(target: Target, batch: int) -> None:
    if not target.static or batch == target.batch:
        return
    got = "free rows (--batch -1)" if batch == -1 else f"{batch} rows"
    raise UsageError(f"{target.name} takes models of fixed shapes and {target.batch} row, got {got}: leave --batch out")


def _refuse_precisions(target: Target, recipes: Sequence[str]) -> None:
    """Refuse recipes of which the target runs none; beside one that it runs, the others are there to be compared with."""
    made = {recipe.name: recipe.precision for recipe in find_recipes(recipes)}
    if not any(precision in target.precisions for precision in made.values()):
        listed = ", ".join(f"{name} ({precision})" if name != precision else name for name, precision in made.items())
        first = target.precisions[0]
        raise UsageError(
            f"{target.name} runs {', '.join(target.precisions)}, got {listed}: take --recipe {first}, or one that ends in it "
            f"such as prune75-{first}"
        )


def _io_type(target: Target, said: str | None, known: Sequence[str], side: str) -> str:
    if said is None:
        return known[0]
    if said in IO_TYPES and said not in known:
        hint = " (float costs it operators on the processor)" if target.kind == EDGETPU else ""
        raise UsageError(
            f"{target.name} takes {', '.join(known)} as {side}{hint}, got {said}: --{side}-type {known[0]}"
        )
    return said
