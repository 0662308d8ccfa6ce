"""``edgekit recipes``."""

from __future__ import annotations

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
    from ..recipe_file import recipe_toml

    known = recipes()
    if name is not None:
        recipe = find_recipe(name)
        if as_json:
            emit_json({**recipe.to_dict(), "spec": recipe.spec, "origin": recipe.origin})
        else:
            click.echo(f"# {recipe.origin}\n{recipe_toml(recipe.to_dict())}")
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
