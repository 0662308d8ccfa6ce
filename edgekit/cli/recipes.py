"""``edgekit recipes``."""

from __future__ import annotations

from typing import Any

import click

from .options import emit_json, json_option

__all__ = ["command"]


@click.command("recipes")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the recipes, or show NAME whole: a recipe's name, a .toml, or techniques joined to a name.

    Your own recipes are the .toml files of $EDGEKIT_HOME/recipes (by default ~/.edgekit/recipes).

    \b
    Example:
      edgekit recipes
      edgekit recipes prune75-qat-int8
      edgekit recipes slim60-cluster32-int8-mse
    """
    from ..recipe import find_recipe, recipes

    known = recipes()
    if name is not None:
        recipe = find_recipe(name)
        if as_json:
            emit_json({**recipe.to_dict(), "spec": recipe.spec, "origin": recipe.origin})
        else:
            click.echo(_toml(recipe))
        return
    if as_json:
        found = [{**recipe.to_dict(), "spec": recipe.spec, "origin": recipe.origin} for recipe in known.values()]
        emit_json({"recipes": found})
        return
    width = max(len(name) for name in known)
    for recipe in known.values():
        mine = "" if recipe.origin == "built-in" else f" ({recipe.origin})"
        click.echo(f"{recipe.name:{width}}  {recipe.summary}{mine}")
    click.echo("\nTechniques join to names that need no file: slim60-prune50-qat-int8-mse. Your own: docs/recipes.md")


def _toml(recipe: Any) -> str:
    """The recipe as its file would be."""
    lines = [f"# {recipe.origin}"]
    lines += [f"{key} = {_value(getattr(recipe, key))}" for key in ("name", "precision", "summary")]
    for step in recipe.steps:
        lines += ["", "[[steps]]", f'technique = "{step.technique}"', *_pairs(step.options)]
    for title in ("finetune", "quantize"):
        table = getattr(recipe, title)
        if table:
            lines += ["", f"[{title}]", *_pairs(table)]
    return "\n".join(lines)


def _pairs(table: Any) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    import json
    import re

    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _value(value: Any) -> str:
    import json

    if isinstance(value, dict):
        return "{ " + ", ".join(_pairs(value)) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value)
