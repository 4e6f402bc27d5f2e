"""Recipes by their path, or by the name of one that comes with Overpaint."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.recipes.recipe import apply_settings, plan_from_tables, read_toml


def shipped() -> dict[str, str]:
    """Returns the text of each recipe that comes with Overpaint, by name."""
    folder = files("overpaint.jobs") / "recipes"
    entries = sorted((e for e in folder.iterdir() if e.name.endswith(".toml")), key=str)
    return {entry.name.removesuffix(".toml"): entry.read_text() for entry in entries}


def read_recipe(recipe: str) -> tuple[str, str]:
    """Reads the text of a recipe, and returns with it the file to name in errors.

    Args:
        recipe: path that ends in `.toml` or has a folder in it, or name of a shipped recipe.

    Raises:
        UsageError: there is no such recipe, or it is not text.
    """
    if recipe.endswith(".toml") or "/" in recipe:
        path = Path(recipe)
        if not path.is_file():
            raise UsageError(f"{recipe}: no such recipe file")
        try:
            return path.read_text(encoding="utf-8"), recipe
        except UnicodeDecodeError as error:
            raise UsageError(f"{recipe}: not TOML: it is not UTF-8 text") from error
    recipes = shipped()
    if recipe not in recipes:
        raise UsageError(f"no recipe {recipe!r} comes with Overpaint: {near_miss(recipe, recipes)}")
    return recipes[recipe], f"{recipe}.toml"


def load_plan(recipe: str, settings: Sequence[str] = ()) -> Plan:
    """Reads the plan of a recipe, with `stage.field=value` settings applied.

    Raises:
        UsageError: the recipe is missing or wrong.
    """
    text, file = read_recipe(recipe)
    return plan_from_tables(apply_settings(read_toml(text, file), settings, file), file)


def description(text: str) -> str:
    """Returns the description in the text of a recipe."""
    tables: dict[str, Any] = read_toml(text, "recipe")
    return str(tables.get("description", ""))
